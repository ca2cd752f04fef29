//! Against backends in this process, connection-bound ones included; what counts is what they saw.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use http::header;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;
use crate::forward::pool::SessionKey;
use crate::listener;
use crate::listener::body::BodyCut;
use crate::listener::body::LimitedBody;
use crate::model::application::Backend;
use crate::model::application::KerberosSso;
use crate::model::application::Wrap;
use crate::model::body::BodyError;
use crate::model::body::empty;
use crate::model::body::full;
use crate::model::stop::Code;

mod http2;
mod identity;
mod limits;
mod send;

/// Requests, each with the number of the connection it came on. Numbers, not client ports: the kernel
/// gives a port out again soon after its connection has gone.
type Seen = Arc<Mutex<Vec<(usize, Request<Bytes>)>>>;

/// A backend that notes whole requests with their connections, and lets `answer` answer.
async fn backend<A>(answer: A) -> (SocketAddr, Seen)
where
    A: Fn(usize, &Request<Bytes>) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(serve(
                stream,
                connection,
                answer.clone(),
                Arc::clone(&notes),
            ));
        }
    });
    (address, seen)
}

async fn serve<A>(stream: TcpStream, connection: usize, answer: A, notes: Seen)
where
    A: Fn(usize, &Request<Bytes>) -> Response<Body>,
{
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = Request::from_parts(head, body);
        let response = answer(connection, &request);
        notes.lock().unwrap().push((connection, request));
        Ok::<_, hyper::Error>(response)
    });
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(serving.await);
}

fn application(backends: &[&str], sso: Sso) -> Application {
    let published_url = Url::parse("https://wiki.example.com:8443/w/").unwrap();
    Application {
        prefix: String::from("/w/"),
        published_url,
        backends: backends
            .iter()
            .map(|url| Backend {
                url: Url::parse(url).unwrap(),
                address: None,
            })
            .collect(),
        sso,
        ..Application::sample()
    }
}

const fn kerberos(send: SendToken) -> Sso {
    Sso::Kerberos(KerberosSso {
        spns: Vec::new(),
        send,
        wrap: Wrap::Spnego,
        mutual: false,
        channel_binding: true,
    })
}

fn forwarder() -> Forwarder {
    Forwarder::new(Trust::Authorities(Vec::new()), Limits::default()).unwrap()
}

fn session(number: u8) -> Partition {
    Partition::Session(SessionKey {
        session: [number; 32],
        principal: format!("user{number}@CONTOSO.TEST").into(),
    })
}

fn target(uri: &str) -> Target {
    Target::parse(&uri.parse().unwrap()).unwrap()
}

async fn send(
    forwarder: &Forwarder,
    application: &Application,
    partition: Partition,
    credential: Option<&Credential<'_>>,
    request: Request<Body>,
) -> Result<Answer, Error> {
    let target = Target::parse(request.uri()).unwrap();
    let exchange = Exchange {
        session: None,
        application,
        target: &target,
        named: None,
        client: "192.0.2.7",
        partition,
        identity: &[],
        interim: None,
    };
    forwarder.send(exchange, credential, request).await
}

async fn text(answer: Answer) -> String {
    let body = answer.response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(empty()).unwrap()
}

fn token(text: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Negotiate {text}")).unwrap()
}

/// Connections that a backend saw.
fn connections(seen: &Seen) -> usize {
    let seen = seen.lock().unwrap();
    seen.iter()
        .map(|(connection, _)| *connection)
        .collect::<HashSet<_>>()
        .len()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(done.is_ok(), "{what}");
}

async fn raw(mut stream: TcpStream, counter: Arc<AtomicUsize>, answer: &[u8], close: bool) {
    let mut part = vec![0; 65_536];
    while stream.read(&mut part).await.is_ok_and(|size| size > 0) {
        counter.fetch_add(1, Ordering::Relaxed);
        stream.write_all(answer).await.unwrap();
        if close {
            break;
        }
    }
}

/// A backend of raw bytes: answers each connection's first request with `first`, and counts requests.
async fn raw_backend(first: &'static [u8], close: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(raw(stream, Arc::clone(&counter), first, close));
        }
    });
    (address, requests)
}

#[tokio::test]
async fn what_may_have_been_sent_is_not_sent_again() {
    for (answer, close, code) in [
        (&b""[..], true, Code::BackendUnreachable),
        (
            b"HTTP/1.1 200 OK\r\nContent-Le",
            true,
            Code::BackendUnreachable,
        ),
        (b"garbage\r\n\r\n", true, Code::BackendProtocol),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            false,
            Code::BackendProtocol,
        ),
    ] {
        let (address, requests) = raw_backend(answer, close).await;
        let application = application(&[&format!("http://{address}/")], Sso::None);
        let forwarder = forwarder();
        let error = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        )
        .await
        .unwrap_err();
        let text = error.to_string();
        let Stop::Fail(fault) = Stop::from(error) else {
            panic!("{text}");
        };
        assert_eq!(fault.code, code, "{text}");
        assert_eq!(requests.load(Ordering::Relaxed), 1, "{text}");
    }
}

#[tokio::test]
async fn a_connection_closed_while_it_waited_is_replaced() {
    // Closes after each answer without having said so.
    let (address, requests) =
        raw_backend(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true).await;
    let application = application(&[&format!("http://{address}/")], Sso::None);
    let forwarder = forwarder();
    for turn in 1..=20 {
        let answer = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        )
        .await;
        // The close may arrive after the next request was written: then it counts as sent.
        match answer {
            Ok(answer) => assert_eq!(text(answer).await, "ok"),
            Err(Error::Closed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(requests.load(Ordering::Relaxed) <= turn);
    }
}

#[tokio::test]
async fn the_next_server_takes_over_from_one_that_refuses() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = closed.local_addr().unwrap();
    drop(closed);
    let (address, seen) = backend(|_, _| Response::new(full("alive"))).await;
    let urls = [format!("http://{dead}/"), format!("http://{address}/")];
    let application = application(&[&urls[0], &urls[1]], Sso::None);
    let forwarder = forwarder();
    for _ in 0..6 {
        let answer = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        )
        .await;
        let answer = answer.unwrap();
        assert_eq!(answer.index, 1);
        assert_eq!(text(answer).await, "alive");
    }
    assert_eq!(seen.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn a_backend_that_says_nothing_is_a_timeout() {
    let (address, _) = raw_backend(b"", false).await;
    let mut application = application(&[&format!("http://{address}/")], Sso::None);
    application.limits.first_byte = Duration::from_millis(50);
    let forwarder = forwarder();
    let error = send(
        &forwarder,
        &application,
        Partition::Anonymous,
        None,
        get("/w/"),
    )
    .await;
    assert!(matches!(error, Err(Error::FirstByte { .. })));
    // A body that stops is cut as well.
    let (address, _) = raw_backend(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", false).await;
    application.backends[0].url = Url::parse(&format!("http://{address}/")).unwrap();
    application.limits.idle = Duration::from_millis(50);
    let answer = send(
        &forwarder,
        &application,
        Partition::Anonymous,
        None,
        get("/w/"),
    )
    .await;
    let error = answer
        .unwrap()
        .response
        .into_body()
        .collect()
        .await
        .unwrap_err();
    assert!(matches!(BodyCut::of(&*error), Some(BodyCut::Silent(_))));
    assert_eq!(forwarder.waiting(), 0);
}

/// A backend that wants Negotiate for each request and accepts one token.
async fn challenging() -> (SocketAddr, Seen) {
    backend(|_, request| {
        if request.headers().get(header::AUTHORIZATION) == Some(&token("good")) {
            let mut response = Response::new(full("in"));
            let proof = HeaderValue::from_static("Negotiate proof");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, proof);
            return response;
        }
        let mut response = Response::new(full("who?"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = HeaderValue::from_static("Negotiate");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        response
    })
    .await
}

#[tokio::test]
async fn tokens_are_sent_when_they_should_be() {
    let (address, seen) = challenging().await;
    let forwarder = forwarder();
    let made = AtomicUsize::new(0);
    let credential = |_, _| {
        made.fetch_add(1, Ordering::Relaxed);
        async { Ok(token("good")) }.boxed()
    };
    let post = || Request::post("/w/").body(full("body")).unwrap();
    for (mode, request, requests) in [
        (SendToken::EachRequest, get("/w/"), 1),
        (SendToken::OnChallenge, get("/w/"), 2),
        (SendToken::OnChallenge, post(), 1),
    ] {
        seen.lock().unwrap().clear();
        made.store(0, Ordering::Relaxed);
        let application = application(&[&format!("http://{address}/")], kerberos(mode));
        let answer = send(
            &forwarder,
            &application,
            session(1),
            Some(&credential),
            request,
        )
        .await;
        let answer = answer.unwrap();
        assert_eq!(
            answer.backend_token,
            Some(HeaderValue::from_static("Negotiate proof"))
        );
        assert_eq!(text(answer).await, "in");
        assert_eq!(seen.lock().unwrap().len(), requests, "{mode:?}");
        assert_eq!(made.load(Ordering::Relaxed), 1, "{mode:?}");
    }
}

#[tokio::test]
async fn a_refused_ticket_is_told_and_not_sent_again() {
    let (address, seen) = challenging().await;
    let forwarder = forwarder();
    let credential = |_, _| async { Ok(token("bad")) }.boxed();
    for (mode, requests) in [(SendToken::EachRequest, 1), (SendToken::OnChallenge, 2)] {
        seen.lock().unwrap().clear();
        let application = application(&[&format!("http://{address}/")], kerberos(mode));
        let answer = send(
            &forwarder,
            &application,
            session(1),
            Some(&credential),
            get("/w/"),
        )
        .await;
        assert!(matches!(answer, Err(Error::TicketRefused { index: 0, .. })));
        assert_eq!(seen.lock().unwrap().len(), requests, "{mode:?}");
    }
    // No credential, nothing sent.
    seen.lock().unwrap().clear();
    let credential = |_, _| async { Err(Stop::deny(Code::DelegationRefused, "no")) }.boxed();
    let application = application(
        &[&format!("http://{address}/")],
        kerberos(SendToken::EachRequest),
    );
    let answer = send(
        &forwarder,
        &application,
        session(1),
        Some(&credential),
        get("/w/"),
    )
    .await;
    let Stop::Deny(denial) = Stop::from(answer.unwrap_err()) else {
        panic!("no denial");
    };
    assert_eq!(denial.code, Code::DelegationRefused);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_backend_gets_what_was_authorized_and_who_came() {
    let (address, seen) = backend(|_, _| Response::new(empty())).await;
    let mut application = application(&[&format!("http://{address}/base/")], Sso::None);
    let forwarder = forwarder();
    let long = "t".repeat(65_000);
    let request = Request::post("/w/a%20b/%E4;x=1/./c/?q=%zz&r=//")
        .header("x-user", "forged")
        .header("x-forwarded-for", "203.0.113.9")
        .header("connection", "close, x-mine")
        .header("x-mine", "1")
        .header("cookie", "a=1; __Host-kerbgate=secret")
        .header("content-type", "text/plain")
        .body(empty())
        .unwrap();
    let target = target(&request.uri().to_string());
    let exchange = Exchange {
        session: None,
        application: &application,
        target: &target,
        named: None,
        client: "192.0.2.7",
        partition: Partition::Anonymous,
        identity: &[(
            HeaderName::from_static("x-user"),
            HeaderValue::try_from(&long).unwrap(),
        )],
        interim: None,
    };
    forwarder.send(exchange, None, request).await.unwrap();
    let (_, got) = seen.lock().unwrap().pop().unwrap();
    assert_eq!(got.uri(), "/base/a%20b/%E4;x=1/c/?q=%zz&r=//");
    let headers = got.headers();
    assert_eq!(headers["host"], address.to_string());
    assert_eq!(headers["x-user"], long);
    assert_eq!(headers.get_all("x-user").iter().count(), 1);
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["x-forwarded-host"], "wiki.example.com:8443");
    assert_eq!(headers["cookie"], "a=1");
    assert_eq!(headers["content-length"], "0");
    assert_eq!(headers["content-type"], "text/plain");
    assert!(!headers.contains_key("x-mine"));
    assert!(!headers.contains_key("connection"));

    application.keep_host = true;
    send(
        &forwarder,
        &application,
        Partition::Anonymous,
        None,
        get("/w"),
    )
    .await
    .unwrap();
    let (_, got) = seen.lock().unwrap().pop().unwrap();
    assert_eq!(got.uri(), "/base");
    assert_eq!(got.headers()["host"], "wiki.example.com:8443");
}

#[tokio::test]
async fn what_is_never_forwarded_reaches_nobody() {
    let (address, seen) = backend(|_, _| Response::new(empty())).await;
    let application = application(&[&format!("http://{address}/")], Sso::None);
    let forwarder = forwarder();
    let with = |name: &str, value: &str| {
        Request::get("/w/")
            .header(name, value)
            .body(empty())
            .unwrap()
    };
    for (request, code) in [
        (
            Request::builder()
                .method("TRACE")
                .uri("/w/")
                .body(empty())
                .unwrap(),
            Code::MethodRefused,
        ),
        (with("upgrade", "websocket"), Code::UpgradeRefused),
        (with("connection", "x-forwarded-for"), Code::BadRequest),
    ] {
        let answer = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            request,
        )
        .await;
        let Stop::Deny(denial) = Stop::from(answer.unwrap_err()) else {
            panic!("no denial");
        };
        assert_eq!(denial.code, code);
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_is_no_complete_request() {
    let (address, seen) = backend(|_, _| Response::new(empty())).await;
    let application = application(&[&format!("http://{address}/")], Sso::None);
    let forwarder = forwarder();
    let parts = |last: Option<BodyError>| {
        let parts = (0..4).map(|_| Ok(Frame::data(Bytes::from_static(b"12345"))));
        let stream = futures_util::stream::iter(parts.chain(last.map(Err)));
        StreamBody::new(stream.boxed())
    };
    let post = |body: Body| Request::post("/w/").body(body).unwrap();
    let limited = LimitedBody::new(parts(None), 12).unwrap().boxed_unsync();
    let answer = send(
        &forwarder,
        &application,
        Partition::Anonymous,
        None,
        post(limited),
    )
    .await;
    assert!(
        matches!(answer, Err(Error::Body(BodyCut::TooLarge(12)))),
        "{answer:?}"
    );
    let broken = parts(Some("gone".into())).boxed_unsync();
    let answer = send(
        &forwarder,
        &application,
        Partition::Anonymous,
        None,
        post(broken),
    )
    .await;
    assert!(matches!(answer, Err(Error::ClientGone)), "{answer:?}");
    // Control.
    let whole = parts(None).boxed_unsync();
    send(
        &forwarder,
        &application,
        Partition::Anonymous,
        None,
        post(whole),
    )
    .await
    .unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].1.body().len(), 20);
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_gets_nothing() {
    let made = rcgen::generate_simple_self_signed(vec![String::from("localhost")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain"), folder.path().join("key"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificates = listener::tls::Certificates::load(&[(chain, key)]).unwrap();
    let tls = listener::tls::server_config(Arc::new(certificates)).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let service = |_| async { Response::new(full("secure")) };
    let stop = CancellationToken::new();
    let settings = listener::Settings::default();
    tokio::spawn(listener::run(socket, settings, Some(tls), service, stop));
    let trusted = Trust::Authorities(vec![made.cert.der().clone()]);
    for (trust, host, verifies) in [
        (trusted.clone(), "localhost", true),
        (trusted, "127.0.0.1", false),
        (Trust::Platform, "localhost", false),
    ] {
        let forwarder = Forwarder::new(trust, Limits::default()).unwrap();
        let mut application = application(&[&format!("https://{host}:{port}/")], Sso::None);
        application.backends[0].address = Some(([127, 0, 0, 1], port).into());
        let answer = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        )
        .await;
        match answer {
            Ok(answer) if verifies => assert_eq!(text(answer).await, "secure"),
            Err(Error::Tls { .. }) if !verifies => {}
            other => panic!("{host}: {other:?}"),
        }
    }
}
