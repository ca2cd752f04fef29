//! For whoever follows a link to one part of a page (`#section-2`), or to a page of an application that keeps its place
//! there: after the sign-in they are where the link led, and nobody else learned where that was.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::browser::Browser;
use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::visitor::Answer;
use crate::visitor::Visitor;
use crate::visitor::redirect;
use crate::walk::Backend;
use crate::walk::SESSION;
use crate::walk::browser;
use crate::walk::cookie;
use crate::walk::get;
use crate::walk::guest;
use crate::walk::plant;
use crate::walk::to_callback;
use crate::walk::to_hand_over;
use crate::walk::world;

const FLAG: &str = "__Host-kerbgate-fragment";
const WIKI: &str = "wiki.localhost";

struct Scene {
    stage: Stage,
    backend: Backend,
    entra: Entra,
    gateway: Gateway,
}

impl Scene {
    async fn set() -> Self {
        let (stage, backend) = world("").await;
        backend.publish(&stage, "timesheet", "");
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        Self {
            stage,
            backend,
            entra,
            gateway,
        }
    }

    async fn window(&self) -> Browser {
        let facts = &self.stage.lab.facts;
        Browser::open_window(&[&facts.gateway_certificate, &facts.entra_certificate]).await
    }

    fn issuer(&self) -> String {
        format!("https://entra.localhost:{}/", self.stage.entra_port)
    }

    fn url(&self, path: &str) -> Url {
        self.gateway.url("wiki", path).parse().unwrap()
    }

    /// A visitor without scripts at the end of a sign-in for `path`: the address that makes the session.
    async fn at_the_end(&self, name: &str, path: &str) -> (Visitor, Url) {
        let (login, _) = guest(&self.entra, name).await;
        let mut visitor = browser(&self.stage);
        let url = self.url(path);
        let callback = to_callback(&mut visitor, &login, url.as_str()).await;
        let end = to_hand_over(&mut visitor, &callback).await;
        (visitor, end)
    }
}

/// The application's own page is shown: where?
async fn shown(window: &Browser) -> String {
    window.find("pre").await;
    window.url().await
}

#[tokio::test]
async fn a_browser_ends_where_the_link_led() {
    let scene = Scene::set().await;
    let (login, _) = guest(&scene.entra, "linked").await;
    let window = scene.window().await;
    // An abandoned sign-in leaves nothing that comes back behind another address.
    let abandoned = scene.gateway.url("wiki", "/first#left-behind");
    window.open(&abandoned).await;
    window.arrive(&scene.issuer()).await;

    let wanted = scene.gateway.url("wiki", "/a'b/page?x=1&y=%22#section-2");
    window.open(&wanted).await;
    window.arrive(&scene.issuer()).await;
    let at_the_issuer = window.url().await;
    assert!(!at_the_issuer.contains("section-2"), "{at_the_issuer}");
    let button = format!("button[value='{login}']");
    window.click(&button).await;
    assert_eq!(shown(&window).await, wanted);
    let left = window.script("return sessionStorage.length").await;
    assert_eq!(left, 0, "nothing stays");
    let flag = &window.cookies().await[FLAG];
    assert_eq!(
        (&flag["secure"], &flag["value"]),
        (&true.into(), &"1".into())
    );
    assert!(flag["expiry"].is_number(), "{flag}");

    // The other way in: the central sign-in serves this host as well, and no person has to do anything.
    let wanted = scene
        .gateway
        .url("timesheet", "/#/weeks/47?sort=day%20of%20week");
    window.open(&wanted).await;
    assert_eq!(shown(&window).await, wanted);
    for headers in scene.backend.seen() {
        let cookies = headers.get("cookie").map(|value| value.to_str().unwrap());
        assert!(
            !cookies.unwrap_or_default().contains("kerbgate"),
            "{cookies:?}"
        );
    }
    let log = scene.gateway.log();
    assert!(!log.contains("section-2") && !log.contains("weeks"));
}

#[tokio::test]
async fn an_abandoned_part_is_put_behind_no_other_address() {
    let scene = Scene::set().await;
    let (login, _) = guest(&scene.entra, "wavering").await;
    let window = scene.window().await;
    window.open(&scene.gateway.url("wiki", "/first#part")).await;
    window.arrive(&scene.issuer()).await;
    let second = scene.gateway.url("wiki", "/second");
    window.open(&second).await;
    window.arrive(&scene.issuer()).await;
    window.click(&format!("button[value='{login}']")).await;
    assert_eq!(shown(&window).await, second);
}

#[tokio::test]
async fn only_a_windows_own_navigation_gets_the_page() {
    let scene = Scene::set().await;
    let page = get(&mut browser(&scene.stage), &scene.url("/x")).await;
    assert_eq!(page.status, 401);
    assert_is_ours(&page);
    assert!(
        redirect(&page)
            .unwrap()
            .as_str()
            .starts_with(&scene.gateway.url("login", "/.kerbgate/signin?id="))
    );
    for (name, value) in [
        ("sec-fetch-mode", None),
        ("sec-fetch-dest", None),
        ("sec-fetch-dest", Some("iframe")),
        ("accept", Some("*/*")),
    ] {
        let mut visitor = browser(&scene.stage);
        visitor.headers.remove(name);
        if let Some(value) = value {
            visitor.headers.insert(name, value.parse().unwrap());
        }
        let answer = get(&mut visitor, &scene.url("/x")).await;
        assert_eq!(answer.status, 302, "{name}: {value:?}");
        assert!(answer.body.is_empty(), "{name}");
    }
    assert_eq!(scene.backend.count(), 0);
}

#[tokio::test]
async fn nothing_kept_means_no_page_at_the_end() {
    let scene = Scene::set().await;
    let (visitor, end) = scene.at_the_end("plain", "/a?b=c").await;
    let answer = get(&mut visitor.clone(), &end).await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), "/a?b=c");

    let (mut visitor, end) = scene.at_the_end("framed", "/a?b=c").await;
    plant(&mut visitor, WIKI, FLAG, "1");
    let frame = "iframe".parse().unwrap();
    visitor.headers.insert("sec-fetch-dest", frame);
    let answer = get(&mut visitor, &end).await;
    assert_eq!(answer.status, 302, "a frame is shown no page of ours");
}

#[tokio::test]
async fn a_path_stays_a_path_in_the_page() {
    let scene = Scene::set().await;
    for path in [
        "/x'onclick='alert(1)'&lt;/script&gt;&quot;?a=b&c=%22%3E%3Cscript%3E",
        "/a;url=https:@evil.example/;b",
        "/https://evil.example/",
        "/{{to}}${alert(1)}`",
    ] {
        let (mut visitor, end) = scene.at_the_end("hostile", path).await;
        plant(&mut visitor, WIKI, FLAG, "1");
        let page = get(&mut visitor, &end).await;
        assert_eq!(page.status, 200, "{path}");
        assert_is_ours(&page);
        assert!(cookie(&visitor, WIKI, SESSION).is_some());
        for raw in ["='alert", "&lt;", "&quot;", "<script>a"] {
            assert!(!page.body.contains(raw), "{path}: {raw}\n{}", page.body);
        }
        let to = redirect(&page).unwrap();
        let wanted = scene.url(path);
        assert_eq!(
            to.path().replace("//", "/"),
            wanted.path().replace("//", "/")
        );
        assert_eq!(to.origin(), wanted.origin(), "{path}");
        let answer = get(&mut visitor, &to).await;
        assert!(!answer.remote_user().is_empty(), "{path}");
    }
}

/// One script, known to the policy by its hash, and nothing that anybody keeps.
fn assert_is_ours(page: &Answer) {
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-frame-options"), "DENY");
    let scripts: Vec<_> = page.body.split("<script>").skip(1).collect();
    assert_eq!(scripts.len(), 1, "{}", page.body);
    let script = scripts[0].split("</script>").next().unwrap();
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, script.as_bytes()));
    let policy = page.header("content-security-policy");
    let wanted = format!("default-src 'none'; script-src 'sha256-{hash}'; style-src 'sha256-");
    assert!(policy.starts_with(&wanted), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("base-uri 'none'"));
    assert!(!script.contains("/x"), "values stand in attributes");
}
