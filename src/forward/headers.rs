//! Request headers on their way to a backend: first everything that is not the client's to say goes,
//! then ours is set. Pure.
//!
//! Specification: RFC 9110 7.6.1 (connection-specific fields), 7.6.3 (Via), RFC 7239 (Forwarded).

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use thiserror::Error;

/// A request header that is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadHeader {
    /// SECURITY: `Connection: X-Remote-User` would make the next hop drop what we set (CVE-2022-31813).
    #[error("the Connection header names {0}, which the gateway sets")]
    ManagedInConnection(HeaderName),
    /// A value that no header can carry.
    #[error("the gateway's own value for {0} is no header value")]
    Unsendable(HeaderName),
}

/// Where a request came from, as the backend is told.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's address, without brackets.
    pub client: &'a str,
    /// The published host, with its port if it is not 443.
    pub host: &'a str,
    /// The published path prefix, `/` or `/…/`.
    pub prefix: &'a str,
}

/// Cookies whose name begins so are the gateway's.
pub const OUR_COOKIES: &[u8] = b"__host-kerbgate";

/// RFC 9110 7.6.1, RFC 9112 6.1 and 9: they speak of one connection. Lengths are hyper's to write.
pub const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Names that a client may not speak, in dashes: identity, origin, and what overrides path or host.
const X_NAMES: [&str; 5] = [
    "x-authenticated-user",
    "x-client-ip",
    "x-real-ip",
    "x-rewrite-url",
    "x-url-scheme",
];
const X_FAMILIES: [&str; 5] = [
    "x-forwarded-",
    "x-kerbgate-",
    "x-ms-client-principal",
    "x-original-",
    "x-remote-",
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes what the client may not say; `identity` are the names set for this application.
///
/// # Errors
/// A request that tries to have the gateway's headers removed.
pub fn scrub(headers: &mut HeaderMap, identity: &[&HeaderName]) -> Result<(), BadHeader> {
    for name in listed_in_connection(headers) {
        if is_managed(&name, identity) && name != header::AUTHORIZATION {
            return Err(BadHeader::ManagedInConnection(name));
        }
        headers.remove(&name);
    }
    // One pass, and nothing is allocated as long as nothing is found.
    let mut unwanted: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        if !is_plain(text) || is_of_this_hop(text) || is_managed_plain(text, identity) {
            unwanted.push(name.clone());
        }
    }
    for name in unwanted {
        headers.remove(name);
    }
    scrub_cookies(headers);
    Ok(())
}

/// Says where the request came from, replacing what anybody else said.
///
/// # Errors
/// When a configured name cannot be sent.
pub fn set_origin(headers: &mut HeaderMap, origin: Origin<'_>) -> Result<(), BadHeader> {
    let Origin {
        client,
        host,
        prefix,
    } = origin;
    // RFC 7239 6: an IPv6 address stands in brackets and quotes.
    let (open, close) = match client.contains(':') {
        true => ("\"[", "]\""),
        false => ("", ""),
    };
    let mut set = |name: HeaderName, value: String| {
        let value =
            HeaderValue::try_from(value).map_err(|_| BadHeader::Unsendable(name.clone()))?;
        headers.insert(name, value);
        Ok(())
    };
    set(X_FORWARDED_FOR, client.to_owned())?;
    set(X_FORWARDED_HOST, host.to_owned())?;
    set(
        header::FORWARDED,
        [
            "for=",
            open,
            client,
            close,
            ";host=\"",
            host,
            "\";proto=https",
        ]
        .concat(),
    )?;
    if prefix != "/" {
        set(X_FORWARDED_PREFIX, prefix.trim_end_matches('/').to_owned())?;
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(header::VIA, HeaderValue::from_static("1.1 kerbgate"));
    Ok(())
}

/// The trailers that a message declares and that may be passed on. Others are left out: only declared ones can be judged
/// before the body is sent.
#[must_use]
pub fn declared_trailers(headers: &HeaderMap, identity: &[&HeaderName]) -> Vec<HeaderName> {
    headers
        .get_all(header::TRAILER)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| may_trail(name, identity))
        .collect()
}

/// Takes out what may not be passed on of trailers that nobody declared, as HTTP/2 allows (RFC 9113 8.1).
pub fn scrub_trailers(trailers: &mut HeaderMap, identity: &[HeaderName]) {
    let identity: Vec<&HeaderName> = identity.iter().collect();
    let unwanted: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !may_trail(name, &identity))
        .cloned()
        .collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

/// SECURITY: some servers merge trailers into the headers, and with them a forged identity.
fn may_trail(name: &HeaderName, identity: &[&HeaderName]) -> bool {
    is_plain(name.as_str())
        && !is_managed(name, identity)
        && !HOP_BY_HOP.contains(name)
        && !NOT_IN_TRAILERS.contains(name)
}

/// `Trailer` for these names; nothing for none.
#[must_use]
pub fn trailer_header(names: &[HeaderName]) -> Option<HeaderValue> {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    (!names.is_empty())
        .then(|| HeaderValue::try_from(names.join(", ")).ok())
        .flatten()
}

/// True when the sender of a request takes trailers in the answer (RFC 9110 10.1.4).
#[must_use]
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// RFC 9110 6.5.1: framing, routing, authentication and response control have no place in trailers.
pub const NOT_IN_TRAILERS: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::LOCATION,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::WWW_AUTHENTICATE,
    header::CONTENT_TYPE,
];

/// The names that a `Connection` header lists.
#[must_use]
pub fn listed_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| {
            let usual: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
            !usual.iter().any(|usual| name.eq_ignore_ascii_case(usual))
        })
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect()
}

/// The protocol a request wants to switch to, if it is one that a backend would see.
///
/// An offer of HTTP/2 (`h2c`, RFC 7540 3.2, obsolete) may be ignored, and is: a tunnel of it would
/// carry requests that nobody authorized.
#[must_use]
pub fn wanted_upgrade(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|protocol| String::from_utf8_lossy(protocol.trim_ascii()).into_owned())
        .find(|protocol| {
            let protocol = protocol.to_ascii_lowercase();
            !protocol.is_empty()
                && protocol != "h2c"
                && !protocol.starts_with("http/")
                && !protocol.starts_with("tls/")
        })
}

fn is_managed(name: &HeaderName, identity: &[&HeaderName]) -> bool {
    is_managed_plain(&dashed(name.as_str()), identity)
}

fn is_managed_plain(plain: &str, identity: &[&HeaderName]) -> bool {
    // Dashes replace byte for byte: names of other lengths need no second look.
    let same = |ours: &str| ours.len() == plain.len() && dashed(ours) == plain;
    is_reserved(plain) || identity.iter().any(|ours| same(ours.as_str()))
}

/// [`HOP_BY_HOP`], and what is settled on this side: lengths are hyper's to write, and it has answered `Expect`.
fn is_of_this_hop(name: &str) -> bool {
    let names: &[&str] = match name.as_bytes().first() {
        Some(b'c') => &["connection", "content-length"],
        Some(b'e') => &["expect"],
        Some(b'h') => &["http2-settings"],
        Some(b'k') => &["keep-alive"],
        Some(b'p') => &[
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
        ],
        Some(b't') => &["te", "trailer", "transfer-encoding"],
        Some(b'u') => &["upgrade"],
        _ => &[],
    };
    names.contains(&name)
}

/// Looks at the first letter first: most of what browsers send ends there.
fn is_reserved(plain: &str) -> bool {
    let families: &[&str] = match plain.as_bytes().first() {
        Some(b'x') => &X_FAMILIES,
        Some(b'k') => &["kerbgate-"],
        _ => &[],
    };
    let names: &[&str] = match plain.as_bytes().first() {
        Some(b'a') => &["authorization", "auth-user"],
        Some(b'c') => &["client-cert", "client-ip"],
        Some(b'f') => &["forwarded", "front-end-https"],
        Some(b'p') => &["proxy"],
        Some(b'r') => &["remote-user"],
        Some(b't') => &["true-client-ip"],
        Some(b'v') => &["via"],
        Some(b'x') => &X_NAMES,
        _ => &[],
    };
    names.contains(&plain) || families.iter().any(|family| plain.starts_with(family))
}

/// Letters, digits and `-`, as nginx demands by default.
///
/// SECURITY: CGI, WSGI and IIS fold `_` into `-`, Apache up to 2.2 every other character a name may have (`X$User`,
/// `Transfer%Encoding`): such a name could become one of ours, or one that frames the message.
fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// How such servers spell a configured name (`sap_user`).
fn dashed(name: &str) -> std::borrow::Cow<'_, str> {
    if is_plain(name) {
        name.into()
    } else {
        name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            .into()
    }
}

/// Takes the gateway's cookies out; the others stay byte for byte.
fn scrub_cookies(headers: &mut HeaderMap) {
    let all = headers.get_all(header::COOKIE);
    let several = all.iter().count() > 1;
    if !several && !all.iter().flat_map(cookies).any(is_ours) {
        return;
    }
    // RFC 9113 8.2.3: HTTP/2 may split cookies; HTTP/1.1 wants one line.
    let kept: Vec<&[u8]> = all
        .iter()
        .flat_map(cookies)
        .filter(|cookie| !cookie.is_empty() && !is_ours(cookie))
        .collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, kept);
    }
}

fn cookies(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
}

/// True for a cookie `name=value` whose name is one of the gateway's, in any case.
#[must_use]
pub fn is_ours(cookie: &[u8]) -> bool {
    cookie
        .get(..OUR_COOKIES.len())
        .is_some_and(|name| name.eq_ignore_ascii_case(OUR_COOKIES))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect()
    }

    fn scrubbed(headers: &[(&str, &str)]) -> Result<Vec<String>, BadHeader> {
        let mut headers = map(headers);
        let identity = [
            &HeaderName::from_static("x-user"),
            &HeaderName::from_static("sap_user"),
        ];
        scrub(&mut headers, &identity)?;
        let text = |value: &HeaderValue| value.as_bytes().escape_ascii().to_string();
        Ok(headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", text(value)))
            .collect())
    }

    #[test]
    fn forged_identity_is_removed_in_every_spelling() {
        for name in [
            "X-User",
            "x_user",
            "X.User",
            "X-USER",
            "x-User",
            "SAP-User",
            "sap_user",
            "Sap.User",
            "Sap$User",
            "X~User",
            "X!Remote+User",
            "X-Remote-User",
            "X_Remote_User",
            "X-Remote-Groups",
            "Remote-User",
            "Remote_User",
            "Authorization",
            "Kerbgate-Jwt-Assertion",
            "kerbgate_jwt_assertion",
            "X-Forwarded-For",
            "X-Forwarded-User",
            "x_forwarded_user",
            "X-Forwarded-Proto",
            "Forwarded",
            "Via",
            "X-Real-IP",
            "X-Original-URL",
            "X-Rewrite-URL",
            "Proxy",
            "Any_Thing",
            "X$User",
            "Transfer%Encoding",
            "Any.Thing",
            "Proxy-Authorization",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Expect",
            "Content-Length",
            "HTTP2-Settings",
            "Proxy-Connection",
            "X-MS-CLIENT-PRINCIPAL-NAME",
        ] {
            let left = scrubbed(&[(name, "forged"), ("accept", "*/*"), (name, "twice")]);
            assert_eq!(left, Ok(vec![String::from("accept: */*")]), "{name}");
        }
    }

    #[test]
    fn nothing_of_this_hop_goes_on() {
        for name in &HOP_BY_HOP {
            assert!(is_of_this_hop(name.as_str()), "{name}");
        }
        for name in ["content-length", "expect", "http2-settings"] {
            assert!(is_of_this_hop(name), "{name}");
        }
        assert!(!is_of_this_hop("content-type"));
    }

    #[test]
    fn nobody_has_our_headers_dropped() {
        for name in [
            "x-user",
            "X_USER",
            "x-forwarded-for",
            "x-remote-user",
            "sap-user",
            "forwarded",
        ] {
            let listed = format!("keep-alive, {name}");
            assert!(scrubbed(&[("connection", &listed)]).is_err(), "{name}");
        }
        let left = scrubbed(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("x-third", "3"),
        ]);
        assert_eq!(left, Ok(vec![String::from("x-third: 3")]));
    }

    #[test]
    fn cookies_of_the_application_stay_as_they_are() {
        for (sent, wanted) in [
            (
                vec!["a=1;b=\"2\" ;  c"],
                vec!["cookie: a=1;b=\\\"2\\\" ;  c"],
            ),
            (
                vec!["a=1; __Host-kerbgate=s; b=x=y"],
                vec!["cookie: a=1; b=x=y"],
            ),
            (vec!["__Host-kerbgate-login=1;__host-KERBGATE=2"], vec![]),
            (
                vec!["a=1", "__Host-kerbgate=s", "b=2"],
                vec!["cookie: a=1; b=2"],
            ),
            (
                vec!["a=\u{fc}; __Host-kerbgate=1"],
                vec!["cookie: a=\\xc3\\xbc"],
            ),
            (
                vec!["a=__Host-kerbgate=1"],
                vec!["cookie: a=__Host-kerbgate=1"],
            ),
        ] {
            let headers: Vec<_> = sent.iter().map(|value| ("cookie", *value)).collect();
            let wanted: Vec<String> = wanted.into_iter().map(String::from).collect();
            assert_eq!(scrubbed(&headers), Ok(wanted), "{sent:?}");
        }
    }

    #[test]
    fn the_origin_is_ours_to_say() {
        let mut headers = HeaderMap::new();
        let origin = Origin {
            client: "192.0.2.1",
            host: "intranet.example.com:8443",
            prefix: "/wiki/",
        };
        set_origin(&mut headers, origin).unwrap();
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-host"], "intranet.example.com:8443");
        assert_eq!(headers["x-forwarded-prefix"], "/wiki");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.1;host=\"intranet.example.com:8443\";proto=https"
        );
        let client = "2001:db8::1";
        set_origin(&mut headers, Origin { client, ..origin }).unwrap();
        assert!(
            headers["forwarded"]
                .to_str()
                .unwrap()
                .starts_with("for=\"[2001:db8::1]\";")
        );
    }

    #[test]
    fn only_real_switches_of_protocol_count() {
        for (value, wanted) in [
            ("websocket", Some("websocket")),
            ("h2c, WebSocket", Some("WebSocket")),
            ("h2c", None),
            ("HTTP/2.0", None),
            ("TLS/1.0", None),
            ("", None),
        ] {
            let found = wanted_upgrade(&map(&[("upgrade", value)]));
            assert_eq!(found.as_deref(), wanted, "{value}");
        }
    }

    proptest! {
        /// Case and whatever stands between the words: no spelling of a managed name is left.
        #[test]
        fn no_spelling_of_a_managed_name_survives(
            words in prop::sample::select(vec![
                "x user", "sap user", "x remote user", "x forwarded for", "x forwarded user", "x original url",
                "kerbgate jwt assertion", "x kerbgate anything", "remote user", "auth user", "x real ip",
            ]),
            between in "[-!#$%&'*+.^_`|~]{3}",
            upper: u64,
            value in "[ -~]{0,20}",
        ) {
            let mut between = between.chars();
            let name: String = words
                .chars()
                .enumerate()
                .map(|(at, c)| match c {
                    ' ' => between.next().unwrap_or('-'),
                    c if upper >> at & 1 == 1 => c.to_ascii_uppercase(),
                    c => c,
                })
                .collect();
            let left = scrubbed(&[("accept", "*/*"), (&name, &value), (&name, "twice")]);
            prop_assert_eq!(left, Ok(vec![String::from("accept: */*")]), "{}", name);
            let listed = format!("close, {name}");
            prop_assert!(scrubbed(&[("connection", &listed)]).is_err(), "{}", name);
        }

        /// Whatever else an application sets stays, byte for byte and in order; ours goes, wherever it stands.
        #[test]
        fn other_cookies_stay(
            cookies in prop::collection::vec("[a-zA-Z_-]{1,9}=[ -:<-~]{0,9}[!-:<-~]", 1..6),
            ours in "__(Host|host|HOST)-[kK]erbgate(-[a-z]{1,6})?=[!-:<-~]{0,9}",
            at in 0_usize..6,
            split: bool,
        ) {
            let mut all = cookies.clone();
            all.insert(at.min(cookies.len()), ours);
            let joined = all.join("; ");
            let sent: Vec<(&str, &str)> = if split {
                all.iter().map(|cookie| ("cookie", &**cookie)).collect()
            } else {
                vec![("cookie", &joined)]
            };
            let wanted = format!("cookie: {}", cookies.join("; ").as_bytes().escape_ascii());
            prop_assert_eq!(scrubbed(&sent), Ok(vec![wanted]));
        }
    }
}
