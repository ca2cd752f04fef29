//! Of several backends one may be killed, fail or be busy: people notice nothing, and each backend gets
//! what its state allows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use http::Method;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::world;

/// How a server behaves, and what reached it.
#[derive(Default)]
pub struct State {
    /// Requests that arrived.
    pub count: AtomicUsize,
    /// Answers 503.
    pub fails: AtomicBool,
    /// Does not answer yet.
    pub holds: AtomicBool,
}

/// A server that can be killed, its connections too.
pub struct Server {
    pub address: SocketAddr,
    pub state: Arc<State>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Ended with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    pub fn count(&self) -> usize {
        self.state.count.load(Ordering::SeqCst)
    }

    pub async fn kill(self) -> usize {
        self.task.abort();
        drop(self.task.await);
        self.state.count.load(Ordering::SeqCst)
    }
}

/// Answers requests without a body until the connection ends.
pub async fn serve<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T, state: Arc<State>) {
    let mut got = Vec::new();
    while let Ok(length) = stream.read_buf(&mut got).await {
        if length == 0 {
            return;
        }
        if !got.ends_with(b"\r\n\r\n") {
            continue;
        }
        got.clear();
        state.count.fetch_add(1, Ordering::SeqCst);
        while state.holds.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let status = if state.fails.load(Ordering::SeqCst) {
            "503 Service Unavailable"
        } else {
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Publishes `wiki` before these servers, without sign-in.
fn publish(stage: &Stage, servers: &[&Server], more: &str) {
    let urls: Vec<_> = servers
        .iter()
        .map(|server| format!("\"http://{}/\"", server.address))
        .collect();
    let text = format!(
        "name = \"wiki\"\npublished_url = \"{}\"\nbackend_urls = [{}]\n{more}",
        stage.url("wiki", "/"),
        urls.join(", ")
    );
    std::fs::write(stage.path("apps/wiki.toml"), text).unwrap();
}

async fn get(visitor: &mut Visitor, stage: &Stage) -> Answer {
    let url = stage.url("wiki", "/page").parse().unwrap();
    visitor.once(Method::GET, &url, None).await.unwrap()
}

#[tokio::test]
async fn a_killed_backend_is_not_noticed() {
    let (stage, _) = world("").await;
    let (one, other) = (Server::start().await, Server::start().await);
    publish(&stage, &[&one, &other], "pass_through = true\n");
    let _entra = stage.entra(&[]).await;
    let _gateway = stage.gateway().await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!((one.count(), other.count()), (5, 5), "each in turn");
    assert_eq!(one.kill().await, 5);
    for _ in 0..20 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!(other.count(), 25);
}

#[tokio::test]
async fn a_page_that_the_killed_one_was_to_answer_comes_from_another() {
    let (stage, _) = world("").await;
    let (one, other) = (Server::start().await, Server::start().await);
    publish(&stage, &[&one, &other], "pass_through = true\n");
    let _entra = stage.entra(&[]).await;
    let _gateway = stage.gateway().await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    for server in [&one, &other] {
        server.state.holds.store(true, Ordering::SeqCst);
    }
    let url = stage.url("wiki", "/held").parse().unwrap();
    let held = tokio::spawn(async move { visitor.once(Method::GET, &url, None).await });
    eventually("it has arrived", async || one.count() + other.count() == 11).await;
    let (busy, idle) = if one.count() == 6 {
        (one, other)
    } else {
        (other, one)
    };
    idle.state.holds.store(false, Ordering::SeqCst);
    assert_eq!(busy.kill().await, 6);
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert_eq!(idle.count(), 6);
}

#[tokio::test]
async fn who_answers_503_several_times_is_left_out() {
    let (stage, _) = world("").await;
    let (one, other) = (Server::start().await, Server::start().await);
    let more = "pass_through = true\n[balance.eject]\nfailures = 3\nfirst = \"5m\"\n";
    publish(&stage, &[&one, &other], more);
    let _entra = stage.entra(&[]).await;
    let _gateway = stage.gateway().await;
    one.state.fails.store(true, Ordering::SeqCst);
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(get(&mut visitor, &stage).await.status == 503);
    }
    assert_eq!((failed, one.count(), other.count()), (3, 3, 17));
}

#[tokio::test]
async fn least_requests_prefers_the_idle_one() {
    let (stage, _) = world("").await;
    let (one, other) = (Server::start().await, Server::start().await);
    let more = "pass_through = true\n[balance]\npolicy = \"least-requests\"\n";
    publish(&stage, &[&one, &other], more);
    let _entra = stage.entra(&[]).await;
    let _gateway = stage.gateway().await;
    for server in [&one, &other] {
        server.state.holds.store(true, Ordering::SeqCst);
    }
    let url = stage.url("wiki", "/held").parse().unwrap();
    let mut patient = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let held = tokio::spawn(async move { patient.once(Method::GET, &url, None).await });
    eventually("one of them is busy", async || {
        one.count() + other.count() == 1
    })
    .await;
    let (busy, idle) = if one.count() == 1 {
        (&one, &other)
    } else {
        (&other, &one)
    };
    idle.state.holds.store(false, Ordering::SeqCst);
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!((busy.count(), idle.count()), (1, 10));
    busy.state.holds.store(false, Ordering::SeqCst);
    assert_eq!(held.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_session_stays_with_its_backend() {
    let (stage, _) = world("").await;
    let (one, other) = (Server::start().await, Server::start().await);
    let more = "[access]\nguests = \"existing\"\nallow = [{ role = \"Wiki.User\" }]\n\
        [sso]\nnone = true\n[balance]\npolicy = \"sticky\"\n";
    publish(&stage, &[&one, &other], more);
    let entra = stage.entra(&[]).await;
    let _gateway = stage.gateway().await;
    let (login, _) = crate::walk::guest(&entra, "sticky").await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let page = visitor.open_as(&login, &stage.url("wiki", "/")).await;
    assert_eq!(page.unwrap().status, 200);
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    let counts = (one.count(), other.count());
    assert!(counts == (11, 0) || counts == (0, 11), "{counts:?}");
    let (mine, rest) = if one.count() == 11 {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!(mine.kill().await, 11);
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!(rest.count(), 10);
}
