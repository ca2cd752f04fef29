//! Which language a visitor reads: `Accept-Language` (RFC 9110 12.5.4), never the address.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

/// A language our own pages speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English: also for everybody whose language is not here yet.
    #[default]
    English,
    /// German.
    German,
    /// French.
    French,
    /// Dutch.
    Dutch,
}

/// More language ranges than this are not read: nobody speaks that many.
const MOST_RANGES: usize = 32;

impl Language {
    /// All languages.
    pub const ALL: &'static [Self] = &[Self::English, Self::German, Self::French, Self::Dutch];

    /// The BCP 47 tag, as in `lang` and `Content-Language`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
            Self::Dutch => "nl",
        }
    }

    /// The best of our languages for the visitor; English when none fits.
    #[must_use]
    pub fn from_accept(headers: &HeaderMap) -> Self {
        let mut best: Option<(Self, u16)> = None;
        let ranges = headers
            .get_all(ACCEPT_LANGUAGE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .take(MOST_RANGES);
        for (language, weight) in ranges.filter_map(range) {
            // The first of equals wins: browsers list in the visitor's order.
            if weight > 0 && best.is_none_or(|(_, found)| weight > found) {
                best = Some((language, weight));
            }
        }
        best.map_or_else(Self::default, |(language, _)| language)
    }

    fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        Self::ALL
            .iter()
            .copied()
            .find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }
}

/// One language range and its weight in thousandths; `*` stands for English.
fn range(text: &str) -> Option<(Language, u16)> {
    let mut parts = text.split(';');
    let tag = parts.next()?.trim();
    let language = if tag == "*" {
        Language::default()
    } else {
        Language::from_tag(tag)?
    };
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => quality(parameter.trim())?,
    };
    Some((language, weight))
}

/// RFC 9110 12.4.2: `q=` and at most three decimals, 0 to 1.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().ok()?;
    if !(0.0..=1.0).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1000 after the check above"
    )]
    Some((value * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(value: &str) -> Language {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_str(value).unwrap());
        Language::from_accept(&headers)
    }

    #[test]
    fn the_heaviest_language_we_speak_wins() {
        assert_eq!(accept("de-CH,de;q=0.9,en;q=0.8"), Language::German);
        assert_eq!(accept("en;q=0.5, fr;q=0.9"), Language::French);
        assert_eq!(accept("sv, nl-BE;q=0.4, en;q=0.3"), Language::Dutch);
        assert_eq!(accept("NL"), Language::Dutch);
        assert_eq!(accept("fr, de"), Language::French);
    }

    #[test]
    fn what_nobody_can_read_is_english() {
        for value in [
            "", "*", "sv", "de;q=0", "de;q=2", "de;q=x", "de;q=NaN", ";;,,=", "den",
        ] {
            assert_eq!(accept(value), Language::English, "{value:?}");
        }
        assert_eq!(Language::from_accept(&HeaderMap::new()), Language::English);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_bytes(b"\xffde").unwrap());
        assert_eq!(Language::from_accept(&headers), Language::English);
    }
}
