//! No header, method, query or host that a client can write lowers what is asked of it, chooses another server, or
//! makes two requests of one: what other gateways had to publish advisories about. Each test counts what arrived.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::lab::Stage;
use crate::wire::Scene;

/// Header lines that were once, somewhere, taken for a sign-in, for another path or for another protocol.
const WORDS: &[&str] = &[
    // CVE-2026-40575, CVE-2024-38473: the path of somebody else's decision
    "X-Forwarded-Uri: /echo/open/a\r\n",
    "X-Original-URI: /echo/open/a\r\n",
    "X-Original-URL: /echo/open/a\r\n",
    "X-Rewrite-URL: /echo/open/a\r\n",
    "X-Forwarded-Path: /echo/open/a\r\n",
    "X-Forwarded-Prefix: /echo/open/\r\n",
    "X-Forwarded-Method: OPTIONS\r\n",
    "X-HTTP-Method-Override: OPTIONS\r\n",
    "X-Forwarded-Host: passing.localhost\r\nX-Host: passing.localhost\r\n",
    // GHSA-5hvv-m4w4-gf6v: the probe of a load balancer
    "User-Agent: GoogleHC/1.0\r\n",
    "User-Agent: kube-probe/1.30\r\n",
    "User-Agent: ELB-HealthChecker/2.0\r\n",
    // an address that is trusted
    "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n",
    // CVE-2025-64484, CVE-2022-31813: somebody
    "X-Remote-User: administrator\r\nRemote-User: administrator\r\nX_Forwarded_User: administrator\r\n",
    "X$Remote$User: administrator\r\n",
    // CVE-2022-29226: a bearer token of any kind; other schemes
    "Authorization: Bearer x\r\n",
    "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.\r\n",
    "Authorization: Basic YWRtaW5pc3RyYXRvcjp4\r\n",
    "Authorization: Negotiate YII=\r\n",
    "Authorization: NTLM TlRMTVNTUAABAAAA\r\n",
    // CVE-2019-3878: another mode
    "Accept: application/vnd.paos+xml\r\nPAOS: ver=\"urn:liberty:paos:2003-08\"\r\n",
    "Access-Control-Request-Method: GET\r\nOrigin: https://portal.example.com\r\n",
    // CVE-2026-25748, CVE-2024-24814, CVE-2023-28625: cookies of no kind
    "Cookie: __Host-kerbgate=\r\n",
    "Cookie: __Host-kerbgate=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
    "Cookie: __Host-kerbgate_chunks=99999999; __Host-kerbgate=x\r\n",
    "Cookie: ====;;;=;__Host-kerbgate\r\n",
    "Cookie: __Host-kerbgate=\"\\\r\n",
];

/// What comes back without a session, and from whom.
const ASKS: &[(&str, &str)] = &[
    ("GET /echo", ""),
    ("HEAD /echo", ""),
    ("OPTIONS /echo", ""),
    ("PROPFIND /echo", ""),
    ("get /echo", ""),
    // CVE-2026-49443: nothing in it
    ("POST /echo", "Content-Length: 0\r\n"),
    // GHSA-7rh7-c77v-6434: a query that looks like an open path
    ("GET /echo?x=/echo/open/", ""),
    ("GET /echo?/../open/a", ""),
    ("GET /echo/x?/echo/open/a", ""),
];

#[tokio::test]
async fn nobody_without_a_session_reaches_the_backend() {
    let stage = Stage::new().await;
    stage.replace(
        "apps/wiki.toml",
        "name = \"Wiki\"\n",
        "name = \"Wiki\"\nanonymous = [\"/echo/open/\"]\n",
    );
    let scene = Scene::new(stage).await;
    let host = scene.host("wiki");
    let before = scene.wiki.requests().await;
    for (line, more) in ASKS {
        for words in WORDS.iter().chain(&[""]) {
            let request = format!(
                "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}{words}\r\n"
            );
            let replies = scene.raw("wiki", &[request]).await;
            let what = format!("{line} {}: {replies:?}", words.escape_debug());
            // GHSA-59jp-rwph-878r: one answer, and it is the gateway's own.
            assert_eq!(replies.len(), 1, "{what}");
            assert!(!(200..300).contains(&replies[0].status), "{what}");
            assert!(!replies[0].body.contains("remote_user"), "{what}");
        }
    }
    assert_eq!(scene.wiki.requests().await, before, "something arrived");

    // The controls: what is open is open, with all of these words, and who is signed in goes through.
    let request = format!("GET /echo/open/a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(scene.raw("wiki", &[request]).await[0].status, 200);
    scene.control().await;
    assert_eq!(scene.wiki.requests().await, before + 2);
}

/// CVE-2021-40438 and its like: a target or a header that names a server of the client's choice.
#[tokio::test]
async fn no_request_chooses_its_server() {
    let scene = Scene::new(Stage::new().await).await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    tokio::spawn(async move {
        while elsewhere.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let own = format!("Host: {host}\r\n");
    for (target, headers) in [
        (
            format!("/echo?unix:{}|http://127.0.0.1:{port}/", "A".repeat(5_000)),
            own.clone(),
        ),
        (
            format!("/unix:{}|http://127.0.0.1:{port}/", "A".repeat(5_000)),
            own.clone(),
        ),
        (format!("/http://127.0.0.1:{port}/"), own.clone()),
        (format!("//127.0.0.1:{port}/"), own.clone()),
        (format!("@127.0.0.1:{port}/"), own.clone()),
        (format!(":{port}/"), own.clone()),
        (format!("http://127.0.0.1:{port}/"), own.clone()),
        (
            format!("http://127.0.0.1:{port}/"),
            format!("Host: 127.0.0.1:{port}\r\n"),
        ),
        (format!("https://{host}@127.0.0.1:{port}/"), own.clone()),
        ("/echo".into(), format!("Host: {host}@127.0.0.1:{port}\r\n")),
        ("/echo".into(), format!("Host: 127.0.0.1:{port}\r\n")),
        (
            "/echo".into(),
            format!("{own}X-Forwarded-Host: 127.0.0.1:{port}\r\nX-Forwarded-Server: 127.0.0.1\r\n"),
        ),
        (
            "/echo".into(),
            format!(
                "{own}Forwarded: host=\"127.0.0.1:{port}\"\r\nX-Original-Host: 127.0.0.1:{port}\r\n"
            ),
        ),
    ] {
        let before = scene.wiki.requests().await;
        let request = format!(
            "GET {target} HTTP/1.1\r\n{headers}Cookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        let replies = scene.raw("wiki", &[request]).await;
        assert_eq!(replies.len(), 1, "{target:.80} {headers}: {replies:?}");
        // Whatever it says, it is said by the backend of the configuration, once, or by nobody.
        assert!(scene.wiki.requests().await <= before + 1, "{target:.80}");
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0, "somebody was sent there");
    scene.control().await;
}

/// Every spelling of both lengths, together and alone, in front of a second request.
#[tokio::test]
async fn no_spelling_of_a_length_hides_a_request() {
    let scene = Scene::new(Stage::new().await).await;
    let (host, cookie) = (scene.host("wiki"), scene.cookie("wiki"));
    let second = format!(
        "GET /echo/smuggled HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    let names = [
        "Transfer-Encoding",
        "tRANSFER-eNCODING",
        "Transfer_Encoding",
        "X-Transfer-Encoding",
    ];
    let separators = [":", ": ", ":\t", " :", ":\x0b", ":\r\n "];
    let values = [
        "chunked",
        "CHUNKED",
        "chunked ",
        "chunke\u{212a}",
        ",chunked",
        "chunked,",
    ];
    let ends = ["\r\n", "\n", "\r", "\r\r\n"];
    let lengths = ["", "Content-Length: 5\r\n"];
    let mut sound = 0;
    for (at, name) in names.into_iter().enumerate() {
        for (separator, value, end, length) in separators.into_iter().flat_map(|separator| {
            values.into_iter().flat_map(move |value| {
                ends.into_iter()
                    .flat_map(move |end| lengths.map(move |length| (separator, value, end, length)))
            })
        }) {
            // One thing is unusual, or two: all together would take minutes and say no more.
            let odd = usize::from(at > 0)
                + usize::from(separator != ": ")
                + usize::from(value != "chunked")
                + usize::from(end != "\r\n");
            if odd > 2 {
                continue;
            }
            let line = format!("{name}{separator}{value}{end}");
            let before = scene.wiki.requests().await;
            let request = format!(
                "POST /echo HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{length}{line}\r\n0\r\n\r\n{second}"
            );
            let replies = scene.raw("wiki", &[request]).await;
            let arrived = scene.wiki.requests().await - before;
            let what = format!(
                "{} {}: {replies:?}",
                length.escape_debug(),
                line.escape_debug()
            );
            // Two were sent, two answers came, and no answer stands for a request nobody sent.
            assert!(arrived <= 2 && replies.len() <= 2, "{what}");
            let accepted = replies.iter().filter(|reply| reply.status == 200).count();
            assert_eq!(u64::try_from(accepted).unwrap(), arrived, "{what}");
            let named = name.eq_ignore_ascii_case("transfer-encoding");
            if named && !length.is_empty() {
                assert_eq!(arrived, 0, "{what}");
            }
            if arrived == 2 {
                sound += 1;
                let seen = replies[0].json();
                assert_eq!(seen["path"], "/echo", "{what}");
                assert_eq!(replies[1].json()["path"], "/echo/smuggled", "{what}");
            }
        }
    }
    assert!(sound > 0, "the sound spelling is a control");
    scene.control().await;
}
