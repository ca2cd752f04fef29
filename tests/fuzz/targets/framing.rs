//! Where HTTP/1 messages end: the verdict does not depend on how the network cut the bytes, and a second reader, written
//! differently, finds the same number of requests.
#![no_main]

use kerbgate_fuzz::listener::framing::Framing;
use kerbgate_fuzz::listener::framing::Refusal;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

/// Bytes from 0x80 on stand for these: a fuzzer seldom writes a whole request.
const WORDS: [&str; 12] = [
    "GET / HTTP/1.1\r\n",
    "POST /a HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "Content-Length: 5\r\n",
    "content-length:",
    "Transfer-Encoding: chunked\r\n",
    "TRANSFER-ENCODING:",
    "\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "hello",
    "A: b\r\n",
];

fn spelled_out(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in data {
        match byte
            .checked_sub(0x80)
            .and_then(|at| WORDS.get(usize::from(at)))
        {
            Some(word) => bytes.extend_from_slice(word.as_bytes()),
            None => bytes.push(*byte),
        }
    }
    bytes
}

/// Every request that stands completely in `bytes`, read in the plain way: up to the empty line, then the body. `None`
/// where this reader cannot follow.
fn requests(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let mut count = 0;
    loop {
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Some(count);
        };
        let head = std::str::from_utf8(&rest[..end]).ok()?.to_ascii_lowercase();
        rest = &rest[end + 4..];
        let value = |name: &str| {
            head.split("\r\n")
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        match (value("content-length:"), value("transfer-encoding:")) {
            (None, None) => {}
            (Some(length), None) => match rest.get(length.parse().ok()?..) {
                Some(after) => rest = after,
                None => return Some(count),
            },
            (None, Some("chunked")) => match after_chunks(rest) {
                Some(after) => rest = after,
                None => return Some(count),
            },
            (_, Some(_)) => panic!("two lengths or an unknown coding got through: {head}"),
        }
        count += 1;
    }
}

fn after_chunks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        // An extension may hold any bytes (RFC 9112 7.1.1, obs-text in quotes); only what is before it counts.
        let size = rest[..end].split(|byte| *byte == b';').next()?;
        let size = std::str::from_utf8(size).ok()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        rest = &rest[end + 2..];
        if end == 0 {
            return Some(rest);
        }
    }
}

/// The verdict, the requests that ended (true of single bytes only), and whether nothing is left open.
fn read(parts: impl Iterator<Item = Vec<u8>>) -> (Option<Refusal>, usize, bool) {
    let mut framing = Framing::new(LIMIT);
    let (mut count, mut begun) = (0, false);
    for part in parts {
        if let Err(refused) = framing.inspect(&part) {
            assert!(refused.sound <= part.len());
            return (Some(refused.why), count, false);
        }
        let between = framing.at_head() && !framing.within_head();
        if between && begun {
            count += 1;
        }
        // An empty line between two requests begins none.
        begun = !between && (begun || part != b"\r");
    }
    (None, count, framing.at_head() && !framing.within_head())
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let bytes = &spelled_out(data)[..];
    let single = read(bytes.iter().map(|byte| vec![*byte]));
    let whole = read(std::iter::once(bytes.to_vec()));
    let parts = read(bytes.chunks(usize::from(*cut).max(2)).map(<[u8]>::to_vec));
    assert_eq!(single.0, whole.0);
    assert_eq!(single.0, parts.0);
    assert_eq!(single.2, whole.2);
    assert_eq!(single.2, parts.2);
    if single.0.is_none() {
        if let Some(count) = requests(bytes) {
            assert_eq!(count, single.1, "requests");
        }
    }
});
