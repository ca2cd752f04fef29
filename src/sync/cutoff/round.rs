//! One round after the other: whoever is free takes the lease, goes on from the mark, and gives it back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Error;
use super::Watch;
use super::look::Live;
use super::look::MANY;
use super::look::Wrong;
use super::mark::Mark;
use crate::model::names::PersonId;
use crate::store::records::EndReason;
use crate::store::records::Lease;
use crate::telemetry::metrics::metrics;

impl Watch {
    /// Rounds, for ever. Never returns.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let pause = self.turn().await;
            // However many hints come.
            let least = pause.min(SHORTEST);
            tokio::time::sleep(least).await;
            let pause = pause.saturating_sub(least);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.hints.come() => {}
            }
        }
    }

    /// A round, if it is time for one; how long to wait then.
    async fn turn(&self) -> Duration {
        let every = self.settings.every();
        let mark = match self.tools.store.mark(NAME).await {
            Ok(text) => Mark::read(text.as_deref()),
            Err(error) => return self.failed(&error.into(), every),
        };
        let now = self.tools.clock.unix();
        self.locked().done = mark.done;
        self.learn(&mark);
        let age = mark.done.map(|done| now.saturating_sub(done));
        let age = age.and_then(|age| u64::try_from(age).ok());
        let left = age.map_or(Duration::ZERO, |age| {
            every.saturating_sub(Duration::from_secs(age))
        });
        if !left.is_zero() && !self.hints.is_waiting() {
            // Another replica asks as often: nobody needs to be told twice.
            return left;
        }
        let lease = self.lease();
        match self.tools.store.take_lease(&lease, now).await {
            Ok(true) => {}
            // What the other one is just asking may be older than the hint: so it is not taken yet.
            Ok(false) if self.hints.is_waiting() => return BUSY,
            Ok(false) => return every.max(SHORTEST),
            Err(error) => return self.failed(&error.into(), every),
        }
        // What changes from here on is hinted at again.
        let hinted = self.hints.take();
        let done = tokio::select! {
            done = tokio::time::timeout(self.settings.within, self.round()) => {
                done.unwrap_or(Err(Error::Late(self.settings.within)))
            }
            () = self.lost() => Err(Error::Lost),
        };
        drop(self.tools.store.give_lease_back(NAME, &lease.holder).await);
        match done {
            Ok(at) => {
                let mut standing = self.locked();
                standing.done = Some(at);
                standing.trouble = None;
                drop(standing);
                metrics().cutoff_round("done");
                every.max(SHORTEST)
            }
            Err(error) if hinted => {
                // What was told is not known yet, nor whether it was about groups.
                self.hints.keep();
                self.failed(&error, every.min(AGAIN))
            }
            Err(error) => self.failed(&error, every),
        }
    }

    /// Says what is in the way; nobody's sessions end for it.
    fn failed(&self, error: &Error, every: Duration) -> Duration {
        let why = error.to_string();
        tracing::warn!(
            why,
            "whether people have left is not known, their sessions go on; the next round asks again"
        );
        metrics().cutoff_round("failed");
        self.locked().trouble = Some(why);
        every
    }

    async fn round(&self) -> Result<i64, Error> {
        let store = &self.tools.store;
        // Again, now that it is ours.
        let mut mark = Mark::read(store.mark(NAME).await?.as_deref());
        let began = self.tools.clock.unix();
        // First: what changes while it is asked below is told of.
        let subscribed = mark.subscriptions.clone();
        self.be_told(&mut mark).await;
        if mark.subscriptions != subscribed {
            // At once: Graph has them, whatever becomes of this round, and nobody else knows their secrets.
            self.keep_mark(&mark).await?;
        }
        let told = self.told(&mark).await?;
        let live = self.live(began).await?;
        let gone = self.gone(&told, &mut mark, &live).await?;
        for oid in &gone {
            self.end(*oid, EndReason::PersonDisabled).await?;
        }
        if self.groups_are_due(&mark, began) {
            self.check_groups(&mut mark, &live, &gone, began).await?;
            mark.groups = Some(began);
        }
        mark.done = Some(began);
        // Last: a round that was cut off anywhere is gone through again.
        self.keep_mark(&mark).await?;
        Ok(began)
    }

    async fn keep_mark(&self, mark: &Mark) -> Result<(), Error> {
        let (lease, now) = (self.lease(), self.tools.clock.unix());
        let kept = self
            .tools
            .store
            .save_mark(&mark.text(), &lease, now)
            .await?;
        if kept { Ok(()) } else { Err(Error::Lost) }
    }

    /// Sees to the subscriptions. Without them it takes until the next round, and nothing else.
    async fn be_told(&self, mark: &mut Mark) {
        let tended = self.tend(mark).await;
        self.learn(mark);
        let untold = tended.err().map(|error| error.to_string());
        if let Some(why) = &untold {
            tracing::warn!(why, "graph tells of no changes, it is asked all the same");
        }
        self.locked().untold = untold;
    }

    /// A notification about a person is no reason to read all groups.
    fn groups_are_due(&self, mark: &Mark, now: i64) -> bool {
        let hinted = self.hints.groups.swap(false, Ordering::AcqRel);
        let every = i64::try_from(self.settings.every().as_secs()).unwrap_or(i64::MAX);
        let age = mark.groups.map(|at| now.saturating_sub(at));
        hinted || age.is_none_or(|age| age < 0 || age >= every)
    }

    /// Ends the sign-ins whose token is wrong about a group. `gone` are out already.
    async fn check_groups(
        &self,
        mark: &mut Mark,
        live: &Live,
        gone: &BTreeSet<uuid::Uuid>,
        began: i64,
    ) -> Result<(), Error> {
        if self.settings.admitting.is_empty() && self.settings.barring.is_empty() {
            return Ok(());
        }
        let members = self.members().await?;
        mark.forget(began, |group, person| {
            let is_in = members.get(&group).is_some_and(|all| all.contains(&person));
            is_in == self.settings.admitting.contains(&group)
        });
        let mut wrong = Wrong::new();
        for sign_in in live {
            let oid = sign_in.claims.person.oid;
            // A token that is younger than the answer knows better.
            if gone.contains(&oid) || is_younger(sign_in.checked, began) {
                continue;
            }
            let mut groups = self.settings.wrong_groups(sign_in, &members);
            groups.retain(|group, _| !mark.has_told(*group, oid));
            if !groups.is_empty() {
                wrong.entry(oid).or_default().extend(groups);
            }
        }
        if wrong.len() > MANY {
            // A group that looks empty may be half an answer.
            wrong = self.really_wrong(wrong).await?;
        }
        for (oid, groups) in wrong {
            for group in groups.into_keys() {
                mark.tell(group, oid, began);
            }
            self.end(oid, EndReason::GroupChanged).await?;
        }
        Ok(())
    }

    /// Who is signed in, of the issuer's tenant.
    async fn live(&self, now: i64) -> Result<Live, Error> {
        let mut live = Live::new();
        let mut after = None;
        loop {
            let some = self.tools.store.live_sign_ins(now, after, BATCH).await?;
            let Some(last) = some.last() else {
                return Ok(live);
            };
            after = Some(last.id);
            let ours =
                |one: &crate::store::records::SignIn| one.claims.person.tid == self.settings.tenant;
            live.extend(some.into_iter().filter(ours));
        }
    }

    async fn end(&self, oid: uuid::Uuid, reason: EndReason) -> Result<(), Error> {
        let tid = self.settings.tenant;
        let ended = self.tools.authn.end_person(PersonId { tid, oid }, reason);
        let ended = ended.await.map_err(|_| Error::NotEnded(oid))?;
        if ended > 0 {
            metrics().cutoff_ended(reason.as_str());
        }
        Ok(())
    }

    fn lease(&self) -> Lease {
        Lease {
            name: String::from(NAME),
            holder: self.process.clone(),
            until: self.tools.clock.unix_after(LEASE),
        }
    }

    /// Until the lease is somebody else's.
    async fn lost(&self) {
        loop {
            tokio::time::sleep(LEASE / 4).await;
            let now = self.tools.clock.unix();
            let ours = self.tools.store.prolong_lease(&self.lease(), now).await;
            if matches!(ours, Ok(false)) {
                return;
            }
        }
    }
}

/// Whether a token was checked after a round began. One from the future was checked before a clock went back.
fn is_younger(checked: i64, began: i64) -> bool {
    (began..=began.saturating_add(APART)).contains(&checked)
}

/// Of the lease and of the mark.
pub(super) const NAME: &str = "cutoff";
const LEASE: Duration = Duration::from_secs(30);
/// While another replica is at it.
const BUSY: Duration = Duration::from_millis(250);
const SHORTEST: Duration = Duration::from_secs(1);
/// After a round that came to nothing although somebody said that there is something to see.
const AGAIN: Duration = Duration::from_secs(10);
/// Seconds by which clocks of replicas may differ, and longer than a round takes.
const APART: i64 = 300;
/// Sign-ins read at a time.
const BATCH: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_from_the_future_knows_no_better() {
        let began = 1_800_000_000;
        assert!(is_younger(began, began) && is_younger(began + 60, began));
        assert!(!is_younger(began - 1, began));
        let year = 365 * 86_400;
        assert!(!is_younger(began + year, began), "the clock went back");
    }
}
