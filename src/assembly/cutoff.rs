//! The cut-off's own settings.

use std::collections::BTreeSet;

use url::Url;
use uuid::Uuid;

use crate::config::Config;
use crate::config::sync::ScopeOf;
use crate::sync::cutoff::Settings;
use crate::sync::cutoff::notices;

/// What the watch is told, if it is configured: the groups are those that policies, mappings and the scope of guests name.
#[must_use]
pub fn cutoff_settings(config: &Config) -> Option<Settings> {
    let cutoff = config.cutoff.as_ref()?;
    let mut admitting = BTreeSet::<Uuid>::new();
    let mut barring = BTreeSet::<Uuid>::new();
    for app in &config.applications {
        admitting.extend(app.access.allow.iter().filter_map(|rule| rule.group));
        barring.extend(app.access.deny.iter().filter_map(|rule| rule.group));
        let except = app.maintenance.iter().flat_map(|closed| &closed.except);
        admitting.extend(except.filter_map(|rule| rule.group));
    }
    let mapped = config.mapping.iter().flat_map(|mapping| &mapping.groups);
    admitting.extend(mapped.filter_map(|mapped| mapped.group));
    if config.guests_sync.scope == ScopeOf::Groups {
        admitting.extend(&config.guests_sync.groups);
    }
    Some(Settings {
        tenant: config.issuer.tenant,
        within: cutoff.within,
        admitting,
        barring,
        notices: cutoff
            .notifications
            .as_ref()
            .and_then(|told| notices(config, told.url.as_ref())),
    })
}

/// Without a URL of its own it is the sign-in host's.
fn notices(config: &Config, url: Option<&Url>) -> Option<notices::Settings> {
    let base = url.unwrap_or(&config.gateway.sign_in_url);
    let path = format!("/.kerbgate/{}", notices::PATH);
    Some(notices::Settings {
        host: config.gateway.sign_in_host.clone(),
        url: base.join(&path).ok()?,
    })
}
