//! Interim responses (1xx) on their way to an HTTP/1.1 client, past hyper, whose server has no way to send one.
//!
//! In: status and headers of what a backend says before its answer. Out: bytes, which the connection's
//! [`Guard`](super::guard::Guard) writes at a moment when nothing else is half written. Specifications:
//! RFC 9110 15.2, RFC 9112, RFC 8297 (103).
//!
//! # Why that moment is safe
//!
//! hyper's HTTP/1 server flushes the wire only when its own buffer is empty, and calls the service for a
//! request only when the answer before it has gone into that buffer whole. So when a flush comes while a
//! [`Line`] is open, the wire stands between two messages. A line closes before its request's answer is
//! given to hyper, and that answer is held back until every queued byte is written.
//!
//! HTTP/2 has no such moment: there the frames are hyper's own. Clients of HTTP/2 and HTTP/1.0 get none
//! (RFC 9110 15.2 forbids it towards the latter).

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http::StatusCode;
use http::header;

use super::activity::Activity;

/// What of one request's may wait for the client, in bytes, and how many there may be: a backend that sends
/// them without end costs no more than that.
const QUEUED: usize = 64 << 10;
const PER_REQUEST: u32 = 64;

/// What waits to be written on one connection.
#[derive(Debug, Default)]
pub(super) struct Interim {
    state: Mutex<State>,
    /// Whether there is anything to write; looked at in every flush.
    waiting: AtomicBool,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Which of the connection's requests may send, by its number.
    open: Option<u64>,
    requests: u64,
    sent: u32,
    queue: Vec<u8>,
}

impl Interim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request's, whose number is the answer.
    pub(super) fn open(&self) -> u64 {
        let mut state = self.state();
        state.requests += 1;
        state.sent = 0;
        state.open = Some(state.requests);
        state.requests
    }

    /// The task to wake when there is something to write, or when all is written.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// No more of this request. False while something of it has yet to be written; the task is woken then.
    pub(super) fn close(&self, cx: &Context<'_>) -> bool {
        self.state().open = None;
        // Under the lock nothing was added since; registered first, so that its end is not missed.
        if self.waiting.load(Ordering::Acquire) {
            self.register(cx);
        }
        !self.waiting.load(Ordering::Acquire)
    }

    /// What is to be written now, if anything.
    pub(super) fn next(&self) -> Option<Bytes> {
        if !self.waiting.load(Ordering::Acquire) {
            return None;
        }
        let queue = std::mem::take(&mut self.state().queue);
        (!queue.is_empty()).then(|| Bytes::from(queue))
    }

    /// What [`Self::next`] gave is on the wire.
    pub(super) fn written(&self) {
        let done = {
            let state = self.state();
            let done = state.queue.is_empty();
            if done {
                self.waiting.store(false, Ordering::Release);
            }
            done
        };
        if done {
            self.task.wake();
        }
    }

    fn send(&self, request: u64, head: &[u8]) {
        {
            let mut state = self.state();
            let room = QUEUED.saturating_sub(state.queue.len());
            // SECURITY: what comes too late would stand in the middle of an answer, or before another's.
            if state.open != Some(request) || state.sent >= PER_REQUEST || head.len() > room {
                tracing::debug!(bytes = head.len(), "an interim response was dropped");
                return;
            }
            state.sent += 1;
            state.queue.extend_from_slice(head);
            self.waiting.store(true, Ordering::Release);
        }
        self.task.wake();
    }
}

/// The way of one request's interim responses to its client.
#[derive(Clone, Debug)]
pub struct Line {
    activity: Arc<Activity>,
    request: u64,
}

impl Line {
    pub(super) const fn new(activity: Arc<Activity>, request: u64) -> Self {
        Self { activity, request }
    }

    /// Queues an interim response; headers that say how a message is framed, and cookies, are left out.
    ///
    /// Nothing happens once the answer has begun, with 101, which is an answer, with 100, which hyper sends by
    /// itself when the request's body is read, and with any other status that is no interim one.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let hypers_own = [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS];
        if status.is_informational() && !hypers_own.contains(&status) {
            let head = written(status, headers);
            self.activity.interim.send(self.request, &head);
        }
    }
}

/// RFC 9112 4. Names and values are sound: the `http` crate keeps line ends out of both.
fn written(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in headers {
        if NEVER.contains(name) {
            continue;
        }
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// RFC 9110 8.6 and RFC 9112 6.1 forbid the framing. A cookie belongs to an answer.
const NEVER: [header::HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::CONNECTION,
    header::UPGRADE,
    header::SET_COOKIE,
];

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::HeaderValue;

    use super::*;

    fn line(activity: &Arc<Activity>) -> Line {
        Line::new(Arc::clone(activity), activity.interim.open())
    }

    fn closed(activity: &Activity) -> bool {
        activity.interim.close(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_head_is_written_without_framing_and_cookies() {
        let activity = Activity::new();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::LINK, "</a.css>; rel=preload"),
            (header::CONTENT_LENGTH, "5"),
            (header::TRANSFER_ENCODING, "chunked"),
            (header::SET_COOKIE, "a=b"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        line(&activity).send(StatusCode::EARLY_HINTS, &headers);
        let head = activity.interim.next().unwrap();
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
        assert_eq!(head, expected.as_bytes());
    }

    #[test]
    fn an_answer_waits_for_what_came_before_it() {
        let activity = Activity::new();
        let line = line(&activity);
        line.send(StatusCode::PROCESSING, &HeaderMap::new());
        assert!(!closed(&activity));
        assert!(activity.interim.next().is_some());
        assert!(!closed(&activity), "taken is not yet written");
        activity.interim.written();
        assert!(closed(&activity));
    }

    #[test]
    fn what_comes_too_late_or_is_none_is_dropped() {
        let activity = Activity::new();
        let first = line(&activity);
        assert!(closed(&activity));
        first.send(StatusCode::PROCESSING, &HeaderMap::new());
        let second = line(&activity);
        first.send(StatusCode::PROCESSING, &HeaderMap::new());
        for status in [100, 101, 200] {
            second.send(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        }
        assert!(activity.interim.next().is_none());
        second.send(StatusCode::PROCESSING, &HeaderMap::new());
        assert!(activity.interim.next().is_some());
    }

    #[test]
    fn a_flood_is_bounded() {
        let activity = Activity::new();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::LINK,
            HeaderValue::from_str(&"x".repeat(8000)).unwrap(),
        );
        let large = line(&activity);
        for _ in 0..1000 {
            large.send(StatusCode::EARLY_HINTS, &headers);
        }
        assert!(activity.interim.next().unwrap().len() <= QUEUED);
        activity.interim.written();
        let many = line(&activity);
        for _ in 0..1000 {
            many.send(StatusCode::PROCESSING, &HeaderMap::new());
        }
        let queued = activity.interim.next().unwrap();
        let heads = queued.windows(4).filter(|end| end == b"\r\n\r\n").count();
        assert_eq!(heads, PER_REQUEST as usize);
    }
}
