//! A backend speaks of its own host, its own cookies and its own credentials; the visitor hears of the
//! published ones. And when it does not answer, the visitor reads why.

use std::time::Duration;
use std::time::Instant;

use http::Method;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;

/// Opens one address without following where it leads.
async fn once(scene: &mut Scene, app: &str, path: &str) -> Answer {
    let url = scene.gateway.url(app, path).parse().unwrap();
    scene.guest.once(Method::GET, &url, None).await.unwrap()
}

#[tokio::test]
async fn what_leads_to_the_backend_leads_to_the_published_host() {
    let mut scene = Scene::new(Stage::new().await).await;
    let port = scene.wiki.address.port();
    let published = |path: &str| scene.gateway.url("wiki", path);
    let internal = format!("http://wiki.contoso.test:{port}");
    for (to, wanted) in [
        (format!("{internal}/a?b=1"), published("/a?b=1")),
        (format!("//wiki.contoso.test:{port}/a"), published("/a")),
        (internal.to_uppercase() + "/a", published("/a")),
        (internal.clone(), published("/")),
        ("/a".into(), "/a".into()),
        ("a/b".into(), "a/b".into()),
        ("http://wiki.localhost/a".into(), published("/a")),
        (
            "https://elsewhere.example/a".into(),
            "https://elsewhere.example/a".into(),
        ),
        (
            format!("http://wiki.contoso.test.evil.example:{port}/"),
            format!("http://wiki.contoso.test.evil.example:{port}/"),
        ),
    ] {
        let query: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let answer = once(&mut scene, "wiki", &format!("/redirect?to={query}")).await;
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("location"), wanted, "{to}");
    }
    let headers = [
        format!("Refresh: 5; url={internal}/r"),
        format!("Content-Location: {internal}/c"),
        "Strict-Transport-Security: max-age=0; includeSubDomains".into(),
        "WWW-Authenticate: Negotiate oRQwEqADCgEB".into(),
        "WWW-Authenticate: NTLM".into(),
        "WWW-Authenticate: Basic realm=\"backend\"".into(),
        "Authentication-Info: x".into(),
        "Proxy-Authenticate: Basic".into(),
        "Alt-Svc: h2=\":443\"".into(),
        "Keep-Alive: timeout=5".into(),
        "Connection: X-One-Hop".into(),
        "X-One-Hop: x".into(),
        "X-Of-The-Backend: stays".into(),
        "Kerbgate-Reason: not-allowed".into(),
    ];
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(headers.iter().map(|header| ("header", header)))
        .finish();
    let answer = once(&mut scene, "wiki", &format!("/respond?{query}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("refresh"),
        format!("5; url={}", scene.gateway.url("wiki", "/r"))
    );
    assert_eq!(
        answer.header("content-location"),
        scene.gateway.url("wiki", "/c")
    );
    let hsts: Vec<_> = answer
        .headers
        .get_all("strict-transport-security")
        .iter()
        .collect();
    assert_eq!(hsts, ["max-age=31536000"]);
    assert_eq!(answer.header("x-of-the-backend"), "stays");
    for name in [
        "www-authenticate",
        "authentication-info",
        "proxy-authenticate",
        "alt-svc",
        "keep-alive",
        "x-one-hop",
        "kerbgate-reason",
    ] {
        assert!(
            !answer.headers.contains_key(name),
            "{name}: {:?}",
            answer.headers
        );
    }
    // The Kerberos application says where it is under its own name too.
    let answer = once(&mut scene, "intranet", "/redirect").await;
    assert_eq!(
        answer.header("location"),
        scene.gateway.url("intranet", "/landed")
    );
    assert!(!answer.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn cookies_of_the_backend_stay_on_the_published_host() {
    let mut scene = Scene::new(Stage::new().await).await;
    let cookies = [
        "plain=1",
        "scoped=2; Domain=contoso.test; Path=/app; HttpOnly",
        "wide=3; Domain=.localhost; SameSite=None; Secure",
        "__Host-own=4; Path=/; Secure",
        "__Host-kerbgate=stolen; Path=/; Secure",
        "__HOST-KERBGATE=stolen; Path=/; Secure",
        "__Host-kerbgate-signin=stolen; Path=/; Secure",
        "=__Host-kerbgate=stolen; Path=/; Secure",
    ];
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(cookies.iter().map(|cookie| ("set", cookie)))
        .finish();
    let answer = once(&mut scene, "wiki", &format!("/cookie?{query}")).await;
    let set: Vec<_> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(
        set,
        [
            "plain=1; Secure",
            "scoped=2; Path=/app; HttpOnly; Secure",
            "wide=3; SameSite=None; Secure",
            "__Host-own=4; Path=/; Secure",
        ]
    );
    // The visitor is still who they were, and the backend gets its own back.
    let page = once(&mut scene, "wiki", "/echo").await;
    assert_eq!(page.remote_user(), scene.sam);
    let cookie = page.json()["headers"]["cookie"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.contains("plain=1") && !cookie.contains("stolen"),
        "{cookie}"
    );

    let answer = once(&mut scene, "intranet", "/cookie").await;
    let set: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(
        set,
        [
            "plain=1; Path=/; Secure",
            "scoped=2; Path=/cookie; HttpOnly; Secure"
        ]
    );
}

/// A page of the gateway's own: the code in the header and on the page, and the way to the log line.
fn is_our_page(answer: &Answer, status: u16, reason: &str, gateway: &Gateway) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("kerbgate-reason"), reason, "{}", answer.body);
    let id = answer.header("kerbgate-request-id");
    assert_eq!(id.len(), 32, "{id}");
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(
        answer.body.contains(reason) && answer.body.contains(id),
        "{}",
        answer.body
    );
    assert!(!answer.headers.contains_key("www-authenticate"));
    assert!(
        !answer.body.contains("contoso.test"),
        "names of the inside: {}",
        answer.body
    );
    let log = gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains(id) && line.contains(reason));
    assert!(line.is_some(), "the log has nothing of {id}");
}

/// What a script gets in place of that page.
async fn is_json_for_scripts(scene: &Scene, app: &str, path: &str, status: u16, reason: &str) {
    let url = scene.gateway.url(app, path).parse().unwrap();
    let answer = scene
        .guest
        .request(Method::GET, &url)
        .header("accept", "application/json")
        .header("sec-fetch-mode", "cors")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["kerbgate-reason"], reason);
    assert!(!answer.headers().contains_key("www-authenticate"));
    let id = answer.headers()["kerbgate-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let text = answer.text().await.unwrap();
    assert!(text.contains(reason) && text.contains(&id), "{text}");
    assert!(
        serde_json::from_str::<serde_json::Value>(&text).is_ok(),
        "{text}"
    );
}

#[tokio::test]
async fn a_backend_that_is_silent_or_gone() {
    let stage = Stage::new().await;
    stage.append(
        "apps/wiki.toml",
        "[limits]\nfirst_byte = \"700ms\"\nconnect = \"2s\"\n",
    );
    let mut scene = Scene::new(stage).await;
    let answer = once(&mut scene, "wiki", "/slow?ms=100").await;
    assert_eq!(answer.status, 200, "slow is not too slow");
    let start = Instant::now();
    let answer = once(&mut scene, "wiki", "/slow?ms=60000").await;
    is_our_page(&answer, 504, "backend-timeout", &scene.gateway);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    is_json_for_scripts(&scene, "wiki", "/slow?ms=60000", 504, "backend-timeout").await;

    let before = scene.wiki.requests().await;
    let answer = once(&mut scene, "wiki", "/close").await;
    is_our_page(&answer, 502, "backend-unreachable", &scene.gateway);
    assert_eq!(
        scene.wiki.requests().await,
        before + 1,
        "sent again though it was taken"
    );

    // Its own refusals are its own.
    let answer = once(&mut scene, "wiki", "/status/503").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("kerbgate-reason")),
        (503, "")
    );
    assert_eq!(answer.body, "status 503\n");

    scene.wiki.process.stop().await;
    let start = Instant::now();
    let answer = once(&mut scene, "wiki", "/echo").await;
    is_our_page(&answer, 502, "backend-unreachable", &scene.gateway);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    is_json_for_scripts(&scene, "wiki", "/echo", 502, "backend-unreachable").await;
    // The others are as well as before.
    let answer = once(&mut scene, "intranet", "/echo").await;
    assert_eq!(answer.status, 200);
}

/// `total` counts from the request's first byte to the answer's last one, however lively the two sides are.
#[tokio::test]
async fn an_exchange_ends_after_its_total_time() {
    let stage = Stage::new().await;
    stage.append("apps/wiki.toml", "[limits]\ntotal = \"1500ms\"\n");
    let mut scene = Scene::new(stage).await;
    let answer = once(&mut scene, "wiki", "/slow?ms=100").await;
    assert_eq!(answer.status, 200, "slow is not too slow");
    let answer = once(&mut scene, "wiki", "/slow?ms=60000").await;
    is_our_page(&answer, 504, "total-timeout", &scene.gateway);
    is_json_for_scripts(&scene, "wiki", "/slow?ms=60000", 504, "total-timeout").await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut guest = Visitor::new(&scene.stage.lab.facts.ca, speaks);
        guest.cookies = scene.guest.cookies.clone();
        // An answer that never ends, with something every 50 ms: no other limit concerns it.
        let path = "/sse?events=1000000&ms=50";
        let url = scene.gateway.url("wiki", path).parse().unwrap();
        let start = Instant::now();
        let mut answer = guest.request(Method::GET, &url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut came = 0;
        let ended = loop {
            match answer.chunk().await {
                Ok(Some(_)) => came += 1,
                Ok(None) => break "as if it were complete",
                Err(_) => break "cut",
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{came} events");
        };
        assert_eq!(ended, "cut", "{speaks:?} after {came} events");
        assert!(came > 5, "{speaks:?}: {came} events");
    }
    // An upload that trickles in for ever: too fast for `min_rate`, and never done.
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nContent-Length: 1000000000\r\n\r\n"
    );
    let wire = crate::wire::connect(&scene.stage, "wiki", b"http/1.1").await;
    let (mut reader, mut writer) = tokio::io::split(wire);
    writer.write_all(head.as_bytes()).await.unwrap();
    let uploading = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while writer.write_all(&[b'x'; 1000]).await.is_ok() && writer.flush().await.is_ok() {
            tick.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    tokio::select! {
        () = uploading => {}
        ended = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut said)) => {
            assert!(ended.is_ok(), "the upload goes on");
        }
    }
    let replies = crate::wire::replies(&said);
    assert_eq!(replies[0].status, 504, "{replies:?}");
    // An application without the setting has no such end: its neighbor is as patient as before.
    let answer = once(&mut scene, "intranet", "/slow?ms=2500").await;
    assert_eq!(answer.body, "first\nsecond\n");
}

#[tokio::test]
async fn a_backend_whose_certificate_is_not_trusted() {
    for trusted in [false, true] {
        let stage = Stage::new().await;
        let facts = &stage.lab.facts;
        stage.replace(
            "apps/intranet.toml",
            &format!(
                "http://intranet.contoso.test:{}/",
                facts.backends.intranet.port()
            ),
            &format!(
                "https://intranet.contoso.test:{}/",
                facts.backends.intranet_tls.port()
            ),
        );
        if trusted {
            stage.append(
                "kerbgate.toml",
                &format!("[backends]\nca_file = \"{}\"\n", facts.ca.display()),
            );
        }
        let _entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let mut emma = Visitor::new(&facts.ca, Speaks::Http2);
        let url = gateway.url("intranet", "/echo");
        let answer = emma.open_as("emma@contoso.example", &url).await.unwrap();
        if trusted {
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.remote_user(), "emma.employee@CONTOSO.TEST");
        } else {
            is_our_page(&answer, 502, "backend-tls", &gateway);
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted_either() {
    let stage = Stage::new().await;
    let facts = &stage.lab.facts;
    stage.replace(
        "apps/intranet.toml",
        &format!(
            "http://intranet.contoso.test:{}/",
            facts.backends.intranet.port()
        ),
        &format!(
            "https://timesheet.contoso.test:{}/",
            facts.backends.intranet_tls.port()
        ),
    );
    stage.append(
        "kerbgate.toml",
        &format!("[backends]\nca_file = \"{}\"\n", facts.ca.display()),
    );
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut emma = Visitor::new(&facts.ca, Speaks::Http2);
    let url = gateway.url("intranet", "/echo");
    let answer = emma.open_as("emma@contoso.example", &url).await.unwrap();
    is_our_page(&answer, 502, "backend-tls", &gateway);
    // Refused in the handshake: no request, and no ticket, was sent.
    assert!(
        !stage
            .lab
            .access_log()
            .contains(answer.header("kerbgate-request-id"))
    );
}

#[tokio::test]
async fn a_backend_that_refuses_the_ticket() {
    let stage = Stage::new().await;
    let facts = &stage.lab.facts;
    // The intranet moves to a server whose keytab is out of date.
    let (old, new) = (
        facts.backends.intranet.port(),
        facts.backends.refusing.port(),
    );
    stage.replace(
        "apps/intranet.toml",
        &format!("http://intranet.contoso.test:{old}/"),
        &format!("http://refusing.contoso.test:{new}/"),
    );
    stage.replace(
        "apps/intranet.toml",
        "HTTP/intranet.contoso.test",
        "HTTP/refusing.contoso.test",
    );
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut emma = Visitor::new(&facts.ca, Speaks::Http2);
    let url = gateway.url("intranet", "/echo");
    let first = emma.open_as("emma@contoso.example", &url).await.unwrap();
    is_our_page(&first, 502, "ticket-refused", &gateway);
    let second = emma.open(&url).await.unwrap();
    is_our_page(&second, 502, "ticket-refused", &gateway);
    // A held ticket would have been tried, forgotten and replaced: two requests. There was none.
    let arrived = |answer: &Answer| {
        let id = format!("id={}", answer.header("kerbgate-request-id"));
        let log = stage.lab.access_log();
        log.lines().filter(|line| line.contains(&id)).count()
    };
    for answer in [&first, &second] {
        eventually("Apache wrote its line", async || arrived(answer) > 0).await;
        assert_eq!(arrived(answer), 1, "a refused ticket was kept");
    }
    // The control: a sound application of the same gateway, by the same person.
    let wiki = emma.open(&gateway.url("wiki", "/echo")).await.unwrap();
    assert_eq!(wiki.remote_user(), "emma.employee", "{}", wiki.body);
}

/// What the backend at `/answer/N` says, and what becomes of it: a status of ours, or its own 200.
const NONSENSE: &[(&str, Option<u16>)] = &[
    ("garbage without any form\r\n\r\n", Some(502)),
    ("HTTP/1.1 200 OK\r\nX: nul\0\r\n\r\n", Some(502)),
    ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Some(502)),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n12345",
        Some(502),
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n1234",
        Some(502),
    ),
    (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        Some(502),
    ),
    ("HTTP/1.1 999999 OK\r\n\r\n", Some(502)),
    ("", Some(502)),
    ("HTTP/1.1 200 OK\r\nContent-Le", Some(502)),
    // Its body ends too early: the visitor must not take it for whole.
    ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", None),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        None,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n",
        None,
    ),
];

/// An answer, and one that nobody asked for behind it.
const TWICE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

async fn nonsense(listener: tokio::net::TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                head.extend_from_slice(&buffer[..length]);
                if !head.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                head.clear();
                let path = text.split(' ').nth(1).unwrap();
                let number = path.strip_prefix("/answer/").map(str::parse::<usize>);
                let (answer, stays) = match number {
                    Some(Ok(number)) => (NONSENSE[number].0, false),
                    _ if path == "/twice" => (TWICE, true),
                    _ => ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsound", true),
                };
                if stream.write_all(answer.as_bytes()).await.is_err() || !stays {
                    return;
                }
            }
        });
    }
}

#[tokio::test]
async fn a_backend_that_answers_nonsense() {
    let stage = Stage::new().await;
    let listener = tokio::net::TcpListener::bind((stage.lab.facts.address, 0))
        .await
        .unwrap();
    let (old, new) = (
        stage.lab.facts.backends.wiki.port(),
        listener.local_addr().unwrap().port(),
    );
    stage.replace(
        "apps/wiki.toml",
        &format!("wiki.contoso.test:{old}/"),
        &format!("wiki.contoso.test:{new}/"),
    );
    tokio::spawn(nonsense(listener));
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut emma = Visitor::new(&stage.lab.facts.ca, speaks);
        let sound = gateway.url("wiki", "/sound");
        let page = emma.open_as("emma@contoso.example", &sound).await.unwrap();
        assert_eq!((page.status.as_u16(), &*page.body), (200, "sound"));
        for (number, (answer, status)) in NONSENSE.iter().enumerate() {
            let what = answer.escape_debug();
            let url = gateway.url("wiki", &format!("/answer/{number}"));
            let got = emma.once(Method::GET, &url.parse().unwrap(), None).await;
            match (got, status) {
                (Ok(got), Some(status)) => {
                    assert_eq!(got.status.as_u16(), *status, "{what}");
                    let reason = got.header("kerbgate-reason");
                    let known = ["backend-protocol", "backend-unreachable"];
                    assert!(known.contains(&reason), "{what}: {reason}");
                }
                (Err(error), None) => assert!(!error.is_timeout(), "{what}: {error}"),
                (got, _) => panic!("{what} {speaks:?}: {got:?}"),
            }
            let page = emma.open(&sound).await.unwrap();
            assert_eq!(
                (page.status.as_u16(), &*page.body),
                (200, "sound"),
                "after {what}"
            );
        }
        // A second answer behind the first belongs to nobody.
        for _ in 0..20 {
            let page = emma.open(&gateway.url("wiki", "/twice")).await.unwrap();
            assert_eq!(page.body, "ok");
            let page = emma.open(&sound).await.unwrap();
            assert_eq!(page.body, "sound");
        }
    }
}
