//! Bodies on their way through: they know when they last moved, and give their connection back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;
use hyper::client::conn::http1::SendRequest;

use crate::forward::pool::Key;
use crate::forward::pool::Pool;
use crate::model::body::Body;
use crate::model::body::BodyError;

/// When a request's body last moved.
#[derive(Clone, Debug)]
pub struct Activity {
    began: Instant,
    moved: Arc<AtomicU64>,
}

impl Activity {
    /// Nothing moved yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            moved: Arc::default(),
        }
    }

    /// How long nothing has moved.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(moved)
    }

    fn note(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

/// A request's body on its way to the backend. Trailers end here: a header smuggled as a trailer would
/// come after the scrubbing.
pub(super) struct Outgoing {
    pub(super) body: Body,
    pub(super) activity: Activity,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.activity.note();
        match frame {
            Some(Ok(frame)) if frame.is_trailers() => Poll::Ready(None),
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body; when it was read to its end, its connection goes back to the pool.
///
/// SECURITY: dropped earlier, it takes the connection with it. A connection with unread bytes would give
/// the rest of this answer to the next person who asks.
pub(super) struct Incoming<B> {
    pub(super) body: B,
    pub(super) lease: Option<Lease>,
}

/// A connection in use, and where it goes afterwards.
pub(super) struct Lease {
    pub(super) pool: Pool,
    pub(super) key: Key,
    pub(super) sender: SendRequest<Body>,
}

impl Lease {
    /// Puts the connection back once it has settled.
    pub(super) fn give_back(mut self) {
        if self.sender.is_ready() {
            self.pool.put(self.key, self.sender);
            return;
        }
        // The request's body may still be on its way; a connection that does not settle is closed.
        tokio::spawn(async move {
            let settled = tokio::time::timeout(Duration::from_secs(5), self.sender.ready()).await;
            if matches!(settled, Ok(Ok(()))) {
                self.pool.put(self.key, self.sender);
            }
        });
    }
}

impl<B> HttpBody for Incoming<B>
where
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let sound = match &frame {
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) => {
                self.lease = None;
                false
            }
            None => true,
        };
        if sound && let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
