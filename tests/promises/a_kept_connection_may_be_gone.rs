//! A backend may close a kept connection just as a request goes out on it: people notice nothing where the
//! request may be sent again, and nothing is ever done twice where it may not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::assert_refused;
use crate::walk::world;

/// Every request is answered.
const SERVES: u8 = 0;
/// The next request on a connection that has served one ends it, with FIN.
const CLOSES: u8 = 1;
/// The same, with RST.
const RESETS: u8 = 2;
/// The same, after the first bytes of an answer.
const BEGINS: u8 = 3;
/// Every request ends its connection.
const REFUSES: u8 = 4;

/// One request that arrived.
#[derive(Clone, Debug)]
struct Arrived {
    connection: usize,
    method: String,
    authorization: Option<String>,
}

/// A backend with a mood, that remembers what arrived.
struct Moody {
    address: SocketAddr,
    mood: Arc<AtomicU8>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Moody {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::default(),
            arrived: Arc::default(),
        };
        let (mood, arrived) = (Arc::clone(&this.mood), Arc::clone(&this.arrived));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = serve(stream, connection, Arc::clone(&mood), Arc::clone(&arrived));
                tokio::spawn(serving);
            }
        });
        this
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    fn arrived(&self) -> Vec<Arrived> {
        let arrived = self.arrived.lock();
        arrived.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    mood: Arc<AtomicU8>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
) {
    for nth in 0.. {
        let Some(head) = head(&mut stream).await else {
            return;
        };
        let authorization = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: "));
        arrived.lock().unwrap().push(Arrived {
            connection,
            method: head.split(' ').next().unwrap().to_owned(),
            authorization: authorization.map(str::to_owned),
        });
        match (mood.load(Ordering::SeqCst), nth) {
            (REFUSES, _) | (CLOSES, 1..) => return,
            (RESETS, 1..) => {
                stream.set_zero_linger().unwrap();
                return;
            }
            (BEGINS, 1..) => {
                stream.write_all(b"HTTP/1.1 2").await.unwrap();
                return;
            }
            _ => {}
        }
        let length = if head.starts_with("HEAD ") { "" } else { "ok" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{length}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request's head; its body, if it has one, is read and forgotten.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(got).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (method, rest) = head.split_once(' ').unwrap();
    Some(format!("{} {rest}", method.to_ascii_uppercase()))
}

/// What a visitor sees who asks with `method` once the kept connections are `mood`, and what arrived for it.
struct Scene {
    stage: Stage,
    _entra: Entra,
    _gateway: Gateway,
    moody: Moody,
    visitor: Visitor,
    app: &'static str,
}

impl Scene {
    /// In front of an application that nobody signs in for.
    async fn open() -> Self {
        let (stage, _) = world("").await;
        let moody = Moody::start().await;
        let text = format!(
            "name = \"wiki\"\npublished_url = \"{}\"\nbackend_urls = [\"http://{}/\"]\npass_through = true\n\
             [balance.eject]\nfailures = 1000\n",
            stage.url("wiki", "/"),
            moody.address
        );
        std::fs::write(stage.path("apps/wiki.toml"), text).unwrap();
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        Self {
            stage,
            _entra: entra,
            _gateway: gateway,
            moody,
            visitor,
            app: "wiki",
        }
    }

    /// In front of an application with tickets, as `send` says, and with emma signed in.
    async fn with_tickets(send: &str) -> Self {
        let stage = Stage::new().await;
        let moody = Moody::start().await;
        let shared = format!(
            "intranet.contoso.test:{}/",
            stage.lab.facts.backends.intranet.port()
        );
        let own = format!("127.0.0.1:{}/", moody.address.port());
        stage.replace("apps/intranet.toml", &shared, &own);
        stage.append("apps/intranet.toml", &format!("send = \"{send}\"\n"));
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        let page = visitor
            .open_as("emma@contoso.example", &gateway.url("intranet", "/"))
            .await;
        assert_eq!(page.unwrap().status, 200);
        Self {
            stage,
            _entra: entra,
            _gateway: gateway,
            moody,
            visitor,
            app: "intranet",
        }
    }

    /// Until a connection was used twice: from then on one waits for the next request.
    async fn warm(&mut self) {
        self.moody.set(SERVES);
        for _ in 0..100 {
            let before = self.moody.arrived();
            assert_eq!(self.ask(Method::GET, None).await.status, 200);
            let now = self.moody.arrived().pop().unwrap();
            if before.iter().any(|one| one.connection == now.connection) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no connection is ever used again");
    }

    async fn ask(&mut self, method: Method, body: Option<&str>) -> Answer {
        let url = self.stage.url(self.app, "/page").parse().unwrap();
        let origin = self.stage.url(self.app, "");
        let mut request = self
            .visitor
            .request(method, &url)
            .header("origin", origin)
            .header("sec-fetch-site", "same-origin");
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        self.visitor.take(&url, response).await
    }

    /// The answer to one request to a warm backend in that mood, and everything that arrived for it.
    async fn met(
        &mut self,
        mood: u8,
        method: &Method,
        body: Option<&str>,
    ) -> (Answer, Vec<Arrived>) {
        self.warm().await;
        let before = self.moody.arrived().len();
        self.moody.set(mood);
        let answer = self.ask(method.clone(), body).await;
        (answer, self.moody.arrived().split_off(before))
    }
}

#[tokio::test]
async fn what_may_be_sent_again_is_on_a_new_connection() {
    let mut scene = Scene::open().await;
    for mood in [CLOSES, RESETS] {
        for name in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            let (answer, arrived) = scene.met(mood, &method, None).await;
            assert_eq!(answer.status, 200, "{name}, {mood}: {}", answer.body);
            assert_eq!(arrived.len(), 2, "{name}, {mood}: {arrived:?}");
            assert!(arrived.iter().all(|one| one.method == name), "{arrived:?}");
            assert_ne!(arrived[0].connection, arrived[1].connection, "{name}");
        }
    }
}

#[tokio::test]
async fn what_could_be_done_twice_is_not_sent_again() {
    let mut scene = Scene::open().await;
    for mood in [CLOSES, RESETS] {
        // RFC 9110 9.2.2: these are not idempotent; and a body that was sent is gone.
        for (name, body) in [
            ("POST", None),
            ("POST", Some("order=1")),
            ("PATCH", None),
            ("ORDER", None),
            ("PUT", Some("a page")),
            ("DELETE", Some("which")),
        ] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            let (answer, arrived) = scene.met(mood, &method, body).await;
            assert_refused(&answer, "backend-unreachable", name);
            assert_eq!(arrived.len(), 1, "{name} {body:?}, {mood}: {arrived:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_the_answer() {
    let mut scene = Scene::open().await;
    let (answer, arrived) = scene.met(BEGINS, &Method::GET, None).await;
    assert_eq!(answer.status, 502);
    assert_eq!(arrived.len(), 1, "{arrived:?}");
}

#[tokio::test]
async fn a_request_is_sent_again_once_and_never_on_a_new_connection() {
    let mut scene = Scene::open().await;
    let (answer, arrived) = scene.met(REFUSES, &Method::GET, None).await;
    assert_refused(&answer, "backend-unreachable", "the second time");
    assert_eq!(arrived.len(), 2, "{arrived:?}");
    // Now nothing is kept.
    for _ in 0..3 {
        let before = scene.moody.arrived().len();
        let answer = scene.ask(Method::GET, None).await;
        if scene.moody.arrived().len() == before + 1 {
            assert_refused(&answer, "backend-unreachable", "a new connection");
            return;
        }
    }
    panic!("{:?}", scene.moody.arrived());
}

#[tokio::test]
async fn a_ticket_is_never_sent_a_second_time() {
    let mut scene = Scene::with_tickets("each-request").await;
    let (answer, arrived) = scene.met(CLOSES, &Method::GET, None).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(arrived.len(), 2, "{arrived:?}");
    let tokens: Vec<_> = arrived.iter().map(|one| &one.authorization).collect();
    assert!(tokens.iter().all(|token| token.is_some()), "{tokens:?}");
    // The backend's replay cache would refuse the same one (RFC 4120 3.2.3).
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn a_connection_that_knew_the_person_is_replaced_by_one_that_does() {
    let mut scene = Scene::with_tickets("each-connection").await;
    let (answer, arrived) = scene.met(RESETS, &Method::GET, None).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let signed_in: Vec<_> = arrived
        .iter()
        .map(|one| one.authorization.is_some())
        .collect();
    assert_eq!(signed_in, [false, true], "{arrived:?}");
}
