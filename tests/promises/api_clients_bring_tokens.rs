//! For programs that call a published application: an access token made for that application opens it, nothing else does.

use http::Method;
use http::header::AUTHORIZATION;
use serde_json::Value;
use serde_json::json;
use url::Url;

use kerbgate::model::clock::Clock;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::visitor::Answer;
use crate::visitor::Visitor;
use crate::walk::Backend;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::counted;
use crate::walk::guest;
use crate::walk::order;
use crate::walk::world;
use crate::who_comes_from_where_is_known::Place;
use crate::who_comes_from_where_is_known::STRANGER;

const OTHER_TENANT: &str = "bbbbbbbb-0000-4000-8000-00000000000b";

/// `other` accepts v1 and v2 tokens, `wiki` none.
async fn stage() -> (Stage, Backend) {
    let (stage, backend) = world("").await;
    let more = "[bearer]\naudiences = [\"api://kerbgate\", \"api://kerbgate-v1\"]\n";
    backend.publish(&stage, "other", more);
    (stage, backend)
}

pub async fn minted(entra: &Entra, login: &str, kind: &str, mut difference: Value) -> String {
    difference["base"] = json!({"login": login, "kind": kind});
    let made = order(entra, "/mint", difference).await;
    made["token"].as_str().unwrap().to_owned()
}

async fn call(visitor: &mut Visitor, url: &Url, authorization: &[&str]) -> Answer {
    visitor.headers.clear();
    for value in authorization {
        visitor
            .headers
            .append(AUTHORIZATION, value.parse().unwrap());
    }
    visitor.once(Method::GET, url, None).await.unwrap()
}

async fn with_token(stage: &Stage, gateway: &Gateway, token: &str) -> Answer {
    let url = gateway.url("other", "/v1/things").parse().unwrap();
    call(&mut browser(stage), &url, &[&format!("Bearer {token}")]).await
}

#[tokio::test]
async fn a_token_for_the_application_opens_it() {
    let (stage, backend) = stage().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "api").await;
    for kind in ["access-v2", "access-v1"] {
        let token = minted(&entra, &login, kind, json!({})).await;
        let answer = with_token(&stage, &gateway, &token).await;
        assert_eq!(
            answer.status,
            200,
            "{kind}: {}",
            answer.header("kerbgate-reason")
        );
        assert_eq!(answer.remote_user(), oid, "{kind}");
        assert!(
            answer.headers.get("set-cookie").is_none(),
            "{kind}: no session"
        );
    }
    for headers in backend.seen() {
        assert!(headers.get(AUTHORIZATION).is_none(), "the token stays here");
    }
    // Policies hold for programs as for people.
    let (outsider, _) = entra.new_guest("api-outsider", &["Intranet.User"]).await;
    let token = minted(&entra, &outsider, "access-v2", json!({})).await;
    let answer = with_token(&stage, &gateway, &token).await;
    assert_refused(&answer, "not-allowed", "no role");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn any_other_token_is_refused_with_its_reason() {
    let (stage, backend) = stage().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "api-bad").await;
    let past = Clock::System.unix() - 121;
    let future = Clock::System.unix() + 180;
    let other_issuer = format!("{}/{OTHER_TENANT}/v2.0", entra.url);
    let (alg, bad) = ("token-algorithm-refused", "token-signature-bad");
    let (iss, aud) = ("token-issuer-wrong", "token-audience-wrong");
    let missing = "token-claim-missing";
    let cases = [
        (json!({"sign": "none"}), alg),
        (json!({"sign": "hs256"}), alg),
        (json!({"alg": "PS256"}), alg),
        (json!({"sign": "foreign"}), bad),
        (json!({"sign": "tampered"}), bad),
        (json!({"sign": "empty"}), bad),
        (json!({"header": {"kid": "made-up"}}), "token-key-unknown"),
        (json!({"header": {"kid": null}}), "token-key-unknown"),
        (json!({"claims": {"aud": "api://else"}}), aud),
        (json!({"claims": {"aud": null}}), missing),
        (
            json!({"claims": {"aud": ["api://kerbgate", "api://else"], "azp": null}}),
            aud,
        ),
        (json!({"claims": {"iss": other_issuer}}), iss),
        (json!({"claims": {"tid": OTHER_TENANT}}), iss),
        (json!({"claims": {"exp": past}}), "token-expired"),
        (json!({"claims": {"exp": null}}), missing),
        (json!({"claims": {"nbf": future}}), "token-not-yet-valid"),
        (json!({"claims": {"oid": null}}), missing),
        (json!({"claims": {"scp": null}}), missing),
        (json!({"claims": {"idtyp": "app"}}), "token-without-person"),
    ];
    for kind in ["access-v2", "access-v1"] {
        for (difference, code) in &cases {
            let what = format!("{kind} {difference}");
            let token = minted(&entra, &login, kind, difference.clone()).await;
            let answer = with_token(&stage, &gateway, &token).await;
            assert_refused(&answer, code, &what);
            if *code == "token-without-person" {
                assert_eq!(answer.status, 403, "{what}");
                continue;
            }
            assert_eq!(answer.status, 401, "{what}");
            let told = answer.header("www-authenticate");
            assert!(
                told.starts_with("Bearer") && told.contains("invalid_token"),
                "{what}: {told}"
            );
        }
        // One version's token under the other's name.
        let other = if kind == "access-v2" { "1.0" } else { "2.0" };
        let token = minted(&entra, &login, kind, json!({"claims": {"ver": other}})).await;
        assert_refused(&with_token(&stage, &gateway, &token).await, iss, other);
    }
    for kind in ["app-v2", "app-v1"] {
        let token = minted(&entra, "", kind, json!({})).await;
        let answer = with_token(&stage, &gateway, &token).await;
        assert_refused(&answer, "token-without-person", kind);
    }
    // An ID token, also one whose audience would do.
    for difference in [json!({}), json!({"claims": {"aud": "api://kerbgate"}})] {
        let token = minted(&entra, &login, "id-v2", difference.clone()).await;
        let answer = with_token(&stage, &gateway, &token).await;
        assert_eq!(answer.status, 401, "an ID token: {difference}");
    }
    let long = "A".repeat(40_000);
    for garbage in [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "....",
        "e30.e30.e30",
        long.as_str(),
    ] {
        let answer = with_token(&stage, &gateway, garbage).await;
        assert_eq!(answer.status, 401, "{garbage:.20}");
    }
    assert_eq!(backend.count(), 0);
    let token = minted(&entra, &login, "access-v2", json!({})).await;
    assert_eq!(
        with_token(&stage, &gateway, &token).await.remote_user(),
        oid,
        "control"
    );
}

#[tokio::test]
async fn a_token_decides_alone() {
    let (stage, backend) = stage().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "api-alone").await;
    let (other, other_oid) = guest(&entra, "api-other").await;
    let api: Url = gateway.url("other", "/things").parse().unwrap();
    let wiki: Url = gateway.url("wiki", "/things").parse().unwrap();
    let mut visitor = browser(&stage);
    for url in [&api, &wiki] {
        let page = visitor.open_as(&login, url.as_str()).await.unwrap();
        assert_eq!(page.remote_user(), oid);
    }
    let count = backend.count();
    // With a live session beside it: a bad token is refused, a good one wins.
    let bad = minted(&entra, &login, "access-v2", json!({"sign": "foreign"})).await;
    let answer = call(&mut visitor, &api, &[&format!("Bearer {bad}")]).await;
    assert_refused(&answer, "token-signature-bad", "never the session instead");
    let answer = call(&mut visitor, &api, &["Bearer "]).await;
    assert_refused(&answer, "token-malformed", "an empty one");
    let good = minted(&entra, &other, "access-v2", json!({})).await;
    let two = [format!("Bearer {good}"), format!("Bearer {good}")];
    let answer = call(&mut visitor, &api, &[&two[0], &two[1]]).await;
    assert_refused(&answer, "bad-request", "two tokens");
    let answer = call(&mut visitor, &api, &["Basic eDp5", &two[0]]).await;
    assert_refused(&answer, "bad-request", "two ways at once");
    assert_eq!(backend.count(), count);
    let answer = call(&mut visitor, &api, &[&format!("bearer {good}")]).await;
    assert_eq!(answer.remote_user(), other_oid, "the token's person");

    // An application without tokens refuses a good one, and has no use for it beside a session.
    let answer = call(&mut browser(&stage), &wiki, &[&format!("Bearer {good}")]).await;
    assert_refused(&answer, "bearer-not-accepted", "no [bearer]");
    assert_eq!(answer.status, 401);
    let answer = call(&mut visitor, &wiki, &[&format!("Bearer {good}")]).await;
    assert_eq!(
        answer.remote_user(),
        oid,
        "the session's person, never the token's"
    );
    for headers in backend.seen() {
        assert!(headers.get(AUTHORIZATION).is_none(), "the token stays here");
    }
    // A token elsewhere than in its header is none.
    let url: Url = gateway
        .url("other", &format!("/things?access_token={good}"))
        .parse()
        .unwrap();
    let answer = call(&mut browser(&stage), &url, &[]).await;
    assert_refused(&answer, "sign-in-required", "in the query");
}

#[tokio::test]
async fn anybodys_tokens_do_not_flood_the_issuer() {
    let (stage, _backend) = stage().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "api-flood").await;
    let token = minted(&entra, &login, "access-v2", json!({})).await;
    assert_eq!(
        with_token(&stage, &gateway, &token).await.remote_user(),
        oid
    );
    let before = counted(&entra, "jwks").await;
    for number in 0..50 {
        let made_up = json!({"header": {"kid": format!("made-up-{number}")}});
        let token = minted(&entra, &login, "access-v2", made_up).await;
        let answer = with_token(&stage, &gateway, &token).await;
        assert_refused(&answer, "token-key-unknown", "made up");
    }
    // `unknown_key_every` is five minutes.
    let fetches = counted(&entra, "jwks").await - before;
    assert!(fetches <= 1, "{fetches} fetches");
    assert_eq!(
        with_token(&stage, &gateway, &token).await.remote_user(),
        oid
    );
}

#[tokio::test]
async fn tokens_without_an_audience_are_a_mistake_in_the_configuration() {
    let (stage, backend) = world("").await;
    backend.publish(&stage, "other", "[bearer]\naudiences = []\n");
    let mut process = stage.gateway_process(&[]);
    let status = process.ended(std::time::Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(64));
    assert!(process.log().contains("audiences"), "{}", process.log());
}

/// Checking a signature costs more than sending one: who shows many that do not hold is no longer listened to.
#[tokio::test]
async fn who_shows_too_many_bad_tokens_waits() {
    let bearer = "[bearer]\naudiences = [\"api://kerbgate\"]\n";
    let boot = "\n[rates]\nbad_tokens_per_address = \"3/h\"\n";
    let place = Place::new("", boot, bearer).await;
    let (login, _) = guest(&place.entra, "api-flood").await;
    let good = minted(&place.entra, &login, "access-v2", json!({})).await;
    let ask = async |source: &str, token: &str| {
        let port = place.gateway.port;
        let request = format!(
            "GET /v1 HTTP/1.1\r\nHost: wiki.localhost:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        place.ask(source, b"", &request).await
    };
    // Good ones do not count.
    for _ in 0..5 {
        assert_eq!(ask(STRANGER, &good).await.status, 200);
    }
    let before = place.backend.count();
    let (signed, _) = good.rsplit_once('.').unwrap();
    for bad in ["a.b.c", &format!("{signed}.AAAA"), "a"] {
        assert_eq!(ask(STRANGER, bad).await.status, 401, "{bad}");
    }
    for token in ["a.b.c", &good] {
        let reply = ask(STRANGER, token).await;
        assert_eq!(reply.status, 429, "{reply:?}");
        assert_eq!(reply.header("kerbgate-reason"), Some("too-many-requests"));
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        // One is earned back in 1200 s, of which a few may have gone by.
        assert!((1100..=1200).contains(&wait), "{wait}");
    }
    assert_eq!(place.backend.count(), before);
    // Neither people with a session nor anybody elsewhere is concerned.
    let session = place.ask(STRANGER, b"", &place.request("/", "")).await;
    assert_eq!(session.status, 200);
    assert_eq!(ask("127.0.0.1", &good).await.status, 200);
}
