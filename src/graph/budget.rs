//! One budget for all questions to one tenant, so that a synchronization never takes Graph away from somebody who is
//! signing in: sign-ins may spend all of it, synchronizations leave half.
//!
//! Specification: Graph's throttling counts resource units per application and tenant in windows of ten seconds (3 500 in the smallest
//! tenants); a token bucket of that form, far below it, because another replica may be asking too.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use super::error::Error;

/// Who is waiting for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A person, in front of a browser.
    SignIn,
    /// A synchronization.
    Sync,
}

#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    /// Resource units a second.
    rate: f64,
}

#[derive(Debug)]
struct State {
    units: f64,
    at: Instant,
    /// Graph asked for a pause: synchronizations keep it, whichever question it was said to.
    paused_until: Option<Instant>,
    /// People who could not be served from the bucket at once.
    waiting: usize,
}

impl Budget {
    pub(super) fn new(units_per_second: u32) -> Self {
        let rate = f64::from(units_per_second.max(1));
        Self {
            state: Mutex::new(State {
                units: rate * WINDOW,
                at: Instant::now(),
                paused_until: None,
                waiting: 0,
            }),
            rate,
        }
    }

    /// Waits until `cost` units may be spent.
    pub(super) async fn admit(
        &self,
        priority: Priority,
        cost: u32,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut queued = None;
        loop {
            let now = Instant::now();
            let Err(wait) = self.take(priority, cost, now) else {
                return Ok(());
            };
            if now + wait >= deadline {
                return Err(Error::Throttled { retry_after: wait });
            }
            if priority == Priority::SignIn && queued.is_none() {
                queued = Some(Queued::new(self));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Graph asked for a pause.
    pub(super) fn pause(&self, wait: Duration) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(Instant::now() + wait));
    }

    fn take(&self, priority: Priority, cost: u32, now: Instant) -> Result<(), Duration> {
        let most = self.rate * WINDOW;
        let mut state = self.state();
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.units = (state.units + passed * self.rate).min(most);
        state.at = now;
        let cost = f64::from(cost).min(most / 2.0);
        let wanted = match priority {
            Priority::SignIn => cost,
            Priority::Sync => {
                if let Some(until) = state.paused_until.filter(|until| *until > now) {
                    return Err(until - now);
                }
                if state.waiting > 0 {
                    return Err(GIVE_WAY);
                }
                cost + most / 2.0
            }
        };
        if state.units >= wanted {
            state.units -= cost;
            return Ok(());
        }
        let wait = (wanted - state.units) / self.rate;
        Err(Duration::from_secs_f64(wait).max(SHORTEST))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person in the queue, also when the question is given up.
struct Queued<'a>(&'a Budget);

impl<'a> Queued<'a> {
    fn new(budget: &'a Budget) -> Self {
        budget.state().waiting += 1;
        Self(budget)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting = state.waiting.saturating_sub(1);
    }
}

/// Seconds of Graph's window, and of what may be saved up.
const WINDOW: f64 = 10.0;
const GIVE_WAY: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synchronization_leaves_half_to_sign_ins() {
        let budget = Budget::new(10);
        let now = Instant::now();
        let spent = |priority| {
            (0..1000)
                .take_while(|_| budget.take(priority, 1, now).is_ok())
                .count()
        };
        assert_eq!(spent(Priority::Sync), 50);
        assert_eq!(spent(Priority::SignIn), 50);
        let wait = budget.take(Priority::SignIn, 1, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(budget.take(Priority::SignIn, 1, now + wait).is_ok());
        // What was not used is not saved up for ever.
        let later = now + Duration::from_secs(3600);
        assert!(budget.take(Priority::Sync, 1, later).is_ok());
        assert!(budget.state().units <= 100.0);
    }

    #[test]
    fn a_synchronization_gives_way_to_whoever_waits() {
        let budget = Budget::new(10);
        let now = Instant::now();
        let queued = Queued::new(&budget);
        assert_eq!(budget.take(Priority::Sync, 1, now), Err(GIVE_WAY));
        assert!(budget.take(Priority::SignIn, 1, now).is_ok());
        drop(queued);
        assert!(budget.take(Priority::Sync, 1, now).is_ok());
    }

    #[test]
    fn a_pause_is_kept_by_synchronizations_and_not_by_people() {
        let budget = Budget::new(10);
        budget.pause(Duration::from_secs(60));
        budget.pause(Duration::from_secs(1)); // a shorter one takes nothing back
        let now = Instant::now();
        assert!(budget.take(Priority::Sync, 1, now).unwrap_err() > Duration::from_secs(50));
        assert!(budget.take(Priority::SignIn, 1, now).is_ok());
    }

    #[test]
    fn a_question_dearer_than_the_budget_is_asked_all_the_same() {
        let budget = Budget::new(1);
        assert!(budget.take(Priority::Sync, 1000, Instant::now()).is_ok());
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_so() {
        let budget = Budget::new(1);
        while budget.take(Priority::SignIn, 1, Instant::now()).is_ok() {}
        let soon = Instant::now() + Duration::from_millis(1);
        let refused = budget.admit(Priority::SignIn, 1, soon).await;
        assert!(matches!(refused, Err(Error::Throttled { .. })));
        assert_eq!(budget.state().waiting, 0);
    }
}
