//! Where a realm's KDCs are: written in the configuration, or found in DNS (RFC 4120 7.2.3.2).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::model::names::BadName;
use crate::model::names::Realm;

/// Where a KDC listens: `host`, `host:port`, `[v6]:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KdcAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Where that is, if it is known without asking DNS.
    pub at: Option<IpAddr>,
}

impl KdcAddress {
    /// The same KDC at an address that is known without asking DNS.
    #[must_use]
    pub fn at(mut self, address: Option<IpAddr>) -> Self {
        self.at = address;
        self
    }

    /// What is connected to: the address where it is known, else the name.
    pub(super) fn target(&self) -> (String, u16) {
        let host = self
            .at
            .map_or_else(|| self.host.clone(), |address| address.to_string());
        (host, self.port)
    }

    /// The same, as `krb5.conf` wants it.
    pub(super) fn written(&self) -> String {
        let (host, port) = self.target();
        written(&host, port)
    }
}

fn written(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl fmt::Display for KdcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(&self.host, self.port))
    }
}

impl FromStr for KdcAddress {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let bad = || BadName {
            value: value.chars().take(300).collect(),
            wanted: "a KDC such as dc1.corp.example.com, dc1:88, 10.0.0.1 or [2001:db8::1]:88",
        };
        let (host, port) = match value.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (
                    host,
                    if port.is_empty() {
                        Some("88")
                    } else {
                        port.strip_prefix(':')
                    },
                )
            }
            None => match value.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (value, Some("88")),
            },
        };
        let port: u16 = port.and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        // SECURITY: the text is written into krb5.conf, so nothing but a name may be in it.
        let sound = !host.is_empty()
            && host.len() <= 253
            && port != 0
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        if sound {
            Ok(Self {
                host: host.to_owned(),
                port,
                at: None,
            })
        } else {
            Err(bad())
        }
    }
}

/// The KDCs that DNS names for `realm`, best first.
///
/// # Errors
/// DNS has no answer; the text says which.
pub(super) async fn discover(realm: &Realm) -> Result<Vec<KdcAddress>, String> {
    let name = format!("_kerberos._tcp.{}.", realm.as_str().to_ascii_lowercase());
    let failed = |reason: &dyn fmt::Display| format!("{name}: {reason}");
    let resolver = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .map_err(|reason| failed(&reason))?;
    let answer = resolver
        .srv_lookup(name.as_str())
        .await
        .map_err(|reason| failed(&reason))?;
    let mut found: Vec<_> = answer
        .answers()
        .iter()
        .filter_map(|record| {
            let RData::SRV(srv) = &record.data else {
                return None;
            };
            Some((srv.priority, std::cmp::Reverse(srv.weight), srv))
        })
        .collect();
    found.sort_by_key(|(priority, weight, _)| (*priority, *weight));
    let kdcs: Vec<KdcAddress> = found
        .iter()
        .filter_map(|(_, _, srv)| {
            let host = srv.target.to_utf8();
            format!("{}:{}", host.trim_end_matches('.'), srv.port)
                .parse()
                .ok()
        })
        .collect();
    if kdcs.is_empty() {
        return Err(failed(&"no usable SRV record"));
    }
    Ok(kdcs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_with_a_port_and_nothing_else() {
        for (text, shown) in [
            ("dc1.contoso.test", "dc1.contoso.test:88"),
            ("10.0.0.1:1088", "10.0.0.1:1088"),
            ("[2001:db8::1]", "[2001:db8::1]:88"),
            ("[2001:db8::1]:1088", "[2001:db8::1]:1088"),
        ] {
            assert_eq!(text.parse::<KdcAddress>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "dc1:0",
            "dc1:x",
            "a b",
            "a\nkdc = evil",
            "[::1",
            "dc1:88}",
            ":88",
        ] {
            assert!(bad.parse::<KdcAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_known_address_stands_in_for_the_name() {
        let kdc: KdcAddress = "dc1.contoso.test".parse().unwrap();
        assert_eq!(kdc.written(), "dc1.contoso.test:88");
        let kdc = kdc.at(Some("2001:db8::1".parse().unwrap()));
        assert_eq!(kdc.written(), "[2001:db8::1]:88");
        assert_eq!(kdc.to_string(), "dc1.contoso.test:88");
    }
}
