//! Which of an application's servers gets a request: by its policy, those left out last.
//!
//! # Why
//!
//! - Sticky is rendezvous hashing over session and backend URL: losing a server moves only its people,
//!   every gateway and every restart chooses alike, and no further cookie is needed.
//! - A server left out is still tried when all others fail: a guess of ours never makes an outage.
//! - A server that fails its health checks is left out likewise, until they go well again; see [`super::health`].
//! - A refused connection leaves a server out at once, for nobody can be served; a gateway error may
//!   be about one page only, so it takes several in a row.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use http::HeaderValue;
use http::Response;
use http::StatusCode;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::model::application::Application;
use crate::model::application::Backend;
use crate::model::application::backend_http::BackendHttp;
use crate::model::application::backend_tls::BackendTls;
use crate::model::application::balance::Balance;
use crate::model::application::balance::Eject;
use crate::model::application::balance::Policy;

use super::error::Error;
use super::health::Checks;
use super::health::Verdict;
use super::http2::Http2;
use super::queue::Queue;
use super::queue::Slot;
use super::share;

/// One server, ready to be connected to.
#[derive(Debug)]
pub struct Server {
    /// Unlike any other's in this process: the number of a server that changed is never used again.
    pub id: u64,
    /// The host to resolve.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name its certificate has to have, and whom to believe that; absent = plain HTTP.
    pub tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// How HTTP/2 is spoken with it; absent = HTTP/1.1 alone.
    pub http2: Option<Http2>,
    /// Connect here instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// What it is called in `Host`.
    pub authority: HeaderValue,
    /// Its path without a slash at the end.
    pub base: String,
    /// What its URL adds to the hash of a session.
    seed: u64,
    /// Requests in flight; only counted under `least-requests`.
    in_flight: Option<Arc<AtomicUsize>>,
    /// Gateway errors and time-outs in a row.
    failures: AtomicU32,
    /// How many times in a row it was left out.
    times: AtomicU32,
    /// Milliseconds since the group's beginning until which it is left out.
    until: AtomicU64,
    /// How much it gets, compared with the others.
    weight: u32,
    /// What its health checks say.
    pub health: Verdict,
    /// Alive with each of its connections, where their number has a limit.
    pub connections: Option<(u32, Arc<()>)>,
}

/// A request in flight, for as long as it lives.
#[derive(Debug, Default)]
pub struct Busy {
    count: Option<Arc<AtomicUsize>>,
    /// Held where a server takes only so many.
    slot: Option<Slot>,
}

impl Busy {
    /// Which server its slot is on, if it has one.
    #[must_use]
    pub fn server(&self) -> Option<usize> {
        self.slot.as_ref()?.server()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(count) = &self.count {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Server {
    /// Counts one more request, where they are counted.
    #[must_use]
    pub fn busy(&self, slot: Option<Slot>) -> Busy {
        let count = self.in_flight.clone();
        if let Some(count) = &count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Busy { count, slot }
    }

    /// True when a further connection would be one too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.connections.as_ref().is_some_and(|(most, alive)| {
            // One is the server's own.
            Arc::strong_count(alive) > usize::try_from(*most).unwrap_or(usize::MAX)
        })
    }

    /// Requests in flight; absent where they are not counted.
    #[must_use]
    pub fn in_flight(&self) -> Option<usize> {
        let count = self.in_flight.as_ref()?;
        Some(count.load(Ordering::Relaxed))
    }

    fn load(&self) -> usize {
        self.in_flight().unwrap_or(0)
    }

    /// How long ago it came back after it was left out; absent = it never was.
    fn back(&self, now: u64) -> Option<Duration> {
        let since = self.until.load(Ordering::Relaxed).max(self.health.back());
        (since != 0).then(|| Duration::from_millis(now.saturating_sub(since)))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The servers of one application.
#[derive(Debug)]
pub struct Group {
    /// As configured, to see whether that changed.
    pub backends: Vec<Backend>,
    /// As configured.
    pub balance: Balance,
    /// As configured.
    tls: BackendTls,
    /// As configured.
    http: BackendHttp,
    /// The same, in the same order; a URL that cannot be used is `None`.
    servers: Vec<Option<Server>>,
    /// Where servers take only so many requests at a time.
    pub queue: Option<Arc<Queue>>,
    /// No weights, no warming up: each server gets as much as any other, always.
    even: bool,
    /// Ask whether the servers are well.
    pub checks: Checks,
    next: AtomicUsize,
    begin: Instant,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl Group {
    /// The servers of `application`, believed as `tls` says.
    #[must_use]
    pub fn new(application: &Application, tls: &Arc<ClientConfig>) -> Self {
        let balance = &application.balance;
        let shares = application
            .backends
            .iter()
            .map(|backend| balance.share(&backend.url));
        let shares: Vec<_> = shares.collect();
        let most: Vec<_> = shares.iter().map(|share| share.max_connections).collect();
        let first = shares.first().map(|share| share.weight);
        Self {
            queue: Queue::new(&balance.queue, &most),
            even: balance.slow_start.is_zero()
                && shares.iter().all(|share| Some(share.weight) == first),
            checks: Checks::default(),
            backends: application.backends.clone(),
            balance: application.balance.clone(),
            tls: application.backend_tls.clone(),
            http: application.backend_http,
            servers: application
                .backends
                .iter()
                .map(|backend| server(backend, application, tls))
                .collect(),
            next: AtomicUsize::new(0),
            begin: Instant::now(),
        }
    }

    /// True when nothing of it is configured otherwise now.
    ///
    /// SECURITY: TLS counts. A connection made under one profile is never used under another: another
    /// profile is another group, whose servers have other numbers in the pool's keys.
    #[must_use]
    pub fn is_of(&self, application: &Application) -> bool {
        self.backends == application.backends
            && self.balance == application.balance
            && self.tls == application.backend_tls
            && self.http == application.backend_http
    }

    /// The numbers of its servers.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.servers.iter().flatten().map(|server| server.id)
    }

    /// Each server with its configuration, in its order.
    pub fn each(&self) -> impl Iterator<Item = (&Backend, &Server)> {
        let servers = self.backends.iter().zip(&self.servers);
        servers.filter_map(|(backend, server)| Some((backend, server.as_ref()?)))
    }

    /// Each server with its place in the configuration, in its order.
    pub fn places(&self) -> impl Iterator<Item = (usize, &Server)> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(index, server)| Some((index, server.as_ref()?)))
    }

    /// True while `server` is left out.
    #[must_use]
    pub fn is_out(&self, server: &Server) -> bool {
        server.health.is_bad() || server.until.load(Ordering::Relaxed) > self.now()
    }

    /// The server at this place of the configuration.
    #[must_use]
    pub fn server(&self, index: usize) -> Option<&Server> {
        self.servers.get(index)?.as_ref()
    }

    /// The right to send one more request to `server`; `None` when it has its most.
    #[must_use]
    pub fn admit(&self, index: usize, server: &Server) -> Option<Busy> {
        match &self.queue {
            None => Some(server.busy(None)),
            Some(queue) => Some(server.busy(Some(queue.enter(index)?))),
        }
    }

    /// True when `session` waits for its own server rather than going to another one.
    #[must_use]
    pub const fn waits_for_its_own(&self, session: Option<&[u8; 32]>) -> bool {
        matches!(self.balance.policy, Policy::Sticky) && session.is_some()
    }

    /// Each server with its place in the configuration, in the order to be tried.
    pub fn in_turn(&self, session: Option<&[u8; 32]>) -> Vec<(usize, &Server)> {
        let mut servers: Vec<_> = self
            .servers
            .iter()
            .enumerate()
            .filter_map(|(index, server)| Some((index, server.as_ref()?)))
            .collect();
        if servers.len() > 1 {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let now = self.now();
            let is_out = |server: &Server| {
                server.health.is_bad() || server.until.load(Ordering::Relaxed) > now
            };
            servers.sort_by_key(|(_, server)| is_out(server));
            let well = servers.partition_point(|(_, server)| !is_out(server));
            let (well, out) = servers.split_at_mut(well);
            self.order(well, turn, session, now);
            self.order(out, turn, session, now);
        }
        servers
    }

    /// Brings servers that are alike otherwise into the order to be tried.
    fn order(
        &self,
        servers: &mut [(usize, &Server)],
        turn: usize,
        session: Option<&[u8; 32]>,
        now: u64,
    ) {
        if servers.len() < 2 {
            return;
        }
        let share =
            |server: &Server| share::of(server.weight, server.back(now), self.balance.slow_start);
        let first = if self.even {
            turn % servers.len()
        } else {
            let shares: Vec<_> = servers.iter().map(|(_, server)| share(server)).collect();
            share::turn(turn, &shares)
        };
        servers.rotate_left(first);
        match (self.balance.policy, session) {
            (Policy::Sticky, Some(session)) => {
                let session = number(session);
                let hash = |server: &Server| mix(server.seed ^ session);
                if self.even {
                    servers.sort_by_key(|(_, server)| std::cmp::Reverse(hash(server)));
                } else {
                    let rank = |server: &Server| share::rank(hash(server), share(server));
                    servers.sort_by(|(_, one), (_, other)| rank(other).total_cmp(&rank(one)));
                }
            }
            (Policy::LeastRequests, _) if self.even => {
                servers.sort_by_key(|(_, server)| server.load());
            }
            (Policy::LeastRequests, _) => {
                servers.sort_by_key(|(_, server)| share::busy(server.load(), share(server)));
            }
            (Policy::Sticky, None) | (Policy::RoundRobin, _) => {}
        }
    }

    /// Puts first, among servers that are as busy as the first, one that `waits`: for it a connection is ready.
    pub fn prefer(&self, servers: &mut [(usize, &Server)], waits: impl Fn(&Server) -> bool) {
        if self.balance.policy != Policy::LeastRequests {
            return;
        }
        let Some((_, first)) = servers.first() else {
            return;
        };
        let (load, out) = (first.load(), self.is_out(first));
        let tied = servers
            .iter()
            .take_while(|(_, server)| server.load() == load && self.is_out(server) == out)
            .count();
        if tied > 1
            && let Some((tied, _)) = servers.split_at_mut_checked(tied)
        {
            tied.sort_by_key(|(_, server)| !waits(server));
        }
    }

    /// Notes what the health checks of `server` have come to.
    pub fn judge(&self, server: &Server, well: bool, why: String) {
        server.health.set(well, why, self.now());
    }

    /// Notes that `server` took no connection.
    pub fn refused(&self, server: &Server) {
        self.eject(server, self.now());
    }

    /// Notes how `server` answered, if it did. What is the client's fault says nothing about it.
    pub fn note<T>(&self, server: &Server, asked: Result<Option<&Response<T>>, &Error>) {
        match asked {
            Ok(Some(response)) => {
                self.answered(server, !is_gateways(response.status()), self.now());
            }
            Ok(None) => {}
            Err(Error::FirstByte { .. } | Error::Closed { .. } | Error::Protocol { .. }) => {
                self.answered(server, false, self.now());
            }
            // A connection kept from before was closed, and no new one could be made.
            Err(Error::Unreachable { .. } | Error::ConnectTimeout { .. } | Error::Tls { .. }) => {
                self.refused(server);
            }
            Err(
                Error::Switched(_)
                | Error::Handshake { .. }
                | Error::TicketRefused { .. }
                | Error::Credential(_)
                | Error::Body(_)
                | Error::ClientGone
                | Error::Header(_)
                | Error::Upgrade(_)
                | Error::Method(_)
                | Error::QueueFull { .. }
                | Error::QueueLate { .. }
                | Error::NoneLeft { .. }
                | Error::Misconfigured(_),
            ) => {}
        }
    }

    fn answered(&self, server: &Server, well: bool, now: u64) {
        if !well {
            let failures = server
                .failures
                .fetch_add(1, Ordering::Relaxed)
                .saturating_add(1);
            if failures >= self.balance.eject.failures {
                self.eject(server, now);
            }
            return;
        }
        // Read first: a good server's counters stay in every core's cache.
        if server.failures.load(Ordering::Relaxed) != 0 {
            server.failures.store(0, Ordering::Relaxed);
        }
        let times = server.times.load(Ordering::Relaxed);
        if times != 0 {
            // Forgiven once it has been back for as long as it was out.
            let trial = millis(span(&self.balance.eject, times));
            if now >= server.until.load(Ordering::Relaxed).saturating_add(trial) {
                server.times.store(0, Ordering::Relaxed);
            }
        }
    }

    fn eject(&self, server: &Server, now: u64) {
        server.failures.store(0, Ordering::Relaxed);
        // One outage that many requests saw is one.
        if server.until.load(Ordering::Relaxed) > now {
            return;
        }
        let times = server.times.load(Ordering::Relaxed).saturating_add(1);
        server.times.store(times, Ordering::Relaxed);
        let out = span(&self.balance.eject, times);
        server
            .until
            .store(now.saturating_add(millis(out)), Ordering::Relaxed);
        tracing::warn!(backend = %server, ?out, "backend is left out");
    }

    fn now(&self) -> u64 {
        millis(self.begin.elapsed()).saturating_add(1)
    }
}

/// How long a server is left out the `times`-th time in a row.
fn span(eject: &Eject, times: u32) -> Duration {
    let factor = 2_u32.saturating_pow(times.saturating_sub(1));
    eject.first.saturating_mul(factor).min(eject.longest)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 9110 15.6: what a server in between says of the one behind it.
fn is_gateways(status: StatusCode) -> bool {
    [
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

/// A session's id is a hash already: any eight of its bytes are as good as all.
fn number(session: &[u8; 32]) -> u64 {
    session
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): fixed, so that every gateway agrees.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn server(backend: &Backend, application: &Application, tls: &Arc<ClientConfig>) -> Option<Server> {
    let url = &backend.url;
    let host = url
        .host_str()?
        .trim_start_matches('[')
        .trim_end_matches(']');
    let tls = match url.scheme() {
        "https" => {
            let name = match &application.backend_tls.server_name {
                Some(name) => name.clone(),
                None => ServerName::try_from(host.to_owned()).ok()?,
            };
            Some((name, Arc::clone(tls)))
        }
        _ => None,
    };
    let share = application.balance.share(url);
    let http2 = Http2::new(application.backend_http, tls.as_ref().map(|(_, tls)| tls));
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    Some(Server {
        id: IDS.fetch_add(1, Ordering::Relaxed),
        host: host.to_owned(),
        port: url.port_or_known_default()?,
        tls,
        http2,
        address: backend.address,
        authority: HeaderValue::try_from(authority).ok()?,
        base: url.path().trim_end_matches('/').to_owned(),
        seed: url
            .as_str()
            .bytes()
            .fold(0, |hash, byte| mix(hash ^ u64::from(byte))),
        in_flight: (application.balance.policy == Policy::LeastRequests).then(Arc::default),
        failures: AtomicU32::new(0),
        times: AtomicU32::new(0),
        until: AtomicU64::new(0),
        weight: share.weight,
        health: Verdict::default(),
        connections: share.max_connections.map(|most| (most, Arc::default())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::connect::Trust;
    use crate::forward::connect::client_config;
    use crate::model::application::balance::Share;

    fn group(policy: Policy, hosts: &[&str]) -> Group {
        let backends: Vec<Backend> = hosts
            .iter()
            .map(|host| Backend {
                url: format!("http://{host}/").parse().unwrap(),
                address: None,
            })
            .collect();
        let mut application = Application::sample();
        application.backends = backends;
        application.balance.policy = policy;
        let tls = client_config(Trust::Authorities(Vec::new()), None).unwrap();
        Group::new(&application, &tls)
    }

    fn first(group: &Group, session: &[u8; 32]) -> String {
        group.in_turn(Some(session))[0].1.host.clone()
    }

    fn sessions() -> impl Iterator<Item = [u8; 32]> {
        (0..3000_u64).map(|at| {
            let mut session = [0; 32];
            session[..8].copy_from_slice(&mix(at).to_be_bytes());
            session
        })
    }

    #[test]
    fn sticky_moves_only_the_lost_servers_people_and_shares_evenly() {
        let all = group(Policy::Sticky, &["a", "b", "c"]);
        let fewer = group(Policy::Sticky, &["a", "b"]);
        let mut lost = 0;
        for session in sessions() {
            let before = first(&all, &session);
            assert_eq!(before, first(&all, &session));
            if before == "c" {
                lost += 1;
            } else {
                assert_eq!(before, first(&fewer, &session));
            }
        }
        assert!((800..1200).contains(&lost), "{lost}");
    }

    #[test]
    fn least_requests_go_to_the_idle_one() {
        let group = group(Policy::LeastRequests, &["a", "b"]);
        let busy = group.servers[0].as_ref().unwrap().busy(None);
        for _ in 0..4 {
            assert_eq!(group.in_turn(None)[0].1.host, "b");
        }
        let both = group.servers[1].as_ref().unwrap();
        let (_one, _two) = (both.busy(None), both.busy(None));
        drop(busy);
        assert_eq!(group.in_turn(None)[0].1.host, "a");
    }

    #[test]
    fn a_server_is_left_out_longer_each_time_and_forgiven() {
        let group = group(Policy::RoundRobin, &["a", "b"]);
        let server = group.servers[0].as_ref().unwrap();
        for _ in 0..4 {
            group.answered(server, false, 1);
        }
        assert_eq!(server.until.load(Ordering::Relaxed), 0);
        group.answered(server, false, 1);
        assert_eq!(server.until.load(Ordering::Relaxed), 5001);
        group.eject(server, 2);
        assert_eq!(server.until.load(Ordering::Relaxed), 5001);
        group.eject(server, 6000);
        assert_eq!(server.until.load(Ordering::Relaxed), 16_000);
        group.answered(server, true, 20_000);
        assert_eq!(server.times.load(Ordering::Relaxed), 2);
        group.answered(server, true, 26_000);
        assert_eq!(server.times.load(Ordering::Relaxed), 0);
        assert_eq!(span(&group.balance.eject, 40), Duration::from_secs(300));
    }

    #[test]
    fn what_a_lost_server_had_is_shared_by_all_others() {
        let group = group(Policy::RoundRobin, &["a", "b", "c"]);
        group.judge(group.servers[0].as_ref().unwrap(), false, String::new());
        let firsts: Vec<_> = (0..6).map(|_| group.in_turn(None)[0].0).collect();
        assert_eq!(firsts.iter().filter(|first| **first == 1).count(), 3);
        assert_eq!(firsts.iter().filter(|first| **first == 2).count(), 3);
    }

    #[test]
    fn weights_hold_for_every_policy() {
        let mut application = Application::sample();
        application.backends = ["http://a/", "http://b/"]
            .map(|url| Backend {
                url: url.parse().unwrap(),
                address: None,
            })
            .to_vec();
        application.balance.servers.push(Share {
            url: "http://a/".parse().unwrap(),
            weight: 3,
            max_connections: None,
        });
        let tls = client_config(Trust::Authorities(Vec::new()), None).unwrap();
        for policy in [Policy::RoundRobin, Policy::LeastRequests, Policy::Sticky] {
            application.balance.policy = policy;
            let group = Group::new(&application, &tls);
            let mut held = Vec::new();
            let mut first = 0;
            for session in sessions() {
                let (index, server) = group.in_turn(Some(&session))[0];
                first += usize::from(index == 0);
                held.push(server.busy(None));
            }
            assert!((2150..2350).contains(&first), "{policy:?}: {first} of 3000");
        }
    }

    #[test]
    fn who_comes_back_gets_its_people_little_by_little() {
        let hosts = ["a", "b"];
        let mut group = group(Policy::Sticky, &hosts);
        group.even = false;
        group.balance.slow_start = Duration::from_secs(100);
        let mine: Vec<_> = sessions().filter(|one| first(&group, one) == "a").collect();
        let a = group.servers[0].as_ref().unwrap();
        a.health.set(false, String::new(), 1);
        assert!(mine.iter().all(|one| first(&group, one) == "b"));
        a.health.set(true, String::new(), 1);
        // A tenth of its weight: 0.1 of 1.1 instead of 1 of 2.
        let back = mine.iter().filter(|one| first(&group, one) == "a").count();
        assert!((100..450).contains(&back), "{back} of {}", mine.len());
        group.balance.slow_start = Duration::ZERO;
        assert!(mine.iter().all(|one| first(&group, one) == "a"));
    }

    #[test]
    fn who_is_left_out_is_the_last_resort_and_stays_one() {
        let group = group(Policy::RoundRobin, &["a", "b"]);
        group.refused(group.servers[0].as_ref().unwrap());
        for _ in 0..4 {
            let order: Vec<_> = group.in_turn(None).iter().map(|one| one.0).collect();
            assert_eq!(order, [1, 0]);
        }
    }
}
