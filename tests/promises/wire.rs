//! Bytes on a TLS connection to the gateway, as no HTTP library would send them; and a header
//! application of the test's own, whose count of requests nobody else moves.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::lab_program;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// The longest that an answer, or the end of a connection, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A header application of one test, published as `wiki`.
pub struct OwnWiki {
    pub process: Running,
    pub address: SocketAddr,
}

impl OwnWiki {
    /// Starts it and has the stage's `wiki` lead to it.
    pub async fn publish(stage: &Stage) -> Self {
        let facts = &stage.lab.facts;
        let ready = stage.path("wiki.ready");
        let mut command = Command::new(lab_program());
        command
            .args(["echo", "--listen", &format!("{}:0", facts.address)])
            .arg("--ready-file")
            .arg(&ready);
        let mut process = Running::start("wiki", &command, stage.path("wiki.log"));
        process.wrote(&ready).await;
        let ready: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let address: SocketAddr = ready["address"].as_str().unwrap().parse().unwrap();
        // Wherever the file names the lab's: an application may have several addresses.
        let file = stage.path("apps/wiki.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let shared = format!("wiki.contoso.test:{}/", facts.backends.wiki.port());
        let own = format!("wiki.contoso.test:{}/", address.port());
        assert!(text.contains(&shared), "{text}");
        std::fs::write(&file, text.replace(&shared, &own)).unwrap();
        Self { process, address }
    }

    /// How many requests arrived.
    pub async fn requests(&self) -> u64 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/count", self.address);
        let count: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        count["requests"].as_u64().unwrap()
    }
}

/// A gateway in front of a wiki of its own, and a guest who is signed in to all applications.
pub struct Scene {
    pub gateway: Gateway,
    pub entra: Entra,
    /// The guest's name at the issuer.
    pub login: String,
    pub guest: Visitor,
    /// The guest's account.
    pub sam: String,
    pub wiki: OwnWiki,
    pub stage: Stage,
}

impl Scene {
    pub async fn new(stage: Stage) -> Self {
        let wiki = OwnWiki::publish(&stage).await;
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let roles = ["Intranet.User", "Timesheet.User", "Wiki.User"];
        let (login, _) = entra.new_guest("wire", &roles).await;
        let mut guest = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        let page = guest.open_as(&login, &gateway.url("wiki", "/echo")).await;
        let page = page.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        let sam = page.remote_user().to_owned();
        assert!(!sam.is_empty(), "{}", page.body);
        for app in ["intranet", "timesheet"] {
            let page = guest.open(&gateway.url(app, "/echo")).await.unwrap();
            assert_eq!(page.remote_user(), format!("{sam}@CONTOSO.TEST"));
        }
        Self {
            gateway,
            entra,
            login,
            guest,
            sam,
            wiki,
            stage,
        }
    }

    /// `app.localhost:port`.
    pub fn host(&self, app: &str) -> String {
        format!("{app}.localhost:{}", self.gateway.port)
    }

    /// The guest's `Cookie` header for an application.
    pub fn cookie(&self, app: &str) -> String {
        let url = self.gateway.url(app, "/").parse().unwrap();
        self.guest.cookie_header(&url).unwrap()
    }

    /// Sends `parts`, each in a record of its own, and reads until the gateway closes.
    pub async fn raw<B: AsRef<[u8]>>(&self, app: &str, parts: &[B]) -> Vec<Reply> {
        let mut wire = connect(&self.stage, app, b"http/1.1").await;
        for part in parts {
            // A gateway that has already refused reads no further.
            if wire.write_all(part.as_ref()).await.is_err() || wire.flush().await.is_err() {
                break;
            }
        }
        replies(&to_the_end(&mut wire).await)
    }

    /// A sound request that closes its connection: what the tests compare with.
    pub async fn control(&self) {
        let request = format!(
            "GET /echo HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: close\r\n\r\n",
            self.host("wiki"),
            self.cookie("wiki")
        );
        let replies = self.raw("wiki", &[request]).await;
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].status, 200, "{replies:?}");
        assert_eq!(replies[0].header("x-remote-user"), Some(&*self.sam));
    }

    /// What the ops listener's probe says.
    pub async fn health(&self) -> u16 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let ops = self.gateway.ready["ops"].as_str().unwrap();
        let answer = client.get(format!("http://{ops}/healthz")).send().await;
        answer.unwrap().status().as_u16()
    }

    /// The largest resident set that the gateway ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.gateway.peak_memory()
    }
}

/// A TLS connection to `app`'s published host that agreed on `protocol`.
pub async fn connect(stage: &Stage, app: &str, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&stage.lab.facts.ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(format!("{app}.localhost")).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    stream
}

/// Everything until the other side closes; that it does is part of what is tested.
pub async fn to_the_end(wire: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, async {
        let mut buffer = vec![0; 65_536];
        // An error is an end as well: a reset, or no `close_notify`.
        while let Ok(length @ 1..) = wire.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..length]);
        }
    });
    let ended = read.await;
    assert!(
        ended.is_ok(),
        "the gateway did not close; it said {}",
        bytes.escape_ascii()
    );
    bytes
}

/// One answer on an HTTP/1.1 connection.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// The answers in what an HTTP/1.1 connection brought.
pub fn replies(bytes: &[u8]) -> Vec<Reply> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap();
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: String::new(),
        };
        let body = match reply.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => {
                let (body, after) = rest.split_at(length.min(rest.len()));
                rest = after;
                body.to_vec()
            }
            _ if reply.header("transfer-encoding") == Some("chunked") => unchunked(&mut rest),
            _ => Vec::new(),
        };
        reply.body = String::from_utf8_lossy(&body).into_owned();
        all.push(reply);
    }
    all
}

fn unchunked(rest: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap_or_default();
        let from = (end + 2).min(rest.len());
        let to = (from + size).min(rest.len());
        body.extend_from_slice(&rest[from..to]);
        *rest = &rest[(to + 2).min(rest.len())..];
        if size == 0 {
            break;
        }
    }
    body
}

/// An HTTP/2 connection of which every frame is the test's own (RFC 9113).
pub struct Http2 {
    wire: TlsStream<TcpStream>,
    unread: Vec<u8>,
}

/// What one stream, or its connection, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status, if an answer began.
    pub status: Option<u16>,
    pub body: Vec<u8>,
    /// `RST_STREAM`'s code.
    pub reset: Option<u32>,
    /// `GOAWAY`'s code.
    pub goaway: Option<u32>,
    /// The connection ended.
    pub closed: bool,
}

impl Outcome {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

impl Http2 {
    pub async fn open(stage: &Stage, app: &str) -> Self {
        let mut wire = connect(stage, app, b"h2").await;
        wire.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut this = Self {
            wire,
            unread: Vec::new(),
        };
        assert!(this.frame(SETTINGS, 0, 0, &[]).await);
        this
    }

    /// Sends one frame; false when the gateway takes no more.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let frame = frame(kind, flags, stream, payload);
        self.send(&frame).await
    }

    /// Sends bytes as they are; false when the gateway takes no more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(PATIENCE, async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        });
        sent.await.expect("the gateway reads").is_ok()
    }

    /// Reads until the stream or the connection has come to an end.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        while let Some((kind, flags, on, payload)) = self.next().await {
            assert!(start.elapsed() < PATIENCE, "no end: {outcome:?}");
            match kind {
                SETTINGS if flags & ACK == 0 => drop(self.frame(SETTINGS, ACK, 0, &[]).await),
                PING if flags & ACK == 0 => drop(self.frame(PING, ACK, 0, &payload).await),
                GOAWAY => {
                    outcome.goaway = Some(number(&payload[4..8]));
                    if outcome.goaway != Some(0) {
                        return outcome;
                    }
                }
                RST_STREAM if on == stream => {
                    outcome.reset = Some(number(&payload));
                    return outcome;
                }
                HEADERS if on == stream => {
                    outcome.status = outcome.status.or_else(|| status(&payload));
                }
                DATA if on == stream => outcome.body.extend_from_slice(&payload),
                _ => {}
            }
            if on == stream && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return outcome;
            }
        }
        outcome.closed = true;
        outcome
    }

    /// The next frame; nothing when the connection has ended.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some(head) = self.unread.first_chunk::<9>() {
                let length = usize::try_from(number(&[0, head[0], head[1], head[2]])).unwrap();
                if self.unread.len() >= 9 + length {
                    let (kind, flags) = (head[3], head[4]);
                    let stream = number(&head[5..9]) & 0x7fff_ffff;
                    let payload = self.unread[9..9 + length].to_vec();
                    self.unread.drain(..9 + length);
                    return Some((kind, flags, stream, payload));
                }
            }
            let mut buffer = vec![0; 65_536];
            let read = tokio::time::timeout(PATIENCE, self.wire.read(&mut buffer)).await;
            match read.expect("the gateway answers or closes") {
                Ok(length @ 1..) => self.unread.extend_from_slice(&buffer[..length]),
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block without any compression (RFC 7541 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 5.1 with a prefix of seven bits.
pub fn integer(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        block.push(u8::try_from(value).unwrap());
        return;
    }
    block.push(127);
    let mut left = value - 127;
    while left >= 128 {
        block.push(u8::try_from(left % 128).unwrap() | 128);
        left /= 128;
    }
    block.push(u8::try_from(left).unwrap());
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The status at the beginning of a header block: indexed, or a literal of digits.
fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [index @ 0x88..=0x8e, ..] => Some(INDEXED[usize::from(index - 0x88)]),
        [0x48 | 0x08 | 0x18, length, text @ ..] if length & 128 == 0 => {
            let text = text.get(..usize::from(*length))?;
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        [0x48 | 0x08 | 0x18, length, text @ ..] => {
            digits(text.get(..usize::from(length & 127))?).parse().ok()
        }
        _ => None,
    }
}

/// Digits in the Huffman code of RFC 7541, appendix B.
fn digits(code: &[u8]) -> String {
    let mut bits = code
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1)))
        .peekable();
    let mut text = String::new();
    while bits.peek().is_some() {
        let five: Vec<u32> = bits.by_ref().take(5).collect();
        let value = five.iter().fold(0, |value, bit| value << 1 | bit);
        let digit = match (five.len(), value) {
            (5, 0..=2) => value,
            (5, 0b01100..=0b01111) => (value << 1 | bits.next().unwrap_or(1)) - 0b01_1001 + 3,
            _ => break,
        };
        text.push_str(&digit.to_string());
    }
    text
}

#[test]
fn statuses_are_read_from_their_huffman_code() {
    // RFC 7541 C.6.1 and C.6.3: 302, 307.
    assert_eq!(digits(&[0x64, 0x02]), "302");
    assert_eq!(digits(&[0x64, 0x0e, 0xff]), "307");
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
}
