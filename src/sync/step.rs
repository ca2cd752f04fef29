//! What a run would do to one account, and why.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::adopt::Shape;
use super::world::Place;
use crate::mapping::shadow::Flow;
use crate::mapping::shadow::Values;

/// One step. A person has at most one of each kind in a plan, and of joining and leaving one for each group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    #[serde(flatten)]
    pub act: Act,
    /// The person's object id.
    pub oid: Uuid,
    /// The account's `sAMAccountName`.
    pub sam: String,
    /// The person's name, to be shown.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// What is done. In the order in which a run does it: who must not come in any more goes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Act {
    /// Disable, and lay to rest.
    Disable,
    /// Enable again, and bring back from rest.
    Restore,
    /// Move to where it belongs.
    Move {
        /// There.
        to: Where,
    },
    /// Take over an account that another tool has made.
    Adopt {
        /// How that tool's accounts look.
        shape: Shape,
        /// What of the account names the person.
        evidence: String,
        /// The account.
        dn: String,
    },
    /// Write what has changed.
    Update {
        /// The changes.
        changes: Vec<Edit>,
    },
    /// Make the account.
    Create {
        /// What it holds.
        values: Values,
    },
    /// Delete for ever.
    Delete,
    /// Put the account into a managed group.
    Join {
        /// The AD group.
        group: String,
    },
    /// Take it out.
    Leave {
        /// The AD group.
        group: String,
    },
    /// Make a managed group.
    MakeGroup {
        /// The AD group.
        group: String,
        /// What names it as ours.
        anchor: String,
    },
}

/// One of the two units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// The guests' OU.
    GuestsOu,
    /// The disabled OU.
    DisabledOu,
}

impl Where {
    /// The place of an account there.
    #[must_use]
    pub const fn place(self) -> Place {
        match self {
            Self::GuestsOu => Place::Guests,
            Self::DisabledOu => Place::Rest,
        }
    }
}

/// A value that changes; `None` = it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The attribute.
    pub attribute: Flow,
    /// What it holds.
    pub from: Option<String>,
    /// What it is to hold.
    pub to: Option<String>,
}

/// Why a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// In scope, and without an account.
    New,
    /// In scope, with an account that another tool has made.
    MadeElsewhere,
    /// In scope again.
    Back,
    /// The cloud says something else.
    Changed,
    /// It lies in the wrong unit.
    Misplaced,
    /// `accountEnabled` is false.
    DisabledInCloud,
    /// Deleted in the cloud, restorable.
    DeletedInCloud,
    /// The tenant does not know the person.
    LeftTenant,
    /// In the tenant, but not in the scope.
    LeftScope,
    /// A member who signs in here.
    BecameInternal,
    /// A member from elsewhere, and those are not wanted.
    BecameMember,
    /// Has an account that comes from on premises.
    OnPremises,
    /// Invited long ago, never come.
    NeverRedeemed,
    /// Nothing has happened to the account for long.
    Unseen,
    /// At rest for long enough.
    RestOver,
    /// In the cloud's group, or has its app role.
    InGroup,
    /// Not, or not any more.
    NotInGroup,
    /// Disabled, and still in a managed group.
    AtRest,
    /// It is not there, and `create` is set.
    GroupMissing,
}

impl Why {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::MadeElsewhere => "made-elsewhere",
            Self::Back => "back",
            Self::Changed => "changed",
            Self::Misplaced => "misplaced",
            Self::DisabledInCloud => "disabled-in-cloud",
            Self::DeletedInCloud => "deleted-in-cloud",
            Self::LeftTenant => "left-tenant",
            Self::LeftScope => "left-scope",
            Self::BecameInternal => "became-internal",
            Self::BecameMember => "became-member",
            Self::OnPremises => "on-premises",
            Self::NeverRedeemed => "never-redeemed",
            Self::Unseen => "unseen",
            Self::RestOver => "rest-over",
            Self::InGroup => "in-group",
            Self::NotInGroup => "not-in-group",
            Self::AtRest => "at-rest",
            Self::GroupMissing => "group-missing",
        }
    }

    /// The same as a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::New => "a guest in scope without an account",
            Self::MadeElsewhere => "another tool has made it for this guest in scope",
            Self::Back => "the person is in scope again",
            Self::Changed => "the cloud says something else now",
            Self::Misplaced => "it does not lie where it belongs",
            Self::DisabledInCloud => "disabled in the cloud",
            Self::DeletedInCloud => "deleted in the cloud, restorable there",
            Self::LeftTenant => "the tenant does not know the person any more",
            Self::LeftScope => "left the scope",
            Self::BecameInternal => "became an internal member",
            Self::BecameMember => "became a member, and external members are not wanted",
            Self::OnPremises => "has an account of their own on premises",
            Self::NeverRedeemed => "never redeemed the invitation",
            Self::Unseen => "nothing has happened to the account for long",
            Self::RestOver => "has rested long enough",
            Self::InGroup => "is in the cloud's group, or has its app role",
            Self::NotInGroup => "is not in the cloud's group, and does not have its app role",
            Self::AtRest => "is disabled; given back when it returns",
            Self::GroupMissing => "a mapped group that is not there yet",
        }
    }
}

impl Act {
    /// The stable name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Adopt { .. } => "adopt",
            Self::Update { .. } => "update",
            Self::Disable => "disable",
            Self::Restore => "restore",
            Self::Move { .. } => "move",
            Self::Delete => "delete",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::MakeGroup { .. } => "make-group",
        }
    }

    /// The AD group it is about.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Join { group } | Self::Leave { group } | Self::MakeGroup { group, .. } => {
                Some(group)
            }
            Self::Disable
            | Self::Restore
            | Self::Move { .. }
            | Self::Adopt { .. }
            | Self::Update { .. }
            | Self::Create { .. }
            | Self::Delete => None,
        }
    }

    /// Whether it takes an account from somebody: what the brake counts.
    #[must_use]
    pub const fn removes(&self) -> bool {
        match self {
            Self::Disable | Self::Delete => true,
            Self::Create { .. }
            | Self::Adopt { .. }
            | Self::Update { .. }
            | Self::Restore
            | Self::Move { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::MakeGroup { .. } => false,
        }
    }

    /// Its place in a run.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Disable => 0,
            // Out before in, and before who returns is given back what he had.
            Self::Leave { .. } => 1,
            Self::Restore => 2,
            Self::Move { .. } => 3,
            Self::Adopt { .. } => 4,
            Self::Update { .. } => 5,
            Self::Create { .. } => 6,
            Self::MakeGroup { .. } => 7,
            Self::Join { .. } => 8,
            Self::Delete => 9,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (act, why) = (self.act.as_str(), self.why.as_str());
        write!(f, "{act} {} ({}): {why}", self.sam, self.oid)?;
        match self.act.group() {
            Some(group) => write!(f, ": {group}"),
            None => Ok(()),
        }
    }
}
