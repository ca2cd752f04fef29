//! Who is it? A session cookie, a bearer token, or a trip to the issuer.
//!
//! In: a request's head and the application it is for. Out: an [`AuthenticatedUser`], which only this room can make; or
//! a [`Stop`]: a redirect to the sign-in for a page navigation, a denial for anything else.
//!
//! # The order is a security decision
//! 1. `Authorization: Bearer`, where the application accepts it: it decides alone. A bad token never falls back to a
//!    cookie, and a good one is used without looking at cookies, so no other site's page can lend it a session.
//! 2. The session cookie, valid on the one host it was made for.
//! 3. The sign-in: application's host → central host → issuer → central host → application's host. One sign-in at the
//!    issuer serves all hosts; each host gets a session of its own by a one-use code that only the browser which began
//!    there can redeem (a cookie of that host binds it). Everything that decides where to go back to stays in the store.
//!
//! Several tabs: each has its own entry in the store; the binding cookie is shared, kept if present and left to expire.
//!
//! Specifications: OpenID Connect Core 1.0, RFC 6749, RFC 6750, RFC 6265bis, RFC 9207, RFC 9700; OpenID Connect
//! RP-Initiated and Front-Channel Logout 1.0.

mod answer;
mod bearer;
pub mod cookie;
pub mod cookie_header;
pub mod fetch;
mod fragment;
pub mod kept_form;
mod news;
mod own_path;
mod params;
mod place;
mod random;
mod reason;
mod recheck;
pub mod seal;
mod session;
mod sign_in;
mod sign_out;
mod stay;
mod touches;
mod user;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header;
use http::request::Parts;
use tokio::sync::broadcast;
use url::Url;
use uuid::Uuid;

pub use fetch::is_navigation;
pub use own_path::OwnPath;
pub use stay::Stay;
pub use user::AuthenticatedUser;
pub use user::Ended;
pub use user::SessionKey;
pub use user::Via;

use crate::listener::Peer;
use crate::listener::buckets::Buckets;
use crate::listener::buckets::Key;
use crate::model::application::Application;
use crate::model::application::cors::Cors;
use crate::model::body::Body;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::model::rates::Rate;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::oidc::Issuer;
use crate::pages::Language;
use crate::pages::Pages;
use crate::store::Store;
use crate::store::records::EndReason;
use crate::store::records::IdHash;
use crate::store::records::Whose;

use fetch::Asks;
use recheck::Outcome;
use seal::Keyring;
use session::Found;
use session::Sessions;

/// Settings of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `https://login.example.com/`: the central host, whose callback is the only redirect URI.
    pub sign_in_url: Url,
    /// Its host name.
    pub sign_in_host: HostName,
    /// A session ends after so long without a request; default 8 h.
    pub idle: Duration,
    /// A sign-in ends after so long in any case; default 24 h.
    pub absolute: Duration,
    /// How often the issuer is asked whether the person may still sign in, and with which roles; default 5 min.
    pub recheck: Duration,
    /// How long sessions go on while the issuer cannot be asked; default 1 h. A sign-in that the issuer gave no refresh
    /// token for lasts just as long.
    pub issuer_grace: Duration,
    /// Time to finish a sign-in once begun; default 15 min.
    pub sign_in: Duration,
    /// Time for the hand-over from the central host; default 60 s.
    pub hand_over: Duration,
    /// How long a session is believed without reading the store again while the store tells no news; default 30 s.
    pub believe: Duration,
    /// How long known sessions go on while the store does not answer; default 10 min.
    pub store_grace: Duration,
    /// How many sessions are kept in memory; default 100 000.
    pub cached_sessions: u64,
    /// How many sign-ins one browser may have begun on one host; default 10.
    pub pending_per_browser: u32,
    /// How many sign-ins may have begun in all; default 20 000.
    pub pending_overall: u32,
    /// How fast one address may begin sign-ins; default: without limit.
    pub sign_ins: Option<Rate>,
    /// How fast one address may show tokens that do not hold; default: without limit.
    pub bad_tokens: Option<Rate>,
}

impl Settings {
    /// The defaults, for a central host.
    #[must_use]
    pub const fn new(sign_in_url: Url, sign_in_host: HostName) -> Self {
        Self {
            sign_in_url,
            sign_in_host,
            idle: Duration::from_secs(8 * 3600),
            absolute: Duration::from_secs(24 * 3600),
            recheck: Duration::from_secs(300),
            issuer_grace: Duration::from_secs(3600),
            sign_in: Duration::from_secs(900),
            hand_over: Duration::from_secs(60),
            believe: Duration::from_secs(30),
            store_grace: Duration::from_secs(600),
            cached_sessions: 100_000,
            pending_per_browser: 10,
            pending_overall: 20_000,
            sign_ins: None,
            bad_tokens: None,
        }
    }
}

/// Everything this room is built from.
#[derive(Debug)]
pub struct Needs {
    /// Settings.
    pub settings: Settings,
    /// Where sessions survive.
    pub store: Arc<dyn Store>,
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// Seals refresh tokens and verifiers.
    pub keyring: Keyring,
    /// What a person reads after, and before, signing out.
    pub pages: Pages,
    /// Now.
    pub clock: Clock,
}

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Authn {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: Arc<dyn Store>,
    issuer: Arc<Issuer>,
    keyring: Keyring,
    pages: Pages,
    clock: Clock,
    sessions: Sessions,
    /// How many sign-ins in a row a browser made on a host without showing a session afterwards.
    loops: moka::sync::Cache<(IdHash, HostName), u32>,
    /// The sign-in that a browser's other tab has just made for the same person.
    shared: moka::future::Cache<(IdHash, PersonId), Uuid>,
    renewals: moka::future::Cache<Uuid, Outcome>,
    sign_ins: Option<Buckets>,
    bad_tokens: Option<Buckets>,
    ended: broadcast::Sender<Ended>,
    /// Who we are in the store's leases.
    process: String,
}

impl Authn {
    /// Builds the room.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        let Needs {
            settings,
            store,
            issuer,
            keyring,
            pages,
            clock,
        } = needs;
        let sessions = Sessions::new(&settings, Arc::clone(&store), clock);
        let cache = |entries| moka::future::Cache::<_, _>::builder().max_capacity(entries);
        Self {
            inner: Arc::new(Inner {
                sessions,
                loops: moka::sync::Cache::builder()
                    .max_capacity(10_000)
                    .time_to_live(Duration::from_secs(300))
                    .build(),
                shared: moka::future::Cache::builder()
                    .max_capacity(10_000)
                    .time_to_live(settings.sign_in)
                    .build(),
                // Longer than a burst of waiting requests, shorter than anybody's patience; never longer than the issuer
                // is to be believed.
                renewals: cache(100_000)
                    .time_to_live(RENEWAL_REMEMBERED.min(settings.recheck))
                    .build(),
                sign_ins: settings.sign_ins.map(Buckets::new),
                bad_tokens: settings.bad_tokens.map(Buckets::new),
                ended: broadcast::channel(1024).0,
                process: Uuid::new_v4().to_string(),
                settings,
                store,
                issuer,
                keyring,
                pages,
                clock,
            }),
        }
    }

    /// The room with other needs that remembers what this one knows: sessions, and above all who has just
    /// been signed out. Both may serve at a time; receivers of [`Self::ended`] hear both.
    #[must_use]
    pub fn renewed(&self, needs: Needs) -> Self {
        let old = &self.inner;
        let fresh = Self::new(needs);
        let unchanged = old.settings == fresh.inner.settings;
        let Some(new) = Arc::into_inner(fresh.inner) else {
            return self.clone();
        };
        Self {
            inner: Arc::new(Inner {
                sessions: new.sessions.knowing(&old.sessions, unchanged),
                loops: old.loops.clone(),
                shared: if unchanged {
                    old.shared.clone()
                } else {
                    new.shared
                },
                renewals: if unchanged {
                    old.renewals.clone()
                } else {
                    new.renewals
                },
                ended: old.ended.clone(),
                process: old.process.clone(),
                ..new
            }),
        }
    }

    /// Who sends this request to `app`?
    ///
    /// `return_target` is the normalized path and query, to come back to after a sign-in.
    ///
    /// # Errors
    /// A redirect to the sign-in (page navigation without a session), or a denial or fault.
    pub async fn identify(
        &self,
        head: &Parts,
        app: &Application,
        return_target: &str,
    ) -> Result<AuthenticatedUser, Stop> {
        let inner = &self.inner;
        let bearer = bearer::token(&head.headers)?;
        if let Some(token) = bearer.filter(|_| !app.bearer_audiences.is_empty()) {
            return inner.bearer_user(token, app, client(head)).await;
        }
        let found = inner.sessions.find(&head.headers, &app.host).await?;
        let (code, why) = match found {
            Found::Live(live, standing) => {
                let own = || answer::origin(&app.published_url);
                let trusted = |cors: &Cors| cors.trusts(&head.headers);
                let foreign = fetch::is_foreign(head, &app.websocket.origins, own);
                if foreign && !app.cors.as_ref().is_some_and(trusted) {
                    let site = fetch::text(&head.headers, header::ORIGIN).unwrap_or("another site");
                    let detail = format!("from {}", crate::oidc::error::bounded(site));
                    return Err(Stop::deny(Code::ForeignOrigin, detail));
                }
                let standing = inner.still_welcome(standing).await?;
                inner.sessions.touch(&live);
                inner.not_in_a_loop(head, &app.host)?;
                return Ok(AuthenticatedUser::by_session(live.key(), &standing));
            }
            Found::Nothing if bearer.is_some() => {
                let detail = format!("application {} accepts no access tokens", app.id);
                return Err(Stop::deny(Code::BearerNotAccepted, detail));
            }
            Found::Nothing => (Code::SignInRequired, "no session"),
            Found::Expired(_) => (Code::SessionExpired, "its time ran out"),
            Found::Ended(reason) => (Code::SessionEnded, reason.as_str()),
        };
        match Asks::of(&head.method, &head.headers) {
            Asks::Page => Err(inner.begin(head, app, return_target).await?),
            // A redirect would lose it: see `kept_form`.
            Asks::Form => Err(Stop::deny(
                Code::SessionExpired,
                "a form was sent without a session",
            )),
            Asks::Data => Err(Stop::deny(code, format!("not a page navigation; {why}"))),
        }
    }

    /// Answers one of the gateway's own paths on `host`.
    ///
    /// # Errors
    /// A denial or fault.
    pub async fn own_path(
        &self,
        path: OwnPath,
        head: &Parts,
        body: Bytes,
        host: &HostName,
    ) -> Result<Response<Body>, Stop> {
        let inner = &self.inner;
        let central = *host == inner.settings.sign_in_host;
        if path.is_central() && !central {
            let detail = format!("{} on {host}", path.as_str());
            return Err(Stop::deny(Code::PathUnknown, detail));
        }
        let posts = head.method == http::Method::POST;
        if !(head.method == http::Method::GET || (posts && path == OwnPath::SignOut)) {
            let detail = format!("{} {}", head.method, path.as_str());
            return Err(Stop::deny(Code::MethodRefused, detail));
        }
        drop(body); // no path reads one: the sign-out form has no fields
        match path {
            OwnPath::SignIn => inner.sign_in(head, host, central).await,
            OwnPath::Callback => inner.callback(head).await,
            OwnPath::SignOut => inner.sign_out(head, host).await,
            OwnPath::SignedOut => {
                let language = Language::from_accept(&head.headers);
                Ok(inner.pages.signed_out(None, language))
            }
            OwnPath::FrontChannelLogout => inner.front_channel(head).await,
            OwnPath::Session => inner.session_status(head, host).await,
        }
    }

    /// Tells of sign-ins that ended before their time: whoever keeps tickets or connections of a session drops them.
    /// A receiver that lags must drop everything.
    #[must_use]
    pub fn ended(&self) -> broadcast::Receiver<Ended> {
        self.inner.ended.subscribe()
    }

    /// Ends all sign-ins of a person, here at once; returns how many.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn end_person(&self, person: PersonId, reason: EndReason) -> Result<usize, Stop> {
        self.inner.end(&Whose::Person(person), reason).await
    }

    /// Removes what has expired from the store, for ever: in small batches, once a minute. Never returns.
    pub async fn keep_tidy(self) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "expired records not removed");
            }
        }
    }

    /// Hears every second what has changed in the store: sign-outs on other replicas, above all. Never returns.
    pub async fn keep_informed(self) {
        let mut silent = false;
        let mut changed = BTreeSet::new();
        loop {
            let asked = self.inner.sessions.ask_for_news(&mut changed).await;
            self.inner.tell_of_ends(&mut changed).await;
            if let Err(error) = &asked
                && !silent
            {
                tracing::warn!(%error, "the store tells no news, sessions are read from it again");
            }
            silent = asked.is_err();
            tokio::time::sleep(NEWS_EVERY).await;
        }
    }

    async fn tidy(&self) -> Result<(), crate::store::Error> {
        // Kept a while longer so that "expired" can be told from "unknown".
        let before = self.inner.clock.unix().saturating_sub(KEEP_DEAD);
        while self.inner.store.sweep(before, TIDY_BATCH).await? > 0 {
            tokio::task::yield_now().await; // sign-ins come first
        }
        Ok(())
    }
}

impl Inner {
    /// Tells of those of `changed` that another replica has ended: tickets and connections are kept here, too. What cannot be
    /// read now stays for the next time.
    async fn tell_of_ends(&self, changed: &mut BTreeSet<Uuid>) {
        let mut ended = BTreeMap::new();
        for id in std::mem::take(changed) {
            match self.store.sign_in(id).await {
                Ok(Some(record)) => {
                    if let Some((_, reason)) = record.ended {
                        ended.insert(id, (record.claims.person, reason));
                    }
                }
                Ok(None) => {}
                Err(_) => drop(changed.insert(id)),
            }
        }
        if ended.is_empty() {
            return;
        }
        let hanging = self.sessions.hanging_on(&ended.keys().copied().collect());
        for (sign_in, (person, reason)) in ended {
            let own = hanging.iter().filter(|(id, _)| *id == sign_in);
            let told = Ended {
                person,
                sign_in,
                reason,
                sessions: own.map(|(_, hash)| SessionKey::new(*hash)).collect(),
            };
            drop(self.ended.send(told));
        }
    }

    /// Ends sign-ins and tells everybody.
    async fn end(&self, whose: &Whose, reason: EndReason) -> Result<usize, Stop> {
        let ended = self
            .store
            .end_sign_ins(whose, reason, self.clock.unix())
            .await
            .map_err(|e| reason::store(&e))?;
        let count = ended.len();
        for one in ended {
            self.sessions.forget(one.sign_in, reason, &one.sessions);
            tracing::info!(
                target: "audit",
                event = "sign-in-ended",
                person = %one.person,
                sign_in = %one.sign_in,
                reason = reason.as_str(),
                sessions = one.sessions.len(),
            );
            let told = Ended {
                person: one.person,
                sign_in: one.sign_in,
                reason,
                sessions: one.sessions.into_iter().map(SessionKey::new).collect(),
            };
            // No receiver is no error: nobody keeps anything.
            drop(self.ended.send(told));
        }
        Ok(count)
    }
}

/// The client that is counted; without a listener (tests) nobody.
fn client(head: &Parts) -> Option<Key> {
    let peer = head.extensions.get::<Peer>()?;
    Some(Key::address(peer.client))
}

const RENEWAL_REMEMBERED: Duration = Duration::from_secs(5);
const NEWS_EVERY: Duration = Duration::from_secs(1);
const TIDY_EVERY: Duration = Duration::from_secs(60);
const TIDY_BATCH: u32 = 500;
/// Overnight: who comes back in the morning and sends yesterday's form is still known.
const KEEP_DEAD: i64 = 24 * 3600;

/// Query parameters by name; a name that comes twice is an error where it is asked for.
type Query = HashMap<String, Vec<String>>;

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is shown fails the test"
)]
mod tests;
