//! Partners who have an account on premises become guests of the cloud: what Entra Connect does for them, by Graph.
//!
//! In: the directory, Graph, rules. Out: a plan and its execution, as for guests ([`Synchronization`]): the same journal, kept plans,
//! brake, lock and lease.
//!
//! | File | What it is |
//! |---|---|
//! | `record.rs` | what stands in the cloud user about the account |
//! | `world.rs` | both sides, reduced to what a plan depends on |
//! | `cloud.rs`, `local.rs` | how they are read |
//! | `replication.rs` | accounts that another domain controller has and this one has not heard of |
//! | `plan.rs`, `step.rs` | from the world to steps: pure |
//! | `apply.rs` | the steps taken |
//!
//! # Why
//! - A person and an account are one because each names the other by what never changes: the account's anchor holds the object id
//!   (`User_<oid>`, as for guests: what the gateway maps by), the cloud user's record the `objectGUID`.
//! - The anchor is written on the account, not kept in a store: every replica and every restored backup finds it, and a sign-in
//!   finds the account by the rule that it follows anyway. So nobody gets a second account.
//! - Guests' synchronization leaves such an account alone: it lies outside the guests' units.

mod apply;
mod cloud;
mod local;
pub mod plan;
pub mod record;
mod replication;
pub mod step;
pub mod world;

use std::path::Path;
use std::path::PathBuf;

use uuid::Uuid;

use super::Error;
use super::Outcome;
use super::Progress;
use super::Run;
use super::Tools;
use super::brake;
use super::brake::Circumstances;
use super::brake::Limits;
use super::brake::Load;
use super::brake::Reason;
use super::journal::Past;
use super::saved;
use super::synchronization::Synchronization;
use crate::graph::Letter;
use crate::ldap::Attribute;
use crate::ldap::Dn;
use crate::ldap::Filter;
use crate::mapping::settings as mapping;
pub use local::FLOW;
use plan::LeftAlone;
use plan::Plan;
use plan::Rules;
use step::Step;
use world::World;

/// Who writes: stands in the journal and in audit lines.
pub const BY: &str = "kerbgate sync partners";

/// What no application can do through Graph, and Entra Connect does. Told with every plan.
pub const LIMITS: [&str; 5] = [
    "passwords and their hashes do not go to the cloud: an invited person signs in at home (or with a one-time passcode), and \
     on premises with the password of the account",
    "the person must accept the invitation once, in a browser; where both tenants allow it (cross-tenant access settings), that \
     happens by itself",
    "onPremisesSyncEnabled and the onPremises properties cannot be written: the cloud does not show the person as synchronized, \
     and somebody with the right to can edit them there; the next run writes back what follows the directory",
    "of people whom Entra Connect once kept, the record cannot be written (Exchange Online PowerShell can): they are invited anew, or \
     left out of the scope",
    "seamless single sign-on, device and group write-back, and Exchange attributes do not exist for invited people",
];

/// `userType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserType {
    /// A guest.
    Guest,
    /// A member.
    Member,
}

impl UserType {
    /// As Graph writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "Guest",
            Self::Member => "Member",
        }
    }
}

/// Which accounts are of another type than usual: all that is given must fit.
#[derive(Clone, Debug)]
pub struct TypeRule {
    /// An attribute; absent = any account.
    pub attribute: Option<Attribute>,
    /// Its value, in any case.
    pub value: String,
    /// Below this unit; absent = anywhere.
    pub under: Option<Dn>,
    /// The type.
    pub user_type: UserType,
}

/// Everything the room is told from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is done for a partner.
    pub rules: Rules,
    /// Where partners' accounts lie.
    pub bases: Vec<Dn>,
    /// Which of the accounts there; absent = all.
    pub filter: Option<Filter>,
    /// The attribute with which people sign in.
    pub sign_in: Attribute,
    /// The usual type.
    pub user_type: UserType,
    /// Accounts of another type: the first that fits.
    pub type_rules: Vec<TypeRule>,
    /// The cloud's attribute that holds the record, such as `extensionAttribute14`.
    pub record: String,
    /// Where the invited are led.
    pub redirect: String,
    /// What Microsoft writes to the invited; absent = nothing.
    pub letter: Option<Letter>,
    /// The brake.
    pub limits: Limits,
    /// The issuer's tenant.
    pub tenant: Uuid,
    /// How accounts are found at a sign-in.
    pub mapping: mapping::Settings,
    /// Where journal and lock are.
    pub folder: PathBuf,
}

impl Settings {
    fn realm(&self) -> &str {
        self.mapping.realm.as_str()
    }
}

/// The room.
#[derive(Debug)]
pub struct Partners {
    settings: Settings,
    tools: Tools,
}

/// What a look at the world has shown.
#[derive(Clone, Debug)]
pub struct Look {
    /// The world.
    pub world: World,
    /// What would be done.
    pub plan: Plan,
    /// Why a run would stop before it.
    pub brake: Vec<Reason>,
    /// The step at which the last run was cut off, if it was.
    pub cut_off: Option<Step>,
}

/// A plan as a file.
pub type Saved = saved::Saved<Step, LeftAlone>;

impl Partners {
    /// The room.
    #[must_use]
    pub const fn new(settings: Settings, tools: Tools) -> Self {
        Self { settings, tools }
    }
}

impl Synchronization for Partners {
    type Look = Look;
    type Step = Step;
    type LeftAlone = LeftAlone;

    const WHOSE: &'static str = "partners";
    const LEASE: &'static str = "sync:partners";
    const BY: &'static str = BY;

    fn tools(&self) -> &Tools {
        &self.tools
    }

    fn folder(&self) -> &Path {
        &self.settings.folder
    }

    fn tenant(&self) -> Uuid {
        self.settings.tenant
    }

    async fn look_after(&self, past: &Past<Step>) -> Result<Look, Error> {
        let session = self.tools.directory.session().await?;
        let controller = session.root().await?.time("currentTime");
        let mut world = World {
            tenant: self.settings.tenant,
            now: self.tools.clock.unix(),
            locals: self.locals().await?,
            making: past.making.clone(),
            ..World::default()
        };
        cloud::read(&self.tools.graph, &self.settings, &mut world).await?;
        world.elsewhere = self.elsewhere(&world).await?;
        let plan = plan::plan(&world, &self.settings.rules);
        let around = Circumstances {
            controller,
            tenant_before: past.tenant,
            ran_before: past.last,
        };
        let nobody = !world.locals.iter().any(|local| local.in_scope);
        let load = Load {
            tenant: world.tenant,
            now: world.now,
            removals: plan.removals(),
            in_use: plan.in_use,
            odd: match (world.told, nobody) {
                (0, _) => Some(Reason::EmptyTenant),
                (_, true) => Some(Reason::EmptyDirectory),
                (_, false) => None,
            },
        };
        Ok(Look {
            brake: brake::judge(load, &self.settings.limits, &around),
            cut_off: past.cut_off.clone(),
            world,
            plan,
        })
    }

    async fn carry_out(
        &self,
        look: &Look,
        run: &Run,
        progress: Progress<'_, Step>,
    ) -> Result<Outcome<Step>, Error> {
        self.take_all(&look.plan.steps, run, progress).await
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
            ..Saved::new(world, &look.plan.steps, &look.brake)
        }
    }
}
