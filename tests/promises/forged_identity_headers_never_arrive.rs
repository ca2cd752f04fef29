//! Nobody becomes somebody else by saying so: what a visitor sends under a name that speaks of
//! identity or origin never reaches a backend, in no spelling and by no way.

use std::fs;

use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use serde_json::Value;

use crate::lab::Stage;
use crate::wire::DATA;
use crate::wire::END_HEADERS;
use crate::wire::END_STREAM;
use crate::wire::HEADERS;
use crate::wire::Http2;
use crate::wire::Scene;
use crate::wire::block;

/// In every value that a visitor made up.
const FORGED: &str = "f0rged-canary";

const NAMES: [&str; 26] = [
    "X-Remote-User",
    "X-Remote-Name",
    "X-Remote-Email",
    "X-Remote-Roles",
    "X-Remote-Groups",
    "Remote-User",
    "Auth-User",
    "X-Authenticated-User",
    "Kerbgate-Jwt-Assertion",
    "Kerbgate-User",
    "X-Kerbgate-User",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-User",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "Forwarded",
    "X-Real-IP",
    "True-Client-IP",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-MS-Client-Principal-Name",
    "Client-Cert",
    "Proxy",
    "Via",
];

/// Every spelling that some server takes for `name`.
fn spellings(name: &str) -> Vec<String> {
    let mixed = |name: &str| -> String {
        name.chars()
            .enumerate()
            .map(|(at, letter)| match at % 2 {
                0 => letter.to_ascii_uppercase(),
                _ => letter.to_ascii_lowercase(),
            })
            .collect()
    };
    let mut all = Vec::new();
    for plain in [
        name.to_owned(),
        name.replace('-', "_"),
        name.replace('-', "."),
        name.replacen('-', "_", 1),
        name.replacen('-', ".", 1),
    ] {
        all.extend([
            plain.to_lowercase(),
            plain.to_uppercase(),
            mixed(&plain),
            plain,
        ]);
    }
    all.sort();
    all.dedup();
    all
}

/// Nothing made up is anywhere in what the backend saw.
fn is_clean(seen: &str, what: &str) {
    assert!(!seen.contains(FORGED), "{what}: {seen}");
    // Whoever saw nothing at all would be clean too.
    assert!(seen.contains("\"headers\":"), "{what}: {seen}");
}

#[tokio::test]
async fn in_no_spelling_over_http1() {
    let scene = Scene::new(Stage::new().await).await;
    for app in ["wiki", "intranet", "timesheet"] {
        let who = match app {
            "wiki" => scene.sam.clone(),
            _ => format!("{}@CONTOSO.TEST", scene.sam),
        };
        let all: Vec<String> = NAMES.iter().flat_map(|name| spellings(name)).collect();
        // Twice each, before and after everything else, and fewer than the limit for headers.
        for some in all.chunks(30) {
            let forged: String = some
                .iter()
                .map(|name| format!("{name}: {FORGED}\r\n"))
                .collect();
            let request = format!(
                "GET /echo HTTP/1.1\r\n{forged}Host: {}\r\nCookie: {}\r\nX-Mine: kept\r\n{forged}Connection: close\r\n\r\n",
                scene.host(app),
                scene.cookie(app)
            );
            let replies = scene.raw(app, &[request]).await;
            assert_eq!(replies[0].status, 200, "{app}: {replies:?} for {some:?}");
            is_clean(&replies[0].body, app);
            assert!(replies[0].body.contains("kept"), "the visitor's own stays");
            assert_eq!(replies[0].header("x-remote-user"), Some(&*who), "{app}");
        }
    }
}

#[tokio::test]
async fn in_no_spelling_over_http2() {
    let scene = Scene::new(Stage::new().await).await;
    for app in ["wiki", "intranet"] {
        let mut all: Vec<String> = NAMES
            .iter()
            .flat_map(|name| spellings(&name.to_lowercase()))
            .map(|name| name.to_lowercase())
            .collect();
        all.sort();
        all.dedup();
        let (host, cookie) = (scene.host(app), scene.cookie(app));
        let mut wire = Http2::open(&scene.stage, app).await;
        for (at, some) in all.chunks(30).enumerate() {
            let mut fields = vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", &*host),
                (":path", "/echo"),
            ];
            fields.extend(some.iter().map(|name| (&**name, FORGED)));
            fields.push(("cookie", &cookie));
            fields.extend(some.iter().map(|name| (&**name, FORGED)));
            let stream = u32::try_from(2 * at + 1).unwrap();
            let flags = END_HEADERS | END_STREAM;
            assert!(wire.frame(HEADERS, flags, stream, &block(&fields)).await);
            let outcome = wire.outcome(stream).await;
            let seen = String::from_utf8_lossy(&outcome.body).into_owned();
            is_clean(&seen, app);
            let user = outcome.json()["remote_user"].as_str().unwrap().to_owned();
            assert!(user.starts_with(&scene.sam), "{app}: {user}");
        }
    }
}

#[tokio::test]
async fn nobody_has_the_gateways_own_headers_dropped() {
    let scene = Scene::new(Stage::new().await).await;
    let request = |app: &str, listed: &str| {
        format!(
            "GET /echo HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: close, {listed}\r\n\r\n",
            scene.host(app),
            scene.cookie(app)
        )
    };
    for name in [
        "X-Remote-User",
        "x_remote_user",
        "X.Remote.User",
        "Kerbgate-Jwt-Assertion",
        "X-Forwarded-For",
        "Forwarded",
        "Remote-User",
    ] {
        let before = scene.wiki.requests().await;
        let replies = scene.raw("wiki", &[request("wiki", name)]).await;
        assert_eq!(replies[0].status, 400, "{name}: {replies:?}");
        assert_eq!(replies[0].header("kerbgate-reason"), Some("bad-request"));
        assert_eq!(scene.wiki.requests().await, before, "{name} arrived");
        let replies = scene.raw("intranet", &[request("intranet", name)]).await;
        assert_eq!(replies[0].status, 400, "{name}: {replies:?}");
    }
    // Authorization is set after what the visitor lists is gone.
    let replies = scene
        .raw("intranet", &[request("intranet", "Authorization")])
        .await;
    assert_eq!(replies[0].status, 200, "{replies:?}");
    let user = format!("{}@CONTOSO.TEST", scene.sam);
    assert_eq!(replies[0].header("x-remote-user"), Some(&*user));
    // The control: a header of the visitor's own may be for one hop.
    let replies = scene.raw("wiki", &[request("wiki", "X-Mine")]).await;
    assert_eq!(replies[0].status, 200, "{replies:?}");
}

#[tokio::test]
async fn not_as_trailers() {
    let scene = Scene::new(Stage::new().await).await;
    for app in ["wiki", "intranet"] {
        let (host, cookie) = (scene.host(app), scene.cookie(app));
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\
             TE: trailers\r\nTrailer: X-Remote-User\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\nX-Remote-User: {FORGED}\r\nX-Other: {FORGED}\r\n\r\n"
        );
        let replies = scene.raw(app, &[request]).await;
        assert_eq!(replies[0].status, 200, "{replies:?}");
        is_clean(&replies[0].body, app);
        let seen = replies[0].json();
        // mod_lua reads no chunked bodies: only the other backend shows what it got.
        let length = if app == "wiki" { 4 } else { 0 };
        assert_eq!(seen["body_length"], length, "{seen}");
        assert_eq!(seen["trailers"], Value::Null, "{seen}");

        let head = block(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", &host),
            (":path", "/echo"),
            ("cookie", &cookie),
            ("te", "trailers"),
        ]);
        let mut wire = Http2::open(&scene.stage, app).await;
        wire.frame(HEADERS, END_HEADERS, 1, &head).await;
        wire.frame(DATA, 0, 1, b"body").await;
        let trailers = block(&[("x-remote-user", FORGED), ("x-other", FORGED)]);
        wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers)
            .await;
        let outcome = wire.outcome(1).await;
        assert_eq!(outcome.status, Some(200), "{outcome:?}");
        is_clean(&String::from_utf8_lossy(&outcome.body), app);
        assert_eq!(outcome.json()["trailers"], Value::Null);
        assert_eq!(outcome.json()["body_length"], length);
    }
}

#[tokio::test]
async fn credentials_and_cookies_of_the_gateway_stay_with_it() {
    let scene = Scene::new(Stage::new().await).await;
    for app in ["wiki", "intranet", "timesheet"] {
        let session = scene.cookie(app);
        assert!(session.contains("__Host-kerbgate="), "{session}");
        for authorization in [
            format!("Basic {FORGED}"),
            format!("Negotiate {FORGED}"),
            format!("NTLM {FORGED}"),
            format!("Digest username=\"{FORGED}\""),
            FORGED.to_owned(),
        ] {
            let mut request = format!(
                "GET /echo HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\n\
                 Proxy-Authorization: Basic {FORGED}\r\n\
                 Cookie: theme=\"a b\"; x=%C3%A9=;y;{session};__HOST-KERBGATE-x={FORGED}; z=1; raw=",
                scene.host(app),
            )
            .into_bytes();
            request.extend_from_slice(b"\xe9\r\nConnection: close\r\n\r\n");
            let replies = scene.raw(app, &[request]).await;
            assert_eq!(replies[0].status, 200, "{app}: {replies:?}");
            is_clean(&replies[0].body, app);
            let id = session.split("__Host-kerbgate=").nth(1).unwrap();
            let id = id.split(';').next().unwrap();
            assert!(!replies[0].body.contains(id), "the session's id arrived");
            let seen = replies[0].json();
            let cookie = match &seen["headers"]["cookie"] {
                Value::Array(all) => all[0].as_str().unwrap().to_owned(),
                one => one.as_str().unwrap().to_owned(),
            };
            let others = "theme=\"a b\"; x=%C3%A9=; y; z=1; raw=";
            assert!(cookie.starts_with(others), "{app}: {cookie}");
            let log = scene.gateway.log();
            assert!(!log.contains(id) && !log.contains(FORGED), "in the log");
        }
    }
}

#[tokio::test]
async fn where_a_request_came_from_is_the_gateways_to_say() {
    let scene = Scene::new(Stage::new().await).await;
    let host = scene.host("wiki");
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\nX-Forwarded-For: {FORGED}\r\n\
         Forwarded: for={FORGED}\r\nKerbgate-Jwt-Assertion: {FORGED}\r\nConnection: close\r\n\r\n",
        scene.cookie("wiki")
    );
    let replies = scene.raw("wiki", &[request]).await;
    let seen = replies[0].json();
    let headers = &seen["headers"];
    let only = |name: &str| {
        let values = headers[name].as_array().unwrap();
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0].as_str().unwrap().to_owned()
    };
    assert_eq!(only("x-forwarded-for"), "127.0.0.1");
    assert_eq!(only("x-forwarded-proto"), "https");
    assert_eq!(only("x-forwarded-host"), host);
    assert_eq!(
        only("forwarded"),
        format!("for=127.0.0.1;host=\"{host}\";proto=https")
    );
    assert_eq!(only("x-remote-user"), scene.sam);

    // The assertion is ours, says the same, and is for this application only.
    let published = scene.gateway.url("wiki", "/.kerbgate/jwks.json");
    let mut nobody =
        crate::visitor::Visitor::new(&scene.stage.lab.facts.ca, crate::visitor::Speaks::Http1);
    let keys = nobody.open(&published).await.unwrap();
    assert_eq!(keys.status, 200);
    assert_eq!(keys.header("content-type"), "application/jwk-set+json");
    let jwk = serde_json::from_value(keys.json()["keys"][0].clone()).unwrap();
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let mut wanted = Validation::new(Algorithm::ES256);
    wanted.set_audience(&[scene.gateway.url("wiki", "/")]);
    wanted.leeway = 0;
    let assertion = only("kerbgate-jwt-assertion");
    let read = jsonwebtoken::decode::<Value>(&assertion, &key, &wanted).unwrap();
    let claims = read.claims;
    let seconds = |name: &str| claims[name].as_i64().unwrap_or_else(|| panic!("{claims}"));
    let life = seconds("exp") - seconds("iat");
    assert!((1..=60).contains(&life), "valid for {life} s");
    assert!(claims.to_string().contains(&scene.sam), "{claims}");
    wanted.set_audience(&[scene.gateway.url("intranet", "/")]);
    let elsewhere = jsonwebtoken::decode::<Value>(&assertion, &key, &wanted);
    assert!(elsewhere.is_err(), "accepted by another application");
    // A key that the gateway never made does not fit.
    let log = scene.gateway.log();
    assert!(!log.contains(&assertion), "the assertion is in the log");
    let mut last = assertion.into_bytes();
    let end = last.len() - 10;
    last[end] = if last[end] == b'A' { b'B' } else { b'A' };
    wanted.set_audience(&[scene.gateway.url("wiki", "/")]);
    let altered = String::from_utf8(last).unwrap();
    assert!(jsonwebtoken::decode::<Value>(&altered, &key, &wanted).is_err());
    // The key is kept for the gateway alone.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(scene.stage.path("state/assertion.key"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}
