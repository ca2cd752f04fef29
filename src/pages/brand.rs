//! What an organization may make of the pages: its name, logo, color, and whom to ask.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

/// The look of the pages, and whom a visitor can ask.
#[derive(Clone, Debug, Default)]
pub struct Brand {
    /// The organization's name.
    pub organization: String,
    /// The organization's logo, shown instead of its name.
    pub logo: Option<Logo>,
    /// The color of buttons and links.
    pub accent: Accent,
    /// Whom a visitor can ask.
    pub support: Option<Contact>,
    /// Who decides about an application, by the application's name.
    pub owners: BTreeMap<String, Contact>,
}

/// Why a setting of the pages cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrandError {
    /// No color.
    #[error("{0:?} is not a color such as #0b5cad")]
    Color(String),
    /// No picture.
    #[error("the logo is neither SVG, PNG, JPEG nor WebP")]
    LogoFormat,
    /// A picture that would weigh on each page.
    #[error("the logo has {0} bytes: at most {MOST_LOGO_BYTES} are sent with each page")]
    LogoSize(usize),
}

/// Each page carries the logo, so it has to be small.
const MOST_LOGO_BYTES: usize = 64 * 1024;

/// A picture, ready as a `data:` address: our pages load nothing from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo(String);

impl Logo {
    /// Takes the bytes of an SVG, PNG, JPEG or WebP file.
    ///
    /// # Errors
    /// When the content is none of these, or too large to be sent with each page.
    pub fn from_bytes(content: &[u8]) -> Result<Self, BrandError> {
        if content.len() > MOST_LOGO_BYTES {
            return Err(BrandError::LogoSize(content.len()));
        }
        let media_type = if content.starts_with(b"\x89PNG\r\n\x1a\n") {
            "image/png"
        } else if content.starts_with(b"\xff\xd8\xff") {
            "image/jpeg"
        } else if content.starts_with(b"RIFF") && content.get(8..12) == Some(b"WEBP") {
            "image/webp"
        } else if std::str::from_utf8(content).is_ok_and(|text| text.contains("<svg")) {
            // Within <img> an SVG runs no script and loads nothing.
            "image/svg+xml"
        } else {
            return Err(BrandError::LogoFormat);
        };
        let encoded = STANDARD.encode(content);
        Ok(Self(format!("data:{media_type};base64,{encoded}")))
    }

    pub(super) fn address(&self) -> &str {
        &self.0
    }
}

/// Somebody to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    text: String,
    link: Option<Url>,
}

impl Contact {
    /// Takes an e-mail address, an `https:` address, or any other text (a name, a telephone number).
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let text = text.trim();
        let link = if text.starts_with("https://") {
            Url::parse(text).ok()
        } else if looks_like_mail(text) {
            Url::parse(&format!("mailto:{text}")).ok()
        } else {
            None
        };
        Self {
            text: text.to_owned(),
            link,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The link, for mail with a subject that already names the case.
    pub(super) fn link(&self, subject: &str) -> Option<String> {
        let mut link = self.link.clone()?;
        if link.scheme() == "mailto" {
            link.set_query(Some(&format!("subject={}", percent_encoded(subject))));
        }
        Some(link.into())
    }
}

fn looks_like_mail(text: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"@.+-_'".contains(&b);
    text.bytes().all(safe)
        && text.split_once('@').is_some_and(|(local, host)| {
            !local.is_empty() && host.contains('.') && !host.contains('@')
        })
}

/// RFC 6068 section 2: spaces as `%20`, never `+`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The color of buttons and links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accent {
    red: u8,
    green: u8,
    blue: u8,
}

impl Default for Accent {
    fn default() -> Self {
        Self {
            red: 0x0b,
            green: 0x5c,
            blue: 0xad,
        }
    }
}

/// The page's ground in light and in dark, as in `page.css`: text in the accent color stands on these.
const LIGHT_GROUND: Accent = Accent::rgb(0xf3, 0xf4, 0xf6);
const DARK_GROUND: Accent = Accent::rgb(0x1d, 0x22, 0x29);
const WHITE: Accent = Accent::rgb(0xff, 0xff, 0xff);
const BLACK: Accent = Accent::rgb(0, 0, 0);
/// WCAG 2.2, 1.4.3 (AA).
const ENOUGH_CONTRAST: f64 = 4.5;

impl Accent {
    const fn rgb(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue }
    }

    /// Takes `#rrggbb`.
    ///
    /// # Errors
    /// When `text` is anything else.
    pub fn from_hex(text: &str) -> Result<Self, BrandError> {
        text.strip_prefix('#')
            .filter(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .map(|number| {
                let [_, red, green, blue] = number.to_be_bytes();
                Self { red, green, blue }
            })
            .ok_or_else(|| BrandError::Color(text.to_owned()))
    }

    /// Color settings for the style sheet; whatever color was chosen, all text stays readable.
    pub(super) fn style(self) -> String {
        let on_accent = if self.contrast(WHITE) >= self.contrast(BLACK) {
            WHITE
        } else {
            BLACK
        };
        let light = self.readable_on(LIGHT_GROUND, BLACK);
        let dark = self.readable_on(DARK_GROUND, WHITE);
        format!(
            ":root{{--accent:{};--on-accent:{};--link-light:{};--link-dark:{}}}\n",
            self.hex(),
            on_accent.hex(),
            light.hex(),
            dark.hex()
        )
    }

    fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }

    /// This color, moved towards `end` just as far as reading on `ground` needs.
    fn readable_on(self, ground: Self, end: Self) -> Self {
        (0..=20)
            .map(|step| self.mixed(end, step))
            .find(|color| color.contrast(ground) >= ENOUGH_CONTRAST)
            .unwrap_or(end)
    }

    fn mixed(self, end: Self, twentieths: u16) -> Self {
        let mix = |from: u8, to: u8| {
            let sum = u16::from(from) * (20 - twentieths) + u16::from(to) * twentieths;
            u8::try_from(sum / 20).unwrap_or(u8::MAX)
        };
        Self {
            red: mix(self.red, end.red),
            green: mix(self.green, end.green),
            blue: mix(self.blue, end.blue),
        }
    }

    fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// WCAG 2.2, "relative luminance".
    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_accent_stays_readable() {
        for hex in [
            "#0b5cad", "#ffffff", "#000000", "#ffff00", "#7f7f7f", "#00ff00", "#c00020",
        ] {
            let accent = Accent::from_hex(hex).unwrap();
            assert!(
                accent.contrast(WHITE).max(accent.contrast(BLACK)) >= ENOUGH_CONTRAST,
                "{hex}"
            );
            let light = accent.readable_on(LIGHT_GROUND, BLACK);
            assert!(light.contrast(LIGHT_GROUND) >= ENOUGH_CONTRAST, "{hex}");
            let dark = accent.readable_on(DARK_GROUND, WHITE);
            assert!(dark.contrast(DARK_GROUND) >= ENOUGH_CONTRAST, "{hex}");
        }
    }

    #[test]
    fn only_six_hex_digits_are_a_color() {
        for bad in [
            "",
            "0b5cad",
            "#0b5ca",
            "#0b5cadff",
            "#0b5cag",
            "#+b5cad",
            "red",
            "#é5cad",
        ] {
            assert!(Accent::from_hex(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_contact_is_a_link_only_when_it_is_safe() {
        let mail = Contact::from_text(" help@example.com ");
        assert_eq!(
            mail.link("no access: 4711").unwrap(),
            "mailto:help@example.com?subject=no%20access%3A%204711"
        );
        let site = Contact::from_text("https://help.example.com/new");
        assert_eq!(site.link("x").unwrap(), "https://help.example.com/new");
        for text in [
            "Service desk, +41 44 000 00 00",
            "javascript:alert(1)@a.b",
            "a@b?cc=c@d.e",
            "@",
        ] {
            assert_eq!(Contact::from_text(text).link("x"), None, "{text:?}");
        }
    }

    #[test]
    fn a_logo_is_known_by_its_content() {
        assert!(Logo::from_bytes(b"\x89PNG\r\n\x1a\n...").is_ok());
        let svg = Logo::from_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>").unwrap();
        assert!(svg.address().starts_with("data:image/svg+xml;base64,"));
        assert_eq!(Logo::from_bytes(b"GIF89a"), Err(BrandError::LogoFormat));
        let heavy = vec![0; MOST_LOGO_BYTES + 1];
        assert!(matches!(
            Logo::from_bytes(&heavy),
            Err(BrandError::LogoSize(_))
        ));
    }
}
