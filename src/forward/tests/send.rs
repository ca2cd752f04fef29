//! When a token is sent, on connections that stand for a person and on those that do not.

use super::*;
use crate::route::named::Condition;

/// Takes a connection for whoever sent a token on it; on each fourth request it forgets.
async fn remembering(says: &'static str) -> (SocketAddr, Seen) {
    let known: Arc<Mutex<HashSet<usize>>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    backend(move |connection, request| {
        let mut known = known.lock().unwrap();
        if count.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
            known.clear();
        }
        let mut response = Response::new(full("in"));
        if request.headers().contains_key(header::AUTHORIZATION) {
            known.insert(connection);
            let says = HeaderValue::from_static(says);
            response.headers_mut().insert("persistent-auth", says);
        } else if !known.contains(&connection) {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let asks = HeaderValue::from_static("Negotiate");
            response.headers_mut().insert("www-authenticate", asks);
        }
        response
    })
    .await
}

/// One letter for each request that the backend saw: with a token, or bare.
async fn pattern(mode: SendToken, says: &'static str, requests: usize, body: bool) -> String {
    let (address, seen) = remembering(says).await;
    let forwarder = forwarder();
    let application = application(&[&format!("http://{address}/")], kerberos(mode));
    let credential = |_, _| async { Ok(token("good")) }.boxed();
    for _ in 0..requests {
        let request = match body {
            true => Request::post("/w/").body(full("body")).unwrap(),
            false => get("/w/"),
        };
        let answer = send(
            &forwarder,
            &application,
            session(1),
            Some(&credential),
            request,
        );
        assert_eq!(text(answer.await.unwrap()).await, "in", "{mode:?}");
        until("back in the pool", || forwarder.waiting() > 0).await;
    }
    let seen = seen.lock().unwrap();
    let letter = |request: &Request<Bytes>| {
        let is_with = request.headers().contains_key(header::AUTHORIZATION);
        if is_with { 'T' } else { 'b' }
    };
    seen.iter().map(|(_, request)| letter(request)).collect()
}

#[tokio::test]
async fn a_connection_stands_for_a_person_as_configured_or_as_the_backend_says() {
    for (mode, says, body, want) in [
        (SendToken::EachRequest, "true", false, "TTTTT"),
        // The fourth request finds the connection forgotten, and is sent again with a token.
        (SendToken::EachConnection, "false", false, "TbbbTb"),
        (SendToken::Learn, "true", false, "TbbbTb"),
        // A backend that says no, or nothing that means yes, is not believed to remember.
        (SendToken::Learn, "false", false, "TTTTT"),
        (SendToken::Learn, "maybe", false, "TTTTT"),
        (SendToken::OnChallenge, "true", false, "bTbbTbb"),
        // What could not be sent again is never sent without.
        (SendToken::EachConnection, "true", true, "TTTTT"),
        (SendToken::Learn, "true", true, "TTTTT"),
    ] {
        let seen = pattern(mode, says, 5, body).await;
        assert_eq!(seen, want, "{mode:?} {says} {body}");
    }
}

/// A connection that is gone takes what it knew with it: the next request is not sent bare on a new one.
#[tokio::test]
async fn a_new_connection_begins_with_a_token() {
    for mode in [SendToken::EachConnection, SendToken::Learn] {
        let (address, seen) = remembering("true").await;
        let forwarder = forwarder();
        let application = application(&[&format!("http://{address}/")], kerberos(mode));
        let credential = |_, _| async { Ok(token("good")) }.boxed();
        for _ in 0..2 {
            let answer = send(
                &forwarder,
                &application,
                session(1),
                Some(&credential),
                get("/w/"),
            );
            assert_eq!(text(answer.await.unwrap()).await, "in");
            until("back in the pool", || forwarder.waiting() > 0).await;
            forwarder.evict_all();
        }
        let seen = seen.lock().unwrap();
        assert!(
            seen.iter()
                .all(|(_, request)| request.headers().contains_key(header::AUTHORIZATION))
        );
    }
}

#[tokio::test]
async fn other_resources_are_named_as_the_server_is_asked() {
    let (address, seen) = backend(|_, _| Response::new(full("in"))).await;
    let forwarder = forwarder();
    let named = Named {
        destination: Some(target("/w/a%20b?c")),
        conditions: vec![
            Condition::About(target("/W/x")),
            Condition::List(String::from("(<a:b>)")),
        ],
    };
    for (keep_host, host) in [
        (false, address.to_string()),
        (true, String::from("wiki.example.com:8443")),
    ] {
        let mut application = application(&[&format!("http://{address}/base/")], Sso::None);
        application.keep_host = keep_host;
        let request = Request::builder().method("COPY").uri("/w/a");
        let request = request.body(empty()).unwrap();
        let exchange = Exchange {
            session: None,
            application: &application,
            target: &target("/w/a"),
            named: Some(&named),
            client: "192.0.2.7",
            partition: Partition::Anonymous,
            identity: &[],
            interim: None,
        };
        let answer = forwarder.send(exchange, None, request).await;
        assert_eq!(text(answer.unwrap()).await, "in");
        let (_, request) = seen.lock().unwrap().pop().unwrap();
        assert_eq!(request.uri(), "/base/a");
        let headers = request.headers();
        assert_eq!(
            headers["destination"],
            format!("http://{host}/base/a%20b?c")
        );
        assert_eq!(headers["if"], format!("<http://{host}/base/x> (<a:b>)"));
        assert_eq!(headers["host"], host);
    }
}
