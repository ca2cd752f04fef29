//! Names with rules: a value of these types has passed them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// Why a text is not the name it was meant to be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{value:?} is not {wanted}")]
pub struct BadName {
    /// The text as given.
    pub value: String,
    /// What would have been accepted.
    pub wanted: &'static str,
}

fn bad(value: &str, wanted: &'static str) -> BadName {
    BadName {
        value: value.chars().take(300).collect(),
        wanted,
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(value: String) -> Result<Self, BadName> {
                value.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

/// A Kerberos realm (RFC 4120 6.1): the domain in capitals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Realm(String);
text_name!(Realm);

impl FromStr for Realm {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let sound = !value.is_empty()
            && value.len() <= 255
            && value
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
        if sound {
            Ok(Self(value.to_owned()))
        } else {
            Err(bad(
                value,
                "a Kerberos realm in capitals such as CORP.EXAMPLE.COM",
            ))
        }
    }
}

/// A client principal, `sAMAccountName@REALM`: unambiguous, and it survives every change of UPN.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal(String);
text_name!(Principal);

impl Principal {
    /// The principal of the account `sam` in `realm`.
    ///
    /// # Errors
    /// `sam` is not a `sAMAccountName` that can be a principal's single component.
    pub fn new(sam: &str, realm: &Realm) -> Result<Self, BadName> {
        format!("{sam}@{realm}").parse()
    }

    /// The part before `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(name, _)| name)
    }

    /// The part after `@`.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, realm)| realm)
    }
}

impl FromStr for Principal {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        const WANTED: &str = "a principal such as name@REALM";
        let (name, realm) = value.rsplit_once('@').ok_or_else(|| bad(value, WANTED))?;
        // SECURITY: characters that krb5_parse_name gives a meaning (`/ @ \`), and those that MS-SAMR
        // forbids in a sAMAccountName, would make the name asked for another than the one meant.
        let sound = !name.is_empty()
            && name.len() <= 256
            && !name
                .chars()
                .any(|c| c.is_control() || c.is_whitespace() || "\"/\\[]:;|=,+*?<>@".contains(c));
        realm.parse::<Realm>()?;
        if sound {
            Ok(Self(value.to_owned()))
        } else {
            Err(bad(value, WANTED))
        }
    }
}

/// A service principal name, `class/host`, without a realm (MS-ADTS 5.1.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Spn(String);
text_name!(Spn);

impl Spn {
    /// The host part, port included if there is one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, host)| host)
    }
}

impl FromStr for Spn {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let sound = value.split_once('/').is_some_and(|(class, host)| {
            !class.is_empty()
                && class.bytes().all(|b| b.is_ascii_alphanumeric())
                && !host.is_empty()
                && host.len() <= 255
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
        });
        if sound {
            Ok(Self(value.to_owned()))
        } else {
            Err(bad(value, "an SPN such as HTTP/intranet.corp.example.com"))
        }
    }
}

/// A DNS host name: lower case, no trailing dot, no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);
text_name!(HostName);

/// So that a look-up by host needs no copy; the derived `Hash` and `Eq` are the text's own.
impl std::borrow::Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let name = value.trim_end_matches('.').to_ascii_lowercase();
        let sound = !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        if sound {
            Ok(Self(name))
        } else {
            Err(bad(value, "a DNS host name such as intranet.example.com"))
        }
    }
}

/// Short name of an application: its configuration file's stem; used in logs, keys and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppId(String);
text_name!(AppId);

impl FromStr for AppId {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let sound = !value.is_empty()
            && value.len() <= 64
            && value
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if sound {
            Ok(Self(value.to_owned()))
        } else {
            Err(bad(
                value,
                "an application id of lower-case letters, digits and `-`",
            ))
        }
    }
}

/// Who somebody is: `tid` + `oid`, and nothing else ever (never email, upn or a display name).
///
/// Source: Entra claims validation, "key on tid and oid"; see also the nOAuth attack on e-mail keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PersonId {
    /// The resource tenant that issued the token.
    pub tid: Uuid,
    /// The person's object id in that tenant.
    pub oid: Uuid,
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tid, self.oid)
    }
}

/// A Windows security identifier in text form, `S-1-5-21-…` (MS-DTYP 2.4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sid(String);
text_name!(Sid);

impl Sid {
    /// Reads the binary form (MS-DTYP 2.4.2.2).
    ///
    /// # Errors
    /// `bytes` is not exactly one SID.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadName> {
        let wrong = || bad("binary value", "a binary security identifier");
        let (head, subs) = bytes.split_at_checked(8).ok_or_else(wrong)?;
        let [1, count, authority @ ..] = head else {
            return Err(wrong());
        };
        if subs.len() != usize::from(*count) * 4 || *count == 0 || *count > 15 {
            return Err(wrong());
        }
        let authority = authority
            .iter()
            .fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
        let mut text = format!("S-1-{authority}");
        for sub in subs.chunks_exact(4) {
            let value = u32::from_le_bytes(sub.try_into().map_err(|_| wrong())?);
            text.push('-');
            text.push_str(&value.to_string());
        }
        Ok(Self(text))
    }

    /// The binary form (MS-DTYP 2.4.2.2).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut parts = self.0.split('-').skip(2);
        let authority: u64 = parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
        let subs: Vec<u32> = parts.filter_map(|p| p.parse().ok()).collect();
        let mut bytes = vec![1, u8::try_from(subs.len()).unwrap_or(0)];
        bytes.extend(authority.to_be_bytes().iter().skip(2));
        subs.iter().for_each(|sub| bytes.extend(sub.to_le_bytes()));
        bytes
    }

    /// The last sub-authority: the relative id within its domain.
    #[must_use]
    pub fn rid(&self) -> u32 {
        self.0
            .rsplit('-')
            .next()
            .and_then(|rid| rid.parse().ok())
            .unwrap_or(0)
    }
}

impl FromStr for Sid {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let mut parts = value.split('-');
        let head = parts.next() == Some("S") && parts.next() == Some("1");
        let authority = parts
            .next()
            .and_then(|p| p.parse::<u64>().ok())
            .is_some_and(|a| a < 1 << 48);
        let subs: Vec<_> = parts.map(str::parse::<u32>).collect();
        let sound = head && authority && (1..=15).contains(&subs.len());
        if sound && subs.iter().all(Result::is_ok) {
            Ok(Self(value.to_owned()))
        } else {
            Err(bad(
                value,
                "a security identifier such as S-1-5-21-1-2-3-1104",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_cannot_smuggle_another_component() {
        for evil in [
            "a/b@R", "a@b@R", "a\\@b@R", "@R", "a b@R", "a@", "a@lower", "a\0@R",
        ] {
            assert!(evil.parse::<Principal>().is_err(), "{evil:?}");
        }
        let jane: Principal = "kg-abc@CONTOSO.TEST".parse().unwrap();
        assert_eq!((jane.name(), jane.realm()), ("kg-abc", "CONTOSO.TEST"));
    }

    #[test]
    fn a_sid_survives_both_directions() {
        let sid: Sid = "S-1-5-21-3623811015-3361044348-30300820-1013"
            .parse()
            .unwrap();
        assert_eq!(Sid::from_bytes(&sid.to_bytes()).unwrap(), sid);
        assert_eq!(sid.rid(), 1013);
        assert!(Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 1]).is_err());
        assert!("S-1-5-x".parse::<Sid>().is_err());
    }

    #[test]
    fn a_host_name_is_lower_case_without_dot_or_port() {
        assert_eq!(
            "Intranet.Example.COM."
                .parse::<HostName>()
                .unwrap()
                .as_str(),
            "intranet.example.com"
        );
        for bad in ["a:8443", "", ".", "a..b", "-a", "a/b", "a b"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_spn_has_one_class_and_one_host() {
        assert!("HTTP/intranet.corp.example.com".parse::<Spn>().is_ok());
        for bad in [
            "HTTP",
            "HTTP/",
            "/host",
            "HTTP/host@R",
            "HTTP/a/b",
            "http://x",
        ] {
            assert!(bad.parse::<Spn>().is_err(), "{bad:?}");
        }
    }
}
