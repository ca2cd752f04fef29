//! What can be asked, with the least application permission that answers it and its price.
//!
//! Specification: Microsoft Graph v1.0 permissions reference and throttling limits (resource units of the identity service).

/// One kind of question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// As errors and metrics name it.
    pub(super) name: &'static str,
    /// The least application permission.
    pub(super) permission: &'static str,
    /// Resource units.
    pub(super) cost: u32,
    /// Whether it is an advanced query, which needs `ConsistencyLevel: eventual` on each page.
    pub(super) eventual: bool,
    /// Bytes of the largest answer believed.
    pub(super) limit: usize,
}

const fn small(name: &'static str, permission: &'static str, cost: u32) -> Question {
    Question {
        name,
        permission,
        cost,
        eventual: false,
        limit: 256 * 1024,
    }
}

const fn paged(name: &'static str, permission: &'static str, cost: u32) -> Question {
    Question {
        limit: 16 * 1024 * 1024,
        ..small(name, permission, cost)
    }
}

pub(super) const CHECK_MEMBER_GROUPS: Question = small(
    "checkMemberGroups",
    "GroupMember.Read.All with User.Read.All",
    4,
);
pub(super) const USER: Question = small("users", "User.Read.All", 1);
pub(super) const USERS_DELTA: Question = paged("users/delta", "User.Read.All", 2);
pub(super) const GROUPS_DELTA: Question = paged("groups/delta", "GroupMember.Read.All", 3);
pub(super) const TRANSITIVE_MEMBERS: Question = Question {
    eventual: true,
    ..paged(
        "transitiveMembers",
        "GroupMember.Read.All with User.Read.All",
        5,
    )
};
pub(super) const DELETED_ITEMS: Question = paged("deletedItems", "User.Read.All", 2);
pub(super) const ASSIGNED_TO: Question = paged("appRoleAssignedTo", "Application.Read.All", 2);
