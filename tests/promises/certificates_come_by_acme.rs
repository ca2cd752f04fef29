//! For the operator who does not want to think of certificates: they come by ACME, once for all replicas, in time, and
//! nobody at work notices; an authority that refuses is quoted. Pebble is the ACME server that Let's Encrypt tests with.

use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::alone::replace;
use crate::lab::Gateway;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::free_port;
use crate::lab::kerbgate;
use crate::wire::to_the_end;

const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Pebble, and the name server it asks: every name is this machine.
struct Authority {
    pebble: Option<Running>,
    _names: Running,
    folder: PathBuf,
    directory_port: u16,
    roots_port: u16,
    names_port: u16,
    /// How many nonces in a hundred it refuses: whoever does not ask for a new one and try again does not get far. Where orders are counted,
    /// or none may fail, none: of thirty one would have met three refused nonces in a row, and begun again.
    refused_nonces: u8,
    _ports: [File; 4],
}

impl Authority {
    /// Ready to start; it will ask for proofs at these ports.
    fn new(stage: &Stage, http: u16, tls: u16, more: &Value) -> Self {
        let [one, two, three, four] = std::array::from_fn(|_| free_port());
        let own = rcgen::generate_simple_self_signed([String::from("pebble.localhost")]).unwrap();
        fs::write(stage.path("pebble.pem"), own.cert.pem()).unwrap();
        fs::write(stage.path("pebble.key"), own.signing_key.serialize_pem()).unwrap();
        let mut settings = json!({
            "listenAddress": format!("127.0.0.1:{}", one.0),
            "managementListenAddress": format!("127.0.0.1:{}", two.0),
            "certificate": stage.path("pebble.pem"),
            "privateKey": stage.path("pebble.key"),
            "httpPort": http,
            "tlsPort": tls,
        });
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        let settings = json!({ "pebble": settings }).to_string();
        fs::write(stage.path("pebble.json"), settings).unwrap();
        let mut names = Command::new("pebble-challtestsrv");
        names
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{}", three.0)])
            .args(["-management", &format!("127.0.0.1:{}", four.0)]);
        Self {
            pebble: None,
            _names: Running::start("names", &names, stage.path("names.log")),
            folder: stage.root.path().to_owned(),
            directory_port: one.0,
            roots_port: two.0,
            names_port: three.0,
            refused_nonces: 0,
            _ports: [one.1, two.1, three.1, four.1],
        }
    }

    async fn start(&mut self) {
        let mut pebble = Command::new("pebble");
        pebble
            .args(["-strict", "-config"])
            .arg(self.folder.join("pebble.json"))
            .args(["-dnsserver", &format!("127.0.0.1:{}", self.names_port)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", self.refused_nonces.to_string());
        let log = self.folder.join("pebble.log");
        self.pebble = Some(Running::start("pebble", &pebble, log));
        let ports = [self.names_port, self.directory_port, self.roots_port];
        eventually("pebble answers", async || {
            ports
                .iter()
                .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
        })
        .await;
    }

    async fn stop(&mut self) {
        self.pebble.as_mut().unwrap().signal("KILL");
        let mut pebble = self.pebble.take().unwrap();
        pebble.ended(Duration::from_secs(10)).await;
    }

    /// How often its log says so.
    fn said(&self, what: &str) -> usize {
        let log = fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(what)).count()
    }

    fn certificates_issued(&self) -> usize {
        self.said("Issued certificate serial")
    }

    fn orders(&self) -> usize {
        self.said("Added order")
    }

    /// What browsers would have to trust.
    async fn root(&self) -> CertificateDer<'static> {
        let own = fs::read(self.folder.join("pebble.pem")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&own).unwrap()])
            .resolve("pebble.localhost", ([127, 0, 0, 1], 0).into())
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("https://pebble.localhost:{}/roots/0", self.roots_port);
        let pem = client.get(url).send().await.unwrap().bytes().await.unwrap();
        CertificateDer::from_pem_slice(&pem).unwrap()
    }
}

/// Has the stage's certificates ordered, none come from files.
fn order(stage: &Stage, authority: &Authority, http: u16, more: &str) {
    let facts = &stage.lab.facts;
    let (chain, key) = (&facts.gateway_certificate, &facts.gateway_key);
    let files = format!(
        "[[listener.certificates]]\nchain = \"{}\"\nkey = \"{}\"\n",
        chain.display(),
        key.display()
    );
    stage.replace("kerbgate.toml", &files, "");
    let plain = format!("http = [\"127.0.0.1:{http}\"]\nops =");
    stage.replace("kerbgate.toml", "ops =", &plain);
    stage.append("kerbgate.toml", &acme(authority, more));
}

/// The section that orders there.
fn acme(authority: &Authority, more: &str) -> String {
    let port = authority.directory_port;
    format!(
        "[acme]\ndirectory = \"https://pebble.localhost:{port}/dir\"\nca_file = \"pebble.pem\"\n\
         terms_accepted = true\ncontact = [\"mailto:it@contoso.example\"]\n{more}\n"
    )
}

/// A connection to `host` at `port`, believed if `root` signed for it.
async fn connect(
    port: u16,
    host: &str,
    root: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = client().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn client() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
}

fn leaf(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .as_ref()
        .to_vec()
}

/// The certificate that `host` has at `port`, once it has a good one.
async fn certificate(port: u16, host: &str, root: &CertificateDer<'static>) -> Vec<u8> {
    eventually("there is a certificate", async || {
        connect(port, host, root).await.is_ok()
    })
    .await;
    leaf(&connect(port, host, root).await.unwrap())
}

/// What the plain listener answers: status and body.
async fn plain(port: u16, host: &str, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    let request = client.get(format!("http://127.0.0.1:{port}{path}"));
    let answer = request.header("host", host).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn readyz(gateway: &Gateway) -> Value {
    let ops = gateway.ready["ops"].as_str().unwrap();
    let answer = reqwest::get(format!("http://{ops}/readyz")).await;
    answer.unwrap().json().await.unwrap()
}

const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// A second replica in the same folder, with the same store.
async fn second(stage: &Stage, port: u16, http: u16, first_http: u16) -> Gateway {
    let first = fs::read_to_string(stage.path("kerbgate.toml")).unwrap();
    let own = first
        .replace(
            &format!("https = [\"127.0.0.1:{}\"]", stage.port),
            &format!("https = [\"127.0.0.1:{port}\"]"),
        )
        .replace(
            &format!("http = [\"127.0.0.1:{first_http}\"]"),
            &format!("http = [\"127.0.0.1:{http}\"]"),
        )
        .replace(
            "state_dir = \"state\"",
            "state_dir = \"state\"\nruntime_dir = \"second-run\"",
        );
    fs::write(stage.path("second.toml"), own).unwrap();
    let ready = stage.path("second.ready");
    let mut command = kerbgate();
    command
        .arg("run")
        .arg("--config")
        .arg(stage.path("second.toml"))
        .arg("--ready-file")
        .arg(&ready);
    let mut process = Running::start("second", &command, stage.path("second.log"));
    process.wrote(&ready).await;
    let ready = serde_json::from_slice(&fs::read(&ready).unwrap()).unwrap();
    Gateway {
        process,
        ready,
        port,
    }
}

/// Leads each connection of the authority to the replica that did *not* order, and keeps the requests' first lines.
fn to_the_other_one(
    from: TcpListener,
    logs: [PathBuf; 2],
    ports: [u16; 2],
) -> tokio::sync::mpsc::UnboundedReceiver<(usize, String)> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    from.set_nonblocking(true).unwrap();
    let from = tokio::net::TcpListener::from_std(from).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = from.accept().await {
            let first_ordered = fs::read_to_string(&logs[0])
                .unwrap_or_default()
                .contains("the order is placed");
            let other = usize::from(first_ordered);
            let mut there = TcpStream::connect(("127.0.0.1", ports[other]))
                .await
                .unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..length]);
            let line = line.lines().next().unwrap_or_default().to_owned();
            sender.send((other, line)).unwrap();
            there.write_all(&head[..length]).await.unwrap();
            tokio::spawn(async move {
                drop(tokio::io::copy_bidirectional(&mut stream, &mut there).await);
            });
        }
    });
    receiver
}

#[tokio::test]
async fn one_replica_orders_and_every_replica_answers() {
    let stage = Stage::new().await;
    let (port, _one) = free_port();
    let ([first_http, second_http], _two) = {
        let (a, b) = (free_port(), free_port());
        ([a.0, b.0], [a.1, b.1])
    };
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let asked_at = door.local_addr().unwrap().port();
    let mut authority = Authority::new(&stage, asked_at, 1, &json!({}));
    order(
        &stage,
        &authority,
        first_http,
        "hosts = [\"wiki.localhost\"]",
    );
    let logs = [stage.path("kerbgate.log"), stage.path("second.log")];
    let mut asked = to_the_other_one(door, logs.clone(), [first_http, second_http]);
    let first = stage.gateway().await;
    let second = second(&stage, port, second_http, first_http).await;
    authority.start().await;
    let root = authority.root().await;

    let here = certificate(stage.port, "wiki.localhost", &root).await;
    let there = certificate(port, "wiki.localhost", &root).await;
    assert!(here == there, "each replica has a certificate of its own");
    let (other, line) = asked.recv().await.unwrap();
    let placed = logs.clone().map(|log| {
        fs::read_to_string(log)
            .unwrap()
            .contains("the order is placed")
    });
    assert_eq!(placed.iter().filter(|placed| **placed).count(), 1);
    assert!(!placed[other], "whoever ordered was asked");
    let tried = logs.iter().filter(|log| {
        let log = fs::read_to_string(log).unwrap();
        log.contains("ordering a certificate")
    });
    assert_eq!(tried.count(), 1, "both went on with the order");
    assert_eq!(authority.orders(), 1);
    assert_eq!(authority.certificates_issued(), 1);

    // The token has done its work; no other one ever does any.
    let path = line.split(' ').nth(1).unwrap();
    let thumbprint = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (http, gateway) in [(first_http, &first), (second_http, &second)] {
        let forged = format!("{CHALLENGE}forged-token-of-an-attacker");
        for path in [path, &forged, &format!("{forged}.{thumbprint}")] {
            let (status, body) = plain(http, "wiki.localhost", path).await;
            assert!(status == 404 || status == 308, "{path}: {status}");
            assert_eq!(body, "", "{path}");
        }
        assert_eq!(plain(http, "wiki.localhost", path).await.0, 404);
        // Hosts that do not order are redirected as ever; so their own programs may order.
        assert_eq!(plain(http, "intranet.localhost", path).await.0, 308);
        assert_eq!(readyz(gateway).await["acme"]["hosts"], 1);
    }
}

/// Believes whatever it is shown, and remembers nothing.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A connection that offers `protocols`, whatever it is shown.
async fn offer(
    port: u16,
    host: &str,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = client()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// id-pe-acmeIdentifier (RFC 8737 6.1), as it stands in DER.
const ACME_IDENTIFIER: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f];

#[tokio::test]
async fn a_gateway_without_any_certificate_gets_them_by_handshakes() {
    let stage = Stage::new().await;
    let (http, _http) = free_port();
    let mut authority = Authority::new(&stage, 1, stage.port, &json!({}));
    order(&stage, &authority, http, "challenge = \"tls-alpn-01\"");
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    // It serves, and says what is missing and why.
    eventually("the reason is told", async || {
        readyz(&gateway).await["acme"]["missing"][0]["host"] == "intranet.localhost"
            && gateway.log().contains("no ACME account")
    })
    .await;
    let told = readyz(&gateway).await;
    assert_eq!(told["acme"]["hosts"], 4, "{told}");
    assert!(gateway.log().contains("no certificate yet"));
    let stranger = offer(stage.port, "wiki.localhost", &[b"http/1.1"]).await;
    assert!(stranger.is_err(), "shown a certificate that is none");

    authority.start().await;
    let root = authority.root().await;
    // While the order is open, the proof is shown to whoever speaks the authority's protocol and nothing else.
    let first = "intranet.localhost";
    let mut proof = None;
    eventually("the proof is shown", async || {
        offer(stage.port, first, &[b"acme-tls/1"]).await.is_ok()
    })
    .await;
    if let Ok(mut stream) = offer(stage.port, first, &[b"acme-tls/1"]).await {
        proof = Some(leaf(&stream));
        let request = format!("GET / HTTP/1.1\r\nHost: {first}\r\n\r\n");
        drop(stream.write_all(request.as_bytes()).await);
        let answer = to_the_end(&mut stream).await;
        assert!(answer.is_empty(), "{}", answer.escape_ascii());
    }
    let visitor = offer(stage.port, first, &[b"acme-tls/1", b"http/1.1"]).await;
    assert!(visitor.is_err(), "a visitor was shown the proof");
    let proof = proof.expect("the proof is shown for some seconds");
    let marked = |der: &[u8]| der.windows(10).any(|ten| ten == ACME_IDENTIFIER);
    assert!(marked(&proof));

    for host in ["intranet", "login", "timesheet", "wiki"] {
        let host = format!("{host}.localhost");
        let shown = certificate(stage.port, &host, &root).await;
        assert!(!marked(&shown));
    }
    assert_eq!(authority.certificates_issued(), 4);
    assert_eq!(readyz(&gateway).await["acme"]["missing"], json!([]));
    let after = offer(stage.port, first, &[b"acme-tls/1"]).await;
    assert!(after.is_err(), "a proof without an order");
    let state = fs::read(stage.path("state/kerbgate.db")).unwrap();
    assert!(
        !state.windows(11).any(|bytes| bytes == b"PRIVATE KEY"),
        "a key lies open in the store"
    );
}

#[tokio::test]
async fn an_order_that_was_killed_is_finished_by_the_next_start() {
    let stage = Stage::new().await;
    let (http, _http) = free_port();
    let mut authority = Authority::new(&stage, 1, stage.port, &json!({}));
    let only = "challenge = \"tls-alpn-01\"\nhosts = [\"wiki.localhost\"]";
    order(&stage, &authority, http, only);
    authority.start().await;
    let mut killed = stage.gateway().await;
    eventually("the order is placed", async || {
        killed.log().contains("the order is placed")
    })
    .await;
    killed.process.signal("KILL");
    killed.process.ended(Duration::from_secs(10)).await;
    assert_eq!(authority.certificates_issued(), 0, "too late to test it");

    let gateway = stage.gateway().await;
    let root = authority.root().await;
    certificate(stage.port, "wiki.localhost", &root).await;
    assert!(gateway.log().contains("going on with the order"));
    assert_eq!(authority.orders(), 1);
    assert_eq!(authority.certificates_issued(), 1);
}

#[tokio::test]
async fn a_replica_that_slept_through_its_lease_changes_nothing() {
    let stage = Stage::new().await;
    let (port, _one) = free_port();
    let ([http, second_http], _two) = {
        let (a, b) = (free_port(), free_port());
        ([a.0, b.0], [a.1, b.1])
    };
    let mut authority = Authority::new(&stage, 1, port, &json!({}));
    let only = "challenge = \"tls-alpn-01\"\nhosts = [\"wiki.localhost\"]";
    order(&stage, &authority, http, only);
    authority.start().await;
    let sleeper = stage.gateway().await;
    let host = "wiki.localhost";
    eventually("the proof is there", async || {
        offer(stage.port, host, &[b"acme-tls/1"]).await.is_ok()
    })
    .await;
    sleeper.process.signal("STOP");
    let other = second(&stage, port, second_http, http).await;
    let root = authority.root().await;
    let shown = certificate(port, host, &root).await;
    sleeper.process.signal("CONT");
    assert!(certificate(stage.port, host, &root).await == shown);
    eventually("it notices", async || {
        sleeper.log().contains("the lease is no longer ours")
    })
    .await;
    for gateway in [&sleeper, &other] {
        let told = readyz(gateway).await;
        assert_eq!(told["acme"]["missing"], json!([]), "{told}");
        assert_eq!(told["acme"]["not_renewed"], json!([]), "{told}");
    }
    assert_eq!(authority.orders(), 1);
    assert_eq!(authority.certificates_issued(), 1);
}

#[tokio::test]
async fn a_renewal_loses_no_request() {
    let stage = Stage::new().await;
    let (http, _http) = free_port();
    let lifetime = json!({"certificateValidityPeriod": 15});
    let mut authority = Authority::new(&stage, http, 1, &lifetime);
    order(&stage, &authority, http, "hosts = [\"wiki.localhost\"]");
    authority.start().await;
    let gateway = stage.gateway().await;
    let root = authority.root().await;
    let first = certificate(stage.port, "wiki.localhost", &root).await;
    let (mut last, mut served) = (first.clone(), 0);
    let start = std::time::Instant::now();
    while last == first || served < 50 {
        // Each visitor comes anew, and believes nothing that has expired.
        let mut stream = connect(stage.port, "wiki.localhost", &root).await.unwrap();
        last = leaf(&stream);
        let request = "GET / HTTP/1.1\r\nHost: wiki.localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(
            answer.windows(16).any(|part| part == b"sign-in-required"),
            "{}",
            answer.escape_ascii()
        );
        served += 1;
        assert!(start.elapsed() < Duration::from_secs(60), "no renewal");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(served >= 50, "{served}");
    assert!(
        start.elapsed() > Duration::from_secs(5),
        "renewed too early"
    );
    assert!(!gateway.log().contains("no certificate by ACME"));
}

#[tokio::test]
async fn it_is_switched_on_and_off_while_serving() {
    let stage = Stage::new().await;
    let (http, _http) = free_port();
    let mut authority = Authority::new(&stage, http, 1, &json!({}));
    let plain = format!("http = [\"127.0.0.1:{http}\"]\nops =");
    stage.replace("kerbgate.toml", "ops =", &plain);
    let files = fs::read(stage.path("kerbgate.toml")).unwrap();
    authority.start().await;
    let root = authority.root().await;
    let _gateway = stage.gateway().await;
    let host = "wiki.localhost";
    let lab = CertificateDer::from_pem_file(&stage.lab.facts.ca).unwrap();
    connect(stage.port, host, &lab).await.unwrap();

    // A host that is named is ordered even though a file is valid for it; until then the file serves.
    let named = format!("hosts = [\"{host}\"]");
    stage.append("kerbgate.toml", &acme(&authority, &named));
    certificate(stage.port, host, &root).await;
    assert!(connect(stage.port, "login.localhost", &lab).await.is_ok());
    replace(&stage.path("kerbgate.toml"), &files);
    certificate(stage.port, host, &lab).await;
    // What was ordered is still there.
    stage.append("kerbgate.toml", &acme(&authority, &named));
    certificate(stage.port, host, &root).await;
    assert_eq!(authority.certificates_issued(), 1);
}

#[tokio::test]
async fn a_refusal_is_quoted_and_holds_back_nobody_else() {
    let stage = Stage::new().await;
    let (http, _http) = free_port();
    let strict = json!({
        "domainBlocklist": ["intranet.localhost"],
        "externalAccountBindingRequired": true,
        "externalAccountMACKeys": {"kid-1": EAB_KEY},
    });
    let mut authority = Authority::new(&stage, http, 1, &strict);
    fs::write(stage.path("eab-key"), format!("{EAB_KEY}\n")).unwrap();
    let two = "hosts = [\"intranet.localhost\", \"wiki.localhost\"]";
    let account = "eab_kid = \"kid-1\"\neab_key_file = \"eab-key\"";
    order(&stage, &authority, http, &format!("{two}\n{account}"));
    authority.start().await;
    let gateway = stage.gateway().await;
    let root = authority.root().await;
    certificate(stage.port, "wiki.localhost", &root).await;

    let told = readyz(&gateway).await;
    let missing = &told["acme"]["missing"];
    assert_eq!(missing.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(missing[0]["host"], "intranet.localhost");
    let why = missing[0]["why"].as_str().unwrap();
    assert!(why.starts_with("rejectedIdentifier: "), "{why}");
    let quoted = why.replace('"', "\\\"");
    assert!(gateway.log().contains(&quoted), "{}", gateway.log());
    let ops = gateway.ready["ops"].as_str().unwrap();
    let metrics = reqwest::get(format!("http://{ops}/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "kerbgate_acme_hosts_failing{} 1",
        "kerbgate_acme_hosts_without_certificate{} 1",
        "kerbgate_acme_certificate_seconds{host=\"wiki.localhost\"} ",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    // A refusal is not asked for again at once, not even by whoever starts anew.
    let tries = |gateway: &Gateway| gateway.log().matches("ordering a certificate").count();
    assert_eq!(tries(&gateway), 2, "{}", gateway.log());
    let mut gateway = gateway;
    gateway.process.stop().await;
    let again = stage.gateway().await;
    certificate(stage.port, "wiki.localhost", &root).await;
    let kept = &readyz(&again).await["acme"]["missing"][0];
    assert_eq!(kept, &missing[0], "the pause is forgotten");
    assert_eq!(tries(&again), 2, "{}", again.log());
    assert!(!again.log().contains(EAB_KEY));
}

#[tokio::test]
async fn the_old_certificate_stays_while_the_authority_is_away() {
    let stage = Stage::new().await;
    let (http, _http) = free_port();
    let lifetime = json!({"certificateValidityPeriod": 30});
    let mut authority = Authority::new(&stage, http, 1, &lifetime);
    authority.refused_nonces = 15;
    order(&stage, &authority, http, "hosts = [\"wiki.localhost\"]");
    authority.start().await;
    let gateway = stage.gateway().await;
    let root = authority.root().await;
    let first = certificate(stage.port, "wiki.localhost", &root).await;
    authority.stop().await;
    eventually("the renewal fails", async || {
        readyz(&gateway).await["acme"]["hosts"] == 1 && gateway.log().contains("no ACME account")
    })
    .await;
    assert!(certificate(stage.port, "wiki.localhost", &root).await == first);
    // It comes back without any memory of us: a new account and a new certificate, by itself.
    authority.start().await;
    let root = authority.root().await;
    assert!(certificate(stage.port, "wiki.localhost", &root).await != first);
    assert_eq!(gateway.log().matches("an ACME account was made").count(), 2);
}
