//! Whole sign-ins: a browser of our own, a real store, an issuer behind real TLS.

mod signing_in;
mod staying_in;

use std::collections::HashMap;
use std::path::Path;

use http::Request;
use http::StatusCode;
use http::header;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::model::secret::Secret;
use crate::oidc::test_issuer::NOW;
use crate::oidc::test_issuer::TestIssuer;
use crate::pages::Brand;
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
        pages: Pages::new(Brand::default()),
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
        ..Application::sample()
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
            Err(Stop::Deny(denial) | Stop::Later { denial, .. }) => {
                return Shown::Stopped(denial.code);
            }
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

    /// From the central host to the answer that sets the session cookie, which is then not shown to anybody.
    async fn as_far_as_the_cookie(&mut self, world: &World, central: &Url) {
        let mut next = self.get(world, central.as_str()).await.redirect();
        if next.as_str().starts_with(world.issuer.base()) {
            let back = world.issuer.authorize(&next, &jane());
            next = self.get(world, back.as_str()).await.redirect();
        }
        self.get(world, next.as_str()).await.redirect();
    }

    /// As far as the issuer's page.
    async fn reach_issuer(&mut self, world: &World, url: &str) -> Url {
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
