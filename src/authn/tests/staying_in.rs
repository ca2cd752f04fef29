//! Sessions after the sign-in: how they go on, and how they end.

use super::*;

#[tokio::test]
async fn a_session_is_worth_nothing_on_another_host_or_in_another_guise() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    let wiki = browser.jar["wiki.example.com"].clone();
    let mut thief = Browser::default();
    thief
        .jar
        .insert("intranet.example.com".to_owned(), wiki.clone());
    let intranet = "https://intranet.example.com/".parse().unwrap();
    let shown = thief.request(&world, "GET", &intranet, SCRIPT).await;
    assert_eq!(shown.code(), Code::SignInRequired);
    for garbage in ["", "x", &"A".repeat(43), &"A".repeat(5000), "\"quoted\""] {
        let mut jar = wiki.clone();
        jar.insert(cookie::SESSION.to_owned(), garbage.to_owned());
        thief.jar.insert("wiki.example.com".to_owned(), jar);
        let shown = thief
            .request(&world, "GET", &WIKI.parse().unwrap(), SCRIPT)
            .await;
        assert_eq!(shown.code(), Code::SignInRequired, "{garbage:.20}");
    }
    let mut head = browser.head("GET", &WIKI.parse().unwrap(), PAGE);
    head.headers
        .append("cookie", "__Host-kerbgate=planted".parse().unwrap());
    let Err(Stop::Deny(denial)) = world.authn.identify(&head, &app("wiki"), "/").await else {
        panic!("accepted");
    };
    assert_eq!(denial.code, Code::CookieDuplicate);
}

#[tokio::test]
async fn sessions_outlive_a_restart_and_end_when_idle_or_old() {
    let mut world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    world.later(200);
    browser.get(&world, WIKI).await.user();
    // A use is noted in the store within the minute; wait for that write.
    let id = store_id(&browser);
    while world.store.session(&id).await.unwrap().unwrap().0.last_seen < NOW + 200 {
        tokio::task::yield_now().await;
    }
    world.later(200 + 8 * 3600 - 1);
    browser.get(&world, WIKI).await.user();
    while world.store.session(&id).await.unwrap().unwrap().0.last_seen < NOW + 8 * 3600 {
        tokio::task::yield_now().await;
    }
    // The last second of the idle time was used above; asking again there would be one more use.
    for (seconds, headers) in [(199 + 16 * 3600, SCRIPT), (24 * 3600, SCRIPT)] {
        world.later(seconds);
        let shown = browser
            .request(&world, "GET", &WIKI.parse().unwrap(), headers)
            .await;
        assert_eq!(shown.code(), Code::SessionExpired, "{seconds}");
    }
    // A page navigation simply signs in again.
    browser.visit(&world, WIKI, &jane()).await.user();
    assert_eq!(world.issuer.state().visits, 2);
}

fn store_id(browser: &Browser) -> IdHash {
    IdHash::of(&browser.jar["wiki.example.com"][cookie::SESSION])
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_within_the_recheck_time() {
    let mut world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    world.issuer.state().override_claims = json!({"roles": [], "sid": null});
    world.later(239);
    let user = browser.get(&world, WIKI).await.user();
    assert_eq!(
        (user.claims().roles.len(), world.issuer.state().renewals),
        (1, 0)
    );
    // Due soon: renewed behind the request.
    world.later(240);
    browser.get(&world, WIKI).await.user();
    while world.issuer.state().renewals == 0 {
        tokio::task::yield_now().await;
    }
    // Overdue: renewed before the request goes on; many at once ask once.
    world.later(900);
    let before = world.issuer.state().renewals;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let authn = world.authn.clone();
        let head = browser.head("GET", &WIKI.parse().unwrap(), SCRIPT);
        requests.spawn(async move { authn.identify(&head, &app("wiki"), "/").await.unwrap() });
    }
    for user in requests.join_all().await {
        assert!(user.claims().roles.is_empty());
        assert_eq!(
            user.claims().session_id.as_deref(),
            Some("sid-jane"),
            "kept"
        );
    }
    assert_eq!(world.issuer.state().renewals, before + 1);
}

#[tokio::test]
async fn a_disabled_person_is_out_everywhere_within_the_recheck_time() {
    let mut world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    let intranet = "https://intranet.example.com:8443/";
    browser.visit(&world, intranet, &jane()).await.user();
    world.issuer.state().refuse = Some(("invalid_grant", 50_057));
    world.later(300);
    let mut news = world.authn.ended();
    assert_eq!(browser.get(&world, WIKI).await.code(), Code::PersonDisabled);
    let told = news.recv().await.unwrap();
    assert_eq!(told.reason, EndReason::PersonDisabled);
    assert_eq!(told.sessions.len(), 3, "central, wiki, intranet");
    let shown = browser
        .request(&world, "GET", &intranet.parse().unwrap(), SCRIPT)
        .await;
    assert_eq!(shown.code(), Code::SessionEnded);
    assert_eq!(
        browser.visit(&world, intranet, &jane()).await.code(),
        Code::SignInRefused
    );
}

#[tokio::test]
async fn what_ends_on_another_replica_is_heard_of_here() {
    let world = World::new().await;
    let other = build(&world.issuer, &world.store, world.dir.path(), NOW);
    let mut ended = world.authn.ended();
    let hear = async || {
        let mut changed = BTreeSet::new();
        let inner = &world.authn.inner;
        inner.sessions.ask_for_news(&mut changed).await.unwrap();
        inner.tell_of_ends(&mut changed).await;
        assert!(changed.is_empty(), "the store answers");
    };
    hear().await;
    let mut browser = Browser::default();
    let user = browser.visit(&world, WIKI, &jane()).await.user();
    let intranet = "https://intranet.example.com:8443/";
    browser.visit(&world, intranet, &jane()).await.user();

    // One session, then the sign-in with all of them.
    let session = store_id(&browser);
    world.store.remove_session(&session).await.unwrap();
    browser.get(&world, WIKI).await.user(); // believed as yet
    hear().await;
    let wiki = WIKI.parse().unwrap();
    let shown = browser.request(&world, "GET", &wiki, SCRIPT).await;
    assert_eq!(shown.code(), Code::SignInRequired);
    browser.get(&world, intranet).await.user();
    other
        .end_person(user.claims().person, EndReason::Administrator)
        .await
        .unwrap();
    let last = browser.get(&world, intranet).await.user();
    assert!(ended.try_recv().is_err(), "nothing has ended here");
    hear().await;
    // Whoever keeps tickets and connections of the person here drops them, too.
    let told = ended.try_recv().unwrap();
    assert_eq!(told.person, user.claims().person);
    assert_eq!(told.reason, EndReason::Administrator);
    assert!(told.sessions.contains(&last.session_key()));
    assert!(ended.try_recv().is_err(), "told once");
    let intranet = intranet.parse().unwrap();
    let shown = browser.request(&world, "GET", &intranet, SCRIPT).await;
    assert_eq!(shown.code(), Code::SessionEnded);
}

#[tokio::test]
async fn a_dead_issuer_is_borne_for_the_grace_time_only() {
    let mut world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    world.issuer.state().down = true;
    world.later(3899);
    browser.get(&world, WIKI).await.user();
    world.later(3900);
    assert_eq!(
        browser.get(&world, WIKI).await.code(),
        Code::IssuerUnreachable
    );
    assert_eq!(
        Browser::default().visit(&world, WIKI, &jane()).await.code(),
        Code::IssuerUnreachable
    );
    world.issuer.state().down = false;
    // Our own registration failing is nobody's disabling either.
    world.issuer.state().refuse = Some(("invalid_client", 7_000_222));
    world.later(3000);
    browser.get(&world, WIKI).await.user();
    world.issuer.state().refuse = None;
    world.later(3901);
    browser.get(&world, WIKI).await.user();
}

#[tokio::test]
async fn a_dead_store_lets_known_sessions_go_on_and_nobody_new_in() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    world.store.close().await;
    browser.get(&world, WIKI).await.user();
    assert_eq!(
        Browser::default().get(&world, WIKI).await.code(),
        Code::StoreUnavailable
    );
    let mut unknown = browser.clone();
    let jar = unknown.jar.get_mut("wiki.example.com").unwrap();
    jar.insert(cookie::SESSION.to_owned(), "A".repeat(43));
    assert_eq!(
        unknown.get(&world, WIKI).await.code(),
        Code::StoreUnavailable
    );
    assert_eq!(
        unknown.jar["wiki.example.com"][cookie::SESSION],
        "A".repeat(43),
        "not cleared"
    );
}

#[tokio::test]
async fn signing_out_ends_every_host_and_the_issuers_session() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    browser
        .visit(&world, "https://intranet.example.com:8443/", &jane())
        .await
        .user();
    let out: Url = "https://wiki.example.com:8443/.kerbgate/signout"
        .parse()
        .unwrap();
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(
        browser.request(&world, "POST", &out, &foreign).await.code(),
        Code::ForeignOrigin
    );
    let image = [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-dest", "image"),
    ];
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    for headers in [&image[..], &link[..], &[][..]] {
        let shown = browser.request(&world, "GET", &out, headers).await;
        assert!(matches!(shown, Shown::Answer(_)), "asked first");
    }
    browser.get(&world, WIKI).await.user();
    let before = browser.clone();
    let own = [("origin", "https://wiki.example.com:8443")];
    let to = browser.request(&world, "POST", &out, &own).await.redirect();
    let query: HashMap<_, _> = to.query_pairs().into_owned().collect();
    assert_eq!(query["logout_hint"], "O.jane");
    assert_eq!(
        query["post_logout_redirect_uri"],
        "https://login.example.com/.kerbgate/signed-out"
    );
    assert!(
        browser.jar["wiki.example.com"].is_empty(),
        "cookies cleared"
    );
    for (host, mut old) in [("wiki", before.clone()), ("intranet", before.clone())] {
        let url = format!("https://{host}.example.com:8443/").parse().unwrap();
        let shown = old.request(&world, "GET", &url, SCRIPT).await;
        assert_eq!(shown.code(), Code::SessionEnded, "{host}");
    }
    // The central sign-in is gone too: a page navigation goes to the issuer again.
    browser.visit(&world, WIKI, &jane()).await.user();
    assert_eq!(world.issuer.state().visits, 2);
}

#[tokio::test]
async fn the_issuer_can_sign_a_session_out_and_nobody_else() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    let base = format!("https://{CENTRAL}/.kerbgate/frontchannel-logout");
    let iss = format!("{}/v2.0", world.issuer.base());
    let mut frame = Browser::default();
    for bad in [
        base.clone(),
        format!("{base}?sid=sid-jane"),
        format!("{base}?iss={iss}"),
        format!("{base}?iss=https://evil.example&sid=sid-jane"),
        format!("{base}?iss={iss}&sid="),
        format!("{base}?iss={iss}&sid={}", "x".repeat(300)),
    ] {
        assert_eq!(
            frame.get(&world, &bad).await.code(),
            Code::BadRequest,
            "{bad}"
        );
    }
    let doubled = format!("{base}?iss={iss}&sid=sid-jane&sid=x");
    assert_eq!(
        frame.get(&world, &doubled).await.code(),
        Code::SignInParameterDuplicate
    );
    browser.get(&world, WIKI).await.user();
    for sid in ["unknown", "sid-jane"] {
        let shown = frame
            .get(&world, &format!("{base}?iss={iss}&sid={sid}"))
            .await;
        let Shown::Answer(response) = shown else {
            panic!("{shown:?}");
        };
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    }
    let shown = browser
        .request(&world, "GET", &WIKI.parse().unwrap(), SCRIPT)
        .await;
    assert_eq!(shown.code(), Code::SessionEnded);
}

#[tokio::test]
async fn an_access_token_decides_alone() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    let mut api = app("wiki");
    let good = world
        .issuer
        .token(&json!({"aud": "api://kerbgate", "scp": "access"}));
    let foreign = world
        .issuer
        .token(&json!({"aud": "api://other", "scp": "access"}));
    let app_only = world
        .issuer
        .token(&json!({"aud": "api://kerbgate", "idtyp": "app"}));
    let v1 = world.issuer.token(&json!({
        "aud": "api://kerbgate", "scp": "access", "ver": "1.0", "iss": format!("{}/v1/", world.issuer.base()),
    }));
    let identify = |app: Application, token: String, cookies: bool| {
        let browser = if cookies {
            browser.clone()
        } else {
            Browser::default()
        };
        let bearer = format!("Bearer {token}");
        let head = browser.head("GET", &WIKI.parse().unwrap(), &[("authorization", &bearer)]);
        let authn = world.authn.clone();
        async move {
            match authn.identify(&head, &app, "/").await {
                Ok(user) => Ok(user),
                Err(Stop::Deny(denial)) => Err(denial.code),
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    // Not accepted here: without a session that is said, with one the token is not looked at.
    let refused = identify(api.clone(), good.clone(), false).await;
    assert_eq!(refused.unwrap_err(), Code::BearerNotAccepted);
    let by_cookie = identify(api.clone(), "garbage".to_owned(), true)
        .await
        .unwrap();
    assert!(matches!(by_cookie.via(), Via::Session { .. }));
    api.bearer_audiences = vec!["api://kerbgate".to_owned()];
    for token in [&good, &v1] {
        let user = identify(api.clone(), token.clone(), true).await.unwrap();
        assert!(matches!(user.via(), Via::Bearer { expires } if expires > 0));
    }
    // A bad token never falls back to the session beside it.
    for (token, wanted) in [
        ("garbage".to_owned(), Code::TokenMalformed),
        (String::new(), Code::TokenMalformed),
        (foreign, Code::TokenAudienceWrong),
        (app_only, Code::TokenWithoutPerson),
        (format!("{}x", good), Code::TokenMalformed),
    ] {
        let found = identify(api.clone(), token.clone(), true).await;
        assert_eq!(found.unwrap_err(), wanted, "{token:.30}");
    }
}

#[tokio::test]
async fn changes_from_another_sites_page_are_refused() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    let url: Url = WIKI.parse().unwrap();
    let evil = [
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example.com"),
    ];
    assert_eq!(
        browser.request(&world, "POST", &url, &evil).await.code(),
        Code::ForeignOrigin
    );
    let own = [
        ("sec-fetch-site", "same-origin"),
        ("origin", "https://wiki.example.com:8443"),
    ];
    browser.request(&world, "POST", &url, &own).await.user();
    let status: Url = "https://wiki.example.com:8443/.kerbgate/session"
        .parse()
        .unwrap();
    let Shown::Answer(response) = browser.request(&world, "GET", &status, SCRIPT).await else {
        panic!("no status");
    };
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status["name"], "Jane Doe");
    assert_eq!(status["expires_in"], 24 * 3600);
}

#[test]
fn nothing_secret_shows_in_debug() {
    let ring = Keyring::from_secrets(&Secret::new("canary-".repeat(8)), None).unwrap();
    assert!(!format!("{ring:?}").contains("canary"));
}
