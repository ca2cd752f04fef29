//! For the guest: what was typed for an hour is not lost because the session ended meanwhile. It is sent after the
//! sign-in: once, as it was, for the person who wrote it, and for nobody else.

use http::Method;
use http::header;
use url::Url;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Visitor;
use crate::visitor::redirect;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::cookie;
use crate::walk::get;

const FORM: &str = "__Host-kerbgate-form";
const CONTENT: &str = "multipart/form-data; boundary=x";
const BODY: &str =
    "--x\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n\u{fc}\u{0}1\r\n--x--\r\n";

struct Scene {
    stage: Stage,
    entra: Entra,
    gateway: Gateway,
}

impl Scene {
    async fn new(limits: &str) -> Self {
        let stage = Stage::new().await;
        stage.append("kerbgate.toml", "[session]\nidle = \"2s\"\n");
        stage.append("apps/wiki.toml", limits);
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        Self {
            stage,
            entra,
            gateway,
        }
    }

    fn url(&self, path: &str) -> Url {
        self.gateway.url("wiki", path).parse().unwrap()
    }

    async fn guest(&self, name: &str) -> String {
        self.entra.new_guest(name, &["Wiki.User"]).await.0
    }

    /// A visitor whose session has just run out.
    async fn late(&self, login: &str) -> Visitor {
        let mut visitor = browser(&self.stage);
        let page = visitor
            .open_as(login, self.url("/echo").as_str())
            .await
            .unwrap();
        assert_eq!(page.json()["method"], "GET");
        let state = self.url("/.kerbgate/session");
        eventually("the session ends", async || {
            let mut copy = visitor.clone();
            get(&mut copy, &state).await.header("kerbgate-reason") == "session-expired"
        })
        .await;
        visitor
    }

    /// Sends the form as the application's own page would, or as `site` says.
    async fn send(&self, visitor: &mut Visitor, site: &str, body: &str) -> Answer {
        let url = self.url("/echo/orders?n=7");
        let mut headers = visitor.headers.clone();
        headers.insert("sec-fetch-site", site.parse().unwrap());
        headers.insert(header::CONTENT_TYPE, CONTENT.parse().unwrap());
        if site == "same-origin" {
            let origin = self.url("/").origin().ascii_serialization();
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let request = visitor.request(Method::POST, &url).headers(headers);
        let response = request.body(body.to_owned()).send().await.unwrap();
        visitor.take(&url, response).await
    }
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn it_is_sent_after_the_sign_in_and_only_once() {
    let scene = Scene::new("").await;
    let login = scene.guest("late-form").await;
    let mut visitor = scene.late(&login).await;
    let kept = scene.send(&mut visitor, "same-origin", BODY).await;
    assert_eq!(kept.status, 303, "{}", kept.body);
    assert!(cookie(&visitor, "wiki.localhost", FORM).is_some());
    let stolen = visitor.clone();

    let to = redirect(&kept).unwrap();
    let answer = visitor.open_as(&login, to.as_str()).await.unwrap();
    assert_eq!(answer.url, scene.url("/echo/orders?n=7"));
    let seen = answer.json();
    assert_eq!(seen["method"], "POST", "{seen}");
    assert_eq!(seen["path"], "/echo/orders");
    assert_eq!(seen["query"], "n=7");
    assert_eq!(seen["body_sha256"], sha256(BODY), "{seen}");
    assert_eq!(seen["headers"]["content-type"][0], CONTENT, "{seen}");
    let origin = scene.url("/").origin().ascii_serialization();
    assert_eq!(seen["headers"]["origin"][0], origin.as_str());
    assert!(!answer.remote_user().is_empty());

    assert!(cookie(&visitor, "wiki.localhost", FORM).is_none());
    // Not with a copy of the cookie either.
    let mut again = visitor.clone();
    again.cookies.get_mut("wiki.localhost").unwrap().insert(
        FORM.to_owned(),
        cookie(&stolen, "wiki.localhost", FORM).unwrap(),
    );
    let reloaded = get(&mut again, &answer.url).await;
    assert_eq!(reloaded.json()["method"], "GET");
    let log = scene.gateway.log();
    for event in ["form-kept", "form-resumed"] {
        assert_eq!(log.matches(event).count(), 1, "{event}");
    }
    assert!(!log.contains("Content-Disposition"), "no content in a log");
}

#[tokio::test]
async fn another_tab_does_not_send_it() {
    let scene = Scene::new("").await;
    let login = scene.guest("two-tabs").await;
    let mut visitor = scene.late(&login).await;
    let kept = scene.send(&mut visitor, "same-origin", BODY).await;
    let elsewhere = scene.url("/echo/elsewhere");
    let other = visitor.open_as(&login, elsewhere.as_str()).await.unwrap();
    assert_eq!(other.json()["method"], "GET");
    let to = redirect(&kept).unwrap();
    let answer = visitor.open_as(&login, to.as_str()).await.unwrap();
    assert_eq!(answer.json()["method"], "POST");
}

#[tokio::test]
async fn nobody_else_sends_it() {
    let scene = Scene::new("").await;
    let (writer, other) = (scene.guest("writer").await, scene.guest("other").await);
    let mut visitor = scene.late(&writer).await;
    let kept = scene.send(&mut visitor, "same-origin", BODY).await;
    let to = redirect(&kept).unwrap();
    visitor.cookies.remove("entra.localhost");
    let answer = visitor.open_as(&other, to.as_str()).await.unwrap();
    assert_refused(&answer, "form-of-another", "somebody else signed in");
    assert_eq!(answer.status, 409);
    let after = visitor.open(answer.url.as_str()).await.unwrap();
    assert_eq!(after.json()["method"], "GET", "it is gone");
    assert!(scene.gateway.log().contains("form-discarded"));
}

#[tokio::test]
async fn another_sites_form_is_not_kept() {
    let scene = Scene::new("").await;
    let login = scene.guest("lured").await;
    for site in ["cross-site", "same-site", "none"] {
        let mut visitor = scene.late(&login).await;
        let answer = scene.send(&mut visitor, site, BODY).await;
        assert_refused(&answer, "session-expired", site);
        assert!(cookie(&visitor, "wiki.localhost", FORM).is_none(), "{site}");
    }
}

#[tokio::test]
async fn one_that_is_too_large_is_not_lost_either() {
    let scene = Scene::new("[limits]\nkeep_form = \"1KiB\"\n").await;
    let login = scene.guest("large-form").await;
    let mut visitor = scene.late(&login).await;
    let large = "x".repeat(1025);
    let answer = scene.send(&mut visitor, "same-origin", &large).await;
    assert_refused(&answer, "form-not-kept", "1025 bytes");
    // The answer belongs to the form's own request: a reload of it sends the form again.
    assert!(answer.body.contains("reload it"), "{}", answer.body);
    assert!(answer.body.contains("target=\"_blank\""), "{}", answer.body);
    let tab = scene.url("/echo");
    visitor.open_as(&login, tab.as_str()).await.unwrap();
    let sent = scene.send(&mut visitor, "same-origin", &large).await;
    assert_eq!(sent.json()["method"], "POST");
    assert_eq!(sent.json()["body_sha256"], sha256(&large));
}
