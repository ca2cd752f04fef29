//! Cookies: the gateway's never go on, the application's go on unchanged and in order, and of two with our name none is
//! believed.
#![no_main]

use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;
use kerbgate_fuzz::authn::cookie_header::id;
use kerbgate_fuzz::forward::headers::scrub;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 3] = [
    "__Host-kerbgate",
    "__Host-kerbgate-signin",
    "__Host-kerbgate-form",
];

fn pairs<'a>(fields: impl Iterator<Item = &'a HeaderValue>) -> Vec<Vec<u8>> {
    fields
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .map(|pair| pair.trim_ascii().to_vec())
        .filter(|pair| !pair.is_empty())
        .collect()
}

fn is_ours(pair: &[u8]) -> bool {
    pair.to_ascii_lowercase().starts_with(b"__host-kerbgate")
}

fuzz_target!(|fields: Vec<&[u8]>| {
    let mut headers = HeaderMap::new();
    for field in fields {
        // A fuzzer does not find these by itself quickly: `$` stands for the name, `#` for an id.
        let field = String::from_utf8_lossy(field)
            .replace('$', NAMES[0])
            .replace('#', &"A".repeat(43));
        if let Ok(value) = HeaderValue::from_bytes(field.as_bytes()) {
            headers.append(COOKIE, value);
        }
    }
    let sent = pairs(headers.get_all(COOKIE).iter());
    for name in NAMES {
        let named = |pair: &&Vec<u8>| {
            pair.split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default()
                .trim_ascii_end()
                == name.as_bytes()
        };
        let count = sent.iter().filter(named).count();
        match id(&headers, name) {
            Ok(None) => assert!(count < 2),
            Ok(Some(id)) => {
                assert_eq!(count, 1);
                assert!(
                    id.len() == 43
                        && id
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                );
            }
            Err(_) => assert!(count > 1),
        }
    }
    if scrub(&mut headers, &[]).is_err() {
        return;
    }
    let left = pairs(headers.get_all(COOKIE).iter());
    let wanted: Vec<_> = sent.into_iter().filter(|pair| !is_ours(pair)).collect();
    assert_eq!(left, wanted);
    assert!(
        headers.get_all(COOKIE).iter().count() <= 1,
        "HTTP/1.1 wants one line"
    );
});
