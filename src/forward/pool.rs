//! Connections to backends that wait for their next request, kept apart by whose they are.
//!
//! # Why
//!
//! IIS and mod_auth_gssapi can take a connection for the person whose ticket came on it first
//! (RFC 4559 6). hyper-util's client keys its pool by address alone; so the pool is our own, and a key is
//! backend (which belongs to one application), session and principal. A connection never changes its
//! key, and one that ever carried Negotiate is never kept without a session.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::Either;
use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use crate::model::application::SendToken;

use super::balance::Busy;
use super::body::Upload;
use super::http2;
use super::resend::Heard;

/// Whose connections: nobody's in particular, or one session's alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Partition {
    /// For backends that learn in each request's headers who came.
    Anonymous,
    /// For backends that are sent Negotiate tokens.
    Session(SessionKey),
    /// Never a waiting one, and never kept: it is to become something else than HTTP.
    Alone,
}

/// One person's session, acting as one principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The session: the hash of its id, or of the bearer token that stands for one.
    pub session: [u8; 32],
    /// Whose tickets are sent.
    pub principal: Arc<str>,
}

impl Partition {
    const fn session(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Anonymous | Self::Alone => None,
            Self::Session(key) => Some(&key.session),
        }
    }
}

/// What a waiting connection may be used for, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The backend's number; see `balance`.
    pub backend: u64,
    /// Whose it is.
    pub partition: Partition,
}

/// How many connections wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one session and backend.
    pub per_session: usize,
    /// For one backend without sessions.
    pub per_backend: usize,
    /// In all.
    pub total: usize,
    /// Shorter than backends wait (IIS: 120 s, Apache: 5 s at its shortest default).
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_session: 4,
            // One for each of two HTTP/2 clients' streams; with fewer, every second request would pay for a connection.
            per_backend: 512,
            total: 4096,
            idle: Duration::from_secs(50),
        }
    }
}

/// The connections that wait.
#[derive(Debug)]
pub struct Pool {
    shards: Vec<Mutex<Shard>>,
    waiting: AtomicUsize,
    limits: Limits,
}

/// By session: all of a session's connections are found at once when it ends.
type Shard = HashMap<Option<[u8; 32]>, Slot>;

#[derive(Debug)]
struct Slot {
    /// False once the session ended; connections in use look at it when they come back.
    alive: Arc<AtomicBool>,
    waiting: HashMap<Key, VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    connection: Connection,
    since: Instant,
}

/// Where requests go in.
#[derive(Debug)]
enum Sender {
    /// One after the other; the connection ends with its task.
    Http1(SendRequest<Upload>, AbortHandle),
    /// One, on a connection that carries others beside it.
    Http2(http2::Stream),
}

impl Sender {
    /// What carries others' requests too is never kept here.
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender, _) => sender.is_closed(),
            Self::Http2(_) => true,
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender, _) => sender.is_ready(),
            Self::Http2(_) => false,
        }
    }
}

/// A connection, or a place on one; ends when dropped.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    /// It has carried Negotiate, or was asked for it.
    tainted: bool,
    /// Of its certificate; see [`super::binding`].
    binding: Option<Arc<[u8]>>,
    /// A token was accepted on it.
    accepted: bool,
    /// The backend said that it takes the connection for the person from now on.
    persistent: bool,
    /// Counts what the backend says.
    heard: Option<Heard>,
    /// Held where the number of connections has a limit.
    counted: Option<Arc<()>>,
}

impl Connection {
    /// A connection driven by `task`.
    pub const fn new(sender: SendRequest<Upload>, task: AbortHandle) -> Self {
        Self::of(Sender::Http1(sender, task))
    }

    /// A place on a connection with others.
    pub const fn multiplexed(stream: http2::Stream) -> Self {
        Self::of(Sender::Http2(stream))
    }

    const fn of(sender: Sender) -> Self {
        Self {
            sender,
            tainted: false,
            binding: None,
            accepted: false,
            persistent: false,
            heard: None,
            counted: None,
        }
    }

    /// The same, counted as one of its server's.
    #[must_use]
    pub fn counted(mut self, counted: Option<Arc<()>>) -> Self {
        self.counted = counted;
        self
    }

    /// The same, and where its bytes are counted.
    #[must_use]
    pub fn hearing(mut self, heard: Heard) -> Self {
        self.heard = Some(heard);
        self
    }

    /// Sends a request, which comes back if nothing of it was sent.
    pub fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        match &mut self.sender {
            Sender::Http1(sender, _) => Either::Left(sender.try_send_request(request)),
            Sender::Http2(stream) => Either::Right(stream.send(request)),
        }
    }

    /// The same, over TLS with this channel binding.
    #[must_use]
    pub fn bound(mut self, binding: Option<Arc<[u8]>>) -> Self {
        self.binding = binding;
        self
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match &self.sender {
            Sender::Http1(_, task) => task.abort(),
            Sender::Http2(_) => {}
        }
    }
}

/// A connection in use, and the way back.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    key: Key,
    alive: Arc<AtomicBool>,
    pool: Arc<Pool>,
    /// Has served a request before, so the backend may have closed it meanwhile.
    pub reused: bool,
    /// The request on it carries a token.
    pub with_token: bool,
    /// Counts the request where that decides who gets the next one.
    pub busy: Option<Busy>,
}

impl Lease {
    /// Sends a request, which comes back if nothing of it was sent.
    pub fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        self.connection.send(request)
    }

    /// The place among others' requests, where it is one.
    #[must_use]
    pub const fn stream(&self) -> Option<&http2::Stream> {
        match &self.connection.sender {
            Sender::Http1(..) => None,
            Sender::Http2(stream) => Some(stream),
        }
    }

    /// The same right on a new connection; the old one ends.
    pub fn renew(&mut self, connection: Connection) {
        self.connection = connection;
        self.reused = false;
    }

    /// Its channel binding, if it is TLS.
    #[must_use]
    pub fn binding(&self) -> Option<Arc<[u8]>> {
        self.connection.binding.clone()
    }

    /// How much the backend has said on it, if that is counted.
    #[must_use]
    pub const fn heard(&self) -> Option<&Heard> {
        self.connection.heard.as_ref()
    }

    /// Whose it is.
    #[must_use]
    pub const fn partition(&self) -> &Partition {
        &self.key.partition
    }

    /// Whether its next request needs a token to be the person's.
    #[must_use]
    pub const fn wants_token(&self, send: SendToken) -> bool {
        match send {
            SendToken::EachRequest => true,
            SendToken::EachConnection => !self.connection.accepted,
            SendToken::Learn => !self.connection.persistent,
            SendToken::OnChallenge => false,
        }
    }

    /// Notes what became of a token: whether it was accepted, and what the backend said of the connection.
    pub const fn judge(&mut self, accepted: bool, persistent: bool) {
        self.connection.accepted = accepted;
        self.connection.persistent = accepted && persistent;
    }

    /// Keeps further requests from a connection that many share: it may be dead.
    pub fn retire(&self) {
        if let Some(stream) = self.stream() {
            stream.retire();
        }
    }

    /// Notes that it carries, or was asked for, Negotiate.
    pub const fn taint(&mut self) {
        self.connection.tainted = true;
    }

    /// Back to the pool, after an answer was read to its end.
    pub fn release(self) {
        let Self {
            connection,
            key,
            alive,
            pool,
            ..
        } = self;
        // SECURITY: a connection that may know somebody is nobody's.
        let nobodys = key.partition == Partition::Alone
            || key.partition == Partition::Anonymous && connection.tainted;
        if !nobodys && !connection.sender.is_closed() {
            pool.put(key, &alive, connection);
        }
    }
}

const SHARDS: usize = 16;

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            waiting: AtomicUsize::new(0),
            limits,
        })
    }

    /// A waiting connection of exactly this key.
    pub fn take(self: &Arc<Self>, key: &Key) -> Option<Lease> {
        if key.partition == Partition::Alone {
            return None;
        }
        let mut shard = self.shard(key);
        let slot = slot(&mut shard, key);
        let alive = Arc::clone(&slot.alive);
        let waiting = slot.waiting.get_mut(key)?;
        let now = Instant::now();
        // The last one back is the most likely to be still open. The others are left to the sweep: hundreds may wait.
        let ready = waiting.iter().rposition(|one| {
            one.connection.sender.is_ready() && now - one.since < self.limits.idle
        });
        let Some(taken) = ready.and_then(|at| waiting.remove(at)) else {
            self.drop_stale(waiting);
            return None;
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(Lease {
            connection: taken.connection,
            key: key.clone(),
            alive,
            pool: Arc::clone(self),
            reused: true,
            with_token: false,
            busy: None,
        })
    }

    /// A lease of a connection that was just made for this key.
    pub fn lease(self: &Arc<Self>, key: &Key, connection: Connection) -> Lease {
        let alive = Arc::clone(&slot(&mut self.shard(key), key).alive);
        Lease {
            connection,
            key: key.clone(),
            alive,
            pool: Arc::clone(self),
            reused: false,
            with_token: false,
            busy: None,
        }
    }

    /// Whether a connection of exactly this key waits.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        let shard = self.shard(key);
        let slot = shard.get(&key.partition.session().copied());
        slot.and_then(|slot| slot.waiting.get(key))
            .is_some_and(|waiting| !waiting.is_empty())
    }

    /// Ends the connection to `backend` that waits longest, whosesoever it is, to make room for another.
    ///
    /// Looks through all waiting connections.
    pub fn make_room(&self, backend: u64) {
        let oldest = |shard: &Shard| {
            let all = shard.values().flat_map(|slot| &slot.waiting);
            let of_backend = all.filter(|(key, _)| key.backend == backend);
            let waiting =
                of_backend.filter_map(|(key, waiting)| Some((waiting.front()?.since, key)));
            let oldest = waiting.min_by_key(|(since, _)| *since);
            oldest.map(|(since, key)| (since, key.clone()))
        };
        let found = self
            .shards
            .iter()
            .filter_map(|shard| oldest(&shard.lock().unwrap_or_else(PoisonError::into_inner)));
        let Some((_, key)) = found.min_by_key(|(since, _)| *since) else {
            return;
        };
        let mut shard = self.shard(&key);
        let slot = shard.get_mut(&key.partition.session().copied());
        let waiting = slot.and_then(|slot| slot.waiting.get_mut(&key));
        if waiting.and_then(VecDeque::pop_front).is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends all waiting connections of a session; those in use end with their answer.
    pub fn evict(&self, session: &[u8; 32]) {
        let ended = self.lock(Some(session)).remove(&Some(*session));
        if let Some(slot) = ended {
            slot.alive.store(false, Ordering::Relaxed);
            let closed: usize = slot.waiting.values().map(VecDeque::len).sum();
            self.waiting.fetch_sub(closed, Ordering::Relaxed);
        }
    }

    /// Ends all waiting connections of all sessions.
    pub fn evict_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|session, slot| {
                if session.is_some() {
                    slot.alive.store(false, Ordering::Relaxed);
                    let closed: usize = slot.waiting.values().map(VecDeque::len).sum();
                    self.waiting.fetch_sub(closed, Ordering::Relaxed);
                }
                session.is_none()
            });
        }
    }

    /// Ends the waiting connections to backends that are not among the `known` ones.
    pub fn keep_only(&self, known: impl Fn(u64) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for slot in shard.values_mut() {
                let gone = slot.waiting.extract_if(|key, _| !known(key.backend));
                let closed: usize = gone.map(|(_, waiting)| waiting.len()).sum();
                self.waiting.fetch_sub(closed, Ordering::Relaxed);
            }
        }
    }

    /// Ends connections that waited too long, and forgets sessions without any.
    pub fn sweep(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, slot| self.is_needed(slot));
        }
    }

    fn is_needed(&self, slot: &mut Slot) -> bool {
        slot.waiting.retain(|_, waiting| {
            self.drop_stale(waiting);
            !waiting.is_empty()
        });
        // Connections in use hold the flag, and have to find it again.
        !slot.waiting.is_empty() || Arc::strong_count(&slot.alive) > 1
    }

    fn drop_stale(&self, waiting: &mut VecDeque<Waiting>) {
        let before = waiting.len();
        let now = Instant::now();
        waiting
            .retain(|one| !one.connection.sender.is_closed() && now - one.since < self.limits.idle);
        self.waiting
            .fetch_sub(before - waiting.len(), Ordering::Relaxed);
    }

    /// Tells each backend's number with how many connections to it wait; a backend may come several times.
    pub fn each(&self, mut tell: impl FnMut(u64, usize)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, waiting) in shard.values().flat_map(|slot| &slot.waiting) {
                tell(key.backend, waiting.len());
            }
        }
    }

    /// How many connections wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn put(&self, key: Key, alive: &Arc<AtomicBool>, connection: Connection) {
        let limit = match key.partition {
            Partition::Anonymous => self.limits.per_backend,
            Partition::Session(_) => self.limits.per_session,
            Partition::Alone => return,
        };
        let mut shard = self.shard(&key);
        // Another slot, or none: the session ended, and what looks like it is a later one.
        let Some(slot) = shard.get_mut(&key.partition.session().copied()) else {
            return;
        };
        if !Arc::ptr_eq(&slot.alive, alive) || !alive.load(Ordering::Relaxed) {
            return;
        }
        let waiting = slot.waiting.entry(key).or_default();
        if waiting.len() >= limit || self.waiting.load(Ordering::Relaxed) >= self.limits.total {
            return;
        }
        waiting.push_back(Waiting {
            connection,
            since: Instant::now(),
        });
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.lock(key.partition.session())
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn lock(&self, session: Option<&[u8; 32]>) -> MutexGuard<'_, Shard> {
        // A session's key is a hash: any byte of it spreads as well as another.
        let [byte, ..] = session.copied().unwrap_or_default();
        let at = usize::from(byte) % SHARDS;
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot<'a>(shard: &'a mut Shard, key: &Key) -> &'a mut Slot {
    shard
        .entry(key.partition.session().copied())
        .or_insert_with(|| Slot {
            alive: Arc::new(AtomicBool::new(true)),
            waiting: HashMap::new(),
        })
}
