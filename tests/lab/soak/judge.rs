//! Whether an answer is the asker's own, and whole.

use http::HeaderMap;
use http::response::Parts;
use serde_json::Value;

use crate::soak::crew::WHO;
use crate::soak::shot::Ask;
use crate::soak::shot::Shot;
use crate::soak::shot::sha256;
use crate::stage::App;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, by an application that saw the asker, with what was asked for.
    Good,
    /// Given up by the client, as drawn.
    Left(&'static str),
    /// SECURITY: somebody else's answer, or one for nobody.
    Mixed(String),
    /// The right person, but not what was asked for: another request's answer, or a damaged one.
    Garbled(String),
    /// Another status than 200.
    Refused(u16, String),
    /// No answer, or half of one.
    Broken(String),
}

/// An answer, as far as it was read.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: Parts,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it was read to its end.
    pub whole: bool,
}

/// Judges the answer to `shot`, asked by somebody whom `app` has to call `expected`.
pub fn judge(shot: &Shot, app: &App, expected: &str, answer: &Answer) -> Outcome {
    let shown = shown(&answer.head.headers);
    let status = answer.head.status;
    // Even an error may not be another person's.
    if shown.as_deref().is_some_and(|shown| shown != expected) || (shown.is_none() && status == 200)
    {
        return Outcome::Mixed(format!(
            "{WHO} is {shown:?}, not {expected:?} (status {status})"
        ));
    }
    if status != 200 {
        let text: String = String::from_utf8_lossy(&answer.body)
            .chars()
            .take(300)
            .collect();
        let location = answer
            .head
            .headers
            .get("location")
            .map(|to| format!(" to {to:?}"));
        return Outcome::Refused(
            status.as_u16(),
            format!("{}{text}", location.unwrap_or_default()),
        );
    }
    if !answer.whole {
        return Outcome::Left(shot.left());
    }
    content(shot, app, expected, &answer.body)
}

fn shown(headers: &HeaderMap) -> Option<String> {
    let shown = headers
        .get_all(WHO)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    // All of them, so that a second name is seen.
    let shown: Vec<_> = shown.collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn content(shot: &Shot, app: &App, expected: &str, body: &[u8]) -> Outcome {
    match &shot.ask {
        Ask::WhoAmI if app.is_kerberos() => right(!body.is_empty(), "an empty page"),
        Ask::WhoAmI if body == expected.as_bytes() => Outcome::Good,
        Ask::WhoAmI => Outcome::Mixed(format!(
            "the page is for {:?}",
            String::from_utf8_lossy(body)
        )),
        Ask::OneKibibyte => right(body.len() == 1024, &format!("{} bytes of 1024", body.len())),
        Ask::Big => right(
            body.len() >= 1 << 20,
            &format!("{} bytes of a big page", body.len()),
        ),
        Ask::Echo => echo(shot, expected, body, b""),
        Ask::Post(sent) => echo(shot, expected, body, sent),
    }
}

fn echo(shot: &Shot, expected: &str, body: &[u8], sent: &[u8]) -> Outcome {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return Outcome::Garbled(format!("{} bytes that are no JSON", body.len()));
    };
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("remote_user") != expected {
        return Outcome::Mixed(format!(
            "the backend saw {:?}, not {expected:?}",
            text("remote_user")
        ));
    }
    let query = format!("n={:016x}", shot.nonce);
    if text("query") != query {
        return Outcome::Garbled(format!(
            "the answer to {:?}, not to {query:?}",
            text("query")
        ));
    }
    let arrived = json.get("body_length").and_then(Value::as_u64);
    if arrived != Some(sent.len() as u64) || text("body_sha256") != sha256(sent) {
        return Outcome::Garbled(format!(
            "{} bytes sent, {arrived:?} others arrived",
            sent.len()
        ));
    }
    Outcome::Good
}

fn right(right: bool, otherwise: &str) -> Outcome {
    if right {
        Outcome::Good
    } else {
        Outcome::Garbled(otherwise.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;
    use crate::soak::connections::Protocol;
    use crate::soak::connections::Wire;
    use crate::soak::shot::Fate;

    fn shot(ask: Ask) -> Shot {
        let wire = Wire {
            owner: None,
            app: 0,
            protocol: Protocol::Http1,
        };
        Shot {
            member: 0,
            wire,
            fresh: false,
            ask,
            fate: Fate::Read,
            nonce: 7,
        }
    }

    fn judged(ask: Ask, status: u16, users: &[&str], body: &str) -> Outcome {
        let mut head = Response::builder().status(status);
        for user in users {
            head = head.header(WHO, *user);
        }
        let head = head.body(()).unwrap().into_parts().0;
        let answer = Answer {
            head,
            body: body.into(),
            whole: true,
        };
        let app = App {
            name: "Intranet".into(),
            url: "https://intranet.localhost:8443/".parse().unwrap(),
            sso: "kerberos (classic delegation)".into(),
        };
        judge(&shot(ask), &app, "g-me@R", &answer)
    }

    #[test]
    fn somebody_else_nobody_and_two_at_once_are_mixed() {
        assert_eq!(judged(Ask::WhoAmI, 200, &["g-me@R"], "x"), Outcome::Good);
        for users in [&["g-you@R"][..], &[], &["g-me@R", "g-you@R"], &[""]] {
            assert!(
                matches!(judged(Ask::WhoAmI, 200, users, "x"), Outcome::Mixed(_)),
                "{users:?}"
            );
        }
        assert!(matches!(
            judged(Ask::WhoAmI, 500, &["g-you@R"], "x"),
            Outcome::Mixed(_)
        ));
        assert!(matches!(
            judged(Ask::WhoAmI, 502, &[], "x"),
            Outcome::Refused(502, _)
        ));
    }

    #[test]
    fn the_right_person_with_the_answer_to_another_request_is_garbled() {
        let empty = sha256(b"");
        let body = |nonce: &str, user: &str| {
            format!(
                r#"{{"remote_user":"{user}","query":"n={nonce}","body_length":0,"body_sha256":"{empty}"}}"#
            )
        };
        let mine = body("0000000000000007", "g-me@R");
        assert_eq!(judged(Ask::Echo, 200, &["g-me@R"], &mine), Outcome::Good);
        let stale = body("0000000000000008", "g-me@R");
        assert!(matches!(
            judged(Ask::Echo, 200, &["g-me@R"], &stale),
            Outcome::Garbled(_)
        ));
        let theirs = body("0000000000000007", "g-you@R");
        assert!(matches!(
            judged(Ask::Echo, 200, &["g-me@R"], &theirs),
            Outcome::Mixed(_)
        ));
        let sent = Ask::Post(Bytes::from_static(b"hello"));
        assert!(matches!(
            judged(sent, 200, &["g-me@R"], &mine),
            Outcome::Garbled(_)
        ));
    }

    use bytes::Bytes;
}
