//! Reading TOML so that every mistake is reported at once, with file, line and key.
//!
//! Why not serde alone: it stops at the first mistake, and an operator would learn of five mistakes in
//! five restarts. Here each key is read on its own; what is wrong is noted and reading goes on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::prints::Named;
use crate::model::secret::Secret;

/// One mistake of a configuration, complete enough to be mended without the manual.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; 0 when it is no single one, or the file could not be read at all.
    pub line: usize,
    /// The full key, `section.key`; empty for a mistake of syntax.
    pub key: String,
    /// What is wrong, with the value, and what would be accepted.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// Where mistakes are gathered while reading goes on.
#[derive(Debug, Default)]
pub struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    /// Notes a mistake.
    pub fn note(&self, mistake: Mistake) {
        self.0.borrow_mut().push(mistake);
    }

    /// All mistakes, ordered by file and line.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Mistake> {
        let mut all = self.0.into_inner();
        all.sort_by(|a, b| (&a.file, a.line, &a.key).cmp(&(&b.file, b.line, &b.key)));
        all
    }

    /// True when nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A file's text with its path.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    named: Named,
}

impl Source {
    /// Reads `path`; an unreadable file is a mistake.
    pub fn read(path: &Path, mistakes: &Mistakes) -> Option<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Some(Self {
                path: path.to_owned(),
                text,
                named: Named::default(),
            }),
            Err(error) => {
                mistakes.note(Mistake {
                    file: path.to_owned(),
                    line: 0,
                    key: String::new(),
                    problem: format!("cannot be read: {error}"),
                });
                None
            }
        }
    }

    /// Parses the text; every mistake of syntax is noted, and what could be read is returned.
    pub fn parse<'s>(&'s self, mistakes: &Mistakes) -> Spanned<DeTable<'s>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors {
            mistakes.note(Mistake {
                file: self.path.clone(),
                line: error.span().map_or(1, |span| self.line(span.start)),
                key: String::new(),
                problem: error.message().to_owned(),
            });
        }
        table
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        before.bytes().filter(|b| *b == b'\n').count() + 1
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files and folders that the text names, as far as it was read.
    #[must_use]
    pub const fn named(&self) -> &Named {
        &self.named
    }
}

/// One table of a file while it is being read.
#[derive(Debug)]
pub struct Section<'a> {
    source: &'a Source,
    mistakes: &'a Mistakes,
    path: String,
    table: Option<&'a DeTable<'a>>,
    start: usize,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    /// The file's root table.
    #[must_use]
    pub fn root(
        source: &'a Source,
        table: &'a Spanned<DeTable<'a>>,
        mistakes: &'a Mistakes,
    ) -> Self {
        Self {
            source,
            mistakes,
            path: String::new(),
            table: Some(table.get_ref()),
            start: 0,
            known: RefCell::new(BTreeSet::new()),
        }
    }

    /// True when the table is in the file.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// The table under `key`; a missing one reads as empty.
    pub fn section(&self, key: &'static str) -> Self {
        let found = self.take(key);
        let table = found.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.note(key, value.span().start, &wrong(value.get_ref(), "a table"));
            }
            table
        });
        self.child(key, table, found.map_or(self.start, |v| v.span().start))
    }

    /// The tables of the array under `key`.
    pub fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.note(
                key,
                value.span().start,
                &wrong(value.get_ref(), "an array of tables"),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => sections.push(self.child(key, Some(table), item.span().start)),
                None => self.note(key, item.span().start, &wrong(item.get_ref(), "a table")),
            }
        }
        sections
    }

    fn child(&self, key: &str, table: Option<&'a DeTable<'a>>, start: usize) -> Self {
        Self {
            source: self.source,
            mistakes: self.mistakes,
            path: self.full(key),
            table,
            start,
            known: RefCell::new(BTreeSet::new()),
        }
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.value(key, "a text", |v| v.as_str().map(str::to_owned))
    }

    /// A truth value, or `default`.
    pub fn flag(&self, key: &'static str, default: bool) -> bool {
        self.value(key, "true or false", |v| v.as_bool())
            .unwrap_or(default)
    }

    /// A whole number within `range`, or `default`.
    pub fn number(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, &wanted, |v| {
            let number = v.as_integer()?.as_str().replace('_', "").parse().ok()?;
            range.contains(&number).then_some(number)
        })
        .unwrap_or(default)
    }

    /// A value of any type that can be read from a text.
    pub fn parsed<T: FromStr>(&self, key: &'static str, wanted: &str) -> Option<T> {
        self.value(key, wanted, |v| v.as_str()?.parse().ok())
    }

    /// A list of values that can be read from texts.
    pub fn list<T: FromStr>(&self, key: &'static str, wanted: &str) -> Vec<T> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            let wanted = format!("a list, each item {wanted}");
            self.note(key, value.span().start, &wrong(value.get_ref(), &wanted));
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str().and_then(|text| text.parse().ok()) {
                Some(parsed) => list.push(parsed),
                None => self.note(key, item.span().start, &wrong(item.get_ref(), wanted)),
            }
        }
        list
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        self.value(key, &format!("one of {}", words.join(", ")), |v| {
            let given = v.as_str()?;
            choices
                .iter()
                .find(|(word, _)| *word == given)
                .map(|(_, t)| *t)
        })
    }

    /// A span of time such as `"30s"`, `"5m"`, `"8h"`, `"2d"` or `"250ms"`, or `default`.
    pub fn span(&self, key: &'static str, default: Duration) -> Duration {
        self.value(
            key,
            "a span of time such as \"30s\", \"5m\" or \"8h\"",
            |v| parse_span(v.as_str()?),
        )
        .unwrap_or(default)
    }

    /// A number of bytes such as `"10MiB"`, or `default`; `"0"` means no limit where the key says so.
    pub fn size(&self, key: &'static str, default: u64) -> u64 {
        self.value(
            key,
            "a size such as \"64KiB\", \"10MiB\" or \"4GiB\"",
            |v| parse_size(v.as_str()?),
        )
        .unwrap_or(default)
    }

    /// A file or folder, relative to the file that names it.
    pub fn path(&self, key: &'static str) -> Option<PathBuf> {
        let given = self.text(key)?;
        let path = self.resolve(&given);
        self.source.named.note(&self.path, &path);
        Some(path)
    }

    /// A secret: exactly one of `key` (in the file), `key_file`, `key_env`, `key_credential`
    /// (a systemd credential's name). The names are given whole so that each stays searchable.
    pub fn secret(&self, keys: [&'static str; 4]) -> Option<Secret<String>> {
        let [inline, file, env, credential] = keys;
        let from_file = |key, path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                self.mistake(key, &format!("{} cannot be read: {error}", path.display()));
                None
            }
        };
        let mut found: Vec<(&'static str, Option<String>)> = Vec::new();
        if let Some(value) = self.take(inline) {
            // SECURITY: unlike any other value, a secret of the wrong type is not shown.
            let text = value.get_ref().as_str().map(str::to_owned);
            if text.is_none() {
                self.note(inline, value.span().start, "is not a text");
            }
            found.push((inline, text));
        }
        if let Some(path) = self.path(file) {
            found.push((file, from_file(file, path)));
        }
        if let Some(name) = self.text(env) {
            let value = std::env::var(&name).ok();
            if value.is_none() {
                self.mistake(env, &format!("the environment has no variable {name:?}"));
            }
            found.push((env, value));
        }
        if let Some(name) = self.text(credential) {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            if folder.is_none() {
                self.mistake(
                    credential,
                    "systemd passed no credentials ($CREDENTIALS_DIRECTORY is unset)",
                );
            }
            let path = folder.map(|dir| PathBuf::from(dir).join(&name));
            let value = path.and_then(|path| {
                self.source.named.note(&self.path, &path);
                from_file(credential, path)
            });
            found.push((credential, value));
        }
        if let [_, (second, _), ..] = found.as_slice() {
            let names = keys.join(", ");
            self.mistake(
                second,
                &format!("the secret is given twice; keep one of {names}"),
            );
        }
        let (key, value) = found.into_iter().next()?;
        if value.as_deref() == Some("") {
            self.mistake(key, "the secret is empty");
            return None;
        }
        value.map(Secret::new)
    }

    /// All entries of a table whose keys are free, such as host names.
    pub fn entries<T>(&self, wanted: &str, read: impl Fn(&str, &str) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            match value
                .get_ref()
                .as_str()
                .and_then(|text| read(key.get_ref(), text))
            {
                Some(entry) => all.push(entry),
                None => self.note(
                    key.get_ref(),
                    key.span().start,
                    &wrong(value.get_ref(), wanted),
                ),
            }
        }
        all
    }

    /// Notes that `key` is required and missing; passes a present value through.
    pub fn required<T>(&self, key: &str, wanted: &str, value: Option<T>) -> Option<T> {
        let given = self.table.is_some_and(|table| table.contains_key(key));
        if value.is_none() && !given {
            self.note(key, self.start, &format!("is missing; wanted: {wanted}"));
        }
        value
    }

    /// Notes a mistake at `key`'s line.
    pub fn mistake(&self, key: &str, problem: &str) {
        let at = self.table.and_then(|table| table.get(key));
        self.note(
            key,
            at.map_or(self.start, |value| value.span().start),
            problem,
        );
    }

    /// Notes every key that nobody read.
    ///
    /// SECURITY: an ignored key is how a group restriction was once lost in an upgrade
    /// (GHSA-652x-m2gr-hppm); an unknown key stops the start.
    pub fn finish(&self) {
        let known = self.known.borrow();
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            if !known.contains(key.get_ref().as_ref()) {
                let names: Vec<_> = known.iter().copied().collect();
                let problem = format!("is no known key here; known: {}", names.join(", "));
                self.note(key.get_ref(), key.span().start, &problem);
            }
        }
    }

    /// `path` relative to the file that names it.
    #[must_use]
    pub fn resolve(&self, path: &str) -> PathBuf {
        let base = self.source.path.parent().unwrap_or_else(|| Path::new("."));
        base.join(path)
    }

    fn take(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().insert(key);
        self.table?.get(key)
    }

    fn value<T>(
        &self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let read = read(value.get_ref());
        if read.is_none() {
            self.note(key, value.span().start, &wrong(value.get_ref(), wanted));
        }
        read
    }

    fn full(&self, key: &str) -> String {
        match (self.path.as_str(), key.contains('.')) {
            ("", _) => key.to_owned(),
            (path, _) if key.is_empty() => path.to_owned(),
            (path, true) => format!("{path}.{key:?}"),
            (path, false) => format!("{path}.{key}"),
        }
    }

    fn note(&self, key: &str, offset: usize, problem: &str) {
        self.mistakes.note(Mistake {
            file: self.source.path.clone(),
            line: self.source.line(offset),
            key: self.full(key),
            problem: problem.to_owned(),
        });
    }
}

fn wrong(value: &DeValue<'_>, wanted: &str) -> String {
    let shown = match value {
        DeValue::String(text) => Json::from(text.as_ref()).to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            format!("this {}", value.type_str())
        }
    };
    format!("{shown} is not {wanted}")
}

fn parse_span(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(split)?;
    let count: u64 = digits.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_secs(count.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(count.checked_mul(3600)?)),
        "d" => Some(Duration::from_secs(count.checked_mul(86400)?)),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(split)?;
    let count: u64 = digits.parse().ok()?;
    let factor: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(factor)
}

/// Addresses for host names, without DNS.
pub type Hosts = std::collections::BTreeMap<String, IpAddr>;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, with: impl FnOnce(&Section<'_>)) -> Vec<String> {
        let mistakes = Mistakes::default();
        let source = Source {
            path: PathBuf::from("k.toml"),
            text: text.to_owned(),
            named: Named::default(),
        };
        let table = source.parse(&mistakes);
        let root = Section::root(&source, &table, &mistakes);
        with(&root);
        root.finish();
        mistakes
            .into_sorted()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let found = read("a = 1\n[b]\nc = \"x\"\nunknown = 2\n", |root| {
            assert_eq!(root.text("a"), None);
            let b = root.section("b");
            assert_eq!(b.span("c", Duration::ZERO), Duration::ZERO);
            b.required::<String>("d", "a text", b.text("d"));
            b.finish();
        });
        assert_eq!(
            found,
            [
                "k.toml:1: a: 1 is not a text",
                "k.toml:2: b.d: is missing; wanted: a text",
                "k.toml:3: b.c: \"x\" is not a span of time such as \"30s\", \"5m\" or \"8h\"",
                "k.toml:4: b.unknown: is no known key here; known: c, d",
            ]
        );
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        let keys = ["s", "s_file", "s_env", "s_credential"];
        let found = read("s = \"canary\"\ns_env = \"PATH\"\n", |root| {
            assert!(root.secret(keys).is_some());
        });
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("given twice"), "{found:?}");
        assert!(!found[0].contains("canary"), "{found:?}");
    }

    #[test]
    fn spans_and_sizes() {
        assert_eq!(parse_span("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_span("8h"), Some(Duration::from_secs(28800)));
        assert_eq!(parse_span("8"), None);
        assert_eq!(parse_span("é"), None);
        assert_eq!(parse_size("10MiB"), Some(10 << 20));
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("99999999999GiB"), None);
    }
}
