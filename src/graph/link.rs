//! Links that Graph gives, `@odata.nextLink` and `@odata.deltaLink`: opaque, stored whole, and followed only to where
//! the configuration says Graph is.

use url::Url;

use super::error::Error;

/// A link of the configured Graph. Made only by [`super::Graph::link`] and from Graph's own pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link(Url);

impl Link {
    /// As Graph gave it, to be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// For an address put together here.
    pub(super) fn own(url: Url) -> Self {
        Self(url)
    }

    /// `text` if it leads to the Graph at `base`: same scheme, host, port and version.
    ///
    /// # Errors
    /// It leads elsewhere, or is no URL.
    pub(super) fn pinned(base: &Url, text: &str) -> Result<Self, Error> {
        let foreign = |host: &str| Error::ForeignLink(host.chars().take(100).collect());
        if text.len() > LONGEST {
            return Err(foreign("an address of more than 16 KiB"));
        }
        let url = Url::parse(text).map_err(|_| foreign("no address"))?;
        // SECURITY: the bearer token goes where this leads. Whoever could bend a link would be handed the tenant.
        let same = url.scheme() == base.scheme()
            && url.host() == base.host()
            && url.port_or_known_default() == base.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none();
        let version = base.path().trim_end_matches('/');
        let below = url
            .path()
            .strip_prefix(version)
            .is_some_and(|rest| rest.starts_with('/') && rest.len() > 1);
        // The parser has resolved dots; an encoded slash would let a server see others.
        let path = url.path().to_ascii_lowercase();
        let plain = !path.contains("%2f") && !path.contains("%5c") && !path.contains("//");
        if same && below && plain && url.fragment().is_none() {
            Ok(Self(url))
        } else {
            Err(foreign(&format!(
                "{}{}",
                url.host_str().unwrap_or_default(),
                url.path()
            )))
        }
    }
}

/// Graph's delta tokens are a few KiB.
const LONGEST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base() -> Url {
        Url::parse("https://graph.microsoft.com/v1.0").unwrap()
    }

    #[test]
    fn graphs_own_links_are_followed_as_they_are() {
        for link in [
            "https://graph.microsoft.com/v1.0/users/delta?$skiptoken=aB-_%2F%3D.x",
            "https://GRAPH.microsoft.com:443/v1.0/groups/delta?$deltatoken=z",
            "https://graph.microsoft.com/v1.0/users/microsoft.graph.delta()?$deltatoken=z",
        ] {
            assert!(Link::pinned(&base(), link).is_ok(), "{link}");
        }
        let kept = "https://graph.microsoft.com/v1.0/users/delta?$skiptoken=aB-_%2F%3D.x";
        assert_eq!(Link::pinned(&base(), kept).unwrap().as_str(), kept);
    }

    #[test]
    fn a_link_to_elsewhere_is_never_followed() {
        for link in [
            "https://graph.microsoft.com.evil.example/v1.0/users",
            "https://evil.example/v1.0/users",
            "http://graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.com:444/v1.0/users",
            "https://graph.microsoft.com@evil.example/v1.0/users",
            "https://me@graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.com/beta/users",
            "https://graph.microsoft.com/v1.0",
            "https://graph.microsoft.com/v1.0/",
            "https://graph.microsoft.com/v1.0evil/users",
            "https://graph.microsoft.com/v1.0/../beta/users",
            "https://graph.microsoft.com/v1.0/%2e%2e/beta/users",
            "https://graph.microsoft.com/v1.0/..%2fbeta/users",
            "https://graph.microsoft.com/v1.0/..\\beta",
            "https://graph.microsoft.com/v1.0/..%5Cbeta",
            "https://graph.microsoft.com/v1.0//evil.example/x",
            "https://graph.microsoft.com/v1.0/users#x",
            "//evil.example/v1.0/users",
            "/v1.0/users",
            "users/delta",
            "",
        ] {
            assert!(Link::pinned(&base(), link).is_err(), "{link}");
        }
        let long = format!("{}/users?{}", base(), "x".repeat(LONGEST));
        assert!(Link::pinned(&base(), &long).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_followed_leads_to_graph(text in "(https://graph.microsoft.com)?[/@:.a-z0-9%\\\\#?]{0,40}") {
            if let Ok(link) = Link::pinned(&base(), &text) {
                prop_assert!(link.as_str().starts_with("https://graph.microsoft.com/v1.0/"));
            }
        }
    }
}
