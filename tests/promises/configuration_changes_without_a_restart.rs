//! For whoever changes a running site: what changes serves at once, what is wrong is refused by name, and
//! nobody at work notices either.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use http::Method;
use serde_json::Value;

use crate::alone::replace;
use crate::lab::Gateway;
use crate::lab::PrivateLab;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::wire::Scene;

/// What the operator's listener says about the configuration.
async fn configuration(gateway: &Gateway) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ops = gateway.ready["ops"].as_str().unwrap();
    let answer = client.get(format!("http://{ops}/readyz")).send().await;
    let said: Value = answer.unwrap().json().await.unwrap();
    said["configuration"].clone()
}

async fn generation(gateway: &Gateway) -> u64 {
    let said = configuration(gateway).await;
    assert!(said["refused"].is_null(), "{said}\n{}", gateway.log());
    said["generation"].as_u64().unwrap()
}

/// Waits for the generation after `before`.
async fn next(gateway: &Gateway, before: u64) -> u64 {
    eventually("the change serves", async || {
        configuration(gateway).await["generation"].as_u64().unwrap() > before
    })
    .await;
    generation(gateway).await
}

/// Waits until a change is refused, and returns why.
async fn refused(gateway: &Gateway) -> String {
    eventually("the change is refused", async || {
        !configuration(gateway).await["refused"].is_null()
    })
    .await;
    configuration(gateway).await["refused"]["why"].to_string()
}

/// People at work: every request is counted, and every one that is not answered as it should be is kept.
struct Crowd {
    leave: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    workers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn at_work(scene: &Scene, apps: &[&str]) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let mut workers = Vec::new();
        for speaks in [Speaks::Http1, Speaks::Http2] {
            for app in apps {
                let mut person = Visitor::new(&scene.stage.lab.facts.ca, speaks);
                person.cookies = scene.guest.cookies.clone();
                let url = scene.gateway.url(app, "/echo").parse().unwrap();
                let (leave, served) = (Arc::clone(&leave), Arc::clone(&served));
                workers.push(tokio::spawn(async move {
                    let mut failed = Vec::new();
                    while !leave.load(Ordering::Relaxed) {
                        match person.once(Method::GET, &url, None).await {
                            Ok(answer) if answer.status == 200 => {}
                            Ok(answer) => failed.push(format!("{url}: {}", answer.status)),
                            Err(error) => failed.push(format!("{url}: {error:?}")),
                        }
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    failed
                }));
            }
        }
        Self {
            leave,
            served,
            workers,
        }
    }

    async fn go_home(self) {
        self.leave.store(true, Ordering::Relaxed);
        for worker in self.workers {
            let failed = worker.await.unwrap();
            assert!(failed.is_empty(), "{failed:#?}");
        }
        let served = self.served.load(Ordering::Relaxed);
        assert!(served > 100, "only {served} requests");
    }
}

/// A stage whose certificate lies in its own folder, behind a link as Kubernetes lays them.
fn with_own_certificate(stage: &Stage) {
    let facts = &stage.lab.facts;
    let (chain, key) = (&facts.gateway_certificate, &facts.gateway_key);
    for (folder, chain, key) in [
        ("one", chain, key),
        ("two", &facts.second_certificate, &facts.second_key),
    ] {
        fs::create_dir(stage.path(folder)).unwrap();
        fs::copy(chain, stage.path(folder).join("chain.pem")).unwrap();
        fs::copy(key, stage.path(folder).join("key.pem")).unwrap();
    }
    std::os::unix::fs::symlink("one", stage.path("..data")).unwrap();
    for (file, old) in [("chain.pem", chain), ("key.pem", key)] {
        std::os::unix::fs::symlink(format!("..data/{file}"), stage.path(file)).unwrap();
        let old = old.display().to_string();
        stage.replace("kerbgate.toml", &old, file);
    }
}

/// Leads the certificates' link elsewhere in one step.
fn swap(stage: &Stage, to: &str) {
    let draft = stage.path("..draft");
    std::os::unix::fs::symlink(to, &draft).unwrap();
    fs::rename(draft, stage.path("..data")).unwrap();
}

/// The certificate that a new handshake shows.
async fn shown(stage: &Stage) -> Vec<u8> {
    let wire = crate::wire::connect(stage, "wiki", b"http/1.1").await;
    let (_, session) = wire.get_ref();
    session.peer_certificates().unwrap()[0].as_ref().to_vec()
}

#[tokio::test]
async fn people_at_work_notice_nothing() {
    let stage = Stage::new().await;
    with_own_certificate(&stage);
    let keytab = stage.path("gateway.keytab");
    let theirs = stage.lab.facts.keytabs.gateway.clone();
    replace(&keytab, &fs::read(&theirs).unwrap());
    stage.replace(
        "kerbgate.toml",
        &theirs.display().to_string(),
        &keytab.display().to_string(),
    );
    let mut scene = Scene::new(stage).await;
    let first = shown(&scene.stage).await;
    let crowd = Crowd::at_work(&scene, &["wiki", "intranet", "timesheet"]);
    let mut now = generation(&scene.gateway).await;
    let stage = &scene.stage;
    let wiki = fs::read_to_string(stage.path("apps/wiki.toml")).unwrap();
    for round in 0..5 {
        // An application more; its file is renamed into place, as a careful editor does.
        let other = wiki.replace("//wiki.localhost", "//other.localhost");
        replace(&stage.path("apps/other.toml"), other.as_bytes());
        now = next(&scene.gateway, now).await;
        let url = scene.gateway.url("other", "/echo");
        assert_eq!(scene.guest.open(&url).await.unwrap().status, 200, "{round}");
        // One changes.
        let renamed = format!("owner = \"round{round}@contoso.example\"\n{wiki}");
        replace(&stage.path("apps/wiki.toml"), renamed.as_bytes());
        now = next(&scene.gateway, now).await;
        // One goes.
        fs::remove_file(stage.path("apps/other.toml")).unwrap();
        now = next(&scene.gateway, now).await;
        let url = url.parse().unwrap();
        let gone = scene.guest.once(Method::GET, &url, None).await.unwrap();
        assert_eq!(gone.status, 421, "{}", gone.body);
        // The certificates change, by a link that leads elsewhere.
        swap(stage, if round % 2 == 0 { "two" } else { "one" });
        now = next(&scene.gateway, now).await;
        assert_eq!(shown(stage).await == first, round % 2 == 1, "{round}");
    }
    crowd.go_home().await;
}
