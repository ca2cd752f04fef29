//! For whoever changes a running site: what changes serves at once, what is wrong is refused by name, and
//! nobody at work notices either.

use std::fs;
use std::path::Path;
use std::process::Command;
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

/// A stage whose certificate lies in its own folder, behind a link as Kubernetes lays them; `two` is
/// another, by the same authority.
fn with_own_certificate(stage: &Stage) {
    let facts = &stage.lab.facts;
    let (chain, key) = (&facts.gateway_certificate, &facts.gateway_key);
    for folder in ["one", "two"] {
        fs::create_dir(stage.path(folder)).unwrap();
    }
    fs::copy(chain, stage.path("one/chain.pem")).unwrap();
    fs::copy(key, stage.path("one/key.pem")).unwrap();
    let authority = fs::read_to_string(facts.ca.with_extension("key")).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Kerbgate lab CA");
    let authority = rcgen::KeyPair::from_pem(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let names = ["login", "wiki", "intranet", "timesheet", "other"];
    let names = names.map(|name| format!("{name}.localhost")).to_vec();
    let fresh = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(names).unwrap();
    let signed = params.signed_by(&fresh, &issuer).unwrap();
    fs::write(stage.path("two/chain.pem"), signed.pem()).unwrap();
    fs::write(stage.path("two/key.pem"), fresh.serialize_pem()).unwrap();
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
        assert_eq!(gone.status, 404, "{}", gone.body);
        // The certificates change, by a link that leads elsewhere.
        swap(stage, if round % 2 == 0 { "two" } else { "one" });
        now = next(&scene.gateway, now).await;
        assert_eq!(shown(stage).await == first, round % 2 == 1, "{round}");
    }
    crowd.go_home().await;
}

#[tokio::test]
async fn a_wrong_change_is_refused_whole_and_by_name() {
    let stage = Stage::new().await;
    with_own_certificate(&stage);
    let keytab = stage.path("gateway.keytab");
    let theirs = stage.lab.facts.keytabs.gateway.clone();
    replace(&keytab, &fs::read(&theirs).unwrap());
    let theirs = theirs.display().to_string();
    stage.replace("kerbgate.toml", &theirs, "gateway.keytab");
    stage.append("kerbgate.toml", "logo = \"logo.svg\"\n");
    replace(&stage.path("logo.svg"), LOGO);
    let mut scene = Scene::new(stage).await;
    let stage = &scene.stage;
    let first = shown(stage).await;
    let before = generation(&scene.gateway).await;
    let wiki = fs::read(stage.path("apps/wiki.toml")).unwrap();
    let other = String::from_utf8(wiki.clone()).unwrap();
    let other = other.replace("//wiki.localhost", "//other.localhost");
    let wrong: [(&str, &[u8], &str); 6] = [
        ("apps/wiki.toml", b"nmae = \"Wiki\"\n", "wiki.toml:1: nmae"),
        (
            "one/key.pem",
            &fs::read(stage.path("two/key.pem")).unwrap(),
            "does not belong",
        ),
        ("one/chain.pem", b"nothing", "chain.pem"),
        ("gateway.keytab", b"nothing", "gateway.keytab"),
        ("logo.svg", b"nothing", "pages.logo"),
        (
            "kerbgate.toml",
            &tampered(
                stage,
                "issuer = \"https",
                "issuer = \"https://nobody.localhost:1",
            ),
            "issuer",
        ),
    ];
    for (file, text, named) in wrong {
        let sound = fs::read(stage.path(file)).unwrap();
        // A sound change at the same time does not come in either.
        replace(&stage.path("apps/other.toml"), other.as_bytes());
        replace(&stage.path(file), text);
        scene.gateway.process.signal("HUP");
        let why = refused(&scene.gateway).await;
        assert!(why.contains(named), "{file}: {named:?} is not in {why}");
        let now = configuration(&scene.gateway).await;
        assert_eq!(now["generation"], before, "{file}: {now}");
        for (app, status) in [("wiki", 200), ("intranet", 200), ("other", 404)] {
            let url = scene.gateway.url(app, "/echo").parse().unwrap();
            let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
            assert_eq!(answer.status, status, "{file}, {app}: {}", answer.body);
        }
        assert_eq!(shown(stage).await, first, "{file}");
        // Mended without a word: seen by itself.
        replace(&stage.path(file), &sound);
        fs::remove_file(stage.path("apps/other.toml")).unwrap();
        eventually("the mended configuration is accepted", async || {
            configuration(&scene.gateway).await["refused"].is_null()
        })
        .await;
        assert_eq!(generation(&scene.gateway).await, before, "{file}");
    }
    let process = &scene.gateway.process;
    eventually("the refusals are in the audit lines", async || {
        let log = process.log();
        let mut audit = log
            .lines()
            .filter(|line| line.contains("\"target\":\"audit\""));
        audit.any(|line| line.contains("configuration-refused"))
    })
    .await;
}

/// The boot file with a piece replaced.
fn tampered(stage: &Stage, old: &str, new: &str) -> Vec<u8> {
    let text = fs::read_to_string(stage.path("kerbgate.toml")).unwrap();
    assert!(text.contains(old), "{text}");
    text.replacen(old, new, 1).into_bytes()
}

const LOGO: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1 1\"/>";

#[tokio::test]
async fn what_needs_a_restart_is_named_and_holds_nothing_back() {
    let mut scene = Scene::new(Stage::new().await).await;
    let stage = &scene.stage;
    let before = generation(&scene.gateway).await;
    stage.replace("kerbgate.toml", "\"state\"", "\"elsewhere\"");
    stage.replace("apps/wiki.toml", "name = \"Wiki\"", "name = \"Library\"");
    next(&scene.gateway, before).await;
    let said = configuration(&scene.gateway).await;
    assert_eq!(said["needs_restart"][0], "gateway.state_dir", "{said}");
    assert!(!stage.path("elsewhere").exists());
    let url = scene.gateway.url("wiki", "/echo").parse().unwrap();
    let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
    assert_eq!(answer.status, 200, "the session is known: {}", answer.body);
}

#[tokio::test]
async fn who_is_shut_out_is_out_at_the_next_request() {
    let mut scene = Scene::new(Stage::new().await).await;
    let before = generation(&scene.gateway).await;
    let arrived = scene.wiki.requests().await;
    let slow = scene.gateway.url("wiki", "/slow?ms=3000").parse().unwrap();
    let open = tokio::spawn(scene.guest.request(Method::GET, &slow).send());
    eventually("the request is at the backend", async || {
        scene.wiki.requests().await > arrived
    })
    .await;
    let stage = &scene.stage;
    stage.replace(
        "apps/wiki.toml",
        "role = \"Wiki.User\"",
        "role = \"Nobody\"",
    );
    fs::remove_file(stage.path("apps/intranet.toml")).unwrap();
    scene.gateway.process.signal("HUP");
    next(&scene.gateway, before).await;
    for (app, status) in [("wiki", 403), ("intranet", 404), ("timesheet", 200)] {
        let url = scene.gateway.url(app, "/echo").parse().unwrap();
        let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
        assert_eq!(answer.status, status, "{app}: {}", answer.body);
    }
    let answer = open.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200, "what was let in is finished");
    assert_eq!(answer.text().await.unwrap(), "slow\n");
}

/// Open descriptors, and resident memory in kB.
fn spent(pid: u32) -> (usize, u64) {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.unwrap().trim().trim_end_matches(" kB");
    (open, digits.parse().unwrap())
}

#[tokio::test]
async fn what_is_no_longer_used_is_given_back() {
    let mut scene = Scene::new(Stage::new().await).await;
    let pid = scene.gateway.process.pid();
    let wiki = fs::read_to_string(scene.stage.path("apps/wiki.toml")).unwrap();
    let boot = fs::read_to_string(scene.stage.path("kerbgate.toml")).unwrap();
    let mut now = generation(&scene.gateway).await;
    let mut first = (0, 0);
    for round in 0..60 {
        let owner = format!("owner = \"round{round}@contoso.example\"\n{wiki}");
        replace(&scene.stage.path("apps/wiki.toml"), owner.as_bytes());
        // The issuer, the directory and the forwarder are made anew as well.
        let other = format!("{boot}\n[backends]\nca_file = \"ca{}.pem\"\n", round % 2);
        let other = other.replace(
            "[issuer]",
            &format!("[issuer]\nskew = \"{}s\"", round % 2 + 60),
        );
        let other = other.replace(
            "[directory]",
            &format!("[directory]\nconnect = \"{}s\"", round % 2 + 3),
        );
        for file in ["ca0.pem", "ca1.pem"] {
            fs::copy(&scene.stage.lab.facts.ca, scene.stage.path(file)).unwrap();
        }
        replace(&scene.stage.path("kerbgate.toml"), other.as_bytes());
        scene.gateway.process.signal("HUP");
        now = next(&scene.gateway, now).await;
        for app in ["wiki", "intranet"] {
            let url = scene.gateway.url(app, "/echo").parse().unwrap();
            let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
            assert_eq!(answer.status, 200, "{app}: {}", answer.body);
        }
        if round == 20 {
            first = spent(pid);
        }
    }
    let mut last = spent(pid);
    eventually("what is no longer used is closed", async || {
        spent(pid).0 <= first.0 + 4
    })
    .await;
    last.0 = spent(pid).0;
    assert!(last.1 < first.1 + 8 * 1024, "{first:?} then {last:?}");
    eprintln!("after 20 changes {first:?}, after 60 {last:?}");
}

#[tokio::test]
async fn applications_are_closed_and_opened_again() {
    let mut scene = Scene::new(Stage::new().await).await;
    let crowd = Crowd::at_work(&scene, &["intranet", "timesheet"]);
    let mut now = generation(&scene.gateway).await;
    let wiki = fs::read_to_string(scene.stage.path("apps/wiki.toml")).unwrap();
    let closed = format!("{wiki}\n[maintenance]\nmessage = \"Back at six.\"\n");
    let url = scene.gateway.url("wiki", "/echo").parse().unwrap();
    for round in 0..3 {
        replace(&scene.stage.path("apps/wiki.toml"), closed.as_bytes());
        now = next(&scene.gateway, now).await;
        let before = scene.wiki.requests().await;
        let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
        assert_eq!(answer.status, 503, "{round}: {}", answer.body);
        assert_eq!(answer.header("kerbgate-reason"), "maintenance");
        assert!(answer.body.contains("Back at six."), "{}", answer.body);
        assert_eq!(scene.wiki.requests().await, before);
        replace(&scene.stage.path("apps/wiki.toml"), wiki.as_bytes());
        now = next(&scene.gateway, now).await;
        // The session is the same as before.
        let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
        assert_eq!(answer.status, 200, "{round}: {}", answer.body);
        assert_eq!(answer.remote_user(), scene.sam);
    }
    crowd.go_home().await;
    // All of them, by the gateway's own file.
    let boot = fs::read_to_string(scene.stage.path("kerbgate.toml")).unwrap();
    let all = format!("{boot}\n[maintenance]\n");
    for (text, status) in [(&all, 503), (&boot, 200)] {
        replace(&scene.stage.path("kerbgate.toml"), text.as_bytes());
        now = next(&scene.gateway, now).await;
        for app in ["wiki", "intranet", "timesheet"] {
            let url = scene.gateway.url(app, "/echo").parse().unwrap();
            let answer = scene.guest.once(Method::GET, &url, None).await.unwrap();
            assert_eq!(answer.status, status, "{app}: {}", answer.body);
        }
    }
}

/// The account's password changes in the directory, then its keytab on disk; people work all the time, and
/// new ones come.
#[tokio::test]
async fn a_new_keytab_costs_nobody_a_request() {
    let lab: &'static PrivateLab = Box::leak(Box::new(PrivateLab::start().await));
    let stage = Stage::in_lab(&lab.lab);
    let theirs = stage.lab.facts.keytabs.gateway.clone();
    let keytab = stage.path("gateway.keytab");
    replace(&keytab, &fs::read(&theirs).unwrap());
    stage.replace(
        "kerbgate.toml",
        &theirs.display().to_string(),
        "gateway.keytab",
    );
    let scene = Scene::new(stage).await;
    let crowd = Crowd::at_work(&scene, &["wiki", "intranet", "timesheet"]);
    let newcomers = async |when: &str| {
        for number in 0..3 {
            let name = format!("keytab-{when}-{number}");
            let (login, _) = scene.entra.new_guest(&name, &["Intranet.User"]).await;
            let mut person = Visitor::new(&scene.stage.lab.facts.ca, Speaks::Http2);
            let url = scene.gateway.url("intranet", "/echo");
            let page = person.open_as(&login, &url).await.unwrap();
            assert_eq!(page.status, 200, "{when}: {}", page.body);
        }
    };
    newcomers("before").await;
    let fresh = scene.stage.path("fresh.keytab");
    new_password(&theirs, &fresh);
    newcomers("between").await;
    replace(&keytab, &fs::read(&fresh).unwrap());
    newcomers("at").await;
    eventually("a ticket is fetched with the new key", async || {
        let log = scene.gateway.log();
        let after = log.split("the keytab file changed").nth(1);
        after.is_some_and(|after| after.contains("ticket of the gateway fetched"))
    })
    .await;
    newcomers("after").await;
    crowd.go_home().await;
}

/// Gives `svc-gateway` another password in the domain that wrote `old`, and its keytab to `to`.
fn new_password(old: &Path, to: &Path) {
    let domain = old.ancestors().nth(2).unwrap().join("tree/etc/smb.conf");
    let run = |arguments: &[&str]| {
        let mut command = Command::new("samba-tool");
        let done = command.args(arguments).arg("-s").arg(&domain).output();
        let done = done.unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{arguments:?}: {said}");
    };
    run(&[
        "user",
        "setpassword",
        "svc-gateway",
        "--newpassword=An.Other.Pass.2027",
    ]);
    run(&[
        "domain",
        "exportkeytab",
        &to.display().to_string(),
        "--principal=svc-gateway",
        "--only-current-keys",
    ]);
}
