//! A plan carried out: step by step, each on the disk before and after, several at once on one domain controller.
//!
//! Each step looks at its account again before it writes, by the checks of `lifecycle`; what is not as it was planned is left to
//! the next run. A step that the directory refuses is reported, and the others go on; without a directory the run ends.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use uuid::Uuid;

use super::BY;
use super::Ends;
use super::Error;
use super::Sync;
use super::book::Book;
use super::members::batches;
use super::members::is_membership;
use super::step::Act;
use super::step::Edit;
use super::step::Step;
use super::step::Why;
use crate::ldap;
use crate::ldap::Entry;
use crate::ldap::ResultCode;
use crate::lifecycle;
use crate::lifecycle::Asked;
use crate::lifecycle::NewValue;
use crate::lifecycle::Order;
use crate::lifecycle::State;
use crate::mapping::rules;
use crate::mapping::shadow;
use crate::mapping::shadow::SHADOW_CONTROL;
use crate::mapping::shadow::Values;
use crate::model::names::PersonId;
use crate::store::records::AccountLink;
use crate::store::records::EndReason;
use crate::telemetry::metrics::metrics;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<S = Step> {
    /// Steps taken.
    pub done: usize,
    /// Steps that were not, with the reason.
    pub failed: Vec<(S, String)>,
}

impl<S> Outcome<S> {
    /// Nothing was done, and nothing was to be.
    pub(super) const fn is_nothing(&self) -> bool {
        self.done == 0 && self.failed.is_empty()
    }
}

impl<S> Default for Outcome<S> {
    fn default() -> Self {
        Self {
            done: 0,
            failed: Vec::new(),
        }
    }
}

/// Told of each step before it is taken: its number from 1, how many there are.
pub type Progress<'a, S = Step> = &'a (dyn Fn(usize, usize, &S) + Send + std::marker::Sync);

/// How long the second try waits, once a connection broke.
pub(super) const BREATH: Duration = Duration::from_secs(1);

/// Who wants a run, and of which approved plan.
#[derive(Clone, Debug)]
pub struct Run {
    /// Who.
    pub by: String,
    /// The approved plan's id.
    pub plan: Option<String>,
}

/// How many batches from the first on may be under way together: single steps of one kind, each of another person.
fn wave(batches: &[&[Step]]) -> usize {
    let mut people = HashSet::new();
    let mut kind = None;
    let alike = |batch: &&&[Step]| match batch {
        [step] if !is_membership(step) => {
            *kind.get_or_insert_with(|| step.act.rank()) == step.act.rank()
                && people.insert(step.oid)
        }
        _ => false,
    };
    batches.iter().take_while(alike).count().max(1)
}

impl Sync {
    /// Takes the steps, several at once where one does not depend on another. The caller holds the lock.
    pub(super) async fn take_all(
        &self,
        steps: &[Step],
        wanted: &Run,
        progress: Progress<'_>,
    ) -> Result<Outcome, Error> {
        let book = Book::begin(self, wanted, steps.len())?;
        let mut outcome = Outcome::default();
        let (all, mut first): (Vec<&[Step]>, _) = (batches(steps).collect(), 1);
        let mut left = all.as_slice();
        while !left.is_empty() {
            let (wave, later) = left.split_at(wave(left));
            let told = |number, step: &Step| progress(number, steps.len(), step);
            self.wave(&book, first, wave, &told, &mut outcome).await?;
            first += wave.iter().map(|batch| batch.len()).sum::<usize>();
            left = later;
        }
        book.end(&outcome)?;
        Ok(outcome)
    }

    /// Batches that may be under way together, the first step with the number `first`.
    async fn wave(
        &self,
        book: &Book,
        first: usize,
        batches: &[&[Step]],
        progress: &(dyn Fn(usize, &Step) + Send + std::marker::Sync),
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let stop = AtomicBool::new(false);
        let stop = &stop;
        let one = |batch: Vec<(usize, Step)>| async move {
            // What is under way is finished, nothing new is begun.
            if stop.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            for (number, step) in &batch {
                progress(*number, step);
            }
            let taken = self.batch(book, batch).await;
            let broken = |taken: &Vec<(Step, Result<(), Error>)>| {
                let mut all = taken.iter();
                all.any(|(_, taken)| taken.as_ref().is_err_and(is_connection))
            };
            stop.fetch_or(taken.as_ref().map_or(true, broken), Ordering::Relaxed);
            taken
        };
        let mut numbers = first..;
        let numbered: Vec<Vec<(usize, Step)>> = batches
            .iter()
            .map(|batch| numbers.by_ref().zip(batch.iter().cloned()).collect())
            .collect();
        let mut under_way =
            stream::iter(numbered.into_iter().map(one)).buffer_unordered(self.at_once);
        let mut lost = None;
        while let Some(done) = under_way.next().await {
            let taken = match done {
                Ok(taken) => taken,
                Err(error) => {
                    lost = Some(error);
                    continue;
                }
            };
            for (step, taken) in taken {
                match taken {
                    Ok(()) => {
                        outcome.done += 1;
                        metrics().sync_taken("guests", step.act.as_str());
                    }
                    Err(error) if is_connection(&error) => lost = lost.or(Some(error)),
                    Err(error) => outcome.failed.push((step, error.to_string())),
                }
            }
        }
        lost.map_or(Ok(()), Err)
    }

    /// One batch, in the journal before and after. The outer error is the journal's.
    async fn batch(
        &self,
        book: &Book,
        batch: Vec<(usize, Step)>,
    ) -> Result<Vec<(Step, Result<(), Error>)>, Error> {
        for (number, step) in &batch {
            book.before(*number, step)?;
        }
        let steps: Vec<(usize, &Step)> = batch.iter().map(|(n, step)| (*n, step)).collect();
        let taken = self.take_patiently(&steps).await;
        for ((number, _), taken) in batch.iter().zip(&taken) {
            book.after(*number, taken)?;
        }
        let steps = batch.into_iter().map(|(_, step)| step);
        Ok(steps.zip(taken).collect())
    }

    /// One step, or several about one group; what came of each. A second time, if the connection broke.
    async fn take_patiently(&self, batch: &[(usize, &Step)]) -> Vec<Result<(), Error>> {
        let [(_, step)] = batch else {
            let steps: Vec<&Step> = batch.iter().map(|(_, step)| *step).collect();
            return self.members_patiently(&steps).await;
        };
        if is_membership(step) {
            return self.members_patiently(&[step]).await;
        }
        let mut taken = self.take(step).await;
        if taken.as_ref().is_err_and(is_connection) {
            tokio::time::sleep(BREATH).await;
            taken = self.take(step).await.or_else(|error| gone(step, error));
        }
        vec![taken]
    }

    async fn take(&self, step: &Step) -> Result<(), Error> {
        let asked = Asked::Anchor(step.oid);
        let order = order(step);
        if let Act::MakeGroup { group, anchor } = &step.act {
            return self.make_group(group, anchor).await;
        }
        if let Act::Create { values } = &step.act {
            return self.create(step, values).await;
        }
        if let Act::Adopt {
            shape,
            evidence,
            dn,
        } = &step.act
        {
            return self.take_over(step, *shape, evidence, dn).await;
        }
        let now = self.lifecycle.find(&asked).await?;
        if now.sam != step.sam {
            return Err(meanwhile(format!("the account is {} now", now.sam)));
        }
        match &step.act {
            Act::Create { .. }
            | Act::Adopt { .. }
            | Act::MakeGroup { .. }
            | Act::Join { .. }
            | Act::Leave { .. } => {}
            Act::Disable => drop(self.lifecycle.disable(&asked, &order).await?),
            Act::Restore => {
                // An administrator may have said otherwise since the plan was made.
                let ours = now.disabled.as_ref().is_some_and(|mark| mark.by == BY);
                if now.state == State::Disabled && !ours {
                    return Err(meanwhile(String::from("somebody else has disabled it")));
                }
                drop(self.lifecycle.restore(&asked, &order).await?);
            }
            Act::Move { .. } => self.lifecycle.settle(&asked, &order).await?,
            Act::Update { changes } => {
                let values = edits(changes)?;
                self.lifecycle.write_values(&asked, &values, &order).await?;
            }
            Act::Delete => {
                let mark = now.disabled.filter(|mark| mark.by == BY);
                if mark.is_none() || step.why != Why::RestOver {
                    return Err(meanwhile(String::from("it does not rest by our word")));
                }
                self.lifecycle.delete(&asked, &order).await?;
            }
        }
        if step.act.removes() {
            self.end_sign_ins(step.oid).await?;
        }
        Ok(())
    }

    /// What `lifecycle` does by itself where this process has no sign-ins in memory.
    async fn end_sign_ins(&self, oid: Uuid) -> Result<(), Error> {
        let (Some(Ends(ends)), Some(store)) = (&self.tools.ends, &self.tools.store) else {
            return Ok(());
        };
        let person = PersonId {
            tid: self.tenant,
            oid,
        };
        ends(person).await;
        store.forget_account_link(person).await?;
        Ok(())
    }

    /// One LDAP add. "Already exists" is no failure if what exists is this person's: a sign-in may have made it meanwhile, or a run
    /// that was cut off.
    async fn create(&self, step: &Step, values: &Values) -> Result<(), Error> {
        let mapping = &self.rules.mapping;
        let person = PersonId {
            tid: self.tenant,
            oid: step.oid,
        };
        let Some(ou) = &mapping.guests_ou else {
            return Err(Error::Setup(String::from(
                "mapping.guests_ou is not configured",
            )));
        };
        let dn = ou.child("CN", &step.sam);
        let session = self.tools.directory.session().await?;
        let attributes = shadow::attributes(mapping, person, &step.sam, values)?;
        let made = match session.add(&dn, attributes).await {
            Ok(()) => true,
            Err(error) if error.code() == Some(ResultCode::EXISTS) => false,
            Err(error) => return Err(error.into()),
        };
        let wanted = [
            mapping.anchor.as_str(),
            "objectSid",
            "objectGUID",
            "sAMAccountName",
            "userAccountControl",
        ];
        let Some(entry) = session.read(&dn, &wanted).await? else {
            let why = format!("another object holds the sAMAccountName {}", step.sam);
            return Err(meanwhile(why));
        };
        // SECURITY: an object of that name without the anchor is somebody else's, however it came there.
        let anchored = entry
            .texts(mapping.anchor.as_str())
            .any(|value| rules::is_anchor_of(value, person));
        let control = entry.number("userAccountControl").unwrap_or_default();
        if !anchored || control & SHADOW_CONTROL != SHADOW_CONTROL {
            let why = "has the shadow account's name, but is none of this person";
            return Err(lifecycle::Error::Refused {
                dn: dn.to_string(),
                why: String::from(why),
            }
            .into());
        }
        if made {
            tracing::info!(
                target: "audit",
                event = "account-made",
                person = %person,
                sam = step.sam,
                dn = %dn,
                dc = %session.server(),
                by = BY,
                via = "sync",
            );
        }
        self.remember(person, &entry, session.server().as_str())
            .await;
        Ok(())
    }

    /// Where the account is, for gateways that ask another controller, until it has replicated.
    pub(super) async fn remember(&self, person: PersonId, entry: &Entry, dc: &str) {
        let (Some(store), Some(sid), Some(guid)) = (
            &self.tools.store,
            entry.sid("objectSid"),
            entry.guid("objectGUID"),
        ) else {
            return;
        };
        let link = AccountLink {
            person,
            sid,
            guid,
            dn: entry.dn.to_string(),
            dc: dc.to_owned(),
            created: self.tools.clock.unix(),
        };
        if let Err(error) = store.save_account_link(&link).await {
            tracing::warn!(person = %person, %error, "the link to a new account cannot be kept");
        }
    }
}

pub(super) fn order(step: &Step) -> Order {
    Order {
        by: BY.to_owned(),
        why: step.why.as_str().to_owned(),
        via: "sync",
        ends: EndReason::PersonDisabled,
    }
}

fn edits(changes: &[Edit]) -> Result<Vec<NewValue>, ldap::Error> {
    let edit = |edit: &Edit| Ok((edit.attribute.as_str().parse()?, edit.to.clone()));
    changes.iter().map(edit).collect()
}

/// At the second try: a delete whose answer was lost may well have happened.
fn gone(step: &Step, error: Error) -> Result<(), Error> {
    match (&step.act, error) {
        (Act::Delete, Error::Lifecycle(lifecycle::Error::NotFound { .. })) => Ok(()),
        (_, error) => Err(error),
    }
}

pub(super) fn meanwhile(why: String) -> Error {
    Error::Meanwhile(why)
}

pub(super) fn is_connection(error: &Error) -> bool {
    match error {
        Error::Directory(error) | Error::Lifecycle(lifecycle::Error::Directory(error)) => {
            error.is_connection()
        }
        Error::Lifecycle(
            lifecycle::Error::NotFound { .. }
            | lifecycle::Error::Ambiguous { .. }
            | lifecycle::Error::Refused { .. }
            | lifecycle::Error::Setup(_)
            | lifecycle::Error::Store(_),
        )
        | Error::Graph(_)
        | Error::Store(_)
        | Error::Partial { .. }
        | Error::BadPlan { .. }
        | Error::OtherTenant { .. }
        | Error::Changed(_)
        | Error::Brake { .. }
        | Error::Busy(_)
        | Error::Meanwhile(_)
        | Error::Setup(_)
        | Error::Folder(_) => false,
    }
}
