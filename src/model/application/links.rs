//! Which bodies are translated.

/// Kinds of bodies in which links to backends become links to published URLs; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// HTML and XHTML, with styles in them.
    pub html: bool,
    /// Style sheets.
    pub css: bool,
    /// JSON, and JSON in pages.
    pub json: bool,
    /// Scripts, and scripts in pages.
    pub javascript: bool,
    /// XML, SVG, and what WebDAV answers.
    pub xml: bool,
}

impl Translation {
    /// True when there is anything to translate.
    #[must_use]
    pub const fn any(self) -> bool {
        self.html || self.css || self.json || self.javascript || self.xml
    }
}
