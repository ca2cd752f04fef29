//! For the on-call engineer: an issuer in trouble stops new sign-ins, says so, and nothing else; it heals by itself.

use std::time::Duration;
use std::time::Instant;

use http::Method;
use serde_json::json;

use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Visitor;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::counted;
use crate::walk::get;
use crate::walk::guest;
use crate::walk::order;
use crate::walk::to_callback;
use crate::walk::world;

const AWAY: &str = "issuer-unreachable";
/// The configured time for one exchange with the issuer is ten seconds, the machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);

async fn open(visitor: &mut Visitor, url: &str) -> Answer {
    visitor.open(url).await.unwrap()
}

#[tokio::test]
async fn down_at_start_and_back_later() {
    let (stage, backend) = world("").await;
    // No issuer: the gateway starts all the same.
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    let mut visitor = browser(&stage);
    let page = open(&mut visitor, &url).await;
    assert_refused(&page, AWAY, "nobody can sign in");
    assert_eq!(page.status, 503);
    assert!(!page.header("retry-after").is_empty());
    assert!(page.body.contains(AWAY), "the page says why");
    let api: http::HeaderMap = [(http::header::ACCEPT, "*/*".parse().unwrap())]
        .into_iter()
        .collect();
    let mut script = browser(&stage);
    script.headers = api;
    assert_refused(
        &open(&mut script, &url).await,
        "sign-in-required",
        "a script",
    );

    let entra = stage.entra(&[]).await;
    let (login, oid) = guest(&entra, "start").await;
    let shared = tokio::sync::Mutex::new(browser(&stage));
    eventually("it heals by itself", async || {
        let page = open(&mut *shared.lock().await, &url).await;
        page.body.contains("name=\"login\"")
    })
    .await;
    let page = shared.lock().await.open_as(&login, &url).await.unwrap();
    assert_eq!(page.remote_user(), oid);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn down_later_keeps_everybody_in() {
    let (stage, _backend) = world("[session]\nrecheck = \"1s\"\n").await;
    let mut entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    let (login, oid) = guest(&entra, "later").await;
    let mut visitor = browser(&stage);
    visitor.open_as(&login, &url).await.unwrap();
    let mut half = browser(&stage);
    let callback = to_callback(&mut half, &login, &url).await;
    entra.process.signal("KILL");
    entra.process.ended(PATIENCE).await;

    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let page = open(&mut visitor, &url).await;
        assert_eq!(
            page.remote_user(),
            oid,
            "{}",
            page.header("kerbgate-reason")
        );
    }
    assert_refused(&get(&mut half, &callback).await, AWAY, "half a sign-in");
    // Signing out works without the issuer.
    let out = gateway.url("wiki", "/.kerbgate/signout").parse().unwrap();
    visitor
        .headers
        .insert("sec-fetch-site", "same-origin".parse().unwrap());
    let answer = visitor.once(Method::POST, &out, Some(&[])).await.unwrap();
    assert_eq!(answer.status, 303);
    let state = gateway.url("wiki", "/.kerbgate/session").parse().unwrap();
    assert_refused(&get(&mut visitor, &state).await, "sign-in-required", "out");
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_told_apart() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    let (login, oid) = guest(&entra, "token").await;
    let bad = "issuer-misconfigured";
    for (fault, code) in [
        (json!({"kind": "status", "status": 500}), AWAY),
        (json!({"kind": "status", "status": 503}), AWAY),
        (json!({"kind": "throttle"}), AWAY),
        (json!({"kind": "close"}), AWAY),
        (json!({"kind": "truncate"}), AWAY),
        (json!({"kind": "hang"}), AWAY),
        (json!({"kind": "garbage"}), bad),
        (json!({"kind": "html"}), bad),
        (json!({"kind": "oversize"}), bad),
        (
            json!({"kind": "redirect", "location": "https://evil.example/"}),
            "",
        ),
    ] {
        let what = fault.to_string();
        let mut fault = fault;
        fault["endpoint"] = json!("token");
        let mut visitor = browser(&stage);
        let callback = to_callback(&mut visitor, &login, &url).await;
        order(&entra, "/faults", fault).await;
        let began = Instant::now();
        let answer = get(&mut visitor, &callback).await;
        assert!(began.elapsed() < PATIENCE, "{what}: {:?}", began.elapsed());
        let code = if code.is_empty() {
            answer.header("kerbgate-reason")
        } else {
            code
        };
        assert!(code == AWAY || code == bad, "{what}: {code}");
        assert_refused(&answer, code, &what);
        assert!(answer.status.is_server_error(), "{what}: {}", answer.status);
        // The next try is a new one and works.
        let page = visitor.open_as(&login, &url).await.unwrap();
        assert_eq!(page.remote_user(), oid, "{what}");
    }
    assert_eq!(backend.count(), 10);
}

#[tokio::test]
async fn bad_keys_and_metadata_never_replace_good_ones() {
    let (stage, _backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    let (login, oid) = guest(&entra, "keys").await;
    let page = browser(&stage).open_as(&login, &url).await.unwrap();
    assert_eq!(page.remote_user(), oid);
    for (endpoint, kinds) in [
        ("jwks", ["garbage", "oversize"]),
        ("metadata", ["html", "status"]),
    ] {
        for kind in kinds {
            let what = format!("{endpoint} {kind}");
            order(
                &entra,
                "/faults",
                json!({"endpoint": endpoint, "kind": kind, "count": 100}),
            )
            .await;
            // A made-up kid makes the gateway look again, at most every five seconds.
            let before = counted(&entra, "metadata").await;
            eventually("it looked again", async || {
                let made_up = json!({"login": login, "header": {"kid": "made-up"}});
                order(&entra, "/next-id-token", made_up).await;
                let mut visitor = browser(&stage);
                let callback = to_callback(&mut visitor, &login, &url).await;
                assert_refused(
                    &get(&mut visitor, &callback).await,
                    "token-key-unknown",
                    &what,
                );
                counted(&entra, "metadata").await > before
            })
            .await;
            let page = browser(&stage).open_as(&login, &url).await.unwrap();
            assert_eq!(page.remote_user(), oid, "{what}: the known keys stand");
            entra.control(Method::DELETE, "/faults", json!({})).await;
        }
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_is_refused() {
    let (stage, _backend) = world("").await;
    stage.replace(
        "kerbgate.toml",
        "/v2.0\"\nissuer_v1",
        "/v2.0-of-another\"\nissuer_v1",
    );
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let page = open(&mut browser(&stage), &gateway.url("wiki", "/")).await;
    assert_refused(&page, "issuer-misconfigured", "another issuer's metadata");
    assert_eq!(page.status, 502);
}
