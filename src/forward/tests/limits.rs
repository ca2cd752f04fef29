//! How many connections a server has, and which server is chosen for those it has.

use super::*;
use crate::model::application::balance::Policy;

/// A backend that tells how many connections it has now.
async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let open = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&open);
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = |_, _: &Request<Bytes>| Response::new(full("ok"));
                serve(stream, 0, answer, Seen::default()).await;
                count.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, open)
}

#[tokio::test]
async fn connections_that_wait_for_others_make_room() {
    let (address, open) = counting().await;
    let url = format!("http://{address}/");
    let mut application = application(&[&url], kerberos(SendToken::EachRequest));
    application.balance.max_connections = Some(2);
    let forwarder = forwarder();
    for number in 0..6 {
        let credential = move |_, _| async move { Ok(token("somebody")) }.boxed();
        let credential: &Credential<'_> = &credential;
        let answer = send(
            &forwarder,
            &application,
            session(number),
            Some(credential),
            get("/w/"),
        );
        assert_eq!(text(answer.await.unwrap()).await, "ok");
        let most = usize::from(number + 1).min(2);
        until("back in the pool", || forwarder.waiting() == most).await;
        until("no more are open", || open.load(Ordering::SeqCst) == most).await;
    }
    let status = forwarder.status();
    assert_eq!((status[0].in_flight, status[0].waiting), (Some(0), 2));
    assert_eq!(forwarder.queues(), [(application.published_url, 0)]);
}

#[tokio::test]
async fn where_all_are_idle_the_one_with_a_connection_is_preferred() {
    let (one, _) = counting().await;
    let (other, _) = counting().await;
    let urls = [one, other].map(|address| format!("http://{address}/"));
    let mut application = application(&[&urls[0], &urls[1]], Sso::None);
    application.balance.policy = Policy::LeastRequests;
    let forwarder = forwarder();
    let mut chosen = HashSet::new();
    for _ in 0..6 {
        let answer = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        );
        let answer = answer.await.unwrap();
        chosen.insert(answer.index);
        text(answer).await;
        until("back in the pool", || forwarder.waiting() == 1).await;
    }
    assert_eq!(chosen.len(), 1);
}

#[tokio::test]
async fn every_server_that_was_tried_is_named() {
    let gone = async || {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap()
    };
    let (one, other) = (gone().await, gone().await);
    let urls = [one, other].map(|address| format!("http://{address}/"));
    let forwarder = forwarder();
    for urls in [&urls[..1], &urls[..]] {
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let application = application(&urls, Sso::None);
        let sent = send(
            &forwarder,
            &application,
            Partition::Anonymous,
            None,
            get("/w/"),
        );
        let error = sent.await.unwrap_err();
        let said = error.to_string();
        assert_eq!(said.contains("no server of"), urls.len() == 2, "{said}");
        assert!(said.contains(&one.to_string()), "{said}");
        assert_eq!(said.contains(&other.to_string()), urls.len() == 2, "{said}");
        let Stop::Fail(fault) = Stop::from(error) else {
            panic!("a fault");
        };
        assert_eq!(fault.code, Code::BackendUnreachable);
    }
}

#[tokio::test]
async fn who_waits_for_a_server_that_goes_is_served_by_another() {
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (other, _) = counting().await;
    let urls = [held.local_addr().unwrap(), other].map(|address| format!("http://{address}/"));
    let mut application = application(&[&urls[0], &urls[1]], Sso::None);
    application.balance.policy = Policy::Sticky;
    application.balance.max_connections = Some(1);
    let forwarder = forwarder();
    let group = forwarder.group(&application).unwrap();
    // A session that belongs to the first.
    let session = (0..=255_u8).map(|number| [number; 32]);
    let mut session = session.filter(|one| group.in_turn(Some(one))[0].0 == 0);
    let session = session.next().unwrap();
    let target = target("/w/");
    let ask = |session| {
        let exchange = Exchange {
            session: Some(session),
            application: &application,
            target: &target,
            named: None,
            client: "192.0.2.7",
            partition: Partition::Anonymous,
            identity: &[],
            interim: None,
        };
        forwarder.send(exchange, None, get("/w/"))
    };
    let mut first = Box::pin(ask(session));
    let (stream, _) = tokio::select! {
        accepted = held.accept() => accepted.unwrap(),
        _ = &mut first => panic!("nobody has answered"),
    };
    let mut second = Box::pin(ask(session));
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(forwarder.queues()[0].1, 1);
    drop((held, stream));
    assert!(first.await.is_err(), "it was on a new connection");
    let answer = second.await.unwrap();
    assert_eq!(answer.index, 1);
    assert_eq!(text(answer).await, "ok");
}
