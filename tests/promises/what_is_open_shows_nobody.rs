//! Some paths need no sign-in, some applications are closed for a while, and other sites' scripts ask
//! before they come: in each case nobody is shown to a backend, and what was not opened stays shut.

use std::fs;

use crate::lab::Stage;
use crate::wire::Reply;
use crate::wire::Scene;

/// Another site of the same company.
const PORTAL: &str = "https://portal.example.com";

/// A stage whose wiki and intranet have open paths, and more applications below the wiki's host.
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
        ("silent", "", String::from(access)),
        (
            "asked",
            "",
            format!("{access}[cors]\npreflight = \"backend\"\n"),
        ),
        (
            "trusting",
            "",
            format!(
                "{access}[cors]\npreflight = \"answer\"\norigins = [\"{PORTAL}\"]\ncredentials = true\n"
            ),
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

#[tokio::test]
async fn a_backend_that_answers_preflights_is_asked_by_nobody() {
    let scene = scene().await;
    let asks = format!("Origin: {PORTAL}\r\nAccess-Control-Request-Method: PUT\r\n");
    let shown = format!(
        "{asks}Cookie: mine=1; {}\r\nX-Remote-User: f0rged\r\nAuthorization: Bearer f0rged\r\n",
        scene.cookie("wiki")
    );
    // Whatever comes along: it goes to the backend as nobody's.
    for headers in [&asks, &shown] {
        let reply = ask(&scene, "wiki", "OPTIONS /asked/echo", headers).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let seen = reply.json();
        assert_eq!(seen["method"], "OPTIONS");
        assert_eq!(seen["headers"]["origin"][0], PORTAL);
        assert_eq!(seen["headers"]["access-control-request-method"][0], "PUT");
        let text = seen.to_string().to_ascii_lowercase();
        for nobodys in [
            "x-remote-user",
            "f0rged",
            "__host-kerbgate",
            "jwt-assertion",
            "authorization",
        ] {
            assert!(!text.contains(nobodys), "{text}");
        }
    }
    // Its answer is its own.
    let says =
        "OPTIONS /asked/respond?status=204&header=Access-Control-Allow-Origin:https://its.example";
    let reply = ask(&scene, "wiki", says, &asks).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://its.example")
    );
    // What is not quite a preflight is a request like any, and so is one where nobody said so.
    let before = scene.wiki.requests().await;
    let origin = format!("Origin: {PORTAL}\r\n");
    let method = "Access-Control-Request-Method: PUT\r\n";
    let body = format!("{asks}Content-Length: 2\r\n\r\n{{}}");
    let chunked = format!("{asks}Transfer-Encoding: chunked\r\n\r\n0\r\n");
    for (line, headers) in [
        ("OPTIONS /asked/echo", ""),
        ("OPTIONS /asked/echo", &origin),
        ("OPTIONS /asked/echo", method),
        ("OPTIONS /asked/echo", &body),
        ("OPTIONS /asked/echo", &chunked),
        ("GET /asked/echo", &asks),
        ("HEAD /asked/echo", &asks),
        ("PUT /asked/echo", &asks),
        ("PROPFIND /asked/echo", &asks),
        ("options /asked/echo", &asks),
        ("OPTIONS /silent/echo", &asks),
        ("OPTIONS /tested/echo", &asks),
    ] {
        let reply = ask(&scene, "wiki", line, headers).await;
        assert_eq!(reply.status, 401, "{line} {headers}: {reply:?}");
    }
    assert_eq!(scene.wiki.requests().await, before);
    // A person's own question is carried as the person's.
    let cookie = format!("Cookie: {}\r\n", scene.cookie("wiki"));
    let reply = ask(&scene, "wiki", "OPTIONS /asked/echo", &cookie).await;
    assert_eq!(reply.json()["remote_user"], scene.sam.as_str(), "{reply:?}");
    assert_eq!(reply.json()["method"], "OPTIONS");
}

#[tokio::test]
async fn a_trusted_site_may_use_the_session_and_no_other() {
    let scene = scene().await;
    let asks = |origin: &str| format!("Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n");
    let before = scene.wiki.requests().await;
    let reply = ask(&scene, "wiki", "OPTIONS /trusting/echo", &asks(PORTAL)).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    let trusted = |reply: &Reply| {
        assert_eq!(reply.header("access-control-allow-origin"), Some(PORTAL));
        assert_eq!(
            reply.header("access-control-allow-credentials"),
            Some("true")
        );
    };
    trusted(&reply);
    assert_eq!(scene.wiki.requests().await, before, "it was not asked");
    let write = |origin: &str| {
        let cookie = scene.cookie("wiki");
        format!(
            "Cookie: {cookie}\r\nOrigin: {origin}\r\nSec-Fetch-Site: same-site\r\nContent-Length: 0\r\n"
        )
    };
    // The backend's own word about it would make two, which a browser reads as none.
    let line = "PUT /trusting/respond?header=Access-Control-Allow-Origin:*";
    let reply = ask(&scene, "wiki", line, &write(PORTAL)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("x-remote-user"), Some(&*scene.sam));
    trusted(&reply);
    let named = |name: &str| reply.headers.iter().filter(|(key, _)| key == name).count();
    assert_eq!(named("access-control-allow-origin"), 1, "{reply:?}");
    let mut varies = reply.headers.iter().filter(|(key, _)| key == "vary");
    assert!(
        varies.any(|(_, on)| on.eq_ignore_ascii_case("origin")),
        "{reply:?}"
    );
    let before = scene.wiki.requests().await;
    for origin in [
        "https://evil.example",
        "null",
        "http://portal.example.com",
        "https://portal.example.com:8443",
        "https://portal.example.com.evil.example",
    ] {
        let reply = ask(&scene, "wiki", "PUT /trusting/echo", &write(origin)).await;
        assert_eq!(
            reply.header("kerbgate-reason"),
            Some("foreign-origin"),
            "{origin}"
        );
        assert_eq!(
            reply.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
        let reply = ask(&scene, "wiki", "OPTIONS /trusting/echo", &asks(origin)).await;
        assert_eq!(reply.status, 403, "{origin}: {reply:?}");
        assert_eq!(
            reply.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
        assert_eq!(
            reply.header("access-control-allow-credentials"),
            None,
            "{origin}"
        );
    }
    // Two origins are none.
    let two = format!("{}Origin: https://evil.example\r\n", write(PORTAL));
    let reply = ask(&scene, "wiki", "PUT /trusting/echo", &two).await;
    assert!(reply.status >= 400, "{reply:?}");
    assert_eq!(scene.wiki.requests().await, before);
    // Trust in a site signs nobody in.
    let reply = ask(
        &scene,
        "wiki",
        "GET /trusting/echo",
        &format!("Origin: {PORTAL}\r\n"),
    )
    .await;
    assert_eq!(reply.status, 401, "{reply:?}");
}
