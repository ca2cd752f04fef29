//! What a client connection is doing, and until when it may go on doing it.
//!
//! hyper's own header time-out also runs between two requests and cannot tell an idle connection from
//! a slow head, and nothing in it bounds a client that does not read. So the wire and the service note
//! here what happens, and the connection's task asks when to give up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
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

use crate::listener::framing::Refusal;
use crate::listener::interim::Interim;
use crate::model::body::Body;
use crate::model::body::BodyError;

/// Longest times on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head.
    pub headers: Duration,
    /// Without any request.
    pub idle: Duration,
    /// Without any request until the connection's buffers are given back.
    pub quiet: Duration,
    /// For a client that takes nothing of what we write.
    pub write: Duration,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing to do, and nothing under way: it needs no buffers meanwhile.
    Quiet,
    /// Nothing to do for too long.
    Idle,
    /// A head that does not end.
    SlowHead,
    /// A client that does not read.
    SlowReader,
    /// A head that was refused; all requests before it are answered.
    Refused(Refusal),
}

/// Notes of one connection. Instants are milliseconds since its beginning, plus one; zero is "not now".
#[derive(Debug)]
pub struct Activity {
    begin: Instant,
    busy: AtomicUsize,
    quiet_since: AtomicU64,
    head_since: AtomicU64,
    /// Between two requests, as far as was read.
    between: AtomicBool,
    blocked_since: AtomicU64,
    /// Milliseconds blocked that no written byte has earned back.
    blocked_before: AtomicU64,
    /// Answers of which the client has not asked for more.
    held: AtomicUsize,
    /// When one of them last moved.
    moved_at: AtomicU64,
    refused: OnceLock<Refusal>,
    switched: AtomicBool,
    pub(super) interim: Interim,
}

/// What a client has to read, in bytes a second, once it has let us wait.
const SLOWEST_READER: u64 = 500;

impl Activity {
    /// At the beginning of a connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            busy: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            between: AtomicBool::new(true),
            blocked_since: AtomicU64::new(0),
            blocked_before: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            moved_at: AtomicU64::new(1),
            refused: OnceLock::new(),
            switched: AtomicBool::new(false),
            interim: Interim::default(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// The head that is arriving is refused; nothing behind it is read.
    pub fn refuse(&self, why: Refusal) {
        // The first one ends the connection.
        let _: Result<(), _> = self.refused.set(why);
    }

    /// Whether a head has begun and not ended, or whether a request has ended and none has begun.
    pub fn read(&self, within_head: bool, between: bool) {
        self.note(&self.head_since, within_head);
        self.between.store(between, Ordering::Relaxed);
    }

    /// The client takes nothing of what we write.
    pub fn write_blocked(&self) {
        self.note(&self.blocked_since, true);
    }

    /// The client has taken `bytes`.
    pub fn written(&self, bytes: usize) {
        let since = self.blocked_since.swap(0, Ordering::Relaxed);
        let before = self.blocked_before.load(Ordering::Relaxed);
        if since == 0 && before == 0 {
            return; // never waited for
        }
        let waited = match since {
            0 => 0,
            since => self.now().saturating_sub(since),
        };
        let earned = (bytes as u64).saturating_mul(1000) / SLOWEST_READER;
        let left = before.saturating_add(waited).saturating_sub(earned);
        self.blocked_before.store(left, Ordering::Relaxed);
    }

    fn note(&self, since: &AtomicU64, on: bool) {
        let noted = since.load(Ordering::Relaxed);
        match (on, noted) {
            (true, 0) => since.store(self.now(), Ordering::Relaxed),
            (false, 1..) => since.store(0, Ordering::Relaxed),
            (true, _) | (false, _) => {}
        }
    }

    /// Whether it carries something else.
    pub fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
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
            let before = Duration::from_millis(self.blocked_before.load(Ordering::Relaxed));
            let left = patience.write.saturating_sub(before);
            return (at(blocked, left), Overdue::SlowReader);
        }
        let busy = self.busy.load(Ordering::Relaxed);
        if busy != 0 && self.held.load(Ordering::Relaxed) >= busy {
            // HTTP/2 windows at zero: nothing is written, so nothing is blocked.
            let moved = self.moved_at.load(Ordering::Relaxed);
            return (at(moved, patience.write), Overdue::SlowReader);
        }
        if busy != 0 {
            // Being served: the pipeline's own limits hold. Looked at again after a while.
            return (Instant::now() + patience.idle, Overdue::Idle);
        }
        if let Some(why) = self.refused.get() {
            return (self.begin, Overdue::Refused(*why));
        }
        let quiet = self.quiet_since.load(Ordering::Relaxed);
        let head = self.head_since.load(Ordering::Relaxed);
        if head != 0 {
            // A head that arrived behind a request being served could not be read before.
            return (at(head.max(quiet), patience.headers), Overdue::SlowHead);
        }
        if patience.quiet < patience.idle
            && !self.is_unused()
            && self.between.load(Ordering::Relaxed)
        {
            return (at(quiet, patience.quiet), Overdue::Quiet);
        }
        (at(quiet, patience.idle), Overdue::Idle)
    }
}

/// A request being served.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Busy {
    /// From now on the connection carries no HTTP/1: this request is answered 101.
    pub fn switch(&self) {
        self.0.switched.store(true, Ordering::Relaxed);
    }
}

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
    busy: Option<Busy>,
    /// The client has what it asked for, and has not asked for more.
    held: bool,
}

impl BusyBody {
    /// `body`, as long as which `busy` lives.
    pub fn new(body: Body, busy: Option<Busy>) -> Self {
        let mut this = Self {
            body,
            busy,
            held: false,
        };
        this.hold(true);
        this
    }

    fn hold(&mut self, held: bool) {
        let Some(Busy(activity)) = &self.busy else {
            return;
        };
        if held != self.held {
            self.held = held;
            if held {
                activity.moved_at.store(activity.now(), Ordering::Relaxed);
                activity.held.fetch_add(1, Ordering::Relaxed);
            } else {
                activity.held.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for BusyBody {
    fn drop(&mut self) {
        self.hold(false);
    }
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.hold(false);
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.hold(matches!(frame, Poll::Ready(Some(Ok(_)))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
