//! Which other sites' scripts may speak to an application (Fetch Standard, 3.2 "CORS protocol").

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::header;

/// What happens to a preflight, and who may come with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Who answers a preflight.
    pub preflight: Preflight,
    /// Origins as browsers write them, `https://app.example.com`.
    pub origins: Vec<HeaderValue>,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`; none where no header of its own is allowed.
    pub headers: Option<HeaderValue>,
    /// Whether their requests may carry the visitor's session.
    pub credentials: bool,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: HeaderValue,
}

/// Who answers a preflight: it never carries a cookie, so nobody can sign it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// Nobody: it ends as any request without a session.
    Refuse,
    /// The backend, which is not told who asks.
    Backend,
    /// The gateway, which marks the answers to the requests themselves too.
    Answer,
}

impl Cors {
    /// The request's origin, if it is a listed one.
    #[must_use]
    pub fn listed(&self, headers: &HeaderMap) -> Option<&HeaderValue> {
        let mut all = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (all.next(), all.next()) else {
            return None;
        };
        self.origins.iter().find(|listed| *listed == origin)
    }

    /// True when the request's origin may use the visitor's session.
    #[must_use]
    pub fn trusts(&self, headers: &HeaderMap) -> bool {
        self.credentials && self.listed(headers).is_some()
    }

    /// What the answer to a preflight says besides [`Self::mark`].
    pub fn answer_preflight(&self, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(headers) = &self.headers {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
    }

    /// What `origin`'s browser wants to see on every answer.
    pub fn mark(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            answer.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        // A cache must not give one origin's answer to another.
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// True for a preflight's head.
#[must_use]
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
