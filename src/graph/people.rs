//! What a sign-in asks about one person.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::Graph;
use super::budget::Priority;
use super::error::Error;
use super::exchange::About;
use super::exchange::Call;
use super::question;
use super::question::Question;

/// What Graph says of a person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The object id.
    pub id: Uuid,
    /// False when the cloud account is disabled.
    pub account_enabled: Option<bool>,
    /// `Guest` or `Member`.
    pub user_type: Option<String>,
    /// The cloud UPN.
    pub user_principal_name: Option<String>,
    /// The display name.
    pub display_name: Option<String>,
    /// The first name.
    pub given_name: Option<String>,
    /// The last name.
    pub surname: Option<String>,
    /// The e-mail address.
    pub mail: Option<String>,
    /// The company.
    pub company_name: Option<String>,
    /// True when the account comes from a directory on premises.
    pub on_premises_sync_enabled: Option<bool>,
    /// Its SID there.
    pub on_premises_security_identifier: Option<String>,
}

#[derive(Deserialize)]
struct Ids {
    value: Vec<Uuid>,
}

impl Graph {
    /// Which of `groups` the person is a member of, directly or through other groups.
    ///
    /// # Errors
    /// Graph gave no answer about at least one of them: nothing may then be concluded.
    pub async fn check_member_groups(
        &self,
        oid: Uuid,
        groups: &[Uuid],
    ) -> Result<Vec<Uuid>, Error> {
        let mut member_of = Vec::new();
        let mut unknown = Vec::new();
        for group in groups {
            match self.inner.members.get(&(oid, *group)).await {
                Some(true) => member_of.push(*group),
                Some(false) => {}
                None => unknown.push(*group),
            }
        }
        for chunk in unknown.chunks(MAX_IDS) {
            let url = self.url(&["users", &oid.to_string(), "checkMemberGroups"])?;
            let ids: Ids = self
                .one(
                    &question::CHECK_MEMBER_GROUPS,
                    &url,
                    Some(json!({ "groupIds": chunk })),
                    oid,
                )
                .await?;
            for group in chunk {
                let member = ids.value.contains(group);
                self.inner.members.insert((oid, *group), member).await;
            }
            member_of.extend(chunk.iter().filter(|group| ids.value.contains(group)));
        }
        Ok(member_of)
    }

    /// As [`Self::check_member_groups`], never from memory, and behind sign-ins.
    ///
    /// # Errors
    /// Graph gave no answer about at least one of them, or knows no such person: nothing may then be concluded.
    pub async fn member_now(&self, oid: Uuid, groups: &[Uuid]) -> Result<Vec<Uuid>, Error> {
        let question = &question::CHECK_MEMBER_GROUPS;
        let mut member_of = Vec::new();
        for chunk in groups.chunks(MAX_IDS) {
            let url = self.url(&["users", &oid.to_string(), "checkMemberGroups"])?;
            let call = Call {
                question,
                url: &url,
                body: Some(json!({ "groupIds": chunk })),
                about: About::User(oid),
                priority: Priority::Sync,
            };
            let body = self.ask(&call).await?;
            let ids: Ids =
                serde_json::from_slice(&body).map_err(|_| Error::Answer(question.name))?;
            member_of.extend(ids.value);
        }
        Ok(member_of)
    }

    /// What Graph says of the person, never from memory.
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such person.
    pub async fn user(&self, oid: Uuid) -> Result<User, Error> {
        let mut url = self.url(&["users", &oid.to_string()])?;
        url.query_pairs_mut().append_pair("$select", SELECT);
        self.one(&question::USER, &url, None, oid).await
    }

    /// What Graph says of the person with this UPN: for administrators' questions. A UPN names nobody in a
    /// request (`model::names::PersonId` does).
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such person.
    pub async fn user_by_upn(&self, upn: &str) -> Result<User, Error> {
        let mut url = self.url(&["users", upn])?;
        url.query_pairs_mut().append_pair("$select", SELECT);
        self.one(&question::USER, &url, None, Uuid::nil()).await
    }

    async fn one<T: DeserializeOwned>(
        &self,
        question: &Question,
        url: &Url,
        body: Option<serde_json::Value>,
        oid: Uuid,
    ) -> Result<T, Error> {
        let call = Call {
            question,
            url,
            body,
            about: About::User(oid),
            priority: Priority::SignIn,
        };
        let body = self.ask(&call).await?;
        serde_json::from_slice(&body).map_err(|_| Error::Answer(question.name))
    }
}

/// Graph's limit for `checkMemberGroups`.
const MAX_IDS: usize = 20;
const SELECT: &str = "id,accountEnabled,userType,userPrincipalName,displayName,givenName,surname,mail,companyName,\
onPremisesSyncEnabled,onPremisesSecurityIdentifier";
