//! What goes on beside a soak's requests: WebSockets that are talked over, and a reload each minute.
//!
//! In: members and applications. Out: how often it happened, and failure at the first answer that is not the
//! asker's own words. Long soaks only: `--minutes`.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::SinkExt;
use futures_util::StreamExt;
use http::Request;
use tokio_tungstenite::tungstenite::Message;

use super::Soak;
use super::connections::Protocol;
use super::dice::Dice;
use crate::stage::Failure;

const SOCKETS: usize = 24;
/// A socket says so much before its place is taken by a new one.
const MESSAGES: usize = 300;
const BETWEEN: Duration = Duration::from_millis(200);
const RELOADS: Duration = Duration::from_secs(60);

/// How often it happened.
#[derive(Debug, Default)]
pub struct Count {
    /// WebSockets opened.
    pub sockets: AtomicU64,
    /// Messages that came back.
    pub messages: AtomicU64,
    /// Reloads ordered.
    pub reloads: AtomicU64,
}

impl Count {
    /// In words.
    pub fn told(&self) -> String {
        let [sockets, messages, reloads] =
            [&self.sockets, &self.messages, &self.reloads].map(|n| n.load(Ordering::Relaxed));
        format!("{sockets} WebSockets, {messages} messages, {reloads} reloads")
    }
}

/// Keeps company until the soak is over.
pub(super) async fn keep(
    soak: Arc<Soak>,
    count: Arc<Count>,
    gateway: u32,
    seed: u64,
) -> Result<(), Failure> {
    let apps = &soak.range.apps;
    let Some(app) = apps.iter().position(|app| !app.is_kerberos()) else {
        return Err("no application of the demo takes WebSockets".into());
    };
    let mut company = tokio::task::JoinSet::new();
    for number in 0..SOCKETS {
        let (soak, count) = (Arc::clone(&soak), Arc::clone(&count));
        let dice = Dice::new(seed.wrapping_add(0xc0 + number as u64));
        company.spawn(async move { sockets(&soak, &count, app, dice).await });
    }
    company.spawn({
        let soak = Arc::clone(&soak);
        async move { reloads(&soak, &count, gateway).await }
    });
    while let Some(done) = company.join_next().await {
        done??;
    }
    Ok(())
}

async fn sockets(soak: &Soak, count: &Count, app: usize, mut dice: Dice) -> Result<(), Failure> {
    while soak.goes_on() {
        let member = dice.below(soak.range.members.len());
        let cookie = soak
            .range
            .members
            .get(member)
            .and_then(|member| member.cookies.get(app));
        let url = &soak.range.apps.get(app).ok_or("no such application")?.url;
        let cookie = cookie.ok_or("no cookie")?;
        one_socket(soak, count, url, cookie, dice.throw())
            .await
            .map_err(|error| format!("WebSocket of person {member}: {error}"))?;
    }
    Ok(())
}

async fn one_socket(
    soak: &Soak,
    count: &Count,
    url: &url::Url,
    cookie: &str,
    nonce: u64,
) -> Result<(), Failure> {
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::builder()
        .uri(format!("wss://{host}/ws"))
        .header("host", host)
        .header("origin", format!("https://{host}"))
        .header("cookie", cookie)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header(
            "sec-websocket-key",
            tokio_tungstenite::tungstenite::handshake::client::generate_key(),
        )
        .body(())?;
    let wire = soak.range.dialer.wire(url, Protocol::Http1).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, wire).await?;
    count.sockets.fetch_add(1, Ordering::Relaxed);
    for number in 0..MESSAGES {
        if !soak.goes_on() {
            break;
        }
        let said = format!("{nonce:016x} {number}");
        socket.send(Message::text(said.as_str())).await?;
        let heard = socket.next().await.ok_or("ended in mid-talk")??;
        if heard.to_text()? != said {
            return Err(format!("said {said:?}, heard {heard:?}").into());
        }
        count.messages.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(BETWEEN).await;
    }
    socket.close(None).await?;
    Ok(())
}

async fn reloads(soak: &Soak, count: &Count, gateway: u32) -> Result<(), Failure> {
    let mut next = Instant::now() + RELOADS;
    while soak.goes_on() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if Instant::now() >= next {
            next += RELOADS;
            if !Command::new("kill")
                .args(["-HUP", &gateway.to_string()])
                .status()?
                .success()
            {
                return Err(format!("no process {gateway} to reload").into());
            }
            count.reloads.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
