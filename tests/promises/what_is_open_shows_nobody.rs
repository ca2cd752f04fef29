//! Some paths need no sign-in, some applications are closed for a while, and other sites' scripts ask
//! before they come: in each case nobody is shown to a backend, and what was not opened stays shut.

use std::fs;

use crate::lab::Stage;
use crate::wire::Reply;
use crate::wire::Scene;

/// A stage whose wiki and intranet have open paths, and three more applications below the wiki's host.
async fn scene() -> Scene {
    let stage = Stage::new().await;
    let open = "anonymous = [\"/echo/open/\"]";
    for (file, name) in [
        ("apps/wiki.toml", "Wiki"),
        ("apps/intranet.toml", "Intranet"),
    ] {
        let name = format!("name = \"{name}\"\n");
        stage.replace(file, &name, &format!("{name}{open}\n"));
    }
    stage.append(
        "apps/wiki.toml",
        "\n[cors]\npreflight = \"answer\"\norigins = [\"https://portal.example.com\"]\nmethods = [\"PUT\"]\n",
    );
    let port = stage.lab.facts.backends.wiki.port();
    let access = "[access]\nguests = \"provision\"\nallow = [{ role = \"Wiki.User\" }]\n[sso.headers.set]\nX-Remote-User = \"sam\"\n";
    for (id, top, sections) in [
        ("passing", "pass_through = true\n", String::new()),
        (
            "shut",
            "anonymous = [\"/shut/echo/health\", \"/shut/echo/more\"]\n",
            format!(
                "{access}[maintenance]\nmessage = \"Back at <six>.\"\nopen = [\"/shut/echo/health\"]\n"
            ),
        ),
        (
            "tested",
            "",
            format!("{access}[maintenance]\nexcept = [{{ role = \"Wiki.User\" }}]\n"),
        ),
        (
            "untested",
            "",
            format!("{access}[maintenance]\nexcept = [{{ kind = \"member\" }}]\n"),
        ),
    ] {
        let text = format!(
            "name = \"{id}\"\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{port}/\"]\n{top}{sections}",
            stage.url("wiki", &format!("/{id}/"))
        );
        fs::write(stage.path(&format!("apps/{id}.toml")), text).unwrap();
    }
    Scene::new(stage).await
}

async fn ask(scene: &Scene, app: &str, line: &str, headers: &str) -> Reply {
    let host = scene.host(app);
    let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    let mut replies = scene.raw(app, &[request]).await;
    assert_eq!(replies.len(), 1, "{line}: {replies:?}");
    replies.remove(0)
}

#[tokio::test]
async fn open_paths_show_nobody_and_nothing_else_is_open() {
    let scene = scene().await;
    let signed_in = format!(
        "Cookie: {}\r\nX-Remote-User: f0rged\r\nAuthorization: Basic f0rged\r\n",
        scene.cookie("wiki")
    );
    for (line, headers) in [
        ("GET /echo/open/a", ""),
        ("GET /echo/open/a", &*signed_in),
        ("POST /echo/x/../open/a", &*signed_in),
        ("GET /passing/echo", &*signed_in),
        ("GET /passing/echo", ""),
        ("GET /shut/echo/health", &*signed_in),
    ] {
        let reply = ask(&scene, "wiki", line, headers).await;
        assert_eq!(reply.status, 200, "{line}: {}", reply.body);
        let shown = reply.body.to_ascii_lowercase();
        for nobodys in [
            "x-remote-user",
            "f0rged",
            "__host-kerbgate",
            "jwt-assertion",
            "authorization",
        ] {
            assert!(!shown.contains(nobodys), "{line}: {shown}");
        }
    }
    let before = scene.wiki.requests().await;
    for path in [
        "/echo",
        "/echo/open",
        "/echo/open/../closed",
        "/echo/open/%2e%2e/closed",
        "/echo/open/%252e%252e/closed",
        "/echo/open/;/../../closed",
        "/echo/OPEN/a",
        "/echo/%6fpen/a",
        "/echo/open;a/b",
    ] {
        let reply = ask(
            &scene,
            "wiki",
            &format!("GET {path}"),
            "X-Remote-User: f0rged\r\n",
        )
        .await;
        assert_eq!(reply.status, 401, "{path}: {}", reply.body);
    }
    assert_eq!(scene.wiki.requests().await, before);
    scene.control().await;

    // The intranet's backend wants a ticket. It gets none, whoever comes; its 401 shows that.
    for headers in [
        String::new(),
        format!("Cookie: {}\r\n", scene.cookie("intranet")),
    ] {
        let reply = ask(&scene, "intranet", "GET /echo/open/a", &headers).await;
        assert_eq!(reply.status, 401, "{}", reply.body);
        assert_eq!(reply.header("kerbgate-reason"), None, "the backend's own");
        assert_eq!(reply.header("www-authenticate"), None);
    }
    let cookie = format!("Cookie: {}\r\n", scene.cookie("intranet"));
    let reply = ask(&scene, "intranet", "GET /echo", &cookie).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[tokio::test]
async fn a_closed_application_says_so_and_lets_in_whom_it_names() {
    let scene = scene().await;
    let cookie = format!("Cookie: {}\r\n", scene.cookie("wiki"));
    for line in ["GET /shut/echo", "GET /shut/echo/more"] {
        let reply = ask(&scene, "wiki", line, &cookie).await;
        assert_eq!(reply.status, 503, "{line}: {}", reply.body);
        assert_eq!(reply.header("kerbgate-reason"), Some("maintenance"));
        assert_eq!(reply.header("retry-after"), Some("600"));
        assert_eq!(reply.json()["message"], "Back at <six>.");
    }
    let page = ask(&scene, "wiki", "GET /shut/", "Accept: text/html\r\n").await;
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains("Back at &#60;six&#62;.") || page.body.contains("Back at &lt;six&gt;."),
        "{}",
        page.body
    );
    let reply = ask(&scene, "wiki", "GET /tested/echo", &cookie).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.body.contains(&scene.sam), "{}", reply.body);
    let reply = ask(&scene, "wiki", "GET /tested/echo", "").await;
    assert_eq!(reply.status, 401, "{}", reply.body);
    let reply = ask(&scene, "wiki", "GET /untested/echo", &cookie).await;
    assert_eq!(reply.header("kerbgate-reason"), Some("maintenance"));
}

#[tokio::test]
async fn scripts_of_listed_sites_are_answered_and_others_are_not() {
    let scene = scene().await;
    let before = scene.wiki.requests().await;
    let preflight =
        |origin: &str| format!("Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n");
    let reply = ask(
        &scene,
        "wiki",
        "OPTIONS /echo",
        &preflight("https://portal.example.com"),
    )
    .await;
    assert_eq!(reply.status, 204, "{}", reply.body);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://portal.example.com")
    );
    assert_eq!(reply.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    let reply = ask(
        &scene,
        "wiki",
        "OPTIONS /echo",
        &preflight("https://evil.example"),
    )
    .await;
    assert_eq!(reply.status, 403, "{}", reply.body);
    assert_eq!(reply.header("access-control-allow-origin"), None);
    // Not trusted with a session: [cors] credentials is false.
    let put = format!(
        "Cookie: {}\r\nOrigin: https://portal.example.com\r\nContent-Length: 0\r\n",
        scene.cookie("wiki")
    );
    let reply = ask(&scene, "wiki", "PUT /echo", &put).await;
    assert_eq!(reply.header("kerbgate-reason"), Some("foreign-origin"));
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://portal.example.com"),
        "the script may read why"
    );
    assert_eq!(scene.wiki.requests().await, before);
}
