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
    /// How something is written; absent = it is a question.
    pub(super) write: Option<Write>,
}

/// How something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// POST, that may be sent again when no answer came.
    Post,
    /// POST that makes something or sends mail: never sent again unless Graph said that it did nothing.
    PostOnce,
    Patch,
    Delete,
}

const fn small(name: &'static str, permission: &'static str, cost: u32) -> Question {
    Question {
        name,
        permission,
        cost,
        eventual: false,
        limit: 256 * 1024,
        write: None,
    }
}

const fn paged(name: &'static str, permission: &'static str, cost: u32) -> Question {
    Question {
        limit: 16 * 1024 * 1024,
        ..small(name, permission, cost)
    }
}

const fn written(name: &'static str, permission: &'static str, write: Write) -> Question {
    Question {
        write: Some(write),
        ..small(name, permission, 2)
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
pub(super) const USERS: Question = paged("users", "User.Read.All", 2);
pub(super) const MEMBERS: Question = paged("members", "GroupMember.Read.All", 3);
pub(super) const SERVICE_PRINCIPAL: Question =
    small("servicePrincipals", "Application.Read.All", 1);
pub(super) const INVITE: Question = written("invitations", "User.Invite.All", Write::PostOnce);
pub(super) const CONVERT: Question = written(
    "invitations of internal users",
    "User.Invite.All with User.ReadWrite.All",
    Write::PostOnce,
);
pub(super) const CHANGE_USER: Question =
    written("changes of users", "User.ReadWrite.All", Write::Patch);
pub(super) const DELETE_USER: Question =
    written("deletions of users", "User.ReadWrite.All", Write::Delete);
pub(super) const RESTORE_USER: Question =
    written("restored users", "User.ReadWrite.All", Write::Post);
pub(super) const ADD_MEMBER: Question = written(
    "new members of groups",
    "GroupMember.ReadWrite.All",
    Write::Post,
);
pub(super) const ASSIGN: Question = written(
    "assignments to applications",
    "AppRoleAssignment.ReadWrite.All",
    Write::Post,
);
pub(super) const SUBSCRIBE_USERS: Question =
    written("subscriptions to users", "User.Read.All", Write::PostOnce);
/// More than reading members takes: Graph tells of whole groups.
pub(super) const SUBSCRIBE_GROUPS: Question =
    written("subscriptions to groups", "Group.Read.All", Write::PostOnce);
pub(super) const PROLONG_USERS: Question = written(
    "subscriptions to users that go on",
    "User.Read.All",
    Write::Patch,
);
pub(super) const PROLONG_GROUPS: Question = written(
    "subscriptions to groups that go on",
    "Group.Read.All",
    Write::Patch,
);
