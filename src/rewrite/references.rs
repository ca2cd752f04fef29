//! Headers that hold references: each one that leads to a backend leads to where it is published. Pure.
//!
//! `Location` and `Content-Location` (RFC 9110), `Refresh`, `Link` (RFC 8288), `Access-Control-Allow-Origin`
//! and the sources of `Content-Security-Policy`.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use http::header::Entry;

use crate::model::application::Application;
use crate::rewrite::table::Found;
use crate::rewrite::table::Links;
use crate::rewrite::table::Reference;
use crate::rewrite::table::Scheme;
use crate::rewrite::table::below;
use crate::rewrite::table::host_and_port;

/// The headers that are looked at.
pub const NAMES: [HeaderName; 7] = [
    header::LOCATION,
    header::CONTENT_LOCATION,
    header::REFRESH,
    header::LINK,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
];

/// Whose answer it is, and what leads where.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The application that answered.
    pub application: &'a Application,
    /// All published applications.
    pub links: &'a Links,
}

/// Translates the headers in [`NAMES`].
pub fn translate(headers: &mut HeaderMap, context: &Context<'_>) {
    let edit = |headers: &mut HeaderMap, name, better: &dyn Fn(&str) -> Option<String>| {
        let Entry::Occupied(mut entry) = headers.entry::<HeaderName>(name) else {
            return;
        };
        for value in entry.iter_mut() {
            let found = value.to_str().ok().and_then(better);
            if let Some(found) = found.and_then(|found| HeaderValue::try_from(found).ok()) {
                *value = found;
            }
        }
    };
    edit(headers, header::LOCATION, &|value| context.published(value));
    edit(headers, header::CONTENT_LOCATION, &|value| {
        context.published(value)
    });
    edit(headers, header::REFRESH, &|value| context.refresh(value));
    edit(headers, header::LINK, &|value| context.link(value));
    edit(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, &|value| {
        context.origin(value)
    });
    for name in [
        header::CONTENT_SECURITY_POLICY,
        header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    ] {
        edit(headers, name, &|value| context.policy(value));
    }
}

impl Context<'_> {
    /// The published form of a reference that leads to a backend; `None` when it may stay.
    #[must_use]
    pub fn published(&self, reference: &str) -> Option<String> {
        let reference = reference.trim();
        let Some(parsed) = Reference::parse(reference) else {
            return self.local(reference);
        };
        Some(self.resolve(parsed)?.url(parsed.scheme))
    }

    /// What a reference with an authority leads to; `None` when it may stay.
    #[must_use]
    pub fn resolve<'b>(&self, reference: Reference<'b>) -> Option<Found<'_, 'b>> {
        let (host, port) = host_and_port(reference.authority)?;
        if *host == *self.application.host.as_str() {
            return self.own(reference, port);
        }
        self.links.find(reference, &self.application.id)
    }

    /// An application that knows its published host (`keep_host`, `X-Forwarded-Host`), but perhaps neither
    /// that it is reached over TLS, nor at which port, nor below which prefix.
    fn own<'b>(&self, reference: Reference<'b>, port: Option<u16>) -> Option<Found<'_, 'b>> {
        let application = self.application;
        let backends = &application.backends;
        let its_own = |port| backends.iter().any(|one| one.url.port() == port);
        let port = port.filter(|port| Some(*port) != reference.scheme.default_port());
        if port.is_some() && port != application.published_url.port() && !its_own(port) {
            return None;
        }
        let published = self.links.of(&application.id)?;
        let secure = [Scheme::Http(443), Scheme::WebSocket(443)].contains(&reference.scheme);
        let rest = reference.rest;
        let at_home = below(rest, &published.prefix).is_some()
            || self
                .links
                .published_at(application.host.as_str(), rest)
                .is_some_and(|other| !other.prefix.is_empty());
        if at_home && secure && reference.authority == &*published.authority {
            return None;
        }
        let moved = if at_home {
            None
        } else {
            self.links.find_local(rest, application)
        };
        Some(moved.unwrap_or(Found {
            published,
            prefix: "",
            rest,
        }))
    }

    /// A path from the root: the backend's root is not always ours.
    fn local(&self, reference: &str) -> Option<String> {
        if !reference.starts_with('/') {
            return None;
        }
        let found = self.links.find_local(reference, self.application)?;
        if found.published.id != self.application.id {
            return Some(found.url(Scheme::None));
        }
        let prefix = &*found.published.prefix;
        if reference.len() == prefix.len() + found.rest.len() && reference.starts_with(prefix) {
            return None;
        }
        let path = found.path();
        // SECURITY: `/app//evil.example/` is a path of the backend; without `/app` it would be another host.
        // Browsers read a backslash as a slash and drop tabs; in HTML, `&#47;` is a slash too.
        let after = path.as_bytes().get(1);
        if after.is_some_and(|byte| matches!(byte, b'/' | b'\\' | b'&' | 0..=b' ')) {
            return Some(found.url(Scheme::None));
        }
        Some(path)
    }

    /// `5; url=https://backend/…`, as browsers take it.
    #[must_use]
    pub fn refresh(&self, value: &str) -> Option<String> {
        let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
        let (before, reference) = value.split_at_checked(at)?;
        let bare = reference.trim().trim_matches(['"', '\'']);
        Some(format!("{before}{}", self.published(bare)?))
    }

    /// `<https://backend/a>; rel="next", </b>; rel="last"`.
    fn link(&self, value: &str) -> Option<String> {
        let mut rest = value;
        let mut out = String::new();
        let mut changed = false;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((target, after)) = after.split_once('>') else {
                break;
            };
            let better = self.published(target);
            changed |= better.is_some();
            out.push_str(before);
            out.push('<');
            out.push_str(better.as_deref().unwrap_or(target));
            out.push('>');
            rest = after;
        }
        out.push_str(rest);
        changed.then_some(out)
    }

    /// The backend's own origin is the published one.
    ///
    /// SECURITY: of this application alone. Another one's published host may be shared with applications
    /// that this backend never meant to let read its answers.
    fn origin(&self, value: &str) -> Option<String> {
        let parsed = Reference::parse(value).filter(|parsed| parsed.rest.is_empty())?;
        let backends = &self.application.backends;
        let own = backends.iter().any(|one| parsed.is_at(&one.url));
        own.then(|| {
            self.application
                .published_url
                .origin()
                .ascii_serialization()
        })
    }

    /// The sources of a content security policy that are whole URLs.
    ///
    /// SECURITY: with a slash at the end, a source covers the application alone, not all of its host.
    #[must_use]
    pub fn policy(&self, value: &str) -> Option<String> {
        let mut out = String::new();
        let mut changed = false;
        for part in value.split_inclusive([' ', '\t', ';', ',']) {
            let source = part.trim_end_matches([' ', '\t', ';', ',']);
            let after = part.get(source.len()..).unwrap_or_default();
            let found = Reference::parse(source).and_then(|parsed| {
                let mut found = self.links.find(parsed, &self.application.id)?;
                if found.rest.is_empty() {
                    found.rest = "/";
                }
                Some(found.url(parsed.scheme))
            });
            changed |= found.is_some();
            out.push_str(found.as_deref().unwrap_or(source));
            out.push_str(after);
        }
        changed.then_some(out)
    }
}
