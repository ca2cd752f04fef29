//! For everybody whose name could be forged: nobody gets in on a token that our issuer did not make for us, now.
//!
//! Each bad token comes at the end of a whole sign-in, from the issuer's own token endpoint, with a good signature where
//! the signature is not the point. Nothing of it may stick: no session, no request at the backend.

use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use url::Url;

use kerbgate::model::clock::Clock;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::gateway::CLIENT;
use crate::lab::gateway::TENANT;
use crate::visitor::Visitor;
use crate::visitor::redirect;
use crate::walk::Backend;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::counted;
use crate::walk::get;
use crate::walk::guest;
use crate::walk::order;
use crate::walk::to_callback;
use crate::walk::world;

const OTHER_TENANT: &str = "bbbbbbbb-0000-4000-8000-00000000000b";

/// Signs in with an ID token that differs from a good one by `difference`; the callback must refuse with `code`.
async fn refused(entra: &Entra, gateway: &Gateway, login: &str, case: (&str, Value, &str)) {
    let (what, mut difference, code) = case;
    difference["login"] = json!(login);
    order(entra, "/next-id-token", difference).await;
    let mut visitor = new_browser();
    let callback = to_callback(&mut visitor, login, &gateway.url("wiki", "/echo")).await;
    let answer = get(&mut visitor, &callback).await;
    assert_refused(&answer, code, what);
    // The very same callback again, and the application: still nobody.
    let again = get(&mut visitor, &callback).await;
    assert_refused(&again, "sign-in-state-unknown", what);
    let wiki: Url = gateway.url("wiki", "/echo").parse().unwrap();
    let page = get(&mut visitor, &wiki).await;
    let to = redirect(&page);
    assert!(to.is_some(), "{what}: the application stays closed");
}

fn new_browser() -> Visitor {
    let ca = crate::lab::ca();
    Visitor::new(&ca, crate::visitor::Speaks::Http2)
}

/// Signs in with a token that differs by `difference`, which must be accepted.
async fn accepted(entra: &Entra, gateway: &Gateway, who: (&str, &str), case: (&str, Value)) {
    let (what, mut difference) = case;
    difference["login"] = json!(who.0);
    order(entra, "/next-id-token", difference).await;
    let mut visitor = new_browser();
    let page = visitor
        .open_as(who.0, &gateway.url("wiki", "/echo"))
        .await
        .unwrap();
    let reason = page.header("kerbgate-reason");
    assert_eq!(page.status, 200, "{what}: {reason}");
    assert_eq!(page.remote_user(), who.1, "{what}");
}

async fn nothing_arrived_but(backend: &Backend, control: usize) {
    assert_eq!(backend.count(), control, "requests at the backend");
}

#[tokio::test]
async fn a_bad_signature_opens_nothing() {
    let (stage, backend) = world("").await;
    let trap = Backend::start().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "signature").await;
    let keys = entra.control(http::Method::GET, "/keys", json!({})).await;
    assert!(keys["keys"].as_array().unwrap().len() > 1, "{keys}");
    let foreign = keys["foreign_kid"].as_str().unwrap();
    let elsewhere = format!("http://{}/keys", trap.address);
    let own_key = json!({"kty": "RSA", "n": "wcHB", "e": "AQAB"});
    let alg = "token-algorithm-refused";
    let bad = "token-signature-bad";
    let cases = [
        ("alg none", json!({"sign": "none"}), alg),
        (
            "alg NONE",
            json!({"sign": "none", "header": {"alg": "NoNe"}}),
            alg,
        ),
        ("HS256 with the public key", json!({"sign": "hs256"}), alg),
        ("RS384", json!({"alg": "RS384"}), alg),
        ("PS256", json!({"alg": "PS256"}), alg),
        ("a foreign key", json!({"sign": "foreign"}), bad),
        ("a payload changed", json!({"sign": "tampered"}), bad),
        (
            "roles added",
            json!({"sign": "tampered", "tamper": {"roles": ["Wiki.User", "Admin"]}}),
            bad,
        ),
        ("no signature", json!({"sign": "empty"}), bad),
        (
            "padding and a line end",
            json!({"sign": "garbled"}),
            "token-malformed",
        ),
        (
            "a key in the token",
            json!({"sign": "foreign", "header": {"jwk": own_key}}),
            bad,
        ),
        (
            "a foreign kid with its own addresses",
            json!({"sign": "foreign", "header": {
                "kid": foreign, "jku": elsewhere, "x5u": elsewhere, "x5c": ["MIIB"]}}),
            "token-key-unknown",
        ),
        (
            "no kid",
            json!({"header": {"kid": null}}),
            "token-key-unknown",
        ),
        (
            "an extension",
            json!({"header": {"crit": ["b64"], "b64": false}}),
            "token-malformed",
        ),
    ];
    for case in cases {
        refused(&entra, &gateway, &login, case).await;
    }
    accepted(&entra, &gateway, (&login, &oid), ("control", json!({}))).await;
    nothing_arrived_but(&backend, 1).await;
    assert_eq!(trap.count(), 0, "no address from a token is ever asked");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn a_token_for_others_opens_nothing() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "others").await;
    let other_issuer = format!("{}/{OTHER_TENANT}/v2.0", entra.url);
    let slash = format!("{}/{TENANT}/v2.0/", entra.url);
    let iss = "token-issuer-wrong";
    let aud = "token-audience-wrong";
    let cases = [
        (
            "another issuer",
            json!({"claims": {"iss": other_issuer}}),
            iss,
        ),
        ("almost our issuer", json!({"claims": {"iss": slash}}), iss),
        (
            "another tenant",
            json!({"claims": {"tid": OTHER_TENANT}}),
            iss,
        ),
        (
            "another tenant through and through",
            json!({"claims": {"tid": OTHER_TENANT, "iss": other_issuer}}),
            iss,
        ),
        ("version 1", json!({"claims": {"ver": "1.0"}}), iss),
        (
            "another audience",
            json!({"claims": {"aud": "api://else"}}),
            aud,
        ),
        (
            "almost our audience",
            json!({"claims": {"aud": format!("{CLIENT} ")}}),
            aud,
        ),
        (
            "two audiences, no azp",
            json!({"claims": {"aud": [CLIENT, "api://else"]}}),
            aud,
        ),
        (
            "two audiences, another azp",
            json!({"claims": {"aud": [CLIENT, "api://else"], "azp": "api://else"}}),
            aud,
        ),
        ("another azp", json!({"claims": {"azp": "api://else"}}), aud),
        (
            "no audience",
            json!({"claims": {"aud": null}}),
            "token-claim-missing",
        ),
        (
            "no issuer",
            json!({"claims": {"iss": null}}),
            "token-claim-missing",
        ),
        (
            "no tid",
            json!({"claims": {"tid": null}}),
            "token-claim-missing",
        ),
        (
            "no oid",
            json!({"claims": {"oid": null}}),
            "token-claim-missing",
        ),
        (
            "an oid that is none",
            json!({"claims": {"oid": "jane@fabrikam.example"}}),
            "token-malformed",
        ),
        (
            "an oid of nobody",
            json!({"claims": {"oid": "00000000-0000-0000-0000-000000000000"}}),
            "token-malformed",
        ),
        (
            "no nonce",
            json!({"claims": {"nonce": null}}),
            "token-claim-missing",
        ),
        (
            "another nonce",
            json!({"claims": {"nonce": "of-another-sign-in"}}),
            "token-nonce-wrong",
        ),
        (
            "an empty nonce",
            json!({"claims": {"nonce": ""}}),
            "token-nonce-wrong",
        ),
        (
            "a program's token",
            json!({"claims": {"idtyp": "app"}}),
            "token-without-person",
        ),
    ];
    for case in cases {
        refused(&entra, &gateway, &login, case).await;
    }
    let two = json!({"claims": {"aud": [CLIENT, "api://else"], "azp": CLIENT}});
    accepted(
        &entra,
        &gateway,
        (&login, &oid),
        ("two audiences and our azp", two),
    )
    .await;
    // Names that change hands are no identity: the person stays who they are.
    let names = json!({"claims": {"email": "emma@contoso.example", "upn": "emma@contoso.example",
        "preferred_username": "emma@contoso.example", "unique_name": "emma@contoso.example"}});
    accepted(
        &entra,
        &gateway,
        (&login, &oid),
        ("somebody else's names", names),
    )
    .await;
    nothing_arrived_but(&backend, 2).await;
}

#[tokio::test]
async fn a_token_of_another_time_opens_nothing() {
    // The configured tolerance is two minutes.
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "time").await;
    let at = |offset: i64| Clock::System.unix() + offset;
    let (old, early) = ("token-expired", "token-not-yet-valid");
    let cases = [
        (
            "exp beyond the skew",
            json!({"claims": {"exp": at(-121)}}),
            old,
        ),
        ("exp long ago", json!({"claims": {"exp": 1}}), old),
        (
            "no exp",
            json!({"claims": {"exp": null}}),
            "token-claim-missing",
        ),
        (
            "exp as text",
            json!({"claims": {"exp": at(3600).to_string()}}),
            "token-malformed",
        ),
        (
            "nbf beyond the skew",
            json!({"claims": {"nbf": at(180)}}),
            early,
        ),
        (
            "iat beyond the skew",
            json!({"claims": {"iat": at(180)}}),
            early,
        ),
        (
            "no iat",
            json!({"claims": {"iat": null}}),
            "token-claim-missing",
        ),
        (
            "nbf as text",
            json!({"claims": {"nbf": "soon"}}),
            "token-malformed",
        ),
    ];
    for case in cases {
        refused(&entra, &gateway, &login, case).await;
    }
    let who = (login.as_str(), oid.as_str());
    let within = json!({"claims": {"exp": at(-60)}});
    accepted(&entra, &gateway, who, ("exp within the skew", within)).await;
    let within = json!({"claims": {"nbf": at(115), "iat": at(115)}});
    accepted(
        &entra,
        &gateway,
        who,
        ("nbf and iat within the skew", within),
    )
    .await;
    nothing_arrived_but(&backend, 2).await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_no_flood_at_the_issuer() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "flood").await;
    accepted(&entra, &gateway, (&login, &oid), ("before", json!({}))).await;
    let began = Instant::now();
    let before = counted(&entra, "jwks").await;
    for number in 0..15 {
        let unknown = json!({"header": {"kid": format!("made-up-{number}")}});
        refused(
            &entra,
            &gateway,
            &login,
            ("a made-up kid", unknown, "token-key-unknown"),
        )
        .await;
    }
    let fetches = counted(&entra, "jwks").await - before;
    // At most one in five seconds, whoever asks.
    let most = began.elapsed().as_secs() / 5 + 1;
    assert!(
        (1..=most).contains(&fetches),
        "{fetches} fetches, at most {most}"
    );
    accepted(&entra, &gateway, (&login, &oid), ("after", json!({}))).await;
    nothing_arrived_but(&backend, 2).await;
}

#[tokio::test]
async fn a_new_key_signs_from_one_moment_to_the_next() {
    let (stage, _backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "rotation").await;
    let url = gateway.url("wiki", "/echo");
    let mut old = browser(&stage);
    let page = old.open_as(&login, &url).await.unwrap();
    assert_eq!(page.remote_user(), oid);

    // Three browsers are at the issuer while its keys change: the old ones are gone at once.
    let mut under_way = Vec::new();
    for _ in 0..3 {
        let mut visitor = browser(&stage);
        let callback = to_callback(&mut visitor, &login, &url).await;
        under_way.push((visitor, callback));
    }
    order(&entra, "/keys/rotate", json!({"retire_old": true})).await;
    let walks = under_way
        .into_iter()
        .map(
            |(mut visitor, callback)| async move { visitor.open(callback.as_str()).await.unwrap() },
        );
    for page in futures_util::future::join_all(walks).await {
        assert_eq!(page.status, 200, "{}", page.header("kerbgate-reason"));
        assert_eq!(page.remote_user(), oid);
    }
    let page = old.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "who was in stays in");
    let mut new = browser(&stage);
    let page = new.open_as(&login, &url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "and new ones get in");
}

#[tokio::test]
async fn a_token_of_a_withdrawn_key_opens_nothing() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let rotated = order(&entra, "/keys/rotate", json!({"retire_old": true})).await;
    let old = rotated["old_kid"].as_str().unwrap().to_owned();
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "withdrawn").await;
    let order = json!({"kid": old});
    refused(
        &entra,
        &gateway,
        &login,
        ("a key no longer published", order, "token-key-unknown"),
    )
    .await;
    accepted(&entra, &gateway, (&login, &oid), ("control", json!({}))).await;
    nothing_arrived_but(&backend, 1).await;
    assert!(
        redirect(
            &get(
                &mut browser(&stage),
                &gateway.url("wiki", "/").parse().unwrap()
            )
            .await
        )
        .is_some()
    );
}
