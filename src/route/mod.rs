//! Which application is asked for, and does it want to know who asks?
//!
//! In: host and normalised path. Out: the application and the [`Entrance`], or one of the gateway's own
//! paths. Most specific first: the host exactly, then the longest path prefix, whatever the order of the
//! files. The cost of a look-up does not grow with the number of applications.

pub mod table;
pub mod target;

use std::collections::HashMap;
use std::sync::Arc;

use http::request::Parts;

use crate::model::application::Application;
use crate::model::application::cors;
use crate::model::application::cors::Preflight;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::route::table::Folder;
use crate::route::table::Place;
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

/// How a request goes on.
#[derive(Debug)]
pub enum Entrance {
    /// Through all rooms.
    SignedIn,
    /// Past the rooms that ask who it is; the backend is shown nobody.
    Anonymous(Anonymous),
}

/// The right to go on without a person. Only this room makes one, from the configuration.
#[derive(Debug)]
pub struct Anonymous(());

/// How `head`, asking for `target`, goes on in `app`. `empty` says that it has no body.
#[must_use]
pub fn entrance(app: &Application, head: &Parts, target: &Target, empty: bool) -> Entrance {
    // SECURITY: the target is the normalized one, the very bytes that are sent.
    let open = app.public.pass_through || app.public.anonymous.holds(target.path());
    let asked_before = || {
        app.cors.as_ref().is_some_and(|cors| {
            cors.preflight == Preflight::Backend
                && empty
                && cors::is_preflight(&head.method, &head.headers)
        })
    };
    if open || asked_before() {
        Entrance::Anonymous(Anonymous(()))
    } else {
        Entrance::SignedIn
    }
}

/// All published applications by host.
#[derive(Clone, Debug)]
pub struct Routes {
    hosts: HashMap<HostName, Folder>,
}

impl Routes {
    /// The table for `applications`; `sign_in_host` is the gateway's own.
    #[must_use]
    pub fn new(
        sign_in_host: HostName,
        applications: impl IntoIterator<Item = Arc<Application>>,
    ) -> Self {
        let mut hosts: HashMap<HostName, Folder> = HashMap::new();
        hosts.entry(sign_in_host).or_default();
        for app in applications {
            hosts.entry(app.host.clone()).or_default().publish(app);
        }
        Self { hosts }
    }

    /// What `host` (lower case, no trailing dot) and `target` lead to.
    ///
    /// # Errors
    /// `host-unknown` or `path-unknown`.
    pub fn find(&self, host: &str, target: &Target) -> Result<Matched, Stop> {
        let Some(root) = self.hosts.get(host) else {
            return Err(Stop::deny(Code::HostUnknown, format!("host {host:?}")));
        };
        let path = target.path();
        if let Some(own) = path.strip_prefix(OWN_PREFIX) {
            return Ok(Matched::Own(own.to_owned()));
        }
        match root.find(target) {
            Some(Place::In(app)) => Ok(Matched::Application(Arc::clone(app))),
            Some(Place::Before(app)) => Ok(Matched::AddSlash(app.prefix.clone())),
            None => Err(Stop::deny(
                Code::PathUnknown,
                format!("host {host}, path {path}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
