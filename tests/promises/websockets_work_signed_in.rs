//! For the people who work: an application's WebSockets work, as the person, and for nobody else.

use bytes::Bytes;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::sockets::Headers;
use crate::sockets::handshake;
use crate::sockets::http2;
use crate::sockets::open;
use crate::sockets::over_http2;
use crate::visitor::Speaks;
use crate::wire::Scene;

const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

#[tokio::test]
async fn the_backend_knows_who_it_is_and_only_that() {
    let scene = Scene::new(Stage::new().await).await;
    let origin = format!("https://{}", scene.host("wiki"));
    let cookie = format!("mine=1; {}", scene.cookie("wiki"));
    for speaks in BOTH {
        let headers = [
            ("origin", origin.as_str()),
            ("cookie", cookie.as_str()),
            ("sec-websocket-protocol", "chat, superchat"),
            ("x-remote-user", "evil"),
            ("x_remote_user", "evil"),
        ];
        let path = "/ws?cookie=seen%3D1%3B%20Domain%3Dwiki.contoso.test%3B%20Path%3D/";
        let mut socket = handshake(&scene.stage, "wiki", speaks, path, &headers)
            .await
            .unwrap();
        let answer = socket.answer.headers();
        assert_eq!(answer["set-cookie"], "seen=1; Path=/; Secure", "{speaks:?}");
        assert_eq!(answer["sec-websocket-protocol"], "chat");
        assert!(answer.contains_key("kerbgate-request-id"));
        assert_eq!(
            answer.contains_key("sec-websocket-accept"),
            speaks == Speaks::Http1
        );
        let seen: Value = serde_json::from_str(&socket.ask("headers").await).unwrap();
        assert_eq!(
            seen["x-remote-user"],
            serde_json::json!([scene.sam]),
            "{seen}"
        );
        assert_eq!(seen["cookie"], serde_json::json!(["mine=1"]));
        assert_eq!(seen["sec-websocket-version"], serde_json::json!(["13"]));
        assert_eq!(seen["origin"], serde_json::json!([origin]));
        for name in ["x_remote_user", "authorization"] {
            assert!(seen[name].is_null(), "{seen}");
        }
        // Our own key, and a connection that nobody else has been on.
        assert_ne!(seen["sec-websocket-key"][0], "dGhlIHNhbXBsZSBub25jZQ==");
        socket.send(Message::Close(None)).await;
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    }
    // The line is written when it is over.
    eventually("two lines", async || {
        let log = scene.gateway.log();
        let ours = log.lines().filter(|line| line.contains("\"path\":\"/ws\""));
        let over: Vec<Value> = ours
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        over.iter()
            .any(|line| line["status"] == 101 && line["bytes"].as_u64() > Some(100))
            && over
                .iter()
                .any(|line| line["status"] == 200 && line["method"] == "CONNECT")
    })
    .await;
}

#[tokio::test]
async fn messages_of_every_kind_go_through() {
    let scene = Scene::new(Stage::new().await).await;
    for speaks in BOTH {
        let mut socket = open(&scene, speaks).await;
        let large: String = (0..(16 << 20))
            .map(|at| char::from(b'a' + (at % 23) as u8))
            .collect();
        for text in [
            "",
            "a",
            &"x".repeat(125),
            &"y".repeat(126),
            &"z".repeat(65_536),
            "żółć 🐢",
            &large,
        ] {
            assert!(
                socket.ask(text).await == text,
                "{speaks:?}: {} bytes",
                text.len()
            );
        }
        let bytes = Bytes::from((0..=255).collect::<Vec<u8>>().repeat(1000));
        socket.send(Message::Binary(bytes.clone())).await;
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Binary(bytes)
        );
        // In pieces, with a ping between them.
        let piece = |text: &'static str, code, last| {
            Message::Frame(Frame::message(Bytes::from(text), OpCode::Data(code), last))
        };
        socket.send(piece("one ", Data::Text, false)).await;
        socket.send(piece("two ", Data::Continue, false)).await;
        socket.send(Message::Ping(Bytes::from_static(b"p"))).await;
        socket.send(piece("three", Data::Continue, true)).await;
        let mut came = [
            socket.next().await.unwrap().unwrap(),
            socket.next().await.unwrap().unwrap(),
        ];
        came.sort_by_key(Message::is_text);
        assert_eq!(
            came,
            [
                Message::Pong(Bytes::from_static(b"p")),
                Message::text("one two three")
            ]
        );
        // And a ping of the server's.
        socket.send(Message::text("ping me")).await;
        assert!(matches!(socket.next().await, Some(Ok(Message::Ping(_)))));
        assert_eq!(socket.text().await, "pong 14");
        // Either side's codes arrive.
        socket.send(Message::text("close 4242")).await;
        assert_eq!(
            socket.closed().await,
            (4242, "as asked".to_owned()),
            "{speaks:?}"
        );
        let mut socket = open(&scene, speaks).await;
        let close = CloseFrame {
            code: 3000.into(),
            reason: "bye".into(),
        };
        socket.send(Message::Close(Some(close))).await;
        assert_eq!(socket.closed().await.0, 3000);
        // No word is no word.
        let mut socket = open(&scene, speaks).await;
        socket.send(Message::text("drop")).await;
        assert!(!matches!(socket.next().await, Some(Ok(_))));
    }
}

#[tokio::test]
async fn hundreds_at_a_time() {
    let scene = Scene::new(Stage::new().await).await;
    let mut sockets = Vec::new();
    for _ in 0..150 {
        sockets.push(open(&scene, Speaks::Http1).await);
    }
    let origin = format!("https://{}", scene.host("wiki"));
    let cookie = scene.cookie("wiki");
    let headers = [("origin", origin.as_str()), ("cookie", cookie.as_str())];
    for _ in 0..3 {
        let mut sender = http2(&scene.stage, "wiki").await;
        for _ in 0..50 {
            let socket = over_http2(&mut sender, &scene.stage, "wiki", "/ws", &headers).await;
            sockets.push(socket.unwrap());
        }
    }
    assert_eq!(sockets[0].ask("sockets").await, "300");
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.send(Message::text(format!("I am {number}"))).await;
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.text().await, format!("I am {number}"));
    }
    let mut last = sockets.pop().unwrap();
    drop(sockets);
    for _ in 0..1000 {
        if last.ask("sockets").await == "1" {
            return;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(
        last.ask("sockets").await,
        "1",
        "what the client leaves ends at the backend"
    );
}

#[tokio::test]
async fn nobody_else_opens_one() {
    let stage = Stage::new().await;
    stage.append(
        "apps/wiki.toml",
        "\n[websocket]\norigins = [\"https://portal.example\"]\n",
    );
    let scene = Scene::new(stage).await;
    let origin = format!("https://{}", scene.host("wiki"));
    let cookie = scene.cookie("wiki");
    let (origin, cookie) = (("origin", origin.as_str()), ("cookie", cookie.as_str()));
    let bearer = ("authorization", "Bearer a.b.c");
    let before = scene.wiki.requests().await;
    for speaks in BOTH {
        let refused: [(Headers<'_>, u16, &str); 9] = [
            (&[origin], 401, "sign-in-required"),
            (
                &[origin, ("cookie", "__Host-kerbgate=forged")],
                401,
                "sign-in-required",
            ),
            (&[cookie], 403, "foreign-origin"),
            (
                &[cookie, ("sec-fetch-site", "same-origin")],
                403,
                "foreign-origin",
            ),
            (&[cookie, ("origin", "null")], 403, "foreign-origin"),
            (
                &[cookie, ("origin", "https://evil.example")],
                403,
                "foreign-origin",
            ),
            (
                &[cookie, ("origin", "https://portal.example:8443")],
                403,
                "foreign-origin",
            ),
            (&[cookie, origin, origin], 403, "foreign-origin"),
            (&[bearer], 401, "bearer-not-accepted"),
        ];
        for (headers, status, why) in refused {
            let answer = handshake(&scene.stage, "wiki", speaks, "/ws", headers).await;
            let Err(answer) = answer else {
                panic!("{speaks:?} {headers:?}: opened")
            };
            assert_eq!(answer.status(), status, "{speaks:?} {headers:?}");
            assert_eq!(
                answer.headers()["kerbgate-reason"],
                why,
                "{speaks:?} {headers:?}"
            );
        }
    }
    assert_eq!(
        scene.wiki.requests().await,
        before,
        "nothing reached the backend"
    );
    for speaks in BOTH {
        let listed = [cookie, ("origin", "https://portal.example")];
        let mut socket = handshake(&scene.stage, "wiki", speaks, "/ws", &listed)
            .await
            .unwrap();
        assert_eq!(socket.ask("in").await, "in");
    }
}

#[tokio::test]
async fn a_refusal_of_the_backend_is_an_answer_and_a_lie_is_none() {
    let scene = Scene::new(Stage::new().await).await;
    let origin = format!("https://{}", scene.host("wiki"));
    let cookie = scene.cookie("wiki");
    let headers = [("origin", origin.as_str()), ("cookie", cookie.as_str())];
    for speaks in BOTH {
        let ask = async |path: &str| {
            let answer = handshake(&scene.stage, "wiki", speaks, path, &headers).await;
            answer.err().unwrap_or_else(|| panic!("{path} opened"))
        };
        assert_eq!(ask("/ws?refuse=1").await.status(), 403);
        let lie = ask("/ws?lie=s3pPLMBiTxaQ9kYGzzhZRbK+xOo%3D").await;
        assert_eq!(lie.status(), 502, "{speaks:?}");
        assert_eq!(lie.headers()["kerbgate-reason"], "backend-protocol");
        // A page is a page; over HTTP/2 its 200 would say that the socket is open.
        let page = ask("/echo").await.status();
        assert_eq!(page, if speaks == Speaks::Http1 { 200 } else { 502 });
    }
}

#[tokio::test]
async fn an_application_may_go_without() {
    let stage = Stage::new().await;
    stage.append("apps/wiki.toml", "\n[websocket]\nallowed = false\n");
    let scene = Scene::new(stage).await;
    let origin = format!("https://{}", scene.host("wiki"));
    let cookie = scene.cookie("wiki");
    let headers = [("origin", origin.as_str()), ("cookie", cookie.as_str())];
    let before = scene.wiki.requests().await;
    for speaks in BOTH {
        let answer = handshake(&scene.stage, "wiki", speaks, "/ws", &headers).await;
        let answer = answer.err().unwrap();
        assert_eq!(answer.status(), 501);
        assert_eq!(answer.headers()["kerbgate-reason"], "upgrade-refused");
    }
    assert_eq!(scene.wiki.requests().await, before);
}
