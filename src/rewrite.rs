//! The backend's response becomes ours.
//!
//! In: a response and the application it came from. Out: the same response in which nothing names the
//! backend, nothing asks the browser for credentials, and no cookie reaches further than the published
//! address. Header work only; bodies stream by untouched.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::header;
use url::Url;

use crate::forward::headers::is_ours;
use crate::model::application::Application;
use crate::model::application::Sso;

/// Rewrites the headers of `response`, which came from one of the servers of `app`.
#[must_use]
pub fn response<B>(mut response: Response<B>, app: &Application) -> Response<B> {
    let headers = response.headers_mut();
    hop_by_hop(headers);
    challenges(headers, app);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        translate(headers, &name, |text| location(text, app));
    }
    translate(headers, &header::REFRESH, |text| refresh(text, app));
    cookies(headers, app);
    // HSTS: every published address is https; a backend's own, shorter promise is replaced.
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    // Alt-Svc would lead the browser past the gateway.
    headers.remove(header::ALT_SVC);
    for name in INTERNAL {
        headers.remove(name);
    }
    response
}

/// Strict transport security for a year, as published hosts are only ever served over TLS.
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// RFC 9110 7.6.1, and everything that `Connection` names.
fn hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::SET_COOKIE)
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Challenges end at the gateway.
///
/// SECURITY: a `Negotiate` challenge would make the browser offer its own credentials, or ask for a
/// password; a `Negotiate` answer is a token (security requirement 36).
fn challenges(headers: &mut HeaderMap, app: &Application) {
    match &app.sso {
        Sso::Kerberos(_) | Sso::Headers(_) => {
            headers.remove(header::WWW_AUTHENTICATE);
            headers.remove("authentication-info");
        }
        Sso::None => {
            let kept: Vec<HeaderValue> = headers
                .get_all(header::WWW_AUTHENTICATE)
                .iter()
                .filter(|value| {
                    let scheme = value
                        .as_bytes()
                        .split(|b| *b == b' ')
                        .next()
                        .unwrap_or_default();
                    !scheme.eq_ignore_ascii_case(b"negotiate")
                        && !scheme.eq_ignore_ascii_case(b"ntlm")
                })
                .cloned()
                .collect();
            headers.remove(header::WWW_AUTHENTICATE);
            for value in kept {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
    }
    headers.remove("persistent-auth");
    headers.remove(header::PROXY_AUTHENTICATE);
    headers.remove("proxy-authentication-info");
}

fn translate(headers: &mut HeaderMap, name: &HeaderName, with: impl Fn(&str) -> Option<String>) {
    let new = headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(with);
    if let Some(value) = new.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(name, value);
    }
}

/// `text` as seen from outside, when it leads to one of the application's servers.
fn location(text: &str, app: &Application) -> Option<String> {
    let published = app.published_url.as_str();
    if text.starts_with('/') && !text.starts_with("//") {
        // A path on the server: below a backend's base path it moves below the published prefix.
        return app.backends.iter().find_map(|backend| {
            let rest = text.strip_prefix(backend.url.path())?;
            Some(format!("{}{rest}", app.prefix))
        });
    }
    let absolute = if text.starts_with("//") {
        // RFC 3986 4.2: a network-path reference takes the scheme of the page.
        Url::parse(&format!("https:{text}")).ok()?
    } else {
        Url::parse(text).ok()?
    };
    let own_host = absolute.host_str() == Some(app.host.as_str());
    let ours = app.backends.iter().find(|backend| {
        let same = absolute.host_str() == backend.url.host_str();
        let port = absolute.port_or_known_default() == backend.url.port_or_known_default();
        // A server that was told our host by `keep_host` may still think in its own scheme and port.
        (same && port) || (app.keep_host && own_host)
    })?;
    let rest = absolute
        .path()
        .strip_prefix(ours.url.path())
        .unwrap_or_else(|| absolute.path().trim_start_matches('/'));
    let mut out = format!("{published}{rest}");
    if let Some(query) = absolute.query() {
        out.push('?');
        out.push_str(query);
    }
    if let Some(fragment) = absolute.fragment() {
        out.push('#');
        out.push_str(fragment);
    }
    Some(out)
}

/// `5; url=…`
fn refresh(text: &str, app: &Application) -> Option<String> {
    let (delay, rest) = text.split_once([';', ','])?;
    let (key, url) = rest.trim_start().split_once('=')?;
    let quoted = url.trim().trim_matches(['"', '\'']);
    key.trim().eq_ignore_ascii_case("url").then_some(())?;
    Some(format!("{delay}; url={}", location(quoted, app)?))
}

/// Cookies stay on the published host and below the published prefix, and travel over TLS only.
fn cookies(headers: &mut HeaderMap, app: &Application) {
    let lines: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for line in lines {
        // SECURITY: a backend that could set our cookies could choose who somebody is.
        if is_ours(line.as_bytes().trim_ascii_start()) || line.as_bytes().trim_ascii().is_empty() {
            continue;
        }
        match line.to_str().ok().map(|text| cookie(text, app)) {
            Some(text) => {
                if let Ok(value) = HeaderValue::from_str(&text) {
                    headers.append(header::SET_COOKIE, value);
                }
            }
            // Bytes outside ASCII in a value are the backend's own affair; a Domain among them is not.
            None if !contains_ignoring_case(line.as_bytes(), b"domain") => {
                headers.append(header::SET_COOKIE, line);
            }
            None => {}
        }
    }
}

fn cookie(text: &str, app: &Application) -> String {
    let mut parts = text.split(';').map(str::trim);
    let mut out = String::from(parts.next().unwrap_or_default());
    let mut secure = false;
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            // RFC 6265 5.2.3: without Domain a cookie goes back to this host only.
            "domain" | "" => continue,
            "path" => {
                let path = cookie_path(value.trim(), app);
                out.push_str(&format!("; Path={path}"));
                continue;
            }
            "secure" => secure = true,
            _ => {}
        }
        out.push_str("; ");
        out.push_str(part);
    }
    if !secure {
        out.push_str("; Secure");
    }
    out
}

fn cookie_path(path: &str, app: &Application) -> String {
    let inside = app
        .backends
        .iter()
        .find_map(|backend| path.strip_prefix(backend.url.path()));
    match inside {
        Some(rest) => format!("{}{rest}", app.prefix),
        None => app.prefix.clone(),
    }
}

fn contains_ignoring_case(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len())
        .any(|window| window.eq_ignore_ascii_case(part))
}

const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What a backend says about its own neighbourhood.
const INTERNAL: [&str; 2] = ["x-forwarded-for", "x-forwarded-host"];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::application::Access;
    use crate::model::application::Backend;
    use crate::model::application::Limits;

    fn app(published: &str, backend: &str) -> Application {
        let published_url: Url = published.parse().unwrap();
        let second = Duration::from_secs(1);
        Application {
            id: "app".parse().unwrap(),
            name: String::from("App"),
            host: published_url.host_str().unwrap().parse().unwrap(),
            prefix: published_url.path().to_owned(),
            published_url,
            backends: vec![Backend {
                url: backend.parse().unwrap(),
                address: None,
            }],
            keep_host: false,
            access: Access::default(),
            sso: Sso::None,
            limits: Limits {
                connect: second,
                first_byte: second,
                idle: second,
                max_body: 0,
            },
            bearer_audiences: Vec::new(),
        }
    }

    fn root() -> Application {
        app("https://intranet.example.com/", "http://iis01.corp:8080/")
    }

    fn below() -> Application {
        app(
            "https://intranet.example.com/reports/",
            "https://rep.corp/base/",
        )
    }

    #[test]
    fn locations_lead_back_to_the_published_address() {
        for (app, from, to) in [
            (
                root(),
                "http://iis01.corp:8080/a?b=c#d",
                Some("https://intranet.example.com/a?b=c#d"),
            ),
            (
                root(),
                "http://iis01.corp:8080",
                Some("https://intranet.example.com/"),
            ),
            (root(), "/a", Some("/a")),
            (root(), "a/b", None),
            (root(), "https://elsewhere.example.com/a", None),
            (root(), "http://iis01.corp:9090/a", None),
            (
                below(),
                "https://rep.corp/base/x",
                Some("https://intranet.example.com/reports/x"),
            ),
            (
                below(),
                "//rep.corp/base/x",
                Some("https://intranet.example.com/reports/x"),
            ),
            (below(), "/base/x", Some("/reports/x")),
            (below(), "/other", None),
        ] {
            assert_eq!(location(from, &app).as_deref(), to, "{from}");
        }
        assert_eq!(
            refresh("0; URL=http://iis01.corp:8080/next", &root()).as_deref(),
            Some("0; url=https://intranet.example.com/next")
        );
    }

    #[test]
    fn cookies_keep_their_flags_and_lose_their_reach() {
        for (from, to) in [
            (
                "a=1; Domain=.corp; Path=/base/x; HttpOnly",
                "a=1; Path=/reports/x; HttpOnly; Secure",
            ),
            (
                "a=1; path=/; SameSite=None; secure",
                "a=1; Path=/reports/; SameSite=None; secure",
            ),
            ("a=1;; ", "a=1; Secure"),
        ] {
            assert_eq!(cookie(from, &below()), to, "{from}");
        }
    }

    #[test]
    fn a_backend_cannot_set_the_gateways_cookies() {
        let answer = Response::builder()
            .header("set-cookie", "__Host-kerbgate=stolen; Path=/")
            .header("set-cookie", " __HOST-KERBGATE-signin=x")
            .header("set-cookie", "mine=1")
            .body(())
            .unwrap();
        let answer = response(answer, &root());
        let kept: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
        assert_eq!(kept, ["mine=1; Secure"]);
    }

    #[test]
    fn challenges_and_hops_end_here() {
        let answer = Response::builder()
            .header("www-authenticate", "Negotiate oRQw")
            .header("www-authenticate", "Basic realm=\"x\"")
            .header("connection", "close, X-Hop")
            .header("x-hop", "1")
            .header("alt-svc", "h3=\":443\"")
            .header("persistent-auth", "true")
            .body(())
            .unwrap();
        let answer = response(answer, &root());
        let names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["www-authenticate", "strict-transport-security"]);
        assert_eq!(answer.headers()["www-authenticate"], "Basic realm=\"x\"");
    }
}
