//! Whole sign-ins: a browser of our own, a real store, an issuer behind real TLS.

use std::collections::HashMap;
use std::path::Path;

use http::Request;
use http::StatusCode;
use http::header;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::model::application::Access;
use crate::model::application::Limits;
use crate::model::application::Sso;
use crate::model::secret::Secret;
use crate::oidc::test_issuer::NOW;
use crate::oidc::test_issuer::TestIssuer;
use crate::store::sqlite::SqliteStore;

const CENTRAL: &str = "login.example.com";
const PAGE: &[(&str, &str)] = &[
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];
const SCRIPT: &[(&str, &str)] = &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];

struct World {
    issuer: TestIssuer,
    store: SqliteStore,
    dir: tempfile::TempDir,
    authn: Authn,
}

impl World {
    async fn new() -> Self {
        let issuer = TestIssuer::start().await;
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("kerbgate.db"))
            .await
            .unwrap();
        let authn = build(&issuer, &store, dir.path(), NOW);
        Self {
            issuer,
            store,
            dir,
            authn,
        }
    }

    /// The gateway restarted, so many seconds later.
    fn later(&mut self, seconds: i64) {
        self.authn = build(&self.issuer, &self.store, self.dir.path(), NOW + seconds);
    }
}

fn build(test: &TestIssuer, store: &SqliteStore, dir: &Path, now: i64) -> Authn {
    let url = format!("https://{CENTRAL}/").parse().unwrap();
    let issuer = Issuer::new(test.settings(), Clock::Fixed(now)).unwrap();
    Authn::new(Needs {
        settings: Settings::new(url, CENTRAL.parse().unwrap()),
        store: Arc::new(store.clone()),
        issuer: Arc::new(issuer),
        keyring: Keyring::from_file(&dir.join("seal.key")).unwrap(),
        clock: Clock::Fixed(now),
    })
}

fn app(name: &str) -> Application {
    let host = format!("{name}.example.com");
    Application {
        id: name.parse().unwrap(),
        name: name.to_owned(),
        host: host.parse().unwrap(),
        prefix: "/".to_owned(),
        published_url: format!("https://{host}:8443/").parse().unwrap(),
        backends: Vec::new(),
        owner: None,
        keep_host: false,
        access: Access::default(),
        sso: Sso::None,
        limits: Limits {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            max_body: 0,
        },
        bearer_audiences: Vec::new(),
    }
}

/// Cookies by host.
#[derive(Clone, Default)]
struct Browser {
    jar: HashMap<String, HashMap<String, String>>,
}

#[derive(Debug)]
enum Shown {
    App(AuthenticatedUser, Url),
    Redirect(Url),
    Answer(Response<Body>),
    Stopped(Code),
}

impl Shown {
    fn code(self) -> Code {
        match self {
            Self::Stopped(code) => code,
            other => panic!("{other:?}"),
        }
    }

    fn redirect(self) -> Url {
        match self {
            Self::Redirect(url) => url,
            other => panic!("{other:?}"),
        }
    }

    fn user(self) -> AuthenticatedUser {
        match self {
            Self::App(user, _) => user,
            other => panic!("{other:?}"),
        }
    }
}

impl Browser {
    fn head(&self, method: &str, url: &Url, headers: &[(&str, &str)]) -> Parts {
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = Request::builder().method(method).uri(path);
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        request = request.header("host", format!("{}{port}", url.host_str().unwrap()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(cookies) = self.jar.get(url.host_str().unwrap()) {
            let all: Vec<_> = cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
            request = request.header("cookie", all.join("; "));
        }
        request.body(()).unwrap().into_parts().0
    }

    fn keep(&mut self, url: &Url, response: &Response<Body>) {
        let jar = self
            .jar
            .entry(url.host_str().unwrap().to_owned())
            .or_default();
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (name, rest) = text.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if text.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn show(&mut self, url: &Url, result: Result<Response<Body>, Stop>) -> Shown {
        let response = match result {
            Ok(response) => response,
            Err(Stop::Reply(response)) => *response,
            Err(Stop::Deny(denial)) => return Shown::Stopped(denial.code),
            Err(Stop::Fail(fault)) => return Shown::Stopped(fault.code),
            Err(Stop::Wait { .. }) => panic!("wait"),
        };
        self.keep(url, &response);
        match response.headers().get(header::LOCATION) {
            Some(to) => {
                assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
                assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
                Shown::Redirect(url.join(to.to_str().unwrap()).unwrap())
            }
            None => Shown::Answer(response),
        }
    }

    async fn request(
        &mut self,
        world: &World,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
    ) -> Shown {
        let host: HostName = url.host_str().unwrap().parse().unwrap();
        let head = self.head(method, url, headers);
        if let Some(rest) = url.path().strip_prefix("/.kerbgate/") {
            let path = OwnPath::parse(rest).unwrap();
            let answer = world.authn.own_path(path, &head, Bytes::new(), &host).await;
            return self.show(url, answer);
        }
        let app = app(url.host_str().unwrap().split('.').next().unwrap());
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        match world.authn.identify(&head, &app, target).await {
            Ok(user) => Shown::App(user, url.clone()),
            Err(stop) => self.show(url, Err(stop)),
        }
    }

    async fn get(&mut self, world: &World, url: &str) -> Shown {
        self.request(world, "GET", &url.parse().unwrap(), PAGE)
            .await
    }

    /// Follows redirects until something is shown; `claims` sign in at the issuer.
    async fn visit(&mut self, world: &World, url: &str, claims: &Value) -> Shown {
        let mut url: Url = url.parse().unwrap();
        for _ in 0..12 {
            url = match self.request(world, "GET", &url, PAGE).await {
                Shown::Redirect(to) if to.as_str().starts_with(world.issuer.base()) => {
                    world.issuer.authorize(&to, claims)
                }
                Shown::Redirect(to) => to,
                other => return other,
            };
        }
        panic!("redirects without end");
    }

    /// As far as the issuer's page.
    async fn to_issuer(&mut self, world: &World, url: &str) -> Url {
        let central = self.get(world, url).await.redirect();
        let issuer = self.get(world, central.as_str()).await.redirect();
        assert!(issuer.as_str().starts_with(world.issuer.base()), "{issuer}");
        issuer
    }
}

fn jane() -> Value {
    json!({})
}

const WIKI: &str = "https://wiki.example.com:8443/a/b?c=d%20e";

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
        at_issuer.push(browser.to_issuer(&world, url).await);
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
    let url = browser.to_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane());
    // Another browser, with and without a sign-in of its own under way.
    let mut victim = Browser::default();
    assert_eq!(
        victim.get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
    let own = victim.to_issuer(&world, WIKI).await;
    assert_eq!(
        victim.get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
    // That attempt has burnt the state; the first browser begins again.
    assert_eq!(
        browser.get(&world, back.as_str()).await.code(),
        Code::SignInStateUnknown
    );
    let url = browser.to_issuer(&world, WIKI).await;
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
    let url = fresh.to_issuer(&world, WIKI).await;
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
    let url = browser.to_issuer(&world, WIKI).await;
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
        let url = browser.to_issuer(&world, WIKI).await;
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
    let url = browser.to_issuer(&world, WIKI).await;
    let back = world.issuer.authorize(&url, &jane());
    let code = browser.get(&world, back.as_str()).await.redirect();
    // Leaked to another browser: refused, and spent.
    let mut other = Browser::default();
    let _own = other.to_issuer(&world, WIKI).await;
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
    for (seconds, headers, wanted) in [
        (198 + 16 * 3600, SCRIPT, None),
        (199 + 16 * 3600, SCRIPT, Some(Code::SessionExpired)),
        (24 * 3600, SCRIPT, Some(Code::SessionExpired)),
    ] {
        world.later(seconds);
        let shown = browser
            .request(&world, "GET", &WIKI.parse().unwrap(), headers)
            .await;
        match wanted {
            None => drop(shown.user()),
            Some(code) => assert_eq!(shown.code(), code, "{seconds}"),
        }
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
async fn another_person_in_the_same_browser_ends_the_first_one() {
    let world = World::new().await;
    let mut browser = Browser::default();
    browser.visit(&world, WIKI, &jane()).await.user();
    // A tab that went to the issuer before, and signs in as somebody else there.
    let mut tab = Browser::default();
    let url = tab
        .to_issuer(&world, "https://intranet.example.com:8443/")
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
            Shown::Redirect(central) => {
                let hand_over = match browser.get(&world, central.as_str()).await.redirect() {
                    url if url.as_str().starts_with(world.issuer.base()) => {
                        let back = world.issuer.authorize(&url, &jane());
                        browser.get(&world, back.as_str()).await.redirect()
                    }
                    url => url,
                };
                browser.get(&world, hand_over.as_str()).await.redirect();
            }
            other => panic!("{other:?}"),
        }
        rounds += 1;
    };
    assert_eq!((code, rounds), (Code::SignInLoop, 3));
    // With the cookie kept, the next try works.
    browser.visit(&world, WIKI, &jane()).await.user();
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
        assert_eq!(user.via(), Via::Bearer);
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
