//! One question, asked until it is answered or patience ends: the token, the budget, the tries.
//!
//! A person waits eight seconds at most; a synchronization is more patient and waits in the background.

use std::time::Duration;
use std::time::Instant;

use reqwest::StatusCode;
use url::Url;
use uuid::Uuid;

use super::Graph;
use super::budget::Priority;
use super::error::Error;
use super::error::code;
use super::error::innermost;
use super::error::is_there_already;
use super::error::told;
use super::link::Link;
use super::question::Question;
use super::question::Write;
use super::retry::retry_after;
use crate::model::clock::Clock;
use crate::telemetry::metrics::metrics;

/// One question, so that it can be asked again.
pub(super) struct Call<'a> {
    pub(super) question: &'a Question,
    pub(super) url: &'a Url,
    pub(super) body: Option<serde_json::Value>,
    /// Who or what a 404 is about; nothing is missing from a list.
    pub(super) about: About,
    pub(super) priority: Priority,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    User(Uuid),
    Object(Uuid),
    List,
}

/// What came back.
struct Got {
    status: StatusCode,
    retry_after: Option<Duration>,
    location: Option<String>,
    body: Vec<u8>,
}

/// What to do about it.
enum Verdict {
    Answered(Vec<u8>),
    /// Try again; the error is what is told when patience has ended.
    Again(Option<Duration>, Error),
    /// Revoked before its time.
    NewToken,
    No(Error),
}

impl Graph {
    /// The answer's body.
    ///
    /// # Errors
    /// Graph gave no answer, or refused.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Vec<u8>, Error> {
        let patience = &self.inner.settings.patience;
        let began = Instant::now();
        let deadline = match call.priority {
            Priority::SignIn => began + self.inner.settings.deadline,
            Priority::Sync => began + LONGEST_SYNC,
        };
        let mut rejected: Option<String> = None;
        for attempt in 1.. {
            let cost = call.question.cost;
            self.inner
                .budget
                .admit(call.priority, cost, deadline)
                .await?;
            let token = self.token(rejected.as_deref()).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let time = match call.priority {
                Priority::SignIn => left,
                Priority::Sync => left.min(patience.one_try),
            };
            let (told, why) = match self.attempt(call, &token, time).await {
                Verdict::Answered(body) => return Ok(body),
                Verdict::No(error) => return Err(error),
                Verdict::NewToken if rejected.is_none() => {
                    rejected = Some(token);
                    continue;
                }
                Verdict::NewToken => {
                    return Err(Error::Refused {
                        question: call.question.name,
                        status: 401,
                        code: "InvalidAuthenticationToken".to_owned(),
                    });
                }
                Verdict::Again(told, why) => (told, why),
            };
            // Never before `Retry-After`; without one, a growing pause.
            let pause = told.unwrap_or_else(|| patience.pause(attempt, dice()));
            let left = deadline.saturating_duration_since(Instant::now());
            let tired = call.priority == Priority::Sync && attempt >= patience.tries;
            if tired || pause > patience.longest_pause || pause >= left {
                let throttled = matches!(why, Error::Throttled { .. });
                return Err(if throttled {
                    Error::Throttled { retry_after: pause }
                } else {
                    why
                });
            }
            if told.is_some() {
                self.inner.budget.pause(pause);
            }
            tokio::time::sleep(pause).await;
        }
        Err(Error::Answer(call.question.name))
    }

    async fn attempt(&self, call: &Call<'_>, token: &str, time: Duration) -> Verdict {
        let began = Instant::now();
        let sent = self.send(call, token, time).await;
        let verdict = match sent {
            Ok(got) => self.judged(call, got),
            // Whether something was made or sent, nobody knows: who looks again will see.
            Err(error) if call.question.write == Some(Write::PostOnce) => Verdict::No(error),
            // Half an answer or none. A person's time is up by then, or nearly; a synchronization asks again.
            Err(error @ Error::Unreachable(_)) if call.priority == Priority::Sync => {
                Verdict::Again(None, error)
            }
            Err(error) => Verdict::No(error),
        };
        let trouble = match &verdict {
            Verdict::Answered(_) => None,
            Verdict::Again(_, Error::Throttled { .. }) => Some("throttled"),
            Verdict::Again(..) | Verdict::NewToken | Verdict::No(_) => Some("failed"),
        };
        metrics().graph(call.question.name, began.elapsed(), trouble);
        verdict
    }

    fn judged(&self, call: &Call<'_>, got: Got) -> Verdict {
        let question = call.question.name;
        match got.status {
            StatusCode::OK => Verdict::Answered(got.body),
            StatusCode::CREATED | StatusCode::NO_CONTENT if call.question.write.is_some() => {
                Verdict::Answered(got.body)
            }
            // Sent again after a lost answer, or by somebody else meanwhile: what was wanted is so.
            StatusCode::BAD_REQUEST
                if call.question.write == Some(Write::Post) && is_there_already(&got.body) =>
            {
                Verdict::Answered(Vec::new())
            }
            StatusCode::GATEWAY_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
                if call.question.write == Some(Write::PostOnce) =>
            {
                Verdict::No(self.refused(call, &got))
            }
            StatusCode::UNAUTHORIZED => Verdict::NewToken,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let retry_after = got.retry_after.unwrap_or_default();
                Verdict::Again(got.retry_after, Error::Throttled { retry_after })
            }
            StatusCode::GONE => Verdict::No(self.forgotten(call, got.location.as_deref())),
            StatusCode::NOT_FOUND => Verdict::No(match call.about {
                About::User(id) => Error::UserUnknown(id),
                About::Object(id) => Error::ObjectUnknown { question, id },
                About::List => self.refused(call, &got),
            }),
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY
                if call.priority == Priority::Sync =>
            {
                Verdict::Again(got.retry_after, self.refused(call, &got))
            }
            _ => Verdict::No(self.refused(call, &got)),
        }
    }

    fn refused(&self, call: &Call<'_>, got: &Got) -> Error {
        let question = call.question.name;
        let code = code(&got.body);
        if code.eq_ignore_ascii_case("syncStateNotFound") {
            return self.forgotten(call, got.location.as_deref());
        }
        if got.status == StatusCode::FORBIDDEN && code == "Authorization_RequestDenied" {
            // Graph does not say which permission is missing.
            return Error::PermissionMissing {
                question,
                permission: call.question.permission,
            };
        }
        Error::Refused {
            question,
            status: got.status.as_u16(),
            // Why a write is refused stands in the message alone; a question's may quote people.
            code: match call.question.write {
                Some(_) => told(&got.body).unwrap_or(code),
                None => code,
            },
        }
    }

    /// Where to begin again. A place elsewhere than the configured Graph is no place.
    fn forgotten(&self, call: &Call<'_>, location: Option<&str>) -> Error {
        Error::ResyncNeeded {
            question: call.question.name,
            from: location.and_then(|text| Link::pinned(&self.inner.settings.base_url, text).ok()),
        }
    }

    async fn send(&self, call: &Call<'_>, token: &str, time: Duration) -> Result<Got, Error> {
        let unreachable = |e: reqwest::Error| Error::Unreachable(innermost(&e));
        let http = &self.inner.http;
        let url = call.url.clone();
        let mut request = match (call.question.write, &call.body) {
            (None, None) => http.get(url),
            (None | Some(Write::Post | Write::PostOnce), _) => http.post(url),
            (Some(Write::Patch), _) => http.patch(url),
            (Some(Write::Delete), _) => http.delete(url),
        };
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        if call.question.eventual {
            request = request.header("consistencylevel", "eventual");
        }
        let urgent = match call.priority {
            Priority::SignIn => "High",
            Priority::Sync => "Low",
        };
        let mut response = request
            .bearer_auth(token)
            .header("x-ms-throttle-priority", urgent)
            .header("client-request-id", Uuid::new_v4().to_string())
            .timeout(time)
            .send()
            .await
            .map_err(unreachable)?;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let mut got = Got {
            status: response.status(),
            retry_after: header("retry-after")
                .and_then(|value| retry_after(value, Clock::System.unix())),
            location: header("location").map(str::to_owned),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if got.body.len() + chunk.len() > call.question.limit {
                return Err(Error::Answer(call.question.name));
            }
            got.body.extend_from_slice(&chunk);
        }
        Ok(got)
    }
}

fn dice() -> u8 {
    let mut byte = [0];
    // Without randomness the pauses are merely the same everywhere.
    if aws_lc_rs::rand::fill(&mut byte).is_err() {
        return 128;
    }
    let [dice] = byte;
    dice
}

/// One question of a synchronization, with all its tries; a delta link lives for days, so giving up loses nothing.
const LONGEST_SYNC: Duration = Duration::from_secs(1800);
