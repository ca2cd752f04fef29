//! Exactly one account or none: searches in the configured bases, and nothing but denial when there are more.

use super::Needs;
use super::fence;
use super::refusal::Refusal;
use super::rules;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::model::claims::Claims;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::store::records::AccountLink;

/// How long a link to the controller that made an account can matter: replication takes hours at worst.
const LINK_MATTERS: i64 = 86_400;

/// An account as read, and by which controller.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) entry: Entry,
    pub(super) server: HostName,
}

impl Needs {
    /// Rules 1 and 2: the anchored account, else the synced person's.
    pub(super) async fn look_up(&self, claims: &Claims) -> Result<Option<Candidate>, Refusal> {
        let anchored = self.anchored(claims).await?;
        let Some(sid) = &claims.onprem_sid else {
            return Ok(anchored);
        };
        let Some(anchored) = anchored else {
            let filter = rules::by_sid(sid)?;
            return self.one(&filter, &self.settings.search_bases(), None).await;
        };
        // SECURITY: two sources name two accounts for one person; neither is "probably right".
        if anchored.entry.sid("objectSid").as_ref() != Some(sid) {
            return Err(Refusal::deny(
                Code::AccountAmbiguous,
                format!(
                    "{} is anchored to {}, but the token's onprem_sid is {sid}",
                    claims.person, anchored.entry.dn
                ),
            ));
        }
        Ok(Some(anchored))
    }

    /// Rule 1. An account that was just made is looked for where it was made until it has replicated.
    async fn anchored(&self, claims: &Claims) -> Result<Option<Candidate>, Refusal> {
        let person = claims.person;
        let filter = rules::by_anchor(&self.settings, claims);
        let bases = self.settings.search_bases();
        let mut unreachable = None;
        if let Some(pinned) = self.pins.get(&person) {
            match self.one(&filter, &bases, Some(&pinned)).await {
                Ok(Some(found)) => {
                    self.unpin_if_replicated(person, &filter, &bases, &pinned)
                        .await;
                    return Ok(Some(found));
                }
                Ok(None) => self.pins.invalidate(&person),
                Err(Refusal::Fail(fault)) if fault.code == Code::DirectoryUnreachable => {
                    unreachable = Some(Refusal::Fail(fault));
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if let Some(found) = self.one(&filter, &bases, None).await? {
            self.pins.invalidate(&person);
            return Ok(Some(found));
        }
        // SECURITY: its maker cannot be asked, so nobody knows that the account is not there: no second one.
        if let Some(refusal) = unreachable {
            return Err(refusal);
        }
        let Some(link) = self.link(person).await? else {
            return Ok(None);
        };
        let Ok(maker) = link.dc.parse::<HostName>() else {
            return Ok(None);
        };
        let found = self.one(&filter, &bases, Some(&maker)).await?;
        if found.is_some() {
            self.pins.insert(person, maker);
        } else {
            self.forget_link(person).await;
        }
        Ok(found)
    }

    /// Exactly one, none, or a denial. Asks `server` alone if given.
    pub(super) async fn one(
        &self,
        filter: &Filter,
        bases: &[&Dn],
        server: Option<&HostName>,
    ) -> Result<Option<Candidate>, Refusal> {
        let mut server = server.cloned();
        let mut names: Vec<Dn> = Vec::new();
        for base in bases {
            let search = Search {
                base: (*base).clone(),
                scope: Scope::Subtree,
                filter: filter.clone(),
                // RFC 4511 4.5.1.8: no attributes, the name is enough.
                attributes: vec![String::from("1.1")],
                limit: 2,
            };
            let found = match &server {
                Some(server) => self.directory.search_on(server, &search).await?,
                None => self.directory.search(&search).await?,
            };
            server = Some(found.server);
            names.extend(found.entries.into_iter().map(|entry| entry.dn));
        }
        let (Some(server), [dn]) = (server, names.as_slice()) else {
            return none_or_many(filter, &names);
        };
        self.read(dn, &server).await
    }

    /// Reads all that the fence wants to know.
    pub(super) async fn read(
        &self,
        dn: &Dn,
        server: &HostName,
    ) -> Result<Option<Candidate>, Refusal> {
        let mut attributes = fence::ATTRIBUTES.to_vec();
        attributes.push(self.settings.anchor.as_str());
        let session = self.directory.session_on(server).await?;
        let entry = session.read(dn, &attributes).await?;
        Ok(entry.map(|entry| Candidate {
            entry,
            server: server.clone(),
        }))
    }

    /// Whether `entry` carries the person's anchor.
    pub(super) fn is_anchored(&self, entry: &Entry, person: PersonId) -> bool {
        entry
            .texts(self.settings.anchor.as_str())
            .any(|value| rules::is_anchor_of(value, person))
    }

    async fn unpin_if_replicated(
        &self,
        person: PersonId,
        filter: &Filter,
        bases: &[&Dn],
        pinned: &HostName,
    ) {
        let Ok(servers) = self.directory.servers().await else {
            return;
        };
        let replicated = match servers.iter().find(|server| *server != pinned) {
            Some(other) => matches!(self.one(filter, bases, Some(other)).await, Ok(Some(_))),
            None => true,
        };
        if replicated {
            self.pins.invalidate(&person);
        }
    }

    async fn link(&self, person: PersonId) -> Result<Option<AccountLink>, Refusal> {
        let link = self.store.account_link(person).await.map_err(|error| {
            Refusal::fail(Code::StoreUnavailable, Side::Gateway, error.to_string())
        })?;
        let now = self.clock.unix();
        Ok(link.filter(|link| now.saturating_sub(link.created) < LINK_MATTERS))
    }

    async fn forget_link(&self, person: PersonId) {
        if let Err(error) = self.store.forget_account_link(person).await {
            tracing::warn!(%person, %error, "the link to an account that is gone cannot be forgotten");
        }
    }
}

fn none_or_many(filter: &Filter, names: &[Dn]) -> Result<Option<Candidate>, Refusal> {
    if names.is_empty() {
        return Ok(None);
    }
    // SECURITY: never the first of several: whoever can make a look-alike would become somebody else.
    let names: Vec<String> = names
        .iter()
        .map(|dn| format!("{:?}", dn.to_string()))
        .collect();
    Err(Refusal::deny(
        Code::AccountAmbiguous,
        format!("{filter} fits {}", names.join(" and ")),
    ))
}
