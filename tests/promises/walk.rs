//! A sign-in hop by hop, so that a test can stop at any of them, copy it, or change it; and a backend that counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use http::Method;
use serde_json::Value;
use serde_json::json;
use url::Url;

use crate::lab::Entra;
use crate::lab::Stage;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::visitor::redirect;

/// The cookie of a session.
pub const SESSION: &str = "__Host-kerbgate";
/// The cookie that binds a sign-in to its browser.
pub const BINDING: &str = "__Host-kerbgate-signin";

/// A backend of one test's own: it remembers every request's headers, so that "nothing reached it" can be shown.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Backend {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    /// How many requests arrived.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The headers of every request that arrived.
    pub fn seen(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap().clone()
    }

    /// Publishes it as `id`: identity by object id, so that no directory is needed. `more` ends the file.
    pub fn publish(&self, stage: &Stage, id: &str, more: &str) {
        let url = stage.url(id, "/");
        let address = self.address;
        let text = format!(
            r#"name = "{id}"
published_url = "{url}"
backend_urls = ["http://{address}/"]
[access]
guests = "existing"
allow = [{{ role = "Wiki.User" }}, {{ group = "99999999-0000-4000-8000-000000000001" }}]
[sso.headers.set]
X-Remote-User = "object-id"
X-Remote-Roles = "roles"
{more}"#
        );
        std::fs::write(stage.path(&format!("apps/{id}.toml")), text).unwrap();
    }
}

async fn answer(
    State(seen): State<Arc<Mutex<Vec<HeaderMap>>>>,
    request: axum::extract::Request,
) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let user = head.headers.get("x-remote-user").cloned();
    seen.lock().unwrap().push(head.headers);
    // Like most applications it answers when it has heard everything.
    drop(axum::body::to_bytes(body, 1 << 20).await);
    let mut said = HeaderMap::new();
    if let Some(user) = user {
        said.insert("x-remote-user", user);
    }
    (said, "from the backend")
}

/// A world with one header application, `wiki`, before a backend of the test's own. `more` goes into the boot file.
pub async fn world(more: &str) -> (Stage, Backend) {
    let stage = Stage::new().await;
    for file in ["apps/intranet.toml", "apps/timesheet.toml"] {
        std::fs::remove_file(stage.path(file)).unwrap();
    }
    let backend = Backend::start().await;
    backend.publish(&stage, "wiki", "");
    stage.append("kerbgate.toml", more);
    (stage, backend)
}

/// A browser that knows nothing yet.
pub fn browser(stage: &Stage) -> Visitor {
    Visitor::new(&stage.lab.facts.ca, Speaks::Http2)
}

/// Opens `url` and signs in at the issuer; the address the issuer sends the browser to is returned, not opened.
pub async fn to_callback(visitor: &mut Visitor, login: &str, url: &str) -> Url {
    // The issuer remembers browsers as well; here it always asks.
    drop(visitor.cookies.remove("entra.localhost"));
    let page = visitor.open(url).await.unwrap();
    assert!(
        page.body.contains("name=\"login\""),
        "not the issuer's sign-in page: {} {}",
        page.url,
        page.status
    );
    let answer = visitor.press(&page, login).await.unwrap();
    let next = redirect(&answer)
        .unwrap_or_else(|| panic!("the issuer keeps the browser: {}", answer.body));
    assert_eq!(next.path(), "/.kerbgate/callback");
    next
}

/// From the callback to the address with the hand-over code, which is returned and not opened.
pub async fn to_hand_over(visitor: &mut Visitor, callback: &Url) -> Url {
    let answer = get(visitor, callback).await;
    let next = redirect(&answer)
        .unwrap_or_else(|| panic!("{} {}", answer.status, answer.header("kerbgate-reason")));
    assert_eq!(next.path(), "/.kerbgate/signin");
    next
}

/// One GET, no redirect followed.
pub async fn get(visitor: &mut Visitor, url: &Url) -> Answer {
    visitor.once(Method::GET, url, None).await.unwrap()
}

/// The value of a query parameter.
pub fn query(url: &Url, name: &str) -> String {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .unwrap_or_else(|| panic!("no {name} in {url}"))
        .1
        .into_owned()
}

/// `url` with a query parameter set to another value.
pub fn with(url: &Url, name: &str, value: &str) -> Url {
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut changed = url.clone();
    changed.query_pairs_mut().clear();
    for (key, old) in pairs {
        let new = if key == name { value } else { &old };
        changed.query_pairs_mut().append_pair(&key, new);
    }
    changed
}

/// The cookie `name` that the visitor holds for `host`.
pub fn cookie(visitor: &Visitor, host: &str, name: &str) -> Option<String> {
    visitor.cookies.get(host)?.get(name).cloned()
}

/// Plants the cookie `name` for `host`.
pub fn plant(visitor: &mut Visitor, host: &str, name: &str, value: &str) {
    let jar = visitor.cookies.entry(host.to_owned()).or_default();
    jar.insert(name.to_owned(), value.to_owned());
}

/// The answer is the refusal `code`, and it gives nobody a session.
#[track_caller]
pub fn assert_refused(answer: &Answer, code: &str, what: &str) {
    let found = answer.header("kerbgate-reason");
    assert_eq!(found, code, "{what}: {} {}", answer.status, answer.url);
    assert!(
        answer.status.is_client_error() || answer.status.is_server_error(),
        "{what}"
    );
    for cookie in answer.headers.get_all("set-cookie") {
        let cookie = cookie.to_str().unwrap();
        assert!(!cookie.starts_with("__Host-kerbgate="), "{what}: {cookie}");
    }
}

/// An order to the emulator.
pub async fn order(entra: &Entra, path: &str, body: Value) -> Value {
    entra.control(Method::POST, path, body).await
}

/// How many requests reached each endpoint of the issuer.
pub async fn counted(entra: &Entra, endpoint: &str) -> u64 {
    let all = entra.control(Method::GET, "/counters", json!({})).await;
    all[endpoint].as_u64().unwrap()
}

/// A guest who may open `wiki`.
pub async fn guest(entra: &Entra, name: &str) -> (String, String) {
    entra.new_guest(name, &["Wiki.User"]).await
}
