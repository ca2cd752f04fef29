//! The few questions Kerbgate asks Microsoft Graph: is this person in one of these groups, and is the person enabled.
//!
//! In: an object id. Out: group ids, or what Graph says of the person. Knows nothing of applications. Only object ids
//! stand in URLs, the host is the configured one, and addresses that come with tokens are never followed.
//!
//! Specification: Microsoft Graph v1.0, `checkMemberGroups` (at most 20 ids a call, nested groups included), `users/{id}`,
//! throttling (429 and 503 with `Retry-After`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use moka::future::Cache;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use crate::model::secret::Secret;

/// Settings of the room.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base address; default `https://graph.microsoft.com/v1.0`.
    pub base_url: Url,
    /// `scope` of the token that opens it; default `https://graph.microsoft.com/.default`.
    pub scope: String,
    /// How long an answer about a person is believed; default 5 min.
    pub remember: Duration,
    /// Time for one question, throttling included; default 8 s.
    pub deadline: Duration,
    /// How many people's answers are kept; default 20 000.
    pub capacity: u64,
}

impl Settings {
    /// Microsoft's world-wide cloud.
    ///
    /// # Errors
    /// Never for the fixed address.
    pub fn microsoft() -> Result<Self, url::ParseError> {
        Ok(Self {
            base_url: Url::parse("https://graph.microsoft.com/v1.0")?,
            scope: "https://graph.microsoft.com/.default".to_owned(),
            remember: Duration::from_secs(300),
            deadline: Duration::from_secs(8),
            capacity: 20_000,
        })
    }
}

/// Why Graph gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The base address is unusable.
    #[error("graph base_url {0:?} is not an https URL")]
    Setting(String),
    /// No access token for Graph.
    #[error("no access token for graph: {0}")]
    Token(String),
    /// No answer in time.
    #[error("graph does not answer: {0}")]
    Unreachable(String),
    /// Throttled beyond the deadline.
    #[error("graph asks to come back in {}s", retry_after.as_secs())]
    Throttled {
        /// What `Retry-After` said.
        retry_after: Duration,
    },
    /// Graph refused.
    #[error(
        "graph answered {status} {code:?} to {question}: does the app registration have the permission?"
    )]
    Refused {
        /// What was asked.
        question: &'static str,
        /// The HTTP status.
        status: u16,
        /// Graph's `error.code`.
        code: String,
    },
    /// The person does not exist (any more).
    #[error("graph knows no user {0}")]
    UserUnknown(Uuid),
    /// An answer that is too large or of another shape.
    #[error("graph answered something unusable to {0}")]
    Answer(&'static str),
}

/// An access token for Graph, with the time it lasts.
#[derive(Debug)]
pub struct Token {
    /// The token, opaque to us.
    pub token: Secret<String>,
    /// How long it lasts.
    pub lasts: Duration,
}

/// A token being fetched.
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<Token, String>> + Send>>;

/// Where access tokens come from: the issuer's client-credentials grant, handed in so that the two tools stay apart.
pub type TokenSource = Arc<dyn Fn() -> TokenFuture + Send + Sync>;

/// What Graph says of a person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The object id.
    pub id: Uuid,
    /// False when the cloud account is disabled.
    pub account_enabled: Option<bool>,
    /// `Guest` or `Member`.
    pub user_type: Option<String>,
    /// The cloud UPN.
    pub user_principal_name: Option<String>,
    /// The display name.
    pub display_name: Option<String>,
    /// The first name.
    pub given_name: Option<String>,
    /// The last name.
    pub surname: Option<String>,
    /// The e-mail address.
    pub mail: Option<String>,
    /// The company.
    pub company_name: Option<String>,
    /// True when the account comes from a directory on premises.
    pub on_premises_sync_enabled: Option<bool>,
    /// Its SID there.
    pub on_premises_security_identifier: Option<String>,
}

/// Microsoft Graph, as the gateway's own application.
#[derive(Clone)]
pub struct Graph {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    http: reqwest::Client,
    source: TokenSource,
    token: Mutex<Option<Held>>,
    members: Cache<(Uuid, Uuid), bool>,
}

struct Held {
    token: Secret<String>,
    until: Instant,
}

#[derive(Deserialize)]
struct Ids {
    value: Vec<Uuid>,
}

#[derive(Deserialize)]
struct Problem {
    error: ProblemCode,
}

#[derive(Deserialize)]
struct ProblemCode {
    code: String,
}

/// One question, so that it can be asked again.
struct Question<'a> {
    name: &'static str,
    url: &'a Url,
    body: Option<serde_json::Value>,
}

impl Graph {
    /// A client of the Graph at `settings.base_url`.
    ///
    /// # Errors
    /// The base address is no https URL.
    pub fn new(
        settings: Settings,
        http: reqwest::Client,
        source: TokenSource,
    ) -> Result<Self, Error> {
        if settings.base_url.scheme() != "https" || settings.base_url.cannot_be_a_base() {
            return Err(Error::Setting(settings.base_url.to_string()));
        }
        let members = Cache::builder()
            .max_capacity(settings.capacity)
            .time_to_live(settings.remember)
            .build();
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                http,
                source,
                token: Mutex::new(None),
                members,
            }),
        })
    }

    /// Which of `groups` the person is a member of, directly or through other groups.
    ///
    /// # Errors
    /// Graph gave no answer about at least one of them: nothing may then be concluded.
    pub async fn check_member_groups(
        &self,
        oid: Uuid,
        groups: &[Uuid],
    ) -> Result<Vec<Uuid>, Error> {
        let mut member_of = Vec::new();
        let mut unknown = Vec::new();
        for group in groups {
            match self.inner.members.get(&(oid, *group)).await {
                Some(true) => member_of.push(*group),
                Some(false) => {}
                None => unknown.push(*group),
            }
        }
        for chunk in unknown.chunks(MAX_IDS) {
            let url = self.url(&["users", &oid.to_string(), "checkMemberGroups"])?;
            let ids: Ids = self
                .ask(
                    &Question {
                        name: "checkMemberGroups",
                        url: &url,
                        body: Some(json!({ "groupIds": chunk })),
                    },
                    oid,
                )
                .await?;
            for group in chunk {
                let member = ids.value.contains(group);
                self.inner.members.insert((oid, *group), member).await;
            }
            member_of.extend(chunk.iter().filter(|group| ids.value.contains(group)));
        }
        Ok(member_of)
    }

    /// What Graph says of the person, never from memory.
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such person.
    pub async fn user(&self, oid: Uuid) -> Result<User, Error> {
        let mut url = self.url(&["users", &oid.to_string()])?;
        url.query_pairs_mut().append_pair("$select", SELECT);
        self.ask(
            &Question {
                name: "users",
                url: &url,
                body: None,
            },
            oid,
        )
        .await
    }

    /// What Graph says of the person with this UPN: for administrators' questions. A UPN names nobody in a
    /// request (`model::names::PersonId` does).
    ///
    /// # Errors
    /// Graph gave no answer, or knows no such person.
    pub async fn user_by_upn(&self, upn: &str) -> Result<User, Error> {
        let mut url = self.url(&["users", upn])?;
        url.query_pairs_mut().append_pair("$select", SELECT);
        let question = Question {
            name: "users",
            url: &url,
            body: None,
        };
        self.ask(&question, Uuid::nil()).await
    }

    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.inner.settings.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Setting(self.inner.settings.base_url.to_string()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        question: &Question<'_>,
        oid: Uuid,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.inner.settings.deadline;
        let mut fresh_token = false;
        for attempt in 1.. {
            let token = self.token(fresh_token).await?;
            let (status, retry_after, body) = self.send(question, &token, deadline).await?;
            match status {
                StatusCode::OK => {
                    return serde_json::from_slice(&body).map_err(|_| Error::Answer(question.name));
                }
                StatusCode::NOT_FOUND => return Err(Error::UserUnknown(oid)),
                // Revoked before its time: once with a new one.
                StatusCode::UNAUTHORIZED if attempt == 1 => fresh_token = true,
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => {
                    wait(retry_after, attempt, deadline).await?;
                    fresh_token = false;
                }
                other => return Err(refused(question.name, other, &body)),
            }
        }
        Err(Error::Answer(question.name))
    }

    async fn send(
        &self,
        question: &Question<'_>,
        token: &str,
        deadline: Instant,
    ) -> Result<(StatusCode, Option<Duration>, Vec<u8>), Error> {
        let unreachable = |e: reqwest::Error| Error::Unreachable(innermost(&e));
        let http = &self.inner.http;
        let request = match &question.body {
            Some(body) => http.post(question.url.clone()).json(body),
            None => http.get(question.url.clone()),
        };
        let mut response = request
            .bearer_auth(token)
            .header("x-ms-throttle-priority", "High") // a person is waiting
            .timeout(deadline.saturating_duration_since(Instant::now()))
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::Answer(question.name));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, retry_after, body))
    }

    /// One token for all; whoever comes first fetches it, the others wait behind the lock.
    async fn token(&self, fresh: bool) -> Result<String, Error> {
        let mut held = self.inner.token.lock().await;
        if let Some(held) = held
            .as_ref()
            .filter(|held| !fresh && Instant::now() < held.until)
        {
            return Ok(held.token.expose().clone());
        }
        let got = (self.inner.source)().await.map_err(Error::Token)?;
        let text = got.token.expose().clone();
        *held = Some(Held {
            token: got.token,
            // Not to the last second: a call must not arrive with a token that died on the way.
            until: Instant::now() + got.lasts.saturating_sub(Duration::from_secs(120)),
        });
        Ok(text)
    }
}

/// Waits as long as Graph asks, if there is so much time.
async fn wait(retry_after: Option<Duration>, attempt: u32, deadline: Instant) -> Result<(), Error> {
    // Never before `Retry-After`; without one, a growing pause.
    let pause = retry_after.unwrap_or_else(|| {
        Duration::from_millis(250).saturating_mul(2_u32.saturating_pow(attempt))
    });
    if Instant::now() + pause >= deadline {
        return Err(Error::Throttled { retry_after: pause });
    }
    tokio::time::sleep(pause).await;
    Ok(())
}

fn refused(question: &'static str, status: StatusCode, body: &[u8]) -> Error {
    let code = serde_json::from_slice::<Problem>(body)
        .map(|problem| problem.error.code.chars().take(80).collect())
        .unwrap_or_default();
    Error::Refused {
        question,
        status: status.as_u16(),
        code,
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Graph's limit for `checkMemberGroups`.
const MAX_IDS: usize = 20;
const MAX_ANSWER: usize = 256 * 1024;
const SELECT: &str = "id,accountEnabled,userType,userPrincipalName,displayName,givenName,surname,mail,companyName,\
onPremisesSyncEnabled,onPremisesSecurityIdentifier";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_object_ids_stand_in_urls() {
        let settings = Settings::microsoft().unwrap();
        let source: TokenSource = Arc::new(|| Box::pin(async { Err("none".to_owned()) }));
        let graph = Graph::new(settings, reqwest::Client::new(), source).unwrap();
        assert_eq!(
            graph
                .url(&["users", "1111", "checkMemberGroups"])
                .unwrap()
                .as_str(),
            "https://graph.microsoft.com/v1.0/users/1111/checkMemberGroups"
        );
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_concluded() {
        let source: TokenSource = Arc::new(|| Box::pin(async { Err("secret expired".to_owned()) }));
        let graph = Graph::new(
            Settings::microsoft().unwrap(),
            reqwest::Client::new(),
            source,
        )
        .unwrap();
        let error = graph
            .check_member_groups(Uuid::from_u128(1), &[Uuid::from_u128(2)])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no access token for graph: secret expired"
        );
        assert!(
            graph
                .check_member_groups(Uuid::from_u128(1), &[])
                .await
                .unwrap()
                .is_empty()
        );
    }
}
