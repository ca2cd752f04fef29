//! For the people who work: an application's WebSockets work, as the person, and for nobody else.

use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

use crate::api_clients_bring_tokens::minted;
use crate::lab::Running;
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

/// Programs bring a token and no cookie; their socket is the token's person's, for as long as the token counts.
#[tokio::test]
async fn a_program_opens_one_with_its_token() {
    let stage = Stage::new().await;
    let bearer = "\n[bearer]\naudiences = [\"api://kerbgate\"]\n";
    stage.append("apps/wiki.toml", bearer);
    let scene = Scene::new(stage).await;
    let token = async |difference: Value| {
        let token = minted(&scene.entra, &scene.login, "access-v2", difference).await;
        format!("Bearer {token}")
    };
    let good = token(json!({})).await;
    let cookie = scene.cookie("wiki");
    let foreign = ("origin", "https://evil.example");
    for speaks in BOTH {
        // No cookie, so no page of another site can have sent it: an Origin means nothing.
        for headers in [
            &[("authorization", good.as_str())][..],
            &[("authorization", good.as_str()), foreign],
        ] {
            let opened = handshake(&scene.stage, "wiki", speaks, "/ws", headers).await;
            let mut socket = opened.unwrap_or_else(|answer| panic!("{speaks:?}: {answer:?}"));
            let seen: Value = serde_json::from_str(&socket.ask("headers").await).unwrap();
            assert_eq!(seen["x-remote-user"], json!([scene.sam]), "{seen}");
            assert!(seen["authorization"].is_null(), "{seen}");
            assert!(socket.answer.headers().get("set-cookie").is_none());
        }
        let before = scene.wiki.requests().await;
        let past = token(json!({"claims": {"exp": 1_700_000_000}})).await;
        let elsewhere = token(json!({"claims": {"aud": "api://another"}})).await;
        for (bad, why) in [
            (past.as_str(), "token-expired"),
            (elsewhere.as_str(), "token-audience-wrong"),
            ("Bearer a.b.c", "token-malformed"),
        ] {
            // The session beside it does not help: the token decides alone.
            let headers = [("authorization", bad), ("cookie", cookie.as_str())];
            let answer = handshake(&scene.stage, "wiki", speaks, "/ws", &headers).await;
            let Err(answer) = answer else {
                panic!("{speaks:?} {why}: opened")
            };
            assert_eq!(answer.status(), 401, "{why}");
            assert_eq!(answer.headers()["kerbgate-reason"], why);
        }
        assert_eq!(scene.wiki.requests().await, before);
    }
    // It ends with the token, whatever is said on it.
    let soon = kerbgate::model::clock::Clock::System.unix() + 4;
    let short = token(json!({"claims": {"exp": soon}})).await;
    for speaks in BOTH {
        let headers = [("authorization", short.as_str())];
        let opened = handshake(&scene.stage, "wiki", speaks, "/ws", &headers).await;
        let mut socket = opened.unwrap_or_else(|answer| panic!("{speaks:?}: {answer:?}"));
        assert_eq!(socket.ask("in").await, "in");
        assert_eq!(socket.closed().await.0, 1008, "{speaks:?}");
    }
}

/// The intranet's sockets, behind an Apache that wants a ticket for each handshake and tells the socket's server who it is.
struct Guarded {
    _process: Running,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn publish(stage: &Stage, send: &str) -> Self {
        let facts = &stage.lab.facts;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let keytab = root.join("keytab");
        std::fs::copy(&facts.keytabs.intranet, &keytab).unwrap();
        // The workers are www-data.
        for path in [root, keytab.as_path()] {
            std::os::unix::fs::chown(path, Some(33), Some(33)).unwrap();
        }
        let free = std::net::TcpListener::bind((facts.address, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let modules: String = [
            "mpm_event",
            "authn_core",
            "authz_core",
            "authz_user",
            "auth_gssapi",
            "headers",
            "proxy",
            "proxy_http",
        ]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
        let config = format!(
            r#"ServerRoot "{root}"
ServerName intranet.contoso.test
PidFile "{root}/pid"
ErrorLog "{root}/error"
{modules}User www-data
Group www-data
LimitRequestFieldSize 65536
LogFormat "%>s %u %U" short
CustomLog "{root}/access" short
Listen {address}
<Location "/">
    AuthType GSSAPI
    AuthName "intranet"
    GssapiCredStore keytab:{keytab}
    GssapiAllowedMech krb5
    Require valid-user
    RequestHeader set X-Remote-User "expr=%{{REMOTE_USER}}"
</Location>
ProxyPass "/ws" "http://{wiki}/ws" upgrade=websocket
ProxyPass "/" "http://{wiki}/"
"#,
            root = root.display(),
            keytab = keytab.display(),
            wiki = facts.backends.wiki,
        );
        std::fs::write(root.join("apache.conf"), config).unwrap();
        let mut command = std::process::Command::new("/usr/sbin/apache2");
        command
            .env("KRB5_CONFIG", &facts.krb5_conf)
            .env("KRB5RCACHEDIR", root)
            .arg("-DFOREGROUND")
            .arg("-f")
            .arg(root.join("apache.conf"));
        let process = Running::start("apache", &command, root.join("output"));
        eventually("apache listens", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        let lab = format!("intranet.contoso.test:{}/", facts.backends.intranet.port());
        let own = format!("intranet.contoso.test:{}/", address.port());
        stage.replace("apps/intranet.toml", &lab, &own);
        stage.append("apps/intranet.toml", &format!("send = \"{send}\"\n"));
        Self {
            _process: process,
            folder,
        }
    }

    /// Who asked for what, and how it was answered; a socket's line comes when it is over.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access")).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_backend_with_windows_authentication_knows_who_it_is() {
    for send in ["each-request", "on-challenge"] {
        let stage = Stage::new().await;
        let guarded = Guarded::publish(&stage, send).await;
        let scene = Scene::new(stage).await;
        let origin = format!("https://{}", scene.host("intranet"));
        let cookie = scene.cookie("intranet");
        let (origin, cookie) = (("origin", origin.as_str()), ("cookie", cookie.as_str()));
        let account = format!("{}@CONTOSO.TEST", scene.sam);
        let before = guarded.log();
        for speaks in BOTH {
            let refused: [(Headers<'_>, u16); 6] = [
                (&[origin], 401),
                (&[cookie], 403),
                (&[cookie, ("origin", "null")], 403),
                (&[cookie, ("origin", "https://evil.example")], 403),
                (&[cookie, origin, origin], 403),
                (&[origin, ("authorization", "Negotiate YII=")], 401),
            ];
            for (headers, status) in refused {
                let answer = handshake(&scene.stage, "intranet", speaks, "/ws", headers).await;
                let Err(answer) = answer else {
                    panic!("{speaks:?} {headers:?}: opened")
                };
                assert_eq!(answer.status(), status, "{speaks:?} {headers:?}");
                // Nobody is asked for a ticket.
                let asked = answer.headers().get("www-authenticate");
                assert!(asked.is_none_or(|way| *way != "Negotiate"), "{answer:?}");
            }
        }
        assert_eq!(guarded.log(), before, "something reached the backend");
        for speaks in BOTH {
            let headers = [origin, cookie, ("authorization", "Negotiate YII=")];
            let mut sockets = Vec::new();
            for _ in 0..3 {
                let opened = handshake(&scene.stage, "intranet", speaks, "/ws", &headers).await;
                sockets
                    .push(opened.unwrap_or_else(|answer| panic!("{send} {speaks:?}: {answer:?}")));
            }
            for socket in &mut sockets {
                let answer = socket.answer.headers();
                assert!(answer.get("www-authenticate").is_none(), "{answer:?}");
                let seen: Value = serde_json::from_str(&socket.ask("headers").await).unwrap();
                assert_eq!(seen["x-remote-user"], json!([account]), "{send}: {seen}");
                let large = "y".repeat(100_000);
                assert!(socket.ask(&large).await == large);
                socket.send(Message::Close(None)).await;
                assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
            }
        }
        eventually("Apache tells of six sockets", async || {
            let opened = format!("101 {account} /ws");
            guarded.log().lines().filter(|line| *line == opened).count() == 6
        })
        .await;
    }
}
