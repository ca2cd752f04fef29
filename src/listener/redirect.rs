//! The plain listener's answers: come back over TLS; and, to an authority, the proof that a host is ours (RFC 8555 8.3).

use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;

use super::authority::authority;
use crate::model::body::Body;
use crate::model::body::empty;
use crate::model::body::full;

/// Sends a client to the same target over TLS, if `published` knows the host's TLS port.
///
/// 308 keeps method and body; nothing of the request is read, and nothing but the target goes back.
pub fn to_https<B>(
    request: &Request<B>,
    published: impl Fn(&str) -> Option<u16>,
) -> Response<Body> {
    let Ok(host) = authority(request) else {
        return answer(StatusCode::BAD_REQUEST, None);
    };
    // SECURITY: only published hosts, or a link to us could lead anywhere.
    let Some(port) = published(&host.host) else {
        return answer(StatusCode::NOT_FOUND, None);
    };
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    if !target.starts_with('/') {
        return answer(StatusCode::BAD_REQUEST, None);
    }
    let host = host.host;
    let location = if port == 443 {
        format!("https://{host}{target}")
    } else {
        format!("https://{host}:{port}{target}")
    };
    answer(StatusCode::PERMANENT_REDIRECT, Some(&location))
}

/// The host and the token of an HTTP-01 challenge, if that is what `request` asks for (RFC 8555 8.3).
pub fn challenge<B>(request: &Request<B>) -> Option<(String, String)> {
    let token = request.uri().path().strip_prefix(CHALLENGE)?;
    // RFC 8555 8.1: base64url; a real one has 22 characters or more.
    let sound = (1..=256).contains(&token.len())
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let read_only = matches!(*request.method(), Method::GET | Method::HEAD);
    (sound && read_only).then_some(())?;
    Some((authority(request).ok()?.host, token.to_owned()))
}

/// The answer to a challenge: what was kept for it, or nothing at all.
///
/// SECURITY: never made from what the request says: the right answer holds the token, and whoever could have a token
/// of their own choice confirmed could have a certificate for the host.
#[must_use]
pub fn proof(kept: Option<String>) -> Response<Body> {
    let Some(kept) = kept else {
        return answer(StatusCode::NOT_FOUND, None);
    };
    let mut response = Response::new(full(kept));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

const CHALLENGE: &str = "/.well-known/acme-challenge/";

fn answer(status: StatusCode, location: Option<&str>) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    if let Some(location) = location.and_then(|location| location.parse().ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_published_hosts_are_led_on() {
        let led = |host: &str, uri: &str| {
            let request = Request::builder()
                .uri(uri)
                .header(header::HOST, host)
                .body(())
                .unwrap();
            let response = to_https(&request, |host| (host == "a.example").then_some(8443));
            let location = response.headers().get(header::LOCATION).cloned();
            (
                response.status().as_u16(),
                location.map(|value| value.to_str().unwrap().to_owned()),
            )
        };
        let to = |location: &str| (308, Some(location.to_owned()));
        assert_eq!(
            led("A.example:80", "//evil/x?y=1"),
            to("https://a.example:8443//evil/x?y=1")
        );
        assert_eq!(led("evil.example", "/"), (404, None));
        assert_eq!(led("a.example", "http://evil.example/"), (400, None));
        assert_eq!(led("a.example", "*"), (400, None));
    }

    #[test]
    fn a_challenge_is_told_from_everything_else() {
        let asked = |method: &str, uri: &str| {
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .header(header::HOST, "A.example:80")
                .body(())
                .unwrap();
            challenge(&request)
        };
        let path = |token: &str| format!("/.well-known/acme-challenge/{token}");
        let found = Some((String::from("a.example"), String::from("aB3-_")));
        assert_eq!(asked("GET", &path("aB3-_")), found);
        assert_eq!(asked("GET", &path("aB3-_?x=1")), found);
        assert_eq!(asked("POST", &path("aB3-_")), None);
        for token in ["", "a/b", "a.b", "..", "%41", "a%2fb", &"a".repeat(257)] {
            assert_eq!(asked("GET", &path(token)), None, "{token}");
        }
        assert_eq!(asked("GET", "/.well-known/acme-challengeX/a"), None);
        assert_eq!(proof(None).status(), 404);
    }
}
