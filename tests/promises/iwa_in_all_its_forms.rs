//! For an administrator: however a Windows-authentication application wants its tickets, it gets the right
//! person's; and a connection that stands for one person never carries another's request.

use http::Method;
use serde_json::Value;

use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::gateway::application;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

const ROLES: [&str; 3] = ["Intranet.User", "Timesheet.User", "Wiki.User"];

/// Signed in, with the name under which the backends must know them.
async fn guest(
    stage: &Stage,
    entra: &Entra,
    gateway: &Gateway,
    speaks: Speaks,
) -> (Visitor, String) {
    let (login, oid) = entra.new_guest("iwa", &ROLES).await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, speaks);
    for app in ["wiki", "timesheet", "intranet"] {
        let url = gateway.url(app, "/echo");
        let page = visitor.open_as(&login, &url).await.unwrap();
        assert_eq!(page.status, 200, "{app}: {}", page.body);
    }
    let sam = accounts_of(stage, &oid).remove(0);
    (visitor, format!("{sam}@CONTOSO.TEST"))
}

fn set(stage: &Stage, app: &str, line: &str) {
    let file = format!("apps/{app}.toml");
    let spn = format!("spn = \"HTTP/{app}.contoso.test\"\n");
    let text = std::fs::read_to_string(stage.path(&file)).unwrap();
    let key = line.split(' ').next().unwrap();
    let rest: String = text
        .lines()
        .filter(|old| !old.starts_with(&format!("{key} =")))
        .map(|old| format!("{old}\n"))
        .collect();
    assert!(rest.contains(&spn) || key == "spn", "{rest}");
    std::fs::write(stage.path(&file), format!("{rest}{line}\n")).unwrap();
}

fn sha256(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A form with a body arrives whole, once, as the person.
async fn posts(visitor: &Visitor, gateway: &Gateway, app: &str, name: &str) {
    let url = gateway.url(app, "/echo").parse().unwrap();
    let origin = gateway.url(app, "");
    for size in [0, 1, 200_000] {
        let body: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[0]).collect();
        let sum = sha256(&body);
        let request = visitor
            .request(Method::POST, &url)
            .header("origin", origin.as_str())
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/octet-stream");
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{app}: POST of {size} bytes");
        assert!(!answer.headers().contains_key("www-authenticate"), "{app}");
        let seen: Value = answer.json().await.unwrap();
        assert_eq!(seen["remote_user"], name, "{app}");
        assert_eq!(seen["method"], "POST", "{app}");
        assert_eq!(seen["body_length"], size, "{app}");
        assert_eq!(seen["body_sha256"], sum.as_str(), "{app}");
    }
}

#[tokio::test]
async fn tickets_in_every_form_are_understood() {
    // Applications by the lines of their [sso.kerberos].
    let forms: [(&str, &[&str]); 4] = [
        ("each request and SPNEGO", &["send = \"each-request\""]),
        ("on challenge", &["send = \"on-challenge\""]),
        ("raw", &["send = \"each-request\"", "wrap = \"raw\""]),
        (
            "raw, on challenge, SPN by template",
            &[
                "send = \"on-challenge\"",
                "wrap = \"raw\"",
                "spn = \"HTTP/{backend_host}\"",
            ],
        ),
    ];
    for (form, lines) in forms {
        let stage = Stage::new().await;
        for app in ["intranet", "timesheet"] {
            for line in lines {
                set(&stage, app, line);
            }
        }
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let (mut visitor, name) = guest(&stage, &entra, &gateway, Speaks::Http2).await;
        for app in ["intranet", "timesheet"] {
            for _ in 0..3 {
                let page = visitor.open(&gateway.url(app, "/echo")).await.unwrap();
                assert_eq!(page.status, 200, "{form}, {app}: {}", page.body);
                assert_eq!(page.remote_user(), name, "{form}, {app}");
                // RFC 4559: the backend's own token is for us, not for the browser.
                assert!(!page.headers.contains_key("www-authenticate"), "{form}");
            }
            posts(&visitor, &gateway, app, &name).await;
        }
    }
}

#[tokio::test]
async fn a_backend_with_tls_is_checked_and_served() {
    let stage = Stage::new().await;
    let facts = &stage.lab.facts;
    let plain = format!(
        "http://intranet.contoso.test:{}/",
        facts.backends.intranet.port()
    );
    let port = facts.backends.intranet_tls.port();
    let secure = format!("https://intranet.contoso.test:{port}/");
    stage.replace("apps/intranet.toml", &plain, &secure);
    // The certificate is good for this name only.
    let other = application("intranet", &stage.world())
        .replace("https://intranet.localhost", "https://other.localhost")
        .replace(&plain, &format!("https://timesheet.contoso.test:{port}/"));
    std::fs::write(stage.path("apps/other.toml"), other).unwrap();
    let authority = format!("[backends]\nca_file = {:?}\n", facts.ca);
    stage.append("kerbgate.toml", &authority);
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (mut visitor, name) = guest(&stage, &entra, &gateway, Speaks::Http2).await;
    let page = visitor
        .open(&gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.remote_user(), name, "{}", page.body);
    posts(&visitor, &gateway, "intranet", &name).await;
    let page = visitor.open(&gateway.url("other", "/echo")).await.unwrap();
    assert_eq!(
        page.header("kerbgate-reason"),
        "backend-tls",
        "{}",
        page.body
    );
    assert_eq!(page.remote_user(), "");
}

#[tokio::test]
async fn without_its_authority_a_backend_with_tls_gets_no_ticket() {
    let stage = Stage::new().await;
    let backends = &stage.lab.facts.backends;
    let plain = format!("http://intranet.contoso.test:{}/", backends.intranet.port());
    let secure = format!(
        "https://intranet.contoso.test:{}/",
        backends.intranet_tls.port()
    );
    stage.replace("apps/intranet.toml", &plain, &secure);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut emma = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let page = emma
        .open_as("emma@contoso.example", &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(
        page.header("kerbgate-reason"),
        "backend-tls",
        "{}",
        page.body
    );
    assert!(!gateway.log().contains("\"event\":\"delegation\""));
}

/// Forty pages as `name`, every fourth after one that was left while the backend was at work: that connection
/// must not be anybody's next.
async fn walk(visitor: Visitor, name: String, echo: url::Url, slow: url::Url) {
    for turn in 0..40 {
        if turn % 4 == 3 {
            let left = visitor.request(Method::GET, &slow).send();
            let after = std::time::Duration::from_millis(turn);
            drop(tokio::time::timeout(after, left).await);
        }
        let answer = visitor.request(Method::GET, &echo).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let seen: Value = answer.json().await.unwrap();
        assert_eq!(seen["remote_user"], name.as_str(), "turn {turn}");
    }
}

#[tokio::test]
async fn people_on_a_connection_bound_backend_are_never_mixed() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut walks = Vec::new();
    for speaks in [Speaks::Http1, Speaks::Http2, Speaks::Http1, Speaks::Http2] {
        let (visitor, name) = guest(&stage, &entra, &gateway, speaks).await;
        let url = |path: &str| gateway.url("timesheet", path).parse().unwrap();
        let (echo, slow): (url::Url, url::Url) = (url("/echo"), url("/slow?ms=200"));
        walks.push(tokio::spawn(walk(visitor, name, echo, slow)));
    }
    for walk in walks {
        walk.await.unwrap();
    }
}

/// A server on the way that cannot decrypt the ticket: it lets everybody in and makes up its side of the exchange.
async fn impostor(answer: &'static str) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = move || async move {
        let headers = [("www-authenticate", answer)];
        (headers, "the impostor's page")
    };
    let router = axum::Router::new().fallback(said);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn a_backend_that_cannot_prove_itself_is_not_believed() {
    for (answer, mutual, believed) in [
        ("Negotiate oRQwEqADCgEAoQsGCSqGSIb3EgECAg==", true, false),
        ("Negotiate Zm9yZ2VkIGJ5IHNvbWVib2R5", true, false),
        ("Negotiate !!not-base64!!", true, false),
        ("Negotiate Zm9yZ2VkIGJ5IHNvbWVib2R5", false, true),
    ] {
        let stage = Stage::new().await;
        let plain = stage.lab.facts.backends.intranet.port();
        let plain = format!("http://intranet.contoso.test:{plain}/");
        let address = impostor(answer).await;
        stage.replace("apps/intranet.toml", &plain, &format!("http://{address}/"));
        set(&stage, "intranet", &format!("mutual = {mutual}"));
        let _entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let mut emma = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        let page = emma
            .open_as("emma@contoso.example", &gateway.url("intranet", "/"))
            .await
            .unwrap();
        let shown = page.body.contains("the impostor's page");
        assert_eq!(shown, believed, "{answer}: {}", page.body);
        assert_eq!(page.status == 200, believed, "{answer}: {}", page.status);
        assert!(!page.headers.contains_key("www-authenticate"), "{answer}");
        if !believed {
            let reason = page.header("kerbgate-reason");
            assert_eq!(reason, "ticket-refused", "{answer}");
        }
    }
}
