//! One round of orders, by whoever has the lease.
//!
//! In: hosts that are due. Out: records in the store, each written only while the lease is ours: a process that slept
//! through the end of its lease writes nothing over its successor's work.

use std::time::Duration;
use std::time::Instant;

use instant_acme::Account;
use instant_acme::AccountCredentials;
use instant_acme::ExternalAccountKey;
use instant_acme::NewAccount;
use uuid::Uuid;

use crate::acme::Keeper;
use crate::acme::Settings;
use crate::acme::Trouble;
use crate::acme::authority::Failure;
use crate::acme::book;
use crate::acme::book::KeptAccount;
use crate::acme::times::Failed;
use crate::acme::times::pause;
use crate::model::names::HostName;
use crate::model::secret::Secret;
use crate::store::records::AcmeKind;
use crate::store::records::AcmeRecord;
use crate::store::records::Lease;

/// How long a replica that died keeps the others from ordering.
const LEASE: Duration = Duration::from_secs(30);
const PROLONG_EVERY: Duration = Duration::from_secs(8);
/// After "too often" for one host, no other one is asked for during so long.
const QUIET: i64 = 60;

/// The right to order.
pub(super) struct Round<'a> {
    pub(super) keeper: &'a Keeper,
    lease: Lease,
}

/// Why an order went no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// Another replica has the lease.
    Lost,
    /// There is a reason to report.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Settings {
    /// Tells one set of settings from another.
    pub(super) fn print(&self) -> String {
        let kid = self.external_account.as_ref().map(|known| &known.kid);
        format!("{} {:?} {:?}", self.directory, self.challenge, kid)
    }
}

impl Keeper {
    /// Orders what is due, if no other replica does.
    pub(super) async fn round(&self) {
        let now = self.tools.clock.unix();
        let lease = Lease {
            name: String::from("acme"),
            holder: Uuid::new_v4().to_string(),
            until: self.tools.clock.unix_after(LEASE),
        };
        match self.tools.store.take_lease(&lease, now).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "no certificates can be ordered: the store gives no lease");
                return;
            }
        }
        let round = Round {
            keeper: self,
            lease,
        };
        tokio::select! {
            () = round.work() => {}
            () = round.hold() => {
                tracing::warn!("the lease is no longer ours: another replica orders certificates");
                return;
            }
        }
        let Lease { name, holder, .. } = &round.lease;
        // If it stays, it ends by itself.
        drop(self.tools.store.give_lease_back(name, holder).await);
    }
}

impl Round<'_> {
    /// Prolongs the lease; ends when it is lost.
    async fn hold(&self) {
        loop {
            tokio::time::sleep(PROLONG_EVERY).await;
            let clock = self.keeper.tools.clock;
            let lease = Lease {
                until: clock.unix_after(LEASE),
                ..self.lease.clone()
            };
            let store = &self.keeper.tools.store;
            let held = store.prolong_lease(&lease, clock.unix());
            if matches!(held.await, Ok(false)) {
                return;
            }
        }
    }

    /// Writes all of it, if the lease is still ours, and shows it here.
    pub(super) async fn put(&self, records: &[AcmeRecord]) -> Result<(), Stop> {
        let tools = &self.keeper.tools;
        let put = tools
            .store
            .put_acme(records, &self.lease, tools.clock.unix());
        match put.await {
            Ok(true) => {
                self.keeper.catch_up(Instant::now()).await;
                Ok(())
            }
            Ok(false) => {
                tracing::warn!("the lease is no longer ours: nothing was written");
                Err(Stop::Lost)
            }
            Err(error) => Err(Failure::later(error.to_string()).into()),
        }
    }

    /// A record to be written.
    pub(super) fn sealed<T: serde::Serialize>(
        &self,
        kind: AcmeKind,
        name: &str,
        content: &T,
    ) -> Result<AcmeRecord, Stop> {
        book::sealed(kind, name, content, &self.keeper.tools.keyring)
            .map_err(|problem| Failure::later(problem).into())
    }

    async fn work(&self) {
        // What the replica before us did last must be known before anything is ordered.
        let keeper = self.keeper;
        keeper.catch_up(Instant::now()).await;
        let aged = keeper.book.lock().await.renewed(&keeper.tools.keyring);
        if !aged.is_empty() && matches!(self.put(&aged).await, Err(Stop::Lost)) {
            return;
        }
        let due = keeper.due().await;
        if due.is_empty() {
            return;
        }
        let account = match self.account().await {
            Ok(account) => account,
            Err(Stop::Lost) => return,
            Err(Stop::Failed(failure)) => {
                let directory = &keeper.settings.directory;
                tracing::warn!(directory, problem = failure.problem, "no ACME account");
                drop(self.trouble(directory, &failure, None).await);
                return;
            }
        };
        for host in due {
            tracing::info!(%host, directory = keeper.settings.directory, "ordering a certificate");
            match self.order(&account, host.as_str()).await {
                Ok(()) => {}
                Err(Stop::Lost) => return,
                Err(Stop::Failed(failure)) => {
                    if self.failed(&host, &failure).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reports and keeps a failure; an error when the round ends with it.
    async fn failed(&self, host: &HostName, failure: &Failure) -> Result<(), Stop> {
        let order = gone_if(host, failure);
        self.trouble(host.as_str(), failure, order).await?;
        let directory = &self.keeper.settings.directory;
        if failure.is_about_the_account() {
            self.put(&[book::gone(AcmeKind::Account, directory)])
                .await?;
            return Err(Stop::Lost);
        }
        match failure.failed {
            Failed::Refused => Ok(()),
            Failed::Unreachable => Err(Stop::Failed(failure.clone())),
            Failed::TooOften => {
                let now = self.keeper.tools.clock.unix();
                let quiet = Trouble {
                    failures: 0,
                    until: now.saturating_add(QUIET),
                    problem: failure.problem.clone(),
                    settings: self.keeper.settings.print(),
                };
                let quiet = self.sealed(AcmeKind::Trouble, directory, &quiet)?;
                self.put(&[quiet]).await?;
                Err(Stop::Failed(failure.clone()))
            }
        }
    }

    async fn trouble(
        &self,
        name: &str,
        failure: &Failure,
        order: Option<AcmeRecord>,
    ) -> Result<(), Stop> {
        let keeper = self.keeper;
        let (before, end) = {
            let book = keeper.book.lock().await;
            let held = book.certificates.get(name);
            let before = book.troubles.get(name).map_or(0, |one| one.failures);
            (before, held.map(|held| held.issued.end))
        };
        let [dice, ..] = *Uuid::new_v4().as_bytes();
        let failures = before.saturating_add(1);
        let wait = pause(failure.failed, failures, failure.retry_after, dice);
        let now = keeper.tools.clock.unix();
        let trouble = Trouble {
            failures,
            until: now.saturating_add(wait),
            problem: failure.problem.clone(),
            settings: keeper.settings.print(),
        };
        let mut records = vec![self.sealed(AcmeKind::Trouble, name, &trouble)?];
        records.extend(order);
        let problem = &failure.problem;
        let seconds_left = end.map(|end| end.saturating_sub(now));
        tracing::warn!(
            name,
            problem,
            failures,
            again_in = wait,
            old_one_ends_in = seconds_left,
            "no certificate by ACME"
        );
        self.put(&records).await
    }

    /// The account at the directory, made on the first need.
    async fn account(&self) -> Result<Account, Stop> {
        let keeper = self.keeper;
        let failed = |error: &instant_acme::Error| Stop::Failed(keeper.http.failure(error));
        let kept = keeper.book.lock().await.account.clone();
        let Some(kept) = kept else {
            return self.new_account().await;
        };
        let credentials: AccountCredentials = serde_json::from_str(kept.credentials.expose())
            .map_err(|_| Failure::refused(String::from("the kept account cannot be read")))?;
        let builder = Account::builder_with_http(Box::new(keeper.http.clone()));
        let account = builder.from_credentials(credentials).await;
        let account = account.map_err(|error| failed(&error))?;
        let wanted = &keeper.settings.contact;
        if kept.contact != *wanted {
            let contact: Vec<&str> = wanted.iter().map(String::as_str).collect();
            let told = account.update_contacts(&contact).await;
            told.map_err(|error| failed(&error))?;
            let kept = KeptAccount {
                contact: wanted.clone(),
                ..kept
            };
            self.put_account(&kept).await?;
        }
        Ok(account)
    }

    async fn new_account(&self) -> Result<Account, Stop> {
        let settings = &self.keeper.settings;
        let failed = |error: &instant_acme::Error| Stop::Failed(self.keeper.http.failure(error));
        let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            // The configuration says so, or it would not have been taken.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let known = settings.external_account.as_ref();
        let known =
            known.map(|known| ExternalAccountKey::new(known.kid.clone(), known.key.expose()));
        let builder = Account::builder_with_http(Box::new(self.keeper.http.clone()));
        let made = builder
            .create(&wanted, settings.directory.clone(), known.as_ref())
            .await;
        let (account, credentials) = made.map_err(|error| failed(&error))?;
        let credentials = serde_json::to_string(&credentials)
            .map_err(|_| Failure::refused(String::from("the account cannot be kept")))?;
        let kept = KeptAccount {
            credentials: Secret::new(credentials),
            contact: settings.contact.clone(),
        };
        self.put_account(&kept).await?;
        tracing::info!(directory = settings.directory, "an ACME account was made");
        Ok(account)
    }

    async fn put_account(&self, kept: &KeptAccount) -> Result<(), Stop> {
        let directory = &self.keeper.settings.directory;
        let account = self.sealed(AcmeKind::Account, directory, kept)?;
        let trouble = book::gone(AcmeKind::Trouble, directory);
        self.put(&[account, trouble]).await
    }
}

/// An order that was refused is not gone on with; one that only takes long is.
fn gone_if(host: &HostName, failure: &Failure) -> Option<AcmeRecord> {
    let over = failure.failed == Failed::Refused || failure.is_about_the_account();
    over.then(|| book::gone(AcmeKind::Order, host.as_str()))
}
