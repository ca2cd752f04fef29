//! The one reading of a request's target: normal once is normal for ever, and everybody agrees on what lies below a prefix.
#![no_main]

use http::Uri;
use kerbgate_fuzz::route::target::Target;
use libfuzzer_sys::fuzz_target;

const PREFIXES: [&str; 5] = ["/", "/a/", "/admin/", "/a/B/", "/.kerbgate/"];

fn parse(text: &str) -> Option<Target> {
    Target::parse(&text.parse::<Uri>().ok()?).ok()
}

/// As a careless backend reads it: decoded again and again.
fn decoded(segment: &str) -> Vec<u8> {
    let mut bytes = segment.as_bytes().to_vec();
    while let Some(at) = (0..bytes.len()).find(|at| escape(&bytes[*at..]).is_some()) {
        let byte = escape(&bytes[at..]).unwrap_or_default();
        bytes.splice(at..at + 3, [byte]);
    }
    bytes
}

fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

fuzz_target!(|text: &str| {
    let Some(target) = parse(text) else { return };
    let path = target.path();
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', '#', '?']));
    for segment in path.split('/') {
        // Once decoded; a second decoding is the application's own doing (`%252e`).
        if !segment.contains("%25") {
            let decoded = decoded(segment);
            assert!(!matches!(&decoded[..], b"." | b".."), "{path}");
            assert!(
                !decoded.starts_with(b"..;") && !decoded.starts_with(b".;"),
                "{path}"
            );
            assert!(
                !decoded
                    .iter()
                    .any(|byte| matches!(byte, b'/' | b'\\' | 0..=31)),
                "{path}"
            );
        }
    }
    // What is sent is what was decided on: read again, it is the same.
    let again = parse(target.as_str());
    assert_eq!(again.as_ref(), Some(&target), "{text}");
    // The query decides nothing.
    assert_eq!(
        parse(path).map(|bare| bare.path().to_owned()).as_deref(),
        Some(path)
    );
    for prefix in PREFIXES {
        let Some(rest) = target.under(prefix) else {
            continue;
        };
        assert!(path.ends_with(rest) && (rest.is_empty() || rest.starts_with('/')));
        // Below another prefix it is still what it was: it never climbs out.
        let moved = format!("/backend{rest}");
        assert_eq!(
            parse(&moved).map(|moved| moved.as_str().to_owned()),
            Some(moved)
        );
        // No spelling of case escapes a rule.
        let shouted = parse(&path.to_ascii_uppercase());
        assert!(
            shouted.is_some_and(|target| target.under(prefix).is_some()),
            "{path} {prefix}"
        );
    }
});
