//! Who somebody is on premises, asked of the directory itself and never of the gateway.
//!
//! `ldapsearch` over LDAPS with an employee's password: neither the gateway's code nor its rights.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::facts::Facts;

type Failure = Box<dyn Error + Send + Sync>;

/// Reads the directory, has no rights there.
const READER: &str = "emma.employee";
/// What the gateway writes in front of the object id, as Entra Cloud Sync does.
const ANCHOR: &str = "User_";

/// An account of a guest, as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `sAMAccountName`.
    pub sam: String,
    /// `userPrincipalName`.
    pub upn: String,
}

/// All accounts that carry an anchor, by the guest's object id.
pub async fn accounts(lab: &Facts) -> Result<BTreeMap<String, Account>, Failure> {
    let ldif = search(lab).await?;
    let mut found = BTreeMap::new();
    for entry in ldif.split("\n\n") {
        let entry = attributes(entry)?;
        let Some(anchor) = entry.get("msDS-ExternalDirectoryObjectId") else {
            continue;
        };
        let Some(oid) = anchor.strip_prefix(ANCHOR) else {
            continue;
        };
        let account = Account {
            sam: entry.get("sAMAccountName").cloned().unwrap_or_default(),
            upn: entry.get("userPrincipalName").cloned().unwrap_or_default(),
        };
        if account.sam.is_empty() {
            return Err(format!("the directory has no sAMAccountName for {anchor}").into());
        }
        if let Some(other) = found.insert(oid.to_owned(), account.clone()) {
            let both = format!("{} and {}", other.sam, account.sam);
            return Err(format!("two accounts have the anchor {anchor}: {both}").into());
        }
    }
    Ok(found)
}

async fn search(lab: &Facts) -> Result<String, Failure> {
    let password = lab.accounts.passwords.get(READER);
    let password = password.ok_or_else(|| format!("lab.json has no password for {READER}"))?;
    // A file: the command line is everybody's to read.
    let mut file = NamedTempFile::new()?;
    file.write_all(password.as_bytes())?;
    let answer = Command::new("ldapsearch")
        .env("LDAPTLS_CACERT", &lab.ca)
        .env("LDAPTLS_REQCERT", "demand")
        .args(["-LLL", "-x", "-o", "ldif-wrap=no", "-E", "pr=500/noprompt"])
        .args(["-H", &format!("ldaps://{}", lab.ldaps)])
        .args(["-D", &format!("{READER}@{}", lab.realm)])
        .arg("-y")
        .arg(file.path())
        .args(["-b", &lab.base_dn])
        .arg(format!("(msDS-ExternalDirectoryObjectId={ANCHOR}*)"))
        .args([
            "msDS-ExternalDirectoryObjectId",
            "sAMAccountName",
            "userPrincipalName",
        ])
        .output()
        .await
        .map_err(|error| format!("ldapsearch: {error}"))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        return Err(format!("ldapsearch: {}: {said}", answer.status).into());
    }
    Ok(String::from_utf8(answer.stdout)?)
}

// RFC 2849: `name: text`, or `name:: base64` when the text would not be safe.
fn attributes(entry: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut attributes = BTreeMap::new();
    for line in entry.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = match value.strip_prefix(':') {
            Some(encoded) => String::from_utf8(STANDARD.decode(encoded.trim())?)?,
            None => value.trim().to_owned(),
        };
        attributes.insert(name.to_owned(), value);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_encoded_values_are_read() {
        let entry =
            attributes("# refldaps://x\ndn: CN=a\nsAMAccountName: g-1\nupn:: w6Q=\n").unwrap();
        assert_eq!(entry.get("sAMAccountName").map(String::as_str), Some("g-1"));
        assert_eq!(entry.get("upn").map(String::as_str), Some("ä"));
    }
}
