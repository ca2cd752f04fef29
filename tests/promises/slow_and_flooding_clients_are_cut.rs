//! Whoever is slow on purpose, takes nothing, or floods is cut in time; nobody else notices, and no log fills.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::lab::eventually;
use crate::who_comes_from_where_is_known::Place;
use crate::who_comes_from_where_is_known::STRANGER;
use crate::who_comes_from_where_is_known::from;
use crate::who_comes_from_where_is_known::plain;
use crate::wire::END_HEADERS;
use crate::wire::END_STREAM;
use crate::wire::HEADERS;
use crate::wire::Http2;
use crate::wire::block;
use crate::wire::frame;
use crate::wire::replies;
use crate::wire::to_the_end;

const SETTINGS: u8 = 4;
const PING: u8 = 6;

#[tokio::test]
async fn refusals_before_a_request_have_a_reason_and_do_not_fill_the_log() {
    let place = Place::new("headers = \"500ms\"\n", "", "").await;
    let before = place.backend.count();
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(200));
    for (bytes, status, reason) in [
        (
            "GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
            400,
            "bad-request",
        ),
        ("GET / HTTP/1.1\r\nHost: a", 408, "request-timeout"),
        (&large, 431, "header-too-large"),
        (&many, 431, "header-too-large"),
    ] {
        let mut wire = from(&place.stage, STRANGER, b"").await.unwrap();
        // A refusal may come before everything is written.
        drop(wire.write_all(bytes.as_bytes()).await);
        let all = replies(&to_the_end(&mut wire).await);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].status, status);
        assert_eq!(all[0].header("kerbgate-reason"), Some(reason));
        let id = all[0].header("kerbgate-request-id").unwrap().to_owned();
        eventually("the refusal is in the access log", async || {
            let log = place.gateway.log();
            log.lines()
                .any(|line| line.contains(&id) && line.contains(reason) && line.contains(STRANGER))
        })
        .await;
    }
    for _ in 0..200 {
        let mut wire = plain(&place.stage, STRANGER, b"").await.unwrap();
        drop(wire.write_all(b"this is no TLS\r\n\r\n").await);
        let mut rest = Vec::new();
        drop(wire.read_to_end(&mut rest).await);
    }
    let log = place.gateway.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("tls-handshake-failed"))
        .count();
    assert!((1..100).contains(&lines), "{lines}");
    assert_eq!(place.backend.count(), before);
}

#[tokio::test]
async fn three_hundred_slow_clients_are_cut_and_nobody_notices() {
    let listener = "headers = \"3s\"\n";
    let place = Place::new(
        listener,
        "",
        "[limits]\nidle = \"2s\"\nmin_rate = \"500\"\n",
    )
    .await;
    let before = place.backend.count();
    let (port, cookie) = (place.gateway.port, &place.cookie);
    let body = format!(
        "POST / HTTP/1.1\r\nHost: wiki.localhost:{port}\r\nCookie: {cookie}\r\nContent-Length: 100000\r\n\r\n"
    );
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..300 {
        let head = if number % 2 == 0 {
            "GET / HTTP/1.1\r\nX-A: "
        } else {
            &*body
        };
        let mut wire = from(&place.stage, STRANGER, b"").await.unwrap();
        wire.write_all(head.as_bytes()).await.unwrap();
        slow.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(wire);
            let drip = async {
                // One byte now and then is the attack.
                let mut tick = tokio::time::interval(Duration::from_millis(200));
                loop {
                    tick.tick().await;
                    if writer.write_all(b"x").await.is_err() || writer.flush().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let mut said = Vec::new();
            tokio::select! {
                () = drip => {}
                ended = reader.read_to_end(&mut said) => drop(ended),
            }
        });
    }
    let reply = place.ask("127.0.0.1", b"", &place.request("/", "")).await;
    assert_eq!(reply.status, 200);
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while slow.join_next().await.is_some() {}
    });
    assert!(ended.await.is_ok(), "slow clients are still there");
    let reply = place.ask("127.0.0.1", b"", &place.request("/", "")).await;
    assert_eq!(reply.status, 200);
    // The bodies' heads may have reached the backend, the slow heads never.
    assert!(
        place.backend.count() <= before + 152,
        "{}",
        place.backend.count()
    );
}

#[tokio::test]
async fn an_http2_client_that_takes_nothing_is_cut() {
    let place = Place::new("write = \"1s\"\n", "", "").await;
    let host = format!("wiki.localhost:{}", place.gateway.port);
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &*host),
        (":path", "/"),
        ("cookie", &*place.cookie),
    ];
    for window in [Some([0, 4, 0, 0, 0, 0]), None] {
        let mut wire = Http2::open(&place.stage, "wiki").await;
        if let Some(zero) = window {
            // RFC 9113 6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
            assert!(wire.frame(SETTINGS, 0, 0, &zero).await);
        }
        wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))
            .await;
        let outcome = wire.outcome(1).await;
        assert_eq!(outcome.status, Some(200), "{outcome:?}");
        assert_eq!(outcome.closed, window.is_some(), "{outcome:?}");
        assert_eq!(outcome.body.is_empty(), window.is_some(), "{outcome:?}");
    }
}

/// CVE-2019-9512 and CVE-2019-9515: every one wants an answer that the client never reads.
#[tokio::test]
async fn floods_of_pings_and_settings_take_no_memory() {
    let place = Place::new("write = \"1s\"\n", "", "").await;
    let before = place.gateway.peak_memory();
    for (kind, payload) in [(PING, &[7; 8][..]), (SETTINGS, &[])] {
        let wire = crate::wire::connect(&place.stage, "wiki", b"h2").await;
        let (_unread, mut writer) = tokio::io::split(wire);
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        writer.write_all(begin).await.unwrap();
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let many = frame(kind, 0, 0, payload).repeat(10_000);
        // Until the gateway takes no more, or has cut us.
        let flood = async { while writer.write_all(&many).await.is_ok() {} };
        // While it goes on, others are served.
        let others = async {
            for _ in 0..5 {
                let reply = place.ask("127.0.0.1", b"", &place.request("/", "")).await;
                assert_eq!(reply.status, 200);
            }
        };
        tokio::select! {
            () = others => {}
            () = async { flood.await; std::future::pending().await } => {}
        }
    }
    let grown = place.gateway.peak_memory().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more");
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let place = Place::new("max_connections_per_address = 3\n", "", "").await;
    let port = place.gateway.port;
    let keep = format!("GET /kept HTTP/1.1\r\nHost: wiki.localhost:{port}\r\n\r\n");
    let open = async |source: &str, before: &str| {
        let mut wire = from(&place.stage, source, before.as_bytes()).await?;
        wire.write_all(keep.as_bytes()).await?;
        let mut said = [0; 12];
        wire.read_exact(&mut said).await?;
        assert_eq!(&said, b"HTTP/1.1 401");
        std::io::Result::Ok(wire)
    };
    // Whoever comes through a proxy counts as who it is: an IPv6 site (RFC 6177) as one, the proxy not at all.
    let site = |host: &str| format!("PROXY TCP6 2001:db8:0:7::{host} ::1 1 443\r\n");
    for (source, words) in [
        (STRANGER, ["", "", "", ""].map(String::from)),
        ("127.0.0.2", ["1", "2", "3", "4"].map(site)),
    ] {
        let mut held = Vec::new();
        for word in &words[..3] {
            held.push(open(source, word).await.unwrap());
        }
        let refused = open(source, &words[3]).await;
        assert!(refused.is_err(), "{source}: a fourth connection");
        // The one that was refused took no place, and others have theirs.
        let neighbor = "PROXY TCP6 2001:db8:0:8::1 ::1 1 443\r\n";
        drop(open("127.0.0.2", neighbor).await.unwrap());
        drop(open("127.0.0.5", "").await.unwrap());
        held.pop();
        eventually("the place is free again", async || {
            open(source, &words[3]).await.is_ok()
        })
        .await;
    }
    // Such lines are written together, a moment later.
    eventually("the log names the address", async || {
        let log = place.gateway.log();
        let mut lines = log.lines();
        lines.any(|line| line.contains("too-many-connections") && line.contains(STRANGER))
    })
    .await;
}

/// Over HTTP/1.1 a client that takes nothing shows in the socket alone.
#[tokio::test]
async fn an_http1_client_that_takes_nothing_or_drips_is_cut() {
    let stage = crate::lab::Stage::new().await;
    stage.replace(
        "kerbgate.toml",
        "[listener]\n",
        "[listener]\nwrite = \"1s\"\n",
    );
    let scene = crate::wire::Scene::new(stage).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let request = format!("GET /flood?mib=64 HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
    for drips in [false, true] {
        let mut wire = crate::wire::connect(&scene.stage, "wiki", b"http/1.1").await;
        wire.write_all(request.as_bytes()).await.unwrap();
        let cut = async || {
            let log = scene.gateway.log();
            let ours = log
                .lines()
                .filter(|line| line.contains("\"path\":\"/flood\""));
            ours.count() > usize::from(drips)
        };
        let mut taken = 0;
        let dripping = async {
            if !drips {
                std::future::pending::<()>().await;
            }
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            let mut some = [0; 16];
            loop {
                tick.tick().await;
                match wire.read(&mut some).await {
                    Ok(length @ 1..) => taken += length,
                    Ok(0) | Err(_) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = eventually("the exchange is over", cut) => {}
            () = dripping => {}
        }
        scene.control().await;
        // What was on its way may still be read; it is not the whole.
        let rest = to_the_end(&mut wire).await;
        assert!(
            taken + rest.len() < 60 << 20,
            "{drips}: {} bytes",
            rest.len()
        );
    }
}
