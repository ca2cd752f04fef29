//! What changes while the emulator runs: people, keys, grants, and what the control API set.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::entra::faults::Faults;
use crate::entra::graph_sync::Sync;
use crate::entra::keys::KeyRing;
use crate::entra::scope::Scope;
use crate::entra::subscriptions::Subscription;
use crate::entra::tokens::Seal;
use crate::people::{self, Person};

/// A person with what only the cloud side knows.
#[derive(Clone)]
pub struct Account {
    pub person: Person,
    pub onprem_sid: Option<String>,
    /// Merged over the claims of every token; null removes.
    pub claims: Map<String, Value>,
    /// Tokens of grants made before this are revoked.
    pub tokens_valid_from: Option<Instant>,
    /// Properties that Graph has been told, over those that follow from the person.
    pub written: Map<String, Value>,
}

/// The application's registration: may change at run time, as an administrator's would.
pub struct Registration {
    pub redirect_uris: Vec<String>,
    pub logout_uris: Vec<String>,
    pub post_logout_uris: Vec<String>,
    pub assignment_required: bool,
    pub pkce_required: bool,
    /// Entra leaves an old refresh token valid; strict clients want to be tested without.
    pub refresh_single_use: bool,
    pub code_lifetime: Duration,
    pub refresh_lifetime: Duration,
    pub id_token_seconds: i64,
    /// None: between 60 and 90 minutes, at random, as Entra does.
    pub access_token_seconds: Option<i64>,
    /// Application permissions on Graph.
    pub graph_roles: Vec<String>,
}

/// A browser's sign-in at Entra itself.
#[derive(Clone)]
pub struct SsoSession {
    pub oid: String,
    pub sid: String,
    pub begun: Instant,
}

/// What a code or refresh token stands for.
#[derive(Clone)]
pub struct Grant {
    pub oid: String,
    pub sid: String,
    pub scope: Scope,
    pub nonce: Option<String>,
    pub redirect_uri: String,
    pub challenge: Option<String>,
    pub made: Instant,
    pub signed_in: Instant,
    pub used: bool,
}

/// What a Graph token admits to.
#[derive(Clone)]
pub struct GraphGrant {
    /// None: the application itself.
    pub oid: Option<String>,
    pub roles: Vec<String>,
    pub ends: Instant,
}

/// How the next ID tokens are to differ.
pub struct NextIdToken {
    /// Only for this person.
    pub login: Option<String>,
    /// For so many tokens.
    pub count: u32,
    pub seal: Seal,
}

/// All that changes.
pub struct World {
    pub accounts: Vec<Account>,
    /// Deleted in the cloud and restorable.
    pub deleted: Vec<Account>,
    /// Sent through Graph, the oldest first.
    pub invitations: Vec<Value>,
    /// Who wants to be told of changes.
    pub subscriptions: Vec<Subscription>,
    /// What Graph remembers between the pages of a delta.
    pub sync: Sync,
    pub keys: KeyRing,
    pub registration: Registration,
    pub sessions: HashMap<String, SsoSession>,
    pub codes: HashMap<String, Grant>,
    pub refresh_tokens: HashMap<String, Grant>,
    pub graph_tokens: HashMap<String, GraphGrant>,
    pub next_id_tokens: Vec<NextIdToken>,
    pub faults: Faults,
    pub counters: BTreeMap<&'static str, u64>,
    /// Added to the clock for the times in tokens.
    pub clock_offset: i64,
}

impl World {
    pub fn new(keys: KeyRing, sids: &BTreeMap<String, String>) -> Self {
        let everybody = people::everybody().into_iter();
        let (deleted, accounts) = everybody
            .map(Account::from)
            .partition(|account| account.person.deleted);
        let mut world = Self {
            accounts,
            deleted,
            invitations: Vec::new(),
            subscriptions: Vec::new(),
            sync: Sync::default(),
            keys,
            registration: Registration {
                redirect_uris: Vec::new(),
                logout_uris: Vec::new(),
                post_logout_uris: Vec::new(),
                assignment_required: false,
                pkce_required: true,
                refresh_single_use: false,
                code_lifetime: Duration::from_secs(600),
                refresh_lifetime: Duration::from_secs(90 * 86400),
                id_token_seconds: 3600,
                access_token_seconds: None,
                graph_roles: [
                    "User.Read.All",
                    "GroupMember.Read.All",
                    "Group.Read.All",
                    "Application.Read.All",
                    "User.Invite.All",
                    "User.ReadWrite.All",
                    "GroupMember.ReadWrite.All",
                    "AppRoleAssignment.ReadWrite.All",
                ]
                .map(str::to_owned)
                .into(),
            },
            sessions: HashMap::new(),
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            graph_tokens: HashMap::new(),
            next_id_tokens: Vec::new(),
            faults: Faults::default(),
            counters: BTreeMap::new(),
            clock_offset: 0,
        };
        world.set_sids(sids);
        world
    }

    /// The first `count` of an endless row of guests, and nobody else, told of on pages as large as Graph's.
    pub fn add_crowd(&mut self, count: u32) {
        let Some(one) = self.account("jane@fabrikam.example").cloned() else {
            return;
        };
        if count > 0 {
            self.accounts.clear();
            self.deleted.clear();
        }
        for number in 0..count {
            let mut account = one.clone();
            let oid = uuid::Uuid::from_u128(
                0xc0de_0000_0000_4000_8000_0000_0000_0000 + u128::from(number),
            );
            account.person.oid = oid.to_string();
            account.person.login = format!("crowd{number}@fabrikam.example");
            account.person.mail.clone_from(&account.person.login);
            account.person.name = format!("Crowd Guest {number}");
            self.accounts.push(account);
        }
        if count > 0 {
            self.sync.orders.page_size = 999;
        }
    }

    pub fn set_sids(&mut self, sids: &BTreeMap<String, String>) {
        for account in &mut self.accounts {
            if let Some(sid) = sids.get(&account.person.login) {
                account.onprem_sid = Some(sid.clone());
            }
        }
    }

    /// By login, address, user principal name or object id.
    pub fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.is(name))
    }

    pub fn account_mut(&mut self, name: &str) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.is(name))
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    /// Seconds since 1970 for the times in tokens.
    pub fn token_time(&self) -> i64 {
        time::OffsetDateTime::now_utc().unix_timestamp() + self.clock_offset
    }

    /// The override for this person's next ID token, used up by asking.
    pub fn take_next_id_token(&mut self, login: &str) -> Option<Seal> {
        let for_them = |next: &NextIdToken| next.login.as_deref().is_none_or(|only| only == login);
        let position = self.next_id_tokens.iter().position(for_them)?;
        let next = &mut self.next_id_tokens[position];
        let seal = next.seal.clone();
        next.count = next.count.saturating_sub(1);
        if next.count == 0 {
            self.next_id_tokens.remove(position);
        }
        Some(seal)
    }
}

impl Account {
    pub fn is(&self, name: &str) -> bool {
        let person = &self.person;
        [&person.login, &person.oid, &person.mail]
            .into_iter()
            .any(|own| own.eq_ignore_ascii_case(name))
            || person.upn().eq_ignore_ascii_case(name)
    }

    /// Whether a grant of that moment has been revoked.
    pub fn revoked(&self, made: Instant) -> bool {
        self.tokens_valid_from.is_some_and(|from| made <= from)
    }
}

impl From<Person> for Account {
    fn from(person: Person) -> Self {
        Self {
            person,
            onprem_sid: None,
            claims: Map::new(),
            tokens_valid_from: None,
            written: Map::new(),
        }
    }
}
