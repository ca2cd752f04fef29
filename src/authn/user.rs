//! The room's product.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::session::Standing;
use crate::model::claims::Claims;
use crate::model::names::PersonId;
use crate::store::records::EndReason;
use crate::store::records::IdHash;

/// A person whose identity was proved for this request. Only this room makes one.
#[derive(Clone, Debug)]
pub struct AuthenticatedUser {
    pub(super) claims: Arc<Claims>,
    label: Arc<str>,
    session: SessionKey,
    via: Via,
}

/// How the identity was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a session cookie; `sign_in` names the sign-in behind it, for the log.
    Session {
        /// The sign-in.
        sign_in: Uuid,
    },
    /// By an access token.
    Bearer {
        /// Its end, Unix seconds.
        expires: i64,
    },
}

/// Stands for one session in pool keys and evictions. No secret: it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(IdHash);

impl SessionKey {
    pub(super) const fn new(hash: IdHash) -> Self {
        Self(hash)
    }

    /// The same as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.octets()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All of it: keys that are told apart by a part only could collide.
        self.0
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// News of a sign-in that ended before its time.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whose.
    pub person: PersonId,
    /// Which.
    pub sign_in: Uuid,
    /// Why.
    pub reason: EndReason,
    /// Its sessions on all hosts.
    pub sessions: Vec<SessionKey>,
}

impl AuthenticatedUser {
    pub(super) fn by_session(key: IdHash, standing: &Standing) -> Self {
        Self {
            claims: Arc::clone(&standing.claims),
            label: Arc::clone(&standing.label),
            session: SessionKey(key),
            via: Via::Session {
                sign_in: standing.id,
            },
        }
    }

    pub(super) fn by_bearer(claims: Claims, token: &str, expires: i64) -> Self {
        Self {
            label: claims.person.to_string().into(),
            claims: Arc::new(claims),
            session: SessionKey(IdHash::of(&format!("bearer {token}"))),
            via: Via::Bearer { expires },
        }
    }

    /// A person for the tests of the rooms to the right.
    #[cfg(test)]
    #[must_use]
    pub fn of_claims(claims: Claims) -> Self {
        Self::by_bearer(claims, "test", i64::MAX)
    }

    /// What the issuer says of the person.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `tid/oid`, as lines name the person.
    #[must_use]
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.label)
    }

    /// The same, to keep.
    #[must_use]
    pub fn shared_claims(&self) -> Arc<Claims> {
        Arc::clone(&self.claims)
    }

    /// Stable for one session: what backend connections and tickets are kept apart by.
    #[must_use]
    pub const fn session_key(&self) -> SessionKey {
        self.session
    }

    pub(super) const fn session_hash(&self) -> IdHash {
        self.session.0
    }

    /// How the identity was proved.
    #[must_use]
    pub const fn via(&self) -> Via {
        self.via
    }
}
