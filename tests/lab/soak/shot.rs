//! One request of the soak: drawn, sent, perhaps given up on the way, and its answer judged.

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::Method;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use hyper::body::Incoming;

use crate::soak::connections::Dialer;
use crate::soak::connections::Line;
use crate::soak::connections::Pool;
use crate::soak::connections::Protocol;
use crate::soak::connections::Upload;
use crate::soak::connections::Wire;
use crate::soak::crew::Member;
use crate::soak::dice::Dice;
use crate::soak::judge::Answer;
use crate::soak::judge::Outcome;
use crate::soak::judge::judge;
use crate::stage::App;
use crate::stage::Failure;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A few bytes.
    WhoAmI,
    /// 1 KiB.
    OneKibibyte,
    /// The request told back as JSON.
    Echo,
    /// The same, with a body whose digest has to come back.
    Post(Bytes),
    /// An answer too big to be read in one go.
    Big,
}

/// How far the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To the end.
    Read,
    /// Gives up after so long, most often before the answer begins.
    LeaveAfter(Duration),
    /// Gives up when the first piece of the body is there.
    LeaveInBody,
    /// Sends half of its own body and then, after so long, gives up.
    LeaveInUpload(Duration),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Who asks.
    pub member: usize,
    /// Over which connection: application, protocol, shared or not.
    pub wire: Wire,
    /// Over a new connection, come what may.
    pub fresh: bool,
    /// What for.
    pub ask: Ask,
    /// How far.
    pub fate: Fate,
    /// A number that only this request has.
    pub nonce: u64,
}

/// Where shots are fired.
pub struct Range {
    /// The applications.
    pub apps: Vec<App>,
    /// The people.
    pub members: Vec<Member>,
    /// Makes connections.
    pub dialer: Dialer,
    /// Keeps them.
    pub pool: Pool,
}

/// Longer than any limit of the gateway's own, so that its answer is what counts.
const PATIENCE: Duration = Duration::from_secs(120);
const CANCELLED_PERCENT: u64 = 5;
const FRESH_PERCENT: u64 = 2;
/// Requests of different people, one after the other or at once over one connection: whoever
/// takes identity from the connection and not from the request mixes them up here.
const SHARED_PERCENT: u64 = 25;

impl Shot {
    /// Draws a request.
    pub fn drawn(dice: &mut Dice, range: &Range) -> Self {
        let member = dice.below(range.members.len());
        let protocol = range
            .members
            .get(member)
            .map_or(Protocol::Http1, |member| member.protocol);
        let fate = fate(dice);
        let ask = match fate {
            Fate::Read => ask(dice),
            Fate::LeaveAfter(_) if dice.chance(50) => ask(dice),
            Fate::LeaveAfter(_) => Ask::Echo,
            Fate::LeaveInBody => Ask::Big,
            Fate::LeaveInUpload(_) => Ask::Post(body(dice)),
        };
        Self {
            member,
            wire: Wire {
                owner: (!dice.chance(SHARED_PERCENT)).then_some(member),
                app: dice.below(range.apps.len()),
                protocol,
            },
            fresh: dice.chance(FRESH_PERCENT),
            ask,
            fate,
            nonce: dice.throw(),
        }
    }

    /// Path and query for `app`.
    pub fn target(&self, app: &App) -> String {
        let nonce = self.nonce;
        match (&self.ask, app.is_kerberos()) {
            (Ask::WhoAmI, _) => "/whoami".to_owned(),
            (Ask::OneKibibyte, true) => "/static/1k".to_owned(),
            (Ask::OneKibibyte, false) => "/bytes?n=1024".to_owned(),
            (Ask::Echo | Ask::Post(_), _) => format!("/echo?n={nonce:016x}"),
            (Ask::Big, true) => "/big".to_owned(),
            (Ask::Big, false) => "/bytes?n=1048576".to_owned(),
        }
    }

    fn request(&self, app: &App, member: &Member) -> Result<Request<Upload>, Failure> {
        let host = &app.url[url::Position::BeforeHost..url::Position::AfterPort];
        let target = self.target(app);
        let cookie = member.cookies.get(self.wire.app).map_or("", String::as_str);
        let request = Request::builder()
            .header("cookie", cookie)
            .header("accept", "application/json")
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty");
        let request = match self.wire.protocol {
            Protocol::Http1 => request.uri(target).header("host", host),
            Protocol::Http2 => request.uri(format!("https://{host}{target}")),
        };
        let Ask::Post(bytes) = &self.ask else {
            return Ok(request.body(Full::default().boxed_unsync())?);
        };
        let request = request
            .method(Method::POST)
            .header("origin", format!("https://{host}"))
            .header("content-type", "application/octet-stream")
            .header("content-length", bytes.len());
        if matches!(self.fate, Fate::LeaveInUpload(_)) {
            let half = bytes.slice(..bytes.len() / 2);
            let half = stream::iter([Ok(Frame::data(half))]).chain(stream::pending());
            return Ok(request.body(StreamBody::new(half).boxed_unsync())?);
        }
        Ok(request.body(Full::new(bytes.clone()).boxed_unsync())?)
    }

    /// Sends it and says what became of it.
    pub async fn fire(&self, range: &Range) -> Outcome {
        let work = self.attempt(range);
        let fate = match self.fate {
            Fate::LeaveAfter(wait) | Fate::LeaveInUpload(wait) => wait,
            Fate::Read | Fate::LeaveInBody => PATIENCE,
        };
        match tokio::time::timeout(fate, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Broken(chain(error.as_ref())),
            Err(_) if fate == PATIENCE => Outcome::Broken(format!("no answer in {PATIENCE:?}")),
            Err(_) => Outcome::Left(self.left()),
        }
    }

    /// Which way of leaving this is.
    pub const fn left(&self) -> &'static str {
        match self.fate {
            Fate::Read => "stayed",
            Fate::LeaveAfter(_) => "before the answer",
            Fate::LeaveInBody => "in the answer's body",
            Fate::LeaveInUpload(_) => "in the request's body",
        }
    }

    async fn attempt(&self, range: &Range) -> Result<Outcome, Failure> {
        let member = range.members.get(self.member).ok_or("no such member")?;
        let app = range.apps.get(self.wire.app).ok_or("no such application")?;
        if self.fresh {
            range.pool.hang_up(self.wire);
        }
        // A connection that had been open may have been closed meanwhile: tried once more, as
        // browsers do (RFC 9110 9.2.2), when nothing was sent or the method allows it.
        if let Some(mut line) = range.pool.take(self.wire) {
            match line.send(self.request(app, member)?).await {
                Ok(head) => return self.read(range, app, member, line, head).await,
                Err(error) if error.is_canceled() || !matches!(self.ask, Ask::Post(_)) => {
                    range.pool.hang_up(self.wire);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut line = range.dialer.dial(&app.url, self.wire.protocol).await?;
        // At once, not when it has answered: others are to send over it meanwhile.
        if let Line::Http2(sender) = &line {
            range.pool.give(self.wire, Line::Http2(sender.clone()));
        }
        let head = line.send(self.request(app, member)?).await?;
        self.read(range, app, member, line, head).await
    }

    async fn read(
        &self,
        range: &Range,
        app: &App,
        member: &Member,
        line: Line,
        head: Response<Incoming>,
    ) -> Result<Outcome, Failure> {
        let (head, mut body) = head.into_parts();
        let leaves = self.fate == Fate::LeaveInBody && head.status.is_success();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                bytes.extend_from_slice(&data);
            }
            if leaves {
                break;
            }
        }
        if !leaves {
            range.pool.give(self.wire, line);
        }
        let expected = member
            .expected
            .get(self.wire.app)
            .map_or("", String::as_str);
        Ok(judge(
            self,
            app,
            expected,
            &Answer {
                head,
                body: bytes,
                whole: !leaves,
            },
        ))
    }
}

fn fate(dice: &mut Dice) -> Fate {
    if !dice.chance(CANCELLED_PERCENT) {
        return Fate::Read;
    }
    // Each magnitude is as likely as the others: some leave before the request is written.
    let micros = |dice: &mut Dice| {
        let magnitude = [20, 200, 2_000, 20_000]
            .get(dice.below(4))
            .copied()
            .unwrap_or(20);
        Duration::from_micros(dice.below(magnitude) as u64)
    };
    match dice.below(10) {
        0..=5 => Fate::LeaveAfter(micros(dice)),
        6 | 7 => Fate::LeaveInBody,
        _ => Fate::LeaveInUpload(micros(dice) + Duration::from_millis(1)),
    }
}

fn ask(dice: &mut Dice) -> Ask {
    match dice.below(100) {
        0..=58 => Ask::WhoAmI,
        59..=78 => Ask::OneKibibyte,
        79..=94 => Ask::Echo,
        95 => Ask::Big,
        _ => Ask::Post(body(dice)),
    }
}

fn body(dice: &mut Dice) -> Bytes {
    let most = [16, 4_096, 65_536, 300_000, 2_000_000]
        .get(dice.below(5))
        .copied()
        .unwrap_or(16);
    let length = dice.below(most) + 2;
    dice.bytes(length).into()
}

/// The SHA-256 of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
