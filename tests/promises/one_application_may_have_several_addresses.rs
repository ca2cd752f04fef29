//! An application with segments is one application at several addresses: whoever may enter it may enter
//! all of them, nobody else does, and each address has backends and an SPN of its own.

use crate::lab::Stage;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Reply;
use crate::wire::Scene;

/// The wiki also at another host, below another path of its backend; the intranet with a part of the
/// timesheet's server, which has an account, and so an SPN, of its own.
async fn scene() -> Scene {
    let stage = Stage::new().await;
    let backends = &stage.lab.facts.backends;
    stage.replace(
        "apps/wiki.toml",
        "name = \"Wiki\"\n",
        "name = \"Wiki\"\nanonymous = [\"/echo/open/\"]\n",
    );
    stage.append(
        "apps/wiki.toml",
        &format!(
            "\n[[segments]]\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{}/echo/second/\"]\nanonymous = [\"/health\"]\n",
            stage.url("other", "/"),
            backends.wiki.port()
        ),
    );
    stage.append(
        "apps/intranet.toml",
        &format!(
            "\n[[segments]]\npublished_url = \"{}\"\nbackend_urls = [\"http://timesheet.contoso.test:{}/\"]\nspn = \"HTTP/timesheet.contoso.test\"\n",
            stage.url("intranet", "/hours/"),
            backends.timesheet.port()
        ),
    );
    Scene::new(stage).await
}

async fn get(scene: &Scene, app: &str, path: &str, headers: &str) -> Reply {
    let host = scene.host(app);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    let mut replies = scene.raw(app, &[request]).await;
    assert_eq!(replies.len(), 1, "{path}: {replies:?}");
    replies.remove(0)
}

#[tokio::test]
async fn each_address_leads_to_its_own_backend() {
    let mut scene = scene().await;
    let before = scene.wiki.requests().await;
    let first = scene.guest.open(&scene.gateway.url("wiki", "/echo")).await;
    assert_eq!(first.unwrap().status, 200);
    let second = scene.guest.open(&scene.gateway.url("other", "/a?b")).await;
    let second = second.unwrap();
    assert_eq!(second.status, 200, "{}", second.body);
    assert_eq!(second.remote_user(), scene.sam);
    assert!(second.body.contains("/echo/second/a"), "{}", second.body);
    assert_eq!(scene.wiki.requests().await, before + 2);

    // Neither server takes the other one's ticket.
    let account = format!("{}@CONTOSO.TEST", scene.sam);
    for _ in 0..2 {
        for path in ["/echo", "/hours/echo"] {
            let page = scene.guest.open(&scene.gateway.url("intranet", path)).await;
            let page = page.unwrap();
            assert_eq!(page.status, 200, "{path}: {}", page.body);
            assert_eq!(page.remote_user(), account, "{path}");
        }
    }
}

#[tokio::test]
async fn whom_the_application_refuses_every_address_refuses() {
    let scene = scene().await;
    let (login, _) = scene.entra.new_guest("segments", &["Intranet.User"]).await;
    let mut other = Visitor::new(&scene.stage.lab.facts.ca, Speaks::Http2);
    let before = scene.wiki.requests().await;
    for app in ["wiki", "other"] {
        let page = other
            .open_as(&login, &scene.gateway.url(app, "/echo"))
            .await;
        assert_eq!(page.unwrap().status, 403, "{app}");
    }
    // A session belongs to one host, and what is open at one address is not open at another.
    let cookie = format!("Cookie: {}\r\n", scene.cookie("wiki"));
    for (path, headers) in [("/a", ""), ("/a", &*cookie), ("/echo/open/a", "")] {
        let reply = get(&scene, "other", path, headers).await;
        assert_eq!(reply.status, 401, "{path}: {}", reply.body);
    }
    assert_eq!(get(&scene, "wiki", "/health", "").await.status, 401);
    assert_eq!(scene.wiki.requests().await, before);
    assert_eq!(get(&scene, "wiki", "/echo/open/a", "").await.status, 200);
    assert_eq!(get(&scene, "other", "/health", "").await.status, 200);
    assert_eq!(scene.wiki.requests().await, before + 2);
}

#[tokio::test]
async fn a_wildcard_host_is_an_application_at_each_of_its_hosts() {
    let stage = Stage::new().await;
    stage.append(
        "apps/wiki.toml",
        &format!(
            "\n[[segments]]\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{}/\"]\n",
            stage.url("*.tenants", "/"),
            stage.lab.facts.backends.wiki.port()
        ),
    );
    let mut scene = Scene::new(stage).await;
    let before = scene.wiki.requests().await;
    for tenant in ["a.tenants", "b-2.tenants"] {
        let page = scene
            .guest
            .open(&scene.gateway.url(tenant, "/echo"))
            .await
            .unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.remote_user(), scene.sam);
        let host = scene.host(tenant);
        assert_eq!(
            page.json()["headers"]["x-forwarded-host"][0],
            host.as_str(),
            "{}",
            page.body
        );
    }
    assert_eq!(scene.wiki.requests().await, before + 2);

    // Redirects stay on the host that was asked; a session is that host's alone.
    let cookie = format!("Cookie: {}\r\n", scene.cookie("a.tenants"));
    let to = format!(
        "http://wiki.contoso.test:{}/there",
        scene.wiki.address.port()
    );
    let moved = get(&scene, "a.tenants", &format!("/redirect?to={to}"), &cookie).await;
    let there = scene.gateway.url("a.tenants", "/there");
    assert_eq!(moved.header("location"), Some(&*there), "{moved:?}");
    let before = scene.wiki.requests().await;
    assert_eq!(
        get(&scene, "b-2.tenants", "/echo", &cookie).await.status,
        401
    );
    assert_eq!(get(&scene, "wiki", "/echo", &cookie).await.status, 401);

    // One label, and a sound one.
    for host in ["x.a.tenants", "tenants", "*.tenants", "-x.tenants"] {
        let request = format!(
            "GET /echo HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{cookie}\r\n",
            scene.host(host)
        );
        let replies = scene.raw("a.tenants", &[request]).await;
        assert!(
            [404, 421].contains(&replies[0].status),
            "{host}: {replies:?}"
        );
    }
    assert_eq!(scene.wiki.requests().await, before);
}
