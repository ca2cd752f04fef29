//! What is asked of a backend in other ways than a plain GET comes back as the backend said it: parts of a file,
//! conditions, HEAD and OPTIONS. The oracle is the same Apache asked directly, without any gateway.

use aws_lc_rs::digest;
use http::HeaderMap;
use http::Method;
use http::StatusCode;
use http::header;

use crate::lab::Stage;
use crate::sockets::Headers;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;

/// What has to be the same.
const SAID: [&str; 8] = [
    "accept-ranges",
    "allow",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
];

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: StatusCode,
    said: Vec<(&'static str, Option<String>)>,
    length: usize,
    sum: String,
}

async fn seen(request: reqwest::RequestBuilder, headers: Headers<'_>) -> (HeaderMap, Seen) {
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let answer = request.send().await.unwrap();
    let (status, all) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.unwrap();
    let said = SAID.map(|name| {
        let values: Vec<_> = all.get_all(name).iter().collect();
        let text: Vec<_> = values.iter().map(|value| value.to_str().unwrap()).collect();
        (name, (!text.is_empty()).then(|| text.join(" and ")))
    });
    let sum = digest::digest(&digest::SHA256, &body);
    let seen = Seen {
        status,
        said: said.to_vec(),
        length: body.len(),
        sum: format!("{sum:?}"),
    };
    (all, seen)
}

#[tokio::test]
async fn parts_conditions_and_bare_heads() {
    let scene = Scene::new(Stage::new().await).await;
    let plain = scene.stage.lab.facts.backends.plain;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let directly =
        |method: Method, path: &str| client.request(method, format!("http://{plain}{path}"));
    let (about, _) = seen(directly(Method::HEAD, "/big"), &[]).await;
    let tag = about[header::ETAG].to_str().unwrap();
    let date = about[header::LAST_MODIFIED].to_str().unwrap();
    let (other, old) = ("\"another\"", "Sat, 01 Jan 2000 00:00:00 GMT");
    let table: [(Headers<'_>, u16); 18] = [
        (&[("range", "bytes=0-0")], 206),
        (&[("range", "bytes=1024-2047")], 206),
        (&[("range", "bytes=-500")], 206),
        (&[("range", "bytes=10485000-")], 206),
        (&[("range", "bytes=0-9,100-109,500000-500999")], 206),
        (&[("range", "bytes=0-9"), ("accept-encoding", "gzip")], 206),
        (&[("range", "bytes=99999999-")], 416),
        (&[("range", "lines=1-2")], 200),
        (&[("range", "bytes=9-0")], 200),
        (&[("range", "bytes=0-9"), ("if-range", tag)], 206),
        (&[("range", "bytes=0-9"), ("if-range", date)], 206),
        (&[("range", "bytes=0-9"), ("if-range", other)], 200),
        (&[("range", "bytes=0-9"), ("if-range", old)], 200),
        (&[("range", "bytes=0-9"), ("if-match", other)], 412),
        (&[("range", "bytes=0-9"), ("if-match", tag)], 206),
        (&[("if-none-match", tag)], 304),
        (&[("if-modified-since", date)], 304),
        (&[("if-unmodified-since", old)], 412),
    ];
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut guest = Visitor::new(&scene.stage.lab.facts.ca, speaks);
        guest.cookies = scene.guest.cookies.clone();
        let through = |method: Method, path: &str| {
            let url = scene.gateway.url("intranet", path).parse().unwrap();
            guest.request(method, &url)
        };
        for (headers, status) in &table {
            for method in [Method::GET, Method::HEAD] {
                let (_, wanted) = seen(directly(method.clone(), "/big"), headers).await;
                let (_, got) = seen(through(method.clone(), "/big"), headers).await;
                assert_eq!(wanted.status, *status, "{method} {headers:?}: the oracle");
                assert_eq!(got, wanted, "{speaks:?} {method} {headers:?}");
            }
        }
        for (method, path) in [
            (Method::GET, "/static/1k"),
            (Method::HEAD, "/static/1k"),
            (Method::HEAD, "/static/nothing"),
            (Method::HEAD, "/big"),
            (Method::OPTIONS, "/big"),
            (Method::OPTIONS, "/static/1k"),
            (Method::DELETE, "/static/1k"),
        ] {
            let (_, wanted) = seen(directly(method.clone(), path), &[]).await;
            let (_, got) = seen(through(method.clone(), path), &[]).await;
            assert_eq!(got, wanted, "{speaks:?} {method} {path}");
        }
    }
}

/// What would show credentials, or open a way past the rooms, ends here, in any spelling and with a session too.
#[tokio::test]
async fn trace_and_connect_go_nowhere() {
    let scene = Scene::new(Stage::new().await).await;
    let before = (scene.wiki.requests().await, scene.stage.lab.access_log());
    for app in ["wiki", "intranet"] {
        let (host, cookie) = (scene.host(app), scene.cookie(app));
        for line in [
            "TRACE /echo/no-trace",
            "trace /echo/no-trace",
            "TRACK /echo/no-trace",
            "Connect /echo/no-trace",
            "CONNECT /echo/no-trace",
            "CONNECT intranet.contoso.test:80",
        ] {
            let request = format!(
                "{line} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nMax-Forwards: 1\r\nConnection: close\r\n\r\n"
            );
            let replies = scene.raw(app, &[request]).await;
            assert!(
                [400, 405, 421].contains(&replies[0].status),
                "{line}: {replies:?}"
            );
            assert!(!replies[0].body.contains("Cookie"), "{line}: {replies:?}");
        }
    }
    assert_eq!(scene.wiki.requests().await, before.0);
    let since = scene.stage.lab.access_log();
    assert!(!since[before.1.len()..].contains("no-trace"), "{since}");
}
