//! For whoever clicks on a hostile link: a sign-in begun in one browser ends in that browser, once, where it began.
//!
//! State, authorization code and hand-over code are copied, swapped, repeated and kept too long, as an attacker would who
//! sees one of them; cookies are planted, doubled and garbled.

use http::Method;
use serde_json::json;
use url::Url;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::visitor::Visitor;
use crate::visitor::redirect;
use crate::walk::BINDING;
use crate::walk::SESSION;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::cookie;
use crate::walk::get;
use crate::walk::guest;
use crate::walk::order;
use crate::walk::plant;
use crate::walk::query;
use crate::walk::to_callback;
use crate::walk::to_hand_over;
use crate::walk::with;
use crate::walk::world;

const LOGIN: &str = "login.localhost";
const WIKI: &str = "wiki.localhost";
const STATE: &str = "sign-in-state-unknown";
const CODE: &str = "sign-in-code-refused";
const HAND_OVER: &str = "handover-refused";

fn wiki(gateway: &Gateway) -> Url {
    gateway.url("wiki", "/echo").parse().unwrap()
}

/// The application does not know this browser.
async fn assert_outside(visitor: &mut Visitor, gateway: &Gateway) {
    let page = get(visitor, &wiki(gateway)).await;
    assert!(redirect(&page).is_some(), "not signed in");
    assert!(cookie(visitor, WIKI, SESSION).is_none());
}

#[tokio::test]
async fn what_the_issuer_sends_back_works_once_and_in_one_browser() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (attacker, _) = guest(&entra, "attacker").await;
    let (victim, victim_oid) = guest(&entra, "victim").await;
    let url = gateway.url("wiki", "/echo");

    // Login CSRF: the attacker's whole answer, opened by a victim who never began, and by one who did.
    let mut evil = browser(&stage);
    let callback = to_callback(&mut evil, &attacker, &url).await;
    let mut fresh = browser(&stage);
    assert_refused(
        &get(&mut fresh, &callback).await,
        STATE,
        "a browser that never began",
    );
    assert_outside(&mut fresh, &gateway).await;
    // The attempt has used the state up; the attacker's own browser gets nothing for it either.
    assert_refused(
        &get(&mut evil, &callback).await,
        STATE,
        "used up by the attempt",
    );

    // Code injection: the attacker's code under the victim's state fails at PKCE, and the other way round at the state.
    let callback = to_callback(&mut evil, &attacker, &url).await;
    let mut browser_of_victim = browser(&stage);
    let own = to_callback(&mut browser_of_victim, &victim, &url).await;
    let swapped = with(&own, "code", &query(&callback, "code"));
    assert_refused(
        &get(&mut browser_of_victim, &swapped).await,
        CODE,
        "a foreign code",
    );
    assert_outside(&mut browser_of_victim, &gateway).await;
    let own = to_callback(&mut browser_of_victim, &victim, &url).await;
    let swapped = with(&own, "state", &query(&callback, "state"));
    assert_refused(
        &get(&mut browser_of_victim, &swapped).await,
        STATE,
        "a foreign state",
    );

    // Control, then the same answer again: a reload goes on, in another browser it is worth nothing.
    let own = to_callback(&mut browser_of_victim, &victim, &url).await;
    let page = browser_of_victim.open(own.as_str()).await.unwrap();
    assert_eq!(page.remote_user(), victim_oid);
    let page = browser_of_victim.open(own.as_str()).await.unwrap();
    assert_eq!(page.remote_user(), victim_oid, "a reload goes on");
    assert_refused(
        &get(&mut evil, &own).await,
        STATE,
        "replayed in another browser",
    );
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn made_up_and_repeated_parameters_are_refused() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "parameters").await;
    let url = gateway.url("wiki", "/echo");
    let twice = "sign-in-parameter-duplicate";
    let mut visitor = browser(&stage);
    let callback = to_callback(&mut visitor, &login, &url).await;
    let (state, code) = (query(&callback, "state"), query(&callback, "code"));
    let base = gateway.url("login", "/.kerbgate/callback");
    let cases = [
        (format!("{base}?code={code}"), STATE),
        (format!("{base}?code={code}&state="), STATE),
        (format!("{base}?code={code}&state=AAAA"), STATE),
        (
            format!("{base}?code={code}&state={}", "A".repeat(43)),
            STATE,
        ),
        (format!("{base}?code={code}&state={state}%00"), STATE),
        (
            format!("{base}?code={code}&state={}", "A".repeat(9000)),
            STATE,
        ),
        (
            format!("{base}?code={code}&state={state}&state={state}"),
            twice,
        ),
        (format!("{base}?code=x&state={state}&code={code}"), twice),
        (
            format!("{base}?code={code}&state={state}&iss=a&iss=b"),
            twice,
        ),
        (
            format!("{base}?code={code}&state={state}&error=a&error=b"),
            twice,
        ),
        (base.clone(), STATE),
    ];
    for (address, reason) in cases {
        let answer = get(&mut visitor, &address.parse().unwrap()).await;
        assert_refused(&answer, reason, &address[..address.len().min(200)]);
    }
    // None of them has used the state up: the right one still works.
    let page = visitor.open(callback.as_str()).await.unwrap();
    assert_eq!(page.remote_user(), oid);

    // Mix-up (RFC 9207): the answer says that another issuer gave it.
    let mut visitor = browser(&stage);
    let callback = to_callback(&mut visitor, &login, &url).await;
    let mut mixed = callback.clone();
    mixed
        .query_pairs_mut()
        .append_pair("iss", "https://evil.example/");
    assert_refused(
        &get(&mut visitor, &mixed).await,
        "token-issuer-wrong",
        "mix-up",
    );
    assert_outside(&mut visitor, &gateway).await;
    // Neither code nor error.
    let callback = to_callback(&mut visitor, &login, &url).await;
    let bare = format!("{base}?state={}", query(&callback, "state"));
    assert_refused(
        &get(&mut visitor, &bare.parse().unwrap()).await,
        "bad-request",
        "no code",
    );
    // The callback exists on the central host only.
    let elsewhere = gateway.url("wiki", "/.kerbgate/callback?code=x&state=y");
    assert_refused(
        &get(&mut visitor, &elsewhere.parse().unwrap()).await,
        "path-unknown",
        "host",
    );
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_hand_over_code_opens_one_host_for_one_browser_once() {
    let (stage, backend) = world("").await;
    backend.publish(&stage, "other", "");
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (attacker, _) = guest(&entra, "hand-attacker").await;
    let (login, oid) = guest(&entra, "hand-over").await;
    let url = gateway.url("wiki", "/echo");

    // The attacker's code in the victim's browser would sign the victim in as the attacker.
    let mut evil = browser(&stage);
    let callback = to_callback(&mut evil, &attacker, &url).await;
    let evils = to_hand_over(&mut evil, &callback).await;
    let mut visitor = browser(&stage);
    assert_refused(&get(&mut visitor, &evils).await, HAND_OVER, "never begun");
    let callback = to_callback(&mut visitor, &login, &url).await;
    assert_refused(
        &get(&mut visitor, &evils).await,
        HAND_OVER,
        "begun for oneself",
    );
    assert_outside(&mut visitor, &gateway).await;

    // For wiki, shown to other.
    let own = to_hand_over(&mut visitor, &callback).await;
    let other: Url = gateway.url("other", "/.kerbgate/signin").parse().unwrap();
    let mut wrong_host = other.clone();
    wrong_host.set_query(own.query());
    assert_refused(
        &get(&mut visitor, &wrong_host).await,
        HAND_OVER,
        "another host",
    );
    // Whoever shows it in a wrong place has used it up.
    assert_refused(&get(&mut visitor, &own).await, HAND_OVER, "used up");

    // Control, and again.
    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "the central sign-in stands");
    let mut second = browser(&stage);
    let callback = to_callback(&mut second, &login, &url).await;
    let own = to_hand_over(&mut second, &callback).await;
    let page = second.open(own.as_str()).await.unwrap();
    assert_eq!(page.remote_user(), oid);
    let again = get(&mut second, &own).await;
    assert_eq!(again.status, 302, "a reload by somebody who is in goes on");
    assert_eq!(again.header("location"), "/");
    assert!(again.headers.get("set-cookie").is_none());
    assert_refused(&get(&mut evil, &own).await, HAND_OVER, "replayed elsewhere");

    // Made up, doubled, on the wrong host.
    for (host, query, reason) in [
        ("wiki", "code=AAAA", HAND_OVER),
        ("wiki", "code=a&code=b", "sign-in-parameter-duplicate"),
        ("wiki", "id=AAAA", STATE),
        ("login", "id=AAAA", STATE),
        ("login", "id=a&id=b", "sign-in-parameter-duplicate"),
        ("login", "id=a&code=b", STATE),
    ] {
        let address = gateway.url(host, &format!("/.kerbgate/signin?{query}"));
        let mut nobody = browser(&stage);
        let answer = get(&mut nobody, &address.parse().unwrap()).await;
        assert_refused(&answer, reason, &address);
    }
}

#[tokio::test]
async fn a_sign_in_that_takes_too_long_begins_again() {
    let (stage, backend) = world("[session]\nsign_in = \"1s\"\n").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, _) = guest(&entra, "slow").await;
    let mut visitor = browser(&stage);
    let callback = to_callback(&mut visitor, &login, &gateway.url("wiki", "/echo")).await;
    // The binding cookie is kept by this visitor beyond its Max-Age: the server must not rely on browsers.
    let begun = std::time::Instant::now();
    crate::lab::eventually("the time is over", async || begun.elapsed().as_secs() >= 2).await;
    assert_refused(&get(&mut visitor, &callback).await, STATE, "too old");
    assert_outside(&mut visitor, &gateway).await;
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn five_tabs_at_once_each_end_where_they_began() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "tabs").await;
    let mut visitor = browser(&stage);
    // The first page brings the binding cookies, as in a browser whose tabs are restored one by one; from then on all
    // five are under way at the same time.
    let mut callbacks = Vec::new();
    for tab in 0..5 {
        let url = gateway.url("wiki", &format!("/tab/{tab}?n={tab}"));
        callbacks.push(to_callback(&mut visitor, &login, &url).await);
    }
    // In another order than they began, and truly side by side.
    callbacks.reverse();
    let walks = callbacks.iter().map(|callback| {
        let mut tab = visitor.clone();
        async move {
            let answer = to_hand_over(&mut tab, callback).await;
            let answer = get(&mut tab, &answer).await;
            (tab, answer)
        }
    });
    let ends = futures_util::future::join_all(walks).await;
    for (number, (tab, answer)) in ends.into_iter().enumerate() {
        let tab_number = 4 - number;
        let wanted = format!("/tab/{tab_number}?n={tab_number}");
        assert_eq!(answer.header("location"), wanted);
        let mut tab = tab;
        let page = get(&mut tab, &redirect(&answer).unwrap()).await;
        assert_eq!(page.remote_user(), oid);
    }
    assert_eq!(backend.count(), 5);
}

#[tokio::test]
async fn nobody_is_led_to_another_site() {
    let (stage, _backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, _) = guest(&entra, "led").await;
    for target in [
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "/%5cevil.example/",
        "/%2f%2fevil.example/",
        "/%09/evil.example/",
        "/.//evil.example/",
        "/..//evil.example/",
        "/https://evil.example/",
        "/?next=https://evil.example/",
        "/@evil.example/",
    ] {
        let mut visitor = browser(&stage);
        let answer = raw(&stage, target).await;
        if answer.0 != 302 {
            assert_eq!(answer.0, 400, "{target}: refused before any sign-in");
            continue;
        }
        assert!(
            answer
                .1
                .starts_with(&gateway.url("login", "/.kerbgate/signin?id=")),
            "{target}"
        );
        let url = gateway.url("wiki", target);
        let callback = to_callback(&mut visitor, &login, &url).await;
        let own = to_hand_over(&mut visitor, &callback).await;
        assert_eq!(own.host_str(), Some(WIKI), "{target}");
        let end = get(&mut visitor, &own).await;
        let to = end.header("location");
        assert!(
            to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\"),
            "{target} -> {to}"
        );
        assert_eq!(redirect(&end).unwrap().host_str(), Some(WIKI), "{target}");
    }
    // Parameters of other products' open redirects mean nothing here.
    for name in [
        "rd",
        "return_to",
        "redirect_uri",
        "url",
        "next",
        "target",
        "post_logout_redirect_uri",
    ] {
        for path in ["signin", "signed-out", "signout"] {
            let address = gateway.url(
                "wiki",
                &format!("/.kerbgate/{path}?{name}=https://evil.example/"),
            );
            let answer = get(&mut browser(&stage), &address.parse().unwrap()).await;
            assert!(!answer.header("location").contains("evil"), "{address}");
            assert!(!answer.body.contains("evil.example"), "{address}");
        }
    }
}

/// One GET for exactly this target, as no URL library would send it: status and Location.
async fn raw(stage: &Stage, target: &str) -> (u16, String) {
    let config = {
        let mut roots = rustls::RootCertStore::empty();
        use rustls_pki_types::pem::PemObject as _;
        let ca = rustls_pki_types::CertificateDer::from_pem_file(&stage.lab.facts.ca).unwrap();
        roots.add(ca).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", stage.port))
        .await
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector
        .connect(WIKI.try_into().unwrap(), socket)
        .await
        .unwrap();
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {WIKI}:{}\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
        stage.port
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text[9..12].parse().unwrap();
    let location = text
        .lines()
        .find_map(|line| line.strip_prefix("location: "))
        .unwrap_or_default();
    (status, location.to_owned())
}

#[tokio::test]
async fn the_issuers_refusal_is_told_and_nobody_goes_in_circles() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "refused").await;
    let url = gateway.url("wiki", "/echo");
    let base = gateway.url("login", "/.kerbgate/callback");
    for (error, reason) in [
        (
            "access_denied&error_description=AADSTS65004: declined <script>",
            "sign-in-refused",
        ),
        (
            "interaction_required&error_description=AADSTS50076",
            "sign-in-refused",
        ),
        ("temporarily_unavailable", "issuer-unreachable"),
        ("<script>alert(1)</script>", "sign-in-refused"),
    ] {
        let mut visitor = browser(&stage);
        let callback = to_callback(&mut visitor, &login, &url).await;
        let told = format!("{base}?state={}&error={error}", query(&callback, "state"));
        let answer = get(&mut visitor, &told.parse().unwrap()).await;
        assert_refused(&answer, reason, error);
        assert!(!answer.body.contains("<script>"), "{error}");
        assert!(answer.body.contains(reason), "the page shows the code");
    }
    // A browser that keeps the binding but not the session: after a few rounds it is told, not sent round again.
    let mut visitor = browser(&stage);
    let callback = to_callback(&mut visitor, &login, &url).await;
    let mut hop = get(&mut visitor, &callback).await;
    let mut hops = 0;
    while let Some(next) = redirect(&hop) {
        hops += 1;
        assert!(hops < 40, "goes round for ever");
        drop(
            visitor
                .cookies
                .entry(WIKI.to_owned())
                .or_default()
                .remove(SESSION),
        );
        hop = get(&mut visitor, &next).await;
    }
    assert_refused(&hop, "sign-in-loop", "round and round");
    assert_eq!(backend.count(), 0);
    // Told once, it may try again, with its cookies switched on.
    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid);
}

#[tokio::test]
async fn cookies_are_small_locked_and_new_for_each_sign_in() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "cookies").await;
    let url = gateway.url("wiki", "/echo");

    // Fixation: ids that an attacker planted before the sign-in are never taken over for the session.
    let planted = "A".repeat(43);
    let mut visitor = browser(&stage);
    plant(&mut visitor, WIKI, SESSION, &planted);
    plant(&mut visitor, LOGIN, SESSION, &planted);
    let mut hop = get(&mut visitor, &url.parse().unwrap()).await;
    let mut set = Vec::new();
    loop {
        for cookie in hop.headers.get_all("set-cookie") {
            if hop.url.host_str() != Some("entra.localhost") {
                set.push(cookie.to_str().unwrap().to_owned());
            }
        }
        hop = match redirect(&hop) {
            Some(next) => get(&mut visitor, &next).await,
            None if hop.body.contains("name=\"login\"") => {
                visitor.press(&hop, &login).await.unwrap()
            }
            None => break,
        };
    }
    assert_eq!(hop.remote_user(), oid);
    let (at_login, at_wiki) = (
        cookie(&visitor, LOGIN, SESSION).unwrap(),
        cookie(&visitor, WIKI, SESSION).unwrap(),
    );
    assert!(at_login != planted && at_wiki != planted && at_login != at_wiki);
    assert!(set.len() >= 4, "two bindings, two sessions: {set:?}");
    for line in &set {
        for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
            assert!(line.contains(flag), "{line}");
        }
        assert!(line.starts_with("__Host-kerbgate"), "{line}");
        assert!(!line.to_ascii_lowercase().contains("domain"), "{line}");
        assert_eq!(line.matches("Path=").count(), 1, "{line}");
    }
    for host in [LOGIN, WIKI] {
        let header = visitor
            .cookie_header(&format!("https://{host}/").parse().unwrap())
            .unwrap();
        assert!(header.len() < 400, "{host}: {} bytes", header.len());
    }
    // None of ours reaches the backend.
    for headers in backend.seen() {
        let cookies = headers
            .get("cookie")
            .map(|c| c.to_str().unwrap().to_owned());
        assert!(!cookies.unwrap_or_default().contains("kerbgate"));
    }

    // Signing in again gives new ids, and the old ones are dead.
    let mut again = visitor.clone();
    drop(again.cookies.remove(LOGIN));
    drop(again.cookies.get_mut(WIKI).unwrap().remove(SESSION));
    again.open_as(&login, &url).await.unwrap();
    assert_ne!(cookie(&again, WIKI, SESSION).unwrap(), at_wiki);
}

#[tokio::test]
async fn planted_doubled_and_garbled_cookies_select_nobody() {
    let (stage, backend) = world("").await;
    backend.publish(&stage, "other", "");
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "tossing").await;
    let (attacker, _) = guest(&entra, "tosser").await;
    let url = gateway.url("wiki", "/echo");
    let mut evil = browser(&stage);
    evil.open_as(&attacker, &url).await.unwrap();
    let evils = cookie(&evil, WIKI, SESSION).unwrap();
    let mut visitor = browser(&stage);
    visitor.open_as(&login, &url).await.unwrap();
    let own = cookie(&visitor, WIKI, SESSION).unwrap();
    let before = backend.count();

    let send = async |header: String| {
        let mut bare = browser(&stage);
        bare.headers.insert("cookie", header.parse().unwrap());
        get(&mut bare, &wiki(&gateway)).await
    };
    let twice = "cookie-duplicate";
    for header in [
        format!("{SESSION}={own}; {SESSION}={evils}"),
        format!("{SESSION}={evils}; {SESSION}={own}"),
        format!("{SESSION}={own}; a=b; {SESSION}={own}"),
        format!("{SESSION}=; {SESSION}={own}"),
    ] {
        assert_refused(&send(header.clone()).await, twice, &header);
    }
    let long = "A".repeat(20_000);
    for header in [
        format!("{SESSION}="),
        SESSION.to_owned(),
        format!("{SESSION}={}", "A".repeat(43)),
        format!("{SESSION}={long}"),
        format!("{SESSION}={own}A"),
        format!("{SESSION}={}", &own[..own.len() - 1]),
        format!("{SESSION}={}", own.to_ascii_uppercase()),
        format!("{SESSION}=\"{own}\""),
        format!("{SESSION}={own}%00"),
        format!("__host-kerbgate={own}"),
        format!("__Secure-kerbgate={own}"),
        format!("kerbgate={own}"),
        format!("{BINDING}={own}"),
        format!("{SESSION}=' OR 1=1 --"),
        "=;=;;;= ; ".to_owned(),
    ] {
        let answer = send(header.clone()).await;
        let what = &header[..header.len().min(60)];
        assert!(redirect(&answer).is_some(), "{what}: like nobody");
        assert!(answer.remote_user().is_empty(), "{what}");
    }
    // The cookie of one host, shown to another, to the central one too.
    for host in ["other", "login"] {
        let mut thief = browser(&stage);
        thief
            .headers
            .insert("cookie", format!("{SESSION}={own}").parse().unwrap());
        let address: Url = gateway.url(host, "/.kerbgate/session").parse().unwrap();
        let answer = get(&mut thief, &address).await;
        assert_refused(&answer, "sign-in-required", host);
    }
    assert_eq!(backend.count(), before, "nothing of it reached the backend");
    let page = send(format!("a=b; {SESSION}={own}; c={long}")).await;
    assert_eq!(page.remote_user(), oid, "a long neighbor does no harm");
}

#[tokio::test]
async fn yesterdays_cookie_means_nothing_to_a_new_database() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let mut gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "yesterday").await;
    let url = gateway.url("wiki", "/echo");
    let mut visitor = browser(&stage);
    let page = visitor.open_as(&login, &url).await.unwrap();
    assert_eq!(page.remote_user(), oid);
    gateway.process.stop().await;

    // The same database: a restart signs nobody out.
    let mut gateway = stage.gateway().await;
    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "a restart signs nobody out");
    gateway.process.stop().await;

    for file in std::fs::read_dir(stage.path("state")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let _gateway = stage.gateway().await;
    let count = backend.count();
    let answer = get(&mut visitor, &url.parse().unwrap()).await;
    let to = redirect(&answer);
    assert!(to.is_some(), "to the sign-in, without a puzzle");
    assert_eq!(backend.count(), count);
    let page = visitor.open_as(&login, &url).await.unwrap();
    assert_eq!(
        page.remote_user(),
        oid,
        "and the sign-in works with the old cookies in place"
    );
}

#[tokio::test]
async fn every_sign_in_asks_with_pkce_state_and_nonce() {
    let (stage, _backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    order(&entra, "/settings", json!({"pkce_required": true})).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut visitor = browser(&stage);
        let page = visitor.open(&gateway.url("wiki", "/echo")).await.unwrap();
        let fields = crate::visitor::hidden_fields(&page.body);
        let asked = |name: &str| {
            let in_form = fields
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone());
            in_form.unwrap_or_else(|| query(&page.url, name))
        };
        assert_eq!(asked("code_challenge_method"), "S256");
        assert_eq!(asked("response_type"), "code");
        assert_eq!(
            asked("redirect_uri"),
            gateway.url("login", "/.kerbgate/callback")
        );
        for name in ["state", "nonce", "code_challenge"] {
            let value = asked(name);
            assert!(value.len() >= 43, "{name} = {value:?}");
            assert!(!seen.contains(&value), "{name} is new each time");
            seen.push(value);
        }
    }
}

#[tokio::test]
async fn a_callback_by_somebody_who_is_in_does_no_harm() {
    let (stage, _backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = guest(&entra, "is-in").await;
    let (attacker, _) = guest(&entra, "lures").await;
    let url = gateway.url("wiki", "/echo");
    let mut visitor = browser(&stage);
    visitor.open_as(&login, &url).await.unwrap();
    let mut evil = browser(&stage);
    let callback = to_callback(&mut evil, &attacker, &url).await;
    assert_refused(&get(&mut visitor, &callback).await, STATE, "lured");
    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "still oneself");
    // HEAD and POST are no way to the callback.
    for method in [Method::POST, Method::HEAD, Method::PUT] {
        let answer = evil.once(method.clone(), &callback, None).await.unwrap();
        assert_refused(&answer, "method-refused", method.as_str());
        assert_eq!(answer.body.is_empty(), method == Method::HEAD, "{method}");
    }
}
