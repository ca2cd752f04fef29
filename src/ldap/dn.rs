//! Distinguished names (RFC 4514): read, compared and built component by component, never as text.

use std::fmt;
use std::str::FromStr;

use super::error::Error;

/// A distinguished name, most specific component first.
///
/// Equality is Active Directory's: types and values without regard to case, runs of spaces as one
/// (RFC 4518 2.6, `caseIgnoreMatch`). The text keeps the case it was read with.
#[derive(Clone, Debug)]
pub struct Dn {
    rdns: Vec<Rdn>,
}

/// One component; almost always a single pair, `A=x+B=y` in multi-valued ones.
#[derive(Clone, Debug)]
struct Rdn(Vec<(String, String)>);

impl Dn {
    /// The zero-length name of a server's root entry (RFC 4512 5.1); nothing is under it.
    pub(super) const fn root() -> Self {
        Self { rdns: Vec::new() }
    }

    /// True when this is `base` itself or lies anywhere below it.
    ///
    /// SECURITY: by components: `CN=x\,OU=Guests,DC=…` ends with the text of a base it does not lie under.
    #[must_use]
    pub fn is_under(&self, base: &Self) -> bool {
        let Some(above) = self.rdns.len().checked_sub(base.rdns.len()) else {
            return false;
        };
        !base.rdns.is_empty() && self.rdns.iter().skip(above).eq(base.rdns.iter())
    }

    /// The name of the object `kind=value` directly below this one.
    #[must_use]
    pub fn child(&self, kind: &str, value: &str) -> Self {
        let mut rdns = vec![Rdn(vec![(kind.to_owned(), value.to_owned())])];
        rdns.extend(self.rdns.iter().cloned());
        Self { rdns }
    }

    /// The name that this object has after a move below `parent`.
    #[must_use]
    pub fn below(&self, parent: &Self) -> Self {
        let mut rdns: Vec<Rdn> = self.rdns.first().cloned().into_iter().collect();
        rdns.extend(parent.rdns.iter().cloned());
        Self { rdns }
    }

    /// The name of the object above.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.rdns.split_first()?;
        (!above.is_empty()).then(|| Self {
            rdns: above.to_vec(),
        })
    }

    /// The value of the first component (`jane` in `CN=jane,OU=…`).
    #[must_use]
    pub fn leaf(&self) -> Option<&str> {
        let Rdn(pairs) = self.rdns.first()?;
        pairs.first().map(|(_, value)| value.as_str())
    }

    /// The text of the first component, escaped (`CN=jane`): what a rename or a move keeps.
    #[must_use]
    pub fn rdn(&self) -> Option<String> {
        self.rdns.first().map(ToString::to_string)
    }
}

impl PartialEq for Rdn {
    fn eq(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }
}

impl Rdn {
    fn folded(&self) -> Vec<(String, String)> {
        let mut pairs: Vec<_> = self
            .0
            .iter()
            .map(|(kind, value)| (kind.to_ascii_lowercase(), fold(value)))
            .collect();
        pairs.sort();
        pairs
    }
}

impl PartialEq for Dn {
    fn eq(&self, other: &Self) -> bool {
        self.rdns == other.rdns
    }
}

impl Eq for Dn {}

impl fmt::Display for Rdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (kind, value)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("+")?;
            }
            write!(f, "{kind}={}", escape(value))?;
        }
        Ok(())
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, rdn) in self.rdns.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            write!(f, "{rdn}")?;
        }
        Ok(())
    }
}

impl FromStr for Dn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut rdns = Vec::new();
        let mut pairs = Vec::new();
        let mut rest = text;
        loop {
            let (kind, tail) = read_kind(rest).ok_or_else(|| bad(text))?;
            let (value, end, tail) = read_value(tail).ok_or_else(|| bad(text))?;
            pairs.push((kind.to_owned(), value));
            rest = tail;
            if end == Some('+') {
                continue;
            }
            rdns.push(Rdn(std::mem::take(&mut pairs)));
            if end.is_none() {
                return Ok(Self { rdns });
            }
        }
    }
}

fn bad(text: &str) -> Error {
    Error::Setup {
        what: format!("{:?}", text.chars().take(300).collect::<String>()),
        reason: String::from(
            "is no distinguished name such as OU=Guests,DC=corp,DC=example,DC=com",
        ),
    }
}

fn read_kind(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.split_once('=')?;
    let kind = kind.trim_matches(' ');
    let sound = !kind.is_empty()
        && kind
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    sound.then_some((kind, rest))
}

/// Reads a value up to an unescaped `,`, `;` or `+`: the value, the separator, what follows it.
fn read_value(text: &str) -> Option<(String, Option<char>, &str)> {
    let mut bytes = Vec::new();
    // Spaces around a value do not count unless escaped (RFC 4514 4).
    let mut kept = 0;
    let start = text.trim_start_matches(' ');
    let mut chars = start.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | ';' | '+' => {
                bytes.truncate(kept);
                let end = if c == ';' { ',' } else { c };
                let value = String::from_utf8(bytes).ok()?;
                return Some((value, Some(end), start.get(at + 1..)?));
            }
            '\\' => {
                let (_, next) = chars.next()?;
                if let Some(high) = next.to_digit(16) {
                    let (_, low) = chars.next()?;
                    bytes.push(u8::try_from(high * 16 + low.to_digit(16)?).ok()?);
                } else if " \"#+,;<=>\\".contains(next) {
                    bytes.push(u8::try_from(next).ok()?);
                } else {
                    return None;
                }
                kept = bytes.len();
            }
            '"' | '\0' => return None,
            _ => {
                let mut buffer = [0; 4];
                bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                if c != ' ' {
                    kept = bytes.len();
                }
            }
        }
    }
    bytes.truncate(kept);
    Some((String::from_utf8(bytes).ok()?, None, ""))
}

/// RFC 4514 2.4, and every control character besides.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, c) in value.char_indices() {
        let edge = (at == 0 && (c == ' ' || c == '#')) || (at == last && c == ' ');
        if edge || "\"+,;<=>\\".contains(c) || c.is_control() {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                text.push_str(&format!("\\{byte:02x}"));
            }
        } else {
            text.push(c);
        }
    }
    text
}

fn fold(value: &str) -> String {
    let words: Vec<_> = value.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dn(text: &str) -> Dn {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_compared_by_components() {
        let base = dn("OU=Guests,DC=contoso,DC=test");
        for inside in [
            "OU=Guests,DC=contoso,DC=test",
            "CN=jane,ou=guests, dc=CONTOSO ,dc=test",
            "CN=a\\,b,OU=deep,OU=Guests,DC=contoso,DC=test",
            "CN=x;OU=Guests;DC=contoso;DC=test",
            "cn=\\4aane,OU=\\47uests,DC=contoso,DC=test",
        ] {
            assert!(dn(inside).is_under(&base), "{inside}");
        }
        for outside in [
            "CN=x\\,OU=Guests,DC=contoso,DC=test",
            "CN=x,OU=NotGuests,DC=contoso,DC=test",
            "CN=x,OU=Guests,DC=evil,DC=contoso,DC=test",
            "CN=x,OU=Guests,DC=contoso,DC=test,DC=evil",
            "DC=contoso,DC=test",
            "CN=x+OU=Guests,DC=contoso,DC=test",
        ] {
            assert!(!dn(outside).is_under(&base), "{outside}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "Guests",
            "OU=a,,DC=b",
            "=x",
            "OU=\"a\",DC=b",
            "OU=a\\",
            "OU=a\\q",
            "O U=a",
            "OU=a,",
        ] {
            assert!(bad.parse::<Dn>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parent_leaf_and_rdn() {
        let one = dn("CN=a\\, b ,OU=Guests,DC=x");
        assert_eq!(one.leaf(), Some("a, b"));
        assert_eq!(one.rdn().as_deref(), Some("CN=a\\2c b"));
        assert_eq!(one.parent(), Some(dn("OU=guests,DC=x")));
        assert_eq!(dn("DC=x").parent(), None);
    }

    #[test]
    fn naughty_strings_stay_values() {
        let base = dn("OU=Guests,DC=contoso,DC=test");
        for value in super::super::naughty::STRINGS {
            round_trip(&base, value);
        }
    }

    fn round_trip(base: &Dn, value: &str) {
        let child = base.child("CN", value);
        let back = dn(&child.to_string());
        assert_eq!(back.leaf(), Some(value), "{child}");
        assert_eq!(back.parent().as_ref(), Some(base), "{child}");
    }

    proptest! {
        #[test]
        fn any_value_stays_a_value(value in any::<String>()) {
            round_trip(&dn("OU=Guests,DC=contoso,DC=test"), &value);
        }

        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            drop(text.parse::<Dn>());
        }
    }
}
