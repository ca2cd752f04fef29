//! What a gRPC client is told when the gateway itself ends its call.
//!
//! In: a refusal as everybody else would get it. Out: the same as a gRPC answer. Specification: gRPC's
//! `doc/PROTOCOL-HTTP2.md` ("Trailers-Only") and `doc/http-grpc-status-mapping.md`.
//!
//! # Why
//!
//! A gRPC client that meets another HTTP status makes a gRPC status of it by the second document, and throws the
//! rest away: the person reads "401" and nobody knows why. So the gateway makes the same status by the same table
//! and says the reason code and the request id in `grpc-message`, which every client shows. Envoy does the same.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::request::Parts;

use crate::model::body;
use crate::model::body::Body;
use crate::pipeline::trace::Trace;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// True for a gRPC call: over HTTP/2, of a type of its family. gRPC-Web, which browsers speak, is not it.
#[must_use]
pub(super) fn is_call<T>(request: &http::Request<T>) -> bool {
    is(request.version(), request.headers())
}

/// The same of a request's head.
#[must_use]
pub(super) fn is_call_head(head: &Parts) -> bool {
    is(head.version, &head.headers)
}

fn is(version: Version, headers: &HeaderMap) -> bool {
    if version != Version::HTTP_2 {
        return false;
    }
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Makes a refusal one that a gRPC client understands. Its other headers stay.
pub(super) fn refusal(response: Response<Body>, trace: &Trace) -> Response<Body> {
    told(response, trace.access.why, &trace.access.request_id)
}

fn told(mut response: Response<Body>, why: &str, request_id: &str) -> Response<Body> {
    let status = status(response.status());
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = body::empty();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(STATUS, HeaderValue::from(status));
    // Both are letters, digits and hyphens: nothing needs the percent encoding.
    let message = format!("the gateway ended the call: {why} (request {request_id})");
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(MESSAGE, message);
    }
    response
}

/// `doc/http-grpc-status-mapping.md`.
const fn status(http: StatusCode) -> u16 {
    match http.as_u16() {
        // INTERNAL
        400 => 13,
        // UNAUTHENTICATED
        401 => 16,
        // PERMISSION_DENIED
        403 => 7,
        // UNIMPLEMENTED
        404 => 12,
        // UNAVAILABLE
        429 | 502..=504 => 14,
        // UNKNOWN
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn calls_are_known_by_version_and_type() {
        for (version, kind, wanted) in [
            (Version::HTTP_2, "application/grpc", true),
            (Version::HTTP_2, "application/grpc+proto", true),
            (Version::HTTP_2, "application/grpc;charset=utf-8", true),
            (Version::HTTP_2, "application/grpc-web", false),
            (Version::HTTP_2, "application/json", false),
            (Version::HTTP_11, "application/grpc", false),
        ] {
            let mut request = http::Request::new(());
            *request.version_mut() = version;
            let value = HeaderValue::from_static(kind);
            request.headers_mut().insert(header::CONTENT_TYPE, value);
            assert_eq!(is_call(&request), wanted, "{version:?} {kind}");
        }
    }

    #[test]
    fn a_refusal_is_trailers_only() {
        for (http, grpc) in [
            (401, "16"),
            (403, "7"),
            (404, "12"),
            (400, "13"),
            (503, "14"),
            (429, "14"),
            (500, "2"),
        ] {
            let mut page = Response::new(body::full("{}"));
            *page.status_mut() = StatusCode::from_u16(http).unwrap();
            let reason = HeaderValue::from_static("no-session");
            page.headers_mut().insert("kerbgate-reason", reason);
            let answer = told(page, "no-session", "ab12");
            assert_eq!(answer.status(), 200);
            assert!(answer.body().is_end_stream());
            assert_eq!(answer.headers()["grpc-status"], grpc);
            assert_eq!(
                answer.headers()["grpc-message"],
                "the gateway ended the call: no-session (request ab12)"
            );
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            assert_eq!(answer.headers()["kerbgate-reason"], "no-session");
        }
    }
}
