//! What is open ends with the session that opened it: sockets and long answers.
//!
//! In: an exchange that was let in. Out: the same, cut within [`EVERY`] and a moment when a request of the
//! same person to the same application would no longer be let in.
//!
//! # Why
//!
//! A question every two seconds, asked by what is still open, costs requests nothing: no list is kept of
//! them. It is about the session, in memory; the account on premises and a group that the token does not hold are asked about
//! more rarely, as that may take a question to the directory or to Graph. Who cannot be asked cuts nothing. A short answer of known length is not even looked at: it has left the backend before anybody could
//! ask, and waits in buffers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http::header;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use thiserror::Error;

use super::Pipeline;
use crate::authn::Authn;
use crate::authn::Stay;
use crate::authz::Authz;
use crate::mapping::Mapping;
use crate::model::application::Application;
use crate::model::body::Body;
use crate::model::body::BodyError;
use crate::model::stop::Code;
use crate::model::stop::Stop;

/// Promised are five seconds.
const EVERY: Duration = Duration::from_secs(2);
/// How often the account is asked about where nothing says how long it is believed.
const RARELY: Duration = Duration::from_secs(60);
/// What is read ahead of a client anyway.
const SHORT: u64 = 64 * 1024;

/// Whoever is asked whether an exchange may go on.
pub(super) struct Attendance {
    authn: Authn,
    authz: Authz,
    mapping: Mapping,
    app: Arc<Application>,
    /// When account and groups were asked about, too.
    asked: Instant,
    /// Nobody's in particular where nobody has to sign in: then nothing ends.
    stay: Option<Stay>,
}

/// Why it may not.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) detail: String,
}

impl Attendance {
    pub(super) fn new(pipeline: &Pipeline, app: &Arc<Application>, stay: Option<Stay>) -> Self {
        Self {
            authn: pipeline.authn.clone(),
            authz: pipeline.authz.clone(),
            mapping: pipeline.mapping.clone(),
            app: Arc::clone(app),
            asked: Instant::now(),
            stay,
        }
    }

    pub(super) fn app(&self) -> &Application {
        &self.app
    }

    /// Waits until the exchange has to end. `used` is set by whoever sees the session being used.
    pub(super) async fn refused(&mut self, used: &AtomicBool) -> Refused {
        loop {
            tokio::time::sleep(EVERY).await;
            let used = used.swap(false, Ordering::Relaxed);
            if let Err(stop) = self.ask(used).await {
                return Refused::from(stop);
            }
        }
    }

    async fn ask(&mut self, used: bool) -> Result<(), Stop> {
        let Some(stay) = &mut self.stay else {
            return Ok(());
        };
        let changed = self.authn.still_here(stay, used).await?;
        let rarely = self.mapping.believes().unwrap_or(RARELY) * 2;
        if changed.is_none() && self.asked.elapsed() < rarely {
            return Ok(());
        }
        self.asked = Instant::now();
        // A role or group was taken away, or given.
        let is_changed = changed.is_some();
        let user = changed.unwrap_or_else(|| stay.user());
        let user = match self.authz.admit(user, &self.app).await {
            Ok(user) => user,
            Err(stop) if is_changed => return Err(stop),
            Err(stop) => return only_denied(stop),
        };
        let stands = self.mapping.still_stands(&user, &self.app).await;
        stands.or_else(only_denied)
    }
}

/// Nothing that is open ends because somebody who was asked is down or busy.
fn only_denied(stop: Stop) -> Result<(), Stop> {
    match stop {
        Stop::Deny(_) | Stop::Later { .. } => Err(stop),
        Stop::Fail(_) | Stop::Reply(_) | Stop::Wait { .. } => Ok(()),
    }
}

impl From<Stop> for Refused {
    fn from(stop: Stop) -> Self {
        let (code, detail) = match stop {
            Stop::Deny(denial) | Stop::Later { denial, .. } => (denial.code, denial.detail),
            Stop::Fail(fault) => (fault.code, fault.detail),
            Stop::Reply(_) | Stop::Wait { .. } => (Code::Internal, String::new()),
        };
        Self { code, detail }
    }
}

/// A body that ended before its end because its reader may not have the rest.
#[derive(Clone, Debug, Error)]
#[error("cut: {code} ({detail})")]
pub(super) struct CutShort {
    code: Code,
    detail: String,
}

impl CutShort {
    /// The reason, if `error` is one.
    pub(super) fn of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Code> {
        error.downcast_ref::<Self>().map(|cut| cut.code)
    }
}

/// Has a long answer watched.
pub(super) fn attended(
    response: Response<Body>,
    attendance: impl FnOnce() -> Attendance,
) -> Response<Body> {
    let hint = response.body().size_hint();
    if hint.exact().is_some_and(|size| size <= SHORT) {
        return response;
    }
    // Somebody waits for a download, so it is use; events come by themselves to a forgotten window, too.
    let events = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let used = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&used);
    let (head, content) = response.into_parts();
    let mut attendance = attendance();
    let body = Attended {
        content,
        refused: Box::pin(async move { attendance.refused(&seen).await }),
        used: (!events).then_some(used),
        cut: false,
    };
    Response::from_parts(head, body.boxed_unsync())
}

struct Attended {
    content: Body,
    refused: Pin<Box<dyn Future<Output = Refused> + Send>>,
    used: Option<Arc<AtomicBool>>,
    cut: bool,
}

impl HttpBody for Attended {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.cut {
            return Poll::Ready(None);
        }
        // First: what a client that reads slowly has not fetched yet is not to follow.
        if let Poll::Ready(Refused { code, detail }) = self.refused.as_mut().poll(cx) {
            self.cut = true;
            return Poll::Ready(Some(Err(Box::new(CutShort { code, detail }))));
        }
        let frame = ready!(Pin::new(&mut self.content).poll_frame(cx));
        if let (Some(used), Some(Ok(_))) = (&self.used, &frame) {
            used.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stop::Side;

    #[test]
    fn a_denial_cuts_and_somebody_who_is_down_does_not() {
        let down = Stop::fail(Code::DirectoryUnreachable, Side::Directory, String::new());
        assert!(only_denied(down).is_ok());
        let busy = Stop::Wait {
            again_in: Duration::from_secs(1),
        };
        assert!(only_denied(busy).is_ok());
        assert!(only_denied(Stop::deny(Code::AccountDisabled, "")).is_err());
    }
}
