//! HTTP towards the authority, and what its refusals mean.
//!
//! In: requests of the ACME library. Out: bounded answers in bounded time, and [`Failure`]s.
//! Specifications: RFC 8555 6.1 (https only), 6.6 (rate limits), 6.7 (problem documents).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt as _;
use instant_acme::BodyWrapper;
use instant_acme::BytesResponse;
use instant_acme::Error;
use instant_acme::HttpClient;
use instant_acme::Problem;

use crate::acme::times::Failed;
use crate::oidc::client::Client;
use crate::oidc::settings::Trust;

/// The way to the authority.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    /// What the last refusal said.
    retry_after: Arc<Mutex<Option<Duration>>>,
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl Http {
    /// # Errors
    /// The CA file is unusable.
    pub(super) fn new(
        ca_file: Option<&Path>,
        addresses: &BTreeMap<String, IpAddr>,
    ) -> Result<Self, String> {
        // The same rules as towards the issuer: https only, no redirects, names under localhost are here.
        let trust = Trust {
            ca_file: ca_file.map(PathBuf::from),
            hosts: addresses.clone(),
            total: TOTAL,
            ..Trust::default()
        };
        let client = Client::new(&trust).map_err(|error| format!("acme.{error}"))?;
        Ok(Self {
            client: client.http(),
            retry_after: Arc::default(),
        })
    }

    /// What a failed call means.
    pub(super) fn failure(&self, error: &Error) -> Failure {
        let told = self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Error::Api(problem) = error {
            return Failure::of(problem, told);
        }
        Failure {
            failed: Failed::Unreachable,
            retry_after: told,
            kind: String::new(),
            problem: readable(&innermost(error)),
        }
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let request = reqwest::Request::try_from(Request::from_parts(parts, body));
        let sent = self.client.execute(request.map_err(other)?).await;
        let answer: http::Response<reqwest::Body> = sent.map_err(other)?.into();
        let (mut parts, body) = answer.into_parts();
        let body = http_body_util::Limited::new(body, LARGEST);
        let body = body.collect().await.map_err(Error::Other)?.to_bytes();
        let told = parts.headers.remove(RETRY_AFTER);
        let told = told.as_ref().and_then(seconds);
        if let Some(told) = told {
            // The library adds it to a clock and would overflow: only what is sane goes on.
            let value = HeaderValue::from(told.as_secs());
            parts.headers.insert(RETRY_AFTER, value);
        }
        if !parts.status.is_success() {
            let mut kept = self
                .retry_after
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *kept = told;
        }
        if parts.status.is_server_error() || parts.status.is_client_error() {
            // A balancer in front of the authority answers in HTML.
            let problem = serde_json::from_slice::<Problem>(&body);
            if !problem.is_ok_and(|problem| problem.r#type.is_some()) {
                let status = parts.status;
                let text = format!("the authority answers {status} without a reason");
                return Err(Error::Other(text.into()));
            }
        }
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    }
}

impl HttpClient for Http {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        Box::pin(self.clone().send(request))
    }
}

fn other(error: reqwest::Error) -> Error {
    Error::Other(Box::new(error))
}

/// A delay in seconds; a date (RFC 9110 10.2.3) counts as none.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(86_400)))
}

/// Why there is no certificate yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) failed: Failed,
    pub(super) retry_after: Option<Duration>,
    /// The problem's type without its prefix, such as `rejectedIdentifier`; empty when the authority did not say no.
    pub(super) kind: String,
    /// For people.
    pub(super) problem: String,
}

impl Failure {
    /// Our own reason.
    pub(super) fn refused(problem: String) -> Self {
        Self {
            failed: Failed::Refused,
            retry_after: None,
            kind: String::new(),
            problem,
        }
    }

    /// Nothing was refused, it only takes long or something of ours does not answer.
    pub(super) fn later(problem: String) -> Self {
        Self {
            failed: Failed::Unreachable,
            ..Self::refused(problem)
        }
    }

    /// The authority's reason.
    pub(super) fn of(problem: &Problem, retry_after: Option<Duration>) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or("");
        let kind = kind.strip_prefix(PREFIX).unwrap_or(kind);
        let failed = match (kind, problem.status) {
            ("rateLimited", _) | (_, Some(429)) => Failed::TooOften,
            // Its own trouble, and what the library repeats by itself.
            ("serverInternal" | "badNonce", _) | (_, Some(500..)) => Failed::Unreachable,
            // A new account is made at the next try.
            ("accountDoesNotExist", _) => Failed::Unreachable,
            _ => Failed::Refused,
        };
        let detail = problem.detail.as_deref().unwrap_or("no detail");
        let further = problem
            .subproblems
            .first()
            .map_or_else(String::new, |sub| format!("; {sub}"));
        Self {
            failed,
            retry_after,
            kind: kind.to_owned(),
            problem: readable(&format!("{kind}: {detail}{further}")),
        }
    }

    /// The authority does not know our account (any more).
    pub(super) fn is_about_the_account(&self) -> bool {
        self.kind == "accountDoesNotExist"
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// One line of bounded length: it came from outside.
fn readable(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(400).collect()
}

const PREFIX: &str = "urn:ietf:params:acme:error:";
/// For one request, answer included.
const TOTAL: Duration = Duration::from_secs(20);
/// A chain of certificates has some ten thousand bytes.
const LARGEST: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(problem: &str) -> Failure {
        Failure::of(&serde_json::from_str(problem).unwrap(), None)
    }

    #[test]
    fn refusals_are_told_apart() {
        let limited = failure(
            r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many\ncertificates", "status": 429}"#,
        );
        assert_eq!(limited.failed, Failed::TooOften);
        assert_eq!(limited.problem, "rateLimited: too many certificates");
        let refused =
            failure(r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "status": 400}"#);
        assert_eq!(refused.failed, Failed::Refused);
        assert_eq!(refused.problem, "rejectedIdentifier: no detail");
        let broken = failure(r#"{"type": "about:blank", "status": 503}"#);
        assert_eq!(broken.failed, Failed::Unreachable);
        let gone = failure(r#"{"type": "urn:ietf:params:acme:error:accountDoesNotExist"}"#);
        assert!(gone.is_about_the_account());
        let endless = format!(r#"{{"type": "x", "detail": "{}"}}"#, "a".repeat(10_000));
        assert_eq!(failure(&endless).problem.len(), 400);
    }

    #[test]
    fn a_delay_is_bounded() {
        let of = |text: &'static str| seconds(&HeaderValue::from_static(text));
        assert_eq!(of(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(
            of("18446744073709551615"),
            Some(Duration::from_secs(86_400))
        );
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(of("-1"), None);
    }
}
