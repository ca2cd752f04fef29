//! What a synchronization asks about the tenant: what has changed, who is in a group, who was deleted, who is assigned.
//!
//! Everything here waits behind sign-ins ([`super::Priority`]).

use serde::de::DeserializeOwned;
use url::Url;
use uuid::Uuid;

use super::Graph;
use super::budget::Priority;
use super::error::Error;
use super::exchange::About;
use super::exchange::Call;
use super::link::Link;
use super::paging::Pages;
use super::question;
use super::question::Question;
use super::record::Assignment;
use super::record::Change;
use super::record::DeletedUser;
use super::record::GroupState;
use super::record::USER_SELECT;
use super::record::UserState;

impl Graph {
    /// A stored link, if it leads to the configured Graph.
    ///
    /// # Errors
    /// It leads elsewhere: the configuration has changed since, and a full synchronization is needed.
    pub fn link(&self, stored: &str) -> Result<Link, Error> {
        Link::pinned(&self.inner.settings.base_url, stored)
    }

    /// What has changed about people since `from`; without it, everybody (guests and members: Graph cannot filter a
    /// delta by `userType`). Needs `User.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn users_delta(&self, from: Option<Link>) -> Result<Pages<Change<UserState>>, Error> {
        let first = from.map_or_else(
            || self.query(&["users", "delta"], &[("$select", USER_SELECT)]),
            Ok,
        )?;
        Ok(Pages::of_delta(self, &question::USERS_DELTA, first))
    }

    /// What has changed about `groups` and their direct members since `from`; without it, all there is. Needs
    /// `GroupMember.Read.All`.
    ///
    /// # Errors
    /// More than 50 groups (Graph's limit of a delta), none, or the base address is unusable.
    pub fn groups_delta(
        &self,
        groups: &[Uuid],
        from: Option<Link>,
    ) -> Result<Pages<Change<GroupState>>, Error> {
        let name = question::GROUPS_DELTA.name;
        if groups.is_empty() || groups.len() > MAX_DELTA_IDS {
            return Err(Error::Page {
                question: name,
                why: format!("{} groups; wanted: 1 to {MAX_DELTA_IDS}", groups.len()),
            });
        }
        let ids: Vec<String> = groups.iter().map(|id| format!("id eq '{id}'")).collect();
        let query = [
            ("$select", "id,displayName,members"),
            ("$filter", &ids.join(" or ")),
        ];
        let first = from.map_or_else(|| self.query(&["groups", "delta"], &query), Ok)?;
        Ok(Pages::of_delta(self, &question::GROUPS_DELTA, first))
    }

    /// The people in `group`, directly or through other groups. Needs `GroupMember.Read.All`, and `User.Read.All` for
    /// more than their ids.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn transitive_members(&self, group: Uuid) -> Result<Pages<UserState>, Error> {
        let path = [
            "groups",
            &group.to_string(),
            "transitiveMembers",
            "microsoft.graph.user",
        ];
        let query = [
            ("$count", "true"),
            ("$select", USER_SELECT),
            ("$top", "999"),
        ];
        let first = self.query(&path, &query)?;
        let about = About::Object(group);
        Ok(Pages::of_list(
            self,
            &question::TRANSITIVE_MEMBERS,
            about,
            first,
        ))
    }

    /// People deleted in the last 30 days, who can be restored. Needs `User.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn deleted_users(&self) -> Result<Pages<DeletedUser>, Error> {
        let path = ["directory", "deletedItems", "microsoft.graph.user"];
        let query = [
            ("$select", "id,userPrincipalName,userType,deletedDateTime"),
            ("$top", "999"),
        ];
        let first = self.query(&path, &query)?;
        Ok(Pages::of_list(
            self,
            &question::DELETED_ITEMS,
            About::List,
            first,
        ))
    }

    /// Who and which groups are assigned to the application with this client id. Needs `Application.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn assigned_to(&self, client_id: Uuid) -> Result<Pages<Assignment>, Error> {
        let principal = format!("servicePrincipals(appId='{client_id}')");
        let first = self.query(&[&principal, "appRoleAssignedTo"], &[("$top", "999")])?;
        let about = About::Object(client_id);
        Ok(Pages::of_list(self, &question::ASSIGNED_TO, about, first))
    }

    /// One person as a synchronization sees them, never from memory. Needs `User.Read.All`.
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such person.
    pub async fn user_state(&self, oid: Uuid) -> Result<UserState, Error> {
        let link = self.query(&["users", &oid.to_string()], &[("$select", USER_SELECT)])?;
        self.entity(&question::USER, link.url(), About::User(oid))
            .await
    }

    pub(super) async fn entity<T: DeserializeOwned>(
        &self,
        question: &Question,
        url: &Url,
        about: About,
    ) -> Result<T, Error> {
        let call = Call {
            question,
            url,
            body: None,
            about,
            priority: Priority::Sync,
        };
        let body = self.ask(&call).await?;
        serde_json::from_slice(&body).map_err(|_| Error::Answer(question.name))
    }

    pub(super) fn query(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Link, Error> {
        let mut url = self.url(path)?;
        url.query_pairs_mut().extend_pairs(query);
        Ok(Link::own(url))
    }
}

/// Graph's limit of ids in a delta's filter.
const MAX_DELTA_IDS: usize = 50;
