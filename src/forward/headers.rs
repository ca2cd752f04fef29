//! What of a client's headers may reach a backend, and what is added. Pure.
//!
//! The scrubbing is the first step for *every* request, whatever the application's sign-on is: advisories
//! 5, 31 and 44 of comparable proxies were all a path on which it was skipped.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

use crate::model::application::Application;
use crate::model::application::Sso;
use crate::model::stop::Code;
use crate::model::stop::Stop;

/// The header names that only the gateway may set, in one normal spelling.
#[derive(Clone, Debug)]
pub struct Managed(BTreeSet<String>);

impl Managed {
    /// What all `applications` set, and what is commonly believed by backends.
    ///
    /// SECURITY: the names of *all* applications, so that moving a header from one to another never
    /// opens a gap between two reloads.
    pub fn new<'a>(applications: impl IntoIterator<Item = &'a Application>) -> Self {
        let mut names: BTreeSet<String> = COMMON.iter().map(ToString::to_string).collect();
        for app in applications {
            if let Sso::Headers(headers) = &app.sso {
                names.extend(
                    headers
                        .headers
                        .iter()
                        .map(|(name, _)| normal(name.as_str())),
                );
            }
        }
        Self(names)
    }

    /// True for every spelling that some backend could read as a managed name: CGI and IIS fold `-`,
    /// `_` and `.` into one.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        let name = normal(name);
        self.0.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    }
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Removes from `headers` everything that must not reach a backend.
///
/// # Errors
/// `bad-request` when `Connection` names a managed header: the only use of that is to make a proxy drop
/// the header it set itself (CVE-2022-31813).
pub fn scrub(headers: &mut HeaderMap, managed: &Managed) -> Result<(), Stop> {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        // RFC 9110 7.6.1: everything that Connection names is for this hop only.
        for option in value.as_bytes().split(|b| *b == b',') {
            let option = String::from_utf8_lossy(option).trim().to_ascii_lowercase();
            if managed.holds(&option) || option == "authorization" || option == "cookie" {
                return Err(Stop::deny(
                    Code::BadRequest,
                    format!("Connection names {option:?}, which the gateway sets"),
                ));
            }
            named.push(option);
        }
    }
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let text = name.as_str();
            HOP_BY_HOP.contains(&text)
                || text.contains('_')
                || named.iter().any(|option| option == text)
                || managed.holds(text)
        })
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
    Ok(())
}

/// Removes the gateway's own cookies and keeps all others byte for byte.
pub fn scrub_cookies(headers: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    // RFC 9113 8.2.3: HTTP/2 may split the header; towards HTTP/1.1 it is one line again.
    let kept: Vec<&[u8]> = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && !is_own_cookie(pair))
        .collect();
    if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        && !value.is_empty()
    {
        headers.insert(header::COOKIE, value);
    }
}

/// True for a `name=value` pair, or a `Set-Cookie` line, of one of the gateway's own cookies.
#[must_use]
pub fn is_own_cookie(pair: &[u8]) -> bool {
    let own = OWN_COOKIE.as_bytes();
    pair.trim_ascii_start()
        .get(..own.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(own))
}

/// Adds who asked for what: `X-Forwarded-*`, `Forwarded` (RFC 7239), and the backend's `Host`.
pub fn announce(headers: &mut HeaderMap, app: &Application, client: IpAddr, backend_host: &str) {
    let published = published_authority(app);
    let node = match client {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let forwarded = format!("for={node};host=\"{published}\";proto=https");
    let host = if app.keep_host {
        published.as_str()
    } else {
        backend_host
    };
    for (name, value) in [
        (header::HOST, host),
        (header::FORWARDED, forwarded.as_str()),
        (
            HeaderName::from_static("x-forwarded-for"),
            client.to_string().as_str(),
        ),
        (
            HeaderName::from_static("x-forwarded-host"),
            published.as_str(),
        ),
        (HeaderName::from_static("x-forwarded-proto"), "https"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

/// Host and port under which people reach `app`.
#[must_use]
pub fn published_authority(app: &Application) -> String {
    match app.published_url.port() {
        Some(port) => format!("{}:{port}", app.host),
        None => app.host.to_string(),
    }
}

const OWN_COOKIE: &str = "__Host-kerbgate";

/// RFC 9110 7.6.1 and RFC 9113 8.2.2; framing is written anew by the client side.
const HOP_BY_HOP: [&str; 13] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const PREFIXES: [&str; 6] = [
    "kerbgate-",
    "x-forwarded-",
    "x-auth-request-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-original-",
];

/// Headers that backends are known to believe, whether an application sets them or not.
const COMMON: [&str; 24] = [
    "auth-user",
    "client-ip",
    "forwarded",
    "forwarded-for",
    "logon-user",
    "remote-addr",
    "remote-groups",
    "remote-user",
    "sm-user",
    "ssl-client-cert",
    "ssl-client-s-dn",
    "true-client-ip",
    "via",
    "x-auth-user",
    "x-authenticated-user",
    "x-client-ip",
    "x-email",
    "x-groups",
    "x-iisnode-logon-user",
    "x-real-ip",
    "x-remote-groups",
    "x-remote-user",
    "x-rewrite-url",
    "x-user",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn managed() -> Managed {
        Managed(["x-remote-user", "x-custom-name"].map(String::from).into())
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    #[test]
    fn every_spelling_of_a_managed_name_is_removed() {
        let mut map = headers(&[
            ("X-Remote-User", "admin"),
            ("x-remote-user", "admin"),
            ("X_Remote_User", "admin"),
            ("X-Remote_User", "admin"),
            ("x.custom.name", "admin"),
            ("Kerbgate-Jwt-Assertion", "forged"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("Authorization", "Bearer x"),
            ("Upgrade", "h2c"),
            ("Accept", "*/*"),
        ]);
        scrub(&mut map, &managed()).unwrap();
        let left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }

    #[test]
    fn connection_cannot_name_what_the_gateway_sets() {
        let mut named = headers(&[("Connection", "close, X-Remote-User")]);
        assert!(scrub(&mut named, &managed()).is_err());
        let mut forwarded = headers(&[("Connection", "X_Forwarded_For")]);
        assert!(scrub(&mut forwarded, &managed()).is_err());
        let mut own = headers(&[("Connection", "X-Hop"), ("X-Hop", "1"), ("X-Stays", "1")]);
        scrub(&mut own, &managed()).unwrap();
        assert_eq!(
            own.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["x-stays"]
        );
    }

    #[test]
    fn only_the_gateways_cookies_are_removed() {
        let mut map = headers(&[
            ("Cookie", "a=1; __Host-kerbgate=secret;b=\"x y\""),
            ("Cookie", "__host-Kerbgate-signin=s; c=3"),
        ]);
        scrub_cookies(&mut map);
        assert_eq!(
            map.get_all("cookie").iter().collect::<Vec<_>>(),
            ["a=1; b=\"x y\"; c=3"]
        );
        let mut only = headers(&[("Cookie", "__Host-kerbgate=secret")]);
        scrub_cookies(&mut only);
        assert!(only.is_empty());
    }
}
