//! A WebSocket that says every message again.
//!
//! | Text | Answer |
//! |---|---|
//! | `headers` | JSON: the handshake's headers |
//! | `ping me` | a ping |
//! | `close NNNN` | closes with that code |
//! | `drop` | ends the connection without a word |
//! | `sockets` | how many are open |

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::response::Response;
use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Query;
use super::listed;

static OPEN: AtomicU64 = AtomicU64::new(0);

/// The handshake's answer; the socket follows.
pub(super) fn answer(mut request: Request, number: u64, query: &Query) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return (StatusCode::BAD_REQUEST, "no WebSocket handshake\n").into_response();
    };
    if query.text("refuse").is_some() {
        return (StatusCode::FORBIDDEN, "no socket today\n").into_response();
    }
    let accept = match query.text("lie") {
        Some(lie) => lie.to_owned(),
        None => derive_accept_key(key.as_bytes()),
    };
    let mut headers = listed(request.headers());
    headers.insert("connection-number".to_owned(), vec![number.to_string()]);
    let protocol = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol.and_then(|all| all.to_str().ok()?.split(',').next().map(str::to_owned));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(io) = upgrade.await {
            OPEN.fetch_add(1, Ordering::Relaxed);
            let config = WebSocketConfig::default()
                .max_message_size(None)
                .max_frame_size(None);
            let io = TokioIo::new(io);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
            serve(socket, &headers).await;
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let set = response.headers_mut();
    set.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    set.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    for (name, value) in [
        (header::SEC_WEBSOCKET_ACCEPT, Some(accept.as_str())),
        (header::SEC_WEBSOCKET_PROTOCOL, protocol.as_deref()),
        (header::SET_COOKIE, query.text("cookie")),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            set.insert(name, value);
        }
    }
    response
}

async fn serve(
    mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    headers: &BTreeMap<String, Vec<String>>,
) {
    while let Some(Ok(message)) = socket.next().await {
        let answer = match &message {
            Message::Text(text) => match text.as_str() {
                "headers" => Message::text(serde_json::json!(headers).to_string()),
                "ping me" => Message::Ping("are you there?".into()),
                "sockets" => Message::text(OPEN.load(Ordering::Relaxed).to_string()),
                "drop" => return,
                text => match text.strip_prefix("close ").map(str::parse::<u16>) {
                    Some(Ok(code)) => Message::Close(Some(CloseFrame {
                        code: code.into(),
                        reason: "as asked".into(),
                    })),
                    _ => message,
                },
            },
            Message::Binary(_) => message,
            Message::Pong(bytes) => Message::text(format!("pong {}", bytes.len())),
            Message::Ping(_) | Message::Close(_) | Message::Frame(_) => continue,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}
