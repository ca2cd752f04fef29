//! Change notifications: Graph tells that something has changed, and the watch asks at once what.
//!
//! In: what is posted to our path on the sign-in host, by anybody. Out: a hint, if it carries the secret that only Graph was told.
//!
//! # Why
//! SECURITY: nothing that a notification says is believed. Whoever got hold of the secret could make the gateway ask Graph about
//! once a second, and nothing else. The secret itself is not kept: a hash of it is, in the store, for all replicas.
//!
//! Specification: Microsoft Graph v1.0, change notifications by webhook: `validationToken` answered as text/plain within 10 s,
//! 2xx within 3 s, `clientState` compared, lifecycle notifications (`reauthorizationRequired`, `subscriptionRemoved`, `missed`).

use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use serde::Deserialize;
use serde::Serialize;
use url::Url;
use uuid::Uuid;

use super::Error;
use super::Watch;
use super::mark::Mark;
use super::round::NAME;
use crate::graph;
use crate::graph::Subscription;
use crate::model::body;
use crate::model::body::Body;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::store::records::IdHash;

/// Our path, below `/.kerbgate/`.
pub const PATH: &str = "graph-notifications";

/// Where notifications arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The only host on which they do: the sign-in host.
    pub host: HostName,
    /// The URL that Graph is told.
    pub url: Url,
}

/// A subscription, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    id: Uuid,
    tenant: Uuid,
    resource: String,
    url: Url,
    until: i64,
    /// SHA-256 of the secret, base64url.
    state: String,
}

/// What is known here of the secrets.
#[derive(Debug, Default)]
pub(super) struct Known {
    kept: Vec<Kept>,
    read: Option<Instant>,
}

#[derive(Deserialize)]
struct Posted {
    value: Vec<Notice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    client_state: Option<String>,
    lifecycle_event: Option<String>,
}

impl Kept {
    fn is_of(&self, state: &str) -> bool {
        let Ok(hash) = URL_SAFE_NO_PAD.decode(&self.state) else {
            return false;
        };
        verify_slices_are_equal(IdHash::of(state).as_bytes(), &hash).is_ok()
    }
}

impl Watch {
    /// Whether `/.kerbgate/…` of this name is for [`Self::notified`].
    #[must_use]
    pub fn hears(&self, path: &str, host: &HostName) -> bool {
        let notices = self.settings.notices.as_ref();
        path == PATH && notices.is_some_and(|notices| notices.host == *host)
    }

    /// Answers what was posted to our path. Without the right secret nothing comes of it, and the answer is the same: a stranger
    /// learns nothing, and Graph does not repeat for hours what it owes to a subscription of the past.
    ///
    /// # Errors
    /// It is no notification.
    pub async fn notified(&self, head: &Parts, content: &[u8]) -> Result<Response<Body>, Stop> {
        if head.method != Method::POST {
            let detail = format!("{} {PATH}", head.method);
            return Err(Stop::deny(Code::MethodRefused, detail));
        }
        if let Some(token) = validation_token(head) {
            return validated(&token);
        }
        let bad = |why: &str| Stop::deny(Code::BadRequest, format!("{PATH}: {why}"));
        let posted: Posted =
            serde_json::from_slice(content).map_err(|_| bad("not as documented"))?;
        let mut right = false;
        for notice in posted.value.iter().take(MOST) {
            let Some(resource) = self.resource_of(notice).await else {
                continue;
            };
            right = true;
            if notice.lifecycle_event.is_some() {
                self.hints.tend.store(true, Ordering::Release);
            }
            if resource == GROUPS {
                self.hints.groups.store(true, Ordering::Release);
            }
        }
        if right {
            self.hints.give();
        } else {
            tracing::info!("a notification without the secret of a subscription is passed over");
        }
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }

    /// What the subscription with this secret is about.
    async fn resource_of(&self, notice: &Notice) -> Option<String> {
        let state = notice.client_state.as_deref()?;
        let found = |known: &Known| {
            let kept = known.kept.iter().find(|kept| kept.is_of(state))?;
            Some(kept.resource.clone())
        };
        {
            let mut known = self.known();
            if let Some(resource) = found(&known) {
                return Some(resource);
            }
            // Another replica may have subscribed a moment ago. Strangers do not make us read the store all the time.
            if known.read.is_some_and(|read| read.elapsed() < REREAD) {
                return None;
            }
            known.read = Some(Instant::now());
        }
        let text = self.tools.store.mark(NAME).await.ok()?;
        self.learn(&Mark::read(text.as_deref()));
        found(&self.known())
    }

    /// Takes over what the store says of subscriptions.
    pub(super) fn learn(&self, mark: &Mark) {
        self.known().kept.clone_from(&mark.subscriptions);
    }

    /// Subscribes, or lets subscriptions go on; at most two questions each.
    pub(super) async fn tend(&self, mark: &mut Mark) -> Result<(), Error> {
        let doubtful = self.hints.tend.swap(false, Ordering::AcqRel);
        let tended = self.tend_all(mark, doubtful).await;
        if doubtful && tended.is_err() {
            self.hints.tend.store(true, Ordering::Release);
        }
        tended
    }

    async fn tend_all(&self, mark: &mut Mark, doubtful: bool) -> Result<(), Error> {
        let Some(notices) = &self.settings.notices else {
            mark.subscriptions.clear();
            return Ok(());
        };
        let now = self.tools.clock.unix();
        let tenant = self.settings.tenant;
        let fits = |kept: &Kept| kept.url == notices.url && kept.tenant == tenant;
        mark.subscriptions
            .retain(|kept| fits(kept) && kept.until > now);
        let by_groups = !self.settings.admitting.is_empty() || !self.settings.barring.is_empty();
        let wanted = [USERS].into_iter().chain(by_groups.then_some(GROUPS));
        for resource in wanted {
            let of = |kept: &Kept| kept.resource == resource;
            if let Some(kept) = mark.subscriptions.iter_mut().find(|kept| of(kept)) {
                if !doubtful && kept.until - now > LASTS / 2 {
                    continue;
                }
                let prolonged =
                    self.tools
                        .graph
                        .prolong_subscription(resource, kept.id, now + LASTS);
                match prolonged.await {
                    Ok(prolonged) => {
                        kept.until = prolonged.until();
                        continue;
                    }
                    Err(graph::Error::ObjectUnknown { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            mark.subscriptions.retain(|kept| !of(kept));
            mark.subscriptions
                .push(self.subscribe(resource, &notices.url, now).await?);
        }
        Ok(())
    }

    async fn subscribe(&self, resource: &str, url: &Url, now: i64) -> Result<Kept, Error> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::NoSecret)?;
        let state = URL_SAFE_NO_PAD.encode(bytes);
        let wanted = Subscription {
            resource,
            url,
            state: &state,
            until: now + LASTS,
        };
        let made = self.tools.graph.subscribe(&wanted).await?;
        tracing::info!(resource, until = made.until(), "graph tells of changes");
        Ok(Kept {
            id: made.id,
            tenant: self.settings.tenant,
            resource: resource.to_owned(),
            url: url.clone(),
            until: made.until(),
            state: URL_SAFE_NO_PAD.encode(IdHash::of(&state).as_bytes()),
        })
    }
}

fn validation_token(head: &Parts) -> Option<String> {
    let query = head.uri.query()?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (_, token) = pairs.find(|(name, _)| name == "validationToken")?;
    Some(token.into_owned())
}

/// Says the token back, which anybody may ask for: as text that no browser takes for anything else.
fn validated(token: &str) -> Result<Response<Body>, Stop> {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    let harmless = |c: char| plain(c) && !matches!(c, '<' | '>' | '"' | '\'' | '&');
    if token.is_empty() || token.len() > LONGEST || !token.chars().all(harmless) {
        let detail = format!("{PATH}: not a validation token as Graph sends it");
        return Err(Stop::deny(Code::BadRequest, detail));
    }
    let mut response = Response::new(body::full(token.to_owned()));
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

const USERS: &str = "users";
const GROUPS: &str = "groups";
/// Seconds: longer than a weekend's outage of nobody's, short enough that one nobody wants any more is soon gone.
const LASTS: i64 = 2 * 86_400;
const REREAD: Duration = Duration::from_secs(1);
/// Notices in one post that are looked at.
const MOST: usize = 1000;
/// Characters of a validation token.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_said_back_as_text_and_no_markup_ever() {
        let usual =
            "Validation: Testing client application reachability for subscription Request-Id: 5b";
        let answer = validated(usual).unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/plain")
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        for bad in [
            "",
            "<script>",
            "a\r\nb",
            "\"",
            "a&b",
            "ü",
            &"x".repeat(1025),
        ] {
            assert!(validated(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_secret_itself_fits() {
        let kept = Kept {
            id: Uuid::from_u128(1),
            tenant: Uuid::from_u128(2),
            resource: String::from(USERS),
            url: "https://login.example.com/".parse().unwrap(),
            until: 0,
            state: URL_SAFE_NO_PAD.encode(IdHash::of("secret").as_bytes()),
        };
        assert!(kept.is_of("secret"));
        for other in ["", "Secret", "secret ", &kept.state] {
            assert!(!kept.is_of(other), "{other}");
        }
    }
}
