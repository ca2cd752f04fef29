//! Which application is asked for?
//!
//! In: host and normalised path. Out: the application, or one of the gateway's own paths. Most specific
//! first: the host exactly, then the longest path prefix, whatever the order of the files.

pub mod target;

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::application::Application;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::route::target::Target;

/// Prefix of the gateway's own paths on every published host.
pub const OWN_PREFIX: &str = "/.kerbgate/";

/// What a host and a path lead to.
#[derive(Clone, Debug)]
pub enum Matched {
    /// A published application.
    Application(Arc<Application>),
    /// One of the gateway's own paths: what follows [`OWN_PREFIX`].
    Own(String),
    /// The application's path without its last slash: relative links would break there.
    AddSlash(String),
}

/// All published applications by host.
#[derive(Clone, Debug)]
pub struct Routes {
    sign_in_host: HostName,
    hosts: HashMap<HostName, Vec<Arc<Application>>>,
}

impl Routes {
    /// The table for `applications`; `sign_in_host` is the gateway's own.
    #[must_use]
    pub fn new(
        sign_in_host: HostName,
        applications: impl IntoIterator<Item = Arc<Application>>,
    ) -> Self {
        let mut hosts: HashMap<HostName, Vec<Arc<Application>>> = HashMap::new();
        for app in applications {
            hosts.entry(app.host.clone()).or_default().push(app);
        }
        for apps in hosts.values_mut() {
            apps.sort_by_key(|app| std::cmp::Reverse(app.prefix.len()));
        }
        Self {
            sign_in_host,
            hosts,
        }
    }

    /// True when requests for `host` are answered at all.
    #[must_use]
    pub fn knows(&self, host: &HostName) -> bool {
        *host == self.sign_in_host || self.hosts.contains_key(host)
    }

    /// What `host` and `target` lead to.
    ///
    /// # Errors
    /// `host-unknown` or `path-unknown`.
    pub fn find(&self, host: &HostName, target: &Target) -> Result<Matched, Stop> {
        if !self.knows(host) {
            return Err(Stop::deny(Code::HostUnknown, format!("host {host}")));
        }
        let path = target.path();
        if let Some(own) = path.strip_prefix(OWN_PREFIX) {
            return Ok(Matched::Own(own.to_owned()));
        }
        let apps = self.hosts.get(host).map_or(&[][..], Vec::as_slice);
        for app in apps {
            match target.under(&app.prefix) {
                Some("") => return Ok(Matched::AddSlash(app.prefix.clone())),
                Some(_) => return Ok(Matched::Application(Arc::clone(app))),
                None => {}
            }
        }
        Err(Stop::deny(
            Code::PathUnknown,
            format!("host {host}, path {path}"),
        ))
    }
}
