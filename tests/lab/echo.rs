//! The header application: a backend that believes the identity headers it gets and shows
//! everything that reached it, so that a test can prove what the gateway did and did not send.
//!
//! Every answer carries `X-Remote-User` (the request's, or empty) and `X-Echo-Connection`.
//!
//! | Path | Answer |
//! |---|---|
//! | `/echo` (and below) | JSON: method, path, query, headers, trailers, body length and SHA-256 |
//! | `/whoami` | the remote user as text |
//! | `/redirect?to=URL[&status=302]` | `Location: URL` as given |
//! | `/cookie?name=&value=[&domain=][&path=][&flags=]` | `Set-Cookie`; or `?set=` with the raw value, repeatable |
//! | `/respond?status=&header=Name:Value` | any status and headers (repeatable) |
//! | `/status/NNN` | that status |
//! | `/slow?ms=` | answers after so long |
//! | `/sse?events=&ms=` | a stream of events |
//! | `/bytes?n=` | that many bytes |
//! | `/early` | answers without reading the request's body |
//! | `/close` | closes the connection without an answer |
//! | `/count` | `{"requests","connections"}` seen so far, this one not counted |
//! | `/ws` | a WebSocket that says all messages again; see `socket`. `[?cookie=NAME=VALUE]` on the handshake |
//! | `/trailers` | a body with the trailer `X-Checksum`, and with forged ones |
//! | anything else | an HTML page with the identity headers |

mod socket;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Json, Response};
use http::header::{HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::serve::{Bound, Common, Connection, Failure, block_on, cut};

/// Options of `kerbgate-lab echo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Name shown on the page.
    #[arg(long, default_value = "Wiki")]
    title: String,
}

struct Echo {
    title: String,
    requests: AtomicU64,
    connections: Arc<AtomicU64>,
}

/// Serves until told to end.
pub fn run(args: Args) -> Result<(), Failure> {
    block_on(async move {
        let bound = Bound::new(&args.common).await?;
        let public_url = format!("{}://{}", bound.scheme(), bound.address()?);
        let connections = Arc::new(AtomicU64::new(0));
        let echo = Arc::new(Echo {
            title: args.title,
            requests: AtomicU64::new(0),
            connections: Arc::clone(&connections),
        });
        let router = Router::new().fallback(answer).with_state(echo);
        bound.serve(router, &public_url, connections).await
    })
}

async fn answer(State(echo): State<Arc<Echo>>, request: Request) -> Response {
    let user = remote_user(request.headers());
    let Connection(number) = request
        .extensions()
        .get::<Connection>()
        .copied()
        .unwrap_or(Connection(0));
    if request.uri().path() != "/count" {
        echo.requests.fetch_add(1, Ordering::Relaxed);
    }
    let mut response = by_path(&echo, request, number, &user).await;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_bytes(user.as_bytes()) {
        headers.insert("x-remote-user", value);
    }
    headers.insert("x-echo-connection", HeaderValue::from(number));
    response
}

async fn by_path(echo: &Echo, request: Request, number: u64, user: &str) -> Response {
    let query = Query::of(&request);
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/count" => Json(json!({
            "requests": echo.requests.load(Ordering::Relaxed),
            "connections": echo.connections.load(Ordering::Relaxed),
        }))
        .into_response(),
        "/whoami" => user.to_owned().into_response(),
        "/redirect" => redirect(&query),
        "/cookie" => cookie(&query),
        "/respond" => respond(&query),
        "/close" => cut(),
        "/early" => (StatusCode::OK, "answered before the body was read\n").into_response(),
        "/sse" => events(&query),
        "/ws" => socket::answer(request, number, &query),
        "/trailers" => trailers(),
        "/flood" => flood(&query),
        "/bytes" => {
            let length = query.number("n").unwrap_or(1024);
            Body::from(vec![b'x'; usize::try_from(length).unwrap_or(0)]).into_response()
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(query.number("ms").unwrap_or(1000))).await;
            "slow\n".into_response()
        }
        _ => match path.strip_prefix("/status/").map(str::parse::<u16>) {
            Some(Ok(code)) => StatusCode::from_u16(code)
                .map(|status| (status, format!("status {code}\n")).into_response())
                .unwrap_or_else(|_| StatusCode::BAD_REQUEST.into_response()),
            _ if path == "/echo" || path.starts_with("/echo/") => {
                Json(described(request, number).await).into_response()
            }
            _ => Html(page(&echo.title, user, &request)).into_response(),
        },
    }
}

/// All that reached us, as JSON.
async fn described(request: Request, number: u64) -> Value {
    let (head, mut body) = request.into_parts();
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut length = 0_usize;
    let mut trailers = None;
    let mut cut_short = false;
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(bytes)) => {
                length += bytes.len();
                hash.update(&bytes);
            }
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => cut_short = true,
        }
    }
    let digest: String = hash
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    json!({
        "remote_user": remote_user(&head.headers),
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query().unwrap_or_default(),
        "version": format!("{:?}", head.version),
        "headers": listed(&head.headers),
        "trailers": trailers.as_ref().map(listed),
        "body_length": length,
        "body_sha256": digest,
        "body_cut_short": cut_short,
        "connection": number,
    })
}

fn listed(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut map = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        map.entry(name.as_str().to_owned()).or_default().push(text);
    }
    map
}

/// All values joined, so that a doubled header is seen and not half hidden.
fn remote_user(headers: &HeaderMap) -> String {
    let values: Vec<_> = headers
        .get_all("x-remote-user")
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    values.join(", ")
}

fn redirect(query: &Query) -> Response {
    let status = query
        .number("status")
        .and_then(|code| u16::try_from(code).ok())
        .unwrap_or(302);
    let mut response = StatusCode::from_u16(status)
        .unwrap_or(StatusCode::FOUND)
        .into_response();
    if let Ok(to) = HeaderValue::from_bytes(query.text("to").unwrap_or("/").as_bytes()) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn cookie(query: &Query) -> Response {
    let mut cookies: Vec<String> = query.all("set").map(str::to_owned).collect();
    if cookies.is_empty() {
        let mut text = format!(
            "{}={}",
            query.text("name").unwrap_or("backend"),
            query.text("value").unwrap_or("1")
        );
        for (key, attribute) in [("domain", "Domain"), ("path", "Path")] {
            if let Some(value) = query.text(key) {
                text.push_str(&format!("; {attribute}={value}"));
            }
        }
        if let Some(flags) = query.text("flags") {
            text.push_str(&format!("; {flags}"));
        }
        cookies.push(text);
    }
    let mut response = "cookie set\n".into_response();
    for cookie in cookies {
        if let Ok(value) = HeaderValue::from_bytes(cookie.as_bytes()) {
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
    response
}

fn respond(query: &Query) -> Response {
    let status = query
        .number("status")
        .and_then(|code| u16::try_from(code).ok())
        .unwrap_or(200);
    let mut response = StatusCode::from_u16(status)
        .unwrap_or(StatusCode::OK)
        .into_response();
    if let Some(body) = query.text("body") {
        *response.body_mut() = Body::from(body.to_owned());
    }
    for header in query.all("header") {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let value = HeaderValue::from_bytes(value.trim().as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn events(query: &Query) -> Response {
    let last = query.number("events").unwrap_or(5);
    let pause = Duration::from_millis(query.number("ms").unwrap_or(100));
    let stream = futures_util::stream::unfold(0, move |sent| async move {
        if sent >= last {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(pause).await;
        }
        let event = Bytes::from(format!("id: {sent}\ndata: event {sent}\n\n"));
        Some((Ok::<_, Infallible>(event), sent + 1))
    });
    let headers = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
    ];
    (headers, Body::from_stream(stream)).into_response()
}

fn trailers() -> Response {
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("x-checksum", "42"),
        ("set-cookie", "evil=1"),
        ("x-remote-user", "evil"),
        ("kerbgate-reason", "evil"),
        ("content-length", "4711"),
    ] {
        trailers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let frames = [
        Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(
            b"with trailers\n",
        ))),
        Ok(http_body::Frame::trailers(trailers)),
    ];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let headers = [(
        "trailer",
        "x-checksum, set-cookie, x-remote-user, kerbgate-reason",
    )];
    (headers, Body::new(body)).into_response()
}

/// `mib` MiB, made as they are fetched.
fn flood(query: &Query) -> Response {
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = usize::try_from(query.number("mib").unwrap_or(1)).unwrap_or(0);
    let stream =
        futures_util::stream::iter(std::iter::repeat_n(Ok::<_, Infallible>(piece), pieces));
    Body::from_stream(stream).into_response()
}

fn page(title: &str, user: &str, request: &Request) -> String {
    let who = if user.is_empty() {
        "nobody (no X-Remote-User header)"
    } else {
        user
    };
    let mut rows = String::new();
    for (name, values) in listed(request.headers()) {
        for value in values {
            rows.push_str(&format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
                escape(&name),
                escape(&value)
            ));
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>\
         <h1>{title}</h1><p>You are <strong id=\"remote-user\">{who}</strong>.</p>\
         <p>{method} <code>{path}</code></p>\
         <table><caption>Headers this application received</caption>\n{rows}</table>\
         </main></body></html>\n",
        title = escape(title),
        who = escape(who),
        method = escape(request.method().as_str()),
        path = escape(request.uri().path()),
    )
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(
            url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;\
color:#1c2430}main{max-width:52rem;margin:2rem auto;padding:1.5rem;background:#fff;\
border:1px solid #d5dae1;border-radius:.5rem}table{border-collapse:collapse;width:100%;\
font-size:.9rem}caption{text-align:left;font-weight:600;padding:.5rem 0}th,td{text-align:left;\
vertical-align:top;padding:.3rem .5rem;border-top:1px solid #e3e7ec;overflow-wrap:anywhere}\
th{white-space:nowrap;font-weight:500}";
