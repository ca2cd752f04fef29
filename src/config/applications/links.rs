//! `[links]`: in which bodies links are translated.

use crate::config::reader::Section;
use crate::model::application::links::Translation;

/// Reads the section; nothing is translated when it is not there.
pub(crate) fn read(section: &Section<'_>) -> Translation {
    const WANTED: &str = "\"html\", \"css\", \"json\", \"javascript\" or \"xml\"";
    let mut translation = Translation::default();
    for kind in section.list::<String>("translate", WANTED) {
        match kind.as_str() {
            "html" => translation.html = true,
            "css" => translation.css = true,
            "json" => translation.json = true,
            "javascript" => translation.javascript = true,
            "xml" => translation.xml = true,
            other => section.mistake("translate", &format!("{other:?} is not {WANTED}")),
        }
    }
    section.finish();
    translation
}
