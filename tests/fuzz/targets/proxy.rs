//! The PROXY header: never a byte behind it, never an end without progress, the same verdict however the bytes arrive.
#![no_main]

use kerbgate_fuzz::listener::proxy_header::Header;
use kerbgate_fuzz::listener::proxy_header::LONGEST_REST_V2;
use kerbgate_fuzz::listener::proxy_header::parse;
use libfuzzer_sys::fuzz_target;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// As a connection is read: only as many bytes as were asked for.
fn step_by_step(bytes: &[u8]) -> Option<Header> {
    let mut have = 0;
    loop {
        match parse(bytes.get(..have)?).ok()? {
            Header::More(more) => {
                assert!(more > 0 && have + more <= 16 + LONGEST_REST_V2);
                have += more;
            }
            whole @ Header::Whole { length, .. } => {
                assert_eq!(length, have, "bytes behind the header were asked for");
                return Some(whole);
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = data.split_first().unwrap_or((&0, &[]));
    let bytes = match kind % 3 {
        0 => data.to_vec(),
        1 => [b"PROXY ", rest].concat(),
        _ => [SIGNATURE, rest].concat(),
    };
    let at_once = match parse(&bytes) {
        Ok(whole @ Header::Whole { source, length }) => {
            assert!(length <= bytes.len());
            // RFC 4291 2.5.5.2: one address has one form, or address rules have two.
            assert!(source.is_none_or(|source| source.ip() == source.ip().to_canonical()));
            assert_eq!(parse(&bytes[..length]), Ok(whole));
            for less in 0..length {
                assert!(
                    matches!(parse(&bytes[..less]), Ok(Header::More(_))),
                    "{less} of {length}"
                );
            }
            Some(whole)
        }
        Ok(Header::More(_)) | Err(_) => None,
    };
    assert_eq!(step_by_step(&bytes), at_once);
});
