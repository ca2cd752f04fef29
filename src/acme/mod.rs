//! Certificates by ACME (RFC 8555), the same on every replica.
//!
//! In: [`Settings`] (which authority, which hosts) and the store. Out: certificates for the listener, answers to the
//! authority's challenges, and what is known about each host.
//!
//! | File | What it is |
//! |---|---|
//! | `book.rs` | what the store holds, opened and parsed |
//! | `round.rs` | one round of orders, under the lease |
//! | `order.rs` | one order, from wherever it stands to a certificate |
//! | `authority.rs` | HTTP towards the authority, and what its refusals mean |
//! | `times.rs` | when to renew, when to try again |
//!
//! # Why
//! Everything is in the store: whoever has the lease can go on with an order that somebody else began, every replica
//! can answer every challenge, and a process that is killed loses nothing. Whoever does not order looks for news once
//! a second. Each host has a certificate of its own, so that one which cannot be had holds back no other.

mod authority;
mod book;
mod order;
mod round;
mod times;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::acme::authority::Http;
use crate::acme::book::Book;
use crate::authn::seal::Keyring;
use crate::config::acme::Challenge;
use crate::config::acme::ExternalAccount;
use crate::listener::ordered::Ordered;
use crate::listener::tls::Certificates;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::store::Store;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The authority's directory.
    pub directory: String,
    /// Whom the authority may write to.
    pub contact: Vec<String>,
    /// How a host is proved to be ours.
    pub challenge: Challenge,
    /// An account that the authority knows from elsewhere.
    pub external_account: Option<ExternalAccount>,
    /// Further root certificates for the directory itself.
    pub ca_file: Option<PathBuf>,
    /// Addresses of hosts that DNS need not know.
    pub addresses: BTreeMap<String, IpAddr>,
    /// The hosts that want a certificate.
    pub hosts: Vec<HostName>,
}

/// What is needed besides.
#[derive(Clone)]
pub struct Tools {
    /// Shared with the other replicas.
    pub store: Arc<dyn Store>,
    /// Seals what is kept.
    pub keyring: Arc<Keyring>,
    /// The listener's.
    pub certificates: Arc<Certificates>,
    /// Now.
    pub clock: Clock,
}

/// What is known about one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The host.
    pub host: HostName,
    /// When its certificate ends, in seconds since 1970; absent = it has none.
    pub end: Option<i64>,
    /// Why the last try brought none.
    pub trouble: Option<Trouble>,
}

/// Why there is no certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Trouble {
    /// Tries in a row that failed.
    pub failures: u32,
    /// When it is tried again, in seconds since 1970.
    pub until: i64,
    /// What the authority said, or what kept us from asking.
    pub problem: String,
    /// The settings that failed; others are tried at once.
    settings: String,
}

/// Keeps certificates for the hosts of its settings.
pub struct Keeper {
    settings: Settings,
    tools: Tools,
    http: Http,
    book: Mutex<Book>,
    known: ArcSwap<Known>,
}

/// What is read without waiting.
#[derive(Debug, Default)]
struct Known {
    /// By token: the host it is for, and the answer.
    answers: BTreeMap<String, (String, String)>,
    standing: Vec<Standing>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("directory", &self.settings.directory)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// A keeper that has not looked into the store yet.
    ///
    /// # Errors
    /// The CA file is unusable.
    pub fn new(settings: Settings, tools: Tools) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(settings.ca_file.as_deref(), &settings.addresses)?,
            settings,
            tools,
            book: Mutex::default(),
            known: ArcSwap::default(),
        })
    }

    /// Looks for news and orders what is due, for ever.
    pub async fn keep(self: Arc<Self>) {
        loop {
            self.catch_up(Instant::now()).await;
            let aged = !self.book.lock().await.aged.is_empty();
            if aged || !self.due().await.is_empty() {
                self.round().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What it was made for.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Shows nothing from now on: another keeper takes over.
    pub async fn retire(&self) {
        self.book.lock().await.retired = true;
    }

    /// Shows what is known now, whatever another keeper showed before.
    pub async fn take_over(&self) {
        self.catch_up(Instant::now()).await;
        self.show(&*self.book.lock().await);
    }

    /// The answer to an HTTP-01 challenge that `host` was asked for.
    ///
    /// Whoever ordered may be another replica: an unknown token is looked for in the store, once for all who ask in the
    /// same moment.
    pub async fn answer(&self, host: &str, token: &str) -> Option<String> {
        let arrived = Instant::now();
        let known = |known: &Known| {
            let (of, answer) = known.answers.get(token)?;
            (of == host).then(|| answer.clone())
        };
        if let Some(answer) = known(&self.known.load()) {
            return Some(answer);
        }
        self.catch_up(arrived).await;
        known(&self.known.load())
    }

    /// True when `host` is one of those that want a certificate.
    #[must_use]
    pub fn wants(&self, host: &str) -> bool {
        self.settings.hosts.iter().any(|one| one.as_str() == host)
    }

    /// What is known about each host.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        self.known.load().standing.clone()
    }

    /// Reads what was written since the last look, unless somebody has looked after `since`.
    async fn catch_up(&self, since: Instant) {
        let mut book = self.book.lock().await;
        if book.looked.is_some_and(|looked| looked >= since) {
            return;
        }
        let begun = Instant::now();
        match self.tools.store.acme_since(book.revision).await {
            Ok(records) => {
                let news = !records.is_empty() || book.looked.is_none();
                book.read(&records, &self.settings, &self.tools.keyring);
                book.looked = Some(begun);
                book.silent = false;
                if news {
                    self.show(&book);
                }
            }
            Err(error) => {
                if !book.silent {
                    tracing::warn!(%error, "ACME's state cannot be read; what is known goes on");
                }
                book.silent = true;
            }
        }
    }

    /// Puts what the book says where handshakes and requests find it.
    fn show(&self, book: &Book) {
        if book.retired {
            return;
        }
        let mut ordered = Ordered::default();
        let mut known = Known::default();
        for host in &self.settings.hosts {
            let held = book.certificates.get(host.as_str());
            if let Some(held) = held {
                let certified = Arc::clone(&held.issued.certified);
                ordered
                    .certificates
                    .insert(host.as_str().to_owned(), certified);
            }
            known.standing.push(Standing {
                host: host.clone(),
                end: held.map(|held| held.issued.end),
                trouble: book.troubles.get(host.as_str()).cloned(),
            });
        }
        for (host, open) in &book.orders {
            if !self.wants(host) {
                continue;
            }
            if let Some(proof) = &open.proof {
                ordered.proofs.insert(host.clone(), Arc::clone(proof));
            }
            if self.settings.challenge == Challenge::Http01
                && let Some(answer) = &open.kept.answer
            {
                let answered = (host.clone(), answer.authorization.clone());
                known.answers.insert(answer.token.clone(), answered);
            }
        }
        self.tools.certificates.set_ordered(ordered);
        self.known.store(Arc::new(known));
    }

    /// The hosts for which something is to be done now.
    async fn due(&self) -> Vec<HostName> {
        let now = self.tools.clock.unix();
        let book = self.book.lock().await;
        let waits = |name: &str| book.troubles.get(name).is_some_and(|one| one.until > now);
        if waits(&self.settings.directory) {
            return Vec::new();
        }
        let due = |host: &&HostName| {
            let host = host.as_str();
            let held = book.certificates.get(host);
            let fresh = held.is_some_and(|held| {
                held.renew_at > now && held.kept.directory == self.settings.directory
            });
            !waits(host) && (!fresh || book.orders.contains_key(host))
        };
        self.settings.hosts.iter().filter(due).cloned().collect()
    }
}

/// How often a replica looks for what another one has written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
