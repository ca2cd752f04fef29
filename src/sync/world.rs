//! The world as one run sees it: the cloud's people and the directory's accounts, reduced to what a plan depends on.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use aws_lc_rs::digest;
use serde::Serialize;
use uuid::Uuid;

use super::adopt::Stranger;
use crate::mapping::settings::Settings;
use crate::mapping::shadow;
use crate::mapping::shadow::Flow;
use crate::mapping::shadow::Values;
use crate::model::claims::Claims;
use crate::model::claims::Groups;
use crate::model::claims::Home;
use crate::model::names::PersonId;

/// Both sides at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The tenant that was asked.
    pub tenant: Uuid,
    /// When, in seconds since 1970.
    pub now: i64,
    /// The cloud's side.
    pub cloud: Cloud,
    /// Accounts with our anchor, wherever the gateway may see them.
    pub accounts: Vec<LocalAccount>,
    /// Accounts in the guests' OU without it.
    pub strangers: Vec<Stranger>,
    /// Managed groups, if memberships are kept.
    pub groups: Vec<ManagedGroup>,
}

/// A managed group, and who of the cloud belongs into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManagedGroup {
    /// The AD group.
    pub dn: String,
    /// The cloud's group, or the application whose role it is; the first if there are several.
    pub source: Uuid,
    /// What names it as ours when we make it.
    pub anchor: String,
    /// Whether it is there.
    pub exists: bool,
    /// Why nothing is concluded about its members, if so.
    pub unusable: Option<String>,
    /// Guests who belong into it.
    pub people: BTreeSet<Uuid>,
}

/// The cloud's side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    /// Everybody who is no ordinary member, and whoever else has an account.
    pub people: BTreeMap<Uuid, Person>,
    /// Deleted and restorable.
    pub deleted: BTreeSet<Uuid>,
    /// Who is in the scope; `None` = everybody.
    pub scope: Option<BTreeSet<Uuid>>,
    /// How many people the tenant told of, members included.
    pub told: usize,
}

/// What somebody is to the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `userType` Guest.
    Guest,
    /// A member who signs in elsewhere.
    ExternalMember,
    /// A member who signs in here.
    Internal,
}

/// A person in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The object id.
    pub oid: Uuid,
    /// What they are.
    pub kind: Kind,
    /// False when disabled in the cloud.
    pub enabled: bool,
    /// Invited, and has not come; since when, if that is told.
    pub pending: Option<Option<i64>>,
    /// When they came into the tenant, in seconds since 1970, if that is told.
    pub created: Option<i64>,
    /// The account comes from a directory on premises.
    pub synced: bool,
    /// The cloud UPN.
    pub upn: Option<String>,
    /// What else is told of them.
    pub values: Values,
}

/// Where an account lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the guests' OU.
    Guests,
    /// In the disabled OU.
    Rest,
    /// Under another of the account bases.
    Elsewhere,
}

/// Why an account is disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Disabled {
    /// By a synchronization: when, and for which reason.
    ByUs(Option<i64>, String),
    /// By somebody else, as far as the account says.
    ByOthers(String),
}

/// An account in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocalAccount {
    /// Whose, by the anchor.
    pub oid: Uuid,
    /// `sAMAccountName`.
    pub sam: String,
    /// The distinguished name.
    pub dn: String,
    /// Where it lies.
    pub place: Place,
    /// Whether it is disabled, and by whom.
    pub disabled: Option<Disabled>,
    /// Why nothing is done to it, if so.
    pub untouchable: Option<String>,
    /// What it holds of the values that may change.
    pub values: Values,
    /// Managed groups that it is in.
    pub groups: BTreeSet<String>,
    /// Managed groups that it was taken out of, to be given back.
    pub kept: BTreeSet<String>,
    /// When something last happened to it, in seconds since 1970.
    #[serde(skip)]
    pub last_seen: Option<i64>,
}

impl Person {
    /// What the account should hold: as a sign-in would write it, and what only Graph knows.
    #[must_use]
    pub fn wanted(&self, settings: &Settings, tenant: Uuid, sam: &str) -> Values {
        let text = |flow: Flow| self.values.get(&flow).cloned();
        let claims = Claims {
            person: PersonId {
                tid: tenant,
                oid: self.oid,
            },
            // Graph does not tell the home tenant.
            home: Home::Own,
            guest: Some(self.kind == Kind::Guest),
            display_name: text(Flow::DisplayName),
            given_name: text(Flow::GivenName),
            family_name: text(Flow::Sn),
            email: text(Flow::Mail),
            upn: self.upn.clone(),
            preferred_username: None,
            roles: Vec::new(),
            groups: Groups::Listed(Vec::new()),
            onprem_sid: None,
            session_id: None,
            login_hint: None,
        };
        let mut values = shadow::values(settings, sam, &claims);
        for flow in [Flow::Company, Flow::Mobile, Flow::EmployeeType] {
            if let Some(value) = text(flow).and_then(|value| flow.fit(&value)) {
                values.insert(flow, value);
            }
        }
        values
    }
}

impl World {
    /// What names this world: a hash of all that a plan may depend on, times aside.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut add = |part: Result<Vec<u8>, serde_json::Error>| {
            // Plain structs with text keys: they can always be written.
            hash.update(&part.unwrap_or_default());
            hash.update(b"\n");
        };
        add(serde_json::to_vec(&(
            self.tenant,
            &self.cloud.deleted,
            &self.cloud.scope,
            &self.groups,
        )));
        for person in self.cloud.people.values() {
            add(serde_json::to_vec(person));
        }
        let mut accounts: Vec<&LocalAccount> = self.accounts.iter().collect();
        accounts.sort_by(|a, b| (a.oid, &a.dn).cmp(&(b.oid, &b.dn)));
        for account in accounts {
            add(serde_json::to_vec(account));
        }
        let mut strangers: Vec<&Stranger> = self.strangers.iter().collect();
        strangers.sort_by(|a, b| a.dn.cmp(&b.dn));
        for stranger in strangers {
            add(serde_json::to_vec(stranger));
        }
        hex(hash.finish().as_ref())
    }
}

/// Octets as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
