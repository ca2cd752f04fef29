//! For the security officer: who is disabled, deleted or taken out of the group is out of everything that runs, within the
//! configured time, on every replica; and nobody else is, whatever Graph does.

use std::fs;

use http::Method;
use kerbgate::ldap::Change;
use serde_json::Value;
use serde_json::json;

use crate::directory::GUESTS;
use crate::directory::directory;
use crate::directory::dn;
use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::free_port;
use crate::lab::kerbgate;
use crate::sockets::open;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::get;
use crate::walk::order;
use crate::wire::Scene;

/// The group that lets in, as the demo's applications name it.
const GROUP: &str = "99999999-0000-4000-8000-000000000001";
/// Graph is asked every two seconds; the issuer not at all.
const QUICK: &str = "\n[session]\nrecheck = \"1h\"\n[sync.cutoff]\nwithin = \"10s\"\n";

async fn scene() -> Scene {
    let stage = Stage::new().await;
    stage.append("kerbgate.toml", QUICK);
    let scene = Scene::new(stage).await;
    asked(&scene.gateway).await;
    scene
}

/// A guest of the wiki, signed in; `more` as the control API takes it.
async fn signed_in(scene: &Scene, name: &str, more: Value) -> (String, Visitor) {
    let (login, _) = scene.entra.new_guest(name, &["Wiki.User"]).await;
    change(&scene.entra, &login, more).await;
    let mut visitor = browser(&scene.stage);
    let url = scene.gateway.url("wiki", "/echo");
    let page = visitor.open_as(&login, &url).await.unwrap();
    assert!(!page.remote_user().is_empty(), "{}", page.body);
    (login, visitor)
}

async fn change(entra: &Entra, login: &str, change: Value) {
    order(entra, &format!("/people/{login}"), change).await;
}

/// What a script is told about its session; it never signs anybody in.
async fn session(visitor: &Visitor, gateway: &Gateway) -> crate::visitor::Answer {
    let url = gateway.url("wiki", "/.kerbgate/session").parse().unwrap();
    get(&mut visitor.clone(), &url).await
}

async fn is_out(visitor: &Visitor, gateway: &Gateway, who: &str) {
    eventually(who, async || session(visitor, gateway).await.status != 200).await;
    let answer = session(visitor, gateway).await;
    assert_refused(&answer, "session-ended", who);
}

async fn is_in(visitor: &Visitor, gateway: &Gateway, who: &str) {
    assert_eq!(session(visitor, gateway).await.status, 200, "{who}");
}

async fn ops(gateway: &Gateway, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}{path}", gateway.ready["ops"].as_str().unwrap());
    client.get(url).send().await.unwrap().text().await.unwrap()
}

/// What `/readyz` says of the cut-off: whether traffic is welcome, and the detail.
async fn told(gateway: &Gateway) -> (bool, String) {
    let said: Value = serde_json::from_str(&ops(gateway, "/readyz").await).unwrap();
    let parts = said["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["part"] == "cutoff").unwrap();
    let detail = part["detail"].as_str().unwrap().to_owned();
    (said["ready"] == true, detail)
}

async fn rounds(gateway: &Gateway, kind: &str) -> u64 {
    let line = format!("kerbgate_cutoff_rounds_total{{kind=\"{kind}\"}} ");
    let text = ops(gateway, "/metrics").await;
    let line = text.lines().find_map(|one| one.strip_prefix(&line));
    line.unwrap().parse().unwrap()
}

/// Until a round that began later than now has come to its end.
async fn asked(gateway: &Gateway) {
    let before = rounds(gateway, "done").await;
    eventually("two more rounds", async || {
        rounds(gateway, "done").await > before + 1
    })
    .await;
}

/// A second replica with the same store, under the same names at another port.
async fn second(stage: &Stage, port: u16) -> Gateway {
    let first = fs::read_to_string(stage.path("kerbgate.toml")).unwrap();
    let own = first
        .replace(
            &format!("https = [\"127.0.0.1:{}\"]", stage.port),
            &format!("https = [\"127.0.0.1:{port}\"]"),
        )
        .replace(
            "state_dir = \"state\"",
            "state_dir = \"state\"\nruntime_dir = \"second-run\"",
        );
    fs::write(stage.path("second.toml"), own).unwrap();
    let ready = stage.path("second.ready");
    let mut command = kerbgate();
    command
        .arg("run")
        .arg("--config")
        .arg(stage.path("second.toml"))
        .arg("--ready-file")
        .arg(&ready);
    let mut process = Running::start("second", &command, stage.path("second.log"));
    process.wrote(&ready).await;
    let ready = serde_json::from_slice(&fs::read(&ready).unwrap()).unwrap();
    Gateway {
        process,
        ready,
        port,
    }
}

#[tokio::test]
async fn the_disabled_and_the_deleted_are_out_with_all_that_is_open() {
    let scene = scene().await;
    let (_, neighbor) = signed_in(&scene, "neighbor", json!({})).await;
    let (deleted, gone) = signed_in(&scene, "deleted", json!({})).await;
    // Of somebody made and deleted between two rounds the emulator's delta says nothing at all.
    asked(&scene.gateway).await;
    let mut sockets = Vec::new();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut socket = open(&scene, speaks).await;
        assert_eq!(socket.ask("hello").await, "hello");
        sockets.push(socket);
    }

    change(&scene.entra, &scene.login, json!({"enabled": false})).await;
    let person = format!("/people/{deleted}");
    scene
        .entra
        .control(Method::DELETE, &person, json!({}))
        .await;
    for mut socket in sockets {
        let why = "person-disabled".to_owned();
        assert_eq!(socket.closed().await, (1008, why));
    }
    is_out(&scene.guest, &scene.gateway, "the disabled").await;
    is_out(&gone, &scene.gateway, "the deleted").await;
    is_in(&neighbor, &scene.gateway, "whom nothing happened to").await;
    let ended = "kerbgate_cutoff_ended_total{kind=\"person-disabled\"} 2";
    let counted = ops(&scene.gateway, "/metrics").await;
    assert!(counted.contains(ended), "{counted}");
}

#[tokio::test]
async fn an_outdated_word_keeps_nobody_in_and_throws_nobody_out() {
    let scene = scene().await;
    let (_, stays) = signed_in(&scene, "stays", json!({})).await;
    asked(&scene.gateway).await;
    // Graph tells of everybody again, and of each what was true before comes last.
    order(&scene.entra, "/graph", json!({"late": true})).await;
    change(&scene.entra, &scene.login, json!({"enabled": false})).await;
    is_out(&scene.guest, &scene.gateway, "the disabled").await;
    asked(&scene.gateway).await;
    is_in(&stays, &scene.gateway, "whom an old word disabled").await;
}

#[tokio::test]
async fn whoever_loses_the_group_signs_in_anew_and_enters_by_what_is_left() {
    let scene = scene().await;
    let inner = "99999999-0000-4000-8000-0000000000aa";
    let nested = json!({"name": "Nested", "groups": []});
    order(&scene.entra, &format!("/groups/{inner}"), nested).await;
    let only = json!({"roles": [], "groups": [GROUP]});
    let both = json!({"groups": [GROUP]});
    let (only, mut outsider) = signed_in(&scene, "only-the-group", only).await;
    let (both, mut insider) = signed_in(&scene, "group-and-role", both.clone()).await;
    let (_, stays) = signed_in(&scene, "stays", json!({"groups": [GROUP]})).await;
    asked(&scene.gateway).await;
    for visitor in [&outsider, &insider, &stays] {
        is_in(visitor, &scene.gateway, "a member").await;
    }

    for login in [&only, &both] {
        change(&scene.entra, login, json!({"groups": []})).await;
    }
    let url = scene.gateway.url("wiki", "/echo");
    is_out(&outsider, &scene.gateway, "the group was all").await;
    is_out(&insider, &scene.gateway, "the group was not all").await;
    // Nobody types anything: the issuer knows the browser.
    let page = insider.open(&url).await.unwrap();
    assert!(!page.remote_user().is_empty(), "{}", page.body);
    let page = outsider.open(&url).await.unwrap();
    assert_refused(&page, "not-allowed", "the new token says it");
    asked(&scene.gateway).await;
    is_in(&insider, &scene.gateway, "once is enough").await;
    is_in(&stays, &scene.gateway, "still a member").await;
}

#[tokio::test]
async fn a_replica_that_did_not_ask_drops_them_as_well() {
    let scene = scene().await;
    let (port, _port) = free_port();
    let second = second(&scene.stage, port).await;
    let (login, visitor) = signed_in(&scene, "at-two", json!({})).await;
    is_in(&visitor, &second, "one store").await;
    is_in(&visitor, &scene.gateway, "one store").await;
    change(&scene.entra, &login, json!({"enabled": false})).await;
    is_out(&visitor, &second, "at the second").await;
    is_out(&visitor, &scene.gateway, "at the first").await;
    // One of them asked; whoever had the person in memory told its tickets and connections all the same.
    let counted = "kerbgate_cutoff_ended_total{kind=\"person-disabled\"} 1";
    let mut ended = 0;
    for gateway in [&scene.gateway, &second] {
        ended += ops(gateway, "/metrics").await.matches(counted).count();
    }
    assert_eq!(ended, 1, "two replicas did the same work");
}

#[tokio::test]
async fn while_graph_is_down_nobody_is_signed_out_and_everybody_is_told() {
    let scene = scene().await;
    let (login, visitor) = signed_in(&scene, "meanwhile", json!({})).await;
    let down = json!({"endpoint": "graph", "kind": "status", "status": 500, "count": 1_000_000});
    order(&scene.entra, "/faults", down).await;
    change(&scene.entra, &login, json!({"enabled": false})).await;
    eventually("a failed round", async || {
        rounds(&scene.gateway, "failed").await > 0
    })
    .await;
    let (ready, detail) = told(&scene.gateway).await;
    assert!(ready, "traffic is welcome all the same: {detail}");
    assert!(detail.contains("not known"), "{detail}");
    is_in(&visitor, &scene.gateway, "nobody knows yet").await;
    is_in(&scene.guest, &scene.gateway, "nobody knows anything").await;
    assert!(
        scene
            .gateway
            .log()
            .contains("whether people have left is not known")
    );

    let path = "/faults";
    scene.entra.control(Method::DELETE, path, json!({})).await;
    is_out(&visitor, &scene.gateway, "as soon as Graph answers").await;
    is_in(&scene.guest, &scene.gateway, "whom nothing happened to").await;
    eventually("well again", async || {
        told(&scene.gateway).await == (true, String::new())
    })
    .await;
}

#[tokio::test]
async fn a_link_that_expired_or_slept_through_a_stop_misses_nobody() {
    let mut scene = scene().await;
    let (login, visitor) = signed_in(&scene, "seven-days", json!({})).await;
    // Stopped, so that nothing is told between the two.
    scene.gateway.process.signal("STOP");
    order(&scene.entra, "/graph/expire", json!({})).await;
    change(&scene.entra, &login, json!({"enabled": false})).await;
    scene.gateway.process.signal("CONT");
    is_out(&visitor, &scene.gateway, "told by no delta").await;
    is_in(&scene.guest, &scene.gateway, "asked about, and well").await;
    assert!(
        scene
            .gateway
            .log()
            .contains("everybody who is signed in is asked about")
    );

    let (login, visitor) = signed_in(&scene, "overnight", json!({})).await;
    asked(&scene.gateway).await;
    scene.gateway.process.stop().await;
    change(&scene.entra, &login, json!({"enabled": false})).await;
    scene.gateway = scene.stage.gateway().await;
    is_out(&visitor, &scene.gateway, "left during the stop").await;
    is_in(&scene.guest, &scene.gateway, "stayed").await;
}

/// Asked by itself every five hours: whatever is quicker was told.
const TOLD: &str =
    "\n[session]\nrecheck = \"1h\"\n[sync.cutoff]\nwithin = \"1d\"\n[sync.cutoff.notifications]\n";

async fn told_scene() -> Scene {
    let stage = Stage::new().await;
    stage.append("kerbgate.toml", TOLD);
    let scene = Scene::new(stage).await;
    subscribed(&scene, &[]).await;
    scene
}

/// Until Graph keeps both subscriptions, none of them among `old`; their secrets.
async fn subscribed(scene: &Scene, old: &[String]) -> Vec<String> {
    let secrets = async || -> Vec<String> {
        let path = "/subscriptions";
        let all = scene.entra.control(Method::GET, path, json!({})).await;
        let all = all.as_array().unwrap().clone();
        let secret = |one: &Value| one["clientState"].as_str().unwrap().to_owned();
        all.iter().map(secret).collect()
    };
    eventually("two subscriptions", async || {
        let now = secrets().await;
        now.len() == 2 && now.iter().all(|one| !old.contains(one))
    })
    .await;
    // The round that made them has come to its end.
    eventually("the round's end", async || {
        told(&scene.gateway).await.1.is_empty()
    })
    .await;
    secrets().await
}

/// Posts to our path as Graph does.
async fn post(scene: &Scene, query: &str, body: String) -> crate::visitor::Answer {
    let path = format!("/.kerbgate/graph-notifications{query}");
    let visitor = browser(&scene.stage);
    let url: url::Url = scene.gateway.url("login", &path).parse().unwrap();
    let request = visitor.request(Method::POST, &url).body(body);
    let answer = request.send().await.unwrap();
    crate::visitor::Answer {
        status: answer.status(),
        headers: answer.headers().clone(),
        body: answer.text().await.unwrap(),
        url,
    }
}

fn notice(secret: &str) -> String {
    let one = json!({"subscriptionId": "x", "clientState": secret, "changeType": "updated"});
    json!({"value": [one]}).to_string()
}

#[tokio::test]
async fn what_graph_tells_of_is_asked_for_at_once() {
    let scene = told_scene().await;
    let (member, of_group) = signed_in(&scene, "member", json!({"groups": [GROUP]})).await;
    let mut socket = open(&scene, Speaks::Http2).await;
    assert_eq!(socket.ask("hello").await, "hello");
    change(&scene.entra, &scene.login, json!({"enabled": false})).await;
    let why = "person-disabled".to_owned();
    assert_eq!(socket.closed().await, (1008, why));
    is_out(&scene.guest, &scene.gateway, "the disabled").await;
    is_in(&of_group, &scene.gateway, "whom nothing happened to").await;
    change(&scene.entra, &member, json!({"groups": []})).await;
    is_out(&of_group, &scene.gateway, "taken out of the group").await;

    // Graph drops subscriptions now and then, and says so.
    let old = subscribed(&scene, &[]).await;
    let path = "/subscriptions";
    scene.entra.control(Method::DELETE, path, json!({})).await;
    subscribed(&scene, &old).await;
    let (login, later) = signed_in(&scene, "later", json!({})).await;
    change(&scene.entra, &login, json!({"enabled": false})).await;
    is_out(&later, &scene.gateway, "by the new subscription").await;
}

#[tokio::test]
async fn a_hint_outlives_a_round_that_fails() {
    let scene = told_scene().await;
    let (login, visitor) = signed_in(&scene, "after-trouble", json!({})).await;
    let old = subscribed(&scene, &[]).await;
    let (faults, subscriptions) = ("/faults", "/subscriptions");
    let down = json!({
        "endpoint": "graph", "only": "GET /graph/v1.0/users/delta",
        "kind": "status", "status": 403, "count": 1_000_000,
    });
    order(&scene.entra, faults, down).await;
    // We are told, subscribe anew, and come no further.
    let dropped = scene
        .entra
        .control(Method::DELETE, subscriptions, json!({}));
    dropped.await;
    eventually("a round that fails", async || {
        rounds(&scene.gateway, "failed").await > 0
    })
    .await;
    let before = rounds(&scene.gateway, "done").await;
    scene.entra.control(Method::DELETE, faults, json!({})).await;
    eventually("it is asked again long before it is due", async || {
        rounds(&scene.gateway, "done").await > before
    })
    .await;
    let new = subscribed(&scene, &old).await;
    assert_eq!(new.len(), 2, "subscribed to once");
    change(&scene.entra, &login, json!({"enabled": false})).await;
    is_out(
        &visitor,
        &scene.gateway,
        "told by what the failed round made",
    )
    .await;
}

#[tokio::test]
async fn when_a_group_looks_empty_each_member_is_asked_about() {
    let scene = scene().await;
    let mut all = Vec::new();
    // More than are believed to have left at once, also without the one who does.
    for number in 0..22 {
        let name = format!("one-of-many-{number}");
        all.push(signed_in(&scene, &name, json!({"groups": [GROUP]})).await);
    }
    asked(&scene.gateway).await;
    // Graph does not find the group, as it may for a while, and knows all the same who is in it.
    let only = format!("GET /graph/v1.0/groups/{GROUP}/transitiveMembers");
    let lost = json!({
        "endpoint": "graph", "only": only, "kind": "status", "status": 404, "count": 1_000_000,
    });
    order(&scene.entra, "/faults", lost).await;
    asked(&scene.gateway).await;
    let (login, left) = all.pop().unwrap();
    is_in(&left, &scene.gateway, "a member").await;
    change(&scene.entra, &login, json!({"groups": []})).await;
    is_out(&left, &scene.gateway, "who left indeed").await;
    for (login, visitor) in &all {
        is_in(visitor, &scene.gateway, login).await;
    }
}

#[tokio::test]
async fn who_is_disabled_here_alone_loses_what_is_open() {
    let stage = Stage::new().await;
    let quick = "[mapping]\ncache = \"1s\"\n";
    stage.replace("kerbgate.toml", "[mapping]\n", quick);
    let scene = Scene::new(stage).await;
    let mut socket = open(&scene, Speaks::Http2).await;
    assert_eq!(socket.ask("hello").await, "hello");
    let session = directory(scene.stage.lab).session().await.unwrap();
    let account = dn(GUESTS).child("CN", &scene.sam);
    let disabled = vec![b"328194".to_vec()];
    let change = Change::Replace("userAccountControl".parse().unwrap(), disabled);
    session.modify(&account, vec![change]).await.unwrap();
    let why = "account-disabled".to_owned();
    assert_eq!(socket.closed().await, (1008, why));
}

#[tokio::test]
async fn a_forged_notification_does_nothing() {
    let scene = told_scene().await;
    let secret = subscribed(&scene, &[]).await.remove(0);
    let before = rounds(&scene.gateway, "done").await;
    let half = &secret[..20];
    let longer = format!("{secret}x");
    for forged in [
        notice(""),
        notice("x"),
        notice(half),
        notice(&longer),
        json!({"value": [{"changeType": "updated"}]}).to_string(),
        json!({"value": []}).to_string(),
    ] {
        // Whoever guesses learns nothing, and what Graph owes to an older subscription is not sent for hours.
        let answer = post(&scene, "", forged.clone()).await;
        assert_eq!(answer.status, 202, "{forged}");
        assert_eq!(answer.body, "", "{forged}");
    }
    for forged in [String::from("{}"), String::from("not JSON"), String::new()] {
        let answer = post(&scene, "", forged.clone()).await;
        assert_refused(&answer, "bad-request", &forged);
    }
    let large = post(&scene, "", notice(&"x".repeat(2 << 20))).await;
    assert_eq!(large.status, 413);
    // Anybody may have a harmless text said back, and nothing else.
    let answer = post(
        &scene,
        "?validationToken=Validation%3A+it+is+me",
        String::new(),
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "Validation: it is me");
    assert!(answer.header("content-type").starts_with("text/plain"));
    let markup = "?validationToken=%3Cscript%3E";
    let answer = post(&scene, markup, String::new()).await;
    assert_refused(&answer, "bad-request", markup);
    let url = scene.gateway.url("wiki", "/.kerbgate/graph-notifications");
    let elsewhere = browser(&scene.stage).request(Method::POST, &url.parse().unwrap());
    let elsewhere = elsewhere.body(notice(&secret)).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404, "on another host");
    assert_eq!(rounds(&scene.gateway, "done").await, before);

    let right = post(&scene, "", notice(&secret)).await;
    assert_eq!(right.status, 202, "{}", right.body);
    eventually("a round", async || {
        rounds(&scene.gateway, "done").await > before
    })
    .await;
    assert_eq!(rounds(&scene.gateway, "done").await, before + 1);
    is_in(&scene.guest, &scene.gateway, "a hint is not believed").await;
}
