//! What leads where: every backend URL of every published application and its published URL.
//!
//! Built once for a configuration and shared by all requests; a changed configuration brings a new one. A
//! look-up costs one hash of the host, and allocates nothing as long as there is nothing to translate.
//!
//! SECURITY: a reference is only ever replaced by a published URL of the configuration and what followed
//! the backend URL in it, never by anything else that a client or a backend said.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

use url::Url;

use crate::model::application::Application;
use crate::model::names::AppId;

/// The schemes that are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http://` or `https://`; the default port differs.
    Http(u16),
    /// `ws://` or `wss://`.
    WebSocket(u16),
    /// `//`: as the page that holds it.
    None,
}

/// A reference with an authority, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// What stands before the authority.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: &'a str,
    /// Path, query and fragment; may be empty.
    pub rest: &'a str,
}

impl<'a> Reference<'a> {
    /// Takes `text` apart; `None` for what has no authority or another scheme.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, after) = Scheme::split(text)?;
        // A backslash ends the authority for browsers; none of ours holds one, so that it fits nothing.
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at_checked(end)?;
        Some(Self {
            scheme,
            authority,
            rest,
        })
    }

    /// True when it is on the server of `url`.
    #[must_use]
    pub fn is_at(&self, url: &Url) -> bool {
        let Some((host, port)) = host_and_port(self.authority) else {
            return false;
        };
        let port = port.filter(|port| Some(*port) != self.scheme.default_port());
        url.host_str() == Some(&*host) && same_port(self.scheme, port, url)
    }
}

/// `port` as it is written behind a `scheme`, and a backend's.
fn same_port(scheme: Scheme, port: Option<u16>, backend: &Url) -> bool {
    // Without a scheme, it is meant as the backend's own.
    let own = if backend.scheme() == "https" { 443 } else { 80 };
    let usual = scheme.default_port().unwrap_or(own);
    // The same server on its other usual port: applications switch between http and https.
    (port.is_none() && backend.port().is_none())
        || Some(port.unwrap_or(usual)) == backend.port_or_known_default()
}

impl Scheme {
    /// The scheme at the beginning of `text`, `//` included, and what follows.
    fn split(text: &str) -> Option<(Self, &str)> {
        if let Some(rest) = text.strip_prefix("//") {
            return Some((Self::None, rest));
        }
        const KNOWN: [(&str, Scheme); 4] = [
            ("https://", Scheme::Http(443)),
            ("http://", Scheme::Http(80)),
            ("wss://", Scheme::WebSocket(443)),
            ("ws://", Scheme::WebSocket(80)),
        ];
        KNOWN.into_iter().find_map(|(name, scheme)| {
            let start = text.get(..name.len())?;
            let rest = text.get(name.len()..)?;
            start.eq_ignore_ascii_case(name).then_some((scheme, rest))
        })
    }

    /// The port where none is written.
    #[must_use]
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Http(port) | Self::WebSocket(port) => Some(port),
            Self::None => None,
        }
    }
}

/// Where an application is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The application.
    pub id: AppId,
    /// `host[:port]`.
    pub authority: Box<str>,
    /// The path without its last slash; empty for the root.
    pub prefix: Box<str>,
}

impl Published {
    fn of(application: &Application) -> Self {
        let url = &application.published_url;
        Self {
            id: application.id.clone(),
            authority: match url.port() {
                Some(port) => format!("{}:{port}", application.host).into(),
                None => application.host.as_str().into(),
            },
            prefix: quiet(application.prefix.trim_end_matches('/')).into(),
        }
    }
}

/// A path in which no character means anything to HTML, CSS, JSON or a header.
fn quiet(path: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%:@+=".contains(&byte);
    if path.bytes().all(plain) {
        return path.into();
    }
    let quoted = path.bytes().map(|byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    quoted.collect::<String>().into()
}

/// A backend URL of an application.
#[derive(Clone, Debug)]
struct Place {
    url: Url,
    /// The path without its last slash.
    base: Box<str>,
    /// Index into [`Links::published`].
    published: usize,
}

/// What a reference turned out to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a, 'b> {
    /// The application, as it is published.
    pub published: &'a Published,
    /// What stands before `rest` in the published path, without a last slash.
    pub prefix: &'a str,
    /// What follows the backend URL: empty, or beginning with `/`, `?` or `#`.
    pub rest: &'b str,
}

impl<'a, 'b> Found<'a, 'b> {
    fn in_application(published: &'a Published, rest: &'b str) -> Self {
        Self {
            published,
            prefix: &published.prefix,
            rest,
        }
    }

    /// Everything before `rest`.
    #[must_use]
    pub fn head(&self, scheme: Scheme) -> String {
        let scheme = match scheme {
            Scheme::WebSocket(_) => "wss",
            Scheme::Http(_) | Scheme::None => "https",
        };
        format!("{scheme}://{}{}", self.published.authority, self.prefix)
    }

    /// The whole published URL.
    #[must_use]
    pub fn url(&self, scheme: Scheme) -> String {
        let head = self.head(scheme);
        format!("{head}{}{}", self.slash(), self.rest)
    }

    /// The published path.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}{}{}", self.prefix, self.slash(), self.rest)
    }

    fn slash(&self) -> &'static str {
        if self.prefix.is_empty() && !self.rest.starts_with('/') {
            "/"
        } else {
            ""
        }
    }
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub struct Links {
    published: Vec<Published>,
    ids: HashMap<AppId, usize>,
    /// By the backend's host, longest path first.
    backends: HashMap<Box<str>, Vec<Place>>,
    /// Indexes by the published host, longest path first.
    hosts: HashMap<Box<str>, Vec<usize>>,
}

impl Links {
    /// The table of `applications`.
    #[must_use]
    pub fn new<'a>(applications: impl IntoIterator<Item = &'a Application>) -> Self {
        let mut links = Self::default();
        // Which of a wildcard's hosts a link means, nobody knows.
        for application in applications.into_iter().filter(|app| !app.is_pattern()) {
            let index = links.published.len();
            let host = application.host.as_str().into();
            links.hosts.entry(host).or_default().push(index);
            links.ids.insert(application.id.clone(), index);
            links.published.push(Published::of(application));
            for backend in &application.backends {
                let Some(host) = backend.url.host_str() else {
                    continue;
                };
                let places = links.backends.entry(host.into()).or_default();
                places.push(Place {
                    url: backend.url.clone(),
                    base: backend.url.path().trim_end_matches('/').into(),
                    published: index,
                });
            }
        }
        for places in links.backends.values_mut() {
            places.sort_by_key(|place| std::cmp::Reverse(place.base.len()));
        }
        let published = &links.published;
        for hosts in links.hosts.values_mut() {
            let length = |index: &usize| published.get(*index).map_or(0, |one| one.prefix.len());
            hosts.sort_by_key(|index| std::cmp::Reverse(length(index)));
        }
        links
    }

    /// What a backend's `reference` leads to: the longest backend URL that fits, `own` before others.
    #[must_use]
    pub fn find<'b>(&self, reference: Reference<'b>, own: &AppId) -> Option<Found<'_, 'b>> {
        let (host, port) = host_and_port(reference.authority)?;
        let port = port.filter(|port| Some(*port) != reference.scheme.default_port());
        self.find_at((&host, port), reference.scheme, reference.rest, own)
    }

    fn find_at<'b>(
        &self,
        (host, port): (&str, Option<u16>),
        scheme: Scheme,
        path: &'b str,
        own: &AppId,
    ) -> Option<Found<'_, 'b>> {
        let places = self.backends.get(host)?;
        let mut best: Option<(usize, Found<'_, 'b>)> = None;
        for place in places {
            if !same_port(scheme, port, &place.url) {
                continue;
            }
            let (Some(rest), Some(published)) = (
                below(path, &place.base),
                self.published.get(place.published),
            ) else {
                continue;
            };
            let found = Found::in_application(published, rest);
            match best {
                Some((length, _)) if length > place.base.len() => break,
                Some(_) if published.id != *own => {}
                Some(_) | None => best = Some((place.base.len(), found)),
            }
            if published.id == *own {
                break;
            }
        }
        best.map(|(_, found)| found)
    }

    /// What the root-relative `path` of an answer of `own` leads to: below its own backend URL, else
    /// another application's on the same server.
    #[must_use]
    pub fn find_local<'b>(&self, path: &'b str, own: &Application) -> Option<Found<'_, 'b>> {
        let published = self.of(&own.id)?;
        // An application that was told its prefix (`X-Forwarded-Prefix`) has done it itself.
        let base = own.backends.first()?.url.path();
        let prefix = own.prefix.as_str();
        let is_told =
            !base.starts_with(prefix) && below(path, prefix.trim_end_matches('/')).is_some();
        if is_told {
            return None;
        }
        let bases = own.backends.iter().map(|backend| backend.url.path());
        if let Some(rest) = bases
            .map(|base| base.trim_end_matches('/'))
            .find_map(|base| below(path, base))
        {
            return Some(Found::in_application(published, rest));
        }
        own.backends.iter().find_map(|backend| {
            let (url, scheme) = (&backend.url, Scheme::None);
            let port = url.port_or_known_default();
            self.find_at((url.host_str()?, port), scheme, path, &own.id)
        })
    }

    /// Where the application `id` is published.
    #[must_use]
    pub fn of(&self, id: &AppId) -> Option<&Published> {
        self.published.get(*self.ids.get(id)?)
    }

    /// The application that is published at `host` and `path`.
    #[must_use]
    pub fn published_at(&self, host: &str, path: &str) -> Option<&Published> {
        let mut on_host = self.hosts.get(host)?.iter();
        on_host.find_map(|index| {
            let published = self.published.get(*index)?;
            below(path, &published.prefix).map(|_| published)
        })
    }
}

/// Host in lower case, and port.
///
/// SECURITY: `https://backend@evil/` leads to `evil`: an authority with userinfo is nobody's.
#[must_use]
pub fn host_and_port(authority: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        // RFC 5952: one spelling, the same as in the configuration's URLs.
        return Some((format!("[{address}]").into(), port(rest)?));
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let (host, rest) = authority.split_at_checked(end)?;
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(sound) {
        return None;
    }
    let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    };
    Some((host, port(rest)?))
}

fn port(text: &str) -> Option<Option<u16>> {
    match text.strip_prefix(':') {
        None if text.is_empty() => Some(None),
        None => None,
        Some("") => Some(None),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok().map(Some),
        Some(_) => None,
    }
}

/// What follows `base` (without its last slash) in `path`.
#[must_use]
pub fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(base)?;
    // SECURITY: `/application` is not below `/app`.
    (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
}
