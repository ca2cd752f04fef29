//! What each part of the configuration was read from, so that a later reading shows what changed.
//!
//! In: the tables of the files as they are read, and the paths they name. Out: one [`Print`] for each
//! section and each application: a hash of its values and one of the named files' content. A comment or a
//! new order of keys is no change; a renewed certificate behind the same path is one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::digest::Context;
use aws_lc_rs::digest::SHA256;
use toml::de::DeTable;
use toml::de::DeValue;

/// The state of one section or application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Print {
    /// Of the values, secrets in the file included.
    values: Vec<u8>,
    /// Of what the named files hold.
    content: Vec<u8>,
    /// The files named.
    files: BTreeSet<PathBuf>,
}

/// The state of the whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prints {
    parts: BTreeMap<String, Print>,
    /// The files that the values themselves stand in.
    sources: BTreeSet<PathBuf>,
}

/// Sections whose paths are places to write to: their content is no setting.
const PLACES: [&str; 2] = ["gateway", "log"];

/// Paths as they are named while a file is read, each with the section that names it.
#[derive(Debug, Default)]
pub struct Named(RefCell<Vec<(String, PathBuf)>>);

impl Named {
    /// Notes that `section` names `path`.
    pub fn note(&self, section: &str, path: &Path) {
        let first = section.split('.').next().unwrap_or(section);
        self.0
            .borrow_mut()
            .push((first.to_owned(), path.to_owned()));
    }

    fn files(&self, of: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
        let named = self.0.borrow();
        let wanted = named.iter().filter(|(section, _)| of(section));
        wanted.map(|(_, path)| path.clone()).collect()
    }
}

impl Prints {
    /// Adds every section of the boot file.
    pub(super) fn boot(&mut self, source: &Path, table: &DeTable<'_>, named: &Named) {
        self.sources.insert(source.to_owned());
        for (key, value) in table {
            let section: &str = key.get_ref();
            let files = if PLACES.contains(&section) {
                BTreeSet::new()
            } else {
                named.files(|name| name == section)
            };
            let print = Print::of(value.get_ref(), files);
            self.parts.insert(section.to_owned(), print);
        }
    }

    /// Adds one application's file.
    pub(super) fn application(&mut self, file: &Path, table: &DeTable<'_>, named: &Named) {
        self.sources.insert(file.to_owned());
        let id = file.file_stem().and_then(|stem| stem.to_str());
        let print = Print::of_table(table, named.files(|_| true));
        self.parts.insert(application(id.unwrap_or("")), print);
    }

    /// True when none of `parts` differs, in value or in the files it names.
    #[must_use]
    pub fn same(&self, other: &Self, parts: &[&str]) -> bool {
        parts
            .iter()
            .all(|part| self.parts.get(*part) == other.parts.get(*part))
    }

    /// True when none of `parts` differs in value; what the files hold may.
    #[must_use]
    pub fn same_values(&self, other: &Self, parts: &[&str]) -> bool {
        let values = |of: &Self, part: &str| of.parts.get(part).map(|print| print.values.clone());
        parts
            .iter()
            .all(|part| values(self, part) == values(other, part))
    }

    /// The names of all parts that differ: `issuer`, `application wiki`.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.parts.keys().chain(other.parts.keys()).collect();
        let differs = |name: &&&String| self.parts.get(**name) != other.parts.get(**name);
        names
            .iter()
            .filter(differs)
            .map(|name| (*name).clone())
            .collect()
    }

    /// Every file that was read, the configuration's own and those it names.
    #[must_use]
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let named = self.parts.values().flat_map(|print| &print.files);
        self.sources.iter().chain(named).cloned().collect()
    }
}

/// The part's name of the application with this id.
#[must_use]
pub fn application(id: &str) -> String {
    format!("application {id}")
}

impl Print {
    fn of(value: &DeValue<'_>, files: BTreeSet<PathBuf>) -> Self {
        let mut hash = Context::new(&SHA256);
        add(&mut hash, value);
        Self::finish(hash, files)
    }

    fn of_table(table: &DeTable<'_>, files: BTreeSet<PathBuf>) -> Self {
        let mut hash = Context::new(&SHA256);
        add_table(&mut hash, table);
        Self::finish(hash, files)
    }

    fn finish(values: Context, files: BTreeSet<PathBuf>) -> Self {
        let mut content = Context::new(&SHA256);
        for file in &files {
            let held = fs::read(file).unwrap_or_default();
            add_bytes(&mut content, b'f', &held);
        }
        Self {
            values: values.finish().as_ref().to_vec(),
            content: content.finish().as_ref().to_vec(),
            files,
        }
    }
}

/// Each piece with its kind and length before it: no two different values make the same stream.
fn add_bytes(hash: &mut Context, kind: u8, bytes: &[u8]) {
    hash.update(&[kind]);
    hash.update(&bytes.len().to_le_bytes());
    hash.update(bytes);
}

fn add(hash: &mut Context, value: &DeValue<'_>) {
    match value {
        DeValue::String(text) => add_bytes(hash, b's', text.as_bytes()),
        DeValue::Integer(number) => add_bytes(hash, b'i', number.as_str().as_bytes()),
        DeValue::Float(number) => add_bytes(hash, b'd', number.as_str().as_bytes()),
        DeValue::Boolean(truth) => add_bytes(hash, b'b', &[u8::from(*truth)]),
        DeValue::Datetime(time) => add_bytes(hash, b't', time.to_string().as_bytes()),
        DeValue::Array(items) => {
            add_bytes(hash, b'[', &items.len().to_le_bytes());
            for item in items.iter() {
                add(hash, item.get_ref());
            }
        }
        DeValue::Table(table) => add_table(hash, table),
    }
}

fn add_table(hash: &mut Context, table: &DeTable<'_>) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.get_ref().cmp(b.get_ref()));
    add_bytes(hash, b'{', &entries.len().to_le_bytes());
    for (key, value) in entries {
        add_bytes(hash, b'k', key.get_ref().as_bytes());
        add(hash, value.get_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::Mistakes;
    use crate::config::reader::Section;
    use crate::config::reader::Source;

    fn prints(file: &Path, text: &str) -> Prints {
        fs::write(file, text).unwrap();
        let mistakes = Mistakes::default();
        let source = Source::read(file, &mistakes).unwrap();
        let table = source.parse(&mistakes);
        let root = Section::root(&source, &table, &mistakes);
        drop(root.section("pages").path("logo"));
        drop(root.section("log").path("file"));
        let mut prints = Prints::default();
        prints.boot(source.path(), table.get_ref(), source.named());
        prints
    }

    #[test]
    fn only_values_and_named_files_count() {
        let folder = tempfile::tempdir().unwrap();
        let (file, logo) = (folder.path().join("a.toml"), folder.path().join("logo"));
        fs::write(&logo, "one").unwrap();
        fs::write(folder.path().join("log"), "one").unwrap();
        let first = prints(
            &file,
            "[pages]\nlogo = \"logo\"\nn = 1\n[log]\nfile = \"log\"\n",
        );
        fs::write(folder.path().join("log"), "two").unwrap();
        let again = "# other\n[log]\nfile = \"log\"\n[pages]\nn = 1\nlogo = 'logo'\n";
        assert_eq!(first, prints(&file, again));
        assert!(first.files().contains(&logo), "{first:?}");

        fs::write(&logo, "two").unwrap();
        let other = prints(&file, again);
        assert_eq!(first.changed(&other), ["pages"]);
        assert!(first.same_values(&other, &["pages"]));
        assert!(!first.same(&other, &["log", "pages"]));

        let other = prints(&file, "[pages]\nlogo = \"logo\"\nn = 2\n");
        assert_eq!(first.changed(&other), ["log", "pages"]);
        assert!(!first.same_values(&other, &["pages"]));
        assert!(first.same(&other, &["issuer"]));
    }
}
