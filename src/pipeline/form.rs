//! A form whose session had ended: read, kept, and later sent in the place of the request that came back for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::header;
use http::request::Parts;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::body::Incoming;

use super::Pipeline;
use crate::authn::Authn;
use crate::authn::kept_form::Resumed;
use crate::listener::body::IdleBody;
use crate::model::application::Application;
use crate::model::body::Body;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::route::target::Target;
use crate::store::records::KeptForm;

/// Keeps the form and answers with the way to sign in; `stop` says what else would have been answered.
///
/// # Errors
/// `stop` for a form that may not be kept, `form-not-kept` for one that is too large.
pub(super) async fn keep(
    pipeline: &Pipeline,
    stop: Stop,
    head: &Parts,
    content: Incoming,
    (app, target): (&Application, &Target),
) -> Result<Response<Body>, Stop> {
    let authn = &pipeline.authn;
    let Some(keepable) = authn.keepable(head, app, target.as_str()).await? else {
        return Err(stop);
    };
    let body = read(content, app).await?;
    authn
        .keep(keepable, head, app, target.as_str(), &body)
        .await
}

async fn read(content: Incoming, app: &Application) -> Result<Bytes, Stop> {
    let limit = app.limits.keep_form;
    let not_kept = |why: String| Stop::deny(Code::FormNotKept, why);
    // Refused before it was read: the browser still has all of it.
    if HttpBody::size_hint(&content).lower() > limit {
        return Err(not_kept(format!("the form is larger than {limit} bytes")));
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let content = Limited::new(IdleBody::new(content, app.limits.idle), most);
    let collected = content.collect().await;
    let collected = collected.map_err(|error| not_kept(format!("the form: {error}")))?;
    Ok(collected.to_bytes())
}

/// A form on its way to the backend.
pub(super) struct OnItsWay {
    record: KeptForm,
    touched: Arc<AtomicBool>,
}

/// The form in the place of the request that came for it.
pub(super) fn resumed(mut head: Parts, form: Resumed) -> (Request<Body>, Option<OnItsWay>) {
    let record = form.record();
    head.method = form.method;
    // A page's address asks for no part of anything, and nothing is known of the answer to a form.
    for name in [
        header::RANGE,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
    ] {
        head.headers.remove(name);
    }
    for (name, value) in &form.headers {
        head.headers.insert(name.clone(), value.clone());
    }
    let touched = Arc::new(AtomicBool::new(false));
    let body = Noticing {
        body: Full::new(form.body),
        touched: Arc::clone(&touched),
    };
    let request = Request::from_parts(head, body.map_err(|never| match never {}).boxed_unsync());
    (request, Some(OnItsWay { record, touched }))
}

/// What became of it: a form of which the backend got nothing is kept for the next try.
pub(super) async fn sent(
    authn: &Authn,
    form: OnItsWay,
    sent: Result<Response<Body>, Stop>,
) -> Result<Response<Body>, Stop> {
    if sent.is_err() && !form.touched.load(Ordering::Relaxed) {
        authn.put_back(&form.record).await;
    }
    sent
}

/// A body that notices when somebody takes the first piece of it.
struct Noticing {
    body: Full<Bytes>,
    touched: Arc<AtomicBool>,
}

impl HttpBody for Noticing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.touched.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
