//! For developers of gRPC services: calls of every kind reach them through the gateway, with the name of whoever
//! calls, and their status, deadlines and cancellations reach the other side. Client and server are gRPC's own.

use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::free_port;
use crate::walk::guest;
use crate::walk::order;
use crate::walk::world;

/// Debian's own: python3-grpcio is installed for no other.
const PYTHON: &str = "/usr/bin/python3";

struct Scene {
    stage: Stage,
    gateway: Gateway,
    entra: Entra,
    /// `None` = nothing listens there.
    server: Option<Running>,
    token: String,
    oid: String,
}

fn script(name: &str) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(format!(
        "{}/tests/lab/backends/{name}",
        env!("CARGO_MANIFEST_DIR")
    ));
    command
}

async fn serve(stage: &Stage, port: u16) -> (Running, u16) {
    let ready = stage.path("grpc.port");
    let log = stage.path("grpc.log");
    let mut command = script("grpc_server.py");
    command.arg(&ready).arg(port.to_string());
    let mut server = Running::start("grpc server", &command, log);
    server.wrote(&ready).await;
    let told: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let port = told["port"].as_u64().unwrap();
    (server, u16::try_from(port).unwrap())
}

/// An application before a gRPC server, for programs with an access token.
fn publish(stage: &Stage, port: u16) {
    let text = format!(
        r#"name = "wiki"
published_url = "{}"
backend_urls = ["http://127.0.0.1:{port}/"]
backend_http = "http2"
[access]
guests = "existing"
allow = [{{ role = "Wiki.User" }}]
[sso.headers.set]
X-Remote-User = "object-id"
[bearer]
audiences = ["api://kerbgate"]
"#,
        stage.url("wiki", "/")
    );
    std::fs::write(stage.path("apps/wiki.toml"), text).unwrap();
}

impl Scene {
    async fn new() -> Self {
        let (stage, _) = world("").await;
        let (server, port) = serve(&stage, 0).await;
        Self::before(stage, Some(server), port).await
    }

    async fn before(stage: Stage, server: Option<Running>, port: u16) -> Self {
        publish(&stage, port);
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let (login, oid) = guest(&entra, "grpc").await;
        let wanted = json!({"base": {"login": login, "kind": "access-v2"}});
        let made = order(&entra, "/mint", wanted).await;
        let token = made["token"].as_str().unwrap().to_owned();
        Self {
            stage,
            gateway,
            entra,
            server,
            token,
            oid,
        }
    }

    /// What a client with this metadata gets.
    async fn call_with(&self, call: &str, metadata: &[String]) -> Value {
        let mut command = script("grpc_client.py");
        command
            .arg(self.gateway.port.to_string())
            .arg("wiki.localhost")
            .arg(&self.stage.lab.facts.ca)
            .arg(call)
            .args(metadata);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&said).unwrap_or_else(|error| {
            let trouble = String::from_utf8_lossy(&output.stderr);
            panic!("{call}: {error}: {said}{trouble}{}", self.gateway.log())
        })
    }

    /// What a client with the token gets.
    async fn call(&self, call: &str) -> Value {
        let token = format!("authorization=Bearer {}", self.token);
        self.call_with(call, &[token]).await
    }

    async fn cancelled(&self) -> u64 {
        let state = self.call("state").await;
        state["answer"]["cancelled"].as_u64().unwrap()
    }

    fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.gateway.process.pid());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let digits = line.unwrap().trim().trim_end_matches(" kB");
        digits.parse().unwrap()
    }
}

#[tokio::test]
async fn calls_of_every_kind() {
    let scene = Scene::new().await;
    let token = format!("authorization=Bearer {}", scene.token);
    let forged = String::from("x-remote-user=somebody-else");
    let said = scene.call_with("say", &[token, forged]).await;
    assert_eq!(said["code"], "OK", "{said}");
    assert_eq!(said["answer"]["said"], "h\u{e9}llo");
    assert_eq!(said["answer"]["seen"]["x-remote-user"], scene.oid.as_str());
    assert!(said["answer"]["seen"]["authorization"].is_null(), "{said}");
    // The client's deadline arrives.
    let left = said["answer"]["deadline"].as_f64().unwrap();
    assert!(left > 1.0 && left <= 20.0, "{left}");
    assert_eq!(said["trailers"]["x-end"], "of the call");
    assert!(said["trailers"]["kerbgate-reason"].is_null(), "{said}");

    let count = scene.call("count").await;
    assert_eq!(count["answer"], json!((0..100).collect::<Vec<_>>()));
    assert_eq!(
        (&count["code"], &count["trailers"]["x-end"]),
        (&json!("OK"), &json!("of the call"))
    );

    let join = scene.call("join").await;
    assert_eq!(join["answer"]["length"], 100_000, "{join}");

    let talk = scene.call("talk").await;
    assert_eq!(talk["code"], "OK", "{talk}");
    let words = ["one", "two", "three"].map(|word| json!({"said": word, "user": scene.oid}));
    assert_eq!(talk["answer"], json!(words));
    assert_eq!(talk["rest"], json!([]));
}

#[tokio::test]
async fn status_deadline_and_cancellation_arrive() {
    let scene = Scene::new().await;
    let failed = scene.call("fail").await;
    assert_eq!(failed["code"], "FAILED_PRECONDITION", "{failed}");
    assert_eq!(failed["details"], "n\u{f6}t \u{2713} now");
    assert_eq!(scene.cancelled().await, 0);
    let late = scene.call("deadline").await;
    assert_eq!(late["code"], "DEADLINE_EXCEEDED", "{late}");
    eventually("the server knows of the deadline", async || {
        scene.cancelled().await == 1
    })
    .await;
    let left = scene.call("cancel").await;
    assert_eq!(left["answer"]["at"], 0, "{left}");
    assert_eq!(left["code"], "CANCELLED", "{left}");
    eventually("the server knows of the cancellation", async || {
        scene.cancelled().await == 2
    })
    .await;
    let left = scene.call("leave").await;
    assert_eq!(left["code"], "CANCELLED", "{left}");
    eventually("the server knows of this one too", async || {
        scene.cancelled().await == 3
    })
    .await;
}

#[tokio::test]
async fn what_the_gateway_refuses_is_a_status_with_its_reason() {
    let scene = Scene::new().await;
    let stranger = scene.call_with("say", &[]).await;
    assert_eq!(stranger["code"], "UNAUTHENTICATED", "{stranger}");
    assert_eq!(stranger["trailers"]["kerbgate-reason"], "sign-in-required");
    let details = stranger["details"].as_str().unwrap();
    let id = stranger["trailers"]["kerbgate-request-id"]
        .as_str()
        .unwrap();
    assert_eq!(
        details,
        format!("the gateway ended the call: sign-in-required (request {id})")
    );
    let (outsider, _) = scene
        .entra
        .new_guest("grpc-outsider", &["Intranet.User"])
        .await;
    let wanted = json!({"base": {"login": outsider, "kind": "access-v2"}});
    let made = order(&scene.entra, "/mint", wanted).await;
    let token = format!("authorization=Bearer {}", made["token"].as_str().unwrap());
    let outsider = scene.call_with("say", &[token]).await;
    assert_eq!(outsider["code"], "PERMISSION_DENIED", "{outsider}");
    assert_eq!(outsider["trailers"]["kerbgate-reason"], "not-allowed");
    let state = scene.call("state").await;
    assert_eq!(state["answer"]["calls"], 0, "neither reached the server");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let (stage, _) = world("").await;
    let (port, _held) = free_port();
    let scene = Scene::before(stage, None, port).await;
    assert!(scene.server.is_none());
    let down = scene.call("say").await;
    assert_eq!(down["code"], "UNAVAILABLE", "{down}");
    assert_eq!(down["trailers"]["kerbgate-reason"], "backend-unreachable");
}

#[tokio::test]
async fn a_server_that_was_started_anew_is_found_again() {
    let (stage, _) = world("").await;
    let (server, port) = serve(&stage, 0).await;
    let mut scene = Scene::before(stage, Some(server), port).await;
    assert_eq!(scene.call("say").await["code"], "OK");
    scene.server.take().unwrap().stop().await;
    assert_eq!(scene.call("say").await["code"], "UNAVAILABLE");
    std::fs::remove_file(scene.stage.path("grpc.port")).unwrap();
    let (server, same) = serve(&scene.stage, port).await;
    assert_eq!(same, port);
    scene.server = Some(server);
    assert_eq!(scene.call("say").await["code"], "OK");
}

#[tokio::test]
async fn large_calls_stream_and_wait_for_whoever_is_slow() {
    const LARGE: u64 = 64 << 20;
    let scene = Scene::new().await;
    scene.call("say").await;
    let before = scene.peak_memory();
    for call in ["download", "upload"] {
        let told = scene.call(call).await;
        assert_eq!(told["code"], "OK", "{call}: {told}");
        assert_eq!(told["length"], LARGE, "{call}");
    }
    // Eight clients that do not read stop neither the server nor a ninth.
    let slow = scene.call("slow").await;
    assert_eq!(slow["firsts"], json!([0, 0, 0, 0, 0, 0, 0, 0]), "{slow}");
    assert_eq!(slow["beside"]["code"], "OK", "{slow}");
    let grown = scene.peak_memory().saturating_sub(before);
    assert!(
        grown < 40 << 10,
        "{grown} KiB more for {LARGE} bytes each way"
    );
}
