//! For the security officer: who is out is out, with all that was open, within five seconds.

use std::time::Duration;
use std::time::Instant;

use http::Method;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::sockets::Socket;
use crate::sockets::open;
use crate::visitor::Speaks;
use crate::wire::Scene;

const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];
const PROMISED: Duration = Duration::from_secs(5);

/// An endless answer, over each protocol.
async fn events(scene: &Scene) -> Vec<reqwest::Response> {
    let mut open = Vec::new();
    for speaks in BOTH {
        let mut guest = crate::visitor::Visitor::new(&scene.stage.lab.facts.ca, speaks);
        guest.cookies = scene.guest.cookies.clone();
        let url = scene
            .gateway
            .url("wiki", "/sse?events=100000&ms=50")
            .parse()
            .unwrap();
        let mut answer = guest.request(Method::GET, &url).send().await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        open.push(answer);
    }
    open
}

async fn sockets(scene: &Scene) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for speaks in BOTH {
        let mut socket = open(scene, speaks).await;
        assert_eq!(socket.ask("hello").await, "hello");
        sockets.push(socket);
    }
    sockets
}

async fn all_end(
    scene: &Scene,
    mut sockets: Vec<Socket>,
    streams: Vec<reqwest::Response>,
    why: &str,
) {
    let began = Instant::now();
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, (1008, why.to_owned()));
    }
    for mut stream in streams {
        while let Ok(piece) = stream.chunk().await {
            assert!(piece.is_some(), "a cut answer does not look whole");
        }
    }
    let took = began.elapsed();
    assert!(took < PROMISED, "{took:?}");
    eventually("lines that say why", async || {
        let log = scene.gateway.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let cut = lines.filter(|line| line["target"] == "access" && line["why"] == why);
        let paths: Vec<String> = cut
            .map(|line| line["path"].as_str().unwrap().to_owned())
            .collect();
        ["/ws", "/sse"]
            .iter()
            .all(|path| paths.iter().filter(|cut| cut == path).count() >= 2)
    })
    .await;
}

async fn with_session(session: &str) -> Scene {
    let stage = Stage::new().await;
    stage.append("kerbgate.toml", &format!("\n[session]\n{session}\n"));
    Scene::new(stage).await
}

#[tokio::test]
async fn signing_out_ends_sockets_and_downloads() {
    let mut scene = Scene::new(Stage::new().await).await;
    let (sockets, streams) = (sockets(&scene).await, events(&scene).await);
    let url = scene
        .gateway
        .url("wiki", "/.kerbgate/signout")
        .parse()
        .unwrap();
    let same = "same-origin".parse().unwrap();
    scene.guest.headers.insert("sec-fetch-site", same);
    let out = scene
        .guest
        .once(Method::POST, &url, Some(&[]))
        .await
        .unwrap();
    assert_eq!(out.status, 303);
    all_end(&scene, sockets, streams, "session-ended").await;
}

#[tokio::test]
async fn a_disabled_person_loses_what_is_open_without_any_further_request() {
    let scene = with_session("recheck = \"1s\"").await;
    let (sockets, streams) = (sockets(&scene).await, events(&scene).await);
    let person = format!("/people/{}", scene.login);
    scene
        .entra
        .control(Method::POST, &person, json!({"enabled": false}))
        .await;
    all_end(&scene, sockets, streams, "person-disabled").await;
}

#[tokio::test]
async fn a_role_taken_away_ends_them_where_it_was_needed() {
    let scene = with_session("recheck = \"1s\"").await;
    let (sockets, streams) = (sockets(&scene).await, events(&scene).await);
    let person = format!("/people/{}", scene.login);
    scene
        .entra
        .control(Method::POST, &person, json!({"roles": ["Intranet.User"]}))
        .await;
    all_end(&scene, sockets, streams, "not-allowed").await;
}

#[tokio::test]
async fn a_session_that_runs_out_ends_them_whatever_flows() {
    let scene = with_session("idle = \"8s\"\nabsolute = \"8s\"").await;
    let (mut sockets, streams) = (sockets(&scene).await, events(&scene).await);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(sockets[0].ask("busy").await, "busy");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    all_end(&scene, sockets, streams, "session-expired").await;
}

#[tokio::test]
async fn talking_keeps_a_session_alive_and_listening_does_not() {
    let scene = with_session("idle = \"6s\"").await;
    let mut talker = open(&scene, Speaks::Http2).await;
    let until = Instant::now() + Duration::from_secs(9);
    while Instant::now() < until {
        assert_eq!(talker.ask("still here").await, "still here");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let began = Instant::now();
    // Its pongs and what the server says are no use of the session.
    assert_eq!(talker.closed().await, (1008, "session-expired".to_owned()));
    assert!(
        began.elapsed() > Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn silence_and_age_have_limits_of_their_own() {
    for (setting, reason) in [
        ("idle = \"1s\"", "websocket-idle"),
        ("max_age = \"1s\"", "websocket-max-age"),
    ] {
        let stage = Stage::new().await;
        stage.append("apps/wiki.toml", &format!("\n[websocket]\n{setting}\n"));
        let scene = Scene::new(stage).await;
        for mut socket in sockets(&scene).await {
            assert_eq!(socket.closed().await, (1001, reason.to_owned()));
        }
    }
}

#[tokio::test]
async fn stopping_is_said_to_both_sides_between_two_frames() {
    for speaks in BOTH {
        let mut scene = Scene::new(Stage::new().await).await;
        let mut idle = open(&scene, speaks).await;
        let mut busy = open(&scene, speaks).await;
        assert_eq!(idle.ask("hello").await, "hello");
        // Much is on its way back when the stop comes: every message arrives whole or not at all.
        let text = "x".repeat(3 << 20);
        for _ in 0..4 {
            busy.send(Message::text(text.clone())).await;
        }
        scene.gateway.process.signal("TERM");
        assert_eq!(
            idle.closed().await,
            (1001, "gateway-stops".to_owned()),
            "{speaks:?}"
        );
        loop {
            match busy.next().await {
                Some(Ok(Message::Text(whole))) => assert_eq!(whole.len(), text.len()),
                Some(Ok(Message::Close(Some(close)))) => {
                    assert_eq!(u16::from(close.code), 1001);
                    break;
                }
                // Too slow to finish its frame: cut, and nothing stands within it.
                Some(Err(_)) | None => break,
                other => panic!("{other:?}"),
            }
        }
        let status = scene.gateway.process.ended(Duration::from_secs(10)).await;
        assert!(status.success(), "{status}");
    }
}
