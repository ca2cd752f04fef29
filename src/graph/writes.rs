//! What the synchronization of partners reads and writes: invitations, people, memberships, assignments.
//!
//! Everything waits behind sign-ins, spends the same budget and goes to the configured host alone, as questions do. What makes
//! something or sends mail is sent once: without an answer it is for the caller to look whether it has happened.
//!
//! Specification: Microsoft Graph v1.0, `invitation`, `user` (update, delete), `directoryObject` (restore), `group` (add members),
//! `servicePrincipal` (grant an app role). Answers: 201 with the object, 204 without one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Graph;
use super::budget::Priority;
use super::error::Error;
use super::exchange::About;
use super::exchange::Call;
use super::paging::Pages;
use super::question;
use super::question::Question;
use super::record::Identity;

/// Somebody the tenant knows, as the synchronization of partners compares them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The object id.
    pub id: Uuid,
    /// The cloud UPN.
    pub user_principal_name: Option<String>,
    /// The e-mail address.
    pub mail: Option<String>,
    /// Further addresses.
    #[serde(default)]
    pub other_mails: Option<Vec<String>>,
    /// `Guest` or `Member`.
    pub user_type: Option<String>,
    /// False when disabled in the cloud.
    pub account_enabled: Option<bool>,
    /// `Invitation`, or empty for ordinary accounts.
    pub creation_type: Option<String>,
    /// When it was made.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub created_date_time: Option<OffsetDateTime>,
    /// `PendingAcceptance` or `Accepted`.
    pub external_user_state: Option<String>,
    /// With what they sign in.
    #[serde(default)]
    pub identities: Option<Vec<Identity>>,
    /// True when the account comes from a directory on premises.
    pub on_premises_sync_enabled: Option<bool>,
    /// The UPN there.
    pub on_premises_user_principal_name: Option<String>,
    /// What Entra Connect matched it by: base64 of the `objectGUID`, mostly.
    pub on_premises_immutable_id: Option<String>,
    /// Its SID there.
    pub on_premises_security_identifier: Option<String>,
    /// `extensionAttribute1` to `15`.
    #[serde(default)]
    pub on_premises_extension_attributes: Option<BTreeMap<String, Value>>,
    /// The display name.
    pub display_name: Option<String>,
    /// The first name.
    pub given_name: Option<String>,
    /// The last name.
    pub surname: Option<String>,
    /// The company.
    pub company_name: Option<String>,
    /// The position.
    pub job_title: Option<String>,
    /// The department.
    pub department: Option<String>,
    /// The mobile telephone.
    pub mobile_phone: Option<String>,
    /// The company's own number for them.
    pub employee_id: Option<String>,
}

/// A member of a group, or whoever is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The object id.
    pub id: Uuid,
}

/// An application as the tenant has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// The service principal's object id.
    pub id: Uuid,
    /// Its app roles.
    #[serde(default)]
    app_roles: Vec<AppRole>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppRole {
    id: Uuid,
    value: Option<String>,
    #[serde(default)]
    is_enabled: bool,
}

impl Application {
    /// The id of the role with this value; the empty value is "just assigned".
    #[must_use]
    pub fn role(&self, value: &str) -> Option<Uuid> {
        if value.is_empty() {
            return Some(Uuid::nil());
        }
        let fits = |role: &&AppRole| role.is_enabled && role.value.as_deref() == Some(value);
        self.app_roles.iter().find(fits).map(|role| role.id)
    }
}

/// An invitation to be sent.
#[derive(Clone, Debug)]
pub struct Invitation<'a> {
    /// The address with which the person signs in.
    pub address: &'a str,
    /// Their name.
    pub name: &'a str,
    /// Where they are led once they have accepted.
    pub redirect: &'a str,
    /// `Guest` or `Member`.
    pub user_type: &'a str,
    /// Whether Microsoft writes to them, and what.
    pub letter: Option<&'a Letter>,
    /// Who is to become a guest: an internal account of the tenant; absent = somebody new.
    pub internal: Option<Uuid>,
}

/// What Microsoft writes to the invited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Language, such as `en-US`.
    pub language: Option<String>,
    /// A text of one's own.
    pub text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invited {
    invited_user: Member,
}

impl Graph {
    /// Everybody the tenant knows. Needs `User.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn everybody(&self) -> Result<Pages<Known>, Error> {
        let first = self.query(&["users"], &[("$select", SELECT), ("$top", "999")])?;
        Ok(Pages::of_list(self, &question::USERS, About::List, first))
    }

    /// Whoever has this address now, never from memory. Needs `User.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn with_address(&self, address: &str) -> Result<Pages<Known>, Error> {
        // OData: a quote inside a string is doubled.
        let filter = format!("mail eq '{}'", address.replace('\'', "''"));
        let first = self.query(&["users"], &[("$select", SELECT), ("$filter", &filter)])?;
        Ok(Pages::of_list(self, &question::USERS, About::List, first))
    }

    /// One person, never from memory. Needs `User.Read.All`.
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such person.
    pub async fn known(&self, oid: Uuid) -> Result<Known, Error> {
        let link = self.query(&["users", &oid.to_string()], &[("$select", SELECT)])?;
        self.entity(&question::USER, link.url(), About::User(oid))
            .await
    }

    /// People deleted in the last 30 days, with what can be compared. Needs `User.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn known_deleted(&self) -> Result<Pages<Known>, Error> {
        let path = ["directory", "deletedItems", "microsoft.graph.user"];
        let first = self.query(&path, &[("$select", SELECT), ("$top", "999")])?;
        let about = About::List;
        Ok(Pages::of_list(self, &question::DELETED_ITEMS, about, first))
    }

    /// The direct members of `group`. Needs `GroupMember.Read.All`.
    ///
    /// # Errors
    /// The base address is unusable.
    pub fn members(&self, group: Uuid) -> Result<Pages<Member>, Error> {
        let path = ["groups", &group.to_string(), "members"];
        let first = self.query(&path, &[("$select", "id"), ("$top", "999")])?;
        let about = About::Object(group);
        Ok(Pages::of_list(self, &question::MEMBERS, about, first))
    }

    /// The application with this client id, as the tenant has it. Needs `Application.Read.All`.
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such application.
    pub async fn application(&self, client_id: Uuid) -> Result<Application, Error> {
        let principal = format!("servicePrincipals(appId='{client_id}')");
        let link = self.query(&[&principal], &[("$select", "id,appRoles")])?;
        let about = About::Object(client_id);
        self.entity(&question::SERVICE_PRINCIPAL, link.url(), about)
            .await
    }

    /// Invites somebody, or turns an internal account into an invited one; the person's object id comes back. Needs
    /// `User.Invite.All`, for internal accounts also `User.ReadWrite.All`.
    ///
    /// # Errors
    /// Graph refused; or gave no answer, and then it may have happened or not.
    pub async fn invite(&self, invitation: &Invitation<'_>) -> Result<Uuid, Error> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        put("invitedUserEmailAddress", json!(invitation.address));
        put("inviteRedirectUrl", json!(invitation.redirect));
        put("sendInvitationMessage", json!(invitation.letter.is_some()));
        let question = match invitation.internal {
            Some(oid) => {
                put("invitedUser", json!({ "id": oid }));
                &question::CONVERT
            }
            None => {
                put("invitedUserDisplayName", json!(invitation.name));
                put("invitedUserType", json!(invitation.user_type));
                &question::INVITE
            }
        };
        if let Some(letter) = invitation.letter {
            let words = json!({
                "messageLanguage": letter.language,
                "customizedMessageBody": letter.text,
            });
            put("invitedUserMessageInfo", words);
        }
        let body = Value::Object(body);
        let answer = self
            .write(question, &["invitations"], About::List, Some(body))
            .await?;
        let invited: Result<Invited, _> = serde_json::from_slice(&answer);
        invited
            .map(|invited| invited.invited_user.id)
            .map_err(|_| Error::Answer(question.name))
    }

    /// Writes properties of a person. Needs `User.ReadWrite.All`.
    ///
    /// # Errors
    /// Graph refused, gave no answer, or knows no such person.
    pub async fn change_user(&self, oid: Uuid, properties: Value) -> Result<(), Error> {
        let path = ["users", &oid.to_string()];
        let about = About::User(oid);
        let body = Some(properties);
        self.write(&question::CHANGE_USER, &path, about, body)
            .await
            .map(drop)
    }

    /// Deletes a person; they can be restored for 30 days. Needs `User.ReadWrite.All`.
    ///
    /// # Errors
    /// Graph refused, gave no answer, or knows no such person.
    pub async fn delete_user(&self, oid: Uuid) -> Result<(), Error> {
        let path = ["users", &oid.to_string()];
        let about = About::User(oid);
        self.write(&question::DELETE_USER, &path, about, None)
            .await
            .map(drop)
    }

    /// Brings a deleted person back. Needs `User.ReadWrite.All`.
    ///
    /// # Errors
    /// Graph refused, gave no answer, or knows no such deleted person.
    pub async fn restore_user(&self, oid: Uuid) -> Result<(), Error> {
        let path = ["directory", "deletedItems", &oid.to_string(), "restore"];
        let about = About::User(oid);
        self.write(&question::RESTORE_USER, &path, about, None)
            .await
            .map(drop)
    }

    /// Makes a person a direct member of a group; one who is already stays so. Needs `GroupMember.ReadWrite.All`.
    ///
    /// # Errors
    /// Graph refused, gave no answer, or knows no such group or person.
    pub async fn add_member(&self, group: Uuid, oid: Uuid) -> Result<(), Error> {
        let object = self.url(&["directoryObjects", &oid.to_string()])?;
        let body = json!({ "@odata.id": object.as_str() });
        let path = ["groups", &group.to_string(), "members", "$ref"];
        let about = About::Object(group);
        self.write(&question::ADD_MEMBER, &path, about, Some(body))
            .await
            .map(drop)
    }

    /// Assigns a person to an application; one who is already stays so. Needs `AppRoleAssignment.ReadWrite.All`.
    ///
    /// # Errors
    /// Graph refused, gave no answer, or knows no such application or person.
    pub async fn assign(&self, application: Uuid, role: Uuid, oid: Uuid) -> Result<(), Error> {
        let id = application.to_string();
        let body = json!({ "principalId": oid, "resourceId": application, "appRoleId": role });
        let path = ["servicePrincipals", &id, "appRoleAssignedTo"];
        let about = About::Object(application);
        self.write(&question::ASSIGN, &path, about, Some(body))
            .await
            .map(drop)
    }

    async fn write(
        &self,
        question: &Question,
        path: &[&str],
        about: About,
        body: Option<Value>,
    ) -> Result<Vec<u8>, Error> {
        let url = self.url(path)?;
        let call = Call {
            question,
            url: &url,
            body,
            about,
            priority: Priority::Sync,
        };
        self.ask(&call).await
    }
}

/// What is compared of a person, and nothing else.
const SELECT: &str = "id,userPrincipalName,mail,otherMails,userType,accountEnabled,creationType,createdDateTime,\
externalUserState,identities,onPremisesSyncEnabled,onPremisesUserPrincipalName,onPremisesImmutableId,\
onPremisesSecurityIdentifier,onPremisesExtensionAttributes,displayName,givenName,surname,companyName,jobTitle,department,\
mobilePhone,employeeId";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_by_its_value_and_only_while_it_is_enabled() {
        let app: Application = serde_json::from_value(json!({
            "id": Uuid::from_u128(1),
            "appRoles": [
                {"id": Uuid::from_u128(2), "value": "Old", "isEnabled": false},
                {"id": Uuid::from_u128(3), "value": "Intranet.User", "isEnabled": true},
                {"id": Uuid::from_u128(4), "value": null, "isEnabled": true},
            ],
        }))
        .unwrap();
        assert_eq!(app.role("Intranet.User"), Some(Uuid::from_u128(3)));
        assert_eq!(app.role("Old"), None);
        assert_eq!(app.role("intranet.user"), None);
        assert_eq!(app.role(""), Some(Uuid::nil()));
    }
}
