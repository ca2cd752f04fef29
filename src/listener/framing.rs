//! The strict reading of HTTP/1 message framing, before the HTTP parser sees a byte.
//!
//! hyper forgives what RFC 9112 allows to be forgiven: with both `Transfer-Encoding` and
//! `Content-Length` it silently drops the latter, it takes a bare LF for a line end, it reads past
//! an empty line. Each of these is one half of a smuggled request. After its parser ran the evidence
//! is gone, so a small state machine reads the same bytes first and knows one thing only: where each
//! message ends. Whatever could be read in two ways it refuses, so that what passes has exactly one
//! reading.

use memchr::memchr;
use thiserror::Error;

/// Why bytes of a client were refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// RFC 9112 2.2: a line ends with CR LF and neither stands alone.
    #[error("a bare CR or LF in a request")]
    LineEnding,
    /// RFC 9112 3: `method SP target SP HTTP/1.x`.
    #[error("a malformed request line")]
    RequestLine,
    /// RFC 9112 3.2: a fragment is no part of a request target.
    #[error("a fragment in the request target")]
    Fragment,
    /// RFC 9112 5.2.
    #[error("a folded header line")]
    Folding,
    /// RFC 9112 5.1: a token, directly followed by the colon.
    #[error("a malformed header name")]
    HeaderName,
    /// RFC 9110 5.5.
    #[error("a control character in a header value")]
    HeaderValue,
    /// RFC 9112 6.3: one length, in digits.
    #[error("a malformed or repeated Content-Length")]
    ContentLength,
    /// RFC 9112 6.1 and 7: the one coding we speak.
    #[error("a Transfer-Encoding other than exactly chunked")]
    TransferEncoding,
    /// RFC 9112 6.3: the classic beginning of a smuggled request.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// RFC 9112 6.1: HTTP/1.0 knows no transfer codings.
    #[error("a Transfer-Encoding in an HTTP/1.0 request")]
    OldTransferEncoding,
    /// RFC 9112 7.1.
    #[error("malformed chunked framing")]
    Chunk,
    /// Longer than a head may be, or of more fields.
    #[error("a request head above the limit")]
    TooLarge,
}

/// Bytes that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How many of the inspected bytes stand before the line that was refused.
    pub sound: usize,
    /// Why.
    pub why: Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two requests.
    Start,
    Headers,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

#[derive(Debug, Default)]
struct Lengths {
    old: bool,
    content_length: Option<u64>,
    chunked: bool,
}

/// Where in which message of a connection the last inspected byte stands.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// A line whose end has not arrived.
    line: Vec<u8>,
    /// Bytes of the current head or trailer section.
    section: usize,
    /// Lines of it.
    fields: usize,
    limit: usize,
    lengths: Lengths,
}

/// No sender needs more for a chunk's size, and extensions are ignored.
const LONGEST_CHUNK_LINE: usize = 1024;

/// What hyper's parser takes.
const MOST_FIELDS: usize = 100;

impl Framing {
    /// At the beginning of a connection; no head or trailer section may be longer than `limit`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            state: State::Start,
            line: Vec::new(),
            section: 0,
            fields: 0,
            limit,
            lengths: Lengths::default(),
        }
    }

    /// True while a request's head has begun to arrive and is not complete.
    #[must_use]
    pub fn within_head(&self) -> bool {
        match self.state {
            State::Start => !self.line.is_empty(),
            State::Headers => true,
            State::Body(_)
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers => false,
        }
    }

    /// True when everything that began has ended.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Start) && self.line.is_empty()
    }

    /// True when what is refused now belongs to a request's head.
    #[must_use]
    pub const fn at_head(&self) -> bool {
        matches!(self.state, State::Start | State::Headers)
    }

    /// Reads on.
    ///
    /// # Errors
    /// The first line that HTTP forbids or that could be read in two ways.
    pub fn inspect(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sound = bytes.len() - rest.len();
            let refused = |why| Refused { sound, why };
            rest = match self.state {
                State::Body(left) => self.skip(left, rest, State::Body, State::Start),
                State::ChunkData(left) => self.skip(left, rest, State::ChunkData, State::ChunkEnd),
                State::Start
                | State::Headers
                | State::ChunkSize
                | State::ChunkEnd
                | State::Trailers => self.take_line(rest).map_err(refused)?,
            };
        }
        Ok(())
    }

    /// Passes over content of which `left` bytes are to come.
    fn skip<'a>(
        &mut self,
        left: u64,
        bytes: &'a [u8],
        within: fn(u64) -> State,
        after: State,
    ) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.state = match left - here as u64 {
            0 => after,
            left => within(left),
        };
        bytes.get(here..).unwrap_or_default()
    }

    /// Reads up to the end of one line, or all there is when the end has not arrived.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let end = memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        self.count(part.len())?;
        if end.is_none() {
            self.line.extend_from_slice(part);
            return Ok(rest);
        }
        if self.line.is_empty() {
            self.line(part)?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part);
            self.line(&line)?;
            line.clear();
            self.line = line; // keeps its capacity for the next split line
        }
        Ok(rest)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        match self.state {
            State::ChunkSize | State::ChunkEnd => {
                if self.line.len() + bytes > LONGEST_CHUNK_LINE {
                    return Err(Refusal::Chunk);
                }
            }
            State::Start
            | State::Headers
            | State::Trailers
            | State::Body(_)
            | State::ChunkData(_) => {
                self.section += bytes;
                if self.section > self.limit {
                    return Err(Refusal::TooLarge);
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        // RFC 9112 2.2: a recipient may take a bare LF for a line end. SECURITY: one that does, in
        // front of one that does not, sees other headers than it.
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(Refusal::LineEnding);
        };
        if memchr(b'\r', line).is_some() {
            return Err(Refusal::LineEnding);
        }
        match self.state {
            // RFC 9112 2.2: an empty line before a request line is ignored.
            State::Start if line.is_empty() => Ok(()),
            State::Start => {
                self.lengths = Lengths {
                    old: request_line(line)?,
                    ..Lengths::default()
                };
                self.state = State::Headers;
                Ok(())
            }
            State::Headers if line.is_empty() => self.head_ends(),
            State::Headers => self.header(line),
            State::ChunkSize => {
                let size = chunk_size(line)?;
                self.state = if size == 0 {
                    self.section = 0;
                    State::Trailers
                } else {
                    State::ChunkData(size)
                };
                Ok(())
            }
            State::ChunkEnd if line.is_empty() => {
                self.state = State::ChunkSize;
                Ok(())
            }
            State::ChunkEnd => Err(Refusal::Chunk),
            State::Trailers if line.is_empty() => {
                self.start();
                Ok(())
            }
            State::Trailers => field(line).map(|_| ()),
            State::Body(_) | State::ChunkData(_) => Err(Refusal::Chunk),
        }
    }

    fn start(&mut self) {
        self.state = State::Start;
        self.section = 0;
        self.fields = 0;
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > MOST_FIELDS {
            return Err(Refusal::TooLarge);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = digits(value).ok_or(Refusal::ContentLength)?;
            // RFC 9112 6.3: equal repetitions may be merged; no client sends them, so none pass.
            if self.lengths.content_length.replace(length).is_some() {
                return Err(Refusal::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.lengths.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferEncoding);
            }
            self.lengths.chunked = true;
        }
        Ok(())
    }

    fn head_ends(&mut self) -> Result<(), Refusal> {
        let Lengths {
            old,
            content_length,
            chunked,
        } = self.lengths;
        // RFC 9112 6.3: "ought to be handled as an error".
        if chunked && content_length.is_some() {
            return Err(Refusal::TwoLengths);
        }
        // RFC 9112 6.1: "faulty framing", the connection closes.
        if chunked && old {
            return Err(Refusal::OldTransferEncoding);
        }
        self.start();
        if chunked {
            self.state = State::ChunkSize;
        } else if let Some(length) = content_length.filter(|length| *length > 0) {
            self.state = State::Body(length);
        }
        Ok(())
    }
}

/// True for HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(|byte| is_visible(*byte)) {
        return Err(Refusal::RequestLine);
    }
    if target.contains(&b'#') {
        return Err(Refusal::Fragment);
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Refusal::RequestLine),
    }
}

/// Name and value of a field line.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    // RFC 9112 5.2: obs-fold is refused or replaced; refused.
    if line
        .first()
        .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Err(Refusal::Folding);
    }
    let colon = memchr(b':', line).ok_or(Refusal::HeaderName)?;
    let (name, value) = line.split_at(colon);
    // RFC 9112 5.1: white space between name and colon is answered with 400; a token has none.
    if !is_token(name) {
        return Err(Refusal::HeaderName);
    }
    let value = value.get(1..).unwrap_or_default();
    // Without an early end, which would keep the compiler from looking at many bytes at a time: browsers send a kilobyte.
    let sound = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if !value.iter().fold(true, |all, byte| all & sound(*byte)) {
        return Err(Refusal::HeaderValue);
    }
    Ok((name, trim(value)))
}

fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let mut parts = line.splitn(2, |byte| *byte == b';');
    let size = parts.next().unwrap_or_default();
    // RFC 9112 7.1.1: white space before an extension's semicolon is "bad", but allowed.
    let size = if parts.next().is_some() {
        trim(size)
    } else {
        size
    };
    if size.is_empty() || size.len() > 15 || !size.iter().all(u8::is_ascii_hexdigit) {
        return Err(Refusal::Chunk);
    }
    if line
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(Refusal::Chunk);
    }
    std::str::from_utf8(size)
        .ok()
        .and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or(Refusal::Chunk)
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(from) = value.iter().position(|byte| !blank(byte)) else {
        return &[];
    };
    let to = value.iter().rposition(|byte| !blank(byte)).unwrap_or(from);
    value.get(from..=to).unwrap_or_default()
}

const fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

#[expect(clippy::indexing_slicing, reason = "a table of all bytes")]
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// RFC 9110 5.6.2.
#[expect(clippy::indexing_slicing, reason = "made by the compiler")]
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        table[byte as usize] = matches!(
            byte,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
                | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(), Refusal> {
        Framing::new(65_536)
            .inspect(bytes)
            .map_err(|refused| refused.why)
    }

    #[test]
    fn sound_requests_pass_and_end_where_they_end() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.0\r\n\r\n",
            b"POST /a HTTP/1.1\r\ncontent-length:  5 \r\n\r\n\r\n\n\r\rGET / HTTP/1.1\r\n\r\n",
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nx\ny\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"PUT / HTTP/1.1\r\nA:\r\nB: \xff\t\r\ncontent-length: 0\r\n\r\n",
        ] {
            let mut framing = Framing::new(65_536);
            assert_eq!(framing.inspect(bytes), Ok(()), "{}", bytes.escape_ascii());
            assert_eq!(framing.state, State::Start, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        use Refusal as R;
        for (head, why) in [
            (
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                R::TwoLengths,
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                R::TwoLengths,
            ),
            (
                "Content-Length: 4\r\nContent-Length: 5\r\n",
                R::ContentLength,
            ),
            (
                "Content-Length: 4\r\nContent-Length: 4\r\n",
                R::ContentLength,
            ),
            ("Content-Length: 4, 4\r\n", R::ContentLength),
            ("Content-Length: +4\r\n", R::ContentLength),
            ("Content-Length: 0x4\r\n", R::ContentLength),
            ("Content-Length: \r\n", R::ContentLength),
            ("Content-Length: 99999999999999999999\r\n", R::ContentLength),
            ("Transfer-Encoding: identity\r\n", R::TransferEncoding),
            ("Transfer-Encoding: gzip, chunked\r\n", R::TransferEncoding),
            (
                "Transfer-Encoding: chunked, chunked\r\n",
                R::TransferEncoding,
            ),
            ("Transfer-Encoding: \"chunked\"\r\n", R::TransferEncoding),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                R::TransferEncoding,
            ),
            ("Transfer-Encoding: xchunked\r\n", R::TransferEncoding),
            ("Transfer-Encoding:\x0bchunked\r\n", R::HeaderValue),
            ("Transfer-Encoding : chunked\r\n", R::HeaderName),
            ("Transfer-Encoding\t: chunked\r\n", R::HeaderName),
            (" Transfer-Encoding: chunked\r\n", R::Folding),
            ("A: b\r\n\tc\r\n", R::Folding),
            ("A: b\nC: d\r\n", R::LineEnding),
            ("A: b\rC: d\r\n", R::LineEnding),
            ("A: b\r\r\n", R::LineEnding),
            ("A: \0\r\n", R::HeaderValue),
            ("A\0: b\r\n", R::HeaderName),
            ("no colon\r\n", R::HeaderName),
            (": empty\r\n", R::HeaderName),
            ("Cöntent: 1\r\n", R::HeaderName),
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n");
            assert_eq!(read(bytes.as_bytes()), Err(why), "{}", head.escape_debug());
        }
        for (bytes, why) in [
            ("GET / HTTP/1.1\n\n", R::LineEnding),
            ("\nGET / HTTP/1.1\r\n\r\n", R::LineEnding),
            ("GET  / HTTP/1.1\r\n\r\n", R::RequestLine),
            ("GET / HTTP/1.1 \r\n\r\n", R::RequestLine),
            ("GET /\r\n\r\n", R::RequestLine),
            ("GET / HTTP/2.0\r\n\r\n", R::RequestLine),
            ("GET / http/1.1\r\n\r\n", R::RequestLine),
            ("GET /\t HTTP/1.1\r\n\r\n", R::RequestLine),
            ("G@T / HTTP/1.1\r\n\r\n", R::RequestLine),
            ("GET /a#b HTTP/1.1\r\n\r\n", R::Fragment),
            (
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                R::OldTransferEncoding,
            ),
        ] {
            assert_eq!(read(bytes.as_bytes()), Err(why), "{}", bytes.escape_debug());
        }
    }

    #[test]
    fn chunked_framing_is_read_to_the_letter() {
        for body in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "10000000000000000\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "0\r\nT : 1\r\n\r\n",
            "0\r\n\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(read(bytes.as_bytes()).is_err(), "{}", body.escape_debug());
        }
    }

    #[test]
    fn a_head_that_never_ends_is_refused() {
        let mut framing = Framing::new(1000);
        let refused = (0..2000).find_map(|_| framing.inspect(b"A").err());
        assert_eq!(refused.map(|refused| refused.why), Some(Refusal::TooLarge));
    }

    proptest! {
        /// However the network cuts the bytes, the reading is the same.
        #[test]
        fn cuts_do_not_matter(
            bytes in r"(POST|GET) /[a-z]{0,3} HTTP/1\.[01](\r\n|\n)(Content-Length: [0-9]{1,2}\r\n)?(Transfer-Encoding: chunked\r\n)?(A: b\r?\n)?\r\n[0-9a-c\r\n]{0,20}",
            cut in 1usize..9,
        ) {
            let mut whole = Framing::new(65_536);
            let at_once = whole.inspect(bytes.as_bytes()).map_err(|refused| refused.why);
            let mut parts = Framing::new(65_536);
            let in_parts = bytes
                .as_bytes()
                .chunks(cut)
                .try_for_each(|part| parts.inspect(part))
                .map_err(|refused| refused.why);
            prop_assert_eq!(at_once, in_parts);
            if at_once.is_ok() {
                prop_assert_eq!(whole.state, parts.state);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
