//! As whom does this person go on? User -> on-premises account, found or made.
//!
//! In: an [`AuthorizedUser`] and the application. Out: a [`MappedUser`], with the account where the application
//! needs one. The first rule that applies: the anchor (`User_<oid>`), the synced person's SID, adoption of a
//! predecessor's account, a new shadow account; otherwise a denial. An *error* in one rule never leads to the
//! next, exactly one account or none is found, and every account passes the fence ([`fence`]) each time it is read.
//!
//! # Why
//! - A person is `tid` + `oid`. UPN and e-mail change hands and are never looked up (adoption excepted, inside
//!   the guests' OU, in the one form of UPN that the tenant itself makes).
//! - What was just written is read on the same controller until another one has it too (`pins`, and the store's
//!   link for other nodes and restarts): otherwise a guest's second request could make a second account.

pub mod fence;
mod flights;
mod groups;
mod lookup;
pub mod managed;
pub mod names;
mod provision;
mod refusal;
pub mod rules;
pub mod settings;
pub mod shadow;

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use uuid::Uuid;

use crate::authz::AuthorizedUser;
use crate::kerberos::Delegator;
use crate::ldap::Attribute;
use crate::ldap::Directory;
use crate::model::account::Account;
use crate::model::application::Application;
use crate::model::application::Guests;
use crate::model::claims::Claims;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::model::names::Principal;
use crate::model::names::Sid;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::store::Store;
use flights::Flights;
use flights::Landing;
use flights::Progress;
use groups::Wanted;
use lookup::Candidate;
use refusal::Refusal;
use settings::BadSettings;
use settings::Settings;

/// How soon a visitor who waits for an account comes back.
const COME_BACK: Duration = Duration::from_secs(1);
/// How long a denial is believed: short, an administrator is perhaps just mending its cause.
const DENIED: Duration = Duration::from_secs(3);
/// How long the KDC on the controller that made an account is preferred.
const PREFER_KDC: Duration = Duration::from_secs(120);
/// Most people remembered at a time.
const PEOPLE: u64 = 100_000;

/// A person who goes on, with their account where the application needs one. Made only here.
#[derive(Clone, Debug)]
pub struct MappedUser {
    user: AuthorizedUser,
    account: Option<Arc<Account>>,
}

impl MappedUser {
    /// The person, as authorized.
    #[must_use]
    pub const fn user(&self) -> &AuthorizedUser {
        &self.user
    }

    /// What the token said.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.user.claims()
    }

    /// The on-premises account, where the application needs one.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        self.account.as_deref()
    }

    /// The same, to keep.
    #[must_use]
    pub fn shared_account(&self) -> Option<Arc<Account>> {
        self.account.clone()
    }
}

/// What the room works with.
#[derive(Debug)]
pub struct Tools {
    /// The directory.
    pub directory: Directory,
    /// Where links to new accounts are kept for other nodes.
    pub store: Arc<dyn Store>,
    /// Told where a new account is known first, and when tickets have become stale.
    pub delegator: Option<Delegator>,
    /// Now.
    pub clock: Clock,
}

/// The room.
#[derive(Clone, Debug)]
pub struct Mapping {
    needs: Option<Arc<Needs>>,
}

/// Everything a walk to the directory uses; shared with the tasks that outlive a visitor.
#[derive(Debug)]
struct Needs {
    settings: Settings,
    directory: Directory,
    store: Arc<dyn Store>,
    delegator: Option<Delegator>,
    clock: Clock,
    known: Cache<PersonId, Arc<Known>>,
    denied: Cache<PersonId, (Walk, Refusal)>,
    pins: Cache<PersonId, HostName>,
    flights: Flights<Walk, Arc<Known>>,
}

/// An account that passed the fence a moment ago, and the groups it was given.
#[derive(Debug)]
struct Known {
    account: Arc<Account>,
    groups: Wanted,
}

/// What one walk is for: visitors for whom all of it is the same share a walk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Walk {
    person: PersonId,
    sid: Option<Sid>,
    makes: bool,
    groups: Wanted,
}

impl Mapping {
    /// A room that maps nobody: for a gateway none of whose applications needs accounts.
    #[must_use]
    pub const fn without_accounts() -> Self {
        Self { needs: None }
    }

    /// The room.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn new(settings: Settings, tools: Tools) -> Result<Self, BadSettings> {
        settings.check()?;
        let known = Cache::builder()
            .max_capacity(PEOPLE)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(settings.cache)
            .build();
        let denied = Cache::builder()
            .max_capacity(PEOPLE)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(DENIED)
            .build();
        let pins = Cache::builder()
            .max_capacity(PEOPLE)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(Duration::from_secs(3600))
            .build();
        Ok(Self {
            needs: Some(Arc::new(Needs {
                settings,
                directory: tools.directory,
                store: tools.store,
                delegator: tools.delegator,
                clock: tools.clock,
                known,
                denied,
                pins,
                flights: Flights::new(),
            })),
        })
    }

    /// The person with their account.
    ///
    /// # Errors
    /// The reason why there is no account to go on as, or [`Stop::Wait`] while one is being made.
    pub async fn resolve(
        &self,
        user: AuthorizedUser,
        app: &Application,
    ) -> Result<MappedUser, Stop> {
        if !app.needs_account() {
            return Ok(MappedUser {
                user,
                account: None,
            });
        }
        let Some(needs) = &self.needs else {
            let detail = format!(
                "{} needs accounts, but there is no [directory] or no [mapping]",
                app.id
            );
            return Err(Stop::fail(Code::Internal, Side::Gateway, detail));
        };
        let makes = app.access.guests == Guests::Provision;
        let account = needs.account(user.claims(), user.groups(), makes).await?;
        Ok(MappedUser {
            user,
            account: Some(account),
        })
    }

    /// Whether the person may still go on as their account, for what is open: asked of the directory as rarely as for requests. Makes
    /// no account.
    ///
    /// # Errors
    /// As for [`Self::resolve`].
    pub async fn still_stands(&self, user: &AuthorizedUser, app: &Application) -> Result<(), Stop> {
        let needs = self.needs.as_ref().filter(|_| app.needs_account());
        let Some(needs) = needs else {
            return Ok(());
        };
        let account = needs.account(user.claims(), user.groups(), false);
        account.await.map(drop)
    }

    /// How long an account is believed to be as it was.
    #[must_use]
    pub fn believes(&self) -> Option<Duration> {
        self.needs.as_ref().map(|needs| needs.settings.cache)
    }

    /// The account of a person, as [`Self::resolve`] finds or makes it, without the evidence that a request may go on
    /// as it: for making accounts ahead of the first visit.
    ///
    /// # Errors
    /// As for [`Self::resolve`].
    pub async fn account(
        &self,
        claims: &Claims,
        groups: &[Uuid],
        makes: bool,
    ) -> Result<Option<Arc<Account>>, Stop> {
        match &self.needs {
            Some(needs) => needs.account(claims, groups, makes).await.map(Some),
            None => Ok(None),
        }
    }

    /// The account that [`Self::resolve`] would find, asked of the directory now. Writes nothing, makes nothing.
    ///
    /// # Errors
    /// What would stop the person, the fence included.
    pub async fn find(&self, claims: &Claims) -> Result<Option<Account>, Stop> {
        let Some(needs) = &self.needs else {
            return Ok(None);
        };
        let Some(found) = needs.look_up(claims).await? else {
            return Ok(None);
        };
        Ok(Some(needs.pass(&found, claims)?))
    }

    /// Forgets what is known of `person`: the next request asks the directory. Returns as whom they went on,
    /// so that their tickets can be forgotten too.
    pub fn forget(&self, person: PersonId) -> Option<Principal> {
        let needs = self.needs.as_ref()?;
        needs.denied.invalidate(&person);
        let known = needs.known.remove(&person)?;
        Some(known.account.principal.clone())
    }

    /// Forgets everybody: the next requests ask the directory.
    pub fn forget_all(&self) {
        if let Some(needs) = &self.needs {
            needs.known.invalidate_all();
            needs.denied.invalidate_all();
        }
    }

    /// Whether the schema knows the anchor attribute.
    ///
    /// # Errors
    /// The directory does not answer.
    pub async fn knows_anchor(&self) -> Result<bool, Stop> {
        let Some(needs) = &self.needs else {
            return Ok(false);
        };
        needs
            .knows_anchor()
            .await
            .map_err(|error| Refusal::from(error).into())
    }
}

impl Needs {
    async fn account(
        self: &Arc<Self>,
        claims: &Claims,
        groups: &[Uuid],
        makes: bool,
    ) -> Result<Arc<Account>, Stop> {
        let wanted = || groups::wanted(&self.settings, claims, groups);
        if let Some(known) = self.known.get(&claims.person)
            && known.groups.iter().copied().eq(wanted())
            && claims
                .onprem_sid
                .as_ref()
                .is_none_or(|sid| *sid == known.account.sid)
        {
            return Ok(Arc::clone(&known.account));
        }
        let walk = Walk {
            person: claims.person,
            sid: claims.onprem_sid.clone(),
            makes,
            groups: wanted().collect(),
        };
        if let Some((same, refusal)) = self.denied.get(&walk.person)
            && same == walk
        {
            return Err(refusal.into());
        }
        let (needs, claims, on_walk) = (Arc::clone(self), claims.clone(), walk.clone());
        let landing = self
            .flights
            .join(&walk, self.settings.patience, |progress| async move {
                let result = needs.walk(&claims, &on_walk, &progress).await;
                match &result {
                    Ok(known) => needs.known.insert(on_walk.person, Arc::clone(known)),
                    Err(refusal @ Refusal::Deny(_)) => {
                        let person = on_walk.person;
                        needs.denied.insert(person, (on_walk, refusal.clone()));
                    }
                    Err(Refusal::Fail(_)) => {}
                }
                result
            })
            .await;
        match landing {
            Landing::Done(result) => Ok(Arc::clone(&result?.account)),
            Landing::StillMaking => Err(Stop::Wait {
                again_in: COME_BACK,
            }),
        }
    }

    /// The rules, in their order.
    async fn walk(
        &self,
        claims: &Claims,
        walk: &Walk,
        progress: &Progress<Arc<Known>>,
    ) -> Result<Arc<Known>, Refusal> {
        let (found, fresh) = match self.look_up(claims).await? {
            Some(found) => (found, false),
            None => (self.adopt_or_make(claims, walk, progress).await?, true),
        };
        let account = self.pass(&found, claims)?;
        let changed = self.follow_groups(&found, claims, &walk.groups).await?;
        if let Some(delegator) = &self.delegator {
            if fresh && let Err(error) = delegator.prefer_kdc(found.server.as_str(), PREFER_KDC) {
                tracing::warn!(%error, "the KDC that knows a new account cannot be preferred");
            }
            // A ticket's list of groups is that of the day it was issued.
            if changed {
                delegator.purge(&account.principal).await;
            }
        }
        Ok(Arc::new(Known {
            account: Arc::new(account),
            groups: walk.groups.clone(),
        }))
    }

    async fn adopt_or_make(
        &self,
        claims: &Claims,
        walk: &Walk,
        progress: &Progress<Arc<Known>>,
    ) -> Result<Candidate, Refusal> {
        let person = claims.person;
        if !rules::may_have_shadow(claims) {
            let by = claims.onprem_sid.as_ref().map_or_else(
                || String::from("the token has no onprem_sid"),
                |sid| format!("nor one with the SID {sid}"),
            );
            let detail = format!("no account with {}, {by}", rules::anchor_value(person));
            return Err(Refusal::deny(Code::AccountMissing, detail));
        }
        if let Some(adopted) = self.adopt(claims).await? {
            return Ok(adopted);
        }
        if !walk.makes {
            let detail = format!("no account with {}", rules::anchor_value(person));
            return Err(Refusal::deny(Code::ProvisioningDenied, detail));
        }
        progress.making();
        self.make(claims).await
    }

    /// The fence, and what later rooms need to know of the account.
    fn pass(&self, found: &Candidate, claims: &Claims) -> Result<Account, Refusal> {
        let entry = &found.entry;
        fence::judge(entry, &self.settings.account_bases, self.clock.unix())?;
        let incomplete =
            |why: String| Refusal::deny(Code::AccountOutsideFence, format!("{}: {why}", entry.dn));
        let sam = entry.text("sAMAccountName").unwrap_or_default();
        self.own_name(sam, entry, claims)?;
        let principal =
            Principal::new(sam, &self.settings.realm).map_err(|bad| incomplete(bad.to_string()))?;
        let (Some(sid), Some(guid)) = (entry.sid("objectSid"), entry.guid("objectGUID")) else {
            return Err(incomplete(String::from(
                "objectSid or objectGUID cannot be read",
            )));
        };
        Ok(Account {
            principal,
            sid,
            guid,
            dn: entry.dn.to_string(),
            upn: entry.text("userPrincipalName").map(String::from),
            dc: found.server.to_string(),
        })
    }

    /// SECURITY: the anchor holds the `oid` alone. A shadow account of ours says by its name for which tenant it was
    /// made; the same `oid` from another allowed tenant is another person.
    fn own_name(
        &self,
        sam: &str,
        entry: &crate::ldap::Entry,
        claims: &Claims,
    ) -> Result<(), Refusal> {
        let prefix = &self.settings.sam_prefix;
        let sam = sam.to_ascii_lowercase();
        let ours = self
            .settings
            .guests_ou
            .as_ref()
            .is_some_and(|ou| entry.dn.is_under(ou))
            && sam.starts_with(prefix.as_str())
            && sam.len() == 20;
        if ours && sam != names::sam(prefix, claims.person) {
            let detail = format!(
                "{}: was made for another person than {}",
                entry.dn, claims.person
            );
            return Err(Refusal::deny(Code::AccountConflict, detail));
        }
        Ok(())
    }

    async fn knows_anchor(&self) -> Result<bool, crate::ldap::Error> {
        let session = self.directory.session().await?;
        let root = session.root().await?;
        let Some(schema) = root.text("schemaNamingContext") else {
            return Ok(false);
        };
        let name: Attribute = "lDAPDisplayName".parse()?;
        let search = crate::ldap::Search {
            base: schema.parse()?,
            scope: crate::ldap::Scope::OneLevel,
            filter: crate::ldap::Filter::equals(&name, self.settings.anchor.as_str()),
            attributes: vec![String::from("1.1")],
            limit: 1,
        };
        Ok(!session.search(&search).await?.entries.is_empty())
    }
}
