//! What Kerbgate asks Microsoft Graph: about a person who is signing in, and what has changed in the tenant.
//!
//! In: object ids, and links that Graph gave earlier. Out: group ids, people, pages of changes. Knows nothing of applications or
//! accounts. Only object ids stand in URLs, the host is the configured one, and addresses that come with tokens are never followed.
//!
//! Specification: Microsoft Graph v1.0, `checkMemberGroups` (at most 20 ids a call, nested groups included), `users/{id}`,
//! delta queries of users and groups, paging, throttling (429 and 503 with `Retry-After`).
//!
//! | File | What it is |
//! |---|---|
//! | `people` | what a sign-in asks: is this person in one of these groups, enabled |
//! | `tenant` | what a synchronization asks: deltas, members, the deleted, the assigned |
//! | `pages` | one page after the other, links pinned, circles noticed |
//! | `record` | what stands in a page |
//! | `exchange` | one question with its tries |
//! | `writes` | what a synchronization of partners reads and writes |
//! | `budget` | sign-ins before synchronizations |

mod budget;
mod error;
mod exchange;
mod link;
mod paging;
mod people;
mod question;
mod record;
mod retry;
mod tenant;
mod token;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

pub use budget::Priority;
pub use error::Error;
pub use link::Link;
pub use paging::Page;
pub use paging::Pages;
pub use paging::Then;
pub use people::User;
pub use record::Assignment;
pub use record::Change;
pub use record::DeletedUser;
pub use record::GroupState;
pub use record::Identified;
pub use record::Identity;
pub use record::Kind;
pub use record::MemberChange;
pub use record::Removal;
pub use record::Removed;
pub use record::Told;
pub use record::UserState;
pub use retry::Patience;
pub use token::Token;
pub use token::TokenFuture;
pub use token::TokenSource;
pub use writes::Application;
pub use writes::Invitation;
pub use writes::Known;
pub use writes::Letter;
pub use writes::Member;

/// How long Graph remembers where a delta stood: seven days for users and groups.
pub const DELTA_LASTS: Duration = Duration::from_secs(7 * 86_400);

/// Settings of the room.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base address; default `https://graph.microsoft.com/v1.0`.
    pub base_url: Url,
    /// `scope` of the token that opens it; default `https://graph.microsoft.com/.default`.
    pub scope: String,
    /// How long an answer about a person is believed; default 5 min.
    pub remember: Duration,
    /// Time for a sign-in's question, throttling included; default 8 s.
    pub deadline: Duration,
    /// How many people's answers are kept; default 20 000.
    pub capacity: u64,
    /// Resource units a second for all questions; default 150, less than half of what Graph gives the smallest tenant.
    pub units_per_second: u32,
    /// How patient a synchronization is.
    pub patience: Patience,
}

impl Settings {
    /// Microsoft's world-wide cloud.
    ///
    /// # Errors
    /// Never for the fixed address.
    pub fn microsoft() -> Result<Self, url::ParseError> {
        Ok(Self {
            base_url: Url::parse("https://graph.microsoft.com/v1.0")?,
            scope: "https://graph.microsoft.com/.default".to_owned(),
            remember: Duration::from_secs(300),
            deadline: Duration::from_secs(8),
            capacity: 20_000,
            units_per_second: 150,
            patience: Patience::default(),
        })
    }
}

/// Microsoft Graph, as the gateway's own application.
#[derive(Clone)]
pub struct Graph {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    http: reqwest::Client,
    source: TokenSource,
    token: Mutex<Option<token::Held>>,
    members: Cache<(Uuid, Uuid), bool>,
    budget: budget::Budget,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph({})", self.inner.settings.base_url)
    }
}

impl Graph {
    /// A client of the Graph at `settings.base_url`.
    ///
    /// # Errors
    /// The base address is no https URL.
    pub fn new(
        settings: Settings,
        http: reqwest::Client,
        source: TokenSource,
    ) -> Result<Self, Error> {
        if settings.base_url.scheme() != "https" || settings.base_url.cannot_be_a_base() {
            return Err(Error::Setting(settings.base_url.to_string()));
        }
        let members = Cache::builder()
            .max_capacity(settings.capacity)
            .time_to_live(settings.remember)
            .build();
        let budget = budget::Budget::new(settings.units_per_second);
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                http,
                source,
                token: Mutex::new(None),
                members,
                budget,
            }),
        })
    }

    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.inner.settings.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Setting(self.inner.settings.base_url.to_string()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_object_ids_stand_in_urls() {
        let settings = Settings::microsoft().unwrap();
        let source: TokenSource = Arc::new(|| Box::pin(async { Err("none".to_owned()) }));
        let graph = Graph::new(settings, reqwest::Client::new(), source).unwrap();
        assert_eq!(
            graph
                .url(&["users", "1111", "checkMemberGroups"])
                .unwrap()
                .as_str(),
            "https://graph.microsoft.com/v1.0/users/1111/checkMemberGroups"
        );
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_concluded() {
        let source: TokenSource = Arc::new(|| Box::pin(async { Err("secret expired".to_owned()) }));
        let graph = Graph::new(
            Settings::microsoft().unwrap(),
            reqwest::Client::new(),
            source,
        )
        .unwrap();
        let error = graph
            .check_member_groups(Uuid::from_u128(1), &[Uuid::from_u128(2)])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no access token for graph: secret expired"
        );
        assert!(
            graph
                .check_member_groups(Uuid::from_u128(1), &[])
                .await
                .unwrap()
                .is_empty()
        );
    }
}
