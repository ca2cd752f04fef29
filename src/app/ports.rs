//! The published TLS port of each host, for the plain listener's redirects.

use std::collections::HashMap;

use crate::config::Config;

/// The published TLS port of each host; a wildcard's stands under `*.` and what follows.
#[derive(Clone, Debug)]
pub(super) struct Ports(HashMap<String, u16>);

/// The ports that `config` publishes.
pub(super) fn published(config: &Config) -> Ports {
    let port = |url: &url::Url| url.port_or_known_default().unwrap_or(443);
    let mut ports: HashMap<_, _> = config
        .applications
        .iter()
        .map(|app| (app.configured_host().to_owned(), port(&app.published_url)))
        .collect();
    ports.insert(
        config.gateway.sign_in_host.to_string(),
        port(&config.gateway.sign_in_url),
    );
    Ports(ports)
}

impl Ports {
    /// The port of `host`, itself or under a wildcard.
    pub(super) fn of(&self, host: &str) -> Option<u16> {
        let wildcard = || {
            let (_, parent) = host.split_once('.')?;
            self.0.get(&format!("*.{parent}"))
        };
        self.0.get(host).or_else(wildcard).copied()
    }
}
