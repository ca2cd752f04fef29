//! The way to the issuer and back, walked rightly and wrongly.

use super::*;

#[tokio::test]
async fn one_sign_in_serves_every_host_and_ends_where_it_began() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let Shown::App(user, url) = browser.visit(&world, WIKI, &jane()).await else {
        panic!("not in");
    };
    assert_eq!(url.as_str(), WIKI);
    assert_eq!(user.claims().roles, ["Intranet.User"]);
    let other = browser
        .visit(&world, "https://intranet.example.com:8443/x", &jane())
        .await
        .user();
    assert_eq!(world.issuer.state().visits, 1, "one visit at the issuer");
    assert_ne!(user.session_key(), other.session_key());
    assert_eq!(user.to_owned().via(), other.via(), "the same sign-in");
    // Nothing that a browser holds lies in the database, nor anything that opens something at the issuer.
    for name in ["kerbgate.db", "kerbgate.db-wal"] {
        let bytes = std::fs::read(world.dir.path().join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let mut secrets: Vec<_> = browser.jar.values().flat_map(HashMap::values).collect();
        let canary = "-canary".to_owned();
        secrets.push(&canary);
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())));
    }
}

#[tokio::test]
async fn five_tabs_at_once_all_end_where_they_began() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let started: Vec<String> = (0..5)
        .map(|n| {
            format!(
                "https://{}.example.com:8443/tab/{n}?n={n}",
                ["wiki", "intranet"][n % 2]
            )
        })
        .collect();
    let mut at_issuer = Vec::new();
    for url in &started {
        at_issuer.push(browser.reach_issuer(&world, url).await);
    }
    let callbacks: Vec<Url> = at_issuer
        .iter()
        .map(|url| world.issuer.authorize(url, &jane()))
        .collect();
    // All five callbacks leave the browser with the cookies of this moment: nobody is signed in yet.
    let before = browser.clone();
    let mut hand_overs = Vec::new();
    for url in callbacks.iter().rev() {
        let mut tab = before.clone();
        hand_overs.push(tab.get(&world, url.as_str()).await.redirect());
        browser
            .jar
            .insert(CENTRAL.to_owned(), tab.jar[CENTRAL].clone());
    }
    hand_overs.reverse();
    let mut sign_ins = Vec::new();
    for (url, hand_over) in started.iter().zip(hand_overs) {
        let Shown::App(user, shown) = browser.visit(&world, hand_over.as_str(), &jane()).await
        else {
            panic!("{url}");
        };
        assert_eq!(shown.as_str(), url);
        sign_ins.push(format!("{:?}", user.via()));
    }
    sign_ins.dedup();
    assert_eq!(
        sign_ins.len(),
        1,
        "all tabs share one sign-in: {sign_ins:?}"
    );
}

#[tokio::test]
async fn a_callback_counts_once_and_for_its_own_browser() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let url = browser.reach_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane());
    // Another browser, with and without a sign-in of its own under way.
    let mut victim = Browser::default();
    assert_eq!(
        victim.get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
    let own = victim.reach_issuer(&world, WIKI).await;
    assert_eq!(
        victim.get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
    // That attempt has burnt the state; the first browser begins again.
    assert_eq!(
        browser.get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
    let url = browser.reach_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane());
    // Swapped state: the code of one sign-in under the state of another.
    let theirs = world.issuer.authorize(&own, &jane());
    let query: HashMap<_, _> = theirs.query_pairs().into_owned().collect();
    let swapped = back.as_str().replace(
        &back
            .query_pairs()
            .find(|(k, _)| k == "code")
            .unwrap()
            .1
            .into_owned(),
        &query["code"],
    );
    assert_eq!(
        browser.clone().get(&world, &swapped).await.code(),
        Code::SignInCodeRefused
    );
    // A replay by somebody who is in goes on; by somebody who is not, it is refused.
    let mut fresh = Browser::default();
    let url = fresh.reach_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane());
    let not_in = fresh.clone();
    let hand_over = fresh.get(&world, back.as_str()).await.redirect();
    let again = fresh.get(&world, back.as_str()).await.redirect();
    assert_ne!(hand_over, again);
    assert_eq!(again.path(), OwnPath::SignIn.as_str());
    assert_eq!(
        not_in.clone().get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
}

#[tokio::test]
async fn tampered_and_doubled_parameters_are_refused() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let url = browser.reach_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane()).to_string();
    let base = format!("https://{CENTRAL}/.kerbgate/callback");
    for (query, wanted) in [
        (format!("{back}&state=x"), Code::SignInParameterDuplicate),
        (format!("{back}&code=x"), Code::SignInParameterDuplicate),
        (
            format!("{back}&error=x&error=y"),
            Code::SignInParameterDuplicate,
        ),
        (
            format!("{back}&iss=a&iss=b"),
            Code::SignInParameterDuplicate,
        ),
        (base.clone(), Code::SignInStateUnknown),
        (format!("{base}?code=x"), Code::SignInStateUnknown),
        (format!("{base}?state=&code=x"), Code::SignInStateUnknown),
        (
            format!("{base}?state={}&code=x", "A".repeat(43)),
            Code::SignInStateUnknown,
        ),
        (
            format!("{base}?state=%00%ff&code=x"),
            Code::SignInStateUnknown,
        ),
        (
            format!("https://{CENTRAL}/.kerbgate/signin?id=unknown"),
            Code::SignInStateUnknown,
        ),
        (
            format!("https://{CENTRAL}/.kerbgate/signin?id=a&id=b"),
            Code::SignInParameterDuplicate,
        ),
        (
            "https://wiki.example.com/.kerbgate/callback?state=x".to_owned(),
            Code::PathUnknown,
        ),
        (
            "https://wiki.example.com/.kerbgate/signin?id=x".to_owned(),
            Code::SignInStateUnknown,
        ),
        (
            "https://wiki.example.com/.kerbgate/signin?code=x".to_owned(),
            Code::HandoverRefused,
        ),
    ] {
        assert_eq!(browser.get(&world, &query).await.code(), wanted, "{query}");
    }
    // None of these has spent the sign-in.
    browser.visit(&world, &back, &jane()).await.user();
}

#[tokio::test]
async fn the_issuers_refusals_keep_their_reason() {
    let world = World::new().await;
    for (query, wanted) in [
        (
            "error=access_denied&error_description=AADSTS50057: jane",
            Code::SignInRefused,
        ),
        ("error=temporarily_unavailable", Code::IssuerUnreachable),
        ("code=x&iss=https://evil.example", Code::TokenIssuerWrong),
        ("session_state=x", Code::BadRequest),
        ("code=never-issued", Code::SignInCodeRefused),
    ] {
        let mut browser = Browser::default();
        let url = browser.reach_issuer(&world, WIKI).await;
        let state = url
            .query_pairs()
            .find(|(k, _)| k == "state")
            .unwrap()
            .1
            .into_owned();
        let back = format!("https://{CENTRAL}/.kerbgate/callback?state={state}&{query}");
        assert_eq!(browser.get(&world, &back).await.code(), wanted, "{query}");
        assert!(!browser.jar[CENTRAL].contains_key(cookie::SESSION));
    }
    for (change, wanted) in [
        (json!({"nonce": "other"}), Code::TokenNonceWrong),
        (json!({"aud": "other"}), Code::TokenAudienceWrong),
        (
            json!({"tid": "dddddddd-0000-4000-8000-00000000000d"}),
            Code::TokenIssuerWrong,
        ),
        (json!({"oid": null}), Code::TokenMalformed),
        (json!({"exp": NOW - 301}), Code::TokenExpired),
        (json!({"nbf": NOW + 301}), Code::TokenNotYetValid),
    ] {
        world.issuer.state().override_claims = change.clone();
        let shown = Browser::default().visit(&world, WIKI, &jane()).await;
        assert_eq!(shown.code(), wanted, "{change}");
    }
    world.issuer.state().override_claims = json!({});
    world.issuer.state().refuse = Some(("invalid_grant", 50_057));
    assert_eq!(
        Browser::default().visit(&world, WIKI, &jane()).await.code(),
        Code::SignInRefused
    );
    world.issuer.state().refuse = Some(("invalid_client", 7_000_215));
    let shown = Browser::default().visit(&world, WIKI, &jane()).await;
    assert_eq!(shown.code(), Code::IssuerMisconfigured);
}

#[tokio::test]
async fn a_hand_over_code_opens_one_host_for_one_browser_once() {
    let mut world = World::new().await;
    let mut browser = Browser::default();
    let url = browser.reach_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane());
    let code = browser.get(&world, back.as_str()).await.redirect();
    // Leaked to another browser: refused, and spent.
    let mut other = Browser::default();
    let _own = other.reach_issuer(&world, WIKI).await;
    assert_eq!(
        other.get(&world, code.as_str()).await.code(),
        Code::HandoverRefused
    );
    assert_eq!(
        browser.get(&world, code.as_str()).await.code(),
        Code::HandoverRefused
    );
    // On another host.
    let code = browser.get(&world, back.as_str()).await.redirect();
    let elsewhere = code.as_str().replace("wiki", "intranet");
    let moved = browser.jar["wiki.example.com"].clone();
    browser.jar.insert("intranet.example.com".to_owned(), moved);
    assert_eq!(
        browser.get(&world, &elsewhere).await.code(),
        Code::HandoverRefused
    );
    // Redeemed, then loaded again: no puzzle for somebody who is in.
    let code = browser.get(&world, back.as_str()).await.redirect();
    browser.visit(&world, code.as_str(), &jane()).await.user();
    assert_eq!(
        browser.get(&world, code.as_str()).await.redirect().path(),
        "/"
    );
    // Too old.
    let code = browser.get(&world, back.as_str()).await.redirect();
    browser
        .jar
        .get_mut("wiki.example.com")
        .unwrap()
        .remove(cookie::SESSION);
    world.later(61);
    assert_eq!(
        browser.get(&world, code.as_str()).await.code(),
        Code::HandoverRefused
    );
}

#[tokio::test]
async fn programs_get_401_and_no_state_and_forms_are_not_lost_in_silence() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let url: Url = WIKI.parse().unwrap();
    for headers in [
        SCRIPT,
        &[("x-requested-with", "XMLHttpRequest")],
        &[("accept", "*/*")],
    ] {
        let shown = browser.request(&world, "GET", &url, headers).await;
        assert_eq!(shown.code(), Code::SignInRequired);
    }
    assert_eq!(
        browser.request(&world, "POST", &url, PAGE).await.code(),
        Code::SessionExpired
    );
    assert!(browser.jar.is_empty(), "no cookie");
    let pending = world.store.sweep(NOW + 100_000, 100).await.unwrap();
    assert_eq!(pending, 0, "no state");
}

#[tokio::test]
async fn another_person_in_the_same_browser_ends_the_first_one() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    // A tab that went to the issuer before, and signs in as somebody else there.
    let mut tab = Browser::default();
    let url = tab
        .reach_issuer(&world, "https://intranet.example.com:8443/")
        .await;
    let binding = tab.jar[CENTRAL][cookie::BINDING].clone();
    browser
        .jar
        .get_mut(CENTRAL)
        .unwrap()
        .insert(cookie::BINDING.to_owned(), binding);
    browser.jar.insert(
        "intranet.example.com".to_owned(),
        tab.jar["intranet.example.com"].clone(),
    );
    let old = browser.jar[CENTRAL][cookie::SESSION].clone();
    let marco = json!({"oid": "11111111-0000-4000-8000-000000000002", "sid": "sid-marco"});
    let back = world.issuer.authorize(&url, &marco);
    let user = browser.visit(&world, back.as_str(), &marco).await.user();
    assert!(user.claims().person.oid.to_string().ends_with("0002"));
    assert_ne!(browser.jar[CENTRAL][cookie::SESSION], old, "a new id");
    let shown = browser
        .request(&world, "GET", &WIKI.parse().unwrap(), SCRIPT)
        .await;
    assert_eq!(shown.code(), Code::SessionEnded, "jane is out");
    let user = browser.visit(&world, WIKI, &marco).await.user();
    assert!(user.claims().person.oid.to_string().ends_with("0002"));
}

#[tokio::test]
async fn a_browser_that_drops_the_session_cookie_is_stopped_after_three_rounds() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let mut rounds = 0;
    let code = loop {
        browser
            .jar
            .entry("wiki.example.com".to_owned())
            .or_default()
            .remove(cookie::SESSION);
        match browser.get(&world, WIKI).await {
            Shown::Stopped(code) => break code,
            Shown::Redirect(central) => browser.as_far_as_the_cookie(&world, &central).await,
            other => panic!("{other:?}"),
        }
        rounds += 1;
    };
    assert_eq!((code, rounds), (Code::SignInLoop, 3));
    // With the cookie kept, the next try works.
    browser.visit(&world, WIKI, &jane()).await.user();
}
