//! How soon somebody is out: from "disabled in Entra" to the first request that is refused, and to the end of an open WebSocket.
//! `kerbgate-lab cutoff`, of a running demo whose configuration says `[sync.cutoff]`: asked for, or told by notifications.
//!
//! Guests take turns, each disabled at another moment of a round.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt as _;
use http::Method;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use url::Url;

use crate::measure::first_visit::newcomer;
use crate::measure::median::median;
use crate::stage::Failure;
use crate::stage::Stage;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// What is typed.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// A running demo's summary.
    #[arg(long, default_value = ".lab/demo.json")]
    pub demo: PathBuf,
    /// Guests, one after the other.
    #[arg(long, default_value_t = 10)]
    pub guests: u32,
    /// Somebody who is still in after so many seconds will be for ever.
    #[arg(long, default_value_t = 900)]
    pub patience: u64,
    /// Each guest is in for so many milliseconds longer than the one before: another moment of a round.
    #[arg(long, default_value_t = 1_370)]
    pub shift: u32,
}

const APP: &str = "wiki";
const OFTEN: Duration = Duration::from_millis(20);

/// Measures and prints.
pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let stage = Stage::read(&args.demo)?;
    let (mut denied, mut cut) = (Vec::new(), Vec::new());
    for number in 0..args.guests {
        let login = newcomer(&stage).await?;
        let app = stage.app(APP)?.url.clone();
        let mut visitor = Visitor::new(&stage.demo.ca, Speaks::Http1);
        let page = visitor.open_as(&login, app.join("echo")?.as_str()).await?;
        if page.status != 200 {
            return Err(format!("{login} is not in: {} {}", page.status, page.body).into());
        }
        let socket = open(&visitor, &app.join("ws")?).await?;
        tokio::time::sleep(Duration::from_millis(u64::from(args.shift * number))).await;
        let person = stage
            .demo
            .issuer
            .join(&format!("/_control/people/{login}"))?;
        let order = visitor.request(Method::POST, &person);
        let told = order.json(&json!({"enabled": false})).send().await?;
        if !told.status().is_success() {
            return Err(format!("{person}: {}", told.status()).into());
        }
        let began = Instant::now();
        let both = async {
            tokio::try_join!(
                refused(&visitor, app.join("echo")?, began),
                ended(socket, began)
            )
        };
        let both = tokio::time::timeout(Duration::from_secs(args.patience), both).await;
        let (request, socket) = both.map_err(|_| format!("{login} is still in"))??;
        println!("cutoff: {request:.2} s to the first refusal, {socket:.2} s to the socket's end");
        denied.push(request);
        cut.push(socket);
    }
    for (what, values) in [("request refused", &denied), ("WebSocket cut", &cut)] {
        let most = values.iter().copied().fold(0.0, f64::max);
        println!(
            "disabled to {what}: median {:.2} s, at most {most:.2} s, of {}",
            median(values),
            args.guests
        );
    }
    Ok(ExitCode::SUCCESS)
}

type Socket = WebSocketStream<reqwest::Upgraded>;

async fn open(visitor: &Visitor, url: &Url) -> Result<Socket, Failure> {
    let request = visitor.request(Method::GET, url);
    let answer = request
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("origin", url.origin().ascii_serialization())
        .send()
        .await?;
    if answer.status() != 101 {
        return Err(format!("{url}: {}", answer.status()).into());
    }
    let wire = answer.upgrade().await?;
    Ok(WebSocketStream::from_raw_socket(wire, Role::Client, None).await)
}

/// A script's requests, one after the other: it is never signed in again.
async fn refused(visitor: &Visitor, url: Url, began: Instant) -> Result<f64, Failure> {
    loop {
        let request = visitor.request(Method::GET, &url);
        let answer = request
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty")
            .header("sec-fetch-site", "same-origin")
            .send()
            .await?;
        if answer.status() != 200 {
            return Ok(began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(OFTEN).await;
    }
}

async fn ended(mut socket: Socket, began: Instant) -> Result<f64, Failure> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(_))) | None => return Ok(began.elapsed().as_secs_f64()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
}
