//! Headers of answers, seen from outside.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use url::Url;

use super::*;
use crate::model::application::Backend;
use crate::model::application::KerberosSso;
use crate::model::application::SendToken;
use crate::model::application::Wrap;

fn application(prefix: &str, backends: &[&str]) -> Application {
    let published = format!("https://wiki.example.com:8443{prefix}");
    Application {
        prefix: prefix.to_owned(),
        published_url: Url::parse(&published).unwrap(),
        backends: backends
            .iter()
            .map(|url| Backend {
                url: Url::parse(url).unwrap(),
                address: None,
            })
            .collect(),
        ..Application::sample()
    }
}

fn rewritten(application: &Application, name: &str, value: &str) -> Vec<String> {
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    let mut headers = HeaderMap::new();
    headers.append(
        name.clone(),
        HeaderValue::from_bytes(value.as_bytes()).unwrap(),
    );
    response(&mut headers, application, &Links::new([application]));
    headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap())
        .collect()
}

/// An application at its host's root: reference and its published form.
const AT_ROOT: [(&str, &str); 11] = [
    (
        "https://wiki.example.com:8443/a",
        "https://wiki.example.com:8443/a",
    ),
    (
        "https://iis01.corp.example/a?b#c",
        "https://wiki.example.com:8443/a?b#c",
    ),
    (
        "https://IIS02.corp.example:443/a",
        "https://wiki.example.com:8443/a",
    ),
    (
        "http://iis01.corp.example/a",
        "https://wiki.example.com:8443/a",
    ),
    ("//iis01.corp.example/a", "https://wiki.example.com:8443/a"),
    (
        "https://iis01.corp.example",
        "https://wiki.example.com:8443/",
    ),
    (
        "https://iis01.corp.example?x",
        "https://wiki.example.com:8443/?x",
    ),
    (
        "http://wiki.example.com/a",
        "https://wiki.example.com:8443/a",
    ),
    ("//wiki.example.com/a", "https://wiki.example.com:8443/a"),
    (
        "HTTP://wiki.example.com:8443/a",
        "https://wiki.example.com:8443/a",
    ),
    ("/", "/"),
];
/// The same below a prefix, with a backend below another.
const BELOW: [(&str, &str); 7] = [
    (
        "http://wiki.example.com/w/x",
        "https://wiki.example.com:8443/w/x",
    ),
    (
        "http://wiki.example.com:8080/app/x",
        "https://wiki.example.com:8443/w/x",
    ),
    (
        "https://wiki.example.com:8443/other/x",
        "https://wiki.example.com:8443/other/x",
    ),
    (
        "https://wiki.example.com:9999/w/x",
        "https://wiki.example.com:9999/w/x",
    ),
    (
        "http://10.0.0.1:8080/app/x",
        "https://wiki.example.com:8443/w/x",
    ),
    (
        "http://10.0.0.1:8080/app",
        "https://wiki.example.com:8443/w",
    ),
    ("/app/x?y=/app/", "/w/x?y=/app/"),
];
/// What leads elsewhere stays.
const ELSEWHERE: [&str; 12] = [
    "https://wiki.example.com:8443/a",
    "/a%2fb/%E4",
    "a/b",
    "https://login.example.org/?r=https://iis01.corp.example/",
    "https://iis01.corp.example.evil/",
    "https://iis01.corp.example@evil/",
    "https://evil@iis01.corp.example/",
    "https://iis01.corp.example:8443/",
    "mailto:a@iis01.corp.example",
    "http://10.0.0.1:8080/application",
    "http://10.0.0.1/app/x",
    "",
];

#[test]
fn references_lead_to_the_published_url() {
    let root = application(
        "/",
        &["https://iis01.corp.example/", "https://iis02.corp.example/"],
    );
    let below = application("/w/", &["http://10.0.0.1:8080/app/"]);
    let elsewhere = ELSEWHERE.map(|reference| (reference, reference));
    for (application, table) in [
        (&root, &AT_ROOT[..]),
        (&below, &BELOW),
        (&root, &elsewhere),
        (&below, &elsewhere),
    ] {
        for (reference, wanted) in table {
            let got = rewritten(application, "location", reference);
            assert_eq!(got, [*wanted], "{reference}");
        }
    }
    assert_eq!(
        rewritten(&below, "content-location", BELOW[0].0),
        [BELOW[0].1]
    );
    assert_eq!(
        rewritten(&below, "refresh", "5; URL='http://10.0.0.1:8080/app/x'"),
        ["5; URL=https://wiki.example.com:8443/w/x"]
    );
    assert_eq!(rewritten(&below, "refresh", "5"), ["5"]);
}

#[test]
fn cookies_stay_with_the_published_host() {
    let root = application("/", &["https://iis01.corp.example/"]);
    let moved = application("/w/", &["http://10.0.0.1:8080/app/"]);
    for (application, cookie, wanted) in [
        (&root, "a=1;; ", vec!["a=1; Secure"]),
        (&root, " __HOST-KERBGATE-signin=x", vec![]),
        (
            &root,
            "a=1; secure; HttpOnly; SameSite=None; Max-Age=5",
            vec!["a=1; HttpOnly; SameSite=None; Max-Age=5; Secure"],
        ),
        (
            &root,
            "a=\"x y\"; Domain=.corp.example; Path=/x",
            vec!["a=\"x y\"; Path=/x; Secure"],
        ),
        (&moved, "a=1; path=/app/x", vec!["a=1; Path=/w/x; Secure"]),
        (&moved, "a=1; path=/app", vec!["a=1; Path=/w; Secure"]),
        (&moved, "a=1; path=/", vec!["a=1; Path=/w; Secure"]),
        (&moved, "a=1; path=", vec!["a=1; Path=/w; Secure"]),
        (
            &moved,
            "__Host-a=1; Secure; Path=/",
            vec!["__Host-a=1; Path=/; Secure"],
        ),
        (&root, "__Host-kerbgate=x; Path=/; Secure", vec![]),
        (&root, "__HOST-Kerbgate-login=x", vec![]),
        (&root, "=__Host-kerbgate=x", vec![]),
        (&root, "= __Host-kerbgate=x", vec![]),
    ] {
        assert_eq!(
            rewritten(application, "set-cookie", cookie),
            wanted,
            "{cookie}"
        );
    }
}

#[test]
fn what_is_between_us_and_the_backend_stays_there() {
    let mut application = application("/", &["https://iis01.corp.example/"]);
    for (name, value) in [
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("alt-svc", "h2=\":443\""),
        ("proxy-authenticate", "Basic"),
        ("trailer", "content-length, set-cookie"),
    ] {
        assert!(rewritten(&application, name, value).is_empty(), "{name}");
    }
    assert_eq!(
        rewritten(&application, "server", "Microsoft-IIS/10.0"),
        ["Microsoft-IIS/10.0"]
    );
    assert_eq!(
        rewritten(&application, "www-authenticate", "Basic"),
        ["Basic"]
    );
    assert!(rewritten(&application, "www-authenticate", "NTLM").is_empty());
    assert!(rewritten(&application, "www-authenticate", "Negotiate oRQw").is_empty());
    application.sso = Sso::Kerberos(KerberosSso {
        spns: Vec::new(),
        send: SendToken::EachRequest,
        wrap: Wrap::Spnego,
        mutual: false,
        channel_binding: true,
    });
    for name in ["www-authenticate", "authentication-info", "persistent-auth"] {
        assert!(
            rewritten(&application, name, "Negotiate oRUw").is_empty(),
            "{name}"
        );
    }
}

fn other(id: &str, host: &str, prefix: &str, backend: &str) -> Application {
    let mut application = application(prefix, &[backend]);
    application.id = id.parse().unwrap();
    application.host = host.parse().unwrap();
    application.published_url = Url::parse(&format!("https://{host}{prefix}")).unwrap();
    application
}

fn house() -> Vec<Application> {
    vec![
        application("/w/", &["http://10.0.0.1:8080/app/"]),
        other(
            "shop",
            "shop.example.com",
            "/",
            "https://iis01.corp.example/",
        ),
        other(
            "hr",
            "hr.example.com",
            "/hr/",
            "https://iis01.corp.example/people/",
        ),
        other("six", "six.example.com", "/", "http://[2001:db8::1]:81/"),
        other(
            "beside",
            "wiki.example.com",
            "/beside/",
            "http://10.0.0.1:8080/beside/",
        ),
    ]
}

fn in_house(index: usize, name: &str, value: &str) -> String {
    let house = house();
    let mut headers = HeaderMap::new();
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
    response(&mut headers, &house[index], &Links::new(&house));
    headers[name].to_str().unwrap().to_owned()
}

#[test]
fn references_lead_to_every_other_application() {
    for (index, reference, wanted) in [
        (
            0,
            "https://iis01.corp.example/x",
            "https://shop.example.com/x",
        ),
        (
            0,
            "http://IIS01.corp.example/people",
            "https://hr.example.com/hr",
        ),
        (
            0,
            "http://iis01.corp.example/people?a#b",
            "https://hr.example.com/hr?a#b",
        ),
        (
            0,
            "http://iis01.corp.example/peoples",
            "https://shop.example.com/peoples",
        ),
        (
            0,
            "http://[2001:DB8:0::1]:81/x",
            "https://six.example.com/x",
        ),
        (0, "http://[2001:DB8:0::1]/x", "http://[2001:DB8:0::1]/x"),
        (
            0,
            "//10.0.0.1:8080/beside/x",
            "https://wiki.example.com/beside/x",
        ),
        (0, "//10.0.0.1/beside/x", "//10.0.0.1/beside/x"),
        // The same server, another application: the path alone would miss it.
        (0, "/beside/x", "https://wiki.example.com/beside/x"),
        (0, "/elsewhere/x", "/elsewhere/x"),
        // An application's own root stays its own, whatever else is published of that server.
        (1, "/people/x", "/people/x"),
        (
            1,
            "https://iis01.corp.example/people/x",
            "https://hr.example.com/hr/x",
        ),
        (2, "/people/x", "/hr/x"),
        (2, "/x", "https://shop.example.com/x"),
        (
            0,
            "https://wiki.example.com:8443/beside/x",
            "https://wiki.example.com:8443/beside/x",
        ),
        (
            0,
            "https://iis01.corp.example:99999/x",
            "https://iis01.corp.example:99999/x",
        ),
        (
            0,
            "https://evil@iis01.corp.example/",
            "https://evil@iis01.corp.example/",
        ),
        (
            0,
            "https://iis01.corp.example\\@evil/",
            "https://iis01.corp.example\\@evil/",
        ),
        (
            0,
            "javascript://iis01.corp.example/",
            "javascript://iis01.corp.example/",
        ),
    ] {
        assert_eq!(
            in_house(index, "location", reference),
            wanted,
            "{index} {reference}"
        );
    }
}

#[test]
fn no_redirect_is_opened() {
    let below = application("/", &["http://10.0.0.1:8080/app/"]);
    for (reference, wanted) in [
        (
            "/app//evil.example/",
            "https://wiki.example.com:8443//evil.example/",
        ),
        (
            "/app/\\evil.example/",
            "https://wiki.example.com:8443/\\evil.example/",
        ),
        (
            "/app/\t/evil.example/",
            "https://wiki.example.com:8443/\t/evil.example/",
        ),
        ("/app/x", "/x"),
        ("/app", "/"),
        ("/app?x", "/?x"),
    ] {
        assert_eq!(
            rewritten(&below, "location", reference),
            [wanted],
            "{reference}"
        );
    }
}

#[test]
fn an_application_that_knows_its_prefix_is_not_told_twice() {
    let told = application("/w/", &["http://10.0.0.1:8080/"]);
    for (name, value, wanted) in [
        ("location", "/w/x", "/w/x"),
        ("location", "/wx", "/w/wx"),
        ("location", "/x", "/w/x"),
        (
            "location",
            "https://wiki.example.com/w/x",
            "https://wiki.example.com:8443/w/x",
        ),
        (
            "location",
            "https://wiki.example.com/x",
            "https://wiki.example.com:8443/w/x",
        ),
        ("set-cookie", "a=1; Path=/w", "a=1; Path=/w; Secure"),
        ("set-cookie", "a=1; Path=/w/x", "a=1; Path=/w/x; Secure"),
        ("set-cookie", "a=1; Path=/x", "a=1; Path=/w/x; Secure"),
        ("set-cookie", "a=1; Path=/", "a=1; Path=/w/; Secure"),
    ] {
        assert_eq!(rewritten(&told, name, value), [wanted], "{value}");
    }
}

#[test]
fn other_headers_with_references() {
    for (name, value, wanted) in [
        (
            "link",
            "<https://iis01.corp.example/a.css>; rel=preload, </app/b>; rel=\"next\", <c>",
            "<https://shop.example.com/a.css>; rel=preload, </w/b>; rel=\"next\", <c>",
        ),
        (
            "link",
            "<https://iis01.corp.example/",
            "<https://iis01.corp.example/",
        ),
        (
            "access-control-allow-origin",
            "http://10.0.0.1:8080",
            "https://wiki.example.com:8443",
        ),
        (
            "access-control-allow-origin",
            "https://iis01.corp.example",
            "https://iis01.corp.example",
        ),
        ("access-control-allow-origin", "*", "*"),
        ("access-control-allow-origin", "null", "null"),
        (
            "content-security-policy",
            "default-src 'self' http://10.0.0.1:8080/app; connect-src ws://10.0.0.1:8080/app/x,img-src https://iis01.corp.example data:",
            "default-src 'self' https://wiki.example.com:8443/w/; connect-src wss://wiki.example.com:8443/w/x,img-src https://shop.example.com/ data:",
        ),
    ] {
        assert_eq!(in_house(0, name, value), wanted);
    }
}
