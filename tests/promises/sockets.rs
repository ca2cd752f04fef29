//! WebSockets of a test: over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), to the header application's `/ws`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use http::Method;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::lab::Stage;
use crate::visitor::Speaks;
use crate::wire::Scene;
use crate::wire::connect;

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An open socket.
pub struct Socket {
    pub socket: WebSocketStream<Box<dyn Duplex>>,
    /// The handshake's answer.
    pub answer: http::Response<()>,
}

pub type Headers<'a> = &'a [(&'a str, &'a str)];

const PATIENCE: Duration = Duration::from_secs(30);

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None)
}

/// A handshake with just these headers; the answer if it is no socket.
pub async fn handshake(
    stage: &Stage,
    app: &str,
    speaks: Speaks,
    path: &str,
    headers: Headers<'_>,
) -> Result<Socket, http::Response<()>> {
    let opened = async {
        match speaks {
            Speaks::Http1 => over_http1(stage, app, path, headers).await,
            Speaks::Http2 => {
                over_http2(&mut http2(stage, app).await, stage, app, path, headers).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened)
        .await
        .expect("the handshake is answered")
}

async fn over_http1(
    stage: &Stage,
    app: &str,
    path: &str,
    headers: Headers<'_>,
) -> Result<Socket, http::Response<()>> {
    let wire: Box<dyn Duplex> = Box::new(connect(stage, app, b"http/1.1").await);
    let host = format!("{app}.localhost:{}", stage.port);
    let mut request = Request::get(format!("wss://{host}{path}"))
        .header("host", &host)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    match tokio_tungstenite::client_async_with_config(request, wire, Some(config())).await {
        Ok((socket, answer)) => Ok(Socket {
            socket,
            answer: answer.map(drop),
        }),
        Err(Error::Http(answer)) => Err(answer.map(drop)),
        Err(other) => panic!("{other}"),
    }
}

/// A connection for several sockets.
pub async fn http2(stage: &Stage, app: &str) -> SendRequest<Empty<Bytes>> {
    let wire = connect(stage, app, b"h2").await;
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Empty<Bytes>>(TokioIo::new(wire))
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    // RFC 8441 3: only after the gateway has said that it knows how.
    let url = format!("https://{app}.localhost:{}/nobody", stage.port);
    let first = Request::get(url).body(Empty::new()).unwrap();
    sender.send_request(first).await.unwrap();
    sender
}

pub async fn over_http2(
    sender: &mut SendRequest<Empty<Bytes>>,
    stage: &Stage,
    app: &str,
    path: &str,
    headers: Headers<'_>,
) -> Result<Socket, http::Response<()>> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{app}.localhost:{}{path}", stage.port))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.ready().await.unwrap();
    let answer = sender
        .send_request(request.body(Empty::new()).unwrap())
        .await
        .unwrap();
    if answer.status() != 200 {
        return Err(answer.map(drop));
    }
    let (head, body) = answer.into_parts();
    let mut answer = http::Response::from_parts(head, body);
    let io = hyper::upgrade::on(&mut answer).await.unwrap();
    let io: Box<dyn Duplex> = Box::new(TokioIo::new(io));
    Ok(Socket {
        socket: WebSocketStream::from_raw_socket(io, Role::Client, Some(config())).await,
        answer: answer.map(drop),
    })
}

/// The guest's own socket to the wiki.
pub async fn open(scene: &Scene, speaks: Speaks) -> Socket {
    let origin = format!("https://{}", scene.host("wiki"));
    let cookie = scene.cookie("wiki");
    let headers = [("origin", origin.as_str()), ("cookie", cookie.as_str())];
    handshake(&scene.stage, "wiki", speaks, "/ws", &headers)
        .await
        .unwrap_or_else(|answer| panic!("{answer:?}"))
}

impl Socket {
    pub async fn send(&mut self, message: Message) {
        let sent = tokio::time::timeout(PATIENCE, self.socket.send(message)).await;
        sent.expect("the gateway reads").unwrap();
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        next.expect("something comes")
    }

    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// What `text` is answered with.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send(Message::text(text)).await;
        self.text().await
    }

    /// How it is closed; waits for that.
    pub async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Some(Ok(Message::Close(Some(close)))) => (close.code.into(), close.reason.to_string()),
            other => panic!("not closed with a code: {other:?}"),
        }
    }
}
