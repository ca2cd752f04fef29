//! `[websocket]` of an application.

use std::time::Duration;

use url::Url;

use crate::config::reader::Section;
use crate::model::application::websocket::WebSocket;

/// Reads the section.
pub(super) fn websocket(section: &Section<'_>) -> WebSocket {
    const WANTED: &str = "an origin such as \"https://portal.example.com\"";
    let usual = WebSocket::default();
    let origins: Vec<Url> = section.list("origins", WANTED);
    for origin in &origins {
        // RFC 6454 6.2: scheme, host and port, nothing behind them.
        let bare = origin.path() == "/" && origin.query().is_none() && origin.fragment().is_none();
        if !bare || !matches!(origin.scheme(), "https" | "http") || !origin.username().is_empty() {
            section.mistake("origins", &format!("\"{origin}\" is not {WANTED}"));
        }
    }
    let max_age = section.span("max_age", Duration::ZERO);
    let read = WebSocket {
        allowed: section.flag("allowed", usual.allowed),
        origins: origins
            .iter()
            .map(|origin| origin.origin().ascii_serialization())
            .collect(),
        idle: section.span("idle", usual.idle),
        max_age: (!max_age.is_zero()).then_some(max_age),
    };
    section.finish();
    read
}
