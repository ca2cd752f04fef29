//! Partners who have an account on premises become guests of the cloud: what Entra Connect does for them, by Graph.
//!
//! In: the directory, Graph, rules. Out: a plan ([`Partners::look`]) and its execution ([`Turn::apply`]), as for guests: the same
//! journal, kept plans, brake, lock and lease.
//!
//! | File | What it is |
//! |---|---|
//! | `record.rs` | what stands in the cloud user about the account |
//! | `world.rs` | both sides, reduced to what a plan depends on |
//! | `cloud.rs`, `local.rs` | how they are read |
//! | `plan.rs`, `step.rs` | from the world to steps: pure |
//! | `apply.rs` | the steps taken |
//! | `turn.rs` | one run at a time, on a schedule or by command |
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
pub mod step;
mod turn;
pub mod world;

use std::path::PathBuf;

use uuid::Uuid;

use super::Error;
use super::Tools;
use super::brake;
use super::brake::Circumstances;
use super::brake::Limits;
use super::brake::Load;
use super::brake::Reason;
use super::journal;
use super::journal::Past;
use super::saved;
use super::saved::Planned as _;
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
pub use turn::Turn;
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

    /// Looks at both sides and plans. Writes nothing.
    ///
    /// # Errors
    /// One of the sides does not answer, or not wholly.
    pub async fn look(&self) -> Result<Look, Error> {
        self.look_after(journal::past(&self.settings.folder, None)?)
            .await
    }

    async fn look_after(&self, past: Past<Step>) -> Result<Look, Error> {
        let session = self.tools.directory.session().await?;
        let controller = session.root().await?.time("currentTime");
        let mut world = World {
            tenant: self.settings.tenant,
            now: self.tools.clock.unix(),
            locals: self.locals().await?,
            making: past.making,
            ..World::default()
        };
        cloud::read(&self.tools.graph, &self.settings, &mut world).await?;
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
            cut_off: past.cut_off,
            world,
            plan,
        })
    }
}

impl Saved {
    /// What was seen, to be kept.
    #[must_use]
    pub fn of_partners(look: &Look) -> Self {
        let mut counts = std::collections::BTreeMap::new();
        for step in &look.plan.steps {
            *counts.entry(step.act.as_str().to_owned()).or_insert(0) += 1;
        }
        Self {
            kind: Step::KIND.to_owned(),
            version: saved::VERSION,
            kerbgate: env!("CARGO_PKG_VERSION").to_owned(),
            tenant: look.world.tenant,
            made: super::time_text(look.world.now),
            world: look.world.digest(),
            counts,
            removals: look.plan.removals(),
            brake: look.brake.clone(),
            steps: look.plan.steps.clone(),
            left_alone: look.plan.left_alone.clone(),
            findings: Vec::new(),
        }
    }
}
