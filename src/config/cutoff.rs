//! `[sync.cutoff]`: within what time whoever has left is out.

use std::time::Duration;

use url::Url;

use crate::config::Config;
use crate::config::reader::Section;

/// A fifth of it is how often Graph is asked.
const LEAST: Duration = Duration::from_secs(10);
/// Beyond that the sign-in's own end is nearer.
const MOST: Duration = Duration::from_secs(86_400);

/// The cut-off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// Within what time somebody disabled, deleted or taken out of a group is out.
    pub within: Duration,
    /// Whether Graph is asked to tell of changes, and where; absent = it is not.
    pub notifications: Option<Notifications>,
}

/// Change notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifications {
    /// Where Graph reaches the sign-in host; absent = at its own URL.
    pub url: Option<Url>,
}

pub(super) fn cutoff(section: &Section<'_>) -> Option<Cutoff> {
    if !section.exists() {
        return None;
    }
    let within = section.span("within", Duration::from_secs(300));
    if !(LEAST..=MOST).contains(&within) {
        section.mistake("within", "is not between 10 s and 1 d");
    }
    let notified = section.section("notifications");
    let notifications = notified.exists().then(|| Notifications {
        url: notified.parsed("url", "an https URL"),
    });
    let plain = |url: &Url| url.scheme() == "https" && url.query().is_none();
    let told = notifications.as_ref().and_then(|told| told.url.as_ref());
    if told.is_some_and(|url| !plain(url)) {
        notified.mistake("url", "is not an https URL without a query");
    }
    notified.finish();
    section.finish();
    Some(Cutoff {
        within,
        notifications,
    })
}

/// What only shows beside the other sections.
pub(super) fn together(config: &Config) -> Vec<(&'static str, String)> {
    if config.cutoff.is_some() && config.issuer.graph.is_none() {
        let why = "wants issuer.graph: there is nobody else who could be asked";
        return vec![("sync.cutoff", String::from(why))];
    }
    Vec::new()
}
