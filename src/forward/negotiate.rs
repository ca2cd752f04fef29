//! What a backend says about Negotiate (RFC 4559 4, RFC 9110 11.6.1). Pure.

use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

/// True for a 401 that asks for Negotiate or NTLM.
#[must_use]
pub fn is_asked<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        && response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .any(|value| names_negotiate(value.as_bytes()))
}

/// The backend's own token beside an answer, for mutual authentication.
#[must_use]
pub fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(WWW_AUTHENTICATE).iter();
    values
        .find(|value| {
            let value = value.as_bytes();
            scheme(value).eq_ignore_ascii_case(b"negotiate") && value.len() > "negotiate ".len()
        })
        .cloned()
}

/// Whether the backend says that the connection stands for the person from now on: IIS with
/// `authPersistNonNTLM`, mod_auth_gssapi with `GssapiSignalPersistentAuth`.
#[must_use]
pub fn is_persistent(headers: &HeaderMap) -> bool {
    let said = headers.get("persistent-auth").map(HeaderValue::as_bytes);
    said.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"true"))
}

/// True for challenges among which is one for Negotiate or NTLM.
///
/// Several challenges may share a line, divided by commas that also divide their parameters.
#[must_use]
pub fn names_negotiate(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|challenge| {
        let scheme = scheme(challenge.trim_ascii());
        scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
    })
}

fn scheme(challenge: &[u8]) -> &[u8] {
    challenge
        .split(|byte| *byte == b' ')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_found_in_any_form() {
        for (status, value, asked) in [
            (401, "Negotiate", true),
            (401, "NEGOTIATE oRUw", true),
            (401, "Basic realm=\"a\", Negotiate", true),
            (401, "NTLM", true),
            (401, "Basic realm=\"Negotiate\"", false),
            (401, "Bearer", false),
            (200, "Negotiate oRUw", false),
        ] {
            let response = Response::builder()
                .status(status)
                .header(WWW_AUTHENTICATE, value)
                .body(())
                .unwrap();
            assert_eq!(is_asked(&response), asked, "{status} {value}");
        }
        let headers =
            |value| HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(value))]);
        assert!(token(&headers("Negotiate oRUw")).is_some());
        assert!(token(&headers("Negotiate")).is_none());
    }
}
