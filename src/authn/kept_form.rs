//! A form that was sent after its session had ended: kept, and sent again once its person is back.
//!
//! In: a form's head and body. Out: the sign-in, with a cookie that finds the form again; later, on the way back to the
//! same address, the form itself, once.
//!
//! # Why like this
//! - The person is known: the cookie of the expired session names them. Whoever signs in as somebody else does not send
//!   it; a form of nobody in particular is not kept.
//! - SECURITY: only a form that its own site's page sent is kept. Otherwise any page on the web could have a request made
//!   in the name of whoever signs in next.
//! - The gateway sends it, at the address it was sent to, not a page with a script: so any content type goes, and the
//!   answer's relative links are right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use serde::Deserialize;
use serde::Serialize;

use super::Authn;
use super::answer;
use super::cookie;
use super::fetch;
use super::random;
use super::reason;
use super::seal::Purpose;
use super::session::Found;
use super::sign_in::safe_target;
use crate::model::application::Application;
use crate::model::body::Body;
use crate::model::names::PersonId;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::store::records::IdHash;
use crate::store::records::KeepLimits;
use crate::store::records::KeptForm;

/// That a form may be kept, and whose it is.
#[derive(Debug)]
pub struct Keepable {
    person: PersonId,
}

/// A form whose person is back.
#[derive(Debug)]
pub struct Resumed {
    record: KeptForm,
    /// Its method.
    pub method: Method,
    /// The headers that belong to its content.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Content {
    method: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// What describes the content, and what applications check against forgery.
const KEPT_HEADERS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::ORIGIN,
    header::REFERER,
];
const PER_PERSON: u32 = 5;
const OVERALL: u64 = 256 << 20;

impl Authn {
    /// Whether the form that begins with `head` may be kept: its session expired, and its own site sent it.
    ///
    /// # Errors
    /// Two cookies, or the store does not answer.
    pub async fn keepable(
        &self,
        head: &Parts,
        app: &Application,
        target: &str,
    ) -> Result<Option<Keepable>, Stop> {
        let origin = answer::origin(&app.published_url);
        let known = safe_target(target) == target && fetch::is_own(head, &origin);
        if !known || app.limits.keep_form == 0 {
            return Ok(None);
        }
        match self.inner.sessions.find(&head.headers, &app.host).await? {
            Found::Expired(person) => Ok(Some(Keepable { person })),
            Found::Live(..) | Found::Ended(_) | Found::Nothing => Ok(None),
        }
    }

    /// Keeps the form and sends the browser to sign in.
    ///
    /// # Errors
    /// `form-not-kept` when there is no room for it; the store does not answer; a sign-in cannot begin.
    pub async fn keep(
        &self,
        keepable: Keepable,
        head: &Parts,
        app: &Application,
        target: &str,
        body: &[u8],
    ) -> Result<Response<Body>, Stop> {
        let inner = &self.inner;
        let begun = match inner.begin(head, app, target).await? {
            Stop::Reply(response) => response,
            other @ (Stop::Deny(_) | Stop::Later { .. } | Stop::Fail(_) | Stop::Wait { .. }) => {
                return Err(other);
            }
        };
        let id = random::id()?;
        let content = Content::of(head, body);
        let content =
            serde_json::to_string(&content).map_err(|e| reason::internal(&e.to_string()))?;
        let record = KeptForm {
            hash: IdHash::of(&id),
            person: keepable.person,
            app: app.id.to_string(),
            target: target.to_owned(),
            content: inner
                .keyring
                .seal(Purpose::KeptForm, &id, &content)
                .map_err(|e| reason::internal(&e.to_string()))?,
            expires: inner.clock.unix_after(inner.settings.sign_in),
        };
        if !inner.put(&record).await? {
            let detail = "the store keeps as many forms as it may";
            return Err(Stop::deny(Code::FormNotKept, detail));
        }
        tracing::info!(
            target: "audit",
            event = "form-kept",
            person = %record.person,
            application = %app.id,
            bytes = body.len(),
        );
        let mut response = *begun;
        // RFC 9110 15.4.4: whatever was sent, the next request is a GET.
        *response.status_mut() = StatusCode::SEE_OTHER;
        let cookie = cookie::form(&id, inner.settings.sign_in)?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
        Ok(response)
    }

    /// The form that waits for `person` at this address, once; `None` without a cookie for one.
    ///
    /// # Errors
    /// `form-of-another` when somebody else signed in than had filled it in; two cookies; the store does not answer.
    pub async fn resume(
        &self,
        head: &Parts,
        app: &Application,
        person: PersonId,
        target: &str,
    ) -> Result<Option<Resumed>, Stop> {
        if head.method != Method::GET || !cookie::may_hold(&head.headers, &cookie::FORM_FINDER) {
            return Ok(None);
        }
        let Some(id) = cookie::read(&head.headers, cookie::FORM)? else {
            return Ok(None);
        };
        let inner = &self.inner;
        let hash = IdHash::of(id);
        let taken = inner.store.take_form(&hash, inner.clock.unix()).await;
        let Some(record) = taken.map_err(|e| reason::store(&e))? else {
            return Ok(None);
        };
        // Another tab comes first: the form waits for its own address.
        if record.app != app.id.as_str() || record.target != target {
            inner.put(&record).await?;
            return Ok(None);
        }
        if record.person != person {
            tracing::info!(
                target: "audit",
                event = "form-discarded",
                person = %record.person,
                signed_in = %person,
                application = %app.id,
            );
            return Err(Stop::deny(
                Code::FormOfAnother,
                format!("it was filled in by {}", record.person),
            ));
        }
        let content = inner
            .keyring
            .open(Purpose::KeptForm, id, &record.content)
            .map_err(|e| reason::internal(&format!("a kept form: {e}")))?;
        let content: Content = serde_json::from_str(content.expose())
            .map_err(|e| reason::internal(&format!("a kept form: {e}")))?;
        tracing::info!(
            target: "audit",
            event = "form-resumed",
            person = %record.person,
            application = %app.id,
        );
        content.resumed(record).map(Some)
    }

    /// Keeps a form that was taken and could not be sent.
    pub async fn put_back(&self, record: &KeptForm) {
        if let Err(stop) = self.inner.put(record).await {
            tracing::warn!(?stop, "a kept form is lost");
        }
    }
}

impl super::Inner {
    async fn put(&self, record: &KeptForm) -> Result<bool, Stop> {
        let limits = KeepLimits {
            per_person: PER_PERSON,
            overall: OVERALL,
            now: self.clock.unix(),
        };
        let kept = self.store.keep_form(record, limits).await;
        kept.map_err(|e| reason::store(&e))
    }
}

impl Resumed {
    /// The record, to be put back if nothing was sent.
    #[must_use]
    pub fn record(&self) -> KeptForm {
        self.record.clone()
    }
}

impl Content {
    fn of(head: &Parts, body: &[u8]) -> Self {
        let kept = KEPT_HEADERS.iter().filter_map(|name| {
            let value = head.headers.get(name)?.to_str().ok()?;
            Some((name.to_string(), value.to_owned()))
        });
        Self {
            method: head.method.to_string(),
            headers: kept.collect(),
            body: STANDARD.encode(body),
        }
    }

    fn resumed(self, record: KeptForm) -> Result<Resumed, Stop> {
        let unreadable = |what: &str| reason::internal(&format!("a kept form's {what}"));
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| unreadable("headers"))?;
            let value = HeaderValue::from_str(value).map_err(|_| unreadable("headers"))?;
            headers.insert(name, value);
        }
        let body = STANDARD
            .decode(&self.body)
            .map_err(|_| unreadable("body"))?;
        Ok(Resumed {
            record,
            method: self.method.parse().map_err(|_| unreadable("method"))?,
            headers,
            body: body.into(),
        })
    }
}
