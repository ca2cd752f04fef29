//! The process's whole Kerberos environment: our own `krb5.conf`, and no credential but ours.
//!
//! libkrb5 takes its settings from a file and from environment variables. Whatever the machine has there
//! (a `krb5.conf` with `forwardable = false`, an administrator's ticket cache, a client keytab) would change
//! what the gateway does, and to the worst: a context that finds no credential takes the ambient one. So the
//! process runs with [`environment`] from its first thread on, and [`assert_isolated`] proves it.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use libgssapi::credential::Cred;
use libgssapi::credential::CredUsage;

use crate::model::names::Realm;

use super::error::Error;

const FILE: &str = "krb5.conf";

/// The variables that the process must have before its first thread starts: `main` sets them and starts
/// itself again (changing them in a running process is a race).
#[must_use]
pub fn environment(runtime_dir: &Path) -> Vec<(String, String)> {
    let conf = runtime_dir.join(FILE).display().to_string();
    [
        ("KRB5_CONFIG", conf.as_str()),
        // SECURITY: with any of these three left to the machine, a context without a credential of its own
        // would silently use the one found there, and a backend would see the gateway or an administrator.
        ("KRB5CCNAME", "MEMORY:none"),
        ("KRB5_CLIENT_KTNAME", "FILE:/nonexistent/client.keytab"),
        ("KRB5_KTNAME", "FILE:/nonexistent/keytab"),
        ("KRB5RCACHENAME", "none:"),
        // No gssproxy, no other mechanisms: both would stand between us and the KDC.
        ("GSS_USE_PROXY", "no"),
        ("GSS_MECH_CONFIG", "/nonexistent/mech"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Proves that the process has no Kerberos credential but those it asks for by name.
///
/// # Errors
/// A variable of [`environment`] is not as it must be, or a default credential was found all the same.
pub fn assert_isolated() -> Result<(), Error> {
    let conf = env::var_os("KRB5_CONFIG").map(PathBuf::from);
    let none = Path::new("");
    let runtime_dir = conf.as_deref().and_then(Path::parent).unwrap_or(none);
    for (name, wanted) in environment(runtime_dir) {
        let found = env::var(&name).unwrap_or_default();
        if found != wanted {
            return Err(Error::Setup {
                what: format!("environment variable {name}"),
                reason: format!("is {found:?}, must be {wanted:?}"),
            });
        }
    }
    match Cred::acquire(None, None, CredUsage::Initiate, None) {
        Err(_) => Ok(()),
        Ok(found) => Err(Error::Setup {
            what: "default Kerberos credential".to_owned(),
            reason: format!(
                "there must be none, but {} was found",
                found
                    .name()
                    .map_or_else(|_| "one".to_owned(), |name| name.to_string())
            ),
        }),
    }
}

/// Checks that libkrb5 will read the file that is written into `runtime_dir`.
pub(super) fn assert_runs_in(runtime_dir: &Path) -> Result<(), Error> {
    let wanted = runtime_dir.join(FILE);
    let found = env::var_os("KRB5_CONFIG").map(PathBuf::from);
    if found.as_ref() == Some(&wanted) {
        return Ok(());
    }
    Err(Error::Setup {
        what: "environment variable KRB5_CONFIG".to_owned(),
        reason: format!("is {found:?}, must be {wanted:?}"),
    })
}

/// What goes into our `krb5.conf`.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// The gateway's realm.
    pub(super) realm: Realm,
    /// Whether RC4 is permitted beside AES.
    pub(super) allow_rc4: bool,
    /// Whether KDCs that are not listed are looked up in DNS.
    pub(super) dns_lookup_kdc: bool,
}

impl Profile {
    /// The file's text; `realms` has each realm with its KDCs in the order to be tried.
    pub(super) fn render(&self, realms: &[(&Realm, Vec<String>)]) -> String {
        let realm = &self.realm;
        let rc4 = if self.allow_rc4 { " arcfour-hmac" } else { "" };
        let dns = self.dns_lookup_kdc;
        // forwardable: without it every S4U2Proxy ends in KDC_ERR_BADOPTION.
        // udp_preference_limit: a ticket with a PAC does not fit a datagram; TCP at once.
        // plugin_base_dir: a locator plugin (sssd) would override the KDCs below.
        let mut text = format!(
            "# Written by kerbgate, again and again: do not edit.\n\
             [libdefaults]\n\
             \x20 default_realm = {realm}\n\
             \x20 forwardable = true\n\
             \x20 rdns = false\n\
             \x20 dns_canonicalize_hostname = false\n\
             \x20 dns_lookup_kdc = {dns}\n\
             \x20 dns_lookup_realm = false\n\
             \x20 udp_preference_limit = 1\n\
             \x20 request_timeout = 10s\n\
             \x20 permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128{rc4}\n\
             \x20 allow_weak_crypto = false\n\
             \x20 noaddresses = true\n\
             \x20 plugin_base_dir = /nonexistent\n\
             \n[plugins]\n\
             \x20 ccselect = {{\n    enable_only = none\n  }}\n\
             \n[realms]\n"
        );
        for (name, kdcs) in realms {
            text.push_str(&format!("  {name} = {{\n"));
            for kdc in kdcs {
                text.push_str(&format!("    kdc = {kdc}\n"));
            }
            text.push_str("  }\n");
        }
        text.push_str("\n[domain_realm]\n");
        for (name, _) in realms {
            let domain = name.as_str().to_ascii_lowercase();
            text.push_str(&format!("  .{domain} = {name}\n  {domain} = {name}\n"));
        }
        text
    }
}

/// Puts `text` in place of the file as a whole: libkrb5 may be reading it on another thread.
pub(super) fn write(runtime_dir: &Path, text: &str) -> Result<(), Error> {
    let path = runtime_dir.join(FILE);
    let fresh = runtime_dir.join(format!(".{FILE}.{}", std::process::id()));
    let attempt = || -> std::io::Result<()> {
        fs::create_dir_all(runtime_dir)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        drop(file);
        fs::rename(&fresh, &path)
    };
    attempt().map_err(|reason| Error::Setup {
        what: format!("file {}", path.display()),
        reason: reason.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(allow_rc4: bool) -> String {
        let realm: Realm = "CONTOSO.TEST".parse().unwrap();
        let other: Realm = "FABRIKAM.TEST".parse().unwrap();
        Profile {
            realm: realm.clone(),
            allow_rc4,
            dns_lookup_kdc: false,
        }
        .render(&[
            (&realm, vec!["10.0.0.1:88".to_owned(), "dc2:88".to_owned()]),
            (&other, vec![]),
        ])
    }

    #[test]
    fn what_delegation_needs_is_in_it() {
        let text = profile(false);
        for line in [
            "  forwardable = true\n",
            "  rdns = false\n",
            "  dns_canonicalize_hostname = false\n",
            "  udp_preference_limit = 1\n",
            "  default_realm = CONTOSO.TEST\n",
            "    kdc = 10.0.0.1:88\n    kdc = dc2:88\n",
            "  .fabrikam.test = FABRIKAM.TEST\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in\n{text}");
        }
    }

    #[test]
    fn rc4_is_off_by_default() {
        assert!(!profile(false).contains("arcfour"));
        assert!(profile(true).contains("arcfour-hmac"));
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "one").unwrap();
        write(dir.path(), "two").unwrap();
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(files.len(), 1);
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "two");
    }

    #[test]
    fn an_ordinary_environment_is_not_isolated() {
        // The test process was not started by `main`.
        assert!(assert_isolated().is_err());
    }
}
