//! `[maintenance]`: closed for a while, one application or all.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::applications::public;
use crate::config::applications::rules;
use crate::config::reader::Section;
use crate::model::application::maintenance::Maintenance;

/// Reads the section; `None` when it is not there.
pub(crate) fn read(section: &Section<'_>, prefix: Option<&str>) -> Option<Maintenance> {
    const WANTED: &str = "an instant such as \"2026-03-01T06:00:00Z\"";
    let message = section.text("message");
    let until = section.text("until");
    let except = rules(section, "except");
    let open = public::paths(section, "open", prefix);
    section.finish();
    let until = until.and_then(|text| match OffsetDateTime::parse(&text, &Rfc3339) {
        Ok(instant) => Some(instant.unix_timestamp()),
        Err(error) => {
            section.mistake("until", &format!("{text:?} is not {WANTED}: {error}"));
            None
        }
    });
    section.exists().then_some(Maintenance {
        message,
        until,
        except,
        open,
    })
}
