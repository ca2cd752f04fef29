//! Referrals and search continuation references (RFC 4511 4.1.10, 4.5.3): refused with their name, or followed to
//! hosts on a list.
//!
//! In: the URLs of an answer. Out: which of them to ask, and what. A reference to a partition that holds nobody's account
//! (DNS zones, the configuration) is no part of any answer and passed over.
//!
//! # Why
//! - What is left out of an answer without a word looks like "is not there", and who is not there gets disabled.
//! - SECURITY: a referral is the word of a server about where to take our credential. It goes to listed hosts only, by
//!   our own transport and port, with the certificate checked against the listed name; the URL's scheme and port
//!   are not heard.

use std::sync::Arc;

use super::Dn;
use super::operation::Scope;
use super::operation::Search;
use crate::model::names::HostName;

/// How often an answer may point on to the next server.
pub(super) const MOST_HOPS: u8 = 3;

/// What to do with one URL.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// Holds nothing that is searched for.
    Pass,
    /// Ask there.
    Follow(HostName, Arc<Search>),
    /// Not on the list, or not understood: why.
    Refuse(String),
}

/// Judges `url`, which came as an answer to `search`; `listed` are the hosts that may be followed to.
pub(super) fn judge(url: &str, search: &Search, listed: &[HostName]) -> Way {
    let Some(parts) = Parts::read(url) else {
        return Way::Refuse(String::from("it is no LDAP URL"));
    };
    if parts.dn.as_ref().is_some_and(holds_no_accounts) {
        return Way::Pass;
    }
    let Ok(host) = parts.host.parse::<HostName>() else {
        return Way::Refuse(String::from("it names no host"));
    };
    if listed.is_empty() {
        return Way::Refuse(String::from(
            "referrals are not followed; choose bases inside the domain, or list the host in directory.follow_referrals",
        ));
    }
    if !listed.contains(&host) {
        return Way::Refuse(format!(
            "{host} is not in directory.follow_referrals; add it if its directory is yours"
        ));
    }
    // RFC 4511 4.5.3: a URL may replace base, scope and filter. Another filter would ask something else.
    let scope = match (parts.scope.as_str(), search.scope) {
        ("base", _) | ("", Scope::Base | Scope::OneLevel) => Scope::Base,
        ("one", _) => Scope::OneLevel,
        ("sub", _) | ("", Scope::Subtree) => Scope::Subtree,
        _ => return Way::Refuse(format!("its scope {:?} is none", parts.scope)),
    };
    if parts.has_filter {
        return Way::Refuse(String::from("it brings a filter of its own"));
    }
    let mut search = search.clone();
    search.scope = scope;
    if let Some(dn) = parts.dn {
        search.base = dn;
    }
    Way::Follow(host, Arc::new(search))
}

/// The application partitions of DNS and the forest's configuration (MS-ADTS 6.1.1.1).
fn holds_no_accounts(dn: &Dn) -> bool {
    let first = dn.rdn().unwrap_or_default().to_ascii_lowercase();
    matches!(
        first.as_str(),
        "dc=domaindnszones" | "dc=forestdnszones" | "cn=configuration" | "cn=schema"
    )
}

/// RFC 4516 2: `ldap://host:port/dn?attributes?scope?filter`.
struct Parts {
    host: String,
    dn: Option<Dn>,
    scope: String,
    has_filter: bool,
}

impl Parts {
    fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme.to_ascii_lowercase().as_str(), "ldap" | "ldaps") {
            return None;
        }
        let (place, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let host = match place.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            Some(_) | None => place,
        };
        let mut parts = rest.split('?');
        let dn = decode(parts.next().unwrap_or_default())?;
        let dn = if dn.is_empty() {
            None
        } else {
            Some(dn.parse().ok()?)
        };
        let _attributes = parts.next();
        Some(Self {
            host: host.to_ascii_lowercase(),
            dn,
            scope: parts.next().unwrap_or_default().to_ascii_lowercase(),
            has_filter: parts.next().is_some_and(|filter| !filter.is_empty()),
        })
    }
}

/// Percent-decoding (RFC 3986 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ldap::Filter;

    fn search() -> Search {
        Search {
            base: "DC=contoso,DC=test".parse().unwrap(),
            scope: Scope::Subtree,
            filter: Filter::present(&"cn".parse().unwrap()),
            attributes: Vec::new(),
            limit: 0,
        }
    }

    fn way(url: &str, listed: &[&str]) -> String {
        let listed: Vec<HostName> = listed.iter().map(|host| host.parse().unwrap()).collect();
        match judge(url, &search(), &listed) {
            Way::Pass => String::from("pass"),
            Way::Follow(host, search) => format!("{host} {} {:?}", search.base, search.scope),
            Way::Refuse(why) => format!("no: {why}"),
        }
    }

    #[test]
    fn only_listed_hosts_are_followed_and_nothing_is_dropped_without_a_word() {
        let child = "ldap://Child.contoso.test:389/DC=child,DC=contoso,DC=test";
        assert!(way(child, &[]).contains("directory.follow_referrals"));
        assert!(way(child, &["other.contoso.test"]).contains("child.contoso.test is not in"));
        assert_eq!(
            way(child, &["child.contoso.test"]),
            "child.contoso.test DC=child,DC=contoso,DC=test Subtree"
        );
        let spaced = "ldaps://child.contoso.test/OU=a%20b%2cc,DC=test??base";
        assert!(way(spaced, &["child.contoso.test"]).starts_with("no: it is no LDAP URL"));
        assert_eq!(
            way(
                "ldaps://child.contoso.test/OU=a%20b,DC=test??base",
                &["child.contoso.test"]
            ),
            "child.contoso.test OU=a b,DC=test Base"
        );
        assert!(
            way(
                "ldap://child.contoso.test/DC=x??sub?(cn=*)",
                &["child.contoso.test"]
            )
            .contains("filter of its own")
        );
        for zone in [
            "DC=DomainDnsZones,DC=contoso,DC=test",
            "CN=Configuration,DC=contoso,DC=test",
        ] {
            assert_eq!(way(&format!("ldap://contoso.test/{zone}"), &[]), "pass");
        }
        for bad in ["", "http://x/", "ldap:///DC=x", "ldap://h/%zz", "file:///x"] {
            assert!(way(bad, &["h"]).starts_with("no: "), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_url_is_read_without_panic(url in any::<String>()) {
            drop(judge(&url, &search(), &["a.test".parse().unwrap()]));
        }

        #[test]
        fn nothing_but_the_list_is_followed(rest in "[ -~]{0,40}") {
            let listed: HostName = "a.test".parse().unwrap();
            if let Way::Follow(host, _) = judge(&format!("ldap://{rest}"), &search(), std::slice::from_ref(&listed)) {
                prop_assert_eq!(host, listed);
            }
        }
    }
}
