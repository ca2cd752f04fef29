//! What an application sends bit by bit arrives bit by bit, as it is, and costs no memory.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::lab::Stage;
use crate::sockets::http2;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;
use crate::wire::connect;

fn with(scene: &Scene, speaks: Speaks) -> Visitor {
    let mut guest = Visitor::new(&scene.stage.lab.facts.ca, speaks);
    guest.cookies = scene.guest.cookies.clone();
    guest
}

#[tokio::test]
async fn events_come_one_by_one() {
    let scene = Scene::new(Stage::new().await).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        // The second would come in ten minutes: the first is not held back for it.
        let url = scene
            .gateway
            .url("wiki", "/sse?events=2&ms=600000")
            .parse()
            .unwrap();
        let mut answer = with(&scene, speaks)
            .request(Method::GET, &url)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let first = tokio::time::timeout(Duration::from_secs(20), answer.chunk()).await;
        assert_eq!(
            &first.unwrap().unwrap().unwrap()[..],
            b"id: 0\ndata: event 0\n\n"
        );
    }
}

#[tokio::test]
async fn nobody_sends_a_body_before_it_is_wanted() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let before = scene.wiki.requests().await;
    // Without a session: the answer comes instead of the 100, and the body is never asked for.
    for (cookie, wanted) in [
        ("none=1", "HTTP/1.1 401"),
        (cookie.as_str(), "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let mut wire = connect(&scene.stage, "wiki", b"http/1.1").await;
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        wire.write_all(head.as_bytes()).await.unwrap();
        let mut said = vec![0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(20), wire.read(&mut said)).await;
        said.truncate(length.unwrap().unwrap());
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with(wanted), "{said}");
        if said.contains("100") {
            wire.write_all(b"hello").await.unwrap();
            let rest = crate::wire::to_the_end(&mut wire).await;
            let reply = crate::wire::replies(&rest).pop().unwrap();
            assert_eq!(reply.json()["body_length"], 5, "{reply:?}");
        }
    }
    assert_eq!(scene.wiki.requests().await, before + 1);
}

#[tokio::test]
async fn a_gigabyte_costs_no_memory_and_a_slow_reader_holds_the_backend_back() {
    let scene = Scene::new(Stage::new().await).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let guest = with(&scene, speaks);
        let url = scene.gateway.url("wiki", "/flood?mib=512").parse().unwrap();
        let before = scene.peak_memory();
        let mut answer = guest.request(Method::GET, &url).send().await.unwrap();
        let mut length = 0;
        while let Some(piece) = answer.chunk().await.unwrap() {
            if length == 0 {
                // Nobody reads for a while: the gateway must not read on without end.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            length += piece.len();
        }
        assert_eq!(length, 512 << 20, "{speaks:?}");
        let grown = scene.peak_memory().saturating_sub(before);
        eprintln!("512 MiB over {speaks:?}: {grown} KiB more");
        assert!(grown < 24 << 10, "{speaks:?}: {grown} KiB");
    }
}

#[tokio::test]
async fn trailers_go_both_ways_without_forged_ones() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let sent = format!(
        "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Checksum, X-Remote-User, x_remote_user, Cookie\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Checksum: 7\r\nX-Remote-User: evil\r\nx_remote_user: evil\r\nCookie: a=b\r\nX-Other: 1\r\n\r\n\
         GET /trailers HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"
    );
    let mut wire = connect(&scene.stage, "wiki", b"http/1.1").await;
    wire.write_all(sent.as_bytes()).await.unwrap();
    let came = crate::wire::to_the_end(&mut wire).await;
    let seen = crate::wire::replies(&came)[0].json();
    assert_eq!(
        seen["trailers"],
        serde_json::json!({"x-checksum": ["7"]}),
        "{seen}"
    );
    assert_eq!(seen["remote_user"], scene.sam.as_str());
    let came = String::from_utf8_lossy(&came).to_ascii_lowercase();
    assert!(came.contains("\r\n0\r\nx-checksum: 42\r\n"), "{came}");
    assert!(!came.contains("evil"), "{came}");

    // Over HTTP/2 nothing has to be declared to the client: what may not trail is taken out all the same.
    let request = http::Request::get(format!("https://{host}/trailers"))
        .header("cookie", cookie)
        .header("te", "trailers")
        .body(Empty::new())
        .unwrap();
    let mut sender = http2(&scene.stage, "wiki").await;
    let answer = sender.send_request(request).await.unwrap();
    let came = answer.into_body().collect().await.unwrap();
    let trailers = came.trailers().unwrap();
    assert_eq!(trailers["x-checksum"], "42");
    for forged in ["set-cookie", "kerbgate-reason", "content-length"] {
        assert!(!trailers.contains_key(forged), "{trailers:?}");
    }
}
