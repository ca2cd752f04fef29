//! For whoever stops a running gateway: load balancers are told first, what was begun is finished, idle
//! connections are closed, and whoever insists is obeyed at once.

use std::time::Duration;
use std::time::Instant;

use http::Method;
use tokio::io::AsyncWriteExt;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;
use crate::wire::connect;
use crate::wire::to_the_end;

const SOON: Duration = Duration::from_secs(30);

async fn ready(gateway: &Gateway) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ops = gateway.ready["ops"].as_str().unwrap();
    let answer = client.get(format!("http://{ops}/readyz")).send().await;
    answer.unwrap().status().as_u16()
}

async fn scene(listener: &str) -> Scene {
    let stage = Stage::new().await;
    let ops = "ops = \"127.0.0.1:0\"";
    stage.replace("kerbgate.toml", ops, &format!("{ops}\n{listener}"));
    Scene::new(stage).await
}

#[tokio::test]
async fn load_balancers_are_told_before_the_door_closes() {
    let mut scene = scene("linger = \"4s\"").await;
    eventually("ready", async || ready(&scene.gateway).await == 200).await;
    let start = Instant::now();
    scene.gateway.process.signal("TERM");
    eventually("no longer ready", async || {
        ready(&scene.gateway).await == 503
    })
    .await;
    // New connections are still served.
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut late = Visitor::new(&scene.stage.lab.facts.ca, speaks);
        late.cookies = scene.guest.cookies.clone();
        let url = scene.gateway.url("wiki", "/echo").parse().unwrap();
        let answer = late.once(Method::GET, &url, None).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert!(start.elapsed() < Duration::from_secs(4), "too slow to tell");
    let status = scene.gateway.process.ended(SOON).await;
    assert!(status.success(), "{status}");
    assert!(start.elapsed() >= Duration::from_secs(4), "it lingered");
}

#[tokio::test]
async fn idle_connections_are_closed_politely() {
    let mut scene = scene("").await;
    let stage = &scene.stage;
    // One that has served a request, one that never has, one of HTTP/2.
    let mut used = connect(stage, "wiki", b"http/1.1").await;
    let head = format!(
        "GET /nothing HTTP/1.1\r\nhost: {}\r\n\r\n",
        scene.host("wiki")
    );
    used.write_all(head.as_bytes()).await.unwrap();
    let mut unused = connect(stage, "wiki", b"http/1.1").await;
    let mut second = crate::wire::Http2::open(stage, "wiki").await;
    let start = Instant::now();
    scene.gateway.process.signal("TERM");
    let answer = String::from_utf8(to_the_end(&mut used).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    // Its first request is still waited for a moment, and answered.
    unused.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(to_the_end(&mut unused).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    // RFC 9113 6.8.
    let outcome = second.outcome(1).await;
    assert_eq!(outcome.goaway, Some(0), "{outcome:?}");
    let status = scene.gateway.process.ended(SOON).await;
    assert!(status.success(), "{status}");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut scene = scene("drain = \"10m\"").await;
        let before = scene.wiki.requests().await;
        let mut guest = Visitor::new(&scene.stage.lab.facts.ca, speaks);
        guest.cookies = scene.guest.cookies.clone();
        let url = scene
            .gateway
            .url("wiki", "/slow?ms=600000")
            .parse()
            .unwrap();
        let running = tokio::spawn(guest.request(Method::GET, &url).send());
        eventually("the request is at the backend", async || {
            scene.wiki.requests().await > before
        })
        .await;
        scene.gateway.process.signal("TERM");
        eventually("it stops", async || ready(&scene.gateway).await == 503).await;
        let start = Instant::now();
        scene.gateway.process.signal("TERM");
        let status = scene.gateway.process.ended(SOON).await;
        assert!(status.success(), "{status}");
        assert!(
            start.elapsed() < Duration::from_secs(6),
            "{:?}",
            start.elapsed()
        );
        assert!(running.await.unwrap().is_err(), "nobody answered");
    }
}
