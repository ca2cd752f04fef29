//! Whose connection is whose: against a backend that takes a connection for the person who came first.

use std::collections::HashMap;

use super::*;

/// A backend that takes every request on a connection for the person who came on it first.
async fn connection_bound() -> (SocketAddr, Seen) {
    let owners: Arc<Mutex<HashMap<usize, String>>> = Arc::default();
    backend(move |connection, request| {
        let came = request.headers().get(header::AUTHORIZATION);
        let came = came.map_or("nobody", |value| value.to_str().unwrap());
        let mut owners = owners.lock().unwrap();
        let owner = owners
            .entry(connection)
            .or_insert_with(|| came.to_owned())
            .clone();
        // Some answers are long enough to be left in the middle.
        match request.uri().query() {
            Some("long") => Response::new(full(owner.repeat(8_000))),
            _ => Response::new(full(owner)),
        }
    })
    .await
}

/// One person's visits; every answer that is read is compared.
async fn person(
    number: u8,
    application: Arc<Application>,
    forwarder: Arc<Forwarder>,
    compared: Arc<AtomicUsize>,
) {
    let credential = move |_, _| async move { Ok(token(&format!("user{number}"))) }.boxed();
    let (session, credential) = (session(number), &credential);
    let ask = |uri: &'static str| {
        send(
            &forwarder,
            &application,
            session.clone(),
            Some(credential),
            get(uri),
        )
    };
    for turn in 0..250 {
        if turn % 7 == 3 {
            // Leaves in the middle of an answer.
            let answer = ask("/w/?long").await.unwrap();
            drop(answer.response.into_body().frame().await);
            continue;
        }
        if turn % 11 == 5 {
            // Leaves before the answer.
            drop(ask("/w/").now_or_never());
            continue;
        }
        // Two at a time, so that more than one connection is in play.
        let (one, two) = tokio::join!(ask("/w/"), ask("/w/"));
        for answer in [one, two] {
            let who = text(answer.unwrap()).await;
            assert_eq!(who, format!("Negotiate user{number}"));
            compared.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_somebody_elses_connection() {
    const PEOPLE: u8 = 40;
    let (address, seen) = connection_bound().await;
    let application = application(
        &[&format!("http://{address}/")],
        kerberos(SendToken::EachRequest),
    );
    let (application, forwarder) = (Arc::new(application), Arc::new(forwarder()));
    let compared = Arc::new(AtomicUsize::new(0));
    let people = (0..PEOPLE).map(|number| {
        let (application, forwarder) = (Arc::clone(&application), Arc::clone(&forwarder));
        tokio::spawn(person(
            number,
            application,
            forwarder,
            Arc::clone(&compared),
        ))
    });
    for person in people.collect::<Vec<_>>() {
        person.await.unwrap();
    }
    assert!(compared.load(Ordering::Relaxed) > 10_000);
    // Connections were used again, or this would have shown nothing.
    let requests = seen.lock().unwrap().len();
    assert!(
        connections(&seen) * 3 < requests,
        "{} of {requests}",
        connections(&seen)
    );
}

/// The control: with everybody in one partition the backend above does mix people up.
#[tokio::test]
async fn a_shared_partition_would_mix_people_up() {
    let (address, _) = connection_bound().await;
    let application = application(
        &[&format!("http://{address}/")],
        kerberos(SendToken::EachRequest),
    );
    let forwarder = forwarder();
    let mut mixed = false;
    for name in ["one", "two", "two", "two"] {
        let credential = move |_, _| async move { Ok(token(name)) }.boxed();
        let answer = send(
            &forwarder,
            &application,
            session(0),
            Some(&credential),
            get("/w/"),
        )
        .await;
        mixed |= text(answer.unwrap()).await != format!("Negotiate {name}");
        until("back in the pool", || forwarder.waiting() > 0).await;
    }
    assert!(mixed);
}

#[tokio::test]
async fn a_tainted_connection_is_nobodys() {
    let (address, seen) = backend(|_, _| {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let negotiate = HeaderValue::from_static("NTLM");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, negotiate);
        response
    })
    .await;
    let application = application(&[&format!("http://{address}/")], Sso::None);
    let forwarder = forwarder();
    for _ in 0..3 {
        let answer = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        )
        .await;
        assert_eq!(answer.unwrap().response.status(), 401);
        assert_eq!(forwarder.waiting(), 0);
    }
    assert_eq!(connections(&seen), 3);
}

#[tokio::test]
async fn connections_are_used_again_and_end_with_their_session() {
    let (address, seen) = backend(|_, _| Response::new(full("x"))).await;
    let application = application(
        &[&format!("http://{address}/")],
        kerberos(SendToken::EachRequest),
    );
    let forwarder = forwarder();
    let ask = async |number| {
        let credential = |_, _| async { Ok(token("x")) }.boxed();
        let answer = send(
            &forwarder,
            &application,
            session(number),
            Some(&credential),
            get("/w/"),
        );
        text(answer.await.unwrap()).await;
    };
    for number in [1, 2, 1, 2, 1] {
        ask(number).await;
        // hyper tells that a connection is ready again a moment after the answer's end.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(forwarder.waiting(), 2);
    assert_eq!(connections(&seen), 2);
    forwarder.evict(&[1; 32]);
    assert_eq!(forwarder.waiting(), 1);
    ask(1).await;
    assert_eq!(connections(&seen), 3);
    // A connection in use when its session ends is not kept.
    let credential = |_, _| async { Ok(token("x")) }.boxed();
    let answer = send(
        &forwarder,
        &application,
        session(2),
        Some(&credential),
        get("/w/"),
    );
    let answer = answer.await.unwrap();
    forwarder.evict(&[2; 32]);
    text(answer).await;
    assert_eq!(forwarder.waiting(), 1);
}

#[tokio::test]
async fn an_answer_left_in_the_middle_takes_its_connection_along() {
    let (address, seen) = backend(|_, request| match request.uri().path() {
        "/long" => Response::new(full(vec![b'x'; 4 << 20])),
        _ => Response::new(full("short")),
    })
    .await;
    let application = application(&[&format!("http://{address}/")], Sso::None);
    let forwarder = forwarder();
    let ask = |uri| {
        send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get(uri),
        )
    };
    let mut answer = ask("/w/long").await.unwrap();
    assert!(answer.response.body_mut().frame().await.is_some());
    drop(answer);
    assert_eq!(forwarder.waiting(), 0);
    assert_eq!(text(ask("/w/short").await.unwrap()).await, "short");
    assert_eq!(connections(&seen), 2);
}
