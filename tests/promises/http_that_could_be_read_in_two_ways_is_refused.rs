//! A request that two programs could read differently, or that only costs, is refused at the door.
//!
//! Each test has a control that must get through, and counts what reached the backend: a status alone
//! would not show a second request that was smuggled in behind the first.

use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::lab::Stage;
use crate::wire::CONTINUATION;
use crate::wire::DATA;
use crate::wire::END_HEADERS;
use crate::wire::END_STREAM;
use crate::wire::HEADERS;
use crate::wire::Http2;
use crate::wire::RST_STREAM;
use crate::wire::Scene;
use crate::wire::block;
use crate::wire::connect;
use crate::wire::frame;
use crate::wire::replies;
use crate::wire::to_the_end;

/// Header lines that make a request's length doubtful, and the body that goes with them.
const FRAMING: &[(&str, &str)] = &[
    (
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
    ),
    ("Content-Length: 4\r\nContent-Length: 5\r\n", "12345"),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", "12345"),
    ("Content-Length: 5, 5\r\n", "12345"),
    ("Content-Length: +5\r\n", "12345"),
    ("Content-Length: -5\r\n", "12345"),
    ("Content-Length: 0x5\r\n", "12345"),
    ("Content-Length: 5 5\r\n", "12345"),
    ("Content-Length:\r\n", ""),
    ("Content-Length: 99999999999999999999999\r\n", "12345"),
    ("Content-Length : 5\r\n", "12345"),
    ("Content_Length: 5\r\nContent-Length: 0, 5\r\n", "12345"),
    ("Transfer-Encoding: identity\r\n", ""),
    ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "0\r\n\r\n",
    ),
    ("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"),
    (" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("X: 1\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("X: 1\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding:\n chunked\r\n", "0\r\n\r\n"),
    ("X: folded\r\n\tX-Remote-User: x\r\n", ""),
    ("X: nul\0\r\n", ""),
    ("X\0: nul\r\n", ""),
    ("no colon at all\r\n", ""),
    (": no name\r\n", ""),
    ("X y: space\r\n", ""),
    ("X(y): no token\r\n", ""),
];

/// Chunked bodies that are none, though the head is sound.
const CHUNKED: &[&str] = &[
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "\r\n",
    "-1\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "0\r\nX y: trailer\r\n\r\n",
    "0\r\nX: folded\r\n trailer\r\n\r\n",
];

fn smuggled(scene: &Scene) -> String {
    format!(
        "GET /echo/smuggled HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        scene.host("wiki"),
        scene.cookie("wiki")
    )
}

#[tokio::test]
async fn what_hides_a_second_request() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let second = smuggled(&scene);
    let before = scene.wiki.requests().await;
    for (lines, body) in FRAMING {
        for (at, request) in [
            format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{lines}\r\n{body}{second}"),
            format!("POST /echo HTTP/1.1\r\n{lines}Host: {host}\r\nCookie: {cookie}\r\n\r\n{body}{second}"),
        ]
        .into_iter()
        .enumerate()
        {
            let what = lines.escape_debug();
            let replies = scene.raw("wiki", &[&request]).await;
            let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
            assert_eq!(statuses, [400], "{what}, place {at}");
            // Cut into single bytes it is not read otherwise. The answer may be lost with the rest
            // of the request, which nobody reads any more.
            if at == 0 {
                let bytes: Vec<[u8; 1]> = request.bytes().map(|byte| [byte]).collect();
                let replies = scene.raw("wiki", &bytes).await;
                assert!(replies.iter().all(|reply| reply.status == 400), "{what}: {replies:?}");
            }
        }
    }
    assert_eq!(scene.wiki.requests().await, before, "something arrived");
    scene.control().await;
    assert_eq!(scene.wiki.requests().await, before + 1);
}

#[tokio::test]
async fn chunks_that_are_none() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let second = smuggled(&scene);
    for body in CHUNKED {
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{second}"
        );
        let before = scene.wiki.requests().await;
        let replies = scene.raw("wiki", &[request]).await;
        let what = body.escape_debug();
        // The head was sound: the backend may have seen that a request began, but never two.
        assert!(scene.wiki.requests().await <= before + 1, "{what}");
        assert!(replies.len() <= 1, "{what}: {replies:?}");
        assert!(
            replies.iter().all(|reply| reply.status >= 400),
            "{what}: {replies:?}"
        );
    }
    // The control: the same with a sound body.
    let before = scene.wiki.requests().await;
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nTransfer-Encoding: Chunked\r\n\r\n\
         5;ext=\"1\"\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n\
         GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    let replies = scene.raw("wiki", &[request]).await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200]);
    assert_eq!(replies[0].json()["body_length"], 11);
    assert_eq!(scene.wiki.requests().await, before + 2);
}

#[tokio::test]
async fn lines_that_are_no_request() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let rest = format!("Host: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    let before = scene.wiki.requests().await;
    for line in [
        "GET /echo HTTP/1.1\n",
        "GET /echo HTTP/1.1\r",
        "GET  /echo HTTP/1.1\r\n",
        "GET /echo  HTTP/1.1\r\n",
        "GET /echo HTTP/1.1 \r\n",
        " GET /echo HTTP/1.1\r\n",
        "GET\t/echo\tHTTP/1.1\r\n",
        "GET /echo\r\n",
        "GET /echo HTTP/1.2\r\n",
        "GET /echo HTTP/2.0\r\n",
        "GET /echo HTTP/0.9\r\n",
        "GET /echo http/1.1\r\n",
        "GET /echo FTP/1.1\r\n",
        "GET /ec\0ho HTTP/1.1\r\n",
        "GET /echo#x HTTP/1.1\r\n",
        "GET /echo?a#x HTTP/1.1\r\n",
        "G@T /echo HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let replies = scene.raw("wiki", &[format!("{line}{rest}")]).await;
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [400], "{}", line.escape_debug());
    }
    // Without its slash it is a host to HTTP, and not the one of the Host header.
    let replies = scene
        .raw("wiki", &[format!("GET echo HTTP/1.1\r\n{rest}")])
        .await;
    assert_eq!(replies[0].status, 421, "{replies:?}");
    for garbage in [&b"\xff\xfe\xfd\xfc\r\n\r\n"[..], b"\0\0\0\0\r\n\r\n"] {
        let replies = scene.raw("wiki", &[garbage]).await;
        assert!(replies.iter().all(|reply| reply.status == 400));
    }
    assert_eq!(scene.wiki.requests().await, before, "something arrived");
    scene.control().await;
    assert_eq!(scene.wiki.requests().await, before + 1);
}

#[tokio::test]
async fn targets_with_two_readings() {
    let stage = Stage::new().await;
    let scene = Scene::new(stage).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let ask = async |line: &str, host: &str| {
        let request =
            format!("{line} HTTP/1.1\r\n{host}Cookie: {cookie}\r\nConnection: close\r\n\r\n");
        let replies = scene.raw("wiki", &[request]).await;
        assert_eq!(replies.len(), 1, "{line}: {replies:?}");
        replies.into_iter().next().unwrap()
    };
    let own = format!("Host: {host}\r\n");
    let before = scene.wiki.requests().await;
    for path in [
        "/echo/a%2fb",
        "/echo/a%2Fb",
        "/echo/a%5cb",
        "/echo/a\\b",
        "/echo/..;/b",
        "/echo/.;/b",
        "/echo/%2e%2e;/b",
        "/echo/..%3b/b",
        "/../echo",
        "/echo/../../x",
        "/%2e%2e/echo",
        "/echo//../b",
        "/echo/%",
        "/echo/%zz",
        "/echo/%u002f",
        "/echo/a%00",
        "/echo/a%0d%0aX:1",
        "/echo/%c0%af",
        "/echo/%e0%80%af",
        "/echo/a%23",
        "/echo/\u{fc}",
        "*",
    ] {
        let reply = ask(&format!("GET {path}"), &own).await;
        assert_eq!(reply.status, 400, "{path}: {reply:?}");
    }
    for (line, header, status, reason) in [
        ("TRACE /echo", own.clone(), 405, "method-refused"),
        ("GET /echo", String::new(), 421, "host-mismatch"),
        ("GET /echo", format!("{own}{own}"), 421, "host-mismatch"),
        ("GET /echo", "Host: a b\r\n".into(), 421, "host-mismatch"),
        (
            "GET /echo",
            "Host: unknown.localhost\r\n".into(),
            404,
            "host-unknown",
        ),
        (
            "GET /echo",
            "Host: 127.0.0.1\r\n".into(),
            404,
            "host-unknown",
        ),
        (
            "GET https://intranet.localhost/echo",
            own.clone(),
            421,
            "host-mismatch",
        ),
        (
            "GET http://x@wiki.localhost/echo",
            own.clone(),
            421,
            "host-mismatch",
        ),
        (
            "GET https://unknown.localhost/",
            "Host: unknown.localhost\r\n".into(),
            404,
            "host-unknown",
        ),
    ] {
        let reply = ask(line, &header).await;
        assert_eq!(reply.status, status, "{line} {header:?}: {reply:?}");
        assert_eq!(
            reply.header("kerbgate-reason"),
            Some(reason),
            "{line} {header:?}"
        );
    }
    let reply = ask(&format!("CONNECT {host}"), &own).await;
    assert!(matches!(reply.status, 400 | 405), "{reply:?}");
    assert_eq!(scene.wiki.requests().await, before, "something arrived");

    // What has one reading goes on as it was read.
    for (target, path, query) in [
        ("/echo//a///b", "/echo/a/b", ""),
        ("/echo/./a/x/../b", "/echo/a/b", ""),
        ("/echo/x/%2e%2E/a", "/echo/a", ""),
        (
            "/echo/%41%7e;p=1/%e4?q=/../%2f&r=//",
            "/echo/%41%7e;p=1/%e4",
            "q=/../%2f&r=//",
        ),
        (
            &*format!("https://{host}/echo/absolute"),
            "/echo/absolute",
            "",
        ),
    ] {
        let reply = ask(&format!("GET {target}"), &own).await;
        assert_eq!(reply.status, 200, "{target}: {reply:?}");
        assert_eq!(reply.json()["path"], path, "{target}");
        assert_eq!(reply.json()["query"], query, "{target}");
    }
    assert_eq!(scene.wiki.requests().await, before + 5);
}

#[tokio::test]
async fn no_other_protocol_is_tunnelled() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let before = scene.wiki.requests().await;
    for (method, path) in [
        ("CONNECT", "/echo"),
        ("CONNECT", "wiki:443"),
        ("TRACE", "/echo"),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        let replies = scene.raw("wiki", &[request]).await;
        assert!(replies[0].status >= 400, "{replies:?}");
    }
    for protocol in [
        "h2c, websocket",
        "websocket, h2c",
        "TLS/1.0, websocket",
        "derp",
    ] {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\nCookie: {cookie}\r\nUpgrade: {protocol}\r\n\
             Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let replies = scene.raw("wiki", &[request]).await;
        assert_eq!(
            replies[0].header("kerbgate-reason"),
            Some("upgrade-refused"),
            "{replies:?}"
        );
    }
    assert_eq!(scene.wiki.requests().await, before);
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nUpgrade: derp\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
         GET /echo/smuggled HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    let replies = scene.raw("wiki", &[request]).await;
    assert_eq!(replies[0].status, 501, "{replies:?}");
    assert_eq!(
        replies[0].header("kerbgate-reason"),
        Some("upgrade-refused")
    );
    assert!(replies.len() <= 2, "{replies:?}");
    let arrived = scene.wiki.requests().await - before;
    assert_eq!(
        arrived,
        replies.len() as u64 - 1,
        "the second one is a request like any"
    );

    // An offer of h2c is passed over, and the backend never sees it (RFC 9113 3.1).
    let before = scene.wiki.requests().await;
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n\
         PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    );
    let replies = scene.raw("wiki", &[request]).await;
    assert_eq!(replies[0].status, 200, "{replies:?}");
    let headers = &replies[0].json()["headers"];
    for name in ["upgrade", "http2-settings", "connection"] {
        assert!(headers[name].is_null(), "{name}: {headers}");
    }
    assert_eq!(scene.wiki.requests().await, before + 1);
}

#[tokio::test]
async fn heads_without_measure() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let before = scene.wiki.requests().await;
    let memory = scene.peak_memory();
    let big = "x".repeat(200_000);
    let many = "X-A: b\r\n".repeat(5_000);
    for lines in [format!("X-Big: {big}\r\n"), many] {
        let request = format!(
            "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{lines}Connection: close\r\n\r\n"
        );
        let replies = scene.raw("wiki", &[request]).await;
        // The answer may be lost with what nobody reads any more.
        assert!(
            replies.iter().all(|reply| reply.status == 431),
            "{replies:?}"
        );
    }
    // Just above the limit everything was read, and the answer arrives.
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nX-Big: {}\r\nConnection: close\r\n\r\n",
        "x".repeat(65_600)
    );
    let replies = scene.raw("wiki", &[request]).await;
    assert!(
        replies.iter().all(|reply| reply.status == 431),
        "{replies:?}"
    );
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{}Connection: close\r\n\r\n",
        "X-A: b\r\n".repeat(150)
    );
    let replies = scene.raw("wiki", &[request]).await;
    assert_eq!(
        replies.first().map(|reply| reply.status),
        Some(431),
        "{replies:?}"
    );
    // Megabytes of a head that never ends.
    let mut wire = connect(&scene.stage, "wiki", b"http/1.1").await;
    let mut sent = 0_usize;
    let line = format!("X-Endless: {}\r\n", "y".repeat(1000));
    drop(wire.write_all(b"GET / HTTP/1.1\r\n").await);
    while sent < 64 << 20 && wire.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    assert!(sent < 32 << 20, "{sent} bytes of one head were taken");
    assert_eq!(scene.wiki.requests().await, before, "something arrived");
    let grown = scene.peak_memory().saturating_sub(memory);
    assert!(grown < 32 << 10, "{grown} KiB more");

    // A large head that is within the limit arrives, in single bytes too.
    let large = "z".repeat(40_000);
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nX-Large: {large}\r\nConnection: close\r\n\r\n"
    );
    let replies = scene.raw("wiki", &[&request]).await;
    assert_eq!(replies[0].status, 200);
    assert!(replies[0].body.contains(&large));
    let small = request.replace(&large, "small");
    let bytes: Vec<[u8; 1]> = small.bytes().map(|byte| [byte]).collect();
    let replies = scene.raw("wiki", &bytes).await;
    assert_eq!(replies[0].status, 200, "slow but sound");
    assert_eq!(scene.wiki.requests().await, before + 2);
}

/// A stage on which nobody waits long for a client.
async fn impatient() -> Stage {
    let stage = Stage::new().await;
    stage.replace(
        "kerbgate.toml",
        "ops = \"127.0.0.1:0\"",
        "ops = \"127.0.0.1:0\"\nheaders = \"1500ms\"\nidle = \"4s\"\nhandshake = \"2s\"",
    );
    stage.append("apps/wiki.toml", "[limits]\nidle = \"1500ms\"\n");
    stage
}

/// Longest time in which a slow client must be gone, on a machine that is busy with other things.
const CUT: Duration = Duration::from_secs(12);

#[tokio::test]
async fn slow_clients_are_cut_and_nobody_else_waits() {
    let scene = Scene::new(impatient().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let start = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..150 {
        let mut wire = connect(&scene.stage, "wiki", b"http/1.1").await;
        wire.write_all(format!("GET /echo HTTP/1.1\r\nHost: {host}\r\nX-Slow: ").as_bytes())
            .await
            .unwrap();
        slow.push(wire);
    }
    let mut wire = slow.pop().unwrap();
    scene.control().await;
    // This one keeps sending, a byte at a time: the head's time counts from its beginning.
    let dripped = tokio::time::timeout(CUT, async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            if wire.write_all(b"x").await.is_err() || wire.flush().await.is_err() {
                return;
            }
            let mut byte = [0];
            let read = tokio::time::timeout(Duration::from_millis(1), wire.read(&mut byte)).await;
            if read.is_ok() {
                return; // answered or closed
            }
        }
    });
    assert!(dripped.await.is_ok(), "a head may drip for ever");
    for mut wire in slow {
        let replies = replies(&to_the_end(&mut wire).await);
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].status, 408);
    }
    let took = start.elapsed();
    assert!(took < CUT + Duration::from_secs(20), "cut after {took:?}");
    scene.control().await;

    // A body that stops: the answer says whose fault it was, and the connection is not used again.
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nContent-Length: 1000\r\n\r\nbegun"
    );
    let start = Instant::now();
    let replies = scene.raw("wiki", &[request]).await;
    assert_eq!(replies[0].status, 408, "{replies:?}");
    assert_eq!(
        replies[0].header("kerbgate-reason"),
        Some("request-timeout")
    );
    assert!(start.elapsed() < CUT, "{:?}", start.elapsed());

    // A connection on which nothing is asked ends as well, and so does one without a handshake.
    let start = Instant::now();
    let mut idle = connect(&scene.stage, "wiki", b"http/1.1").await;
    let mut idle2 = connect(&scene.stage, "wiki", b"h2").await;
    let mut bare = tokio::net::TcpStream::connect(("127.0.0.1", scene.stage.port))
        .await
        .unwrap();
    assert!(to_the_end(&mut idle).await.is_empty());
    to_the_end(&mut idle2).await;
    drop(bare.read(&mut [0; 64]).await);
    assert!(start.elapsed() < CUT, "{:?}", start.elapsed());
    scene.control().await;
}

#[tokio::test]
async fn slow_http2_clients_are_cut() {
    let scene = Scene::new(impatient().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let head = block(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", &host),
        (":path", "/echo"),
        ("cookie", &cookie),
    ]);
    let start = Instant::now();
    let mut unfinished = Http2::open(&scene.stage, "wiki").await;
    unfinished.frame(HEADERS, 0, 1, &head).await;
    let mut silent = Http2::open(&scene.stage, "wiki").await;
    silent.frame(HEADERS, END_HEADERS, 1, &head).await;
    silent.frame(DATA, 0, 1, b"begun").await;
    let outcome = silent.outcome(1).await;
    assert!(
        outcome.status == Some(408) || outcome.reset.is_some(),
        "{outcome:?}"
    );
    let outcome = unfinished.outcome(1).await;
    assert_eq!(outcome.status, None, "{outcome:?}");
    assert!(outcome.closed || outcome.goaway.is_some(), "{outcome:?}");
    assert!(start.elapsed() < CUT, "{:?}", start.elapsed());
    scene.control().await;
}

#[tokio::test]
async fn http2_requests_that_are_none() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let other = scene.host("intranet");
    let m = (":method", "GET");
    let s = (":scheme", "https");
    let a = (":authority", &*host);
    let p = (":path", "/echo");
    let c = ("cookie", &*cookie);
    let before = scene.wiki.requests().await;
    let requests: &[&[(&str, &str)]] = &[
        &[s, a, p, c],
        &[m, a, p, c],
        &[m, s, a, c],
        &[m, m, s, a, p, c],
        &[m, s, a, p, p, c],
        &[m, s, a, a, p, c],
        &[m, s, a, (":path", ""), c],
        &[m, s, a, (":path", "echo"), c],
        &[m, s, a, (":path", "/echo/a%2fb"), c],
        &[m, s, a, (":path", "/echo/..;/a"), c],
        &[m, s, a, (":path", "/echo HTTP/1.1\r\nX: y"), c],
        &[m, s, a, c, p],
        &[m, s, a, p, (":unknown", "x"), c],
        &[m, s, a, p, (":status", "200"), c],
        &[m, s, a, p, c, ("X-Upper", "x")],
        &[m, s, a, p, c, ("connection", "close")],
        &[m, s, a, p, c, ("connection", "x-remote-user")],
        &[m, s, a, p, c, ("keep-alive", "5")],
        &[m, s, a, p, c, ("proxy-connection", "close")],
        &[m, s, a, p, c, ("transfer-encoding", "chunked")],
        &[m, s, a, p, c, ("upgrade", "websocket")],
        &[m, s, a, p, c, ("te", "gzip")],
        &[m, s, a, p, c, ("x", "a\r\nx-remote-user: b")],
        &[m, s, a, p, c, ("x", "a\nb")],
        &[m, s, a, p, c, ("x", "a\0b")],
        &[m, s, a, p, c, ("x y", "a")],
        &[m, s, a, p, c, ("x:y", "a")],
        &[m, s, a, p, c, ("", "a")],
        &[m, s, a, p, c, ("content-length", "5")],
        &[
            m,
            s,
            a,
            p,
            c,
            ("content-length", "5"),
            ("content-length", "6"),
        ],
        &[m, s, a, p, c, ("host", &*other)],
        &[m, s, a, p, c, ("host", &*host), ("host", &*host)],
        &[m, s, p, c],
        &[m, s, (":authority", "unknown.localhost"), p, c],
        &[m, s, (":authority", "x@wiki.localhost"), p, c],
        &[(":method", "TRACE"), s, a, p, c],
        &[(":method", "CONNECT"), a, c],
        &[
            (":method", "CONNECT"),
            s,
            a,
            p,
            (":protocol", "websocket"),
            c,
        ],
        &[(":method", "GET /x HTTP/1.1"), s, a, p, c],
    ];
    for fields in requests {
        let mut wire = Http2::open(&scene.stage, "wiki").await;
        let flags = END_HEADERS | END_STREAM;
        wire.frame(HEADERS, flags, 1, &block(fields)).await;
        let outcome = wire.outcome(1).await;
        let refused = match outcome.status {
            Some(status) => (400..600).contains(&status),
            None => outcome.reset.is_some() || outcome.goaway.is_some() || outcome.closed,
        };
        assert!(refused, "{fields:?}: {outcome:?}");
    }
    // More data than announced, and less.
    for sent in [&b"123456789"[..], b"1"] {
        let mut wire = Http2::open(&scene.stage, "wiki").await;
        let fields = [(":method", "POST"), s, a, p, c, ("content-length", "5")];
        wire.frame(HEADERS, END_HEADERS, 1, &block(&fields)).await;
        wire.frame(DATA, END_STREAM, 1, sent).await;
        let outcome = wire.outcome(1).await;
        assert_ne!(outcome.status, Some(200), "{outcome:?}");
    }
    // A body that breaks off cannot be known before it was begun to be passed on.
    assert!(
        scene.wiki.requests().await <= before + 2,
        "something arrived"
    );
    let before = scene.wiki.requests().await;
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    let fields = [m, s, a, p, c, ("host", &*host), ("te", "trailers")];
    wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))
        .await;
    let outcome = wire.outcome(1).await;
    assert_eq!(outcome.status, Some(200), "{outcome:?}");
    assert_eq!(outcome.json()["remote_user"], scene.sam);
    assert_eq!(scene.wiki.requests().await, before + 1);
    // The parser takes a fragment off before anybody looks: what is decided on is what is sent.
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    let fields = [m, s, a, (":path", "/echo/a#/../b?c"), c];
    wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))
        .await;
    let outcome = wire.outcome(1).await;
    if outcome.status == Some(200) {
        assert_eq!(outcome.json()["path"], "/echo/a");
        assert_eq!(outcome.json()["query"], "");
    } else {
        assert_eq!(outcome.status, Some(400), "{outcome:?}");
    }
}

#[tokio::test]
async fn http2_floods_cost_the_attacker_the_connection() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &*host),
        (":path", "/echo"),
        ("cookie", &*cookie),
    ];
    let head = block(&fields);
    scene.control().await;
    let before = scene.wiki.requests().await;
    let memory = scene.peak_memory();

    // CVE-2023-44487: requests that are taken back at once.
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    let mut taken = 0_u32;
    let flags = END_HEADERS | END_STREAM;
    while taken < 20_000 {
        let mut burst = Vec::new();
        for at in taken..taken + 100 {
            burst.extend(frame(HEADERS, flags, 2 * at + 1, &head));
            burst.extend(frame(RST_STREAM, 0, 2 * at + 1, &8_u32.to_be_bytes()));
        }
        if !wire.send(&burst).await {
            break;
        }
        taken += 100;
    }
    let outcome = wire.outcome(u32::MAX >> 1).await;
    assert!(
        outcome.closed || outcome.goaway.is_some_and(|code| code != 0),
        "{outcome:?}"
    );
    assert!(taken < 20_000, "all resets were taken");
    let arrived = scene.wiki.requests().await - before;
    assert!(arrived <= u64::from(taken), "{arrived}");
    scene.control().await;

    // A header block that never ends.
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    wire.frame(HEADERS, END_STREAM, 1, &head).await;
    let more = block(&[("x-flood", &"f".repeat(8_000))]);
    let mut sent = 0_usize;
    while sent < 64 << 20 && wire.frame(CONTINUATION, 0, 1, &more).await {
        sent += more.len();
    }
    assert!(
        sent < 32 << 20,
        "{sent} bytes of one header block were taken"
    );
    // Empty ones cost bytes of the attacker only, but no end either.
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    wire.frame(HEADERS, END_STREAM, 1, &head).await;
    let empty: Vec<u8> = (0..1000)
        .flat_map(|_| frame(CONTINUATION, 0, 1, &[]))
        .collect();
    let mut sent = 0;
    while sent < 2_000 && wire.send(&empty).await {
        sent += 1;
    }
    assert!(sent < 2_000, "empty CONTINUATION frames without end");

    // A bomb: one entry of HPACK's table, referred to again and again.
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    let mut bomb = head.clone();
    bomb.push(0x40); // literal with incremental indexing, new name
    for text in ["x-bomb", &"b".repeat(3_900)] {
        crate::wire::integer(&mut bomb, text.len());
        bomb.extend_from_slice(text.as_bytes());
    }
    bomb.extend(std::iter::repeat_n(0xbe_u8, 8_000)); // index 62: the newest entry
    wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)
        .await;
    let outcome = wire.outcome(1).await;
    assert_ne!(outcome.status, Some(200), "{outcome:?}");

    let grown = scene.peak_memory().saturating_sub(memory);
    assert!(grown < 64 << 10, "{grown} KiB more");
    let health = scene.health().await;
    assert_eq!(health, 200, "the probe");
    scene.control().await;
}

#[tokio::test]
async fn many_streams_at_once_are_bounded() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &*host),
        (":path", "/slow?ms=60000"),
        ("cookie", &*cookie),
    ];
    let before = scene.wiki.requests().await;
    let mut wire = Http2::open(&scene.stage, "wiki").await;
    let burst: Vec<u8> = (0..300)
        .flat_map(|at| {
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                2 * at + 1,
                &block(&fields),
            )
        })
        .collect();
    wire.send(&burst).await;
    let outcome = wire.outcome(599).await;
    assert!(
        outcome.reset.is_some() || outcome.goaway.is_some(),
        "{outcome:?}"
    );
    scene.control().await;
    let arrived = scene.wiki.requests().await - before - 1;
    assert!(arrived <= 200, "{arrived} at once");
}

#[tokio::test]
async fn a_slash_in_a_name_is_passed_on_only_where_it_was_said() {
    let stage = Stage::new().await;
    stage.replace(
        "apps/wiki.toml",
        "name = \"Wiki\"\n",
        "name = \"Wiki\"\nencoded_slash = \"keep\"\nanonymous = [\"/echo/open/\"]\n",
    );
    let scene = Scene::new(stage).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let ask = async |path: &str, headers: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        scene.raw("wiki", &[request]).await.remove(0)
    };
    let signed_in = format!("Cookie: {cookie}\r\n");
    let before = scene.wiki.requests().await;
    for path in ["/echo/queues/%2F/x", "/echo/a%2fb"] {
        let reply = ask(path, &signed_in).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert_eq!(reply.json()["path"], path);
    }
    assert_eq!(ask("/echo/a%2fb", "").await.status, 401);
    for path in [
        "/echo/open%2fx",
        "/echo%2fopen/x",
        "/echo/open/x%2fy",
        "/echo/a%2f..%2fb",
        "/echo/a%2f..",
        "/.kerbgate%2fsession",
        "/echo/a%5cb",
        "/echo/a%2f%00",
    ] {
        for headers in ["", &*signed_in] {
            let reply = ask(path, headers).await;
            assert_eq!(reply.status, 400, "{path} {headers:?}: {reply:?}");
            assert_eq!(
                reply.header("kerbgate-reason"),
                Some("target-refused"),
                "{path}"
            );
        }
    }
    assert_eq!(scene.wiki.requests().await, before + 2);
}

/// Browsers put requests for several hosts on one HTTP/2 connection; what decides by handshake (a client certificate, a
/// proxy's rule for one host) must not be got around that way.
#[tokio::test]
async fn a_connection_serves_only_hosts_of_its_certificate() {
    let stage = Stage::new().await;
    let facts = &stage.lab.facts;
    stage.append(
        "kerbgate.toml",
        &format!(
            "\n[[listener.certificates]]\nchain = {:?}\nkey = {:?}\n",
            facts.second_certificate, facts.second_key
        ),
    );
    let segment = |host: &str| {
        format!(
            "\n[[segments]]\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{}/\"]\nanonymous = [\"/echo/open/\"]\n",
            stage.url(host, "/"),
            facts.backends.wiki.port()
        )
    };
    stage.append("apps/wiki.toml", &segment("second"));
    // Of no certificate here: somebody in front shows one for it.
    stage.append("apps/wiki.toml", &segment("third"));
    let scene = Scene::new(stage).await;
    let before = scene.wiki.requests().await;
    let ask = async |sni: &str, host: &str| {
        let host = scene.host(host);
        let request =
            format!("GET /echo/open/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        scene.raw(sni, &[request]).await.remove(0)
    };
    for (sni, host, status) in [
        ("second", "second", 200),
        ("wiki", "second", 421),
        ("second", "wiki", 421),
        ("wiki", "third", 200),
        // The same certificate: 401, for this address is open to nobody.
        ("intranet", "wiki", 401),
    ] {
        let reply = ask(sni, host).await;
        assert_eq!(reply.status, status, "{sni} {host}: {reply:?}");
        if status == 421 {
            assert_eq!(reply.header("kerbgate-reason"), Some("host-mismatch"));
        }
    }
    assert_eq!(scene.wiki.requests().await, before + 2);
}
