//! Why Graph gave no answer, by what has to be done about it.

use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::link::Link;

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
    /// Throttled beyond our patience: come back later, with the same link.
    #[error("graph asks to come back in {}s", retry_after.as_secs())]
    Throttled {
        /// What `Retry-After` said, or what our own budget wants.
        retry_after: Duration,
    },
    /// An administrator has to grant an application permission.
    #[error(
        "graph refuses {question}: grant the application permission {permission} and give admin consent"
    )]
    PermissionMissing {
        /// What was asked.
        question: &'static str,
        /// The least that answers it.
        permission: &'static str,
    },
    /// Graph refused for another reason.
    #[error("graph answered {status} {code:?} to {question}: {}", cure(*.status))]
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
    /// The group or application does not exist (any more).
    #[error("graph knows no {id}, asked for {question}")]
    ObjectUnknown {
        /// What was asked.
        question: &'static str,
        /// The group, or the application's client id.
        id: Uuid,
    },
    /// The stored link has expired (7 days): begin again, and compare with everything known.
    #[error("graph has forgotten where {question} stood: a full synchronization is needed")]
    ResyncNeeded {
        /// What was asked.
        question: &'static str,
        /// Where Graph says to begin; without one, at the beginning.
        from: Option<Link>,
    },
    /// A link that leads away from the configured Graph; nothing was sent there.
    #[error(
        "graph's link leads to {0:?}, away from the configured address: nothing was sent there"
    )]
    ForeignLink(String),
    /// Links that go in a circle, or too many pages.
    #[error("graph's pages of {question} do not end: {why} after {pages} pages")]
    Endless {
        /// What was asked.
        question: &'static str,
        /// How many pages came.
        pages: usize,
        /// A circle, or the limit.
        why: &'static str,
    },
    /// A page that cannot be believed as a whole; nothing may be concluded from it.
    #[error("graph's page of {question} is unusable: {why}")]
    Page {
        /// What was asked.
        question: &'static str,
        /// What is wrong, without the page's text (it names people).
        why: String,
    },
    /// An answer that is too large or of another shape.
    #[error("graph answered something unusable to {0}")]
    Answer(&'static str),
}

/// What can be done about an answer that is neither throttling nor a missing permission.
const fn cure(status: u16) -> &'static str {
    match status {
        500.. => {
            "Graph itself fails; try again later, and look at the service health of Microsoft 365"
        }
        401 | 403 => "does the app registration have the permission, with admin consent?",
        _ => "Graph does not take this question; is issuer.graph the right address?",
    }
}

#[derive(Deserialize)]
struct Problem {
    error: ProblemCode,
}

#[derive(Deserialize)]
struct ProblemCode {
    code: String,
    #[serde(default)]
    message: String,
}

/// Graph's `error.code`, bounded; empty when there is none.
pub(super) fn code(body: &[u8]) -> String {
    serde_json::from_slice::<Problem>(body)
        .map(|problem| problem.error.code.chars().take(80).collect())
        .unwrap_or_default()
}

/// `error.code` and `error.message`, bounded.
pub(super) fn told(body: &[u8]) -> Option<String> {
    let problem: Problem = serde_json::from_slice(body).ok()?;
    let text = format!("{}: {}", problem.error.code, problem.error.message);
    Some(text.chars().take(300).collect())
}

/// Graph has no code of its own for "that is so already": `Request_BadRequest`, and these words.
pub(super) fn is_there_already(body: &[u8]) -> bool {
    told(body).is_some_and(|text| {
        let known = [
            "already exist for the following",
            "already exists on the object",
        ];
        known.iter().any(|words| text.contains(words))
    })
}

/// The cause an operator can act on: the last of the chain.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_with_a_cure_that_fits() {
        let said = |status| {
            let (question, code) = ("users/delta", String::from("x"));
            let refused = Error::Refused {
                question,
                status,
                code,
            };
            refused.to_string()
        };
        assert!(said(403).contains("permission"), "{}", said(403));
        for status in [400, 500, 502] {
            assert!(!said(status).contains("permission"), "{}", said(status));
        }
        assert!(said(500).contains("try again later"), "{}", said(500));
    }
}
