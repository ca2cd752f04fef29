//! Text of strangers on a terminal: nothing in it moves the cursor, colors, or turns the line around.

use unicode_width::UnicodeWidthChar as _;

use crate::mapping::names::is_hidden;

/// `text` with control characters and those that change direction written as `\u{…}`; backslashes doubled, so that nobody can
/// write such an escape themselves.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' {
            out.push_str("\\\\");
        } else if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON with the same characters as `\uXXXX`: they stand inside strings only, where that means the same.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` in a column `width` wide, shortened with `…`.
pub(super) fn cell(text: &str, width: usize) -> String {
    let text = shown(text);
    let (mut short, mut taken) = (String::new(), 0);
    if text.chars().map(columns).sum::<usize>() <= width {
        taken = text.chars().map(columns).sum();
        short = text;
    } else {
        for c in text.chars() {
            if taken + columns(c) >= width {
                break;
            }
            taken += columns(c);
            short.push(c);
        }
        short.push('…');
        taken += 1;
    }
    short.extend(std::iter::repeat_n(' ', width.saturating_sub(taken)));
    short
}

/// How many columns a terminal gives a character: two to Chinese ones, none to marks that stand on another (UAX #11).
fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_moves_or_turns_is_written_out() {
        assert_eq!(shown("Jane \u{1b}[2J\r\n"), r"Jane \u{1b}[2J\u{d}\u{a}");
        assert_eq!(shown("\u{202e}exe.gpj"), r"\u{202e}exe.gpj");
        assert_eq!(shown(r"\u{202e}"), r"\\u{202e}");
        assert_eq!(shown("Зоя 田中 😀"), "Зоя 田中 😀");
        assert_eq!(json("{\"n\":\"a\u{202e}b\"}"), "{\"n\":\"a\\u202eb\"}");
        assert_eq!(cell("abc", 5), "abc  ");
        assert_eq!(cell("abcdef", 5), "abcd…");
        // As a terminal shows them: two columns each, and none for a mark that stands on another character.
        assert_eq!(cell("田中", 5), "田中 ");
        assert_eq!(cell("田中花子", 7), "田中花…");
        assert_eq!(cell("田中花子", 6), "田中… ");
        assert_eq!(cell("Zoe\u{308} x", 6), "Zoe\u{308} x ");
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!shown(&text).chars().any(is_hidden));
            let whole = serde_json::to_string(&text).unwrap();
            let safe = json(&whole);
            prop_assert!(!safe.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }
}
