//! Who may come from where: lists of networks, and the one spelling of an address.
//!
//! An IPv4 address that came in IPv6 clothes (`::ffff:192.0.2.1`, RFC 4291 2.5.5.2) is the IPv4
//! address, in the lists and in what is asked: a rule about the one always holds for the other.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// What is no network.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is no network such as \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.1\"")]
pub struct BadNetwork(String);

/// One network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| bad())?),
        };
        // SECURITY: "10.1.2.3/8" says two things; whoever meant the host would open the network.
        if net.trunc() != net {
            return Err(bad());
        }
        let mapped = match (net.addr(), net.prefix_len().checked_sub(96)) {
            (IpAddr::V6(address), Some(length)) => address.to_ipv4_mapped().zip(Some(length)),
            (IpAddr::V6(_) | IpAddr::V4(_), _) => None,
        };
        match mapped {
            Some((address, length)) => IpNet::new(IpAddr::V4(address), length)
                .map(Self)
                .map_err(|_| bad()),
            None => Ok(Self(net)),
        }
    }
}

/// Some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Those in `list`.
    #[must_use]
    pub const fn new(list: Vec<Network>) -> Self {
        Self(list)
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `address` is in one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }
}

/// From where people may come: deny first, then allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Only from here; empty = from anywhere.
    pub allow: Networks,
    /// Never from here, whatever `allow` says.
    pub deny: Networks,
}

impl Addresses {
    /// True when somebody at `address` may come in.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> bool {
        !self.deny.contain(address) && (self.allow.is_empty() || self.allow.contain(address))
    }
}

/// The header that listed proxies write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// `Forwarded`.
    #[default]
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
}

impl Syntax {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "Forwarded",
            Self::XForwardedFor => "X-Forwarded-For",
        }
    }
}

/// Who is believed, and in which header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Peers whose word counts; empty = nobody's.
    pub from: Networks,
    /// The one header that is read.
    pub syntax: Syntax,
}

/// The address under which one client is counted: IPv6 by its /64, which is the least that one household
/// or machine gets (RFC 6177); counting single addresses would count nothing.
#[must_use]
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(networks: &[&str]) -> Networks {
        Networks::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let lists = [list(&["192.0.2.0/24"]), list(&["::ffff:192.0.2.0/120"])];
        for list in lists {
            for (address, inside) in [
                ("192.0.2.7", true),
                ("::ffff:192.0.2.7", true),
                ("::ffff:c000:207", true),
                ("192.0.3.7", false),
                ("::192.0.2.7", false),
                ("2001:db8::1", false),
            ] {
                assert_eq!(list.contain(address.parse().unwrap()), inside, "{address}");
            }
        }
    }

    #[test]
    fn deny_wins_and_an_empty_allow_is_everybody() {
        let rules = |allow: &[&str], deny: &[&str]| Addresses {
            allow: list(allow),
            deny: list(deny),
        };
        let admit = |rules: &Addresses, address: &str| rules.admit(address.parse().unwrap());
        assert!(admit(&rules(&[], &[]), "203.0.113.1"));
        assert!(!admit(&rules(&[], &["0.0.0.0/0"]), "::ffff:203.0.113.1"));
        assert!(admit(&rules(&[], &["0.0.0.0/0"]), "2001:db8::1"));
        assert!(!admit(&rules(&["10.0.0.0/8"], &[]), "2001:db8::1"));
        let both = rules(&["10.0.0.0/8"], &["10.6.6.0/24"]);
        assert!(admit(&both, "10.1.1.1"));
        assert!(!admit(&both, "10.6.6.1"));
    }

    #[test]
    fn networks_say_one_thing() {
        for bad in [
            "",
            "10.1.2.3/8",
            "10.0.0.0/33",
            "10/8",
            "2001:db8::1/32",
            "host",
            "10.0.0.1 ",
            "010.0.0.1",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_network_of_ipv6_counts_once() {
        let counted = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::ffff:2"));
        assert_ne!(counted("2001:db8::1"), counted("2001:db8:0:1::1"));
        assert_eq!(counted("::ffff:192.0.2.1"), counted("192.0.2.1"));
        assert_ne!(counted("192.0.2.1"), counted("192.0.2.2"));
    }
}
