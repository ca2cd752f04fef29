//! The plain listener's only answer: come back over TLS.

use http::Request;
use http::Response;
use http::StatusCode;
use http::header;

use super::authority::authority;
use crate::model::body::Body;
use crate::model::body::empty;

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
}
