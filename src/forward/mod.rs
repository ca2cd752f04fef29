//! A request and a credential in, the backend's answer out, both streamed.
//!
//! Specifications: RFC 9110 7 (what a gateway does with a message), RFC 9112, RFC 4559 (Negotiate).
//!
//! # Why
//!
//! - The pool is our own: see [`pool`].
//! - A request is sent again only when hyper gives it back unsent, or when a kept connection ended without a
//!   word and doing it twice does no harm: see [`resend`]. The second time is the last.
//! - Whenever it is `send` that decides, a request with a body carries the token at once: by the time a 401
//!   arrives the body would be gone, and to keep it back (`Expect: 100-continue`) costs a round trip or,
//!   with servers that ignore it, a wait. A token that nobody asked for does no harm.
//! - A token goes with each request, on connections that already know the person too: whether a backend
//!   remembers is its business, and a backend that does takes a second token as gladly. `send` may say
//!   otherwise. `learn` believes only the backend's own word (`Persistent-Auth: true`), connection by
//!   connection: that a request without a token was not answered 401 may as well mean that the page is
//!   shown to anybody, and then the person would be nobody there without a sign of it.
//! - A request that goes on a new connection gets a token made for that one: whether it had none, for the old
//!   connection knew the person, or had one that the backend's replay cache may know (RFC 4120 3.2.3).
//! - A ticket is never sent over and over: a second 401 is an answer, and it is about us, not about the
//!   visitor.

pub mod balance;
pub mod binding;
pub mod body;
pub mod connect;
mod draft;
pub mod error;
pub mod frames;
pub mod headers;
pub mod health;
pub mod http2;
mod named;
pub mod negotiate;
pub mod pool;
pub mod queue;
pub mod reach;
pub mod resend;
pub mod share;
pub mod status;
pub mod upgrade;

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use url::Url;

use crate::forward::balance::Busy;
use crate::forward::balance::Group;
use crate::forward::balance::Server;
use crate::forward::body::Download;
use crate::forward::body::Upload;
use crate::forward::connect::Trust;
use crate::forward::draft::Asked;
use crate::forward::draft::Draft;
use crate::forward::draft::published_authority;
use crate::forward::error::Error;
use crate::forward::pool::Key;
use crate::forward::pool::Lease;
use crate::forward::pool::Limits;
use crate::forward::pool::Partition;
use crate::forward::pool::Pool;
use crate::model::application::Application;
use crate::model::application::SendToken;
use crate::model::application::Sso;
use crate::model::body::Body;
use crate::model::stop::Stop;
use crate::route::named::Named;
use crate::route::target::Target;

/// Makes the `Authorization` value for the backend with that place among the application's URLs, and for a
/// connection with that channel binding.
pub type Credential<'a> =
    dyn Fn(usize, Option<Arc<[u8]>>) -> BoxFuture<'a, Result<HeaderValue, Stop>> + Send + Sync + 'a;

/// Told of what a backend says before its answer (1xx, RFC 9110 15.2). HTTP/2's are not told: hyper drops them.
pub type OnInterim = Arc<dyn Fn(StatusCode, &HeaderMap) + Send + Sync>;

/// Everything about a request that its head and body do not say.
pub struct Exchange<'a> {
    /// The application it is for.
    pub application: &'a Application,
    /// The target that was authorized.
    pub target: &'a Target,
    /// Other resources of the application, which were authorized as well.
    pub named: Option<&'a Named>,
    /// The client's address.
    pub client: &'a str,
    /// Whose connections may carry it.
    pub partition: Partition,
    /// Whom a server stays with under `policy = "sticky"`; absent = each server in turn.
    pub session: Option<[u8; 32]>,
    /// Headers that say who came.
    pub identity: &'a [(HeaderName, HeaderValue)],
    /// Who wants to know of interim responses.
    pub interim: Option<&'a OnInterim>,
}

/// A backend's answer.
#[derive(Debug)]
pub struct Answer {
    /// As the backend gave it; `rewrite` is next.
    pub response: Response<Body>,
    /// Which of the application's backend URLs answered.
    pub index: usize,
    /// What the backend answered to our token, for mutual authentication.
    pub backend_token: Option<HeaderValue>,
    /// Whether the connection had served a request before.
    pub reused: bool,
}

/// Sends requests to backends.
#[derive(Debug)]
pub struct Forwarder {
    pool: Arc<Pool>,
    trust: Trust,
    tls: Arc<ClientConfig>,
    /// By published URL: each segment of an application has servers of its own.
    groups: ArcSwap<HashMap<Url, Arc<Group>>>,
    /// How many health checks may run at a time.
    checks: Arc<Semaphore>,
}

/// A server that takes the request, and the connection to it.
struct Reached<'a> {
    server: &'a Server,
    index: usize,
    lease: Lease,
}

const SWEEP: Duration = Duration::from_secs(10);

impl Forwarder {
    /// A forwarder without connections; its pool is swept as long as it lives.
    ///
    /// # Errors
    /// An authority that is no certificate, or a machine without any.
    pub fn new(trust: Trust, limits: Limits) -> Result<Self, rustls::Error> {
        let pool = Pool::new(limits);
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        Ok(Self {
            pool,
            tls: connect::client_config(trust.clone(), None)?,
            trust,
            groups: ArcSwap::default(),
            checks: Arc::new(Semaphore::new(health::AT_ONCE)),
        })
    }

    /// Begins to ask the servers of applications that want it whether they are well.
    pub fn watch(&self, applications: &[Arc<Application>]) {
        for application in applications {
            if application.balance.health.is_none() {
                continue;
            }
            match self.group(application) {
                Ok(group) => {
                    let host = application
                        .keep_host
                        .then(|| published_authority(application));
                    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
                    health::begin(&group, host.as_ref(), &self.checks);
                }
                Err(error) => {
                    tracing::error!(application = %application.id, %error, "no health checks");
                }
            }
        }
    }

    /// Asks no server any more: another forwarder has taken over.
    pub fn rest(&self) {
        self.groups
            .load()
            .values()
            .for_each(|group| group.checks.stop());
    }

    /// Ends the waiting connections of a session that has ended.
    pub fn evict(&self, session: &[u8; 32]) {
        self.pool.evict(session);
    }

    /// Ends the waiting connections of all sessions.
    pub fn evict_all(&self) {
        self.pool.evict_all();
    }

    /// Forgets the servers of applications that are published no more, or elsewhere, and ends the
    /// connections that wait for them; those in use are finished.
    pub fn keep_only(&self, applications: &[Arc<Application>]) {
        let published: HashMap<_, _> = applications
            .iter()
            .map(|app| (app.configured_url(), app))
            .collect();
        self.groups.rcu(|groups| {
            let mut groups = HashMap::clone(groups);
            groups.retain(|url, group| {
                let stays = published.get(url).is_some_and(|app| group.is_of(app));
                if !stays {
                    group.checks.stop();
                }
                stays
            });
            groups
        });
        let groups = self.groups.load();
        let known: HashSet<u64> = groups.values().flat_map(|group| group.ids()).collect();
        self.pool.keep_only(|id| known.contains(&id));
    }

    /// How many connections wait for their next request.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pool.waiting()
    }

    /// Sends `request` and waits for the head of the answer; both bodies are streamed.
    ///
    /// The request's headers are scrubbed here, whatever was done before. `credential` makes the tokens
    /// of an application with Kerberos.
    ///
    /// # Errors
    /// When there is no answer that can be passed on.
    pub async fn send(
        &self,
        mut exchange: Exchange<'_>,
        credential: Option<&Credential<'_>>,
        request: Request<Body>,
    ) -> Result<Answer, Error> {
        let (head, body) = request.into_parts();
        let draft = Draft::new(&exchange, head)?;
        if draft.wish.is_some() {
            exchange.partition = Partition::Alone;
        }
        let group = self.group(exchange.application)?;
        let send = match &exchange.application.sso {
            Sso::Kerberos(kerberos) => kerberos.send,
            Sso::Headers(_) | Sso::None => SendToken::OnChallenge,
        };
        let has_body = !body.is_end_stream();
        let mut reached = self.reach(&group, &draft, &exchange).await?;
        let renew = credential.filter(|_| has_body || send != SendToken::OnChallenge);
        let token = match renew {
            Some(credential) if has_body || reached.lease.wants_token(send) => {
                Some(make(credential, reached.index, reached.lease.binding()).await?)
            }
            Some(_) | None => None,
        };
        let upload = match reached.lease.stream() {
            None => Upload::new(body).0.declare(&draft.trailers),
            Some(_) => http2::upload(body, &draft.identity),
        };
        let mut response = self
            .ask(&draft, &group, &mut reached, (token, upload), renew)
            .await?;
        match credential {
            Some(credential) if !reached.lease.with_token && negotiate::is_asked(&response) => {
                let partition = &exchange.partition;
                let group = (&*group, partition);
                let challenged = self.challenged(&draft, group, reached, response, credential);
                // Boxed, as what is rare: it would lie in every request's future.
                (response, reached) = Box::pin(challenged).await?;
            }
            Some(_) | None => {}
        }
        let Reached {
            server,
            index,
            mut lease,
        } = reached;
        if negotiate::is_asked(&response) {
            lease.taint();
        }
        if lease.with_token {
            let accepted = response.status() != StatusCode::UNAUTHORIZED;
            lease.judge(accepted, negotiate::is_persistent(response.headers()));
        }
        if credential.is_some() && negotiate::is_asked(&response) {
            return Err(refused(server, index));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return upgrade::switched(draft.wish.as_ref(), server, response, lease, index);
        }
        Ok(draft.answer(response, lease, index))
    }

    /// Answers a backend's challenge.
    async fn challenged<'a>(
        &self,
        draft: &Draft<'_>,
        (group, partition): (&'a Group, &Partition),
        reached: Reached<'a>,
        response: Response<Incoming>,
        credential: &Credential<'_>,
    ) -> Result<(Response<Incoming>, Reached<'a>), Error> {
        let Reached {
            server,
            index,
            mut lease,
        } = reached;
        lease.taint();
        let busy = lease.busy.take();
        drain(response, lease).await;
        let key = key(server, partition);
        let lease = self.connection(draft, server, &key, busy).await?;
        let token = make(credential, index, lease.binding()).await?;
        let empty = Upload::new(crate::model::body::empty()).0;
        let mut next = Reached {
            server,
            index,
            lease,
        };
        let response = self
            .ask(
                draft,
                group,
                &mut next,
                (Some(token), empty),
                Some(credential),
            )
            .await?;
        Ok((response, next))
    }

    async fn connection(
        &self,
        draft: &Draft<'_>,
        server: &Server,
        key: &Key,
        busy: Option<Busy>,
    ) -> Result<Lease, Error> {
        if let Some(mut lease) = self.pool.take(key) {
            lease.busy = busy;
            return Ok(lease);
        }
        if server.is_full() {
            self.pool.make_room(server.id);
        }
        let connection = draft.connected(server).await?;
        let mut lease = self.pool.lease(key, connection);
        lease.busy = busy;
        Ok(lease)
    }

    /// Sends once; a second time, on a new connection, where that does no harm.
    async fn ask<'a>(
        &self,
        draft: &Draft<'_>,
        group: &'a Group,
        reached: &mut Reached<'a>,
        (token, upload): (Option<HeaderValue>, Upload),
        renew: Option<&Credential<'_>>,
    ) -> Result<Response<Incoming>, Error> {
        let asked = draft
            .once(reached.server, &mut reached.lease, token, upload)
            .await;
        group.note(reached.server, asked.as_ref().map(Asked::answer));
        let body = match asked? {
            Asked::Answered(response) => return Ok(response),
            Asked::Again(body, error) => {
                tracing::debug!(%error, "sent once more");
                body
            }
        };
        // Boxed, as what is rare: it would lie in every request's future.
        Box::pin(self.ask_again(draft, group, reached, body, renew)).await
    }

    async fn ask_again<'a>(
        &self,
        draft: &Draft<'_>,
        group: &'a Group,
        reached: &mut Reached<'a>,
        body: Upload,
        renew: Option<&Credential<'_>>,
    ) -> Result<Response<Incoming>, Error> {
        self.renew(draft, group, reached).await?;
        // The connection that knew the person is gone, and a token was bound to its certificate.
        let token = match renew {
            Some(credential) => {
                Some(make(credential, reached.index, reached.lease.binding()).await?)
            }
            None => None,
        };
        let asked = match draft
            .once(reached.server, &mut reached.lease, token, body)
            .await
        {
            Ok(Asked::Answered(response)) => Ok(response),
            Ok(Asked::Again(_, error)) | Err(error) => Err(error),
        };
        group.note(reached.server, asked.as_ref().map(Some));
        asked
    }

    /// The servers of an application, as it is configured now.
    fn group(&self, application: &Application) -> Result<Arc<Group>, Error> {
        let known = self.groups.load();
        // One group for all hosts of a wildcard: the servers are the same.
        if let Some(group) = known.get(application.configured_url())
            && group.is_of(application)
        {
            return Ok(Arc::clone(group));
        }
        let group = Arc::new(Group::new(application, &self.tls(application)?));
        self.groups.rcu(|groups| {
            let mut groups = HashMap::clone(groups);
            let place = groups.entry(application.configured_url().clone());
            // Two requests may come to this at a time; what one of them counts, the other must see.
            let kept = place.or_insert_with(|| Arc::clone(&group));
            if !kept.is_of(application) {
                *kept = Arc::clone(&group);
            }
            groups
        });
        let known = self.groups.load();
        let known = known.get(application.configured_url());
        Ok(known
            .filter(|known| known.is_of(application))
            .cloned()
            .unwrap_or(group))
    }

    /// TLS as the application wants it: the common settings where it says nothing.
    fn tls(&self, application: &Application) -> Result<Arc<ClientConfig>, Error> {
        let wanted = &application.backend_tls;
        if wanted.authorities.is_empty() && wanted.client.is_none() {
            return Ok(Arc::clone(&self.tls));
        }
        let trust = match wanted.authorities.as_slice() {
            [] => self.trust.clone(),
            authorities => Trust::Authorities(authorities.to_vec()),
        };
        connect::client_config(trust, wanted.client.as_ref())
            .map_err(|error| Error::Misconfigured(format!("{}: {error}", application.id)))
    }
}

async fn sweep(pool: Weak<Pool>) {
    let mut tick = tokio::time::interval(SWEEP);
    while let Some(pool) = pool.upgrade() {
        pool.sweep();
        drop(pool);
        tick.tick().await;
    }
}

fn key(server: &Server, partition: &Partition) -> Key {
    Key {
        backend: server.id,
        partition: partition.clone(),
    }
}

async fn make(
    credential: &Credential<'_>,
    index: usize,
    binding: Option<Arc<[u8]>>,
) -> Result<HeaderValue, Error> {
    let mut token = credential(index, binding)
        .await
        .map_err(|stop| Error::Credential(Box::new(stop)))?;
    token.set_sensitive(true);
    Ok(token)
}

fn refused(server: &Server, index: usize) -> Error {
    Error::TicketRefused {
        backend: server.to_string(),
        index,
    }
}

/// Reads the rest of a challenge so that its connection can carry the answer to it.
async fn drain(response: Response<Incoming>, lease: Lease) {
    const LONGEST: usize = 64 * 1024;
    const PATIENCE: Duration = Duration::from_secs(2);
    let rest = http_body_util::Limited::new(Download::new(response.into_body(), lease), LONGEST);
    // A page too long to read costs its connection, nothing else.
    drop(tokio::time::timeout(PATIENCE, rest.collect()).await);
}

#[cfg(test)]
mod tests;
