//! For whoever writes the pages of a published application: a script never meets a redirect to the sign-in.

use http::Method;
use serde_json::Value;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::guest;
use crate::walk::world;

type Headers = &'static [(&'static str, &'static str)];

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
const NAVIGATES: (&str, &str) = ("sec-fetch-mode", "navigate");
const EVIL: (&str, &str) = ("origin", "https://evil.example");
const EMPTY: (&str, &str) = ("sec-fetch-dest", "empty");

async fn ask(visitor: &mut Visitor, gateway: &Gateway, method: &str, headers: Headers) -> Answer {
    visitor.headers.clear();
    for (name, value) in headers {
        visitor.headers.insert(*name, value.parse().unwrap());
    }
    let method: Method = method.parse().unwrap();
    let url = gateway.url("wiki", "/api/x?y=1").parse().unwrap();
    visitor.once(method, &url, None).await.unwrap()
}

/// How many sign-ins the store remembers as begun.
async fn pending(stage: &Stage) -> i64 {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(stage.path("state/kerbgate.db"))
        .read_only(true);
    let mut store = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    sqlx::query_scalar("SELECT count(*) FROM pending")
        .fetch_one(&mut store)
        .await
        .unwrap()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn scripts_get_401_and_pages_get_the_sign_in() {
    let (stage, backend) = world("").await;
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let cases: &[(&str, Headers)] = &[
        (
            "GET",
            &[("sec-fetch-mode", "cors"), EMPTY, ("accept", HTML)],
        ),
        (
            "GET",
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
        ),
        (
            "GET",
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
        ),
        (
            "GET",
            &[("sec-fetch-mode", "same-origin"), EMPTY, ("accept", "*/*")],
        ),
        ("GET", &[NAVIGATES, ("sec-fetch-dest", "embed")]),
        ("GET", &[NAVIGATES, ("sec-purpose", "prefetch;prerender")]),
        (
            "GET",
            &[("x-requested-with", "XMLHttpRequest"), ("accept", HTML)],
        ),
        ("GET", &[("accept", "application/json")]),
        ("GET", &[("accept", "*/*")]),
        ("GET", &[("accept", "text/html;q=0, */*")]),
        ("GET", &[]),
        ("HEAD", &[("accept", "*/*")]),
        ("POST", &[("sec-fetch-mode", "cors"), EMPTY]),
        ("PUT", &[("accept", "application/json")]),
        ("DELETE", &[]),
        (
            "OPTIONS",
            &[
                ("origin", "https://other.example"),
                ("access-control-request-method", "PUT"),
            ],
        ),
    ];
    assert_eq!(pending(&stage).await, 0);
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut visitor = Visitor::new(&stage.lab.facts.ca, speaks);
        for (method, headers) in cases {
            let what = format!("{method} {headers:?}");
            let answer = ask(&mut visitor, &gateway, method, headers).await;
            assert_refused(&answer, "sign-in-required", &what);
            assert_eq!(answer.status, 401, "{what}");
            assert!(answer.headers.get("location").is_none(), "{what}");
            assert!(answer.headers.get("set-cookie").is_none(), "{what}");
            assert_eq!(answer.header("cache-control"), "no-store", "{what}");
            let scheme = answer.header("www-authenticate");
            assert!(
                scheme.starts_with("Bearer"),
                "{what}: {scheme}: no password box"
            );
            if *method == "HEAD" {
                continue;
            }
            assert!(
                answer.header("content-type").starts_with("application/"),
                "{what}"
            );
            let told = answer.json();
            assert!(
                told.to_string().contains("sign-in-required"),
                "{what}: {told}"
            );
            let link = told["sign_in_url"].as_str().unwrap_or_default();
            assert!(
                link.starts_with('/') || link.starts_with("https://wiki.localhost"),
                "{what}: {told}"
            );
        }
    }
    assert_eq!(
        pending(&stage).await,
        0,
        "no sign-in was begun for any of them"
    );

    // Control: pages are sent to the sign-in.
    let pages: &[Headers] = &[
        &[NAVIGATES, ("sec-fetch-dest", "document")],
        &[NAVIGATES, ("sec-fetch-dest", "iframe")],
        &[("accept", HTML)],
    ];
    let mut visitor = browser(&stage);
    for headers in pages {
        let answer = ask(&mut visitor, &gateway, "GET", headers).await;
        assert_eq!(answer.status, 302, "{headers:?}");
        assert!(
            answer
                .header("location")
                .starts_with(&gateway.url("login", "/.kerbgate/signin?id="))
        );
    }
    assert_eq!(pending(&stage).await, 3);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_form_without_a_session_is_told_not_lost() {
    let (stage, backend) = world("").await;
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut visitor = browser(&stage);
    let headers: Headers = &[
        NAVIGATES,
        ("sec-fetch-dest", "document"),
        ("accept", HTML),
        ("accept-language", "en"),
    ];
    let answer = ask(&mut visitor, &gateway, "POST", headers).await;
    assert_refused(&answer, "session-expired", "a form");
    assert_eq!(answer.status, 401);
    assert!(answer.headers.get("set-cookie").is_none());
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(
        answer.body.to_lowercase().contains("not sent"),
        "{}",
        answer.body
    );
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn another_sites_page_cannot_use_a_session() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "csrf").await;
    let mut visitor = browser(&stage);
    visitor
        .open_as(&login, &gateway.url("wiki", "/echo"))
        .await
        .unwrap();
    let count = backend.count();
    let foreign: &[(&str, Headers)] = &[
        ("POST", &[("sec-fetch-site", "cross-site"), NAVIGATES, EVIL]),
        (
            "POST",
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "no-cors"),
                EMPTY,
            ],
        ),
        (
            "POST",
            &[
                ("sec-fetch-site", "same-site"),
                ("origin", "https://other.localhost"),
            ],
        ),
        ("POST", &[("origin", "null")]),
        ("PUT", &[EVIL]),
        ("DELETE", &[EVIL]),
        ("PATCH", &[("sec-fetch-site", "cross-site"), EVIL]),
    ];
    for (method, headers) in foreign {
        let what = format!("{method} {headers:?}");
        let answer = ask(&mut visitor, &gateway, method, headers).await;
        assert_refused(&answer, "foreign-origin", &what);
        assert_eq!(answer.status, 403, "{what}");
    }
    assert_eq!(backend.count(), count, "nothing of it reached the backend");

    // Control: the application's own pages, and links from elsewhere.
    let own: &'static str = format!("https://wiki.localhost:{}", gateway.port).leak();
    let own: Headers = vec![("sec-fetch-site", "same-origin"), ("origin", own)].leak();
    assert_eq!(
        ask(&mut visitor, &gateway, "POST", own).await.remote_user(),
        oid
    );
    let link: Headers = &[("sec-fetch-site", "cross-site"), NAVIGATES];
    assert_eq!(
        ask(&mut visitor, &gateway, "GET", link).await.remote_user(),
        oid
    );
    let told: Value = ask(&mut browser(&stage), &gateway, "GET", &[]).await.json();
    assert!(!told.to_string().contains(&oid));
}
