//! The life of shadow accounts beside the requests: who there is, who goes to rest, who comes back.
//!
//! In: the mapping's settings, the directory, the store. Out: accounts as an administrator wants to see them ([`Shadow`]), and
//! steps on them ([`Lifecycle::disable`], [`Lifecycle::restore`], [`Lifecycle::forget`]).
//!
//! | File | What it is |
//! |---|---|
//! | `asked.rs` | by what an account is asked for |
//! | `shadow.rs` | one account, as read |
//! | `list.rs` | all of them, page by page |
//! | `steer.rs` | disable, restore, forget |
//! | `tend.rs` | what a synchronization does beside that: values, places, the end |
//! | `members.rs` | managed groups: taken away at rest, given back, kept |
//! | `history.rs` | what the audit file tells of a person |
//!
//! # Why
//! - Only accounts with our anchor, in the guests' OU and the disabled OU, that the fence would not keep us from: an employee
//!   or an administrator is never a step's object, whatever their account carries.
//! - A disabled account keeps its SID, its anchor and the groups somebody put it into by hand; managed groups it only remembers
//!   (`members.rs`). So it comes back as the same person with what it had, and until then a sign-in is refused with a reason
//!   instead of making a second account.
//! - Steps are safe to do again: each begins with what the directory holds now.

mod asked;
pub mod history;
mod list;
mod members;
mod shadow;
mod steer;
mod tend;

use std::sync::Arc;

use uuid::Uuid;

use crate::ldap;
use crate::ldap::Directory;
use crate::ldap::Dn;
use crate::mapping::settings::Settings;
use crate::model::clock::Clock;
use crate::store;
use crate::store::Store;

pub use asked::Asked;
pub use list::List;
pub use members::MEMBERS_AT_A_TIME;
pub use members::Membership;
pub use members::Written;
pub use shadow::Mark;
pub use shadow::Shadow;
pub use shadow::State;
pub use steer::Done;
pub use steer::Order;
pub use tend::NewValue;

/// What the room works with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The directory.
    pub directory: Directory,
    /// Sign-ins and links; absent while no gateway has made its store yet.
    pub store: Option<Arc<dyn Store>>,
    /// The issuer's tenant first, then the others whose tokens are accepted.
    pub tenants: Vec<Uuid>,
    /// Now.
    pub clock: Clock,
}

/// The room.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    tools: Tools,
}

/// Why a question has no answer, or a step was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nobody.
    #[error("no shadow account for {asked:?} under {bases}")]
    NotFound {
        /// What was asked for.
        asked: String,
        /// Where was looked.
        bases: String,
    },
    /// More than one.
    #[error("{asked:?} fits several accounts: {names}; ask by sAMAccountName")]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// Their names.
        names: String,
    },
    /// Not an account to act on.
    #[error("{dn}: {why}")]
    Refused {
        /// The account.
        dn: String,
        /// The reason.
        why: String,
    },
    /// The settings do not allow it.
    #[error("{0}")]
    Setup(String),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] ldap::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Lifecycle {
    /// The room.
    ///
    /// # Errors
    /// There is no guests' OU.
    pub fn new(settings: Settings, tools: Tools) -> Result<Self, Error> {
        settings
            .check()
            .map_err(|error| Error::Setup(error.to_string()))?;
        if settings.guests_ou.is_none() {
            let why = "mapping.guests_ou is not configured: there are no shadow accounts";
            return Err(Error::Setup(String::from(why)));
        }
        Ok(Self { settings, tools })
    }

    /// The same room before another `directory`.
    #[must_use]
    pub fn before(&self, directory: Directory) -> Self {
        let mut room = self.clone();
        room.tools.directory = directory;
        room
    }

    /// Where shadow accounts live, none of these under another.
    fn places(&self) -> Vec<&Dn> {
        let both = self
            .settings
            .guests_ou
            .iter()
            .chain(&self.settings.disabled_ou);
        let mut places: Vec<&Dn> = Vec::new();
        for place in both {
            if !places.iter().any(|known| place.is_under(known)) {
                places.retain(|known| !known.is_under(place));
                places.push(place);
            }
        }
        places
    }
}
