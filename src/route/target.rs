//! The one reading of a request's target; what was authorized is the byte string that is sent.
//!
//! In: the request target. Out: a [`Target`] whose path has no dot segments, no empty segments and no
//! byte that two programs would read differently. Specification: RFC 3986 (5.2.4, 6.2.2), RFC 9112 3.2.
//!
//! # Why
//!
//! A gateway that decides on one reading of a path and sends bytes that the backend reads otherwise has
//! no access rules. So dot segments are resolved and empty segments merged *before* routing; what cannot
//! be resolved in a way that everybody agrees on (`%2f`, `\`, `..;`, bad escapes) is refused; and all
//! other bytes stay as they came, since some applications (SAP's among them) sign or compare them.
//! Prefixes are compared as the most lenient backend would: without parameters, decoded, in any case.

use http::Uri;
use thiserror::Error;

/// Why a target is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadTarget {
    /// `*`, or an authority: neither is for an application.
    #[error("the request target is no path")]
    NoPath,
    /// Longer than anything an application understands.
    #[error("the request target is longer than {LONGEST} bytes")]
    TooLong,
    /// A character that no path holds unescaped.
    #[error("byte 0x{0:02x} in the path")]
    Byte(u8),
    /// RFC 3986 2.1: two hexadecimal digits.
    #[error("a % without two hexadecimal digits in the path")]
    Escape,
    /// A slash, a backslash or a control character in disguise.
    #[error("%{0:02x} in the path")]
    Disguised(u8),
    /// Slash, dot or backslash as an overlong UTF-8 sequence.
    #[error("an overlong UTF-8 sequence in the path")]
    Overlong,
    /// `..;` is the parent folder to some and a name to others.
    #[error("a dot segment with parameters")]
    DotParameters,
    /// Which segment `..` removes after `//`, programs disagree on.
    #[error("both empty segments and dot segments")]
    EmptyAndDots,
    /// Above the root.
    #[error("a path that leads above the root")]
    AboveRoot,
}

const LONGEST: usize = 32 * 1024;

/// A request target with exactly one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path and query.
    text: String,
    path: usize,
}

impl Target {
    /// Reads the target of a request.
    ///
    /// # Errors
    /// Whatever could be read in two ways.
    pub fn parse(uri: &Uri) -> Result<Self, BadTarget> {
        let Some(target) = uri.path_and_query() else {
            return Err(BadTarget::NoPath);
        };
        Self::from_parts(target.path(), target.query(), Slashes::Refused)
    }

    /// Reads a target whose path holds `%2F`: the target, and the same with slashes in their place, as a backend reads it
    /// that decodes before it looks. For applications that are known to take `%2F` for a part of a name.
    ///
    /// # Errors
    /// As [`Self::parse`]; and names that would be dot segments behind such a slash.
    pub fn parse_with_slashes(uri: &Uri) -> Result<(Self, Self), BadTarget> {
        let Some(target) = uri.path_and_query() else {
            return Err(BadTarget::NoPath);
        };
        let kept = Self::from_parts(target.path(), target.query(), Slashes::Kept)?;
        let opened = kept.path().replace("%2f", "/").replace("%2F", "/");
        // SECURITY: `a%2f..%2fb` is a name here and the way to another folder there.
        for segment in opened.split('/') {
            if !matches!(dot_segment(segment)?, Dots::None) {
                return Err(BadTarget::Disguised(b'/'));
            }
        }
        let opened = Self::from_parts(&opened, kept.query(), Slashes::Refused)?;
        Ok((kept, opened))
    }

    fn from_parts(path: &str, query: Option<&str>, slashes: Slashes) -> Result<Self, BadTarget> {
        if path.len() + query.map_or(0, str::len) > LONGEST {
            return Err(BadTarget::TooLong);
        }
        let Some(segments) = path.strip_prefix('/') else {
            return Err(BadTarget::NoPath);
        };
        if let Some(byte) = query.and_then(|query| query.bytes().find(|byte| !sound(*byte, true))) {
            return Err(BadTarget::Byte(byte));
        }
        check_bytes(path.as_bytes(), slashes)?;
        let mut text = String::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
        resolve(segments, &mut text)?;
        let path = text.len();
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        Ok(Self { text, path })
    }

    /// Path and query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(..self.path).unwrap_or_default()
    }

    /// The query, without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path + 1..)
    }

    /// What follows `prefix` (`/` or `/…/`) in the path: empty for the prefix itself without its last
    /// slash, else a path from the root. `None` when the path is not below it.
    ///
    /// SECURITY: compared as the most lenient backend would read it. `/ADMIN/`, `/adm%69n/` and
    /// `/admin;x/` are the admin pages to some server, so the rules for `/admin/` hold for them.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Option<&str> {
        let mut rest = self.path();
        for wanted in prefix.split('/').filter(|segment| !segment.is_empty()) {
            let (segment, after) = match rest.strip_prefix('/') {
                Some(inner) => inner.split_at(inner.find('/').unwrap_or(inner.len())),
                None => return None,
            };
            if !lenient_equal(segment, wanted) {
                return None;
            }
            rest = after;
        }
        Some(rest)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slashes {
    Refused,
    Kept,
}

const fn sound(byte: u8, query: bool) -> bool {
    match byte {
        b'\\' => query,
        b'#' => false,
        _ => byte > b' ' && byte < 0x7f,
    }
}

fn check_bytes(path: &[u8], slashes: Slashes) -> Result<(), BadTarget> {
    let mut before = None;
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if !sound(*byte, false) {
            return Err(BadTarget::Byte(*byte));
        }
        if *byte != b'%' {
            before = None;
            continue;
        }
        let escaped = escaped(rest).ok_or(BadTarget::Escape)?;
        rest = rest.get(2..).unwrap_or_default();
        let slash = escaped == b'/' && slashes == Slashes::Refused;
        if slash || matches!(escaped, b'\\' | b'#' | 0x7f) || escaped < b' ' {
            return Err(BadTarget::Disguised(escaped));
        }
        // RFC 3629 3: C0, C1 begin nothing valid, E0 80..9F and F0 80..8F are overlong. Alone they are
        // Latin-1 letters, which old applications do use.
        match (before, escaped) {
            (Some(0xc0 | 0xc1), 0x80..=0xbf)
            | (Some(0xe0), 0x80..=0x9f)
            | (Some(0xf0), 0x80..=0x8f) => {
                return Err(BadTarget::Overlong);
            }
            _ => before = Some(escaped),
        }
    }
    Ok(())
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Writes the segments without dots and empty ones, each behind a slash.
fn resolve(segments: &str, text: &mut String) -> Result<(), BadTarget> {
    let (mut empty, mut dots) = (false, false);
    let mut folder = false;
    let mut left = segments.split('/').peekable();
    while let Some(segment) = left.next() {
        let last = left.peek().is_none();
        folder = false;
        match dot_segment(segment)? {
            Dots::None if segment.is_empty() => {
                empty |= !last;
                folder = last;
            }
            Dots::None => {
                text.push('/');
                text.push_str(segment);
            }
            Dots::Here => {
                dots = true;
                folder = last;
            }
            Dots::Parent => {
                dots = true;
                folder = last;
                let parent = text.rfind('/').ok_or(BadTarget::AboveRoot)?;
                text.truncate(parent);
            }
        }
    }
    if empty && dots {
        return Err(BadTarget::EmptyAndDots);
    }
    if folder {
        text.push('/');
    }
    Ok(())
}

enum Dots {
    None,
    Here,
    Parent,
}

fn dot_segment(segment: &str) -> Result<Dots, BadTarget> {
    // Cheap for what nearly all segments are.
    if !segment.starts_with(['.', '%']) {
        return Ok(Dots::None);
    }
    let mut dots = 0;
    let mut rest = segment.as_bytes();
    loop {
        rest = match rest {
            [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] => after,
            _ => break,
        };
        dots += 1;
    }
    match (dots, rest) {
        (1, []) => Ok(Dots::Here),
        (2, []) => Ok(Dots::Parent),
        (1 | 2, [b';', ..] | [b'%', b'3', b'b' | b'B', ..]) => Err(BadTarget::DotParameters),
        _ => Ok(Dots::None),
    }
}

/// `segment` as the most lenient backend reads it: decoded, up to its parameters, in lower case. `None`
/// when it is longer than `room`. Equal keys are what [`lenient_equal`] calls equal.
pub(super) fn lenient<'a>(segment: &'a str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let plain = |byte: u8| !matches!(byte, b'%' | b';') && !byte.is_ascii_uppercase();
    if segment.bytes().all(plain) {
        return Some(segment.as_bytes());
    }
    let mut length = 0;
    for byte in lenient_bytes(segment) {
        *room.get_mut(length)? = byte;
        length += 1;
    }
    room.get(..length)
}

/// Whether some backend may take `segment` for `wanted`.
fn lenient_equal(segment: &str, wanted: &str) -> bool {
    lenient_bytes(segment).eq(wanted.bytes().map(|byte| byte.to_ascii_lowercase()))
}

fn lenient_bytes(segment: &str) -> impl Iterator<Item = u8> {
    let mut rest = segment.as_bytes();
    let decoded = std::iter::from_fn(move || {
        let (byte, after) = rest.split_first()?;
        rest = after;
        if *byte != b'%' {
            return Some(*byte);
        }
        rest = after.get(2..).unwrap_or_default();
        Some(escaped(after).unwrap_or(b'%'))
    });
    decoded
        .take_while(|byte| *byte != b';')
        .map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(target: &str) -> Result<Target, BadTarget> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Target::from_parts(path, query, Slashes::Refused)
    }

    #[test]
    fn a_slash_in_a_name_hides_no_folder() {
        let both = |target: &str| Target::parse_with_slashes(&target.parse().unwrap());
        for (target, opened) in [
            ("/api/queues/%2F/name", "/api/queues/name"),
            ("/a%2fb?c=%2f", "/a/b?c=%2f"),
            ("/a%252fb", "/a%252fb"),
            ("/x/../a%2Fb", "/a/b"),
        ] {
            let (kept, seen) = both(target).unwrap();
            assert_eq!(seen.as_str(), opened);
            assert_eq!(kept.as_str(), target.trim_start_matches("/x/.."));
        }
        for target in [
            "/a%2f..%2fadmin",
            "/a%2f..",
            "/..%2fadmin",
            "/a%2f.%2fb",
            "/a%2f%2e%2e%2fb",
            "/a%2f..;x/b",
            "/a%5cb%2f",
            "/a%2f%00",
        ] {
            assert!(both(target).is_err(), "{target}");
        }
    }

    #[test]
    fn paths_are_resolved_before_anybody_looks() {
        for (target, wanted) in [
            ("/", "/"),
            ("/a/b?c=%zz&d=//..\\", "/a/b?c=%zz&d=//..\\"),
            ("/a?", "/a?"),
            ("/a//b///c//", "/a/b/c/"),
            ("//a", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e/b/%2E%2e/c", "/a/c"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/.a/..b/...", "/.a/..b/..."),
            (
                "/a;x=1/b%3Bc/%e4%FC%c0/~|{}'(!)",
                "/a;x=1/b%3Bc/%e4%FC%c0/~|{}'(!)",
            ),
            ("/%41%7e", "/%41%7e"),
            ("/a%252fb", "/a%252fb"),
        ] {
            assert_eq!(
                parse(target).as_ref().map(Target::as_str),
                Ok(wanted),
                "{target}"
            );
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        use BadTarget as B;
        for (target, why) in [
            ("*", B::NoPath),
            ("a", B::NoPath),
            ("", B::NoPath),
            ("/a\\b", B::Byte(b'\\')),
            ("/a#b", B::Byte(b'#')),
            ("/a?b#c", B::Byte(b'#')),
            ("/a\u{1}", B::Byte(1)),
            ("/a?\u{7f}", B::Byte(0x7f)),
            ("/ü", B::Byte(0xc3)),
            ("/a%2fb", B::Disguised(b'/')),
            ("/a%5Cb", B::Disguised(b'\\')),
            ("/a%00", B::Disguised(0)),
            ("/a%0d%0a", B::Disguised(b'\r')),
            ("/a%23", B::Disguised(b'#')),
            ("/a%", B::Escape),
            ("/a%2", B::Escape),
            ("/a%u002f", B::Escape),
            ("/a%c0%af", B::Overlong),
            ("/a%e0%80%af", B::Overlong),
            ("/a/..;/b", B::DotParameters),
            ("/a/.;x/b", B::DotParameters),
            ("/a/%2e.%3b/b", B::DotParameters),
            ("/..", B::AboveRoot),
            ("/a/../../b", B::AboveRoot),
            ("/a//../b", B::EmptyAndDots),
            ("//./b", B::EmptyAndDots),
        ] {
            assert_eq!(parse(target), Err(why), "{target}");
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(LONGEST))), Err(B::TooLong));
    }

    #[test]
    fn prefixes_hold_in_every_spelling() {
        for (path, prefix, wanted) in [
            ("/a/b", "/", Some("/a/b")),
            ("/", "/", Some("/")),
            ("/admin/x", "/admin/", Some("/x")),
            ("/admin/", "/admin/", Some("/")),
            ("/admin", "/admin/", Some("")),
            ("/ADMIN/x", "/admin/", Some("/x")),
            ("/adm%69n/x", "/admin/", Some("/x")),
            ("/admin;a=b/x", "/admin/", Some("/x")),
            ("/admin%3ba/x", "/admin/", Some("/x")),
            ("/x/../admin/y", "/admin/", Some("/y")),
            ("//admin/y", "/admin/", Some("/y")),
            ("/administrator/", "/admin/", None),
            ("/admi", "/admin/", None),
            ("/", "/admin/", None),
            ("/a/B/c", "/A/b/", Some("/c")),
            ("/a", "/a/b/", None),
        ] {
            assert_eq!(
                parse(path).unwrap().under(prefix),
                wanted,
                "{path} {prefix}"
            );
        }
    }

    const PARTS: &str = r"(/|\.|\.\.|%2e|%2E|;|%3b|a|B|%41|%2f|\\|%|admin|%c0|%af|~){0,12}";

    proptest! {
        #[test]
        fn resolving_twice_changes_nothing(path in PARTS) {
            if let Ok(once) = parse(&format!("/{path}")) {
                prop_assert_eq!(parse(once.as_str()), Ok(once.clone()));
                prop_assert!(!once.path().contains("//"));
                let dots = |segment: &str| matches!(&*segment.replace("%2e", ".").replace("%2E", "."), "." | "..");
                prop_assert!(!once.path().split('/').any(dots), "{}", once.path());
            }
        }

        #[test]
        fn a_query_never_changes_the_path(path in PARTS, query in r"[a/.%;?=\\]{0,20}") {
            let bare = parse(&format!("/{path}"));
            let with = parse(&format!("/{path}?{query}"));
            prop_assert_eq!(bare.as_ref().map(Target::path), with.as_ref().map(Target::path));
        }

        /// What lies below a prefix never leads out of it again.
        #[test]
        fn a_rest_stays_below_its_prefix(path in PARTS) {
            let Ok(target) = parse(&format!("/admin/{path}")) else { return Ok(()) };
            let Some(rest) = target.under("/admin/") else { return Ok(()) };
            let joined = format!("/backend{rest}");
            let again = parse(&joined).map(|target| target.as_str().to_owned());
            prop_assert_eq!(again.as_deref(), Ok(&*joined));
        }

        #[test]
        fn no_target_panics(target in any::<String>()) {
            drop(parse(&target));
        }
    }
}
