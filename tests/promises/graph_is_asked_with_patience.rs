//! What has changed in the tenant is learnt whole or not at all: page by page, at Graph and nowhere else, at Graph's pace.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::Method;
use kerbgate::assembly;
use kerbgate::graph;
use kerbgate::graph::Change;
use kerbgate::graph::Error;
use kerbgate::graph::Graph;
use kerbgate::graph::Kind;
use kerbgate::graph::Link;
use kerbgate::graph::Pages;
use kerbgate::graph::Patience;
use kerbgate::graph::Removal;
use kerbgate::graph::Then;
use kerbgate::graph::Told;
use kerbgate::graph::UserState;
use kerbgate::model::clock::Clock;
use kerbgate::oidc::Issuer;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::lab::Entra;
use crate::lab::Stage;
use crate::walk::counted;
use crate::walk::order;

const PARTNERS: Uuid = Uuid::from_u128(0x9999_9999_0000_4000_8000_0000_0000_0002);
const EMPLOYEES: Uuid = Uuid::from_u128(0x9999_9999_0000_4000_8000_0000_0000_0003);
const CLIENT: Uuid = Uuid::from_u128(0xcccc_cccc_0000_4000_8000_0000_0000_000c);

/// Graph as the gateway of this stage would ask it, with little patience.
fn graph(stage: &Stage) -> Graph {
    let config = kerbgate::config::load(&stage.path("kerbgate.toml")).unwrap();
    let settings = assembly::oidc_settings(&config).unwrap();
    let issuer = Arc::new(Issuer::new(settings, Clock::System).unwrap());
    let http = issuer.http();
    let scope = config.issuer.graph_scope.clone();
    let source: graph::TokenSource = Arc::new(move || {
        let (issuer, scope) = (Arc::clone(&issuer), scope.clone());
        Box::pin(async move {
            let got = issuer.app_token(&scope).await.map_err(|e| e.to_string())?;
            Ok(graph::Token {
                token: got.token,
                lasts: got.lasts,
            })
        })
    });
    let settings = graph::Settings {
        base_url: config.issuer.graph.unwrap(),
        units_per_second: 10_000,
        patience: Patience {
            tries: 4,
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(3),
            one_try: Duration::from_secs(5),
        },
        ..graph::Settings::microsoft().unwrap()
    };
    Graph::new(settings, http, source).unwrap()
}

async fn scene() -> (Stage, Entra, Graph) {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let graph = graph(&stage);
    (stage, entra, graph)
}

/// All pages: their rows in order, how many pages, and what came after the last.
async fn all<T: DeserializeOwned>(mut pages: Pages<T>) -> Result<(Vec<T>, usize, Then), Error> {
    let (mut rows, mut count, mut then) = (Vec::new(), 0, Then::End);
    while let Some(page) = pages.next().await? {
        rows.extend(page.rows);
        count += 1;
        then = page.then;
    }
    Ok((rows, count, then))
}

fn delta(then: Then) -> Link {
    match then {
        Then::Delta(link) => link,
        other => panic!("no delta link: {other:?}"),
    }
}

async fn users(graph: &Graph, from: Option<Link>) -> (Vec<Change<UserState>>, Link) {
    let (rows, _, then) = all(graph.users_delta(from).unwrap()).await.unwrap();
    (rows, delta(then))
}

async fn first_error(graph: &Graph) -> Error {
    all(graph.users_delta(None).unwrap()).await.unwrap_err()
}

fn now(change: &Change<UserState>) -> &UserState {
    match change {
        Change::Now(user) => user,
        Change::Removed(id, _) => panic!("{id} is removed"),
    }
}

async fn fault(entra: &Entra, fault: serde_json::Value) {
    let mut fault = fault;
    fault["endpoint"] = json!("graph");
    order(entra, "/faults", fault).await;
}

#[tokio::test]
async fn every_change_is_told_and_nothing_else() {
    let (_stage, entra, graph) = scene().await;
    let (login, oid) = entra.new_guest("delta", &[]).await;
    let oid: Uuid = oid.parse().unwrap();
    let person = format!("/people/{login}");
    order(&entra, "/graph", json!({"page_size": 7})).await;
    let (rows, pages, then) = all(graph.users_delta(None).unwrap()).await.unwrap();
    let everybody = entra.control(Method::GET, "/people", json!({})).await;
    let everybody = everybody.as_array().unwrap().len();
    assert_eq!(rows.len(), everybody);
    assert_eq!(pages, everybody.div_ceil(7));
    let state = |name: &str| {
        let mail = |user: &&UserState| user.mail.value().is_some_and(|mail| mail.starts_with(name));
        rows.iter().map(now).find(mail).unwrap().clone()
    };
    let pending = Told::Value("PendingAcceptance".to_owned());
    assert_eq!(state("pending@").external_user_state, pending);
    assert_eq!(state("disabled@").account_enabled, Told::Value(false));
    let converted = state("converted@");
    assert_eq!(converted.user_type, Told::Value("Member".to_owned()));
    assert_eq!(
        converted.creation_type,
        Told::Value("Invitation".to_owned())
    );
    let identities = converted.identities.value().unwrap();
    assert_eq!(identities[0].issuer.as_deref(), Some("ExternalAzureAD"));

    // Nothing happens: nothing is told.
    let (rows, link) = users(&graph, Some(delta(then))).await;
    assert_eq!(rows, []);
    // A change tells what has changed, and leaves the rest as it was.
    order(&entra, &person, json!({"enabled": false})).await;
    let (rows, link) = users(&graph, Some(link)).await;
    assert_eq!(rows.len(), 1);
    let told = now(&rows[0]);
    assert_eq!((told.id, &told.account_enabled), (oid, &Told::Value(false)));
    assert_eq!(told.display_name, Told::Nothing);
    assert_eq!(told.mail, Told::Nothing);
    // What was emptied is told as empty.
    order(&entra, &person, json!({"named_in_tokens": false})).await;
    let (rows, link) = users(&graph, Some(link)).await;
    assert_eq!(now(&rows[0]).mail, Told::Empty);
    // Deleted, restored, deleted for ever.
    entra.control(Method::DELETE, &person, json!({})).await;
    let (rows, link) = users(&graph, Some(link)).await;
    assert_eq!(rows, [Change::Removed(oid, Removal::Changed)]);
    let (gone, ..) = all(graph.deleted_users().unwrap()).await.unwrap();
    assert!(
        gone.iter()
            .any(|one| one.id == oid && one.deleted_date_time.is_some())
    );
    assert_eq!(gone.len(), 2, "and the one of the demo");
    order(&entra, &format!("/deleted/{login}"), json!({})).await;
    let (rows, link) = users(&graph, Some(link)).await;
    assert_eq!(now(&rows[0]).id, oid);
    assert!(now(&rows[0]).display_name.value().is_some(), "whole again");
    entra.control(Method::DELETE, &person, json!({})).await;
    let forever = format!("/deleted/{login}");
    entra.control(Method::DELETE, &forever, json!({})).await;
    let (rows, _) = users(&graph, Some(link)).await;
    assert_eq!(rows, [Change::Removed(oid, Removal::Deleted)]);
    assert!(matches!(graph.user_state(oid).await, Err(Error::UserUnknown(id)) if id == oid));
}

#[tokio::test]
async fn a_crash_between_two_pages_costs_one_page() {
    let (stage, entra, one) = scene().await;
    order(&entra, "/graph", json!({"page_size": 50})).await;
    let mut pages = one.users_delta(None).unwrap();
    let first = pages.next().await.unwrap().unwrap();
    let Then::Page(link) = first.then else {
        panic!("one page only");
    };
    let stored = link.as_str().to_owned();
    let other = graph(&stage);
    let link = other.link(&stored).unwrap();
    let (rest, _) = users(&other, Some(link)).await;
    let ids: BTreeSet<Uuid> = first
        .rows
        .iter()
        .chain(&rest)
        .map(|row| now(row).id)
        .collect();
    let everybody = entra.control(Method::GET, "/people", json!({})).await;
    assert_eq!(ids.len(), everybody.as_array().unwrap().len());
    let foreign = stored.replace("entra.localhost", "evil.example");
    assert!(matches!(other.link(&foreign), Err(Error::ForeignLink(_))));
}

#[tokio::test]
async fn members_are_told_as_they_come_and_go_and_through_other_groups() {
    let (_stage, entra, graph) = scene().await;
    let (login, oid) = entra.new_guest("member", &[]).await;
    let oid: Uuid = oid.parse().unwrap();
    let groups = json!({"groups": [PARTNERS.to_string()]});
    let nested = json!({"name": "All staff", "groups": [PARTNERS.to_string()]});
    let (rows, _, then) = all(graph.groups_delta(&[PARTNERS, EMPLOYEES], None).unwrap())
        .await
        .unwrap();
    let link = delta(then);
    assert_eq!(rows.len(), 2, "those asked for, of many");
    order(&entra, &format!("/people/{login}"), groups).await;
    order(&entra, &format!("/groups/{EMPLOYEES}"), nested).await;
    let asked = graph.groups_delta(&[PARTNERS], Some(link)).unwrap();
    let (rows, _, then) = all(asked).await.unwrap();
    let link = delta(then);
    let mut came = BTreeMap::new();
    for row in rows {
        let Change::Now(group) = row else {
            panic!("removed")
        };
        came.insert(group.id, group);
    }
    assert_eq!(came[&PARTNERS].members.len(), 1);
    assert_eq!(came[&PARTNERS].members[0].id, oid);
    assert_eq!(came[&PARTNERS].members[0].kind, Kind::User);
    assert_eq!(came[&EMPLOYEES].members[0].id, PARTNERS);
    assert_eq!(came[&EMPLOYEES].members[0].kind, Kind::Group);
    let renamed = Told::Value("All staff".to_owned());
    assert_eq!(came[&EMPLOYEES].display_name, renamed);

    order(&entra, "/graph", json!({"page_size": 2})).await;
    let (people, pages, then) = all(graph.transitive_members(EMPLOYEES).unwrap())
        .await
        .unwrap();
    assert!(pages > 2);
    assert_eq!(then, Then::End);
    let inside = people.iter().find(|user| user.id == oid).unwrap();
    assert_eq!(inside.user_type, Told::Value("Guest".to_owned()));

    order(&entra, &format!("/people/{login}"), json!({"groups": []})).await;
    let asked = graph.groups_delta(&[PARTNERS], Some(link)).unwrap();
    let (rows, ..) = all(asked).await.unwrap();
    let left = rows.iter().find_map(|row| match row {
        Change::Now(group) if group.id == PARTNERS => Some(&group.members[0]),
        Change::Now(_) | Change::Removed(..) => None,
    });
    let left = left.unwrap();
    assert_eq!(
        (left.id, left.removed.unwrap().reason),
        (oid, Removal::Deleted)
    );
    let nobody = Uuid::from_u128(7);
    let unknown = all(graph.transitive_members(nobody).unwrap()).await;
    assert!(matches!(unknown, Err(Error::ObjectUnknown { id, .. }) if id == nobody));
}

#[tokio::test]
async fn who_is_assigned_is_told() {
    let (stage, entra, graph) = scene().await;
    let (_, oid) = entra.new_guest("assigned", &["Wiki.User"]).await;
    let oid: Uuid = oid.parse().unwrap();
    order(&entra, "/graph", json!({"page_size": 100})).await;
    let (rows, pages, _) = all(graph.assigned_to(CLIENT).unwrap()).await.unwrap();
    assert!(pages > 1);
    let mine: Vec<_> = rows.iter().filter(|row| row.principal_id == oid).collect();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].principal_type, Kind::User);
    assert!(!mine[0].app_role_id.is_nil());
    assert!(rows.iter().any(|row| row.principal_type == Kind::Group));
    // The least permission is named, whatever Graph says.
    let few = json!({"graph_roles": ["User.Read.All", "GroupMember.Read.All"]});
    order(&entra, "/settings", few).await;
    let poorer = self::graph(&stage);
    let refused = all(poorer.assigned_to(CLIENT).unwrap()).await.unwrap_err();
    let Error::PermissionMissing { permission, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*permission, "Application.Read.All");
    assert!(refused.to_string().contains("admin consent"), "{refused}");
}

#[tokio::test]
async fn graph_sets_the_pace() {
    let (_stage, entra, graph) = scene().await;
    users(&graph, None).await;
    // Retry-After is kept.
    fault(
        &entra,
        json!({"kind": "throttle", "retry_after": 1, "count": 2}),
    )
    .await;
    let began = Instant::now();
    users(&graph, None).await;
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // As a date, too.
    fault(
        &entra,
        json!({"kind": "throttle", "retry_after": 2, "retry_date": true}),
    )
    .await;
    let began = Instant::now();
    users(&graph, None).await;
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    // Without one: a few tries with growing pauses, and then the truth.
    for status in [500, 502, 503, 504] {
        fault(
            &entra,
            json!({"kind": "status", "status": status, "count": 3}),
        )
        .await;
        users(&graph, None).await;
    }
    fault(
        &entra,
        json!({"kind": "status", "status": 503, "count": 100}),
    )
    .await;
    let asked = counted(&entra, "graph").await;
    let error = first_error(&graph).await;
    assert!(matches!(error, Error::Throttled { .. }), "{error}");
    assert_eq!(counted(&entra, "graph").await - asked, 4);
    entra.control(Method::DELETE, "/faults", json!({})).await;
    // Too long for now: told at once, with the time.
    fault(
        &entra,
        json!({"kind": "throttle", "retry_after": 3600, "count": 1}),
    )
    .await;
    let began = Instant::now();
    let error = first_error(&graph).await;
    let hour = Duration::from_secs(3600);
    assert!(matches!(error, Error::Throttled { retry_after } if retry_after == hour));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn somebody_who_signs_in_does_not_wait_for_a_synchronization() {
    let (_stage, entra, graph) = scene().await;
    users(&graph, None).await;
    fault(
        &entra,
        json!({"kind": "throttle", "retry_after": 3, "count": 1}),
    )
    .await;
    let before = counted(&entra, "graph").await;
    let asking = tokio::spawn({
        let graph = graph.clone();
        async move { users(&graph, None).await }
    });
    crate::lab::eventually("the synchronization was told to wait", async || {
        counted(&entra, "graph").await > before
    })
    .await;
    let jane = Uuid::from_u128(0x1111_1111_0000_4000_8000_0000_0000_0001);
    let began = Instant::now();
    let groups = graph.check_member_groups(jane, &[PARTNERS]).await.unwrap();
    assert_eq!(groups, [PARTNERS]);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(!asking.is_finished());
    asking.await.unwrap();
}

#[tokio::test]
async fn links_are_followed_only_to_graph_and_only_forward() {
    let (_stage, entra, graph) = scene().await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trap = format!("https://{}", elsewhere.local_addr().unwrap());
    order(
        &entra,
        "/graph",
        json!({"page_size": 50, "links": "foreign", "host": trap}),
    )
    .await;
    let error = first_error(&graph).await;
    assert!(matches!(error, Error::ForeignLink(_)), "{error}");
    let knock = tokio::time::timeout(Duration::from_millis(200), elsewhere.accept()).await;
    assert!(knock.is_err(), "somebody went there");
    for (links, part, questions) in [
        ("beta", "away from the configured address", 1),
        ("cycle", "in a circle", 2),
        ("missing", "half a page", 1),
    ] {
        order(&entra, "/graph", json!({"page_size": 50, "links": links})).await;
        let before = counted(&entra, "graph").await;
        let error = first_error(&graph).await;
        assert!(error.to_string().contains(part), "{links}: {error}");
        assert_eq!(
            counted(&entra, "graph").await - before,
            questions,
            "{links}"
        );
        let lists = all(graph.transitive_members(PARTNERS).unwrap()).await;
        assert!(lists.is_ok(), "one page has no next: {lists:?}");
    }
    // Redirects are no links.
    order(&entra, "/graph", json!({})).await;
    fault(&entra, json!({"kind": "redirect", "location": trap})).await;
    let error = first_error(&graph).await;
    assert!(
        matches!(error, Error::Refused { status: 302, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn half_an_answer_is_asked_for_again_and_never_believed() {
    let (_stage, entra, graph) = scene().await;
    let (whole, _) = users(&graph, None).await;
    for kind in ["truncate", "close"] {
        fault(&entra, json!({"kind": kind, "count": 2})).await;
        assert_eq!(users(&graph, None).await.0.len(), whole.len(), "{kind}");
        fault(&entra, json!({"kind": kind, "count": 4})).await;
        let error = first_error(&graph).await;
        assert!(matches!(error, Error::Unreachable(_)), "{kind}: {error}");
    }
    for kind in ["garbage", "html"] {
        fault(&entra, json!({"kind": kind})).await;
        let error = first_error(&graph).await;
        assert!(matches!(error, Error::Page { .. }), "{kind}: {error}");
    }
    fault(&entra, json!({"kind": "oversize"})).await;
    let error = first_error(&graph).await;
    assert!(matches!(error, Error::Answer(_)), "{error}");
    // After an error the same pages go on where they were.
    order(&entra, "/graph", json!({"page_size": 100})).await;
    let mut pages = graph.users_delta(None).unwrap();
    let mut rows = pages.next().await.unwrap().unwrap().rows;
    fault(&entra, json!({"kind": "garbage"})).await;
    assert!(pages.next().await.is_err());
    while let Some(page) = pages.next().await.unwrap() {
        rows.extend(page.rows);
    }
    assert_eq!(rows.len(), whole.len());
}

#[tokio::test]
async fn what_graph_has_forgotten_is_asked_anew() {
    let (_stage, entra, graph) = scene().await;
    let (whole, link) = users(&graph, None).await;
    order(&entra, "/graph/expire", json!({})).await;
    let error = all(graph.users_delta(Some(link)).unwrap())
        .await
        .unwrap_err();
    let Error::ResyncNeeded { from, .. } = error else {
        panic!("{error}");
    };
    assert!(from.unwrap().as_str().ends_with("/graph/v1.0/users/delta"));
    assert_eq!(users(&graph, None).await.0.len(), whole.len());
}

#[tokio::test]
async fn what_comes_twice_comes_in_order_and_nobody_is_an_answer() {
    let (_stage, entra, graph) = scene().await;
    order(&entra, "/graph", json!({"replay": true, "page_size": 33})).await;
    let (rows, _) = users(&graph, None).await;
    let mut names = BTreeMap::new();
    for row in &rows {
        let user = now(row);
        names.insert(user.id, user.display_name.value().unwrap().clone());
    }
    assert!(rows.len() > 2 * names.len());
    assert!(!names.values().any(|name| name == "Outdated"));
    order(&entra, "/graph", json!({"empty": true})).await;
    let (rows, pages, then) = all(graph.users_delta(None).unwrap()).await.unwrap();
    assert_eq!((rows.len(), pages), (0, 1));
    assert!(matches!(then, Then::Delta(_)));
}

#[tokio::test]
async fn one_token_is_fetched_for_all_and_again_when_it_is_refused() {
    let (_stage, entra, graph) = scene().await;
    let before = counted(&entra, "token").await;
    let many = (0..20).map(|_| {
        let graph = graph.clone();
        tokio::spawn(async move { graph.transitive_members(PARTNERS).unwrap().next().await })
    });
    for one in many.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(counted(&entra, "token").await - before, 1);
    fault(&entra, json!({"kind": "status", "status": 401})).await;
    users(&graph, None).await;
    assert_eq!(counted(&entra, "token").await - before, 2);
    fault(&entra, json!({"kind": "status", "status": 401, "count": 2})).await;
    let error = first_error(&graph).await;
    assert!(
        matches!(error, Error::Refused { status: 401, .. }),
        "{error}"
    );
    assert_eq!(
        counted(&entra, "token").await - before,
        3,
        "once, not for ever"
    );
}

#[tokio::test]
async fn a_certificate_opens_graph_and_another_one_does_not() {
    let rsa =
        || rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let params = || rcgen::CertificateParams::new(vec!["kerbgate".to_owned()]).unwrap();
    let stage = Stage::new().await;
    let (key, other) = (rsa().unwrap(), rsa().unwrap());
    let registered = params().self_signed(&key).unwrap();
    let unknown = params().self_signed(&other).unwrap();
    std::fs::write(stage.path("client.pem"), registered.pem()).unwrap();
    std::fs::write(stage.path("client.key"), key.serialize_pem()).unwrap();
    std::fs::write(stage.path("other.pem"), unknown.pem()).unwrap();
    std::fs::write(stage.path("other.key"), other.serialize_pem()).unwrap();
    let path = stage.path("client.pem");
    let _entra = stage
        .entra(&["--client-cert", path.to_str().unwrap()])
        .await;
    let secret = "client_secret_file = \"client-secret\"";
    let pair = "client_certificate = \"client.pem\"\nclient_key = \"client.key\"";
    stage.replace("kerbgate.toml", secret, pair);
    users(&graph(&stage), None).await;
    // A key that is another certificate's is a mistake before anything is asked.
    stage.replace("kerbgate.toml", "client.key", "other.key");
    let mistakes = kerbgate::config::load(&stage.path("kerbgate.toml")).unwrap_err();
    assert_eq!(mistakes[0].key, "issuer.client_key");
    // One that Entra does not know is Entra's to refuse.
    stage.replace("kerbgate.toml", "client.pem", "other.pem");
    let error = first_error(&graph(&stage)).await;
    assert!(error.to_string().contains("AADSTS700027"), "{error}");
}
