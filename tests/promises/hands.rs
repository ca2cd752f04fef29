//! Servers in a test's own hands: they hold what they are asked, say how they are, and remember what arrived.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::lab::Gateway;
use crate::lab::Stage;

/// What a server in hands knows.
pub struct Known {
    /// Requests that are no health checks.
    pub count: AtomicUsize,
    /// Requests that are being answered.
    pub now: AtomicUsize,
    /// The most of them at a time.
    pub most: AtomicUsize,
    /// Bytes of all bodies.
    pub bytes: AtomicUsize,
    /// Answers health checks well.
    pub well: AtomicBool,
    /// Heads of health checks.
    pub checks: Mutex<Vec<String>>,
    holds: watch::Sender<bool>,
}

/// A server in a test's own hands; `/health` asks how it is.
pub struct InHands {
    pub address: SocketAddr,
    pub known: Arc<Known>,
    task: JoinHandle<()>,
}

impl InHands {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = Arc::new(Known {
            count: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            well: AtomicBool::new(true),
            checks: Mutex::default(),
            holds: watch::Sender::new(false),
        });
        let shared = Arc::clone(&known);
        let task = tokio::spawn(async move {
            // Ended with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            known,
            task,
        }
    }

    pub fn count(&self) -> usize {
        self.known.count.load(Ordering::SeqCst)
    }

    pub fn now(&self) -> usize {
        self.known.now.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.known.most.load(Ordering::SeqCst)
    }

    pub fn checks(&self) -> Vec<String> {
        self.known.checks.lock().unwrap().clone()
    }

    pub fn hold(&self, holds: bool) {
        self.known.holds.send_replace(holds);
    }

    pub fn be_well(&self, well: bool) {
        self.known.well.store(well, Ordering::SeqCst);
    }

    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

async fn serve(mut stream: TcpStream, known: Arc<Known>) {
    let mut holds = known.holds.subscribe();
    loop {
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => got.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(got).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let mut status = "200 OK";
        if head.starts_with("get /health") {
            known.checks.lock().unwrap().push(head);
            if !known.well.load(Ordering::SeqCst) {
                status = "500 Internal Server Error";
            }
        } else {
            known.bytes.fetch_add(length, Ordering::SeqCst);
            known.count.fetch_add(1, Ordering::SeqCst);
            let now = known.now.fetch_add(1, Ordering::SeqCst) + 1;
            known.most.fetch_max(now, Ordering::SeqCst);
            holds.wait_for(|holds| !holds).await.unwrap();
            known.now.fetch_sub(1, Ordering::SeqCst);
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Publishes `id` before these servers, without sign-in.
pub fn publish(stage: &Stage, id: &str, servers: &[&InHands], more: &str) {
    let urls: Vec<_> = servers
        .iter()
        .map(|server| format!("\"http://{}/\"", server.address))
        .collect();
    let text = format!(
        "name = \"{id}\"\npublished_url = \"{}\"\nbackend_urls = [{}]\npass_through = true\n{more}",
        stage.url(id, "/"),
        urls.join(", ")
    );
    std::fs::write(stage.path(&format!("apps/{id}.toml")), text).unwrap();
}

/// The value of a series that `/metrics` tells, if it does.
pub async fn told(gateway: &Gateway, series: &str) -> Option<f64> {
    let ops = gateway.ready["ops"].as_str().unwrap();
    let answer = reqwest::get(format!("http://{ops}/metrics")).await.unwrap();
    let text = answer.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim_start_matches("{}").trim().parse().ok()
}
