//! Guests come and go by themselves: what the cloud says of them becomes accounts, ahead of the first visit and after the last.
//!
//! In: Graph, the directory, rules. Out: a plan ([`Synchronization::look`]) that can be read, kept and approved, and its execution
//! ([`Turn::apply`]), one step after the other, each in the journal.
//!
//! | File | What it is |
//! |---|---|
//! | `world.rs` | both sides, reduced to what a plan depends on |
//! | `cloud.rs`, `accounts.rs` | how they are read |
//! | `adopt.rs`, `take_over.rs` | accounts that other tools have made: which are whose (pure), and taking them over |
//! | `groups.rs` | managed groups: who of the cloud belongs into which |
//! | `plan.rs`, `membership.rs`, `step.rs` | from the world to steps: pure |
//! | `brake.rs` | what no run does by itself: pure |
//! | `replication.rs` | accounts that another domain controller has and this one has not heard of |
//! | `saved.rs` | a plan as a file |
//! | `journal.rs`, `book.rs` | what was about to be done, and what came of it |
//! | `apply.rs`, `members.rs` | the steps taken |
//! | `synchronization.rs` | what this and `partners/` have in common |
//! | `turn.rs` | one run at a time |
//! | `keep.rs` | runs on a schedule |
//! | `cutoff/` | whoever has left loses running sessions, within minutes |
//! | `partners/` | the other direction: partners with an account here become guests of the cloud |
//!
//! # Why
//! - Every run begins with the world as it is, and no run with what an earlier one meant to do. So a run that was killed
//!   anywhere is finished by the next one, whatever it was doing.
//! - A saved plan is an approval, not a list of orders: its steps are compared with what would be done now, never carried out.
//! - From an answer that is not whole nothing is concluded. From one that is whole and odd, nothing is removed (`brake.rs`).

mod accounts;
pub mod adopt;
mod apply;
mod book;
pub mod brake;
mod cloud;
pub mod cutoff;
pub mod groups;
pub mod journal;
mod keep;
mod members;
mod membership;
pub mod partners;
pub mod plan;
mod replication;
pub mod saved;
pub mod step;
pub mod synchronization;
mod take_over;
mod turn;
pub mod world;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::graph;
use crate::graph::Graph;
use crate::ldap;
use crate::ldap::Directory;
use crate::lifecycle;
use crate::lifecycle::Lifecycle;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::store;
use crate::store::Store;

pub use apply::Outcome;
pub use apply::Progress;
pub use apply::Run;
use brake::Circumstances;
use brake::Limits;
use brake::Reason;
use groups::KeptGroup;
use journal::Past;
pub use keep::keep;
use plan::LeftAlone;
use plan::Plan;
use plan::Rules;
use saved::Difference;
use saved::Saved;
use step::Step;
use synchronization::Synchronization;
pub use turn::Turn;
use world::World;

/// Who disables accounts in a synchronization: stands in the account's notes, and only such accounts are restored by one.
pub const BY: &str = "kerbgate sync guests";

/// Whose accounts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All guests'.
    All,
    /// Those in one of these groups, directly or through other groups.
    Groups(Vec<Uuid>),
    /// Those assigned to the application with this client id, themselves or through a group.
    Assigned(Uuid),
}

/// Everything the room is told from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who gets an account.
    pub rules: Rules,
    /// Whose are looked at.
    pub scope: Scope,
    /// Managed groups that are kept.
    pub groups: KeptGroups,
    /// The brake.
    pub limits: Limits,
    /// The issuer's tenant.
    pub tenant: Uuid,
    /// Others whose tokens are accepted; their people are not touched.
    pub other_tenants: Vec<Uuid>,
    /// Where journal and lock are.
    pub folder: PathBuf,
    /// Most steps under way at once; the directory should have as many connections.
    pub at_once: usize,
}

/// Managed groups that are kept, and the application whose roles count.
#[derive(Clone, Debug, Default)]
pub struct KeptGroups {
    /// None = memberships are left to sign-ins.
    pub kept: Vec<KeptGroup>,
    /// The gateway's own application registration.
    pub client: Uuid,
}

/// What the room works with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Microsoft Graph.
    pub graph: Graph,
    /// The directory.
    pub directory: Directory,
    /// Sign-ins and links; absent while no gateway has made its store yet.
    pub store: Option<Arc<dyn Store>>,
    /// Now.
    pub clock: Clock,
    /// Who ends the sign-ins of a person that was removed, where that is not left to the store: a gateway that runs in this process
    /// drops at once what it has in memory.
    pub ends: Option<Ends>,
}

/// Ends a person's sign-ins.
#[derive(Clone)]
pub struct Ends(pub Arc<dyn Fn(PersonId) -> Ending + Send + std::marker::Sync>);

/// Sign-ins being ended.
pub type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ends")
    }
}

/// The room.
#[derive(Clone, Debug)]
pub struct Sync {
    rules: Rules,
    scope: Scope,
    groups: KeptGroups,
    limits: Limits,
    tenant: Uuid,
    other_tenants: Vec<Uuid>,
    folder: PathBuf,
    at_once: usize,
    tools: Tools,
    lifecycle: Lifecycle,
}

/// What a look at the world has shown.
#[derive(Clone, Debug)]
pub struct Look {
    /// The domain controller that told of the accounts. What is done is done there too: another one may not have heard of what
    /// was written here a moment ago.
    pub server: HostName,
    /// The world.
    pub world: World,
    /// What would be done.
    pub plan: Plan,
    /// Why a run would stop before it.
    pub brake: Vec<Reason>,
    /// The step at which the last run was cut off, if it was.
    pub cut_off: Option<Step>,
}

/// Why there is no plan, or a run did not go.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Graph.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] ldap::Error),
    /// An account.
    #[error(transparent)]
    Lifecycle(#[from] lifecycle::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Half an answer.
    #[error("graph tells of {oid} without {what}: from half an answer nothing is concluded")]
    Partial {
        /// The person.
        oid: Uuid,
        /// What is missing.
        what: String,
    },
    /// A file that is no plan.
    #[error("{}: {why}", path.display())]
    BadPlan {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A plan for another tenant.
    #[error("the plan is for tenant {plan}, the configuration for {here}: make a new plan")]
    OtherTenant {
        /// The plan's.
        plan: Uuid,
        /// Ours.
        here: Uuid,
    },
    /// The world is not as it was when the plan was approved.
    #[error("the world has changed since the plan was made (steps that differ: {}): make a new plan", .0.len())]
    Changed(Vec<Difference>),
    /// The brake.
    #[error("stopped before the first step: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Brake {
        /// Why.
        reasons: Vec<Reason>,
        /// What `--accept-removals` would have to say.
        removals: usize,
    },
    /// Another run holds the lock, or the lease.
    #[error("another run is under way: {0}")]
    Busy(String),
    /// An account that is not as it was planned.
    #[error("changed meanwhile: {0}; the next run looks again")]
    Meanwhile(String),
    /// The settings do not allow it.
    #[error("{0}")]
    Setup(String),
    /// Journal or lock.
    #[error("the folder of journal and lock: {0}")]
    Folder(#[from] io::Error),
}

impl Sync {
    /// The room.
    ///
    /// # Errors
    /// There is no guests' OU, or the settings contradict each other.
    pub fn new(settings: Settings, tools: Tools) -> Result<Self, Error> {
        let mut tenants = vec![settings.tenant];
        tenants.extend(&settings.other_tenants);
        let lifecycle = Lifecycle::new(
            settings.rules.mapping.clone(),
            lifecycle::Tools {
                directory: tools.directory.clone(),
                // Where somebody else ends sign-ins, they must still be there to be ended.
                store: tools.store.clone().filter(|_| tools.ends.is_none()),
                tenants,
                clock: tools.clock,
            },
        )?;
        Ok(Self {
            rules: settings.rules,
            scope: settings.scope,
            groups: settings.groups,
            limits: settings.limits,
            tenant: settings.tenant,
            other_tenants: settings.other_tenants,
            folder: settings.folder,
            at_once: settings.at_once.max(1),
            tools,
            lifecycle,
        })
    }

    /// The room before one domain controller alone.
    fn on(&self, server: &HostName) -> Self {
        let mut room = self.clone();
        room.tools.directory = self.tools.directory.only(server);
        room.lifecycle = room.lifecycle.before(room.tools.directory.clone());
        room
    }
}

impl Synchronization for Sync {
    type Look = Look;
    type Step = Step;
    type LeftAlone = LeftAlone;

    const WHOSE: &'static str = "guests";
    const LEASE: &'static str = "sync:guests";
    const BY: &'static str = BY;

    fn tools(&self) -> &Tools {
        &self.tools
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn tenant(&self) -> Uuid {
        self.tenant
    }

    async fn look_after(&self, past: &Past) -> Result<Look, Error> {
        let session = self.tools.directory.session().await?;
        let controller = session.root().await?.time("currentTime");
        // Beside the controller's: to read a large tenant takes longer than clocks may differ.
        let now = self.tools.clock.unix();
        let here = self.on(session.server());
        // The directory first: somebody who signs in for the first time meanwhile is in the cloud already.
        let accounts = here.accounts().await?;
        let strangers = here.strangers().await?;
        let known: BTreeSet<Uuid> = accounts.iter().map(|account| account.oid).collect();
        let cloud = cloud::read(&self.tools.graph, &self.scope, &known).await?;
        let groups = self.groups(&cloud).await?;
        let world = World {
            tenant: self.tenant,
            now,
            cloud,
            accounts,
            strangers,
            groups,
        };
        let mut plan = plan::plan(&world, &self.rules);
        self.wait_for_replication(&mut plan, session.server())
            .await?;
        let around = Circumstances {
            controller,
            tenant_before: past.tenant,
            ran_before: past.last,
        };
        Ok(Look {
            server: session.server().clone(),
            brake: brake::reasons(&world, &plan, &self.limits, &around),
            cut_off: past.cut_off.clone(),
            world,
            plan,
        })
    }

    async fn carry_out(
        &self,
        look: &Look,
        run: &Run,
        progress: Progress<'_>,
    ) -> Result<Outcome, Error> {
        let here = self.on(&look.server);
        here.take_all(&look.plan.steps, run, progress).await
    }

    fn steps(look: &Look) -> &[Step] {
        &look.plan.steps
    }

    fn brake(look: &Look) -> &[Reason] {
        &look.brake
    }

    fn cut_off(look: &Look) -> Option<&Step> {
        look.cut_off.as_ref()
    }

    fn saved(look: &Look) -> Saved {
        let world = (look.world.tenant, look.world.now, look.world.digest());
        Saved {
            left_alone: look.plan.left_alone.clone(),
            findings: look.plan.findings.clone(),
            ..Saved::new(world, &look.plan.steps, &look.brake)
        }
    }
}

/// A time as people and programs read it.
fn time_text(unix: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn moment(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(time.unix_timestamp())
}
