//! Kerberos towards the inside: tickets and Negotiate tokens in a person's name.
//!
//! In come a principal, an SPN and the gateway's keytab; out come a token for one request ([`NegotiateToken`]),
//! or an [`Error`] with its [`Diagnosis`]. Protocol transition (S4U2Self) and constrained delegation
//! (S4U2Proxy, classic and resource-based) as in MS-SFU, over MIT's libkrb5 by way of libgssapi.
//!
//! # Why like this
//!
//! The worst that can happen here is a token in the wrong name. The wrong name is always the same one, the
//! gateway's: a context that finds no credential for its mechanism takes the process's default one. So there
//! is no default one ([`environment`], [`assert_isolated`]), the only mechanism ever asked for is the one
//! the credential was fetched for ([`spnego`] explains), the credential's mechanisms and name are looked at
//! after S4U2Self, the context's source name after S4U2Proxy, and for each token whose ticket it is made from.
//!
//! GSS-API blocks and cannot be interrupted: it runs on bounded threads of the room's own, those that may
//! wait for a KDC apart from those that only compute, with a deadline at the `await`.
//!
//! | File | What it is |
//! |---|---|
//! | `delegate.rs` | S4U2Self, S4U2Proxy, token, mutual authentication |
//! | `native.rs`, `aes.rs`, `md5.rs` | a warm token without GSS-API |
//! | `people.rs` | what is remembered about each person, and how it is forgotten |
//! | `tgt.rs`, `keytab.rs` | the gateway's own ticket, and the file it comes from |
//! | `sasl.rs` | the gateway's own identity towards the directory, and nowhere else |
//! | `address.rs`, `probe.rs`, `kdc.rs` | where the KDCs are, whether they answer, in which order they are asked |
//! | `krb5_conf.rs` | the file that tells libkrb5, and the process's environment |
//! | `ask.rs`, `workers.rs`, `ending.rs` | one question in bounded time; the threads; their end |
//! | `diagnose.rs`, `error.rs` | what went wrong, and the command that fixes it |
//! | `spnego.rs`, `der.rs`, `ffi.rs` | bytes; the only unsafe code of the house |

mod address;
mod aes;
mod ask;
mod delegate;
mod der;
mod diagnose;
mod ending;
mod error;
mod ffi;
mod kdc;
mod keytab;
mod krb5_conf;
mod md5;
mod native;
mod people;
mod probe;
mod sasl;
pub mod spnego;
mod tgt;
mod workers;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use libgssapi::context::ClientCtx;
use tokio::time::sleep;

use crate::model::clock::Clock;
use crate::model::names::Principal;
use crate::model::names::Realm;
use crate::model::names::Spn;

pub use address::KdcAddress;
pub use delegate::NegotiateToken;
pub use delegate::Timings;
pub use delegate::Wrap;
pub use diagnose::Diagnosis;
pub use diagnose::Kind;
pub use diagnose::Names;
pub use diagnose::Row;
pub use diagnose::by_alias;
pub use diagnose::by_code;
pub use diagnose::diagnose_as;
pub use diagnose::table;
pub use error::Error;
pub use error::GssError;
pub use error::Step;
pub use kdc::KdcStatus;
pub use keytab::Enctype;
pub use keytab::Entry;
pub use keytab::Keytab;
pub use keytab::KeytabError;
pub use krb5_conf::assert_isolated;
pub use krb5_conf::environment;
pub use probe::KdcHealth;
pub use probe::probe;
pub use sasl::SaslInitiator;
pub use tgt::TgtStatus;
pub use workers::LaneStatus;

use ask::Asker;
use kdc::KdcSettings;
use kdc::Kdcs;
use krb5_conf::Profile;
use native::Stamps;
use people::People;
use tgt::Keeper;

/// What the room needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The gateway's realm.
    pub realm: Realm,
    /// The gateway's account, as it stands in the keytab: `svc-gateway@CORP.EXAMPLE.COM`.
    pub principal: Principal,
    /// Its keytab.
    pub keytab: PathBuf,
    /// The realm's KDCs in the order to be tried. Empty: those that DNS names.
    pub kdcs: Vec<KdcAddress>,
    /// Trusted realms and their KDCs.
    pub trusted: Vec<(Realm, Vec<KdcAddress>)>,
    /// Where `krb5.conf` is written; the same folder that [`environment`] was given.
    pub runtime_dir: PathBuf,
    /// Whether RC4 is permitted.
    pub allow_rc4: bool,
    /// Threads for calls that may wait for a KDC.
    pub threads: usize,
    /// Calls that may wait for a thread.
    pub queue: usize,
    /// How long a call may take, queue included.
    pub deadline: Duration,
    /// How long a KDC may take to answer the probe.
    pub probe_timeout: Duration,
    /// How many people's tickets are held.
    pub people: u64,
    /// Makes every token by GSS-API, also those that need not be: what the other way is compared with.
    pub general: bool,
}

impl Settings {
    /// Settings with the usual limits.
    #[must_use]
    pub fn new(
        principal: Principal,
        realm: Realm,
        keytab: PathBuf,
        kdcs: Vec<KdcAddress>,
        runtime_dir: PathBuf,
    ) -> Self {
        Self {
            realm,
            principal,
            keytab,
            kdcs,
            trusted: Vec::new(),
            runtime_dir,
            allow_rc4: false,
            threads: 4,
            queue: 256,
            deadline: Duration::from_secs(8),
            probe_timeout: Duration::from_secs(1),
            people: 10_000,
            general: false,
        }
    }
}

/// Makes Negotiate tokens in people's names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delegator {
    inner: Arc<Inner>,
}

struct Inner {
    realm: Realm,
    asker: Asker,
    keeper: Keeper,
    kdcs: Arc<Kdcs>,
    people: People,
    anchor: OnceLock<Mutex<ClientCtx>>,
    stamps: Stamps,
    clock: Clock,
    general: bool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// What the room is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// The gateway's own ticket.
    pub tgt: TgtStatus,
    /// Threads that may wait for a KDC.
    pub kdc_lane: LaneStatus,
    /// Threads that only compute.
    pub local_lane: LaneStatus,
    /// Every KDC and its health.
    pub kdcs: Vec<KdcStatus>,
    /// People whose tickets are held; counted now and then, so not to the moment.
    pub people: u64,
}

impl Delegator {
    /// Checks keytab and environment, writes `krb5.conf`, starts the threads. No KDC needs to be up.
    ///
    /// # Errors
    /// The keytab is unusable, the process is not isolated, or the runtime folder cannot be written.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let Settings {
            realm,
            principal,
            keytab,
            kdcs,
            trusted,
            runtime_dir,
            allow_rc4,
            threads,
            queue,
            deadline,
            probe_timeout,
            people,
            general,
        } = settings;
        let runtime = tokio::runtime::Handle::try_current().map_err(|reason| Error::Setup {
            what: "runtime".to_owned(),
            reason: reason.to_string(),
        })?;
        let folder = runtime_dir.clone();
        let keeper = Keeper::start(principal.clone(), keytab, allow_rc4)?;
        let kdcs = Arc::new(Kdcs::start(KdcSettings {
            profile: Profile {
                realm: realm.clone(),
                allow_rc4,
                dns_lookup_kdc: kdcs.is_empty(),
            },
            principal,
            kdcs,
            trusted,
            runtime_dir,
            probe_timeout,
        })?);
        krb5_conf::assert_runs_in(&folder)?;
        assert_isolated()?;
        let asker = Asker::start(Arc::clone(&kdcs), threads, queue, deadline)?;
        let inner = Arc::new(Inner {
            realm,
            asker,
            keeper,
            kdcs,
            people: People::new(people),
            anchor: OnceLock::new(),
            stamps: Stamps::default(),
            clock: Clock::System,
            general,
        });
        runtime.spawn(watch_kdcs(Arc::downgrade(&inner)));
        runtime.spawn(tend_ticket(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// A token in `client`'s name for `spn`, for one request.
    ///
    /// `channel_binding` is the application data of RFC 5929 (`tls-server-end-point:` and the hash).
    ///
    /// # Errors
    /// See [`Error::diagnosis`].
    pub async fn negotiate(
        &self,
        client: &Principal,
        spn: &Spn,
        wrap: Wrap,
        channel_binding: Option<&[u8]>,
    ) -> Result<NegotiateToken, Error> {
        delegate::negotiate(&self.inner, client, spn, wrap, channel_binding).await
    }

    /// Forgets everything held in `client`'s name; what is being fetched now will not be kept either.
    pub async fn purge(&self, client: &Principal) {
        self.inner.people.purge(client).await;
    }

    /// Forgets everything held in anybody's name.
    pub fn purge_all(&self) {
        self.inner.people.purge_all();
    }

    /// Forgets `client`'s ticket for `spn`: the backend refused it, a new one may be good.
    pub async fn purge_ticket(&self, client: &Principal, spn: &Spn) {
        self.inner.people.purge_ticket(client, spn).await;
    }

    /// The gateway's own identity towards the directory service `spn` (`ldap/…` only).
    ///
    /// # Errors
    /// The SPN is of another class, or the gateway has no ticket of its own.
    pub async fn sasl_context(
        &self,
        spn: &Spn,
        channel_binding: Option<&[u8]>,
    ) -> Result<SaslInitiator, Error> {
        sasl::begin(&self.inner, spn, channel_binding).await
    }

    /// Asks the KDC on `host` first for a while: an account was just made there and has yet to replicate.
    ///
    /// # Errors
    /// `krb5.conf` cannot be written.
    pub fn prefer_kdc(&self, host: &str, span: Duration) -> Result<(), Error> {
        self.inner.kdcs.prefer(host, span)
    }

    /// Fetches the gateway's own ticket if there is none yet; for checks at start and for `doctor`.
    ///
    /// # Errors
    /// The KDC refused or could not be reached.
    pub async fn ready(&self) -> Result<(), Error> {
        self.inner
            .keeper
            .current(&self.inner.asker)
            .await
            .map(|_| ())
    }

    /// Asks every KDC now and returns what they answered.
    pub async fn probe_kdcs(&self) -> Vec<KdcStatus> {
        self.inner.kdcs.probe().await;
        self.inner.kdcs.status()
    }

    /// True when both are one room, with the same tickets.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Another room with other settings has been started in this process and serves from now on: the
    /// process's `krb5.conf` is that room's. Tickets of requests still open here come from there.
    pub fn retire(&self) {
        self.inner.kdcs.retired.store(true, Ordering::Release);
    }

    /// Takes `krb5.conf` back: the other room does not serve after all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn resume(&self) -> Result<(), Error> {
        self.inner.kdcs.retired.store(false, Ordering::Release);
        self.inner.kdcs.rewrite(true)
    }

    /// What the room is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let (kdc_lane, local_lane) = self.inner.asker.status();
        Status {
            tgt: self.inner.keeper.status(),
            kdc_lane,
            local_lane,
            kdcs: self.inner.kdcs.status(),
            people: self.inner.people.count(),
        }
    }

    /// The gateway's account.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.inner.keeper.principal
    }
}

/// Ends with the last [`Delegator`].
async fn watch_kdcs(inner: Weak<Inner>) {
    while let Some(room) = inner.upgrade() {
        let kdcs = Arc::clone(&room.kdcs);
        drop(room);
        kdcs.probe().await;
        tokio::select! {
            () = sleep(kdcs.pause()) => {}
            () = kdcs.wake.notified() => {}
        }
    }
}

/// Ends with the last [`Delegator`].
async fn tend_ticket(inner: Weak<Inner>) {
    const EVERY: Duration = Duration::from_secs(2);
    while let Some(room) = inner.upgrade() {
        room.keeper.tend(&room.asker).await;
        drop(room);
        sleep(EVERY).await;
    }
}
