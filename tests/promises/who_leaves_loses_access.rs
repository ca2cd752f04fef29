//! For the security officer: whoever signs out, is disabled, or loses a role is out, on every host and in time.

use std::time::Duration;
use std::time::Instant;

use http::Method;
use serde_json::json;
use url::Url;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Visitor;
use crate::visitor::redirect;
use crate::walk::Backend;
use crate::walk::SESSION;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::cookie;
use crate::walk::counted;
use crate::walk::get;
use crate::walk::guest;
use crate::walk::order;
use crate::walk::query;
use crate::walk::world;

const HOSTS: [&str; 3] = ["login", "wiki", "other"];

/// Two published hosts, and the issuer asked again every second.
async fn stage(session: &str) -> (Stage, Backend) {
    let (stage, backend) = world(&format!("[session]\n{session}\n")).await;
    backend.publish(&stage, "other", "");
    (stage, backend)
}

async fn signed_in_on_both(stage: &Stage, gateway: &Gateway, login: &str, oid: &str) -> Visitor {
    let mut visitor = browser(stage);
    for host in ["wiki", "other"] {
        let page = visitor
            .open_as(login, &gateway.url(host, "/echo"))
            .await
            .unwrap();
        assert_eq!(page.remote_user(), oid);
    }
    visitor
}

/// What `/.kerbgate/session` says on `host` to the cookies in `visitor`.
async fn state_on(visitor: &Visitor, gateway: &Gateway, host: &str) -> Answer {
    let mut copy = visitor.clone();
    let url: Url = gateway.url(host, "/.kerbgate/session").parse().unwrap();
    get(&mut copy, &url).await
}

#[tokio::test]
async fn one_sign_out_ends_it_on_all_hosts_and_at_the_issuer() {
    let (stage, backend) = stage("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "signs-out").await;
    let mut visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    let mut elsewhere = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    let stolen = visitor.clone();
    let count = backend.count();
    let url: Url = gateway.url("wiki", "/.kerbgate/signout").parse().unwrap();

    // Another site's form signs nobody out, and its link only asks.
    let mut lured = visitor.clone();
    lured
        .headers
        .insert("sec-fetch-site", "cross-site".parse().unwrap());
    let asked = get(&mut lured, &url).await;
    assert_eq!(asked.status, 200);
    assert!(asked.body.contains("<form"), "the person is asked");
    lured
        .headers
        .insert("origin", "https://evil.example".parse().unwrap());
    let forced = lured.once(Method::POST, &url, Some(&[])).await.unwrap();
    assert_refused(&forced, "foreign-origin", "another site's form");
    assert_eq!(state_on(&visitor, &gateway, "wiki").await.status, 200);

    visitor
        .headers
        .insert("sec-fetch-site", "same-origin".parse().unwrap());
    let out = visitor.once(Method::POST, &url, Some(&[])).await.unwrap();
    assert_eq!(out.status, 303);
    let to = redirect(&out).unwrap();
    assert_eq!(to.host_str(), Some("entra.localhost"));
    assert!(
        query(&to, "logout_hint").starts_with("O."),
        "no account picker"
    );
    assert_eq!(
        query(&to, "post_logout_redirect_uri"),
        gateway.url("login", "/.kerbgate/signed-out")
    );
    assert!(cookie(&visitor, "wiki.localhost", SESSION).is_none());
    let at_issuer = visitor.open(to.as_str()).await.unwrap();
    assert!(!at_issuer.body.contains("chosen=1"), "{}", at_issuer.body);

    // Copies of the cookies are worth nothing any more, on no host.
    for host in HOSTS {
        let answer = state_on(&stolen, &gateway, host).await;
        assert_refused(&answer, "session-ended", host);
        let mut thief = stolen.clone();
        thief.cookies.remove("entra.localhost");
        let page = thief.open(&gateway.url(host, "/echo")).await.unwrap();
        assert!(page.remote_user().is_empty(), "{host}");
    }
    assert_eq!(backend.count(), count);
    // The same person's other device stays signed in.
    let page = elsewhere.open(&gateway.url("wiki", "/echo")).await.unwrap();
    assert_eq!(page.remote_user(), oid);
    // And the way back in is a sign-in at the issuer.
    let page = visitor.open(&gateway.url("wiki", "/echo")).await.unwrap();
    assert!(
        page.body.contains("name=\"login\""),
        "the issuer forgot the browser too"
    );
}

#[tokio::test]
async fn a_sign_out_at_the_issuer_arrives_here() {
    let (stage, _backend) = stage("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "front-channel").await;
    let mut visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    let logout: Url = format!(
        "{}/{}/oauth2/v2.0/logout",
        entra.url,
        crate::lab::gateway::TENANT
    )
    .parse()
    .unwrap();
    let page = get(&mut visitor, &logout).await;
    let frame = page
        .body
        .split("src=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"))
        .find(|address| address.contains("frontchannel-logout"))
        .unwrap_or_else(|| panic!("no frame: {}", page.body));
    let frame: Url = frame.parse().unwrap();
    let sid = query(&frame, "sid");

    // Whoever does not speak for our issuer ends nothing; the frame has no cookies, as third parties have none.
    let mut nobody = browser(&stage);
    let base = gateway.url("login", "/.kerbgate/frontchannel-logout");
    let issuer = query(&frame, "iss");
    for wrong in [
        format!("{base}?sid={sid}"),
        format!("{base}?sid={sid}&iss=https://evil.example/"),
        format!("{base}?sid={sid}&iss={issuer}/"),
        format!("{base}?iss={issuer}"),
        format!("{base}?iss={issuer}&sid="),
        format!("{base}?iss={issuer}&sid={}", "x".repeat(300)),
    ] {
        let answer = get(&mut nobody, &wrong.parse().unwrap()).await;
        assert_refused(&answer, "bad-request", &wrong);
    }
    let twice = format!("{frame}&sid=other");
    let answer = get(&mut nobody, &twice.parse().unwrap()).await;
    assert_refused(&answer, "sign-in-parameter-duplicate", &twice);
    let unknown = format!("{base}?iss={issuer}&sid=nobodys");
    assert_eq!(
        get(&mut nobody, &unknown.parse().unwrap()).await.status,
        200
    );
    for host in HOSTS {
        assert_eq!(
            state_on(&visitor, &gateway, host).await.status,
            200,
            "{host}"
        );
    }

    let answer = get(&mut nobody, &frame).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "no-store");
    for host in HOSTS {
        assert_refused(
            &state_on(&visitor, &gateway, host).await,
            "session-ended",
            host,
        );
    }
}

/// Opens until something else than "as before" comes; at most ten seconds.
async fn until_changed(visitor: &mut Visitor, url: &str) -> Answer {
    let began = Instant::now();
    loop {
        let page = visitor.open(url).await.unwrap();
        if page.status != 200 || page.remote_user().is_empty() {
            return page;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "still in");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_disabled_guest_is_out_within_the_recheck() {
    let (stage, backend) = stage("recheck = \"1s\"").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "disabled").await;
    let (neighbor, neighbor_oid) = guest(&entra, "neighbor").await;
    let mut visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    let mut other = signed_in_on_both(&stage, &gateway, &neighbor, &neighbor_oid).await;
    order(
        &entra,
        &format!("/people/{login}"),
        json!({"enabled": false}),
    )
    .await;
    let url = gateway.url("wiki", "/echo");
    let page = until_changed(&mut visitor, &url).await;
    assert_refused(&page, "person-disabled", "the request after the recheck");
    assert_eq!(page.status, 403);
    let count = backend.count();
    // All hosts, all cookies, at once.
    for host in HOSTS {
        assert_refused(
            &state_on(&visitor, &gateway, host).await,
            "session-ended",
            host,
        );
    }
    let page = visitor.open_as(&login, &url).await.unwrap();
    assert!(
        page.remote_user().is_empty(),
        "the issuer refuses the sign-in"
    );
    assert_eq!(backend.count(), count);
    let page = other.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), neighbor_oid, "nobody else is touched");
}

#[tokio::test]
async fn revoked_and_deleted_people_are_out_within_the_recheck() {
    let (stage, _backend) = stage("recheck = \"1s\"").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    for deleted in [false, true] {
        let (login, oid) = guest(&entra, "gone").await;
        let mut visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
        if deleted {
            entra
                .control(Method::DELETE, &format!("/people/{login}"), json!({}))
                .await;
        } else {
            order(&entra, "/revoke", json!({"login": login})).await;
        }
        let page = until_changed(&mut visitor, &url).await;
        assert_refused(&page, "person-disabled", &format!("deleted: {deleted}"));
    }
}

#[tokio::test]
async fn a_role_taken_away_or_given_counts_within_the_recheck() {
    let (stage, _backend) = stage("recheck = \"1s\"").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "roles").await;
    let mut visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    let url = gateway.url("wiki", "/echo");
    order(&entra, &format!("/people/{login}"), json!({"roles": []})).await;
    let page = until_changed(&mut visitor, &url).await;
    assert_refused(&page, "not-allowed", "the role is gone");
    order(
        &entra,
        &format!("/people/{login}"),
        json!({"roles": ["Wiki.User"]}),
    )
    .await;
    let shared = tokio::sync::Mutex::new(visitor);
    eventually("the role is back, without a new sign-in", async || {
        let page = shared.lock().await.open(&url).await.unwrap();
        page.remote_user() == oid
    })
    .await;
}

#[tokio::test]
async fn a_burst_asks_the_issuer_once() {
    let (stage, _backend) = stage("recheck = \"2s\"").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    // As strict as providers are who replace refresh tokens: the second use of one ends the sign-in.
    order(&entra, "/settings", json!({"refresh_single_use": true})).await;
    let (login, oid) = guest(&entra, "burst").await;
    let visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    let before = counted(&entra, "token").await;
    let began = Instant::now();
    let mut rounds = 0;
    while counted(&entra, "token").await < before + 2 {
        let burst = (0..20).map(|_| {
            let mut tab = visitor.clone();
            let url = gateway.url("wiki", "/echo");
            async move { tab.open(&url).await.unwrap() }
        });
        for page in futures_util::future::join_all(burst).await {
            assert_eq!(
                page.remote_user(),
                oid,
                "{}",
                page.header("kerbgate-reason")
            );
        }
        rounds += 1;
        assert!(began.elapsed() < Duration::from_secs(20), "never renewed");
    }
    let asked = counted(&entra, "token").await - before;
    // Renewed at four fifths of the time: at most one question in 1.6 s, however many requests.
    let most = began.elapsed().as_millis() / 1600 + 1;
    assert!(
        u128::from(asked) <= most,
        "{asked} questions, {rounds} rounds, at most {most}"
    );
}

#[tokio::test]
async fn idle_and_absolute_time_end_a_session() {
    for (settings, keeps_using) in [
        ("idle = \"2s\"\nabsolute = \"1h\"", false),
        ("idle = \"2s\"\nabsolute = \"3s\"", true),
    ] {
        let (stage, backend) = stage(settings).await;
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let (login, oid) = guest(&entra, "time").await;
        let mut visitor = browser(&stage);
        let url = gateway.url("wiki", "/echo");
        let page = visitor.open_as(&login, &url).await.unwrap();
        assert_eq!(page.remote_user(), oid);
        visitor
            .headers
            .insert("sec-fetch-mode", "cors".parse().unwrap());
        let began = Instant::now();
        if keeps_using {
            // Use does not prolong the absolute time.
            let page = until_changed(&mut visitor, &url).await;
            assert_refused(&page, "session-expired", settings);
            assert!(
                began.elapsed() >= Duration::from_millis(1500),
                "{:?}",
                began.elapsed()
            );
        } else {
            // Asking for the state is no use.
            let shared = &visitor;
            eventually("the idle time is over", async || {
                state_on(shared, &gateway, "wiki").await.status == 401
            })
            .await;
            let count = backend.count();
            let page = visitor.open(&url).await.unwrap();
            assert_refused(&page, "session-expired", settings);
            assert_eq!(backend.count(), count);
        }
        // The old cookie stays dead after a restart.
        drop(gateway);
        let gateway = stage.gateway().await;
        let page = visitor.open(&gateway.url("wiki", "/echo")).await.unwrap();
        assert_refused(&page, "session-expired", settings);
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_ends_nobody_before_the_grace() {
    let (stage, _backend) = stage("recheck = \"1s\"\nissuer_grace = \"1h\"").await;
    let entra: Entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "grace").await;
    let mut visitor = signed_in_on_both(&stage, &gateway, &login, &oid).await;
    for kind in ["status", "throttle", "garbage", "close"] {
        order(
            &entra,
            "/faults",
            json!({"endpoint": "token", "kind": kind, "count": 1000}),
        )
        .await;
        let before = counted(&entra, "token").await;
        let shared = tokio::sync::Mutex::new(&mut visitor);
        eventually("the issuer was asked in vain", async || {
            let page = shared
                .lock()
                .await
                .open(&gateway.url("wiki", "/echo"))
                .await
                .unwrap();
            assert_eq!(page.remote_user(), oid, "{kind}");
            counted(&entra, "token").await > before
        })
        .await;
        entra.control(Method::DELETE, "/faults", json!({})).await;
    }
}
