//! `[balance.health]` of an application's file.

use std::time::Duration;

use crate::config::reader::Section;
use crate::model::application::health::Expected;
use crate::model::application::health::Health;

/// Reads the section; nothing where it is absent.
pub(super) fn health(section: &Section<'_>) -> Option<Health> {
    const PATH: &str = "a path on the servers such as \"/health\"";
    const STATUS: &str = "a status such as \"200\", or a class such as \"2xx\"";
    if !section.exists() {
        return None;
    }
    let path = section.required("path", PATH, section.text("path"));
    let mut status: Vec<Expected> = section.list("status", STATUS);
    if status.is_empty() {
        status.push(Expected::Class(2));
    }
    let times = |key, default| {
        let read = section.number(key, 1..=100, default);
        u32::try_from(read).unwrap_or(1)
    };
    let read = Health {
        path: path?,
        interval: section.span("interval", Duration::from_secs(10)),
        patience: section.span("timeout", Duration::from_secs(2)),
        status,
        healthy: times("healthy", 2),
        unhealthy: times("unhealthy", 3),
    };
    let plain = read.path.starts_with('/') && read.path.bytes().all(|b| b.is_ascii_graphic());
    if !plain || read.path.contains('#') || read.path.parse::<http::Uri>().is_err() {
        section.mistake("path", &format!("\"{}\" is not {PATH}", read.path));
    }
    if read.interval < Duration::from_millis(100) {
        section.mistake(
            "interval",
            "is shorter than 100ms; wanted: what the servers can bear",
        );
    }
    if read.patience.is_zero() || read.patience > Duration::from_secs(60) {
        section.mistake("timeout", "is not between 1ms and 60s");
    }
    section.finish();
    Some(read)
}
