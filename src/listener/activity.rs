//! What a client connection is doing, and until when it may go on doing it.
//!
//! hyper's own header time-out also runs between two requests and cannot tell an idle connection from
//! a slow head, and nothing in it bounds a client that does not read. So the wire and the service note
//! here what happens, and the connection's task asks when to give up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http_body::Frame;
use http_body::SizeHint;

use crate::model::body::Body;
use crate::model::body::BodyError;

/// Longest times on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head.
    pub headers: Duration,
    /// Without any request.
    pub idle: Duration,
    /// For a client that takes nothing of what we write.
    pub write: Duration,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing to do for too long.
    Idle,
    /// A head that does not end.
    SlowHead,
    /// A client that does not read.
    SlowReader,
}

/// Notes of one connection. Instants are milliseconds since its beginning, plus one; zero is "not now".
#[derive(Debug)]
pub struct Activity {
    begin: Instant,
    busy: AtomicUsize,
    quiet_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
}

impl Activity {
    /// At the beginning of a connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            busy: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// Whether a head has begun and not ended.
    pub fn head(&self, within: bool) {
        self.note(&self.head_since, within);
    }

    /// Whether the client takes what we write.
    pub fn write_blocked(&self, blocked: bool) {
        self.note(&self.blocked_since, blocked);
    }

    fn note(&self, since: &AtomicU64, on: bool) {
        let noted = since.load(Ordering::Relaxed);
        match (on, noted) {
            (true, 0) => since.store(self.now(), Ordering::Relaxed),
            (false, 1..) => since.store(0, Ordering::Relaxed),
            (true, _) | (false, _) => {}
        }
    }

    /// A request is being served until the returned value is dropped.
    pub fn serve(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// True while there has never been a request.
    pub fn is_unused(&self) -> bool {
        self.quiet_since.load(Ordering::Relaxed) == 1 && self.busy.load(Ordering::Relaxed) == 0
    }

    /// When the connection is to be given up if nothing else happens.
    pub fn deadline(&self, patience: Patience) -> (Instant, Overdue) {
        let at = |since: u64, span: Duration| self.begin + Duration::from_millis(since) + span;
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked != 0 {
            return (at(blocked, patience.write), Overdue::SlowReader);
        }
        if self.busy.load(Ordering::Relaxed) != 0 {
            // Being served: the pipeline's own limits hold. Looked at again after a while.
            return (Instant::now() + patience.idle, Overdue::Idle);
        }
        let quiet = self.quiet_since.load(Ordering::Relaxed);
        let head = self.head_since.load(Ordering::Relaxed);
        if head != 0 {
            // A head that arrived behind a request being served could not be read before.
            return (at(head.max(quiet), patience.headers), Overdue::SlowHead);
        }
        (at(quiet, patience.idle), Overdue::Idle)
    }
}

/// A request being served.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        // Never again 1: that is a connection without any request.
        let now = self.0.now().max(2);
        self.0.quiet_since.store(now, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's body that keeps its connection busy until it was sent or given up.
#[derive(Debug)]
pub struct BusyBody {
    body: Body,
    _busy: Option<Busy>,
}

impl BusyBody {
    /// `body`, as long as which `busy` lives.
    pub const fn new(body: Body, busy: Option<Busy>) -> Self {
        Self { body, _busy: busy }
    }
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
