//! Which application is asked for, and does it want to know who asks?
//!
//! In: host and normalised path. Out: the application and the [`Entrance`], or one of the gateway's own
//! paths. Most specific first: the host exactly, then the longest path prefix, whatever the order of the
//! files. The cost of a look-up does not grow with the number of applications. A wildcard host stands for hosts with one
//! more label; what it publishes becomes an application of its own for each of them that is asked for.

pub mod named;
pub mod table;
pub mod target;

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use http::request::Parts;
use moka::sync::Cache;

use crate::model::application::Application;
use crate::model::application::cors;
use crate::model::application::cors::Preflight;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::route::named::Named;
use crate::route::table::Folder;
use crate::route::table::Place;
use crate::route::target::BadTarget;
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

/// How `head`, asking for `target` and naming others, goes on in `app`. `empty` says that it has no body.
#[must_use]
pub fn entrance(
    app: &Application,
    head: &Parts,
    target: &Target,
    named: Option<&Named>,
    empty: bool,
) -> Entrance {
    // SECURITY: the targets are the normalized ones, the very bytes that are sent.
    let open = app.public.pass_through || named::all_in(&app.public.anonymous, target, named);
    let asked_before = || {
        named.is_none()
            && app.cors.as_ref().is_some_and(|cors| {
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
    /// By what follows the `*.`.
    wildcards: HashMap<HostName, Folder>,
    /// What wildcards have become, by host and prefix. Any client can ask for any host: bounded.
    found: Cache<(HostName, String), Arc<Application>>,
}

const FOUND: u64 = 4096;

impl Routes {
    /// The table for `applications`; `sign_in_host` is the gateway's own.
    #[must_use]
    pub fn new(
        sign_in_host: HostName,
        applications: impl IntoIterator<Item = Arc<Application>>,
    ) -> Self {
        let mut hosts: HashMap<HostName, Folder> = HashMap::new();
        let mut wildcards: HashMap<HostName, Folder> = HashMap::new();
        hosts.entry(sign_in_host).or_default();
        for app in applications {
            let kind = if app.is_pattern() {
                &mut wildcards
            } else {
                &mut hosts
            };
            kind.entry(app.host.clone()).or_default().publish(app);
        }
        Self {
            hosts,
            wildcards,
            found: Cache::new(FOUND),
        }
    }

    /// What `host` (lower case, no trailing dot) and `target` lead to.
    ///
    /// # Errors
    /// `host-unknown` or `path-unknown`.
    pub fn find(&self, host: &str, target: &Target) -> Result<Matched, Stop> {
        // A host of its own wins, whatever its paths.
        let Some(root) = self.hosts.get(host).or_else(|| self.wildcard(host)) else {
            return Err(Stop::deny(Code::HostUnknown, format!("host {host:?}")));
        };
        let path = target.path();
        if let Some(own) = path.strip_prefix(OWN_PREFIX) {
            return Ok(Matched::Own(own.to_owned()));
        }
        match root.find(target) {
            Some(Place::In(app)) if app.is_pattern() => self.instance(app, host),
            Some(Place::In(app)) => Ok(Matched::Application(Arc::clone(app))),
            Some(Place::Before(app)) => Ok(Matched::AddSlash(app.prefix.clone())),
            None => Err(Stop::deny(
                Code::PathUnknown,
                format!("host {host}, path {path}"),
            )),
        }
    }

    /// The wildcard above `host`: for one more label, no less and no more (RFC 9525 6.3).
    fn wildcard(&self, host: &str) -> Option<&Folder> {
        if self.wildcards.is_empty() {
            return None;
        }
        let (_, parent) = host.split_once('.')?;
        self.wildcards.get(parent)
    }

    /// The application that `pattern` is for `host`.
    fn instance(&self, pattern: &Application, host: &str) -> Result<Matched, Stop> {
        // SECURITY: stricter than a `Host` header; it becomes part of URLs and cookies' homes.
        let unknown = || Stop::deny(Code::HostUnknown, format!("host {host:?}"));
        let name: HostName = host.parse().map_err(|_| unknown())?;
        let key = (name.clone(), pattern.prefix.clone());
        if let Some(known) = self.found.get(&key) {
            return Ok(Matched::Application(known));
        }
        let app = Arc::new(pattern.at(name).ok_or_else(unknown)?);
        self.found.insert(key, Arc::clone(&app));
        Ok(Matched::Application(app))
    }

    /// The target of a request whose path holds `%2F`, where it cannot matter that some backends take it for a slash.
    ///
    /// # Errors
    /// The application does not keep it, or another reading leads elsewhere.
    pub fn with_slashes(&self, host: &str, uri: &Uri) -> Result<Target, Stop> {
        let refused = |why: String| Stop::deny(Code::TargetRefused, why);
        let (kept, opened) =
            Target::parse_with_slashes(uri).map_err(|bad| refused(bad.to_string()))?;
        let Matched::Application(app) = self.find(host, &kept)? else {
            return Err(refused(BadTarget::Disguised(b'/').to_string()));
        };
        if !app.keeps_encoded_slash {
            let detail = format!("%2f in the path; {} has encoded_slash = \"refuse\"", app.id);
            return Err(refused(detail));
        }
        // SECURITY: what is decided by path holds for both readings, or nobody gets in.
        let open = |target: &Target| {
            let closed = app.maintenance.as_ref();
            let paths = [&app.public.anonymous]
                .into_iter()
                .chain(closed.map(|closed| &closed.open));
            paths
                .map(|paths| paths.holds(target.path()))
                .collect::<Vec<_>>()
        };
        match self.find(host, &opened)? {
            Matched::Application(other)
                if other.published_url == app.published_url && open(&kept) == open(&opened) =>
            {
                Ok(kept)
            }
            Matched::Application(_) | Matched::Own(_) | Matched::AddSlash(_) => {
                let detail = format!("%2f in the path, which could lead to {}", opened.path());
                Err(refused(detail))
            }
        }
    }
}

#[cfg(test)]
mod tests;
