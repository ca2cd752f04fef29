//! What a client may not say is gone, however it is spelled; what is the application's stays, byte for byte.
#![no_main]

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use kerbgate_fuzz::forward::headers::declared_trailers;
use kerbgate_fuzz::forward::headers::scrub;
use libfuzzer_sys::fuzz_target;

const IDENTITY: [&str; 3] = ["x-user", "sap_user", "remote-groups"];

/// As CGI variables are made: whatever is neither letter nor digit becomes the same character.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn is_forbidden(name: &str) -> bool {
    const NAMES: [&str; 22] = [
        "x-user",
        "sap-user",
        "remote-groups",
        "authorization",
        "auth-user",
        "remote-user",
        "x-remote-user",
        "x-remote-groups",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-user",
        "forwarded",
        "via",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "kerbgate-jwt-assertion",
        "connection",
        "upgrade",
        "transfer-encoding",
        "content-length",
    ];
    NAMES.contains(&&*folded(name))
}

fuzz_target!(|lines: Vec<(&str, &[u8])>| {
    let mut headers = HeaderMap::new();
    for (name, value) in &lines {
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value),
        ) else {
            continue;
        };
        if headers.try_append(name, value).is_err() {
            return;
        }
    }
    let before = headers.clone();
    let identity = IDENTITY.map(HeaderName::from_static);
    let identity: Vec<&HeaderName> = identity.iter().collect();
    for name in declared_trailers(&headers, &identity) {
        assert!(
            !is_forbidden(name.as_str()) && !name.as_str().contains('_'),
            "trailer {name}"
        );
    }
    if scrub(&mut headers, &identity).is_err() {
        assert!(
            before.contains_key("connection"),
            "only a Connection header is refused"
        );
        return;
    }
    for name in headers.keys() {
        assert!(
            !name.as_str().contains('_') && !is_forbidden(name.as_str()),
            "{name}"
        );
    }
    for (name, value) in &headers {
        if name != "cookie" {
            assert!(
                before.get_all(name).iter().any(|sent| sent == value),
                "{name} was made up"
            );
        }
    }
    // Twice is once.
    let once = headers.clone();
    assert!(scrub(&mut headers, &identity).is_ok());
    assert_eq!(once, headers);
});
