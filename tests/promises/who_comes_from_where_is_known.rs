//! There is one true client address, told by listed proxies only, and rules about it hold.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::walk;
use crate::walk::Backend;
use crate::wire::Reply;
use crate::wire::replies;
use crate::wire::to_the_end;

/// Speaks the PROXY protocol.
const BALANCER: &str = "127.0.0.2";
/// Writes X-Forwarded-For.
const PROXY: &str = "127.0.0.3";
/// Nobody in particular.
pub const STRANGER: &str = "127.0.0.4";

/// A gateway before a backend that counts, and the session of a guest.
pub struct Place {
    pub stage: Stage,
    pub backend: Backend,
    pub gateway: Gateway,
    pub entra: Entra,
    pub cookie: String,
}

impl Place {
    /// `listener` goes into the listener's section, `app` ends the application's file.
    pub async fn new(listener: &str, boot: &str, app: &str) -> Self {
        let (stage, backend) = walk::world(boot).await;
        let listed = format!(
            "[listener]\nproxy_protocol_from = [\"{BALANCER}\"]\nforwarded_from = [\"{PROXY}\"]\n\
             forwarded = \"x-forwarded-for\"\n{listener}"
        );
        stage.replace("kerbgate.toml", "[listener]\n", &listed);
        backend.publish(&stage, "wiki", app);
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let (login, _) = walk::guest(&entra, "where").await;
        let mut browser = walk::browser(&stage);
        let url = gateway.url("wiki", "/");
        let page = browser.open_as(&login, &url).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        let cookie = browser.cookie_header(&url.parse().unwrap()).unwrap();
        Self {
            stage,
            backend,
            gateway,
            entra,
            cookie,
        }
    }

    /// A request with the guest's session and `more` lines.
    pub fn request(&self, path: &str, more: &str) -> String {
        let (port, cookie) = (self.gateway.port, &self.cookie);
        format!(
            "GET {path} HTTP/1.1\r\nHost: wiki.localhost:{port}\r\nCookie: {cookie}\r\n{more}Connection: close\r\n\r\n"
        )
    }

    /// The one reply to `request` from `source`, whose connection begins with `before`.
    pub async fn ask(&self, source: &str, before: &[u8], request: &str) -> Reply {
        let mut wire = from(&self.stage, source, before).await.unwrap();
        wire.write_all(request.as_bytes()).await.unwrap();
        let mut all = replies(&to_the_end(&mut wire).await);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// The addresses that the last request's backend was told.
    fn told(&self) -> [String; 2] {
        let seen = self.backend.seen();
        ["x-forwarded-for", "forwarded"].map(|name| {
            let values: Vec<_> = seen.last().unwrap().get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{values:?}");
            values[0].to_str().unwrap().to_owned()
        })
    }
}

/// A TCP connection from one of this machine's addresses.
pub async fn plain(stage: &Stage, source: &str, before: &[u8]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source: IpAddr = source.parse().unwrap();
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(([127, 0, 0, 1], stage.port).into()).await?;
    stream.set_nodelay(true)?;
    // In pieces: no read may depend on how the bytes were cut.
    for piece in before.chunks(7) {
        stream.write_all(piece).await?;
        stream.flush().await?;
    }
    Ok(stream)
}

/// The same, over TLS.
pub async fn from(
    stage: &Stage,
    source: &str,
    before: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
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
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = plain(stage, source, before).await?;
    let name = ServerName::try_from("wiki.localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn v2(source: [u8; 16]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2a".to_vec();
    bytes.extend(source);
    bytes.extend([0; 16]);
    bytes.extend([0x12, 0x34, 1, 187]);
    // PP2_TYPE_UNIQUE_ID
    bytes.extend([5, 0, 3, 1, 2, 3]);
    bytes
}

#[tokio::test]
async fn listed_proxies_say_who_the_client_is_and_nobody_else() {
    let place = Place::new("", "", "").await;
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 9];
    let other = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let line = "PROXY TCP4 203.0.113.5 192.0.2.1 4711 443\r\n".as_bytes();
    let through = "PROXY TCP4 127.0.0.3 192.0.2.1 4711 443\r\n".as_bytes();
    let says = "X-Forwarded-For: 6.6.6.6, 203.0.113.8\r\nForwarded: for=7.7.7.7\r\n";
    for (source, before, more, client) in [
        (BALANCER, line, "", "203.0.113.5"),
        (BALANCER, line, says, "203.0.113.5"),
        (BALANCER, b"PROXY UNKNOWN\r\n", "", BALANCER),
        (BALANCER, &v2(mapped), "", "203.0.113.9"),
        (BALANCER, &v2(other), "", "2001:db8::7"),
        (BALANCER, through, says, "203.0.113.8"),
        (PROXY, b"", says, "203.0.113.8"),
        (PROXY, b"", "", PROXY),
        (STRANGER, b"", says, STRANGER),
    ] {
        let path = format!("/of/{client}");
        let reply = place.ask(source, before, &place.request(&path, more)).await;
        assert_eq!(reply.status, 200, "{source} {client}: {reply:?}");
        let node = match client {
            "2001:db8::7" => String::from("for=\"[2001:db8::7]\";"),
            client => format!("for={client};"),
        };
        let [x, forwarded] = place.told();
        assert_eq!(x, client);
        assert!(forwarded.starts_with(&node), "{forwarded}");
        eventually("the access line names the client", async || {
            let log = place.gateway.log();
            log.lines().any(|line| {
                line.contains(&format!("\"client\":\"{client}\"")) && line.contains(&path)
            })
        })
        .await;
    }
}

#[tokio::test]
async fn a_proxy_without_its_word_and_a_word_without_a_proxy_are_refused() {
    let place = Place::new("handshake = \"2s\"\n", "", "").await;
    let before = place.backend.count();
    let line = b"PROXY TCP4 203.0.113.5 192.0.2.1 4711 443\r\n";
    for (source, bytes) in [
        (STRANGER, &line[..]),
        (STRANGER, &v2([0; 16])),
        (PROXY, line),
        // From a listed peer the header is required, and sound.
        (BALANCER, b""),
        (BALANCER, b"PROXY TCP4 203.0.113.5 192.0.2.1 04711 443\r\n"),
        (BALANCER, b"PROXY TCP4 203.0.113.5"),
    ] {
        let ended = from(&place.stage, source, bytes).await;
        assert!(ended.is_err(), "{source} {}", bytes.escape_ascii());
    }
    for word in ["garbage", "unknown", "203.0.113.7, _hidden"] {
        let more = format!("X-Forwarded-For: {word}\r\n");
        let reply = place.ask(PROXY, b"", &place.request("/", &more)).await;
        assert_eq!(reply.status, 400, "{word}");
        assert_eq!(reply.header("kerbgate-reason"), Some("forwarded-refused"));
    }
    // One that begins its header and goes to sleep is cut, like one that begins a handshake.
    let mut silent = plain(&place.stage, BALANCER, b"PROXY TCP4 ").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut rest)).await;
    assert!(ended.is_ok());
    assert_eq!(
        place.backend.count(),
        before,
        "something reached the backend"
    );
}

#[tokio::test]
async fn addresses_are_kept_out_before_anybody_signs_in() {
    let rules = "[addresses]\nallow = [\"127.0.0.0/8\", \"203.0.113.0/24\"]\ndeny = [\"203.0.113.128/25\"]\n";
    let all = "\n[addresses]\ndeny = [\"198.51.100.0/24\"]\n";
    let place = Place::new("", all, rules).await;
    let before = place.backend.count();
    let proxied = |address: &str| format!("PROXY TCP6 {address} ::1 1 443\r\n").into_bytes();
    for (address, status) in [
        ("::ffff:203.0.113.7", 200),
        ("::ffff:203.0.113.200", 403),
        ("2001:db8::7", 403),
        ("::ffff:192.0.2.1", 403),
    ] {
        let reply = place
            .ask(BALANCER, &proxied(address), &place.request("/", ""))
            .await;
        assert_eq!(reply.status, status, "{address}");
        let denied = (status == 403).then_some("address-denied");
        assert_eq!(reply.header("kerbgate-reason"), denied, "{address}");
    }
    // A navigation without a session is not even sent to the sign-in; the gateway's own rule holds everywhere.
    let host = place.gateway.port;
    for (address, name, path) in [
        ("2001:db8::7", "wiki", "/"),
        ("::ffff:198.51.100.7", "wiki", "/"),
        ("::ffff:198.51.100.7", "wiki", "/.kerbgate/jwks.json"),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {name}.localhost:{host}\r\nAccept: text/html\r\n\
             Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nConnection: close\r\n\r\n"
        );
        let reply = place.ask(BALANCER, &proxied(address), &request).await;
        assert_eq!(reply.status, 403, "{address} {path}");
        assert_eq!(reply.header("kerbgate-reason"), Some("address-denied"));
        assert_eq!(reply.header("set-cookie"), None);
    }
    assert_eq!(place.backend.count(), before + 1);
}

#[tokio::test]
async fn who_asks_too_much_is_told_when_to_come_back() {
    // The sign-in's own visit is one of the four.
    let place = Place::new("", "", "[rates]\nper_person = \"4/h\"\n").await;
    let before = place.backend.count();
    let request = place.request("/", "Accept-Language: de\r\nAccept: text/html\r\n");
    for _ in 0..3 {
        // Another address each time: it is the person who is counted.
        assert_eq!(place.ask(STRANGER, b"", &request).await.status, 200);
    }
    for source in [STRANGER, "127.0.0.1"] {
        let reply = place.ask(source, b"", &request).await;
        assert_eq!(reply.status, 429);
        assert_eq!(reply.header("kerbgate-reason"), Some("too-many-requests"));
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        // One is earned back in 900 s, of which a few may have gone by.
        assert!((800..=900).contains(&wait), "{wait}");
    }
    assert_eq!(place.backend.count(), before + 3);
}

#[tokio::test]
async fn only_so_many_at_once() {
    let place = Place::new("", "", "[rates]\naddress_at_once = 1\n").await;
    let before = place.backend.count();
    let (port, cookie) = (place.gateway.port, &place.cookie);
    let mut first = from(&place.stage, STRANGER, b"").await.unwrap();
    let post = format!(
        "POST / HTTP/1.1\r\nHost: wiki.localhost:{port}\r\nCookie: {cookie}\r\nContent-Length: 4\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    first.write_all(post.as_bytes()).await.unwrap();
    // It is being served: asked sooner, the next one could take its place.
    let mut said = [0; 25];
    first.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    first.write_all(b"abc").await.unwrap();
    let request = place.request("/", "");
    let reply = place.ask(STRANGER, b"", &request).await;
    assert_eq!(reply.header("kerbgate-reason"), Some("too-many-concurrent"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    let reply = place.ask("127.0.0.1", b"", &request).await;
    assert_eq!(reply.status, 200, "another address");
    first.write_all(b"d").await.unwrap();
    to_the_end(&mut first).await;
    eventually("the place is free again", async || {
        place.ask(STRANGER, b"", &request).await.status == 200
    })
    .await;
    assert!(place.backend.count() > before + 2);
}

#[tokio::test]
async fn sign_ins_are_not_begun_for_ever() {
    let place = Place::new("", "\n[rates]\nsign_ins_per_address = \"2/h\"\n", "").await;
    let port = place.gateway.port;
    let navigation = format!(
        "GET / HTTP/1.1\r\nHost: wiki.localhost:{port}\r\nAccept: text/html\r\n\
         Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nConnection: close\r\n\r\n"
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(place.ask(STRANGER, b"", &navigation).await.status);
    }
    assert_eq!(statuses[2..], [429, 429], "{statuses:?}");
    assert!(
        statuses[..2].iter().all(|status| *status != 429),
        "{statuses:?}"
    );
    // Who is signed in is not concerned.
    let reply = place.ask(STRANGER, b"", &place.request("/", "")).await;
    assert_eq!(reply.status, 200);
}
