//! Servers that take only so many requests at a time get no more; who comes then waits in line, for so long and in
//! such a number as configured, and nothing is lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;

use crate::hands::InHands;
use crate::hands::publish;
use crate::hands::told;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::assert_refused;
use crate::walk::world;

async fn get(mut visitor: Visitor, url: url::Url) -> Answer {
    visitor.once(Method::GET, &url, None).await.unwrap()
}

/// So many requests of the application wait in line.
async fn waiting(stage: &Stage, gateway: &Gateway, wanted: f64) {
    let url = stage.url("wiki", "/");
    let series = format!("kerbgate_backend_queue{{published_url=\"{url}\"}}");
    eventually("so many wait", async || {
        told(gateway, &series)
            .await
            .is_some_and(|now| (now - wanted).abs() < 0.5)
    })
    .await;
}

#[tokio::test]
async fn no_server_gets_more_than_its_most_and_everybody_is_answered() {
    let (stage, _) = world("").await;
    let (one, other) = (InHands::start().await, InHands::start().await);
    let more = format!(
        "[balance]\nmax_connections = 3\n[[balance.servers]]\nurl = \"http://{}/\"\nmax_connections = 2\n",
        other.address
    );
    publish(&stage, "wiki", &[&one, &other], &more);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let url: url::Url = stage.url("wiki", "/page").parse().unwrap();
    one.hold(true);
    other.hold(true);
    let all: Vec<_> = (0..40)
        .map(|_| tokio::spawn(get(visitor.clone(), url.clone())))
        .collect();
    waiting(&stage, &gateway, 35.0).await;
    assert_eq!((one.now(), other.now()), (3, 2));
    let busy = format!(
        "kerbgate_backend_requests{{published_url=\"{}\",backend_url=\"http://{}/\"}}",
        stage.url("wiki", "/"),
        one.address
    );
    assert_eq!(told(&gateway, &busy).await, Some(3.0));
    one.hold(false);
    other.hold(false);
    for answer in all {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!((one.most(), other.most()), (3, 2));
    assert_eq!(one.count() + other.count(), 40);
    waiting(&stage, &gateway, 0.0).await;
    // The slots are free again.
    assert_eq!(get(visitor, url).await.status, 200);
}

#[tokio::test]
async fn a_full_line_is_said_at_once_and_costs_nobody_in_it_the_place() {
    let (stage, _) = world("").await;
    let server = InHands::start().await;
    let more = "[balance]\nmax_connections = 1\n[balance.queue]\nlength = 2\ntimeout = \"50s\"\n";
    publish(&stage, "wiki", &[&server], more);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let url: url::Url = stage.url("wiki", "/page").parse().unwrap();
    server.hold(true);
    let all: Vec<_> = (0..3)
        .map(|_| tokio::spawn(get(visitor.clone(), url.clone())))
        .collect();
    waiting(&stage, &gateway, 2.0).await;
    for _ in 0..5 {
        let refused = get(visitor.clone(), url.clone()).await;
        assert_refused(&refused, "backend-queue-full", "the line is full");
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after"), "50");
    }
    server.hold(false);
    for answer in all {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!((server.count(), server.most()), (3, 1));
}

#[tokio::test]
async fn who_waited_long_enough_is_told_so_and_reached_nobody() {
    let (stage, _) = world("").await;
    let server = InHands::start().await;
    let more = "[balance]\nmax_connections = 1\n[balance.queue]\ntimeout = \"200ms\"\n";
    publish(&stage, "wiki", &[&server], more);
    let _entra = stage.entra(&[]).await;
    let _gateway = stage.gateway().await;
    let visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let url: url::Url = stage.url("wiki", "/page").parse().unwrap();
    server.hold(true);
    let first = tokio::spawn(get(visitor.clone(), url.clone()));
    eventually("it is busy", async || server.now() == 1).await;
    let refused = get(visitor.clone(), url.clone()).await;
    assert_refused(&refused, "backend-queue-timeout", "nobody was free");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(server.count(), 1);
    server.hold(false);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(get(visitor, url).await.status, 200);
    assert_eq!(server.most(), 1);
}

#[tokio::test]
async fn a_body_that_waited_arrives_whole_and_who_left_takes_no_place_along() {
    let (stage, _) = world("").await;
    let server = InHands::start().await;
    let more = "[balance]\nmax_connections = 1\n";
    publish(&stage, "wiki", &[&server], more);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let url: url::Url = stage.url("wiki", "/page").parse().unwrap();
    server.hold(true);
    let first = tokio::spawn(get(visitor.clone(), url.clone()));
    eventually("it is busy", async || server.now() == 1).await;
    let leaves = tokio::spawn(get(visitor.clone(), url.clone()));
    waiting(&stage, &gateway, 1.0).await;
    let sends = visitor
        .request(Method::POST, &url)
        .header("origin", stage.url("wiki", ""))
        .body(vec![7; 300_000]);
    let stays = tokio::spawn(sends.timeout(Duration::from_secs(30)).send());
    waiting(&stage, &gateway, 2.0).await;
    leaves.abort();
    waiting(&stage, &gateway, 1.0).await;
    server.hold(false);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(stays.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.known.bytes.load(Ordering::SeqCst), 300_000);
    assert_eq!((server.count(), server.most()), (2, 1));
}

#[tokio::test]
async fn who_waits_when_a_server_dies_is_served_by_another() {
    let (stage, _) = world("").await;
    let (one, other) = (InHands::start().await, InHands::start().await);
    let more = "[balance]\nmax_connections = 1\n";
    publish(&stage, "wiki", &[&one, &other], more);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let url: url::Url = stage.url("wiki", "/page").parse().unwrap();
    one.hold(true);
    other.hold(true);
    let held: Vec<_> = (0..2)
        .map(|_| tokio::spawn(get(visitor.clone(), url.clone())))
        .collect();
    eventually("both are busy", async || one.now() + other.now() == 2).await;
    let waits: Vec<_> = (0..5)
        .map(|_| tokio::spawn(get(visitor.clone(), url.clone())))
        .collect();
    waiting(&stage, &gateway, 5.0).await;
    one.kill().await;
    waiting(&stage, &gateway, 5.0).await;
    other.hold(false);
    for answer in waits {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!((other.count(), other.most()), (6, 1));
    let mut statuses = Vec::new();
    for answer in held {
        statuses.push(answer.await.unwrap().status.as_u16());
    }
    statuses.sort_unstable();
    // What was on a new connection to the one that died is not sent again.
    assert_eq!(statuses, [200, 502]);
}
