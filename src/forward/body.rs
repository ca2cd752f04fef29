//! Bodies between client and backend: passed on as they come, watched at both ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderName;
use http_body::Body as _;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;

use super::headers::HOP_BY_HOP;
use super::headers::NOT_IN_TRAILERS;
use super::headers::scrub_trailers;
use super::http2::Kept;
use super::pool::Lease;
use crate::listener::body::BodyCut;
use crate::model::body::Body;
use crate::model::body::BodyError;

/// How far a request's body is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Being sent; something moved last at this instant.
    Sending(Instant),
    /// All of it was taken at this instant.
    Sent(Instant),
    /// The client's side cut it.
    Cut(BodyCut),
    /// The client went away.
    Gone,
}

/// Where an upload's progress can be seen.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Mutex<Progress>>);

impl Watch {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, progress: Progress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// A request's body on its way to a backend.
#[derive(Debug)]
pub struct Upload {
    body: Body,
    watch: Watch,
    trailers: Trailers,
    /// Where the body comes back to, if nothing was done with it.
    kept: Option<Kept>,
}

/// Which of a request's trailers are passed on.
#[derive(Debug)]
enum Trailers {
    /// Those that were announced, and judged then.
    Declared(Vec<HeaderName>),
    /// Those that may be; these are the names of identity headers.
    Judged(Vec<HeaderName>),
}

impl Upload {
    /// `body`, and where its progress can be seen.
    pub fn new(body: Body) -> (Self, Watch) {
        let now = Instant::now();
        let progress = if body.is_end_stream() {
            Progress::Sent(now)
        } else {
            Progress::Sending(now)
        };
        let watch = Watch(Arc::new(Mutex::new(progress)));
        let upload = Self {
            body,
            watch: watch.clone(),
            trailers: Trailers::Declared(Vec::new()),
            kept: None,
        };
        (upload, watch)
    }

    /// Passes these trailers on.
    pub fn declare(mut self, trailers: &[HeaderName]) -> Self {
        self.trailers = Trailers::Declared(trailers.to_vec());
        self
    }

    /// Passes all trailers on that may be, declared or not; `identity` are the names set for the application.
    pub fn judge(mut self, identity: &[HeaderName]) -> Self {
        self.trailers = Trailers::Judged(identity.to_vec());
        self
    }

    /// Gives its body back there, if nothing was done with it.
    pub fn kept(mut self, kept: Option<Kept>) -> Self {
        self.kept = kept;
        self
    }

    /// Where its body comes back to.
    pub const fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// The watch of a body that was not sent yet.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_data() => {
                self.watch.set(Progress::Sending(Instant::now()));
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Ok(mut frame)) => {
                self.watch.set(Progress::Sent(Instant::now()));
                let Some(trailers) = frame.trailers_mut() else {
                    return Poll::Ready(None);
                };
                match &self.trailers {
                    // RFC 9110 6.5.1: trailers may be discarded, and those that nobody declared are.
                    Trailers::Declared(kept) => {
                        let sent = std::mem::take(trailers);
                        trailers.extend(kept.iter().flat_map(|name| {
                            sent.get_all(name).iter().map(|v| (name.clone(), v.clone()))
                        }));
                    }
                    Trailers::Judged(identity) => scrub_trailers(trailers, identity),
                }
                Poll::Ready((!trailers.is_empty()).then_some(Ok(frame)))
            }
            None => {
                self.watch.set(Progress::Sent(Instant::now()));
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                let cut = BodyCut::of(&*error);
                self.watch.set(cut.map_or(Progress::Gone, Progress::Cut));
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    /// hyper drops a body of known length after its last byte without asking for its end.
    fn drop(&mut self) {
        if matches!(self.watch.progress(), Progress::Sending(_)) {
            self.watch.set(Progress::Sent(Instant::now()));
        }
    }
}

/// A response's body, with the connection it arrives on.
///
/// SECURITY: only a body read to its end gives the connection back. One dropped before (the client has
/// left) takes the connection with it, or the rest would be the beginning of somebody's next answer.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    lease: Option<Lease>,
}

impl Download {
    /// `body`, arriving on `lease`.
    pub fn new(body: Incoming, lease: Lease) -> Self {
        let mut this = Self {
            body,
            lease: Some(lease),
        };
        this.release_at_end();
        this
    }

    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.release();
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    answered_trailers(trailers);
                }
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.lease = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.release();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn answered_trailers(trailers: &mut http::HeaderMap) {
    for name in HOP_BY_HOP.iter().chain(&NOT_IN_TRAILERS) {
        trailers.remove(name);
    }
    // Support reads these as the gateway's word.
    let ours = |name: &&HeaderName| name.as_str().starts_with("kerbgate-");
    let forged: Vec<_> = trailers.keys().filter(ours).cloned().collect();
    for name in forged {
        trailers.remove(name);
    }
}
