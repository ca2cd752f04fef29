//! For the administrator: a restart harms nobody, and a start that cannot succeed says why.

use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::time::Instant;

use http::Method;
use serde_json::Value;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_running_request_is_finished_before_the_end() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut scene = Scene::new(Stage::new().await).await;
        let before = scene.wiki.requests().await;
        let mut guest = Visitor::new(&scene.stage.lab.facts.ca, speaks);
        guest.cookies = scene.guest.cookies.clone();
        let url = scene.gateway.url("wiki", "/slow?ms=3000").parse().unwrap();
        let running = tokio::spawn(guest.request(Method::GET, &url).send());
        eventually("the request is at the backend", async || {
            scene.wiki.requests().await > before
        })
        .await;
        scene.gateway.process.signal("TERM");
        // Nobody new is let in while it goes on.
        let port = scene.stage.port;
        eventually("the port is given up", async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
        })
        .await;
        let answer = running.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200, "{speaks:?}");
        assert_eq!(answer.text().await.unwrap(), "slow\n");
        let status = scene.gateway.process.ended(SOON).await;
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_request_without_end_is_cut_at_the_end_of_the_drain_time() {
    let stage = Stage::new().await;
    stage.replace(
        "kerbgate.toml",
        "ops = \"127.0.0.1:0\"",
        "ops = \"127.0.0.1:0\"\ndrain = \"1s\"",
    );
    let mut scene = Scene::new(stage).await;
    let before = scene.wiki.requests().await;
    let url = scene
        .gateway
        .url("wiki", "/slow?ms=600000")
        .parse()
        .unwrap();
    let running = tokio::spawn(scene.guest.request(Method::GET, &url).send());
    eventually("the request is at the backend", async || {
        scene.wiki.requests().await > before
    })
    .await;
    let start = Instant::now();
    scene.gateway.process.signal("TERM");
    let status = scene.gateway.process.ended(SOON).await;
    assert!(status.success(), "{status}");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert!(running.await.unwrap().is_err(), "nobody answered");
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let mut scene = Scene::new(Stage::new().await).await;
    let keys = scene.gateway.url("wiki", "/.kerbgate/jwks.json");
    let published = scene.guest.open(&keys).await.unwrap().body;
    for signal in ["TERM", "INT", "KILL"] {
        scene.gateway.process.signal(signal);
        let status = scene.gateway.process.ended(SOON).await;
        assert_eq!(status.success(), signal != "KILL", "{signal}: {status}");
        scene.gateway = scene.stage.gateway().await;
        for app in ["wiki", "intranet", "timesheet"] {
            let url = scene.gateway.url(app, "/echo").parse().unwrap();
            let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
            assert_eq!(answer.status, 200, "{app} after {signal}: {}", answer.body);
            assert!(answer.remote_user().starts_with(&scene.sam), "{app}");
        }
        // Backends that hold our keys need not fetch them again.
        let again = scene.guest.open(&keys).await.unwrap().body;
        assert_eq!(again, published, "after {signal}");
    }
}

async fn probe(gateway: &Gateway, path: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ops = gateway.ready["ops"].as_str().unwrap();
    let answer = client.get(format!("http://{ops}{path}")).send().await;
    let answer = answer.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn the_probes_tell_how_it_is() {
    let stage = Stage::new().await;
    // Nobody at the issuer's address yet.
    let gateway = stage.gateway().await;
    assert_eq!(gateway.ready["pid"], gateway.process.pid());
    let listen: SocketAddr = gateway.ready["listen"].as_str().unwrap().parse().unwrap();
    assert_eq!(listen.port(), stage.port);
    assert_eq!(probe(&gateway, "/healthz").await.0, 200, "alive");
    let (status, told) = probe(&gateway, "/readyz").await;
    assert_eq!(status, 503, "{told}");
    assert_eq!(told["ready"], false);
    let parts = told["parts"].as_array().unwrap();
    let issuer = parts.iter().find(|part| part["part"] == "issuer").unwrap();
    assert_eq!(issuer["ready"], false, "{told}");
    assert_eq!(probe(&gateway, "/").await.0, 404);

    let _entra = stage.entra(&[]).await;
    eventually("ready by itself", async || {
        probe(&gateway, "/readyz").await.0 == 200
    })
    .await;
    let mut emma = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let url = gateway.url("intranet", "/echo");
    let page = emma.open_as("emma@contoso.example", &url).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);

    // Not on what is published.
    for path in [
        "/healthz",
        "/readyz",
        "/.kerbgate/healthz",
        "/.kerbgate/readyz",
    ] {
        let mut nobody = Visitor::new(&stage.lab.facts.ca, Speaks::Http1);
        let url = gateway.url("wiki", path).parse().unwrap();
        let answer = nobody.once(Method::GET, &url, None).await.unwrap();
        assert_ne!(answer.status, 200, "{path}: {}", answer.body);
    }
}

/// Starts a gateway that has to refuse, and returns what it said.
async fn refusal(stage: &Stage) -> String {
    let mut process = stage.gateway_process(&[]);
    let status = process.ended(SOON).await;
    let log = process.log();
    assert!(!status.success(), "it ended with {status}: {log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!stage.path("gateway.ready").exists(), "it said it is ready");
    log
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let stage = Stage::new().await;
    let taken = TcpListener::bind(("127.0.0.1", stage.port)).unwrap();
    let said = refusal(&stage).await;
    let address = format!("127.0.0.1:{}", stage.port);
    assert!(
        said.contains("listener.https") && said.contains(&address),
        "{said}"
    );
    assert!(said.contains("in use"), "{said}");
    drop(taken);
    drop(stage.gateway().await);
}

#[tokio::test]
async fn certificates_that_cannot_serve_are_named() {
    let stage = Stage::new().await;
    let facts = &stage.lab.facts;
    let key = facts.gateway_key.display().to_string();
    let chain = facts.gateway_certificate.display().to_string();
    let boot = fs::read(stage.path("kerbgate.toml")).unwrap();
    let garbage = stage.path("garbage.pem");
    fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let empty = stage.path("empty.pem");
    fs::write(&empty, "").unwrap();
    for file in [&garbage, &empty] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let missing = stage.path("missing.pem");
    let other = &facts.entra_key;
    for (old, new) in [
        (&key, other),
        (&key, &missing),
        (&key, &empty),
        (&chain, &missing),
        (&chain, &garbage),
        (&chain, &empty),
        (&chain, &facts.gateway_key),
    ] {
        let named = new.display().to_string();
        stage.replace(
            "kerbgate.toml",
            &format!("\"{old}\""),
            &format!("\"{named}\""),
        );
        let said = refusal(&stage).await;
        assert!(said.contains(&named), "{named} is not named: {said}");
        assert!(said.contains("kerbgate: "), "{said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        fs::write(stage.path("kerbgate.toml"), &boot).unwrap();
    }
    // The control.
    drop(stage.gateway().await);
}

#[tokio::test]
async fn keys_that_others_could_put_in_place_are_refused() {
    let stage = Stage::new().await;
    let state = stage.path("state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let said = refusal(&stage).await;
    assert!(
        said.contains("state") && said.contains("chmod 700"),
        "{said}"
    );
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    drop(stage.gateway().await);
}
