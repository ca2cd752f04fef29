//! COPY and MOVE name a second resource, and `If` as many as it likes (RFC 4918 10.3, 10.4): the backend hears of them
//! under the names it knows, and of none that its visitor could not have asked for.

use std::fs;

use crate::lab::Stage;
use crate::wire::Reply;
use crate::wire::Scene;

/// A stage whose wiki has an open folder and a second address, and another application below its host.
async fn scene() -> Scene {
    let stage = Stage::new().await;
    let port = stage.lab.facts.backends.wiki.port();
    let name = "name = \"Wiki\"\n";
    let open = "anonymous = [\"/echo/open/\"]\n";
    stage.replace("apps/wiki.toml", name, &format!("{name}{open}"));
    let segment = format!(
        "\n[[segments]]\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{port}/echo/inside/\"]\n",
        stage.url("wiki", "/dav/")
    );
    stage.append("apps/wiki.toml", &segment);
    let other = format!(
        "name = \"Other\"\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{port}/\"]\n\
         [access]\nguests = \"deny\"\nallow = [{{ role = \"Nobody\" }}]\n[sso.headers.set]\nX-Remote-User = \"sam\"\n",
        stage.url("wiki", "/other/")
    );
    fs::write(stage.path("apps/other.toml"), other).unwrap();
    let shut = format!(
        "name = \"Shut\"\npublished_url = \"{}\"\nbackend_urls = [\"http://wiki.contoso.test:{port}/\"]\n\
         anonymous = [\"/shut/echo/open/\"]\n[sso.headers.set]\nX-Remote-User = \"sam\"\n\
         [access]\nguests = \"deny\"\nallow = [{{ role = \"Nobody\" }}]\n\
         [maintenance]\nopen = [\"/shut/echo/open/watched\"]\n",
        stage.url("wiki", "/shut/")
    );
    fs::write(stage.path("apps/shut.toml"), shut).unwrap();
    Scene::new(stage).await
}

async fn ask(scene: &Scene, line: &str, headers: &str) -> Reply {
    let host = scene.host("wiki");
    let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    let mut replies = scene.raw("wiki", &[request]).await;
    assert_eq!(replies.len(), 1, "{line}: {replies:?}");
    replies.remove(0)
}

/// What the backend saw of a header; nothing when it was not there.
fn seen(reply: &Reply, name: &str) -> String {
    let all = &reply.json()["headers"][name];
    assert!(all.get(1).is_none(), "{all}");
    all[0].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_backend_hears_of_its_own_resources() {
    let scene = scene().await;
    let cookie = format!("Cookie: {}\r\n", scene.cookie("wiki"));
    let here = format!("https://{}", scene.host("wiki"));
    let inside = format!("http://wiki.contoso.test:{}", scene.wiki.address.port());
    for (line, destination, wanted) in [
        (
            "COPY /dav/a",
            format!("{here}/dav/b%20c?d"),
            "/echo/inside/b%20c?d",
        ),
        ("MOVE /dav/a", String::from("/dav/b/"), "/echo/inside/b/"),
        (
            "MOVE /dav/a",
            format!("{here}/x/../dav/./%2e%2e/dav/b"),
            "/echo/inside/b",
        ),
        ("COPY /echo/a", format!("{here}/echo/b"), "/echo/b"),
        // A server that lets a header say the method.
        ("POST /dav/a", format!("{here}/dav/b"), "/echo/inside/b"),
    ] {
        let headers = format!(
            "{cookie}Destination: {destination}\r\nOverwrite: F\r\nDepth: 0\r\nContent-Length: 0\r\n"
        );
        let reply = ask(&scene, line, &headers).await;
        assert_eq!(reply.status, 200, "{line}: {}", reply.body);
        assert_eq!(seen(&reply, "destination"), format!("{inside}{wanted}"));
        assert_eq!(seen(&reply, "host"), inside["http://".len()..]);
        assert_eq!(
            (&*seen(&reply, "overwrite"), &*seen(&reply, "depth")),
            ("F", "0")
        );
        assert_eq!(seen(&reply, "x-remote-user"), scene.sam);
    }
    let condition = format!(
        "<{here}/dav/a> (<opaquelocktoken:1> [\"e\"]) (Not <DAV:no-lock>) </dav/x/../b>(<urn:uuid:2>)"
    );
    let headers = format!("{cookie}If: {condition}\r\nContent-Length: 0\r\n");
    let reply = ask(&scene, "PUT /dav/a", &headers).await;
    assert_eq!(
        seen(&reply, "if"),
        format!(
            "<{inside}/echo/inside/a> (<opaquelocktoken:1> [\"e\"]) (Not <DAV:no-lock>) <{inside}/echo/inside/b> (<urn:uuid:2>)"
        )
    );
    let headers = format!("{cookie}If: (<opaquelocktoken:1>)\r\n");
    let reply = ask(&scene, "UNLOCK /dav/a", &headers).await;
    assert_eq!(seen(&reply, "if"), "(<opaquelocktoken:1>)");
}

#[tokio::test]
async fn nothing_that_lies_elsewhere_reaches_the_backend() {
    let scene = scene().await;
    let cookie = format!("Cookie: {}\r\n", scene.cookie("wiki"));
    let here = format!("https://{}", scene.host("wiki"));
    let before = scene.wiki.requests().await;
    let elsewhere = (502, "resource-elsewhere");
    let bad = (400, "bad-request");
    let refused = (400, "target-refused");
    for (name, (status, code)) in [
        (format!("{here}/other/secret"), elsewhere),
        (String::from("/other/secret"), elsewhere),
        (String::from("/echo/../other/secret"), elsewhere),
        (String::from("/echo/%2e%2e/OTHER/secret"), elsewhere),
        (String::from("/adm%69n/../oth%65r;x/secret"), elsewhere),
        // Of the same application, but on other servers.
        (String::from("/dav/b"), elsewhere),
        (String::from("/.kerbgate/signout"), elsewhere),
        (here.replace("https", "http") + "/echo/b", elsewhere),
        (String::from("https://wiki.localhost:1/echo/b"), elsewhere),
        (String::from("https://intranet.localhost/echo/b"), elsewhere),
        (String::from("http://wiki.contoso.test/echo/b"), elsewhere),
        (String::from("https://evil.example/echo/b"), elsewhere),
        (String::from("file:///echo/b"), bad),
        (here.replace("https://", "https://evil@") + "/echo/b", bad),
        (here.clone() + "\\@evil.example/echo/b", bad),
        (String::from("//evil.example/echo/b"), bad),
        (format!("{here}/echo/b#c"), bad),
        (String::from("echo/b"), bad),
        (String::from("/echo/..;/other/secret"), refused),
        (String::from("/echo/..%2fother/secret"), refused),
        (String::from("/echo/..%5cother/secret"), refused),
        (String::from("/echo/%00"), refused),
        (String::from("/../other/secret"), refused),
    ] {
        for header in [
            format!("Destination: {name}\r\n"),
            format!("If: <{name}> (<urn:uuid:1>)\r\n"),
        ] {
            let headers = format!("{cookie}{header}Content-Length: 0\r\n");
            let reply = ask(&scene, "MOVE /echo/a", &headers).await;
            assert_eq!(reply.status, status, "{header}: {}", reply.body);
            assert_eq!(reply.header("kerbgate-reason"), Some(code), "{header}");
        }
    }
    for header in [
        "Destination: /echo/b\r\nDestination: /echo/b\r\n",
        "Destination: /echo/\u{fc}\r\n",
        "Destination:\r\n",
        "If: (<urn:uuid:1>)\r\nIf: </other/secret> (<urn:uuid:1>)\r\n",
        "If: ([\"e)</other/secret>(\"])\r\n",
        "If: (<urn:uuid:1>) </echo/b>\r\n",
    ] {
        let headers = format!("{cookie}{header}");
        let reply = ask(&scene, "COPY /echo/a", &headers).await;
        assert_eq!(
            reply.header("kerbgate-reason"),
            Some("bad-request"),
            "{header}"
        );
    }
    assert_eq!(scene.wiki.requests().await, before);
    scene.control().await;
}

#[tokio::test]
async fn an_open_folder_is_no_way_to_what_is_not_open() {
    let scene = scene().await;
    let here = format!("https://{}", scene.host("wiki"));
    let before = scene.wiki.requests().await;
    for header in [
        format!("Destination: {here}/echo/closed\r\n"),
        String::from("Destination: /echo/open/../closed\r\n"),
        String::from("Destination: /echo/open/%2e%2e/closed\r\n"),
        String::from("Destination: /echo/open/%252e%252e/closed\r\n"),
        String::from("Destination: /echo/OPEN/b\r\n"),
        String::from("If: </echo/closed> ([\"e\"])\r\n"),
        String::from(
            "Destination: /echo/open/b\r\nIf: </echo/open/b> (<a:b>) </echo/closed> (<a:b>)\r\n",
        ),
    ] {
        let reply = ask(&scene, "COPY /echo/open/a", &header).await;
        assert_eq!(reply.status, 401, "{header}: {}", reply.body);
    }
    assert_eq!(scene.wiki.requests().await, before);
    let open = format!("Destination: {here}/echo/open/b\r\nIf: </echo/open/b> (<a:b>)\r\n");
    let reply = ask(&scene, "COPY /echo/open/a", &open).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(seen(&reply, "destination").ends_with("/echo/open/b"));
    assert_eq!(seen(&reply, "x-remote-user"), "", "nobody");
    // Whoever is signed in may do it, and is named: one of the two resources is not open.
    let headers = format!(
        "Cookie: {}\r\nDestination: /echo/closed\r\n",
        scene.cookie("wiki")
    );
    let reply = ask(&scene, "COPY /echo/open/a", &headers).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(seen(&reply, "x-remote-user"), scene.sam);
    // What is closed for a while is closed for these names, too.
    for (name, status) in [("watched", 200), ("more", 503)] {
        let header = format!("Destination: /shut/echo/open/{name}\r\n");
        let reply = ask(&scene, "COPY /shut/echo/open/watched", &header).await;
        assert_eq!(reply.status, status, "{name}: {}", reply.body);
    }
}
