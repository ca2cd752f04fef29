//! Making a shadow account, and taking over one that a predecessor made.
//!
//! One LDAP add, so that there is never half an account. The name follows from the person alone: of several
//! nodes that make it at the same instant one wins, and the others find "already exists", read it back and
//! go on with it. An add whose answer was lost is looked at again before anything else is tried.

use super::Needs;
use super::fence;
use super::lookup::Candidate;
use super::names;
use super::refusal::Refusal;
use super::rules;
use super::shadow;
use super::shadow::SHADOW_CONTROL;
use crate::ldap;
use crate::ldap::Dn;
use crate::ldap::ResultCode;
use crate::ldap::Session;
use crate::model::claims::Claims;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::store::records::AccountLink;

impl Needs {
    /// Rule 4: the person's account, made now or by somebody else at the same instant.
    pub(super) async fn make(&self, claims: &Claims) -> Result<Candidate, Refusal> {
        let Some(ou) = &self.settings.guests_ou else {
            let detail = "mapping.guests_ou is not configured";
            return Err(Refusal::fail(
                Code::ProvisioningFailed,
                Side::Gateway,
                detail,
            ));
        };
        let sam = names::sam(&self.settings.sam_prefix, claims.person);
        let dn = ou.child("CN", &sam);
        let session = self.directory.session().await?;
        // Before the add: if its answer is lost, this is where to look.
        self.pins.insert(claims.person, session.server().clone());
        let made = match self.add(&session, &dn, &sam, claims).await {
            Err(error) if error.outcome_unknown() => {
                tracing::warn!(%error, "the answer to the making of an account was lost, looking again");
                self.add_again(&session, &dn, &sam, claims).await?
            }
            answer => answer
                .map(|()| true)
                .or_else(|error| already_there(&error, &dn, claims))?,
        };
        let candidate = self.read_back(&dn, &sam, claims, &session).await?;
        if made {
            tracing::info!(
                target: "audit",
                event = "account-made",
                person = %claims.person,
                sam,
                dn = %candidate.entry.dn,
                dc = %candidate.server,
            );
        }
        self.remember(claims, &candidate).await;
        Ok(candidate)
    }

    async fn add(
        &self,
        session: &Session,
        dn: &Dn,
        sam: &str,
        claims: &Claims,
    ) -> Result<(), ldap::Error> {
        let values = shadow::values(&self.settings, sam, claims);
        let attributes = shadow::attributes(&self.settings, claims.person, sam, &values)?;
        session.add(dn, attributes).await
    }

    /// After a lost answer: once more on the same controller, unless the first one did arrive.
    async fn add_again(
        &self,
        session: &Session,
        dn: &Dn,
        sam: &str,
        claims: &Claims,
    ) -> Result<bool, Refusal> {
        let session = self.directory.session_on(session.server()).await?;
        if session.read(dn, &["cn"]).await?.is_some() {
            return Ok(true);
        }
        let answer = self.add(&session, dn, sam, claims).await;
        answer
            .map(|()| true)
            .or_else(|error| already_there(&error, dn, claims))
    }

    /// What is there now must be this person's account, whole.
    async fn read_back(
        &self,
        dn: &Dn,
        sam: &str,
        claims: &Claims,
        session: &Session,
    ) -> Result<Candidate, Refusal> {
        let conflict = |who: &Dn, why: &str| {
            let detail = format!(
                "{who}: {why}; remove or rename it, or switch adopt on if MIM or Microsoft's script made it"
            );
            Refusal::deny(Code::AccountConflict, detail)
        };
        let Some(candidate) = self.read(dn, session.server()).await? else {
            return Err(conflict(
                dn,
                &format!("another object holds the sAMAccountName {sam:?}"),
            ));
        };
        let entry = &candidate.entry;
        // SECURITY: an object of that name without the anchor is somebody else's, however it came there.
        if !self.is_anchored(entry, claims.person) {
            return Err(conflict(
                &entry.dn,
                "has the shadow account's name without the person's anchor",
            ));
        }
        let whole = entry.has("sAMAccountName", sam)
            && entry
                .number("userAccountControl")
                .is_some_and(|control| control & SHADOW_CONTROL == SHADOW_CONTROL);
        if !whole {
            let detail = format!(
                "{}: is not as it was to be made (sAMAccountName, userAccountControl)",
                entry.dn
            );
            return Err(Refusal::fail(
                Code::ProvisioningFailed,
                Side::Directory,
                detail,
            ));
        }
        Ok(candidate)
    }

    /// Rule 3: an account in the guests' OU that a predecessor made for this person; it gets our anchor.
    pub(super) async fn adopt(&self, claims: &Claims) -> Result<Option<Candidate>, Refusal> {
        let (true, Some(ou)) = (self.settings.adopt, &self.settings.guests_ou) else {
            return Ok(None);
        };
        let filter = rules::by_predecessor(claims)?;
        let Some(found) = self.one(&filter, &[ou], None).await? else {
            return Ok(None);
        };
        let entry = &found.entry;
        if !entry.values(self.settings.anchor.as_str()).is_empty() {
            let detail = format!(
                "{}: has the person's name, but another person's anchor",
                entry.dn
            );
            return Err(Refusal::deny(Code::AccountConflict, detail));
        }
        if !fence::is_ours(entry, true) {
            let detail = format!(
                "{}: its source of authority (msDS-ObjectSoa) is another system",
                entry.dn
            );
            return Err(Refusal::deny(Code::AccountConflict, detail));
        }
        // Nothing is written to an account that could not be used.
        fence::judge(entry, &self.settings.account_bases, self.clock.unix())?;
        let session = self.directory.session_on(&found.server).await?;
        session
            .modify(
                &entry.dn,
                shadow::stamp(&self.settings.anchor, claims.person, entry)?,
            )
            .await
            .map_err(refused)?;
        let stamped = self.read(&entry.dn, &found.server).await?;
        let stamped = stamped.filter(|now| self.is_anchored(&now.entry, claims.person));
        let Some(stamped) = stamped else {
            let detail = format!("{}: the anchor was written, but is not there", entry.dn);
            return Err(Refusal::fail(
                Code::ProvisioningFailed,
                Side::Directory,
                detail,
            ));
        };
        tracing::info!(
            target: "audit",
            event = "account-adopted",
            person = %claims.person,
            dn = %stamped.entry.dn,
            dc = %stamped.server,
        );
        self.pins.insert(claims.person, stamped.server.clone());
        self.remember(claims, &stamped).await;
        Ok(Some(stamped))
    }

    /// Where the account is, for other nodes and after a restart, until it has replicated.
    async fn remember(&self, claims: &Claims, made: &Candidate) {
        let (Some(sid), Some(guid)) = (made.entry.sid("objectSid"), made.entry.guid("objectGUID"))
        else {
            return;
        };
        let link = AccountLink {
            person: claims.person,
            sid,
            guid,
            dn: made.entry.dn.to_string(),
            dc: made.server.to_string(),
            created: self.clock.unix(),
        };
        if let Err(error) = self.store.save_account_link(&link).await {
            tracing::warn!(person = %claims.person, %error, "the link to a new account cannot be kept");
        }
    }
}

/// "Already exists" is no failure: what exists is read back and checked.
fn already_there(error: &ldap::Error, dn: &Dn, claims: &Claims) -> Result<bool, Refusal> {
    if error.code() == Some(ResultCode::EXISTS) {
        return Ok(false);
    }
    if let ldap::Error::Refused { refusal, .. } = error {
        let text = refusal.diagnostic.to_ascii_lowercase();
        // ERROR_DS_UPN_VALUE_NOT_UNIQUE_IN_FOREST, and Samba's words for it.
        if text.contains("000021c8") || text.contains("userprincipalname") {
            let upn = claims.upn.as_deref().unwrap_or_default();
            let detail = format!(
                "{dn}: another object holds the userPrincipalName {upn:?}; remove it, or switch adopt on if MIM or Microsoft's script made it ({error})"
            );
            return Err(Refusal::deny(Code::AccountConflict, detail));
        }
    }
    Err(refused(error.clone()))
}

/// A write that failed: what the directory refused is a matter of provisioning, the rest of the connection.
pub(super) fn refused(error: ldap::Error) -> Refusal {
    if error.is_connection() || error.code().is_none() {
        return Refusal::from(error);
    }
    Refusal::fail(Code::ProvisioningFailed, Side::Directory, error.to_string())
}
