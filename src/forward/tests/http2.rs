//! HTTP/2 towards backends: against one that is written frame by frame, so that it can say what no library
//! would, and one that speaks it properly.

use std::future::pending;

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioExecutor;

use super::*;
use crate::model::application::HeaderSso;
use crate::model::application::backend_http::BackendHttp;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END: u8 = 1;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// What came on which connection and stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    /// A whole request, and its body.
    Request(usize, u32, Vec<u8>),
    /// A reset, and why.
    Reset(usize, u32, u32),
}

type Log = Arc<Mutex<Vec<Came>>>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn reset(stream: u32, why: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &why.to_be_bytes())
}

fn goaway(last: u32) -> Vec<u8> {
    frame(
        GOAWAY,
        0,
        0,
        &[last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat(),
    )
}

/// `:status: 200` (RFC 7541, index 8) and nothing else.
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, 4 | END, stream, &[0x88])
}

/// Answers each whole request with the frames that `answer` gives for its connection and stream; closes the
/// connection after a GOAWAY.
async fn scripted<A>(settings: &'static [u8], answer: A) -> (String, Log)
where
    A: Fn(usize, u32) -> Vec<u8> + Clone + Send + Sync + 'static,
{
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let log = Log::default();
    let notes = Arc::clone(&log);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = socket.accept().await.unwrap();
            let (answer, notes) = (answer.clone(), Arc::clone(&notes));
            tokio::spawn(async move { script(stream, connection, settings, answer, notes).await });
        }
    });
    (url, log)
}

async fn script<A>(
    mut stream: TcpStream,
    connection: usize,
    settings: &[u8],
    answer: A,
    log: Log,
) -> Option<()>
where
    A: Fn(usize, u32) -> Vec<u8>,
{
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let hello = frame(SETTINGS, 0, 0, settings);
    stream.write_all(&hello).await.ok()?;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        match kind {
            SETTINGS if flags & 1 == 0 => {
                stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.ok()?;
            }
            RST_STREAM => {
                let why = u32::from_be_bytes(payload.try_into().unwrap());
                log.lock().unwrap().push(Came::Reset(connection, id, why));
            }
            DATA => bodies.entry(id).or_default().extend(payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END != 0 {
            let body = bodies.remove(&id).unwrap_or_default();
            log.lock()
                .unwrap()
                .push(Came::Request(connection, id, body));
            let frames = answer(connection, id);
            stream.write_all(&frames).await.ok()?;
            if frames.get(3) == Some(&GOAWAY) {
                return None;
            }
        }
    }
}

fn grpc(backends: &[&str]) -> Application {
    Application {
        backend_http: BackendHttp::Http2,
        ..application(backends, Sso::None)
    }
}

/// A call as gRPC makes it: what it says comes when it will, and has no length.
fn call(said: &'static str) -> Request<Body> {
    let frames = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(said.as_bytes())))]);
    let body: Body = StreamBody::new(frames).boxed_unsync();
    Request::post("/w/Echo/Say").body(body).unwrap()
}

async fn tell(
    forwarder: &Forwarder,
    application: &Application,
    request: Request<Body>,
) -> Result<Answer, Error> {
    send(forwarder, application, Partition::Anonymous, None, request).await
}

#[tokio::test]
async fn requests_share_a_connection() {
    let (url, log) = scripted(&[], |_, stream| ok(stream)).await;
    let (forwarder, application) = (forwarder(), grpc(&[&url]));
    let all = (0..20).map(|_| tell(&forwarder, &application, call("hello")));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.unwrap().response.status(), 200);
    }
    for _ in 0..5 {
        let answer = tell(&forwarder, &application, get("/w/")).await.unwrap();
        assert_eq!(text(answer).await, "");
    }
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 25);
    assert!(
        log.iter().all(|came| matches!(came, Came::Request(0, ..))),
        "{log:?}"
    );
}

#[tokio::test]
async fn no_more_at_a_time_than_the_server_allows() {
    // SETTINGS_MAX_CONCURRENT_STREAMS = 2.
    let (url, log) = scripted(&[0, 3, 0, 0, 0, 2], |_, stream| match stream {
        1 => ok(stream),
        _ => Vec::new(),
    })
    .await;
    let (forwarder, application) = (forwarder(), grpc(&[&url]));
    tell(&forwarder, &application, get("/w/")).await.unwrap();
    let many =
        futures_util::future::join_all((0..5).map(|_| tell(&forwarder, &application, get("/w/"))));
    let waiting = until("all of them arrive", || log.lock().unwrap().len() == 6);
    tokio::select! {
        all = many => panic!("some were not sent: {all:?}"),
        () = waiting => {}
    }
    let log = log.lock().unwrap();
    let on = |connection| {
        log.iter()
            .filter(|came| matches!(came, Came::Request(at, ..) if *at == connection))
            .count()
    };
    // The first request and two more; the rest elsewhere, where the first of each is answered at once.
    assert_eq!(on(0), 3, "{log:?}");
    assert!(on(1) <= 3 && on(2) <= 3, "{log:?}");
}

#[tokio::test]
async fn what_was_refused_is_sent_again_whole_and_nothing_else() {
    for (why, again) in [
        (REFUSED_STREAM, true),
        (INTERNAL_ERROR, false),
        (CANCEL, false),
    ] {
        let (url, log) = scripted(&[], move |_, stream| match stream {
            1 => reset(stream, why),
            _ => ok(stream),
        })
        .await;
        let (forwarder, application) = (forwarder(), grpc(&[&url]));
        let answer = tell(&forwarder, &application, call("hello")).await;
        assert_eq!(answer.is_ok(), again, "{why}");
        let log = log.lock().unwrap();
        let first = Came::Request(0, 1, b"hello".to_vec());
        let second = Came::Request(0, 3, b"hello".to_vec());
        let wanted = if again {
            vec![first, second]
        } else {
            vec![first]
        };
        assert_eq!(*log, wanted, "{why}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_says_what_it_has_done() {
    for (last, again) in [(0, true), (1, false)] {
        let (url, log) = scripted(&[], move |connection, stream| match connection {
            0 => goaway(last),
            _ => ok(stream),
        })
        .await;
        let (forwarder, application) = (forwarder(), grpc(&[&url]));
        let answer = tell(&forwarder, &application, call("hello")).await;
        assert_eq!(answer.is_ok(), again, "{last}");
        // Nobody is sent there any more.
        let next = tell(&forwarder, &application, get("/w/")).await.unwrap();
        assert_eq!(next.response.status(), 200);
        let log = log.lock().unwrap();
        let calls = log
            .iter()
            .filter(|came| matches!(came, Came::Request(_, _, body) if body == b"hello"));
        assert_eq!(calls.count(), if again { 2 } else { 1 }, "{log:?}");
        let there = log
            .iter()
            .filter(|came| matches!(came, Came::Request(0, ..)));
        assert_eq!(there.count(), 1, "{log:?}");
    }
}

#[tokio::test]
async fn who_leaves_is_told_to_the_backend_at_once() {
    // An answer that begins, and one that does not.
    let (url, log) = scripted(&[], |_, stream| match stream {
        1 => frame(HEADERS, 4, stream, &[0x88]),
        _ => Vec::new(),
    })
    .await;
    let (forwarder, application) = (forwarder(), grpc(&[&url]));
    let begun = tell(&forwarder, &application, get("/w/")).await.unwrap();
    drop(begun);
    let reset_of = |id| Came::Reset(0, id, CANCEL);
    until("the stream of the answer is reset", || {
        log.lock().unwrap().contains(&reset_of(1))
    })
    .await;
    let endless = StreamBody::new(futures_util::stream::once(pending::<
        Result<Frame<Bytes>, BodyError>,
    >()));
    let talking = Request::post("/w/").body(endless.boxed_unsync()).unwrap();
    for (at, request) in [(3, get("/w/")), (5, talking)] {
        let sending = tell(&forwarder, &application, request);
        let patience = Duration::from_millis(100);
        assert!(tokio::time::timeout(patience, sending).await.is_err());
        until("the stream of the request is reset", || {
            log.lock().unwrap().contains(&reset_of(at))
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_of_http1_is_a_clear_fault() {
    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = raw_backend(REFUSAL, true).await;
    let application = grpc(&[&format!("http://{address}/")]);
    let error = tell(&forwarder(), &application, get("/w/")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(
        error.to_string().contains("frame with invalid size"),
        "{error}"
    );
}

/// Whole requests and their trailers.
type Calls = Arc<Mutex<Vec<(http::request::Parts, Bytes, Option<HeaderMap>)>>>;

/// Answers with a body and trailers.
async fn proper() -> (String, Calls) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let calls = Calls::default();
    let notes = Arc::clone(&calls);
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let notes = Arc::clone(&notes);
            let service = service_fn(move |request: Request<Incoming>| {
                let notes = Arc::clone(&notes);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?;
                    let trailers = body.trailers().cloned();
                    let body = body.to_bytes();
                    notes.lock().unwrap().push((head, body, trailers));
                    let mut end = HeaderMap::new();
                    for (name, value) in [
                        ("grpc-status", "0"),
                        ("set-cookie", "a=b"),
                        ("kerbgate-reason", "forged"),
                    ] {
                        end.insert(name, HeaderValue::from_static(value));
                    }
                    let frames = [
                        Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"answer"))),
                        Ok(Frame::trailers(end)),
                    ];
                    let body = StreamBody::new(futures_util::stream::iter(frames));
                    Ok::<_, hyper::Error>(Response::new(body))
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(serving.await) });
        }
    });
    (url, calls)
}

#[tokio::test]
async fn trailers_pass_both_ways_and_carry_no_forged_identity() {
    let (url, calls) = proper().await;
    let mut application = grpc(&[&url]);
    application.sso = Sso::Headers(HeaderSso {
        headers: vec![(
            HeaderName::from_static("x-user"),
            crate::model::application::HeaderValueFrom::ObjectId,
        )],
        assertion: false,
        account: false,
    });
    let mut end = HeaderMap::new();
    for name in [
        "x-checksum",
        "x-user",
        "x_user",
        "x-remote-user",
        "authorization",
        "cookie",
        "x-forwarded-for",
        "kerbgate-jwt-assertion",
    ] {
        end.insert(name, HeaderValue::from_static("forged"));
    }
    let frames = [
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"said"))),
        Ok(Frame::trailers(end)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let request = Request::post("/w/Echo/Say?a=b")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("x-user", "forged")
        .body(body)
        .unwrap();
    let answer = tell(&forwarder(), &application, request).await.unwrap();
    let answer = answer.response.into_body().collect().await.unwrap();
    let trailers = answer.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(answer.to_bytes(), "answer");
    let calls = calls.lock().unwrap();
    let (head, body, trailers) = &calls[0];
    assert_eq!(head.uri, format!("{url}Echo/Say?a=b").as_str());
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["content-type"], "application/grpc");
    for name in ["connection", "host", "x-user"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert_eq!(body, "said");
    let names: Vec<_> = trailers.as_ref().unwrap().keys().collect();
    assert_eq!(names, ["x-checksum"]);
}
