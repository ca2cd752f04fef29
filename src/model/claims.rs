//! What a validated token said about a person.

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::names::PersonId;
use super::names::Sid;

/// Facts from one validated token. Only `person` names anybody; all other names are for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// `tid` + `oid`.
    pub person: PersonId,
    /// Where the person signs in at home.
    pub home: Home,
    /// Entra's `acct`: `Some(true)` = guest, `Some(false)` = member, `None` = the token did not say.
    pub guest: Option<bool>,
    /// `name`.
    pub display_name: Option<String>,
    /// `given_name`.
    pub given_name: Option<String>,
    /// `family_name`.
    pub family_name: Option<String>,
    /// `email`, possibly unverified: display only.
    pub email: Option<String>,
    /// `upn`, the cloud UPN (`…#EXT#@…` for a guest).
    pub upn: Option<String>,
    /// `preferred_username`, mutable: display and login hint only.
    pub preferred_username: Option<String>,
    /// App roles.
    pub roles: Vec<String>,
    /// Group object ids, or the fact that there were too many to send.
    pub groups: Groups,
    /// `onprem_sid` of a synced person.
    pub onprem_sid: Option<Sid>,
    /// `sid`: the Entra session, for front-channel sign-out.
    pub session_id: Option<String>,
    /// `login_hint`, sent back as `logout_hint`.
    pub login_hint: Option<String>,
}

impl Claims {
    /// True when the person's home is another tenant or provider than the issuing tenant.
    #[must_use]
    pub const fn is_external(&self) -> bool {
        !matches!(self.home, Home::Own)
    }

    /// True when Entra calls the person a guest; a token that does not say leaves it at "external".
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.guest.unwrap_or_else(|| self.is_external())
    }

    /// A name to show to the person: never used to find anybody.
    #[must_use]
    pub fn shown_name(&self) -> String {
        [
            &self.display_name,
            &self.preferred_username,
            &self.email,
            &self.upn,
        ]
        .into_iter()
        .flatten()
        .find(|name| !name.trim().is_empty())
        .cloned()
        .unwrap_or_else(|| self.person.oid.to_string())
    }
}

/// The provider at which a person signs in (claim `idp`), compared by tenant GUID, never as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// The tenant that issued the token.
    Own,
    /// Another Entra tenant.
    Tenant(Uuid),
    /// Another provider: `live.com`, `google.com`, `mail` (one-time passcode), a SAML issuer URI.
    Provider(String),
}

/// Group membership as far as the token tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// All groups that the issuer was asked to send.
    Listed(Vec<Uuid>),
    /// More than fit into the token (`_claim_names`): Graph has to be asked.
    Overage,
}
