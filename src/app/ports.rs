//! The published TLS port of each host, for the plain listener's redirects.

use std::collections::HashMap;

use crate::config::Config;
use crate::model::names::HostName;

/// The published TLS port of each host.
pub(super) type Ports = HashMap<HostName, u16>;

/// The ports that `config` publishes.
pub(super) fn published(config: &Config) -> Ports {
    let port = |url: &url::Url| url.port_or_known_default().unwrap_or(443);
    let mut ports: Ports = config
        .applications
        .iter()
        .map(|app| (app.host.clone(), port(&app.published_url)))
        .collect();
    ports.insert(
        config.gateway.sign_in_host.clone(),
        port(&config.gateway.sign_in_url),
    );
    ports
}
