//! Whole URLs in running text of any kind: CSS, JSON, scripts, one attribute. Pure, streaming, bounded.
//!
//! In: bytes, in pieces of any size. Out: the same bytes, but where a URL leads to a backend, its beginning
//! is that of the published one. A URL is found as `https://…`, as JSON may write it (`https:\/\/…`), and
//! URL-encoded (`https%3A%2F%2F…`). What follows the backend URL is passed on byte for byte.
//!
//! Nothing is parsed and so nothing can be malformed. What is decided at a place depends on at most
//! [`LONGEST`] bytes after it, never on how the bytes were cut; no more than those are held back.

use crate::rewrite::references::Context;
use crate::rewrite::table::Reference;
use crate::rewrite::table::Scheme;

/// Most bytes of a URL that are looked at; what can be translated is shorter.
pub const LONGEST: usize = 2048;

/// A stream of text.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Whether `url(/x)` and `@import "/x"` are looked at.
    css: bool,
    held: Vec<u8>,
    before: u8,
}

/// What to do at one place of the text.
enum Step {
    /// Nothing to translate begins here.
    Pass,
    /// It cannot be told before there is more.
    More,
    /// So many bytes become others.
    Swap(usize, Vec<u8>),
}

impl Scanner {
    /// For text with whole URLs only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For style sheets.
    #[must_use]
    pub fn css() -> Self {
        Self {
            css: true,
            ..Self::default()
        }
    }

    /// All of `text` at once; `None` when it may stay.
    #[must_use]
    pub fn whole(mut self, text: &str, context: &Context<'_>) -> Option<String> {
        let mut out = Vec::new();
        self.run(text.as_bytes(), true, context, &mut out);
        let out = String::from_utf8(out).ok()?;
        (out != text).then_some(out)
    }

    /// Takes the next piece; what is certain goes to `out`.
    pub fn write(&mut self, data: &[u8], context: &Context<'_>, out: &mut Vec<u8>) {
        if self.held.is_empty() {
            self.run(data, false, context, out);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(data);
            self.run(&held, false, context, out);
        }
    }

    /// Nothing comes after this.
    pub fn end(&mut self, context: &Context<'_>, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        self.run(&held, true, context, out);
    }

    /// What is held back, as it came.
    pub fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn run(&mut self, data: &[u8], last: bool, context: &Context<'_>, out: &mut Vec<u8>) {
        let mut rest = data;
        loop {
            let found = rest.iter().position(|byte| self.may_begin(*byte));
            let (plain, after) = rest.split_at(found.unwrap_or(rest.len()));
            out.extend_from_slice(plain);
            self.before = plain.last().copied().unwrap_or(self.before);
            let Some(first) = after.first() else {
                return;
            };
            let taken = match self.step(after, last, context) {
                Step::Pass => {
                    out.push(*first);
                    1
                }
                Step::More => {
                    self.held = after.to_vec();
                    return;
                }
                Step::Swap(taken, with) => {
                    out.extend_from_slice(&with);
                    taken
                }
            };
            let (done, left) = after.split_at(taken.min(after.len()));
            self.before = done.last().copied().unwrap_or(self.before);
            rest = left;
        }
    }

    fn may_begin(&self, byte: u8) -> bool {
        matches!(byte, b'h' | b'H' | b'w' | b'W')
            || (self.css && matches!(byte, b'u' | b'U' | b'@'))
    }

    fn step(&self, text: &[u8], last: bool, context: &Context<'_>) -> Step {
        match text.first() {
            Some(b'h' | b'H') => absolute(text, last, context),
            // `news://…` is no WebSocket.
            Some(b'w' | b'W') if self.before.is_ascii_alphabetic() => Step::Pass,
            Some(b'w' | b'W') => absolute(text, last, context),
            Some(_) if self.before.is_ascii_alphanumeric() || self.before == b'-' => Step::Pass,
            Some(_) => rooted(text, last, context),
            None => Step::Pass,
        }
    }
}

/// How a URL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Json,
    Encoded,
}

const SCHEMES: [(&[u8], Scheme); 4] = [
    (b"https", Scheme::Http(443)),
    (b"http", Scheme::Http(80)),
    (b"wss", Scheme::WebSocket(443)),
    (b"ws", Scheme::WebSocket(80)),
];
const FORMS: [(&[u8], Form); 4] = [
    (b"://", Form::Plain),
    (b":\\/\\/", Form::Json),
    (b"%3a%2f%2f", Form::Encoded),
    (b":%2f%2f", Form::Encoded),
];

/// Whether `text` begins with `wanted`, in any case; `None` = it may yet.
fn begins(text: &[u8], wanted: &[u8], last: bool) -> Option<bool> {
    let length = text.len().min(wanted.len());
    let same = text
        .get(..length)
        .zip(wanted.get(..length))
        .is_some_and(|(text, wanted)| text.eq_ignore_ascii_case(wanted));
    if !same {
        Some(false)
    } else if length == wanted.len() {
        Some(true)
    } else if last {
        Some(false)
    } else {
        None
    }
}

/// A whole URL at the beginning of `text`.
fn absolute(text: &[u8], last: bool, context: &Context<'_>) -> Step {
    for (name, scheme) in SCHEMES {
        for (between, form) in FORMS {
            let fits = match begins(text, name, last) {
                Some(true) => begins(text.get(name.len()..).unwrap_or_default(), between, last),
                other => other,
            };
            match fits {
                Some(true) => {
                    let start = name.len() + between.len();
                    return written(text, start, (scheme, form), last, context);
                }
                Some(false) => {}
                None => return Step::More,
            }
        }
    }
    Step::Pass
}

fn written(
    text: &[u8],
    start: usize,
    (scheme, form): (Scheme, Form),
    last: bool,
    context: &Context<'_>,
) -> Step {
    let Some(url) = Decoded::read(text, start, form, last) else {
        return Step::More;
    };
    let end = url.text.find(['/', '?', '#']).unwrap_or(url.text.len());
    let Some((authority, rest)) = url.text.split_at_checked(end) else {
        return Step::Pass;
    };
    let found = context.resolve(Reference {
        scheme,
        authority,
        rest,
    });
    let Some(found) = found else {
        return Step::Pass;
    };
    let taken = url.text.len() - found.rest.len();
    let taken = url.ends.get(taken).copied().unwrap_or(start);
    Step::Swap(taken, encode(&found.head(scheme), form))
}

/// A URL's authority and path as they are meant, and where each byte of them began.
struct Decoded {
    text: String,
    ends: Vec<usize>,
}

impl Decoded {
    /// `None` when its end has not come yet.
    fn read(text: &[u8], start: usize, form: Form, last: bool) -> Option<Self> {
        let mut decoded = Self {
            text: String::new(),
            ends: Vec::new(),
        };
        let mut at = start;
        let mut in_path = false;
        loop {
            decoded.ends.push(at);
            let rest = text.get(at..).unwrap_or_default();
            if at >= LONGEST {
                return Some(decoded);
            }
            // An escape may be cut in two.
            if rest.len() < 3 && !last && rest.first().is_none_or(|byte| b"\\%".contains(byte)) {
                return None;
            }
            let Some((byte, length)) = next(rest, form) else {
                return Some(decoded);
            };
            in_path |= matches!(byte, b'/' | b'?' | b'#');
            if !(in_path || byte.is_ascii_alphanumeric() || b"-._:[]@%".contains(&byte)) {
                return Some(decoded);
            }
            decoded.text.push(char::from(byte));
            at += length;
        }
    }
}

/// The next byte of a URL and how many it takes; `None` at its end.
fn next(text: &[u8], form: Form) -> Option<(u8, usize)> {
    let first = *text.first()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&*+,;=%".contains(&byte);
    match form {
        Form::Json if first == b'\\' => (text.get(1) == Some(&b'/')).then_some((b'/', 2)),
        Form::Encoded if first == b'%' => {
            let code = text.get(1..3).unwrap_or_default().to_ascii_lowercase();
            Some(match code.as_slice() {
                b"2f" => (b'/', 3),
                b"3a" => (b':', 3),
                b"3f" => (b'?', 3),
                b"23" => (b'#', 3),
                b"40" => (b'@', 3),
                b"5b" => (b'[', 3),
                b"5d" => (b']', 3),
                _ => (b'%', 1),
            })
        }
        Form::Encoded if matches!(first, b'/' | b'?' | b'#' | b'&') => None,
        Form::Plain | Form::Json | Form::Encoded => plain(first).then_some((first, 1)),
    }
}

fn encode(url: &str, form: Form) -> Vec<u8> {
    match form {
        Form::Plain => url.as_bytes().to_vec(),
        Form::Json => url.replace('/', "\\/").into_bytes(),
        // Characters that need no escape are left, as the other side of the text has them.
        Form::Encoded => {
            let escaped = url.replace('%', "%25").replace(':', "%3A");
            escaped.replace('/', "%2F").into_bytes()
        }
    }
}

/// `url(/x)` and `@import "/x"`, and the same with `//backend/x`.
fn rooted(text: &[u8], last: bool, context: &Context<'_>) -> Step {
    const MOST_SPACE: usize = 16;
    let word: &[u8] = if text.first() == Some(&b'@') {
        b"@import"
    } else {
        b"url("
    };
    match begins(text, word, last) {
        Some(true) => {}
        Some(false) => return Step::Pass,
        None => return Step::More,
    }
    let mut at = word.len();
    let end = at + MOST_SPACE;
    let mut quoted = false;
    loop {
        match text.get(at) {
            None if last => return Step::Pass,
            None => return Step::More,
            Some(byte) if byte.is_ascii_whitespace() && at < end && !quoted => at += 1,
            Some(b'"' | b'\'') if !quoted => {
                quoted = true;
                at += 1;
            }
            Some(b'/') if quoted || word == b"url(" => break,
            Some(_) => return Step::Pass,
        }
    }
    let is_end = |byte: &u8| !(byte.is_ascii_graphic()) || b"\"'()".contains(byte);
    let after = text.get(at..).unwrap_or_default();
    let window = after.get(..LONGEST).unwrap_or(after);
    let length = match window.iter().position(is_end) {
        Some(length) => length,
        None if last || window.len() == LONGEST => window.len(),
        None => return Step::More,
    };
    let reference = std::str::from_utf8(window.get(..length).unwrap_or_default());
    match reference {
        // Passed over as a whole, translated or not: what is within it is not read in another way the next time.
        Ok(found) => {
            let better = context.published(found);
            let better = better.unwrap_or_else(|| found.to_owned());
            let inner = Scanner::new().whole(&better, context);
            let better = inner.unwrap_or(better);
            let mut with = text.get(..at).unwrap_or_default().to_vec();
            with.extend_from_slice(better.as_bytes());
            Step::Swap(at + length, with)
        }
        Err(_) => Step::Pass,
    }
}
