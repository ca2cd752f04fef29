//! Threads that serve clients, each with a runtime of its own.
//!
//! In: bound sockets. Out: each of them served by every worker until the stop.
//!
//! # Why
//!
//! A request that stays on one thread wakes no other: no queue is shared, no atomic is fought over, and a
//! connection's state stays in one processor's cache. So each worker runs a single-threaded runtime and
//! accepts from the same sockets; an idle worker is the first to take a new connection. Work beside the
//! requests (keys, store, sweeping) has the process's own runtime.

use std::io;
use std::net::TcpListener;
use std::thread;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How many tasks are polled before sockets and timers are asked about again. Four times tokio's default: a burst of requests is worked
/// off with fewer system calls, which is five in a hundred of a request's CPU; what comes meanwhile waits for two milliseconds at most.
const AT_A_STRETCH: u32 = 256;

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    end: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// The system gives no thread, or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let mut workers = Vec::with_capacity(count);
        for number in 1..=count {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(AT_A_STRETCH)
                .build()?;
            let handle = runtime.handle().clone();
            let end = end.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                // Whatever is spawned on the runtime goes on as long as this waits.
                .spawn(move || runtime.block_on(end.cancelled()))?;
            workers.push(Worker {
                runtime: handle,
                thread: Some(thread),
            });
        }
        Ok(Self { workers, end })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.workers.len()
    }

    /// Has every worker do some work beside its connections.
    pub fn each<F>(&self, work: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        for worker in &self.workers {
            worker.runtime.spawn(work());
        }
    }

    /// Has every worker `serve` the same socket; each handle ends when its worker has ended.
    ///
    /// # Errors
    /// The system gives no further descriptor for the socket.
    pub fn serve<F>(
        &self,
        socket: &TcpListener,
        serve: impl Fn(tokio::net::TcpListener) -> F,
    ) -> io::Result<Vec<JoinHandle<()>>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let each = self.workers.iter();
        each.map(|worker| worker.serve(socket.try_clone()?, &serve))
            .collect()
    }
}

impl Worker {
    fn serve<F>(
        &self,
        socket: TcpListener,
        serve: impl Fn(tokio::net::TcpListener) -> F,
    ) -> io::Result<JoinHandle<()>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A socket belongs to the event queue of the runtime in whose context it is made.
        let within = self.runtime.enter();
        let socket = tokio::net::TcpListener::from_std(socket)?;
        drop(within);
        Ok(self.runtime.spawn(serve(socket)))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end.cancel();
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has said so.
                drop(thread.join());
            }
        }
    }
}
