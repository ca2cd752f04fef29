//! A body of any size goes through as it is, in little memory, and one that breaks off harms nobody.

use aws_lc_rs::digest;
use http::Method;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;
use crate::wire::connect;

const MIB: usize = 1 << 20;
const LARGE: usize = 64 * MIB;
/// What the gateway may take for such a body, in KiB: windows and buffers, not the body.
const ROOM: u64 = 40 << 10;

/// Bytes of which no two MiB are the same, so that a lost or doubled piece shows.
fn bytes(length: usize) -> Vec<u8> {
    (0..length / 8)
        .flat_map(|at| {
            (at as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes()
        })
        .collect()
}

fn with(scene: &Scene, speaks: Speaks) -> Visitor {
    let mut guest = Visitor::new(&scene.stage.lab.facts.ca, speaks);
    guest.cookies = scene.guest.cookies.clone();
    guest
}

#[tokio::test]
async fn uploads() {
    let scene = Scene::new(Stage::new().await).await;
    let body = bytes(LARGE);
    let sum = sha256(&body);
    let before = scene.peak_memory();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let guest = with(&scene, speaks);
        for app in ["wiki", "intranet", "timesheet"] {
            let url = scene.gateway.url(app, "/echo/upload").parse().unwrap();
            let request = guest.request(Method::POST, &url).body(body.clone());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{app} {speaks:?}");
            let seen: serde_json::Value =
                serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(seen["body_length"], LARGE, "{app} {speaks:?}");
            assert_eq!(seen["body_sha256"], sum.as_str(), "{app} {speaks:?}");
            let user = seen["remote_user"].as_str().unwrap();
            assert!(user.starts_with(&scene.sam), "{user}");
        }
    }
    let grown = scene.peak_memory().saturating_sub(before);
    assert!(
        grown < ROOM,
        "{grown} KiB more for uploads of {LARGE} bytes"
    );
}

#[tokio::test]
async fn downloads() {
    let scene = Scene::new(Stage::new().await).await;
    let before = scene.peak_memory();
    let same = vec![b'x'; LARGE];
    let wiki = sha256(&same);
    let big: String = (0..10_240)
        .map(|block| format!("{block:>1023}\n"))
        .collect();
    let intranet = sha256(big.as_bytes());
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let guest = with(&scene, speaks);
        let fetch = async |app: &str, path: &str| -> (usize, String) {
            let url = scene.gateway.url(app, path).parse().unwrap();
            let mut answer = guest.request(Method::GET, &url).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{app} {speaks:?}");
            let mut sum = digest::Context::new(&digest::SHA256);
            let mut length = 0;
            while let Some(piece) = answer.chunk().await.unwrap() {
                length += piece.len();
                sum.update(&piece);
            }
            (length, hex(sum.finish().as_ref()))
        };
        let got = fetch("wiki", &format!("/bytes?n={LARGE}")).await;
        assert_eq!(got, (LARGE, wiki.clone()), "{speaks:?}");
        // The Kerberos backends' page has 10 MiB.
        for _ in 0..4 {
            for app in ["intranet", "timesheet"] {
                let got = fetch(app, "/big").await;
                assert_eq!(got, (10 * MIB, intranet.clone()), "{app} {speaks:?}");
            }
        }
    }
    let grown = scene.peak_memory().saturating_sub(before);
    assert!(grown < ROOM, "{grown} KiB more for downloads");
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_not_buffered_for() {
    // The first ones also warm the process up. Memory comes in pieces of 4 MiB: a mebibyte a client is told
    // from two of them only over many.
    const WARM: usize = 8;
    const MANY: usize = 64;
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let request =
        format!("GET /bytes?n={LARGE} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
    let mut stuck = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..WARM + MANY {
        let mut wire = connect(&scene.stage, "wiki", b"http/1.1").await;
        wire.write_all(request.as_bytes()).await.unwrap();
        let mut some = vec![0; 65_536];
        wire.read_exact(&mut some).await.unwrap();
        stuck.push(wire);
        scene.control().await;
        memory.push(scene.peak_memory());
    }
    let grown = memory[WARM + MANY - 1].saturating_sub(memory[WARM - 1]);
    assert!(
        grown < (MANY as u64) << 10,
        "{MANY} clients that do not read: {memory:?} KiB"
    );
}

#[tokio::test]
async fn a_client_that_vanishes_spoils_nothing_for_the_next() {
    let scene = Scene::new(Stage::new().await).await;
    let part = bytes(MIB);
    for app in ["wiki", "intranet", "timesheet"] {
        let (host, cookie) = (scene.host(app), scene.cookie(app));
        let path = format!("/echo/{app}-{}", scene.sam);
        let user = match app {
            "wiki" => scene.sam.clone(),
            _ => format!("{}@CONTOSO.TEST", scene.sam),
        };
        for round in 0..3 {
            let head = match round {
                // In the middle of an upload of known length, and of one of unknown length.
                0 => format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nContent-Length: {LARGE}\r\n\r\n"
                ),
                1 => format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nTransfer-Encoding: chunked\r\n\r\n{LARGE:x}\r\n"
                ),
                // In the middle of a download.
                _ if app == "wiki" => format!(
                    "GET /bytes?n={LARGE} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"
                ),
                _ => format!("GET /big HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"),
            };
            let mut wire = connect(&scene.stage, app, b"http/1.1").await;
            wire.write_all(head.as_bytes()).await.unwrap();
            if round < 2 {
                wire.write_all(&part).await.unwrap();
                wire.flush().await.unwrap();
            } else {
                let mut some = vec![0; 65_536];
                wire.read_exact(&mut some).await.unwrap();
            }
            drop(wire);
            // The next ones get their own answers, whole.
            for at in 0..3 {
                let request = format!(
                    "POST {path}/{round}/{at} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
                );
                let replies = scene.raw(app, &[request]).await;
                assert_eq!(replies.len(), 1, "{app} {round}: {replies:?}");
                assert_eq!(replies[0].status, 200, "{app} {round}: {replies:?}");
                let seen = replies[0].json();
                assert_eq!(seen["path"], format!("{path}/{round}/{at}"));
                assert_eq!(seen["body_length"], 4, "{seen}");
                assert_eq!(seen["remote_user"], user.as_str());
            }
        }
    }
    // Each walk that broke off has its line, and says whose fault it was.
    eventually("the log tells of those who left", async || {
        let log = scene.gateway.log();
        let count = |why: &str| log.lines().filter(|line| line.contains(why)).count();
        count("\"why\":\"client-gone\",\"side\":\"client\"") == 3
            && count("the client ended the request body early") >= 6
    })
    .await;
}

#[tokio::test]
async fn a_body_above_the_applications_limit_is_refused() {
    let stage = Stage::new().await;
    stage.append("apps/wiki.toml", "[limits]\nmax_body = \"1MiB\"\n");
    let scene = Scene::new(stage).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let before = scene.wiki.requests().await;
    // Announced: refused before a byte of it is read.
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        MIB + 1
    );
    let replies = scene.raw("wiki", &[request]).await;
    assert_eq!(replies[0].status, 413, "{replies:?}");
    assert_eq!(replies[0].header("kerbgate-reason"), Some("body-too-large"));
    assert_eq!(scene.wiki.requests().await, before);
    // The control: exactly as much as allowed.
    let guest = with(&scene, Speaks::Http2);
    let url = scene.gateway.url("wiki", "/echo").parse().unwrap();
    let answer = guest
        .request(Method::POST, &url)
        .body(bytes(MIB))
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}
