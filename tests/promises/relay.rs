//! A way to a server that can be slowed, cut, held, or fed with nonsense.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::lab::Stage;

const PASS: u8 = 0;
const CUT: u8 = 1;
const HANG: u8 = 2;
const GARBLE: u8 = 3;
const SLOW: u8 = 4;

/// Listens on a port of its own and passes on what comes, until told otherwise. What it does is decided
/// for each connection when it is made, as a KDC's clients make one for each question.
pub struct Relay {
    pub address: SocketAddr,
    mode: Arc<AtomicU8>,
    taken: Arc<AtomicU64>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            mode: Arc::default(),
            taken: Arc::default(),
        };
        let (mode, taken) = (Arc::clone(&relay.mode), Arc::clone(&relay.taken));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                taken.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(client, server, mode.load(Ordering::SeqCst)));
            }
        });
        relay
    }

    /// Passes everything on.
    pub fn pass(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
    }

    /// Connections end as soon as they are made.
    pub fn cut(&self) {
        self.mode.store(CUT, Ordering::SeqCst);
    }

    /// Connections are taken, and that is all.
    pub fn hang(&self) {
        self.mode.store(HANG, Ordering::SeqCst);
    }

    /// Every question gets an answer of the right length and no sense.
    pub fn garble(&self) {
        self.mode.store(GARBLE, Ordering::SeqCst);
    }

    /// Every answer comes 700 ms late.
    pub fn slow(&self) {
        self.mode.store(SLOW, Ordering::SeqCst);
    }

    /// Connections taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }
}

async fn serve(mut client: TcpStream, server: SocketAddr, mode: u8) {
    match mode {
        CUT => {}
        HANG => {
            let mut ignored = [0; 4096];
            while let Ok(1..) = client.read(&mut ignored).await {}
        }
        GARBLE => {
            let mut question = [0; 4096];
            while let Ok(1..) = client.read(&mut question).await {
                // RFC 4120 7.2.2: four bytes of length first.
                let mut answer = vec![0, 0, 2, 0];
                answer.resize(4 + 512, 0x5a);
                if client.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
        _ => {
            if mode == SLOW {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            let Ok(mut server) = TcpStream::connect(server).await else {
                return;
            };
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        }
    }
}

/// The gateway of `stage` reaches its KDC through `relays`, in this order.
pub fn through(stage: &Stage, relays: &[&Relay]) {
    let kdcs: Vec<String> = relays
        .iter()
        .map(|relay| format!("{:?}", relay.address.to_string()))
        .collect();
    let old = format!("kdcs = [{:?}]", stage.lab.facts.dc);
    let new = format!("kdcs = [{}]", kdcs.join(", "));
    stage.replace("kerbgate.toml", &old, &new);
}
