//! `Forwarded` (RFC 7239) and `X-Forwarded-For`: which client a listed proxy speaks for.
//!
//! In: the one configured header of a request from a listed peer. Out: the right-most address that is
//! not a listed proxy's own, which is what the last proxy we trust has seen itself; everything left of
//! it anybody may have written.
//!
//! # Why it refuses
//!
//! Address rules and limits stand on this address. When a listed proxy's word cannot be understood, or
//! it hides the address (`unknown`, `_hidden`), no address could stand for the client without being
//! somebody else's: the proxy's own would pass rules that are meant to let the proxy's network in. So
//! such a request is refused. Without any header the proxy speaks for itself (a health check).
//! `proto` and `host` are not read: published addresses come from the configuration alone.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use http::HeaderMap;
use http::HeaderName;
use http::header;
use thiserror::Error;

use crate::model::addresses::Syntax;
use crate::model::addresses::Trusted;

/// Why a listed proxy's word about the client is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadForwarded {
    /// RFC 7239 4, or no list of addresses.
    #[error("{name} from {proxy} is malformed")]
    Malformed {
        /// The header.
        name: &'static str,
        /// Who sent it.
        proxy: IpAddr,
    },
    /// RFC 7239 6.2 and 6.3.
    #[error("{name} from {proxy} does not say where the client is")]
    Hidden {
        /// The header.
        name: &'static str,
        /// Who sent it.
        proxy: IpAddr,
    },
}

type Reader = fn(&str) -> Option<Vec<Node>>;

/// The client for whom `peer` sent `headers`.
///
/// # Errors
/// A listed proxy's header that names no address.
pub fn client(
    trusted: &Trusted,
    peer: IpAddr,
    headers: &HeaderMap,
) -> Result<IpAddr, BadForwarded> {
    // SECURITY: from anybody else the headers are the client's own words.
    if trusted.from.is_empty() || !trusted.from.contain(peer) {
        return Ok(peer.to_canonical());
    }
    let (name, nodes): (HeaderName, Reader) = match trusted.syntax {
        Syntax::Forwarded => (header::FORWARDED, forwarded),
        Syntax::XForwardedFor => (X_FORWARDED_FOR, x_forwarded_for),
    };
    let mut client = peer.to_canonical();
    // Several fields are one list (RFC 9110 5.3).
    let fields: Vec<_> = headers.get_all(name).iter().collect();
    for field in fields.iter().rev() {
        let bad = BadForwarded::Malformed {
            name: trusted.syntax.name(),
            proxy: client,
        };
        let Some(nodes) = field.to_str().ok().and_then(nodes) else {
            return Err(bad);
        };
        for node in nodes.iter().rev() {
            client = match node {
                Node::Address(address, _) => address.to_canonical(),
                Node::Hidden(_) => {
                    return Err(BadForwarded::Hidden {
                        name: trusted.syntax.name(),
                        proxy: client,
                    });
                }
                Node::Unread => return Err(bad),
            };
            if !trusted.from.contain(client) {
                return Ok(client);
            }
        }
    }
    Ok(client)
}
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One hop of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An address, and its port as it was written.
    Address(IpAddr, Option<String>),
    /// `unknown`, an obfuscated identifier (`_…`), or no `for` at all (empty).
    Hidden(String),
    /// Something else; only an error where it is reached.
    Unread,
}

/// The `for` of each element of a `Forwarded` field; `None` when the field is not one (RFC 7239 4).
///
/// The whole field has to be sound: an open quote on the left could swallow what a proxy added.
#[must_use]
pub fn forwarded(text: &str) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut rest = text.trim_matches(BLANK);
    loop {
        // RFC 9110 5.6.1.2: empty elements are passed over.
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches(BLANK);
            continue;
        }
        if rest.is_empty() {
            return Some(nodes);
        }
        let (node, after) = element(rest)?;
        nodes.push(node);
        let after = after.trim_start_matches(BLANK);
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start_matches(BLANK),
            None if after.is_empty() => after,
            None => return None,
        };
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// `[ pair ] *( ";" [ pair ] )`: its `for`, and what follows.
fn element(text: &str) -> Option<(Node, &str)> {
    let mut seen: Vec<String> = Vec::new();
    let mut node = Node::Hidden(String::new());
    let mut rest = text;
    loop {
        if !rest.starts_with([';', ',']) && !rest.is_empty() {
            let (name, after) = token(rest)?;
            let (value, after) = value(after.strip_prefix('=')?)?;
            let name = name.to_ascii_lowercase();
            // RFC 7239 4: no parameter comes twice in one element.
            if seen.contains(&name) {
                return None;
            }
            if name == "for" {
                node = node_of(&value)?;
            }
            seen.push(name);
            rest = after;
        }
        match rest.strip_prefix(';') {
            Some(after) => rest = after,
            None => return Some((node, rest)),
        }
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .bytes()
        .position(|byte| !is_token(byte))
        .unwrap_or(text.len());
    let (token, rest) = text.split_at_checked(end)?;
    (!token.is_empty()).then_some((token, rest))
}

/// RFC 9110 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// `token / quoted-string` (RFC 9110 5.6.4).
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next().map(|(_, char)| char).filter(|c| is_text(*c))?),
            char if is_text(char) => value.push(char),
            _ => return None,
        }
    }
    None
}

const fn is_text(char: char) -> bool {
    matches!(char, '\t' | ' '..='~')
}

/// RFC 7239 6: `nodename [ ":" node-port ]`.
fn node_of(text: &str) -> Option<Node> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(Node::Address(IpAddr::V6(address), port(rest)?));
    }
    let (name, rest) = match text.find(':') {
        Some(at) => text.split_at_checked(at)?,
        None => (text, ""),
    };
    let port = port(rest)?;
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Some(Node::Address(IpAddr::V4(address), port));
    }
    let hidden = name == "unknown" || name.strip_prefix('_').is_some_and(is_obfuscated);
    hidden.then(|| Node::Hidden(name.to_owned()))
}

/// Nothing, `:` with one to five digits, or `:_` with an obfuscated port.
fn port(text: &str) -> Option<Option<String>> {
    let Some(port) = text.strip_prefix(':') else {
        return text.is_empty().then_some(None);
    };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let sound = digits || port.strip_prefix('_').is_some_and(is_obfuscated);
    sound.then(|| Some(port.to_owned()))
}

fn is_obfuscated(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The entries of an `X-Forwarded-For` field: addresses, as some proxies write them with ports.
///
/// Commas separate whatever stands between them, so what a client wrote on the left cannot change how
/// the right is read, and is not judged before it is reached.
#[must_use]
pub fn x_forwarded_for(text: &str) -> Option<Vec<Node>> {
    let entries = text.split(',').map(|entry| entry.trim_matches(BLANK));
    let read = entries.filter(|entry| !entry.is_empty()).map(|entry| {
        if let Ok(address) = entry.parse::<IpAddr>() {
            return Node::Address(address, None);
        }
        node_of(entry).unwrap_or(Node::Unread)
    });
    Some(read.collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::model::addresses::Networks;

    fn trusted(syntax: Syntax) -> Trusted {
        let from = ["10.0.0.0/8", "2001:db8:1::/48"];
        Trusted {
            from: Networks::new(from.iter().map(|text| text.parse().unwrap()).collect()),
            syntax,
        }
    }

    fn client(syntax: Syntax, peer: &str, fields: &[&str]) -> Result<String, BadForwarded> {
        let name = match syntax {
            Syntax::Forwarded => header::FORWARDED,
            Syntax::XForwardedFor => X_FORWARDED_FOR,
        };
        let headers: HeaderMap = fields
            .iter()
            .map(|field| {
                (
                    name.clone(),
                    HeaderValue::from_bytes(field.as_bytes()).unwrap(),
                )
            })
            .collect();
        let found = super::client(&trusted(syntax), peer.parse().unwrap(), &headers);
        found.map(|address| address.to_string())
    }

    #[test]
    fn the_right_most_unlisted_address_is_the_client() {
        for (peer, fields, wanted) in [
            ("10.0.0.1", &["for=203.0.113.7"][..], "203.0.113.7"),
            (
                "10.0.0.1",
                &["for=6.6.6.6, for=203.0.113.7;proto=https"],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &["for=6.6.6.6", "for=203.0.113.7"],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &["for=203.0.113.7, for=10.2.3.4"],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &["for=203.0.113.7, , for=\"10.2.3.4:80\","],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &["For=\"[2001:db8:2::7]:4711\";by=_x"],
                "2001:db8:2::7",
            ),
            ("10.0.0.1", &["for=\"[::ffff:203.0.113.7]\""], "203.0.113.7"),
            ("10.0.0.1", &["for=\"203.0.113.7:_p\""], "203.0.113.7"),
            ("10.0.0.1", &["for=\"20\\3.0.113.7\""], "203.0.113.7"),
            ("10.0.0.1", &["for=unknown, for=203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["for=10.9.9.9"], "10.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["for=203.0.113.7"], "203.0.113.7"),
            ("203.0.113.9", &["for=10.0.0.1", "garbage"], "203.0.113.9"),
        ] {
            assert_eq!(
                client(Syntax::Forwarded, peer, fields).as_deref(),
                Ok(wanted),
                "{fields:?}"
            );
        }
        for (peer, fields, wanted) in [
            ("10.0.0.1", &["203.0.113.7"][..], "203.0.113.7"),
            (
                "10.0.0.1",
                &["\"junk, 6.6.6.6, 203.0.113.7, 10.2.2.2"],
                "203.0.113.7",
            ),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["2001:db8:2::7"], "2001:db8:2::7"),
            ("10.0.0.1", &["[2001:db8:2::7]:1"], "2001:db8:2::7"),
            ("2001:db8:1::1", &["203.0.113.7", "10.0.0.2"], "203.0.113.7"),
            ("203.0.113.9", &["10.0.0.1"], "203.0.113.9"),
        ] {
            let found = client(Syntax::XForwardedFor, peer, fields);
            assert_eq!(found.as_deref(), Ok(wanted), "{fields:?}");
        }
    }

    #[test]
    fn what_names_no_client_is_refused() {
        for field in [
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=",
            "for",
            "203.0.113.7",
            "for=203.0.113.7;for=1.1.1.1",
            "for=\"6.6.6.6, for=203.0.113.7",
            "for=2001:db8::7",
            "for=[::1]",
            "for=\"[::1\"",
            "for=\"[::1]x\"",
            "for=203.0.113.7 proto=https",
            "for=203.0.113.7:80",
            "for=\"203.0.113.7:123456\"",
            "for=\"203.0.113.7:\"",
            "for =203.0.113.7",
            "for=\"fe80::1%1\"",
            "for=example.com",
            "for=\"_\"",
            "f\u{fc}r=1.1.1.1",
        ] {
            assert!(
                client(Syntax::Forwarded, "10.0.0.1", &[field]).is_err(),
                "{field}"
            );
        }
        for field in [
            "unknown",
            "junk",
            "203.0.113.7, junk",
            "203.0.113.7 10.0.0.1",
            "\u{fc}",
            "for=1.1.1.1",
        ] {
            assert!(
                client(Syntax::XForwardedFor, "10.0.0.1", &[field]).is_err(),
                "{field}"
            );
        }
    }

    fn write(node: &Node) -> String {
        let (name, port) = match node {
            Node::Address(IpAddr::V4(address), port) => (address.to_string(), port),
            Node::Address(IpAddr::V6(address), port) => (format!("[{address}]"), port),
            Node::Hidden(name) => (name.clone(), &None),
            Node::Unread => (String::new(), &None),
        };
        let port = port
            .as_ref()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        format!("proto=https;for=\"{name}{port}\";host=\"a, b\"")
    }

    fn node() -> impl Strategy<Value = Node> {
        let port = prop::option::of("[0-9]{1,5}|_[a-zA-Z0-9._-]{1,9}");
        prop_oneof![
            (any::<IpAddr>(), port).prop_map(|(address, port)| Node::Address(address, port)),
            "_[a-zA-Z0-9._-]{1,9}|unknown".prop_map(Node::Hidden),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(nodes in prop::collection::vec(node(), 0..6)) {
            let text: Vec<String> = nodes.iter().map(write).collect();
            prop_assert_eq!(forwarded(&text.join(" ,\t")), Some(nodes));
        }

        #[test]
        fn no_text_makes_it_panic(text: String, pieces in "[fFor=,;:\"\\\\\\[\\]_0-9. \t-]{0,40}") {
            for text in [text, pieces] {
                drop(forwarded(&text));
                drop(x_forwarded_for(&text));
            }
        }

        /// Whatever a client writes, the listed proxy's own entry on the right decides, or nothing does.
        #[test]
        fn the_left_cannot_change_the_right(left in "[ -~]{0,60}") {
            let joined = format!("{left}, for=203.0.113.7");
            if let Ok(found) = client(Syntax::Forwarded, "10.0.0.1", &[&joined]) {
                prop_assert_eq!(found, "203.0.113.7");
            }
            let joined = format!("{left}, 203.0.113.7");
            let found = client(Syntax::XForwardedFor, "10.0.0.1", &[&joined]);
            prop_assert_eq!(found.as_deref(), Ok("203.0.113.7"));
        }
    }
}
