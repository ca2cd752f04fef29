//! The brake: what a run must not do by itself, however sound its plan looks.
//!
//! Pure. A run that would take accounts from more people than is usual, or that is fed by something odd, stops before its first
//! step. Whoever has looked may go on with the exact number of removals: a number that was right yesterday opens nothing today.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::plan::Plan;
use super::step::Act;
use super::step::Step;
use super::step::Why;
use super::world::World;

/// How much a run may remove.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most accounts disabled and deleted.
    pub removals: usize,
    /// Most of a hundred accounts in use; a handful ([`FEW`]) is always allowed.
    pub share: usize,
}

/// Removals whose share does not matter: in a small company two guests are many.
pub const FEW: usize = 5;
/// Clocks further apart than this are not to be trusted: Kerberos refuses at the same distance (RFC 4120 1.6).
const APART: i64 = 300;

/// What else a run knows of itself.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The domain controller's time, seconds since 1970.
    pub controller: Option<i64>,
    /// The tenant of the run before this one.
    pub tenant_before: Option<Uuid>,
    /// When the run before this one ended.
    pub ran_before: Option<i64>,
}

/// Why a run stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// More than the absolute limit.
    TooMany {
        /// Removals planned.
        removals: usize,
        /// The limit.
        limit: usize,
    },
    /// More than the share.
    TooLargeAShare {
        /// Removals planned.
        removals: usize,
        /// Accounts in use.
        of: usize,
        /// The limit, in percent.
        percent: usize,
    },
    /// Graph told of nobody.
    EmptyTenant,
    /// No guest is in scope.
    EmptyScope,
    /// No guest is behind a managed group any more.
    EmptyGroup {
        /// The AD group.
        group: String,
        /// Members that it would lose.
        members: usize,
    },
    /// No account on premises is in scope, and people in the cloud are recorded as theirs.
    EmptyDirectory,
    /// Not the tenant of the last run.
    OtherTenant {
        /// That one.
        before: Uuid,
    },
    /// The clocks of this machine and of the domain controller differ.
    Clocks {
        /// How far, in seconds; positive = this machine is ahead.
        ahead: i64,
    },
    /// The last run ended in the future.
    ClockWentBack {
        /// By so many seconds.
        by: i64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { removals, limit } => {
                write!(
                    f,
                    "it would remove {removals} accounts; the limit is {limit} (brake_removals)"
                )
            }
            Self::TooLargeAShare {
                removals,
                of,
                percent,
            } => write!(
                f,
                "it would remove {removals} of {of} accounts in use; the limit is {percent} of a hundred (brake_percent)"
            ),
            Self::EmptyTenant => f.write_str("graph told of nobody at all"),
            Self::EmptyScope => f.write_str("nobody is in scope"),
            Self::EmptyGroup { group, members } => write!(
                f,
                "graph told of no guest for {group}, which would lose all {members} of its members that are kept"
            ),
            Self::EmptyDirectory => f.write_str("the directory told of no account in scope"),
            Self::OtherTenant { before } => {
                write!(f, "the run before was for another tenant, {before}")
            }
            Self::Clocks { ahead } => write!(
                f,
                "this machine's clock and the domain controller's differ by {ahead} s, and times decide who is removed"
            ),
            Self::ClockWentBack { by } => write!(
                f,
                "the clock went back: the run before ended {by} s in the future"
            ),
        }
    }
}

/// Every reason to stop before `plan`; none = go.
#[must_use]
pub fn reasons(world: &World, plan: &Plan, limits: &Limits, around: &Circumstances) -> Vec<Reason> {
    let cloud = &world.cloud;
    let nobody = cloud.scope.as_ref().is_some_and(|scope| scope.is_empty());
    let load = Load {
        tenant: world.tenant,
        now: world.now,
        removals: plan.removals(),
        in_use: plan.in_use,
        odd: match (cloud.told, nobody) {
            (0, _) => Some(Reason::EmptyTenant),
            (_, true) => Some(Reason::EmptyScope),
            (_, false) => None,
        },
    };
    let mut reasons = judge(load, limits, around);
    reasons.extend(emptied(world, plan));
    reasons
}

/// Groups that a plan would empty: an answer of nobody is whole, and still more often a mistake than meant.
fn emptied(world: &World, plan: &Plan) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for group in world.groups.iter().filter(|one| one.people.is_empty()) {
        let loses = |step: &&Step| {
            let group = Act::Leave {
                group: group.dn.clone(),
            };
            step.act == group && step.why == Why::NotInGroup
        };
        let members = plan.steps.iter().filter(loses).count();
        if members > 0 {
            let group = group.dn.clone();
            reasons.push(Reason::EmptyGroup { group, members });
        }
    }
    reasons
}

/// What a brake looks at, whatever is synchronized.
#[derive(Clone, Debug)]
pub struct Load {
    /// The tenant.
    pub tenant: Uuid,
    /// When, in seconds since 1970.
    pub now: i64,
    /// How many accounts are taken from people.
    pub removals: usize,
    /// How many are in use.
    pub in_use: usize,
    /// What is odd about a side, if something is.
    pub odd: Option<Reason>,
}

/// Every reason to stop before a plan that weighs `load`; none = go.
#[must_use]
pub fn judge(load: Load, limits: &Limits, around: &Circumstances) -> Vec<Reason> {
    let removals = load.removals;
    let mut reasons = Vec::new();
    if let Some(before) = around.tenant_before.filter(|before| *before != load.tenant) {
        reasons.push(Reason::OtherTenant { before });
    }
    if removals == 0 {
        return reasons;
    }
    reasons.extend(load.odd);
    if let Some(ahead) = around
        .controller
        .map(|theirs| load.now.saturating_sub(theirs))
        && ahead.abs() > APART
    {
        reasons.push(Reason::Clocks { ahead });
    }
    if let Some(by) = around
        .ran_before
        .map(|before| before.saturating_sub(load.now))
        && by > APART
    {
        reasons.push(Reason::ClockWentBack { by });
    }
    if removals > limits.removals {
        let limit = limits.removals;
        reasons.push(Reason::TooMany { removals, limit });
    }
    let (of, percent) = (load.in_use, limits.share);
    if removals > FEW && removals.saturating_mul(100) > of.saturating_mul(percent) {
        reasons.push(Reason::TooLargeAShare {
            removals,
            of,
            percent,
        });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            removals: 50,
            share: 10,
        }
    }

    fn removing(removals: usize, in_use: usize) -> Plan {
        let step = Step {
            act: Act::Disable,
            oid: Uuid::nil(),
            sam: String::new(),
            name: String::new(),
            why: Why::LeftTenant,
        };
        Plan {
            steps: vec![step; removals],
            in_use,
            ..Plan::default()
        }
    }

    fn world() -> World {
        let mut world = World {
            now: 1_800_000_000,
            ..World::default()
        };
        world.cloud.told = 7;
        world
    }

    #[test]
    fn a_usual_run_goes_and_an_unusual_one_stops() {
        let stops = |removals, in_use| {
            reasons(
                &world(),
                &removing(removals, in_use),
                &limits(),
                &Circumstances::default(),
            )
        };
        assert_eq!(stops(0, 0), []);
        assert_eq!(stops(FEW, FEW), []);
        assert_eq!(stops(50, 500), []);
        let removals = 51;
        assert_eq!(
            stops(51, 600),
            [Reason::TooMany {
                removals,
                limit: 50
            }]
        );
        let share = |removals, of| Reason::TooLargeAShare {
            removals,
            of,
            percent: 10,
        };
        assert_eq!(stops(6, 59), [share(6, 59)]);
        assert_eq!(stops(6, 60), []);
        assert_eq!(stops(6, 0), [share(6, 0)]);
        assert_eq!(stops(100, 100).len(), 2);
    }

    #[test]
    fn odd_circumstances_stop_a_run_that_removes() {
        let mut world = world();
        let around = Circumstances {
            controller: Some(world.now + 301),
            tenant_before: Some(Uuid::from_u128(7)),
            ran_before: Some(world.now + 400),
        };
        let before = Uuid::from_u128(7);
        let all = reasons(&world, &removing(1, 1), &limits(), &around);
        assert_eq!(
            all,
            [
                Reason::OtherTenant { before },
                Reason::Clocks { ahead: -301 },
                Reason::ClockWentBack { by: 400 },
            ]
        );
        // Another tenant stops also one that only makes accounts.
        assert_eq!(
            reasons(&world, &removing(0, 1), &limits(), &around).len(),
            1
        );
        world.cloud.told = 0;
        let none = Circumstances::default();
        assert_eq!(
            reasons(&world, &removing(1, 1), &limits(), &none),
            [Reason::EmptyTenant]
        );
        world.cloud.told = 7;
        world.cloud.scope = Some([].into());
        assert_eq!(
            reasons(&world, &removing(1, 1), &limits(), &none),
            [Reason::EmptyScope]
        );
        assert_eq!(reasons(&world, &removing(0, 1), &limits(), &none), []);
    }
}
