//! What a run would do to one partner in the cloud, and why.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::super::saved::Planned;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    #[serde(flatten)]
    pub act: Act,
    /// The account's `objectGUID`.
    pub guid: Uuid,
    /// The person's object id in the cloud; none for who is not there yet.
    pub oid: Option<Uuid>,
    /// The account's `sAMAccountName`; empty when it is gone.
    pub account: String,
    /// The person's name, to be shown.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// What is done. In the order in which a run does it: who must not come in any more goes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Act {
    /// `accountEnabled` becomes false.
    Disable,
    /// Brought back from the recycle bin.
    Undelete,
    /// `accountEnabled` becomes true again.
    Enable,
    /// A person is made in the cloud, by an invitation, and recorded on both sides.
    Invite {
        /// With what they sign in.
        address: String,
        /// `Guest` or `Member`.
        user_type: String,
    },
    /// The record is written on the sides that lack it.
    Link,
    /// An internal account becomes an invited one, with the same object id.
    Convert {
        /// With what they sign in from then on.
        address: String,
    },
    /// Write what has changed.
    Update {
        /// The changes.
        changes: Vec<Edit>,
    },
    /// Into a group.
    Join {
        /// Its object id.
        group: Uuid,
    },
    /// To an application.
    Assign {
        /// Its client id.
        application: Uuid,
        /// The app role's value; empty = just assigned.
        role: String,
    },
    /// Into the recycle bin.
    Delete,
}

/// A property that changes; `None` = it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Graph's name of it.
    pub property: String,
    /// What it holds.
    pub from: Option<String>,
    /// What it is to hold.
    pub to: Option<String>,
}

/// Why a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// In scope, and nobody in the cloud.
    New,
    /// One side has the record, the other not yet.
    Unfinished,
    /// An earlier run sent the invitation and was cut off.
    Invited,
    /// The same address, and what Entra Connect recorded names the account.
    SameObject,
    /// The same address and the same employee id.
    SameEmployee,
    /// An internal account of the tenant.
    Internal,
    /// The directory says something else.
    Changed,
    /// Not a member of it.
    NotMember,
    /// Not assigned to it.
    NotAssigned,
    /// In use on premises again.
    Back,
    /// Disabled or expired on premises.
    DisabledOnPremises,
    /// On premises, but not in the scope.
    LeftScope,
    /// The account is gone.
    Gone,
    /// At rest for long enough.
    RestOver,
}

impl Why {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unfinished => "unfinished",
            Self::Invited => "invited",
            Self::SameObject => "same-object",
            Self::SameEmployee => "same-employee",
            Self::Internal => "internal",
            Self::Changed => "changed",
            Self::NotMember => "not-member",
            Self::NotAssigned => "not-assigned",
            Self::Back => "back",
            Self::DisabledOnPremises => "disabled-on-premises",
            Self::LeftScope => "left-scope",
            Self::Gone => "gone",
            Self::RestOver => "rest-over",
        }
    }

    /// The same as a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::New => "a partner's account in scope, nobody in the cloud",
            Self::Unfinished => "recorded on one side only",
            Self::Invited => "an earlier run invited them and was cut off",
            Self::SameObject => "the same address, and Entra Connect once recorded this account",
            Self::SameEmployee => "the same address and the same employee id",
            Self::Internal => "an internal account that is to become an invited one",
            Self::Changed => "the directory says something else now",
            Self::NotMember => "not a member of the group yet",
            Self::NotAssigned => "not assigned to the application yet",
            Self::Back => "the account is in use again",
            Self::DisabledOnPremises => "the account is disabled or has expired",
            Self::LeftScope => "the account left the scope",
            Self::Gone => "the account is gone",
            Self::RestOver => "has rested long enough",
        }
    }
}

impl Act {
    /// The stable name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Undelete => "undelete",
            Self::Enable => "enable",
            Self::Invite { .. } => "invite",
            Self::Link => "link",
            Self::Convert { .. } => "convert",
            Self::Update { .. } => "update",
            Self::Join { .. } => "join",
            Self::Assign { .. } => "assign",
            Self::Delete => "delete",
        }
    }

    /// Whether it takes access from somebody: what the brake counts.
    #[must_use]
    pub const fn removes(&self) -> bool {
        match self {
            Self::Disable | Self::Delete => true,
            Self::Undelete
            | Self::Enable
            | Self::Invite { .. }
            | Self::Link
            | Self::Convert { .. }
            | Self::Update { .. }
            | Self::Join { .. }
            | Self::Assign { .. } => false,
        }
    }

    /// Its place in a run.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Disable => 0,
            Self::Undelete => 1,
            Self::Enable => 2,
            Self::Invite { .. } => 3,
            Self::Link => 4,
            Self::Convert { .. } => 5,
            Self::Update { .. } => 6,
            Self::Join { .. } => 7,
            Self::Assign { .. } => 8,
            Self::Delete => 9,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (act, why) = (self.act.as_str(), self.why.as_str());
        let whom = self.oid.unwrap_or(self.guid);
        write!(f, "{act} {} ({whom}): {why}", self.account)
    }
}

impl Planned for Step {
    const KIND: &'static str = "kerbgate-partners-plan";

    fn act(&self) -> &'static str {
        self.act.as_str()
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn subject(&self) -> Uuid {
        self.guid
    }

    fn makes(&self) -> bool {
        matches!(self.act, Act::Invite { .. })
    }

    fn finishes(&self) -> bool {
        matches!(self.act, Act::Link | Act::Update { .. })
    }

    /// A person who was invited since has an id; it is the same person.
    fn same(&self, other: &Self) -> bool {
        let known = |step: &Self| step.oid.is_some();
        let same_person = self.oid == other.oid || known(self) != known(other);
        (self.guid, &self.act, self.why) == (other.guid, &other.act, other.why)
            && (&self.account, &self.name) == (&other.account, &other.name)
            && same_person
    }

    fn removals(steps: &[Self]) -> usize {
        steps.iter().filter(|step| step.act.removes()).count()
    }
}
