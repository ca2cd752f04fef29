//! Servers that take only so many requests at a time, and the requests that wait for one.
//!
//! In: which servers a request may go to. Out: a [`Slot`] on one of them, held until its answer has ended; or
//! why there is none. Exists only for applications with a limit: others never come here.
//!
//! # Why
//!
//! - A slot that becomes free is handed to who waits longest, under one lock: nobody overtakes, and no slot is
//!   free while somebody waits for it.
//! - Who leaves gives up the place, or the slot that was already on its way: nothing is lost but the wait.
//! - A place in the queue holds no connection and nothing of the request's body has been read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::model::application::balance::Queue as Limits;

/// The slots of one application's servers, and who waits for them.
#[derive(Debug)]
pub struct Queue {
    length: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    servers: Vec<Taken>,
    waiting: VecDeque<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Taken {
    now: u32,
    most: Option<u32>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    takes: Vec<usize>,
    tell: oneshot::Sender<Slot>,
}

/// The right to one more request to a server, until dropped.
#[derive(Debug)]
pub struct Slot(Option<(Arc<Queue>, usize)>);

impl Slot {
    /// Which server: its place in the configuration.
    #[must_use]
    pub fn server(&self) -> Option<usize> {
        self.0.as_ref().map(|(_, server)| *server)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((queue, server)) = self.0.take() {
            queue.pass_on(server);
        }
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many wait as may wait.
    Full,
    /// None became free in time.
    Late,
}

/// A place in the queue, given up when dropped.
struct Place<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.waiting.retain(|one| one.number != self.number);
    }
}

impl Queue {
    /// For servers that take so many each; nothing where none has a limit.
    #[must_use]
    pub fn new(limits: &Limits, most: &[Option<u32>]) -> Option<Arc<Self>> {
        most.iter().any(Option::is_some).then(|| {
            let servers = most.iter().map(|most| Taken {
                now: 0,
                most: *most,
            });
            Arc::new(Self {
                length: limits.length,
                state: Mutex::new(State {
                    servers: servers.collect(),
                    waiting: VecDeque::new(),
                    next: 0,
                }),
            })
        })
    }

    /// A slot on `server`, if it has one.
    pub fn enter(self: &Arc<Self>, server: usize) -> Option<Slot> {
        let entered = self.lock().enter(server);
        entered.then(|| Slot(Some((Arc::clone(self), server))))
    }

    /// Waits for a slot on one of the servers that it `takes`, until then.
    ///
    /// # Errors
    /// When too many wait already, or none became free.
    pub async fn wait(
        self: &Arc<Self>,
        takes: Vec<usize>,
        until: Instant,
    ) -> Result<Slot, Refused> {
        let (told, place) = {
            let mut state = self.lock();
            // One may have become free since it was looked for.
            if let Some(server) = takes.iter().copied().find(|server| state.enter(*server)) {
                return Ok(Slot(Some((Arc::clone(self), server))));
            }
            if state.waiting.len() >= self.length {
                return Err(Refused::Full);
            }
            let number = state.next;
            state.next = number.wrapping_add(1);
            let (tell, told) = oneshot::channel();
            state.waiting.push_back(Waiting {
                number,
                takes,
                tell,
            });
            let queue = self.as_ref();
            (told, Place { queue, number })
        };
        let got = tokio::time::timeout_at(until.into(), told).await;
        drop(place);
        got.ok().and_then(Result::ok).ok_or(Refused::Late)
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// How many requests `server` has now.
    #[must_use]
    pub fn taken(&self, server: usize) -> usize {
        let state = self.lock();
        let taken = state.servers.get(server).map_or(0, |taken| taken.now);
        usize::try_from(taken).unwrap_or(usize::MAX)
    }

    /// Gives the slot of `server` to who waits for it, or back.
    fn pass_on(self: &Arc<Self>, server: usize) {
        let mut state = self.lock();
        while let Some(at) = state
            .waiting
            .iter()
            .position(|one| one.takes.contains(&server))
        {
            let Some(next) = state.waiting.remove(at) else {
                break;
            };
            let slot = Slot(Some((Arc::clone(self), server)));
            match next.tell.send(slot) {
                Ok(()) => return,
                // Has just left. Not dropped as it is: that would come back here under the lock.
                Err(mut slot) => drop(slot.0.take()),
            }
        }
        if let Some(taken) = state.servers.get_mut(server) {
            taken.now = taken.now.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, server: usize) -> bool {
        let Some(taken) = self.servers.get_mut(server) else {
            return false;
        };
        if taken.most.is_some_and(|most| taken.now >= most) {
            return false;
        }
        taken.now = taken.now.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn queue(length: usize, most: &[Option<u32>]) -> Arc<Queue> {
        let limits = Limits {
            length,
            patience: Duration::from_secs(1),
        };
        Queue::new(&limits, most).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn a_free_slot_goes_to_who_waits_longest_for_that_server() {
        let queue = queue(10, &[Some(1), Some(1)]);
        let (a, b) = (queue.enter(0).unwrap(), queue.enter(1).unwrap());
        assert!(queue.enter(0).is_none());
        let mut first = Box::pin(queue.wait(vec![1], soon()));
        let mut second = Box::pin(queue.wait(vec![0, 1], soon()));
        let mut third = Box::pin(queue.wait(vec![0, 1], soon()));
        for one in [&mut first, &mut second, &mut third] {
            assert!(one.now_or_never().is_none());
        }
        assert_eq!(queue.waiting(), 3);
        drop(a);
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        let a = second.await.unwrap();
        assert_eq!(a.server(), Some(0));
        assert!(queue.enter(0).is_none(), "nobody overtakes");
        drop(b);
        let b = first.await.unwrap();
        drop((a, b));
        drop(third.await.unwrap());
        assert_eq!((queue.taken(0), queue.taken(1), queue.waiting()), (0, 0, 0));
    }

    #[tokio::test]
    async fn who_leaves_takes_nothing_along() {
        let queue = queue(10, &[Some(1)]);
        let slot = queue.enter(0).unwrap();
        let mut left = Box::pin(queue.wait(vec![0], soon()));
        assert!((&mut left).now_or_never().is_none());
        let mut stays = Box::pin(queue.wait(vec![0], soon()));
        assert!((&mut stays).now_or_never().is_none());
        // The slot is on its way to one who leaves before looking.
        drop(slot);
        drop(left);
        drop(stays.await.unwrap());
        assert_eq!((queue.taken(0), queue.waiting()), (0, 0));
        // And one who leaves the queue itself.
        let slot = queue.enter(0).unwrap();
        let mut left = Box::pin(queue.wait(vec![0], soon()));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        assert_eq!(queue.waiting(), 0);
        drop(slot);
        assert_eq!(queue.taken(0), 0);
    }

    #[tokio::test]
    async fn the_queue_has_an_end_and_patience_too() {
        let queue = queue(1, &[Some(1), None]);
        assert!(queue.enter(1).is_some(), "no limit");
        let slot = queue.enter(0).unwrap();
        let mut waits = Box::pin(queue.wait(vec![0], Instant::now() + Duration::from_millis(20)));
        assert!((&mut waits).now_or_never().is_none());
        let refused = queue.wait(vec![0], soon()).await;
        assert_eq!(refused.unwrap_err(), Refused::Full);
        assert_eq!(waits.await.unwrap_err(), Refused::Late);
        drop(slot);
        assert_eq!((queue.taken(0), queue.waiting()), (0, 0));
        assert!(
            Queue::new(
                &Limits {
                    length: 1,
                    patience: Duration::ZERO
                },
                &[None, None]
            )
            .is_none()
        );
    }

    /// Every fifth leaves soon; the others stay until they are served.
    async fn visit(queue: Arc<Queue>, at_once: Arc<[AtomicU32; 2]>, turn: u64) -> u32 {
        if turn.is_multiple_of(5) {
            let short = Instant::now() + Duration::from_micros(turn * 7);
            drop(queue.wait(vec![0, 1], short).await);
            return 0;
        }
        let slot = queue.wait(vec![0, 1], soon()).await.unwrap();
        let server = slot.server().unwrap();
        let now = at_once[server].fetch_add(1, Ordering::SeqCst) + 1;
        assert!(now <= [2, 3][server]);
        tokio::time::sleep(Duration::from_micros(200)).await;
        at_once[server].fetch_sub(1, Ordering::SeqCst);
        1
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_more_than_its_most_and_everybody_is_served() {
        let queue = queue(1000, &[Some(2), Some(3)]);
        let at_once = Arc::new([0, 0].map(AtomicU32::new));
        let all: Vec<_> = (0..400)
            .map(|turn| tokio::spawn(visit(Arc::clone(&queue), Arc::clone(&at_once), turn)))
            .collect();
        let mut served = 0;
        for one in all {
            served += one.await.unwrap();
        }
        assert_eq!(served, 320);
        assert_eq!((queue.taken(0), queue.taken(1), queue.waiting()), (0, 0, 0));
    }
}
