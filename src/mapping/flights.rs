//! One walk to the directory per person at a time, however many requests wait for it.
//!
//! The walk is a task of its own: a visitor who goes away does not stop the making of an account half-way,
//! and one who has waited long enough is told so and joins again with the next request. A failure that
//! nobody was there to hear is told to the next visitor.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;

use super::refusal::Refusal;
use crate::model::stop::Code;
use crate::model::stop::Side;

/// How long an unheard failure is kept.
const UNHEARD: Duration = Duration::from_secs(30);

/// What came of waiting.
#[derive(Clone, Debug)]
pub(super) enum Landing<T> {
    /// The walk has ended.
    Done(Result<T, Refusal>),
    /// An account is still being made.
    StillMaking,
}

#[derive(Clone, Debug)]
enum Phase<T> {
    Looking,
    Making,
    Done(Instant, Result<T, Refusal>),
}

/// Lets a walk say that it has begun to make something.
#[derive(Clone, Debug)]
pub(super) struct Progress<T>(Arc<watch::Sender<Phase<T>>>);

impl<T> Progress<T> {
    pub(super) fn making(&self) {
        self.0.send_replace(Phase::Making);
    }
}

type Walk<T> = watch::Receiver<Phase<T>>;

/// The walks under way.
#[derive(Debug)]
pub(super) struct Flights<K, T> {
    walks: Mutex<HashMap<K, Walk<T>>>,
}

impl<K, T> Flights<K, T>
where
    K: Clone + Debug + Eq + Hash + Send + 'static,
    T: Clone + Debug + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self {
            walks: Mutex::default(),
        }
    }

    /// Joins the walk for `key`, or begins it with `work`; waits until it ends, or for `patience` once
    /// something is being made.
    pub(super) async fn join<F, W>(&self, key: &K, patience: Duration, work: W) -> Landing<T>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
        W: FnOnce(Progress<T>) -> F,
    {
        let begun = Instant::now();
        let mut walk = self.enter(key, work);
        loop {
            let phase = walk.borrow_and_update().clone();
            let alive = match phase {
                Phase::Done(_, result) => {
                    self.leave(key, &walk);
                    return Landing::Done(result);
                }
                Phase::Making => {
                    let left = patience.saturating_sub(begun.elapsed());
                    match tokio::time::timeout(left, walk.changed()).await {
                        Ok(changed) => changed.is_ok(),
                        Err(_) => return Landing::StillMaking,
                    }
                }
                Phase::Looking => walk.changed().await.is_ok(),
            };
            if !alive && !matches!(*walk.borrow(), Phase::Done(..)) {
                self.leave(key, &walk);
                let detail = format!("the walk for {key:?} died");
                return Landing::Done(Err(Refusal::fail(Code::Internal, Side::Gateway, detail)));
            }
        }
    }

    fn enter<F, W>(&self, key: &K, work: W) -> Walk<T>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
        W: FnOnce(Progress<T>) -> F,
    {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.retain(
            |_, walk| !matches!(&*walk.borrow(), Phase::Done(at, _) if at.elapsed() > UNHEARD),
        );
        if let Some(walk) = walks.get(key) {
            return walk.clone();
        }
        let (sender, walk) = watch::channel(Phase::Looking);
        walks.insert(key.clone(), walk.clone());
        drop(walks);
        let sender = Arc::new(sender);
        let work = work(Progress(Arc::clone(&sender)));
        drop(tokio::spawn(async move {
            let result = work.await;
            sender.send_replace(Phase::Done(Instant::now(), result));
        }));
        walk
    }

    /// The result was heard: the next visitor begins anew.
    fn leave(&self, key: &K, walk: &Walk<T>) {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        if walks.get(key).is_some_and(|known| known.same_channel(walk)) {
            walks.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use tokio::sync::Notify;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    async fn counted(walks: Arc<AtomicUsize>, gate: Arc<Notify>) -> Result<usize, Refusal> {
        let n = walks.fetch_add(1, Ordering::SeqCst);
        gate.notified().await;
        Ok(n)
    }

    async fn visitor(
        flights: Arc<Flights<u8, usize>>,
        walks: Arc<AtomicUsize>,
        gate: Arc<Notify>,
    ) -> Landing<usize> {
        let walk = counted(walks, gate);
        flights.join(&1, PATIENCE, |_| walk).await
    }

    async fn failing(gate: Arc<Notify>, refusal: Refusal) -> Result<(), Refusal> {
        gate.notified().await;
        Err(refusal)
    }

    #[tokio::test]
    async fn many_visitors_make_one_walk() {
        let flights = Arc::new(Flights::<u8, usize>::new());
        let walks = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Notify::new());
        let visit = || visitor(flights.clone(), walks.clone(), gate.clone());
        let visitors: Vec<_> = (0..50).map(|_| tokio::spawn(visit())).collect();
        while walks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        for visitor in visitors {
            assert!(matches!(visitor.await.unwrap(), Landing::Done(Ok(0))));
        }
        assert!(flights.walks.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_impatient_visitor_joins_again_and_hears_the_failure() {
        let flights = Flights::<u8, ()>::new();
        let gate = Arc::new(Notify::new());
        let refusal = Refusal::deny(Code::AccountConflict, "held");
        let walk = failing(gate.clone(), refusal.clone());
        let making = |progress: Progress<()>| {
            progress.making();
            walk
        };
        let first = flights.join(&1, PATIENCE, making).await;
        assert!(matches!(first, Landing::StillMaking));
        gate.notify_one();
        let second = flights
            .join(&1, Duration::from_secs(60), |_| async { Ok(()) })
            .await;
        assert!(matches!(second, Landing::Done(Err(told)) if told == refusal));
        let third = flights.join(&1, PATIENCE, |_| async { Ok(()) }).await;
        assert!(
            matches!(third, Landing::Done(Ok(()))),
            "the failure is told once"
        );
    }

    #[tokio::test]
    async fn a_walk_that_dies_is_a_fault_and_not_a_hang() {
        let flights = Flights::<u8, ()>::new();
        let died = flights
            .join(&1, PATIENCE, |_| async { panic!("a defect") })
            .await;
        assert!(matches!(died, Landing::Done(Err(Refusal::Fail(_)))));
    }
}
