//! What stands in Graph's pages: people, groups, the deleted, the assigned.
//!
//! A delta tells only what has changed, and null for what was emptied: [`Told`] keeps the two apart, so that a consumer
//! neither forgets nor invents. A record that is not of this shape makes its whole page unusable.

use serde::Deserialize;
use serde::Deserializer;
use time::OffsetDateTime;
use uuid::Uuid;

/// A property in an answer that may be partial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told<T> {
    /// The answer does not mention it: what was known stays.
    #[default]
    Nothing,
    /// It is empty now.
    Empty,
    /// It has this value now.
    Value(T),
}

impl<T> Told<T> {
    /// Its value, if the answer gave one.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Empty => None,
        }
    }

    /// What is known after an earlier answer (`self`) and this `later` one.
    pub fn learn(&mut self, later: Self) {
        match later {
            Self::Nothing => {}
            known @ (Self::Empty | Self::Value(_)) => *self = known,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Told<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value: Option<T> = Deserialize::deserialize(deserializer)?;
        Ok(value.map_or(Self::Empty, Self::Value))
    }
}

/// One entry of a delta. The same id may come several times, on one page or several: in the order given, the later
/// one counts, property by property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It is there, new or changed or restored.
    Now(T),
    /// It is not there any more.
    Removed(Uuid, Removal),
}

/// How something was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// `changed`: deleted, and restorable for 30 days; or not visible to us any more.
    Changed,
    /// `deleted`: for ever.
    Deleted,
}

/// A person, as far as told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserState {
    /// The object id.
    pub id: Uuid,
    /// The cloud UPN; it may change.
    #[serde(default)]
    pub user_principal_name: Told<String>,
    /// The display name.
    #[serde(default)]
    pub display_name: Told<String>,
    /// The first name.
    #[serde(default)]
    pub given_name: Told<String>,
    /// The last name.
    #[serde(default)]
    pub surname: Told<String>,
    /// The e-mail address; it may change and names nobody.
    #[serde(default)]
    pub mail: Told<String>,
    /// Further addresses.
    #[serde(default)]
    pub other_mails: Told<Vec<String>>,
    /// The company.
    #[serde(default)]
    pub company_name: Told<String>,
    /// The mobile telephone.
    #[serde(default)]
    pub mobile_phone: Told<String>,
    /// What the company calls this kind of person.
    #[serde(default)]
    pub employee_type: Told<String>,
    /// `Guest` or `Member`.
    #[serde(default)]
    pub user_type: Told<String>,
    /// False when disabled in the cloud.
    #[serde(default)]
    pub account_enabled: Told<bool>,
    /// `Invitation`, `EmailVerified`, `SelfServiceSignUp`, `LocalAccount`; empty for ordinary accounts.
    #[serde(default)]
    pub creation_type: Told<String>,
    /// When the account was made in the tenant (RFC 3339).
    #[serde(default)]
    pub created_date_time: Told<String>,
    /// `PendingAcceptance` or `Accepted`; empty for those never invited.
    #[serde(default)]
    pub external_user_state: Told<String>,
    /// When that state began (RFC 3339).
    #[serde(default)]
    pub external_user_state_change_date_time: Told<String>,
    /// How the person can sign in.
    #[serde(default)]
    pub identities: Told<Vec<Identity>>,
    /// True when the account comes from a directory on premises.
    #[serde(default)]
    pub on_premises_sync_enabled: Told<bool>,
    /// Its SID there.
    #[serde(default)]
    pub on_premises_security_identifier: Told<String>,
}

/// One way to sign in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// `federated`, `userPrincipalName`, `emailAddress`.
    pub sign_in_type: Option<String>,
    /// `ExternalAzureAD`, `MicrosoftAccount`, `mail`, or a domain.
    pub issuer: Option<String>,
    /// The name there.
    pub issuer_assigned_id: Option<String>,
}

/// A group, as far as told. The same group may come again on later pages with more members.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupState {
    /// The object id.
    pub id: Uuid,
    /// The display name.
    #[serde(default)]
    pub display_name: Told<String>,
    /// Direct members that came or went; nothing of those who stayed.
    #[serde(default, rename = "members@delta")]
    pub members: Vec<MemberChange>,
}

/// A member that came or went.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MemberChange {
    /// The member's object id.
    pub id: Uuid,
    /// What it is; told only of those who came.
    #[serde(default, rename = "@odata.type")]
    pub kind: Kind,
    /// Set when it is a member no more.
    #[serde(default, rename = "@removed")]
    pub removed: Option<Removed>,
}

/// `@removed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Removed {
    /// How.
    pub reason: Removal,
}

/// What a member or an assigned principal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// A person.
    #[serde(rename = "#microsoft.graph.user", alias = "User")]
    User,
    /// A group.
    #[serde(rename = "#microsoft.graph.group", alias = "Group")]
    Group,
    /// A device, an application, or not told.
    #[default]
    #[serde(other)]
    Other,
}

/// A person deleted in the cloud, restorable.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedUser {
    /// The object id.
    pub id: Uuid,
    /// The cloud UPN, which Graph prefixes with the id.
    pub user_principal_name: Option<String>,
    /// `Guest` or `Member`.
    pub user_type: Option<String>,
    /// When; Graph deletes for ever 30 days later.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub deleted_date_time: Option<OffsetDateTime>,
}

/// Somebody or a group assigned to an application. Nested groups are not assigned by their outer one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The person's or group's object id.
    pub principal_id: Uuid,
    /// Which of the two, or an application.
    pub principal_type: Kind,
    /// The app role; zero for "no role, just assigned".
    pub app_role_id: Uuid,
}

/// What deltas tell of: it has an id.
pub trait Identified {
    /// The object id.
    fn id(&self) -> Uuid;
}

impl Identified for UserState {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Identified for GroupState {
    fn id(&self) -> Uuid {
        self.id
    }
}

/// One entry of a delta as it stands there.
#[derive(Deserialize)]
struct Entry<T> {
    #[serde(rename = "@removed")]
    removed: Option<Removed>,
    #[serde(flatten)]
    now: T,
}

impl<'de, T: Identified + Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entry: Entry<T> = Deserialize::deserialize(deserializer)?;
        Ok(match entry.removed {
            Some(removed) => Self::Removed(entry.now.id(), removed.reason),
            None => Self::Now(entry.now),
        })
    }
}

/// What a synchronization needs of a person, and nothing else.
pub(super) const USER_SELECT: &str = "id,userPrincipalName,displayName,givenName,surname,mail,otherMails,\
companyName,mobilePhone,employeeType,userType,accountEnabled,creationType,createdDateTime,externalUserState,\
externalUserStateChangeDateTime,identities,onPremisesSyncEnabled,onPremisesSecurityIdentifier";
