//! What kind of request is it: a page that a person navigates to, a form, or something that a program reads?
//!
//! A redirect to the sign-in helps the first only; a script would follow it into a CORS error (the commonest complaint
//! about gateways of this kind). Decided by Fetch Metadata (W3C), then `X-Requested-With`, then `Accept`.

use http::HeaderMap;
use http::HeaderName;
use http::Method;
use http::header;
use http::header::AsHeaderName;
use http::request::Parts;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A page, by navigating to it: may be sent to the sign-in.
    Page,
    /// A page, by sending a form: must not be redirected, the form would be lost without a word.
    Form,
    /// Data for a program: gets 401 and JSON.
    Data,
}

impl Asks {
    /// Reads it from the request's head.
    #[must_use]
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let navigates = navigates(headers);
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match (navigates, reads) {
            (true, true) => Self::Page,
            (true, false) => Self::Form,
            (false, _) => Self::Data,
        }
    }
}

/// True when a person looks at the answer: a refusal is then a page, otherwise JSON.
#[must_use]
pub fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    Asks::of(method, headers) != Asks::Data
}

fn navigates(headers: &HeaderMap) -> bool {
    // A prefetch would begin a sign-in that nobody asked for.
    if headers.contains_key(header::UPGRADE) || text(headers, SEC_PURPOSE).is_some() {
        return false;
    }
    if let Some(mode) = text(headers, SEC_FETCH_MODE) {
        let dest = text(headers, SEC_FETCH_DEST).unwrap_or("document");
        return mode == "navigate" && matches!(dest, "document" | "iframe" | "frame");
    }
    if headers.contains_key(X_REQUESTED_WITH) {
        return false;
    }
    takes_html(headers)
}

/// True when the answer may be a page.
pub(super) fn takes_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(accepts_html)
}

fn accepts_html(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let html = kind.eq_ignore_ascii_case("text/html")
        || kind.eq_ignore_ascii_case("application/xhtml+xml");
    // RFC 9110 12.4.2: weight 0 means "not acceptable".
    html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
}

/// True when the request must not be trusted with a session: it changes something, or opens a socket, and comes from
/// another site's page. Sockets may also come from `socket_origins`. `own_origin` is only asked for where it matters.
#[must_use]
pub fn is_foreign(
    head: &Parts,
    socket_origins: &[String],
    own_origin: impl FnOnce() -> String,
) -> bool {
    let upgrade = head.headers.get(header::UPGRADE);
    let reads = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && upgrade.is_none() {
        return false;
    }
    let origin = text(&head.headers, header::ORIGIN.as_str());
    // SECURITY: a page of any site may open a socket to us and read what comes; nothing but its Origin tells (RFC 6455
    // 10.2). Browsers always send one, so a session without it is no browser's: programs bring access tokens.
    if upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return !origin.is_some_and(|origin| {
            socket_origins.iter().any(|listed| listed == origin) || origin == own_origin()
        });
    }
    // SECURITY: `SameSite=Lax` does not hold against a hostile sibling under the same registrable domain.
    match text(&head.headers, SEC_FETCH_SITE) {
        // Also with `Origin: null`, which a page with `Referrer-Policy: no-referrer` sends to itself.
        Some("same-origin" | "none") => false,
        Some(_) => origin != Some(&own_origin()),
        None => origin.is_some_and(|origin| origin != own_origin()),
    }
}

/// True when a page of the application itself provably sent the request.
#[must_use]
pub fn is_own(head: &Parts, own_origin: &str) -> bool {
    let origin = text(&head.headers, header::ORIGIN.as_str());
    match text(&head.headers, SEC_FETCH_SITE) {
        Some(site) => {
            site == "same-origin" && origin.is_none_or(|o| o == own_origin || o == "null")
        }
        None => origin == Some(own_origin),
    }
}

/// The value of a header that must come once; anything else counts as absent.
pub(super) fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

pub(super) const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
pub(super) const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn pages_forms_and_data_are_told_apart() {
        const HTML: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
        let cases: &[(&str, Headers, Asks)] = &[
            (
                "GET",
                &[
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                Asks::Page,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                Asks::Page,
            ),
            ("HEAD", &[("sec-fetch-mode", "navigate")], Asks::Page),
            (
                "POST",
                &[
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                Asks::Form,
            ),
            (
                "GET",
                &[
                    ("sec-fetch-mode", "cors"),
                    ("sec-fetch-dest", "empty"),
                    ("accept", HTML),
                ],
                Asks::Data,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
                Asks::Data,
            ),
            (
                "GET",
                &[
                    ("sec-fetch-mode", "same-origin"),
                    ("sec-fetch-dest", "empty"),
                ],
                Asks::Data,
            ),
            (
                "GET",
                &[
                    ("sec-fetch-mode", "websocket"),
                    ("sec-fetch-dest", "websocket"),
                ],
                Asks::Data,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "object")],
                Asks::Data,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-purpose", "prefetch")],
                Asks::Data,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("upgrade", "websocket")],
                Asks::Data,
            ),
            (
                "GET",
                &[("x-requested-with", "XMLHttpRequest"), ("accept", HTML)],
                Asks::Data,
            ),
            (
                "POST",
                &[("x-requested-with", "XMLHttpRequest"), ("accept", HTML)],
                Asks::Data,
            ),
            ("GET", &[("accept", HTML)], Asks::Page),
            ("GET", &[("accept", "TEXT/HTML")], Asks::Page),
            ("POST", &[("accept", HTML)], Asks::Form),
            (
                "GET",
                &[("accept", "text/html;q=0, application/json")],
                Asks::Data,
            ),
            ("GET", &[("accept", "application/json")], Asks::Data),
            ("GET", &[("accept", "*/*")], Asks::Data),
            ("GET", &[], Asks::Data),
            ("OPTIONS", &[("accept", "*/*")], Asks::Data),
        ];
        for (method, headers, wanted) in cases {
            let head = head(method, headers);
            let asks = Asks::of(&head.method, &head.headers);
            assert_eq!(asks, *wanted, "{method} {headers:?}");
        }
    }

    #[test]
    fn changes_from_other_sites_are_foreign() {
        const OWN: &str = "https://wiki.example.com:8443";
        const LISTED: &str = "https://portal.example";
        let cases: &[(&str, Headers, bool)] = &[
            (
                "POST",
                &[("sec-fetch-site", "same-origin"), ("origin", OWN)],
                false,
            ),
            (
                "POST",
                &[("sec-fetch-site", "same-origin"), ("origin", "null")],
                false,
            ),
            ("POST", &[("sec-fetch-site", "none")], false),
            (
                "POST",
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://evil.example"),
                ],
                true,
            ),
            ("POST", &[("sec-fetch-site", "cross-site")], true),
            (
                "POST",
                &[
                    ("sec-fetch-site", "same-site"),
                    ("origin", "https://evil.example.com"),
                ],
                true,
            ),
            ("DELETE", &[("origin", "https://evil.example")], true),
            ("POST", &[("origin", "null")], true),
            ("POST", &[("origin", "https://wiki.example.com")], true),
            ("POST", &[("origin", OWN)], false),
            ("PUT", &[], false),
            (
                "GET",
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            (
                "GET",
                &[("upgrade", "websocket"), ("origin", "https://evil.example")],
                true,
            ),
            ("GET", &[("upgrade", "websocket"), ("origin", OWN)], false),
            (
                "GET",
                &[("upgrade", "WebSocket"), ("origin", LISTED)],
                false,
            ),
            ("POST", &[("origin", LISTED)], true),
            ("GET", &[("upgrade", "websocket")], true),
            (
                "GET",
                &[("upgrade", "websocket"), ("sec-fetch-site", "same-origin")],
                true,
            ),
        ];
        for (method, headers, wanted) in cases {
            assert_eq!(
                is_foreign(&head(method, headers), &[LISTED.to_owned()], || OWN
                    .to_owned()),
                *wanted,
                "{method} {headers:?}"
            );
        }
    }
}
