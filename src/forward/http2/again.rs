//! What was sent of a request's body, kept until it is known that the request was taken.
//!
//! In: a body on its way. Out: the same body from its beginning, if the backend did nothing with it.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::HeaderName;
use http_body::Body as _;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use crate::forward::body::Upload;
use crate::model::body;
use crate::model::body::Body;
use crate::model::body::BodyError;

/// How much of a body is kept, in bytes: a call's message, not an upload.
const KEPT: usize = 64 * 1024;
/// hyper drops a body within the task that sends it, a moment after it told of the failure.
const SOON: Duration = Duration::from_secs(1);

/// Where a body comes back to, once whoever sent it has dropped it.
#[derive(Debug)]
pub struct Kept {
    back: oneshot::Receiver<Body>,
    identity: Vec<HeaderName>,
}

/// A body that remembers its beginning.
struct Recording {
    /// Absent once it is given back.
    body: Option<Body>,
    /// What was sent; `None` once that is too much, or nobody wants it any more.
    sent: Option<Vec<Bytes>>,
    size: usize,
    ended: bool,
    back: Option<oneshot::Sender<Body>>,
}

/// A body whose beginning was sent before.
struct Resumed {
    sent: std::vec::IntoIter<Bytes>,
    body: Body,
}

/// `content` on its way to an HTTP/2 backend; `identity` are the names of identity headers.
pub fn upload(content: Body, identity: &[HeaderName]) -> Upload {
    if content.is_end_stream() {
        return Upload::new(content).0;
    }
    let (back, kept) = oneshot::channel();
    let recording = Recording {
        body: Some(content),
        sent: Some(Vec::new()),
        size: 0,
        ended: false,
        back: Some(back),
    };
    Upload::new(recording.boxed_unsync())
        .0
        .judge(identity)
        .kept(Some(Kept {
            back: kept,
            identity: identity.to_vec(),
        }))
}

/// The body to send once more, if `error` proves that the backend did nothing with the request, and all that
/// was sent of it is still there.
pub async fn unprocessed(error: &hyper::Error, kept: Option<Kept>) -> Option<Upload> {
    if !is_proof(error) {
        return None;
    }
    let Some(Kept { back, identity }) = kept else {
        return Some(Upload::new(body::empty()).0);
    };
    let content = tokio::time::timeout(SOON, back).await.ok()?.ok()?;
    Some(Upload::new(content).0.judge(&identity))
}

/// RFC 9113 8.7: the two ways in which a server says so. A connection that ended in any other way proves nothing.
fn is_proof(error: &hyper::Error) -> bool {
    cause(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // h2 tells of a GOAWAY on streams above its last one only.
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// True when what came is no HTTP/2: a server of HTTP/1.1, for example, that answers our preface with a 400.
#[must_use]
pub fn is_nonsense(error: &hyper::Error) -> bool {
    cause(error).is_some_and(|error| error.is_library() && error.is_go_away())
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

impl Recording {
    fn record(&mut self, data: &Bytes) {
        let unwanted = self.back.as_ref().is_none_or(oneshot::Sender::is_closed);
        self.size = self.size.saturating_add(data.len());
        match &mut self.sent {
            Some(sent) if !unwanted && self.size <= KEPT => sent.push(data.clone()),
            Some(_) | None => self.sent = None,
        }
    }
}

impl http_body::Body for Recording {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => self.record(data),
                // Trailers: rare, and not worth remembering.
                None => self.sent = None,
            },
            Some(Err(_)) => self.sent = None,
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(|body| body.size_hint());
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let (Some(body), Some(sent), Some(back)) =
            (self.body.take(), self.sent.take(), self.back.take())
        {
            let body = if self.ended { body::empty() } else { body };
            let sent = sent.into_iter();
            // Nobody waits for it: the request was taken.
            drop(back.send(Resumed { sent, body }.boxed_unsync()));
        }
    }
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.sent.next() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent.as_slice().is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let sent: usize = self.sent.as_slice().iter().map(Bytes::len).sum();
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(sent as u64));
        }
        hint.set_lower(rest.lower().saturating_add(sent as u64));
        hint
    }
}
