//! In the pages of an application that asks for it, links to servers of the inside lead to where they are published,
//! of whichever application they are; and a page of any length streams, in little memory and no faster than it is read.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use http::Method;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::browser;
use crate::walk::world;

const MIB: usize = 1 << 20;
const PAGE: usize = 100 * MIB;
/// What the gateway may take for it, in KiB.
const ROOM: u64 = 24 << 10;

/// An old intranet server, which calls itself by its own address in every line.
struct Old {
    origin: String,
    made: Arc<AtomicUsize>,
}

impl Old {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let made = Arc::<AtomicUsize>::default();
        let shared = (origin.clone(), Arc::clone(&made));
        let router = Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { origin, made }
    }

    /// Publishes it as `wiki`, without sign-in, and `other` beside it.
    fn publish(&self, stage: &Stage, more: &str) {
        let app = |id: &str, backend: &str, more: &str| {
            let url = stage.url(id, "/");
            let text = format!(
                "name = \"{id}\"\npublished_url = \"{url}\"\nbackend_urls = [\"{backend}/\"]\npass_through = true\n{more}"
            );
            std::fs::write(stage.path(&format!("apps/{id}.toml")), text).unwrap();
        };
        app("wiki", &self.origin, more);
        app("other", "http://files.corp.test:8080", "");
    }

    async fn scene(more: &str) -> (Self, Stage, Gateway) {
        let (stage, _) = world("").await;
        let old = Self::start().await;
        old.publish(&stage, more);
        let gateway = stage.gateway().await;
        (old, stage, gateway)
    }
}

/// One paragraph of the long page, always of the same length.
fn line(origin: &str, number: usize) -> String {
    let text = "Many words about one thing and another. ".repeat(25);
    format!("<p><a href=\"{origin}/page/{number:09}\">Page {number:09}</a> {text}</p>\n")
}

async fn answer(State((origin, made)): State<(String, Arc<AtomicUsize>)>, uri: Uri) -> Response {
    let kind = match uri.path() {
        "/style.css" => "text/css",
        "/data.json" => "application/json",
        "/notes.txt" => "text/plain",
        _ => "text/html; charset=utf-8",
    };
    let body = match uri.path() {
        "/long" => {
            let stream = futures_util::stream::unfold((0, 0), move |(number, size)| {
                let (origin, made) = (origin.clone(), Arc::clone(&made));
                async move {
                    if size >= PAGE {
                        return None;
                    }
                    let next: String = (number..number + 60).map(|at| line(&origin, at)).collect();
                    made.fetch_add(next.len(), Ordering::SeqCst);
                    let size = size + next.len();
                    let piece = Ok::<_, std::convert::Infallible>(Bytes::from(next));
                    Some((piece, (number + 60, size)))
                }
            });
            Body::from_stream(stream)
        }
        _ => Body::from(format!(
            "<a href=\"{origin}/a\"> \"http://files.corp.test:8080/b\" url({origin}/c) <img src=http://files.corp.test:8080/d>"
        )),
    };
    ([("content-type", kind)], body).into_response()
}

async fn get(stage: &Stage, gateway: &Gateway, path: &str) -> String {
    let url = gateway.url("wiki", path).parse().unwrap();
    let answer = browser(stage).once(Method::GET, &url, None).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

#[tokio::test]
async fn what_was_asked_for_is_translated_and_nothing_else() {
    let (old, stage, gateway) = Old::scene("[links]\ntranslate = [\"html\", \"css\"]\n").await;
    let (wiki, other) = (gateway.url("wiki", ""), gateway.url("other", ""));
    let (own, files) = (&old.origin, "http://files.corp.test:8080");
    let html = get(&stage, &gateway, "/page").await;
    assert!(html.contains(&format!("<a href=\"{wiki}/a\">")), "{html}");
    assert!(
        html.contains(&format!("{other}/d")),
        "another application's: {html}"
    );
    assert!(
        html.contains(&format!("\"{files}/b\"")),
        "text for people stays: {html}"
    );
    let css = get(&stage, &gateway, "/style.css").await;
    assert!(css.contains(&format!("url({wiki}/c)")), "{css}");
    for path in ["/data.json", "/notes.txt"] {
        let text = get(&stage, &gateway, path).await;
        assert!(text.contains(&format!("{own}/a")), "{path}: {text}");
        assert!(!text.contains(&wiki), "{path}: {text}");
    }
    // Of the other application nobody asked for that.
    let (old, stage, gateway) = Old::scene("").await;
    let html = get(&stage, &gateway, "/page").await;
    assert!(html.contains(&format!("{}/a", old.origin)), "{html}");
}

#[tokio::test]
async fn a_long_page_streams_in_little_memory() {
    let (old, stage, gateway) = Old::scene("[links]\ntranslate = [\"html\"]\n").await;
    let published = gateway.url("wiki", "");
    get(&stage, &gateway, "/page").await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let before = gateway.peak_memory();
        old.made.store(0, Ordering::SeqCst);
        let guest = Visitor::new(&stage.lab.facts.ca, speaks);
        let url = gateway.url("wiki", "/long").parse().unwrap();
        let mut answer = guest.request(Method::GET, &url).send().await.unwrap();
        assert!(answer.headers().get("content-length").is_none());
        let mut came = answer.chunk().await.unwrap().unwrap().to_vec();
        // Nobody reads on: soon nothing more is made.
        let last = AtomicUsize::new(0);
        eventually("the backend is held back", async || {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let made = old.made.load(Ordering::SeqCst);
            last.swap(made, Ordering::SeqCst) == made
        })
        .await;
        let made = old.made.load(Ordering::SeqCst);
        assert!(made < PAGE / 4, "{speaks:?}: {made} bytes for nobody");
        let (mut number, mut length) = (0, 0);
        loop {
            let whole = came.iter().rposition(|byte| *byte == b'\n');
            let rest = came.split_off(whole.map_or(0, |end| end + 1));
            for got in came.split_inclusive(|byte| *byte == b'\n') {
                assert_eq!(got, line(&published, number).as_bytes(), "{number}");
                (number, length) = (number + 1, length + got.len());
            }
            came = rest;
            match answer.chunk().await.unwrap() {
                Some(piece) => came.extend_from_slice(&piece),
                None => break,
            }
        }
        assert!(came.is_empty() && length >= PAGE - MIB, "{length}");
        assert_eq!(
            old.made.load(Ordering::SeqCst) / line(&old.origin, 0).len(),
            number
        );
        let grown = gateway.peak_memory().saturating_sub(before);
        eprintln!(
            "{number} links, {length} bytes over {speaks:?}: {grown} KiB more, {made} bytes ahead"
        );
        assert!(grown < ROOM, "{speaks:?}: {grown} KiB");
    }
}
