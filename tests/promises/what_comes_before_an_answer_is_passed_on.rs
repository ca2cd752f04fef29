//! What a backend says before its answer (RFC 9110 15.2: "still at it", "you will need these") reaches a client
//! of HTTP/1.1 at once, in its place, with links it can use; nobody else is troubled by it.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::world;
use crate::wire;

/// A backend that says, for each request, what its path names.
struct Talkative {
    address: SocketAddr,
    /// Each lets one held answer go.
    go: mpsc::Sender<()>,
}

impl Talkative {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go, mut held) = mpsc::channel(1);
        tokio::spawn(async move {
            // One after the other: a gateway of one test asks no more.
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Some(path) = path(&mut stream).await {
                    let (before, waits) = said(&path, address);
                    if stream.write_all(before.as_bytes()).await.is_err() {
                        break;
                    }
                    if waits {
                        held.recv().await;
                    }
                    let body = "x".repeat(if path == "/large" { 300_000 } else { 2 });
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { address, go }
    }
}

/// What comes before the answer, and whether that waits.
fn said(path: &str, address: SocketAddr) -> (String, bool) {
    let still = "HTTP/1.1 102 Processing\r\n\r\n";
    match path {
        "/hints" => {
            let hints = format!(
                "HTTP/1.1 103 Early Hints\r\nLink: <http://{address}/a.css>; rel=preload\r\n\
                 Set-Cookie: a=b\r\nContent-Length: 7\r\nKeep-Alive: timeout=5\r\n\r\n"
            );
            (hints, true)
        }
        "/still" | "/large" => (still.repeat(3), false),
        "/mixed" => (format!("HTTP/1.1 100 Continue\r\n\r\n{still}"), false),
        "/flood" => (still.repeat(10_000), false),
        _ => (String::new(), false),
    }
}

/// The next request's path.
async fn path(stream: &mut TcpStream) -> Option<String> {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(got).unwrap();
    head.split(' ').nth(1).map(str::to_owned)
}

struct Scene {
    stage: Stage,
    gateway: Gateway,
    _entra: Entra,
    backend: Talkative,
}

impl Scene {
    async fn open() -> Self {
        let (stage, _) = world("").await;
        let backend = Talkative::start().await;
        let text = format!(
            "name = \"wiki\"\npublished_url = \"{}\"\nbackend_urls = [\"http://{}/\"]\npass_through = true\n",
            stage.url("wiki", "/"),
            backend.address
        );
        std::fs::write(stage.path("apps/wiki.toml"), text).unwrap();
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        Self {
            stage,
            gateway,
            _entra: entra,
            backend,
        }
    }

    fn get(&self, path: &str, version: &str, more: &str) -> String {
        let port = self.gateway.port;
        format!("GET {path} {version}\r\nHost: wiki.localhost:{port}\r\n{more}\r\n")
    }

    /// The status of everything that one connection brings for `requests`, with the bodies' lengths.
    async fn statuses(&self, requests: &str) -> Vec<(u16, usize)> {
        let mut wire = wire::connect(&self.stage, "wiki", b"http/1.1").await;
        wire.write_all(requests.as_bytes()).await.unwrap();
        wire.flush().await.unwrap();
        let replies = wire::replies(&wire::to_the_end(&mut wire).await);
        replies
            .iter()
            .map(|reply| (reply.status, reply.body.len()))
            .collect()
    }
}

#[tokio::test]
async fn early_hints_come_early_and_lead_to_what_is_published() {
    let scene = Scene::open().await;
    let mut wire = wire::connect(&scene.stage, "wiki", b"http/1.1").await;
    for _ in 0..2 {
        let request = scene.get("/hints", "HTTP/1.1", "");
        wire.write_all(request.as_bytes()).await.unwrap();
        let mut hints = Vec::new();
        while !hints.ends_with(b"\r\n\r\n") {
            hints.push(wire.read_u8().await.unwrap());
        }
        let link = scene.gateway.url("wiki", "/a.css");
        let expected = format!("HTTP/1.1 103 Early Hints\r\nlink: <{link}>; rel=preload\r\n\r\n");
        assert_eq!(String::from_utf8(hints).unwrap(), expected);
        // Only now does the backend answer; the connection is as good as before.
        scene.backend.go.send(()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nxx") {
            answer.push(wire.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{answer:?}");
    }
}

#[tokio::test]
async fn each_request_of_a_pipeline_gets_its_own() {
    let scene = Scene::open().await;
    let requests = [
        scene.get("/large", "HTTP/1.1", ""),
        scene.get("/still", "HTTP/1.1", ""),
        scene.get("/mixed", "HTTP/1.1", ""),
        scene.get("/large", "HTTP/1.1", ""),
        scene.get("/", "HTTP/1.1", "Connection: close\r\n"),
    ];
    let still = [(102, 0); 3];
    let mut expected = Vec::new();
    expected.extend_from_slice(&still);
    expected.push((200, 300_000));
    expected.extend_from_slice(&still);
    expected.push((200, 2));
    // 100 is between the gateway and the backend: nobody asked it of us.
    expected.extend_from_slice(&[(102, 0), (200, 2)]);
    expected.extend_from_slice(&still);
    expected.extend_from_slice(&[(200, 300_000), (200, 2)]);
    assert_eq!(scene.statuses(&requests.concat()).await, expected);
}

#[tokio::test]
async fn a_flood_of_them_is_cut_short_and_the_answer_still_comes() {
    let scene = Scene::open().await;
    let request = scene.get("/flood", "HTTP/1.1", "Connection: close\r\n");
    let replies = scene.statuses(&request).await;
    let (answer, before) = replies.split_last().unwrap();
    assert_eq!(*answer, (200, 2));
    assert_eq!(before, [(102, 0); 64]);
}

#[tokio::test]
async fn clients_that_know_none_get_none() {
    let scene = Scene::open().await;
    let request = scene.get("/still", "HTTP/1.0", "");
    assert_eq!(scene.statuses(&request).await, [(200, 2)]);
    let mut modern = Visitor::new(&scene.stage.lab.facts.ca, Speaks::Http2);
    let page = modern.open(&scene.gateway.url("wiki", "/still")).await;
    assert_eq!(page.unwrap().status, 200);
}
