//! The records of the store. Times are seconds since the Unix epoch.

use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;

use uuid::Uuid;

use crate::model::claims::Claims;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::model::names::Sid;

/// SHA-256 of an id that a browser holds: all that is ever stored of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdHash([u8; 32]);

impl Hash for IdHash {
    /// Eight bytes tell as much as all: each is as good as random, and nobody chooses them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl IdHash {
    /// The hash of `id`.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        Self::from_bytes(digest.as_ref()).unwrap_or(Self([0; 32]))
    }

    /// A hash as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes to store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash, its length known.
    #[must_use]
    pub const fn octets(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for IdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two apart in a log, useless to anybody else.
        for byte in self.0.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A session's last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which session.
    pub hash: IdHash,
    /// When it was used.
    pub last_seen: i64,
    /// When it ends unless it is used again.
    pub idle_until: i64,
}

/// What one asks for who keeps sign-ins and sessions in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What has changed, ended or gone.
    pub changed: Vec<Changed>,
    /// The revision to ask from next time.
    pub revision: i64,
    /// False when something is missing: too much has changed, or the store was put back to an older state.
    pub whole: bool,
    /// True when there is more to be asked for at once.
    pub more: bool,
}

/// Something that is no longer as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A sign-in.
    SignIn(Uuid),
    /// A session.
    Session(IdHash),
}

/// A person's sign-in at the issuer; sessions on several hosts hang on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Ours, no secret.
    pub id: Uuid,
    /// What the issuer said last.
    pub claims: Claims,
    /// For renewals; sealed.
    pub refresh_token: Option<String>,
    /// When the person signed in.
    pub created: i64,
    /// When the issuer last confirmed it.
    pub checked: i64,
    /// When it ends whatever happens.
    pub expires: i64,
    /// When and why it ended before.
    pub ended: Option<(i64, EndReason)>,
}

/// Why a sign-in ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The person signed out here.
    SignOut,
    /// The issuer told us that the person signed out.
    IssuerSignOut,
    /// The issuer no longer renews it.
    PersonDisabled,
    /// An administrator ended it.
    Administrator,
    /// A group that let the person in, or kept them out, is not what the sign-in's token says.
    GroupChanged,
}

impl EndReason {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignOut => "sign-out",
            Self::IssuerSignOut => "issuer-sign-out",
            Self::PersonDisabled => "person-disabled",
            Self::Administrator => "administrator",
            Self::GroupChanged => "group-changed",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::SignOut,
            Self::IssuerSignOut,
            Self::PersonDisabled,
            Self::Administrator,
            Self::GroupChanged,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == name)
    }
}

/// What a renewal brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Which sign-in.
    pub id: Uuid,
    /// What the issuer says now.
    pub claims: Claims,
    /// The refresh token from now on; sealed.
    pub refresh_token: Option<String>,
    /// Now.
    pub checked: i64,
}

/// Whose sign-ins to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This one.
    SignIn(Uuid),
    /// All of a person.
    Person(PersonId),
    /// Those of one session at the issuer (`sid`).
    IssuerSession(String),
}

/// A sign-in that has just ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub sign_in: Uuid,
    /// Whose.
    pub person: PersonId,
    /// Its sessions, on all hosts.
    pub sessions: Vec<IdHash>,
}

/// A session of one browser on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Of the cookie's value.
    pub hash: IdHash,
    /// The sign-in it hangs on.
    pub sign_in: Uuid,
    /// The only host on which it counts.
    pub host: HostName,
    /// When it began.
    pub created: i64,
    /// When it was last used, to about a minute.
    pub last_seen: i64,
    /// When it ends if it is not used.
    pub idle_until: i64,
    /// When it ends whatever happens.
    pub expires: i64,
}

/// A sign-in that has begun on an application's host: where to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Of the id in the URL.
    pub hash: IdHash,
    /// Of the browser's binding cookie on that host.
    pub browser: IdHash,
    /// The application's host.
    pub host: HostName,
    /// Its `https://host[:port]`, as published.
    pub origin: String,
    /// Path and query, normalized.
    pub target: String,
    /// How many sign-ins in a row this browser needed here.
    pub attempt: u32,
    /// When it began.
    pub created: i64,
    /// When it is forgotten.
    pub expires: i64,
}

/// One trip to the issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Of `state`.
    pub hash: IdHash,
    /// The sign-in it serves.
    pub pending: IdHash,
    /// Of the browser's binding cookie on the central host.
    pub browser: IdHash,
    /// What must come back in the ID token.
    pub nonce: String,
    /// The PKCE verifier; sealed.
    pub verifier: String,
    /// The issuer it went to.
    pub issuer: String,
    /// When it is forgotten.
    pub expires: i64,
}

/// What [`super::Store::take_login`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenLogin {
    /// Ours alone, from now on used.
    Fresh(Login),
    /// It was used before: a reload, or a replay.
    Used(Login),
    /// Never there, or expired.
    Unknown,
}

/// Permission to open a session on an application's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Of the code in the URL.
    pub hash: IdHash,
    /// The sign-in it hands over.
    pub sign_in: Uuid,
    /// The sign-in that began on the application's host.
    pub pending: IdHash,
    /// When it is void.
    pub expires: i64,
}

/// A form that came after its session had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptForm {
    /// Of the id in the browser's cookie.
    pub hash: IdHash,
    /// Who filled it in.
    pub person: PersonId,
    /// The application it is for.
    pub app: String,
    /// Path and query it was sent to.
    pub target: String,
    /// Method, headers and body; sealed.
    pub content: String,
    /// When it is forgotten.
    pub expires: i64,
}

/// How many forms are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// Of one person; the oldest is dropped for a new one.
    pub per_person: u32,
    /// Bytes of sealed content in all; beyond it nothing more is kept.
    pub overall: u64,
    /// Expired ones make room first.
    pub now: i64,
}

/// A person's account on premises, remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLink {
    /// Whose.
    pub person: PersonId,
    /// `objectSid`.
    pub sid: Sid,
    /// `objectGUID`.
    pub guid: Uuid,
    /// The name it had.
    pub dn: String,
    /// The domain controller on which it was made or last seen.
    pub dc: String,
    /// When it was remembered.
    pub created: i64,
}

/// What the store remembers of a person's visits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// When a session was last used, or the person last signed in.
    pub last: Option<i64>,
    /// Sign-ins that are running.
    pub sign_ins: u32,
}

/// A right of one process, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To do what.
    pub name: String,
    /// Who.
    pub holder: String,
    /// Until when.
    pub until: i64,
}

/// What ACME keeps about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcmeKind {
    /// The account at one directory.
    Account,
    /// The order that is open for a host, with what its challenges must be answered with.
    Order,
    /// A host's certificate and its key.
    Certificate,
    /// The last failure for a host, and when it is tried again.
    Trouble,
}

impl AcmeKind {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Order => "order",
            Self::Certificate => "certificate",
            Self::Trouble => "trouble",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Account, Self::Order, Self::Certificate, Self::Trouble]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One thing that ACME keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeRecord {
    /// About what.
    pub kind: AcmeKind,
    /// The host, or the directory's URL.
    pub name: String,
    /// Sealed; empty = gone.
    pub content: String,
    /// Grows with every write; the store gives it.
    pub revision: i64,
}
