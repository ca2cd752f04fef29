//! The backend's response in, ours out: what leads to the backend leads to the published URL. Pure.
//!
//! Specifications: RFC 9110 7.6.1, 10.2.2 (Location), RFC 6265 4.1 (Set-Cookie), RFC 6797 (HSTS).
//! Bodies are not touched here. `Server` stays: hiding it protects nobody, and support people ask for it.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use url::Url;

use crate::forward::headers::HOP_BY_HOP;
use crate::forward::headers::declared_trailers;
use crate::forward::headers::is_ours;
use crate::forward::headers::listed_in_connection;
use crate::forward::headers::trailer_header;
use crate::forward::negotiate;
use crate::model::application::Application;
use crate::model::application::Sso;

/// Strict transport security for a year, as published hosts are only ever served over TLS; for the host
/// alone, since its siblings may be no business of ours.
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Makes a backend's response headers ours.
pub fn response(headers: &mut HeaderMap, application: &Application) {
    let trailers = trailer_header(&declared_trailers(headers, &[]));
    for name in listed_in_connection(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    for name in INTERNAL {
        headers.remove(name);
    }
    if let Some(trailers) = trailers {
        headers.insert(header::TRAILER, trailers);
    }
    challenges(headers, application);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        replace(headers, &name, |value| published(value, application));
    }
    replace(headers, &header::REFRESH, |value| {
        refresh(value, application)
    });
    set_cookies(headers, application);
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
}

/// What a backend says about its own neighborhood. RFC 7838: Alt-Svc would lead past the gateway.
/// The `kerbgate-` names are ours: support reads them as the gateway's word.
const INTERNAL: [&str; 8] = [
    "alt-svc",
    "http2-settings",
    "kerbgate-reason",
    "kerbgate-request-id",
    "persistent-auth",
    "proxy-authentication-info",
    "x-forwarded-for",
    "x-forwarded-host",
];

/// Challenges end at the gateway, as far as the gateway answers them.
///
/// SECURITY: a `Negotiate` challenge would make the browser offer its own credentials, or ask for a
/// password; a `Negotiate` answer is a token (security requirement 36).
fn challenges(headers: &mut HeaderMap, application: &Application) {
    let kept: Vec<HeaderValue> = match &application.sso {
        Sso::Kerberos(_) | Sso::Headers(_) => {
            headers.remove("authentication-info");
            Vec::new()
        }
        Sso::None => headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter(|value| !negotiate::names_negotiate(value.as_bytes()))
            .cloned()
            .collect(),
    };
    headers.remove(header::WWW_AUTHENTICATE);
    for value in kept {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
}

/// Replaces values that are text and for which there is a better one.
fn replace(headers: &mut HeaderMap, name: &HeaderName, better: impl Fn(&str) -> Option<String>) {
    for value in headers.get_all(name).iter().cloned().collect::<Vec<_>>() {
        let found = value.to_str().ok().and_then(&better);
        if let Some(found) = found.and_then(|found| HeaderValue::try_from(found).ok()) {
            // RFC 9110 gives each of these one value; a second one would be read by nobody.
            headers.insert(name.clone(), found);
        }
    }
}

/// The published form of a reference that leads to a backend, if it does.
fn published(reference: &str, application: &Application) -> Option<String> {
    let reference = reference.trim();
    let (scheme, rest) = match reference.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        Some(_) | None => match reference.strip_prefix("//") {
            Some(rest) => (None, rest),
            None => return local(reference, application),
        },
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let ours = Url::parse(&format!("https://{authority}/")).ok()?;
    if ours.host_str() == Some(application.host.as_str()) {
        return own(ours.port(), path, application);
    }
    let base = application
        .backends
        .iter()
        .find(|backend| leads_to(scheme, authority, &backend.url))?
        .url
        .path();
    Some(format!(
        "{}{}",
        origin(application),
        moved(path, base, &application.prefix)?
    ))
}

/// An application that knows its published host (`keep_host`, `X-Forwarded-Host`), but perhaps neither
/// that it is reached over TLS, nor at which port, nor below which prefix.
fn own(port: Option<u16>, path: &str, application: &Application) -> Option<String> {
    let its_own = |port| {
        application
            .backends
            .iter()
            .any(|one| one.url.port() == port)
    };
    if port.is_some() && port != application.published_url.port() && !its_own(port) {
        return None;
    }
    let moved = if moved(path, &application.prefix, "/").is_some() {
        None
    } else {
        local(path, application)
    };
    let path = moved.as_deref().unwrap_or(path);
    Some(format!("{}{path}", origin(application)))
}

/// A path from the root: the backend's root is not always ours.
fn local(reference: &str, application: &Application) -> Option<String> {
    if !reference.starts_with('/') {
        return None;
    }
    let mut bases = application
        .backends
        .iter()
        .map(|backend| backend.url.path());
    bases.find_map(|base| moved(reference, base, &application.prefix))
}

/// `path` below `base`, moved below `prefix`.
fn moved(path: &str, base: &str, prefix: &str) -> Option<String> {
    let base = base.trim_end_matches('/');
    let rest = path.strip_prefix(base)?;
    // SECURITY: `/application` is not below `/app`.
    if !rest.is_empty() && !rest.starts_with(['/', '?', '#']) {
        return None;
    }
    let prefix = prefix.trim_end_matches('/');
    let slash = if prefix.is_empty() && !rest.starts_with('/') {
        "/"
    } else {
        ""
    };
    Some(format!("{prefix}{slash}{rest}"))
}

fn leads_to(scheme: Option<&str>, authority: &str, backend: &Url) -> bool {
    let scheme = scheme.unwrap_or_else(|| backend.scheme());
    Url::parse(&format!("{scheme}://{authority}/")).is_ok_and(|url| {
        url.host() == backend.host()
            && url.username().is_empty()
            // The same server on its other usual port: applications switch between http and https.
            && (url.port_or_known_default() == backend.port_or_known_default()
                || (url.port().is_none() && backend.port().is_none()))
    })
}

fn origin(application: &Application) -> String {
    application.published_url.origin().ascii_serialization()
}

fn is_scheme(text: &str) -> bool {
    text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("https")
}

/// `5; url=https://backend/…`, as browsers take it.
fn refresh(value: &str, application: &Application) -> Option<String> {
    let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
    let (before, reference) = value.split_at_checked(at)?;
    let bare = reference.trim().trim_matches(['"', '\'']);
    Some(format!("{before}{}", published(bare, application)?))
}

fn set_cookies(headers: &mut HeaderMap, application: &Application) {
    let cookies: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|cookie| set_cookie(cookie.as_bytes(), application))
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// A backend's cookie for the published host; `None` if it may not be set.
fn set_cookie(cookie: &[u8], application: &Application) -> Option<HeaderValue> {
    let mut parts = cookie.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let pair = parts.next()?;
    // SECURITY: a backend that could set these would sign its visitors in as somebody else. A cookie
    // without a name is `=value` to some browsers, and `value` may look like one of ours.
    let name_less = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii();
    if is_ours(name_less) {
        return None;
    }
    // RFC 6265bis 4.1.3.2: `__Host-` is only accepted with Path=/.
    let pinned = pair
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"__Host-"));
    let mut kept = vec![pair.to_vec()];
    for part in parts {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            // Without it a cookie stays with the one host that the application is published under.
            b"domain" | b"secure" | b"" => {}
            b"path" if !pinned => kept.push(cookie_path(part, application)),
            _ => kept.push(part.to_vec()),
        }
    }
    // The published host is only reached over TLS.
    kept.push(b"Secure".to_vec());
    HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()
}

/// A path below the backend's becomes one below ours; any other one becomes ours, since the backend's
/// root is not the root of the published host.
fn cookie_path(part: &[u8], application: &Application) -> Vec<u8> {
    let path = part
        .iter()
        .position(|byte| *byte == b'=')
        .and_then(|at| part.get(at + 1..))
        .unwrap_or_default();
    let path = std::str::from_utf8(path).unwrap_or_default().trim();
    let mapped = local(path, application).filter(|mapped| !mapped.is_empty());
    let mapped = mapped.unwrap_or_else(|| {
        let prefix = application.prefix.trim_end_matches('/');
        String::from(if prefix.is_empty() { "/" } else { prefix })
    });
    format!("Path={mapped}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::application::Backend;
    use crate::model::application::KerberosSso;
    use crate::model::application::SendToken;
    use crate::model::application::Wrap;

    fn application(prefix: &str, backends: &[&str]) -> Application {
        let published = format!("https://wiki.example.com:8443{prefix}");
        Application {
            prefix: prefix.to_owned(),
            published_url: Url::parse(&published).unwrap(),
            backends: backends
                .iter()
                .map(|url| Backend {
                    url: Url::parse(url).unwrap(),
                    address: None,
                })
                .collect(),
            ..Application::sample()
        }
    }

    fn rewritten(application: &Application, name: &str, value: &str) -> Vec<String> {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(
            name.clone(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        response(&mut headers, application);
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap())
            .collect()
    }

    /// An application at its host's root: reference and its published form.
    const AT_ROOT: [(&str, &str); 11] = [
        (
            "https://wiki.example.com:8443/a",
            "https://wiki.example.com:8443/a",
        ),
        (
            "https://iis01.corp.example/a?b#c",
            "https://wiki.example.com:8443/a?b#c",
        ),
        (
            "https://IIS02.corp.example:443/a",
            "https://wiki.example.com:8443/a",
        ),
        (
            "http://iis01.corp.example/a",
            "https://wiki.example.com:8443/a",
        ),
        ("//iis01.corp.example/a", "https://wiki.example.com:8443/a"),
        (
            "https://iis01.corp.example",
            "https://wiki.example.com:8443/",
        ),
        (
            "https://iis01.corp.example?x",
            "https://wiki.example.com:8443/?x",
        ),
        (
            "http://wiki.example.com/a",
            "https://wiki.example.com:8443/a",
        ),
        ("//wiki.example.com/a", "https://wiki.example.com:8443/a"),
        (
            "HTTP://wiki.example.com:8443/a",
            "https://wiki.example.com:8443/a",
        ),
        ("/", "/"),
    ];
    /// The same below a prefix, with a backend below another.
    const BELOW: [(&str, &str); 7] = [
        (
            "http://wiki.example.com/w/x",
            "https://wiki.example.com:8443/w/x",
        ),
        (
            "http://wiki.example.com:8080/app/x",
            "https://wiki.example.com:8443/w/x",
        ),
        (
            "https://wiki.example.com:8443/other/x",
            "https://wiki.example.com:8443/other/x",
        ),
        (
            "https://wiki.example.com:9999/w/x",
            "https://wiki.example.com:9999/w/x",
        ),
        (
            "http://10.0.0.1:8080/app/x",
            "https://wiki.example.com:8443/w/x",
        ),
        (
            "http://10.0.0.1:8080/app",
            "https://wiki.example.com:8443/w",
        ),
        ("/app/x?y=/app/", "/w/x?y=/app/"),
    ];
    /// What leads elsewhere stays.
    const ELSEWHERE: [&str; 12] = [
        "https://wiki.example.com:8443/a",
        "/a%2fb/%E4",
        "a/b",
        "https://login.example.org/?r=https://iis01.corp.example/",
        "https://iis01.corp.example.evil/",
        "https://iis01.corp.example@evil/",
        "https://evil@iis01.corp.example/",
        "https://iis01.corp.example:8443/",
        "mailto:a@iis01.corp.example",
        "http://10.0.0.1:8080/application",
        "http://10.0.0.1/app/x",
        "",
    ];

    #[test]
    fn references_lead_to_the_published_url() {
        let root = application(
            "/",
            &["https://iis01.corp.example/", "https://iis02.corp.example/"],
        );
        let below = application("/w/", &["http://10.0.0.1:8080/app/"]);
        let elsewhere = ELSEWHERE.map(|reference| (reference, reference));
        for (application, table) in [
            (&root, &AT_ROOT[..]),
            (&below, &BELOW),
            (&root, &elsewhere),
            (&below, &elsewhere),
        ] {
            for (reference, wanted) in table {
                let got = rewritten(application, "location", reference);
                assert_eq!(got, [*wanted], "{reference}");
            }
        }
        assert_eq!(
            rewritten(&below, "content-location", BELOW[0].0),
            [BELOW[0].1]
        );
        assert_eq!(
            rewritten(&below, "refresh", "5; URL='http://10.0.0.1:8080/app/x'"),
            ["5; URL=https://wiki.example.com:8443/w/x"]
        );
        assert_eq!(rewritten(&below, "refresh", "5"), ["5"]);
    }

    #[test]
    fn cookies_stay_with_the_published_host() {
        let root = application("/", &["https://iis01.corp.example/"]);
        let moved = application("/w/", &["http://10.0.0.1:8080/app/"]);
        for (application, cookie, wanted) in [
            (&root, "a=1;; ", vec!["a=1; Secure"]),
            (&root, " __HOST-KERBGATE-signin=x", vec![]),
            (
                &root,
                "a=1; secure; HttpOnly; SameSite=None; Max-Age=5",
                vec!["a=1; HttpOnly; SameSite=None; Max-Age=5; Secure"],
            ),
            (
                &root,
                "a=\"x y\"; Domain=.corp.example; Path=/x",
                vec!["a=\"x y\"; Path=/x; Secure"],
            ),
            (&moved, "a=1; path=/app/x", vec!["a=1; Path=/w/x; Secure"]),
            (&moved, "a=1; path=/app", vec!["a=1; Path=/w; Secure"]),
            (&moved, "a=1; path=/", vec!["a=1; Path=/w; Secure"]),
            (&moved, "a=1; path=", vec!["a=1; Path=/w; Secure"]),
            (
                &moved,
                "__Host-a=1; Secure; Path=/",
                vec!["__Host-a=1; Path=/; Secure"],
            ),
            (&root, "__Host-kerbgate=x; Path=/; Secure", vec![]),
            (&root, "__HOST-Kerbgate-login=x", vec![]),
            (&root, "=__Host-kerbgate=x", vec![]),
            (&root, "= __Host-kerbgate=x", vec![]),
        ] {
            assert_eq!(
                rewritten(application, "set-cookie", cookie),
                wanted,
                "{cookie}"
            );
        }
    }

    #[test]
    fn what_is_between_us_and_the_backend_stays_there() {
        let mut application = application("/", &["https://iis01.corp.example/"]);
        for (name, value) in [
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("alt-svc", "h2=\":443\""),
            ("proxy-authenticate", "Basic"),
            ("trailer", "content-length, set-cookie"),
        ] {
            assert!(rewritten(&application, name, value).is_empty(), "{name}");
        }
        assert_eq!(
            rewritten(&application, "server", "Microsoft-IIS/10.0"),
            ["Microsoft-IIS/10.0"]
        );
        assert_eq!(
            rewritten(&application, "strict-transport-security", "max-age=0"),
            ["max-age=31536000"]
        );
        assert_eq!(
            rewritten(&application, "www-authenticate", "Basic"),
            ["Basic"]
        );
        assert!(rewritten(&application, "www-authenticate", "NTLM").is_empty());
        assert!(rewritten(&application, "www-authenticate", "Negotiate oRQw").is_empty());
        application.sso = Sso::Kerberos(KerberosSso {
            spns: Vec::new(),
            send: SendToken::EachRequest,
            wrap: Wrap::Spnego,
            mutual: false,
            channel_binding: true,
        });
        for name in ["www-authenticate", "authentication-info", "persistent-auth"] {
            assert!(
                rewritten(&application, name, "Negotiate oRUw").is_empty(),
                "{name}"
            );
        }
    }
}
