//! Raw bytes over real sockets; what counts is what the service saw.

use std::sync::Mutex;

use http_body_util::BodyExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::model::body::full;

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// A server that notes method, target and body of each request once its body was read.
async fn server(settings: Settings, tls: Option<Arc<ServerConfig>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let notes = Arc::clone(&seen);
    let service = move |request: Request<Incoming>| {
        let notes = Arc::clone(&notes);
        async move {
            let (head, body) = request.into_parts();
            let peer = head.extensions.get::<Peer>().unwrap().clone();
            let Ok(body) = body.collect().await else {
                return Response::new(full("cut"));
            };
            let body = body.to_bytes();
            let note = format!("{} {} {}", head.method, head.uri, body.escape_ascii());
            notes.lock().unwrap().push(note);
            Response::new(full(format!(
                "http2={} {:?} {:?}",
                head.version == http::Version::HTTP_2,
                peer.tls_version,
                peer.sni
            )))
        }
    };
    let running = tokio::spawn(run(listener, settings, tls, service, stop.clone()));
    Server {
        address,
        seen,
        stop,
        running,
    }
}

/// Everything the server answers to `bytes` until it closes.
async fn talk(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end<T: AsyncRead + Unpin>(stream: &mut T) -> String {
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        loop {
            // A reset after the answer is an end as well.
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(size) => answer.extend_from_slice(&part[..size]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("the server keeps the connection");
    String::from_utf8(answer).unwrap()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|one| &one[..3])
        .collect()
}

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";

/// The pause after which a connection gives its buffers back is what is tested; it is counted in milliseconds.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Every pause is one in which the connection gives its buffers back.
fn quiet_at_once() -> Settings {
    Settings {
        quiet: Duration::ZERO,
        ..Settings::default()
    }
}

#[tokio::test]
async fn ambiguous_requests_get_400_and_reach_nobody() {
    for settings in [Settings::default(), quiet_at_once()] {
        refuse_what_is_ambiguous(settings).await;
    }
}

async fn refuse_what_is_ambiguous(settings: Settings) {
    let quiet = settings.quiet.is_zero();
    let server = server(settings, None).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\n Transfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nA: b\nContent-Length: 44\r\n\r\n",
        "POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: \0\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        server.seen.lock().unwrap().clear();
        let answer = talk(&server, format!("{head}{smuggled}").as_bytes()).await;
        assert_eq!(statuses(&answer), ["400"], "{}", head.escape_debug());
        assert!(server.seen().is_empty(), "{}", head.escape_debug());
        // The same behind a good request, and cut in two by the network: nobody sees more.
        let (one, two) = head.split_at(head.len() / 2);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(GOOD.as_bytes()).await.unwrap();
        if quiet {
            pause().await;
        }
        stream.write_all(one.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        // It may have closed already.
        let rest = stream
            .write_all(format!("{two}{smuggled}").as_bytes())
            .await;
        drop(rest);
        let answer = read_to_end(&mut stream).await;
        assert!(statuses(&answer).len() <= 2, "{answer}");
        let seen = server.seen();
        assert!(
            seen.iter().all(|note| note == "GET /good "),
            "{} {seen:?}",
            head.escape_debug()
        );
    }
    // Control: the same server serves sound requests, pipelined, with bodies that look like requests.
    server.seen.lock().unwrap().clear();
    let body = format!("{:x}\r\n{GOOD}\r\n0\r\n\r\n", GOOD.len());
    let sound = format!(
        "{GOOD}POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
         POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GOOD}\
         GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        GOOD.len()
    );
    let answer = talk(&server, sound.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200"; 4], "{answer}");
    assert_eq!(server.seen().len(), 4, "{:?}", server.seen());
}

#[tokio::test]
async fn a_malformed_chunk_ends_the_connection_before_the_next_request() {
    let server = server(Settings::default(), None).await;
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0\r\n\n",
        "0x1\r\na\r\n0\r\n\r\n",
    ] {
        let bytes =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{GOOD}");
        talk(&server, bytes.as_bytes()).await;
        assert!(
            server.seen().is_empty(),
            "{} {:?}",
            body.escape_debug(),
            server.seen()
        );
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let settings = Settings {
        max_head: 16_384,
        ..Settings::default()
    };
    let server = server(settings, None).await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n",
        "b".repeat(40_000)
    );
    assert_eq!(statuses(&talk(&server, large.as_bytes()).await), ["431"]);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "A: b\r\n".repeat(500)
    );
    assert_eq!(statuses(&talk(&server, many.as_bytes()).await), ["431"]);
    let fits = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nA: {}\r\n\r\n",
        "b".repeat(15_000)
    );
    assert_eq!(statuses(&talk(&server, fits.as_bytes()).await), ["200"]);
}

#[tokio::test]
async fn slow_heads_and_idle_connections_end() {
    let settings = Settings {
        headers: Duration::from_millis(80),
        idle: Duration::from_millis(80),
        ..Settings::default()
    };
    let server = server(settings, None).await;
    assert_eq!(talk(&server, b"").await, "");
    assert_eq!(statuses(&talk(&server, b"GET / HT").await), ["408"]);
    // After a request, the idle time begins anew, and ends without a word.
    assert_eq!(statuses(&talk(&server, GOOD.as_bytes()).await), ["200"]);
    let slow_second = format!("{GOOD}GET /second HTTP/1.1\r\n");
    assert_eq!(
        statuses(&talk(&server, slow_second.as_bytes()).await),
        ["200", "408"]
    );
}

#[tokio::test]
async fn a_quiet_connection_goes_on_where_it_stopped() {
    let (server, client) = tls_server(quiet_at_once()).await;
    let mut stream = connect(&server, &client, "a.example", &["http/1.1"])
        .await
        .unwrap();
    // RFC 9112 2.2: empty lines before a request line are skipped; here they end a pause and begin the next.
    for request in [
        GOOD.to_owned(),
        format!("\r\n{GOOD}"),
        format!("\r\n\r\n{GOOD}"),
        GOOD.repeat(2),
    ] {
        let wanted = server.seen().len() + request.matches("GET").count();
        pause().await;
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            stream.flush().await.unwrap();
            if *byte == b'\r' || *byte == b'\n' {
                pause().await;
            }
        }
        while server.seen().len() < wanted {
            let mut part = [0; 4096];
            assert_ne!(stream.read(&mut part).await.unwrap(), 0);
        }
    }
    let body = format!(
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GOOD}",
        GOOD.len()
    );
    let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (one, two) = body.split_at(body.len() - GOOD.len() - 4);
    for part in [one, two] {
        pause().await;
        stream.write_all(part.as_bytes()).await.unwrap();
    }
    pause().await;
    stream.write_all(last.as_bytes()).await.unwrap();
    let answers = read_to_end(&mut stream).await;
    assert!(
        answers.ends_with("http2=false Some(\"TLSv1_3\") Some(\"a.example\")"),
        "{answers}"
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(seen[5].starts_with("POST /body GET /good"), "{seen:?}");
    assert_eq!(seen[6], "GET /last ");
}

#[tokio::test]
async fn a_quiet_connection_ends_like_any_other() {
    let idle = Settings {
        idle: Duration::from_millis(80),
        ..quiet_at_once()
    };
    let server_of_idle = server(idle, None).await;
    let answer = talk(&server_of_idle, GOOD.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200"]);
    let slow = Settings {
        headers: Duration::from_millis(80),
        ..quiet_at_once()
    };
    let server = server(slow, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GOOD.as_bytes()).await.unwrap();
    let mut part = [0; 4096];
    assert_ne!(stream.read(&mut part).await.unwrap(), 0);
    pause().await;
    stream.write_all(b"G").await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), ["408"]);
}

#[tokio::test]
async fn a_stop_ends_quiet_connections_at_once() {
    let server = server(quiet_at_once(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GOOD.as_bytes()).await.unwrap();
    let mut part = [0; 4096];
    assert_ne!(stream.read(&mut part).await.unwrap(), 0);
    pause().await;
    server.stop.cancel();
    assert_eq!(read_to_end(&mut stream).await, "");
    server.running.await.unwrap();
}

#[tokio::test]
async fn connections_above_the_limit_wait() {
    let settings = Settings {
        max_connections: 1,
        ..Settings::default()
    };
    let server = server(settings, None).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(GOOD.as_bytes()).await.unwrap();
    let mut part = [0; 12];
    first.read_exact(&mut part).await.unwrap();
    let second = talk(
        &server,
        b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    tokio::pin!(second);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut second)
            .await
            .is_err()
    );
    assert_eq!(server.seen().len(), 1);
    drop(first);
    assert_eq!(statuses(&second.await), ["200"]);
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let server = server(Settings::default(), None).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        )
        .await
        .unwrap();
    // The service reads: the request is being served.
    let mut part = [0; 25];
    stream.read_exact(&mut part).await.unwrap();
    assert!(part.starts_with(b"HTTP/1.1 100"));
    server.stop.cancel();
    assert_eq!(read_to_end(&mut idle).await, "");
    stream.write_all(b"body").await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), ["200"]);
    server.running.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn the_drain_time_ends() {
    let settings = Settings {
        drain: Duration::from_millis(50),
        ..Settings::default()
    };
    let server = server(settings, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        )
        .await
        .unwrap();
    let mut part = [0; 25];
    stream.read_exact(&mut part).await.unwrap();
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), server.running)
        .await
        .unwrap()
        .unwrap();
}

/// A TLS server for `a.example`, and a client configuration that trusts it.
async fn tls_server(settings: Settings) -> (Server, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec![String::from("a.example")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain"), folder.path().join("key"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificates = tls::Certificates::load(&[(chain, key)]).unwrap();
    let config = tls::server_config(Arc::new(certificates)).unwrap();
    let server = server(settings, Some(config)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, Arc::new(client))
}

async fn connect(
    server: &Server,
    client: &rustls::ClientConfig,
    name: &str,
    alpn: &[&str],
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let mut client = client.clone();
    client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = String::from(name).try_into().unwrap();
    TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn the_protocol_is_the_one_agreed_on() {
    let (server, client) = tls_server(Settings::default()).await;
    let mut stream = connect(&server, &client, "a.example", &[]).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.ends_with("http2=false Some(\"TLSv1_3\") Some(\"a.example\")"),
        "{answer}"
    );

    let stream = connect(&server, &client, "a.example", &["h2", "http/1.1"])
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("https://a.example/x")
        .body(crate::model::body::empty())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"http2=true"), "{body:?}");
    server.stop.cancel();
    connection.await.unwrap().unwrap();
    server.running.await.unwrap();
}

#[tokio::test]
async fn unknown_names_get_no_certificate() {
    let (server, client) = tls_server(Settings::default()).await;
    assert!(connect(&server, &client, "b.example", &[]).await.is_err());
    assert!(connect(&server, &client, "a.example", &[]).await.is_ok());
}

#[tokio::test]
async fn silent_handshakes_and_silent_http2_end() {
    let short = Duration::from_millis(80);
    let settings = Settings {
        handshake: short,
        headers: short,
        idle: short,
        ..Settings::default()
    };
    let (server, client) = tls_server(settings).await;
    assert_eq!(talk(&server, b"").await, "");
    let mut stream = connect(&server, &client, "a.example", &["h2"])
        .await
        .unwrap();
    let mut end = Vec::new();
    let reading = stream.read_to_end(&mut end);
    // Closed with or without a goodbye; what matters is that it ends.
    let ended = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(ended.is_ok());
}
