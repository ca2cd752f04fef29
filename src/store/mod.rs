//! What must survive a restart, and what replicas must agree on: sign-ins, sessions, one-use secrets, account links.
//!
//! In and out: the records of [`records`]. Ids that a browser holds arrive as [`records::IdHash`]: a stolen database
//! opens no session. Anything secret in a record is sealed by its owner before it comes here.
//!
//! # Why a trait
//! Two real implementations: SQLite for one machine, PostgreSQL for replicas. `conformance` is the promise both keep.
//! "Take" methods are atomic: of two callers, one gets the record.

pub mod records;
mod rows;
mod sql;
pub mod sqlite;

#[cfg(test)]
mod conformance;

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use uuid::Uuid;

use crate::model::names::PersonId;

use records::AccountLink;
use records::AcmeRecord;
use records::EndReason;
use records::Ended;
use records::HandOver;
use records::IdHash;
use records::KeepLimits;
use records::KeptForm;
use records::Lease;
use records::Login;
use records::News;
use records::Pending;
use records::Renewal;
use records::Seen;
use records::Session;
use records::SignIn;
use records::TakenLogin;
use records::Touch;
use records::Whose;

/// An answer on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The store. Every method may fail with [`Error`]; callers then deny, they never guess.
pub trait Store: Send + Sync + Debug {
    /// Adds a person's sign-in.
    fn add_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> Answer<'a, ()>;
    /// The sign-in `id`, ended ones included.
    fn sign_in(&self, id: Uuid) -> Answer<'_, Option<SignIn>>;
    /// Writes what a renewal brought; false when the sign-in has ended meanwhile.
    fn renew_sign_in<'a>(&'a self, renewal: &'a Renewal) -> Answer<'a, bool>;
    /// Ends sign-ins with all their sessions; returns those that were alive until now.
    fn end_sign_ins<'a>(
        &'a self,
        whose: &'a Whose,
        reason: EndReason,
        now: i64,
    ) -> Answer<'a, Vec<Ended>>;

    /// Adds a session on one host.
    fn add_session<'a>(&'a self, session: &'a Session) -> Answer<'a, ()>;
    /// The session and its sign-in, whatever their state.
    fn session<'a>(&'a self, hash: &'a IdHash) -> Answer<'a, Option<(Session, SignIn)>>;
    /// Notes that these sessions were used.
    fn touch_sessions<'a>(&'a self, used: &'a [Touch]) -> Answer<'a, ()>;
    /// Removes one session of one host.
    fn remove_session<'a>(&'a self, hash: &'a IdHash) -> Answer<'a, ()>;

    /// What has changed about sign-ins and sessions after `revision`; without one nothing but the latest revision.
    fn news_since(&self, revision: Option<i64>) -> Answer<'_, News>;

    /// Adds a sign-in that has begun. The browser's oldest beyond `per_browser`, and the oldest of all beyond `overall`,
    /// are dropped.
    fn add_pending<'a>(
        &'a self,
        pending: &'a Pending,
        per_browser: u32,
        overall: u32,
    ) -> Answer<'a, ()>;
    /// A sign-in that has begun and has not expired.
    fn pending<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, Option<Pending>>;

    /// Adds the state of one trip to the issuer.
    fn add_login<'a>(&'a self, login: &'a Login) -> Answer<'a, ()>;
    /// Takes the state of one trip: fresh once, afterwards only as a memory of where it belonged.
    fn take_login<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, TakenLogin>;

    /// Adds a hand-over code.
    fn add_hand_over<'a>(&'a self, hand_over: &'a HandOver) -> Answer<'a, ()>;
    /// Takes a hand-over code, once.
    fn take_hand_over<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, Option<HandOver>>;

    /// Keeps a form; false when there is no room for it.
    fn keep_form<'a>(&'a self, form: &'a KeptForm, limits: KeepLimits) -> Answer<'a, bool>;
    /// Takes a kept form, once.
    fn take_form<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, Option<KeptForm>>;

    /// The account remembered for a person.
    fn account_link(&self, person: PersonId) -> Answer<'_, Option<AccountLink>>;
    /// Remembers a person's account, in place of an older memory.
    fn save_account_link<'a>(&'a self, link: &'a AccountLink) -> Answer<'a, ()>;
    /// Forgets a person's account.
    fn forget_account_link(&self, person: PersonId) -> Answer<'_, ()>;

    /// What is remembered of a person's visits.
    fn person_seen(&self, person: PersonId, now: i64) -> Answer<'_, Seen>;

    /// Takes or prolongs a lease; false when somebody else holds it.
    fn take_lease<'a>(&'a self, lease: &'a Lease, now: i64) -> Answer<'a, bool>;
    /// Prolongs a lease that is ours and has not ended; false otherwise, even when nobody else took it meanwhile: what its
    /// holder knows may be old by now.
    fn prolong_lease<'a>(&'a self, lease: &'a Lease, now: i64) -> Answer<'a, bool>;
    /// Gives a lease back, if it is ours.
    fn give_lease_back<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, ()>;

    /// What ACME keeps and was written after `revision`, oldest first; gone records included.
    fn acme_since(&self, revision: i64) -> Answer<'_, Vec<AcmeRecord>>;
    /// Writes all of `records` or none; false when the lease is no longer its holder's.
    fn put_acme<'a>(
        &'a self,
        records: &'a [AcmeRecord],
        lease: &'a Lease,
        now: i64,
    ) -> Answer<'a, bool>;

    /// Sign-ins that have not ended at `now`, ordered by id, at most `most` of those after `after`.
    fn live_sign_ins(&self, now: i64, after: Option<Uuid>, most: u32) -> Answer<'_, Vec<SignIn>>;
    /// How far the work `name` has come.
    fn mark<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>>;
    /// Notes how far the work of this lease has come; false when the lease is no longer its holder's.
    fn save_mark<'a>(&'a self, content: &'a str, lease: &'a Lease, now: i64) -> Answer<'a, bool>;

    /// Removes at most `batch` expired records of each kind; returns how many went.
    fn sweep(&self, now: i64, batch: u32) -> Answer<'_, u64>;
    /// Reads something: does the store answer?
    fn ping(&self) -> Answer<'_, ()>;
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The file cannot be opened or created.
    #[error("store {path:?} cannot be opened: {cause}")]
    Unopenable {
        /// The database.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The file or its file system is read-only.
    #[error("store {path:?} is read-only: check owner, mode and mount; {cause}")]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// No space left.
    #[error("store {path:?}: no space left on its file system; {cause}")]
    Full {
        /// The database.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// The file is damaged.
    #[error(
        "store {path:?} is corrupt: stop kerbgate, move the file away (people sign in again) or restore it; {cause}"
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// The file is something else.
    #[error("store {path:?} is not a database: is the path right? {cause}")]
    NotADatabase {
        /// The database.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// The file was written by a newer Kerbgate, or its schema was changed by hand.
    #[error("store {path:?} has a schema this version does not know: {cause}")]
    Schema {
        /// The database.
        path: PathBuf,
        /// What does not fit.
        cause: String,
    },
    /// Locked for too long.
    #[error("store {path:?} is busy: another process holds its lock; {cause}")]
    Busy {
        /// The database.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// Anything else.
    #[error("store {path:?} failed: {cause}")]
    Failed {
        /// The database.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// A record that cannot be read back.
    #[error("store {path:?} holds an unreadable {record}: {cause}")]
    Record {
        /// The database.
        path: PathBuf,
        /// Which kind of record.
        record: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}
