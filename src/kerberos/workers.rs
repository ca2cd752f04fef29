//! The room's own threads: GSS-API blocks, and a blocked tokio worker would stop everybody.
//!
//! Bounded in threads and in waiting calls. A call that nobody waits for any more keeps its thread until
//! libkrb5 gives up (it cannot be interrupted) and is counted; one that has not begun is dropped.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicIsize;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::ending;

/// Why a call was not made, or not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full.
    Full,
    /// The deadline passed, in the queue or in the call.
    Late,
    /// The call panicked.
    Died,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Threads there are.
    pub threads: usize,
    /// Threads inside a call.
    pub busy: usize,
    /// Of those, calls that nobody waits for any more.
    pub abandoned: usize,
    /// Calls that wait for a thread.
    pub queued: usize,
}

#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    threads: usize,
    limit: usize,
    busy: AtomicUsize,
    /// Signed: the call may take its one back before its waiter has put it there.
    abandoned: AtomicIsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Job {
    state: Arc<AtomicU8>,
    run: Box<dyn FnOnce() + Send>,
}

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const LEFT: u8 = 3;

impl Workers {
    pub(super) fn start(name: &str, threads: usize, limit: usize) -> io::Result<Self> {
        ending::watch();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            threads,
            limit,
            busy: AtomicUsize::new(0),
            abandoned: AtomicIsize::new(0),
        });
        let workers = Self { shared };
        for n in 0..threads {
            let shared = Arc::clone(&workers.shared);
            thread::Builder::new()
                .name(format!("{name}-{n}"))
                .spawn(move || shared.work())?;
        }
        Ok(workers)
    }

    /// Runs `work` on one of the threads and waits at most `patience`, queue included.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (tell, told) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(QUEUED));
        let shared = Arc::clone(&self.shared);
        let running = Arc::clone(&state);
        let run = Box::new(move || {
            // A waiter that has left marked the state; then there is nothing to do.
            if running
                .compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                return;
            }
            // A panic must not take the thread with it: `tell` is dropped, the waiter learns `Died`.
            let outcome = catch_unwind(AssertUnwindSafe(work));
            if running.swap(DONE, Ordering::AcqRel) == LEFT {
                shared.abandoned.fetch_sub(1, Ordering::Relaxed);
            }
            if let Ok(value) = outcome {
                let _left = tell.send(value);
            }
        });
        self.shared.push(Job {
            state: Arc::clone(&state),
            run,
        })?;
        let _leave = Leave {
            state,
            shared: Arc::clone(&self.shared),
        };
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(Refused::Died),
            Err(_) => Err(Refused::Late),
        }
    }

    pub(super) fn status(&self) -> LaneStatus {
        LaneStatus {
            threads: self.shared.threads,
            busy: self.shared.busy.load(Ordering::Relaxed),
            abandoned: usize::try_from(self.shared.abandoned.load(Ordering::Relaxed)).unwrap_or(0),
            queued: self.shared.lock().jobs.len(),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Refused> {
        let mut queue = self.lock();
        if queue.jobs.len() >= self.limit {
            // Room may be held by calls whose visitors have gone.
            queue
                .jobs
                .retain(|job| job.state.load(Ordering::Acquire) == QUEUED);
        }
        if queue.jobs.len() >= self.limit {
            return Err(Refused::Full);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            let Some(_call) = ending::begin() else { return };
            self.busy.fetch_add(1, Ordering::Relaxed);
            (job.run)();
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self
            .wake
            .wait_while(self.lock(), |queue| queue.jobs.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.jobs.pop_front()
    }
}

/// Dropped when the waiter goes, with or without its answer.
struct Leave {
    state: Arc<AtomicU8>,
    shared: Arc<Shared>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.state.swap(LEFT, Ordering::AcqRel) == RUNNING {
            self.shared.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Runs `work` on a task of its own.
    fn spawned<T: Send + 'static>(
        workers: &Arc<Workers>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<T, Refused>> {
        let workers = Arc::clone(workers);
        tokio::spawn(async move { workers.run(LONG, work).await })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_left_call_makes_room() {
        let workers = Arc::new(Workers::start("t", 1, 1).unwrap());
        let (open, gate) = mpsc::channel::<()>();
        let first = spawned(&workers, move || gate.recv().is_ok());
        while workers.status().busy == 0 {
            tokio::task::yield_now().await;
        }
        // The second waits in the queue, then its visitor leaves; its place is the third's.
        let second = workers.run(Duration::from_millis(5), || 2).await;
        assert_eq!(second, Err(Refused::Late));
        let mut third = Box::pin(workers.run(LONG, || 3));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        let fourth = workers.run(LONG, || 4).await;
        assert_eq!(fourth, Err(Refused::Full));
        open.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        assert_eq!(third.await, Ok(3));
    }

    #[tokio::test]
    async fn an_abandoned_call_is_counted_until_it_ends() {
        let workers = Workers::start("t", 2, 4).unwrap();
        let (open, gate) = mpsc::channel::<()>();
        let late = workers
            .run(Duration::from_millis(20), move || gate.recv().is_ok())
            .await;
        assert_eq!(late, Err(Refused::Late));
        assert_eq!(workers.status().abandoned, 1);
        // The other thread serves on meanwhile.
        assert_eq!(workers.run(LONG, || 7).await, Ok(7));
        open.send(()).unwrap();
        while workers.status().abandoned != 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_costs_the_call_and_not_the_thread() {
        let workers = Workers::start("t", 1, 4).unwrap();
        let planned = || -> u8 { panic!("as planned") };
        assert_eq!(workers.run(LONG, planned).await, Err(Refused::Died));
        assert_eq!(workers.run(LONG, || 1).await, Ok(1));
    }
}
