//! Whoever has left loses running sessions: asked for every few moments, on one replica at a time.
//!
//! In: what Graph tells of people since last time, and who is in the groups that decide. Out: sign-ins that end, and with them
//! sessions, tickets and sockets, on every replica.
//!
//! | File | What it is |
//! |---|---|
//! | `mark.rs` | how far the last round came: the link to go on from, kept in the store |
//! | `look.rs` | who has left: Graph is asked, nobody is touched |
//! | `round.rs` | one round, under a lease |
//! | `notices.rs` | change notifications: hints that it is time for a round |
//!
//! Specification: Microsoft Graph v1.0, delta query of users (`$deltatoken=latest`, 410 after seven days), transitive members.
//!
//! # Why
//! - Beside the recheck, which asks the issuer with the person's refresh token: that is asked when somebody comes, and not every
//!   sign-in has one. Here the tenant is asked, once for everybody.
//! - A delta of groups tells of direct members only, and somebody in a group inside the group would not be noticed. So members are
//!   read whole, nested ones included, as ids: 5 units for a thousand people.
//! - Ending a sign-in takes nothing from who may still come in: the next page signs them in again by itself. So the first word is
//!   believed, but when many seem to have left at once each of them is asked about. What Graph does not answer ends nothing.

mod look;
mod mark;
pub mod notices;
mod round;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::authn::Authn;
use crate::graph;
use crate::graph::Graph;
use crate::model::clock::Clock;
use crate::store;
use crate::store::Store;

/// What the watch is told from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The issuer's tenant; people of others are left to the recheck.
    pub tenant: Uuid,
    /// Within what time somebody who has left is out.
    pub within: Duration,
    /// Groups that let somebody in, give a membership or make the scope of the synchronization.
    pub admitting: BTreeSet<Uuid>,
    /// Groups that keep somebody out.
    pub barring: BTreeSet<Uuid>,
    /// Where change notifications arrive; absent = none are asked for.
    pub notices: Option<notices::Settings>,
}

impl Settings {
    /// How often Graph is asked: so that a round may fail twice, and news of an end reach everybody, within the promised time.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.within / ROUNDS
    }
}

/// What it works with.
pub struct Tools {
    /// Microsoft Graph, its budget shared with sign-ins.
    pub graph: Graph,
    /// Who is signed in, and how far the last round came.
    pub store: Arc<dyn Store>,
    /// Ends sign-ins.
    pub authn: Authn,
    /// Now.
    pub clock: Clock,
}

/// The watch.
pub struct Watch {
    settings: Settings,
    tools: Tools,
    /// Who we are in the store's leases.
    process: String,
    hints: Hints,
    began: i64,
    standing: Mutex<Standing>,
    known: Mutex<notices::Known>,
}

/// How the watch is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When a round last came to its end, on any replica; absent = never since the store was made.
    pub done: Option<i64>,
    /// What went wrong on this replica since then.
    pub trouble: Option<String>,
    /// Why Graph tells of no changes, where it should.
    pub untold: Option<String>,
}

/// Somebody said that something has changed. Never what: it is asked for.
#[derive(Debug, Default)]
struct Hints {
    waits: AtomicBool,
    /// Groups have changed as well.
    groups: AtomicBool,
    /// Something is the matter with the subscriptions.
    tend: AtomicBool,
    woken: Notify,
}

impl Hints {
    /// Asks for a round at once; however often it is called meanwhile, it is one round.
    fn give(&self) {
        self.waits.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Whether there was one.
    fn take(&self) -> bool {
        self.waits.swap(false, Ordering::AcqRel)
    }

    /// Nothing came of what was taken: it waits again, and wakes nobody before the pause is over.
    fn keep(&self) {
        for flag in [&self.waits, &self.groups, &self.tend] {
            flag.store(true, Ordering::Release);
        }
    }

    async fn come(&self) {
        self.woken.notified().await;
    }
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Graph.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Sign-ins that could not be ended.
    #[error("sign-ins of {0} could not be ended: the store does not answer")]
    NotEnded(Uuid),
    /// A delta without its end.
    #[error("graph gave no link to go on from")]
    NoLink,
    /// Another replica has taken over.
    #[error("the lease was lost to another replica")]
    Lost,
    /// No randomness.
    #[error("no random numbers for a subscription's secret")]
    NoSecret,
    /// Too slow.
    #[error("graph took longer than the {}s in which people should be out", .0.as_secs())]
    Late(Duration),
}

impl Watch {
    /// The watch; it begins with [`Self::keep`].
    #[must_use]
    pub fn new(settings: Settings, tools: Tools) -> Self {
        Self {
            settings,
            began: tools.clock.unix(),
            tools,
            process: Uuid::new_v4().to_string(),
            hints: Hints::default(),
            standing: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// How it is doing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.locked().clone()
    }

    /// When it was made, Unix seconds.
    #[must_use]
    pub const fn began(&self) -> i64 {
        self.began
    }

    /// Within what time somebody who has left is out, as long as nothing is in the way.
    #[must_use]
    pub const fn within(&self) -> Duration {
        self.settings.within
    }

    fn known(&self) -> MutexGuard<'_, notices::Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounds within the promised time.
const ROUNDS: u32 = 5;
