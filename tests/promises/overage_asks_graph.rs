//! For guests in very many groups: Graph is asked for just the groups that count; while it cannot be asked, nobody gets in.

use std::time::Duration;
use std::time::Instant;

use http::Method;
use serde_json::json;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::visitor::Answer;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::counted;
use crate::walk::order;
use crate::walk::world;

/// Somebody in 250 groups, one of which may open `wiki`; no app role.
async fn crowded(entra: &Entra, name: &str) -> (String, String) {
    let (login, oid) = entra.new_guest(name, &[]).await;
    let all = entra.control(Method::GET, "/people", json!({})).await;
    let like = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["login"] == "overage@fabrikam.example")
        .unwrap();
    order(
        entra,
        &format!("/people/{login}"),
        json!({"groups": like["groups"]}),
    )
    .await;
    (login, oid)
}

async fn open(gateway: &Gateway, login: &str) -> Answer {
    let ca = crate::lab::ca();
    let mut visitor = crate::visitor::Visitor::new(&ca, crate::visitor::Speaks::Http2);
    visitor
        .open_as(login, &gateway.url("wiki", "/echo"))
        .await
        .unwrap()
}

#[tokio::test]
async fn only_the_groups_that_count_are_asked_for_and_only_at_graph() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = crowded(&entra, "overage").await;
    // The token names an address to ask at: it is a trap.
    let trap = format!("{}/trap/getMemberObjects", entra.url);
    let sources =
        json!({"login": login, "claims": {"_claim_sources": {"src1": {"endpoint": trap}}}});
    order(&entra, "/next-id-token", sources).await;
    let (graph, other) = (
        counted(&entra, "graph").await,
        counted(&entra, "other").await,
    );
    let mut visitor = browser(&stage);
    let page = visitor
        .open_as(&login, &gateway.url("wiki", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.header("kerbgate-reason"));
    assert_eq!(page.remote_user(), oid);
    for _ in 0..5 {
        assert_eq!(
            visitor
                .open(&gateway.url("wiki", "/echo"))
                .await
                .unwrap()
                .status,
            200
        );
    }
    // 250 groups would be thirteen questions of twenty.
    assert_eq!(
        counted(&entra, "graph").await - graph,
        1,
        "one question, remembered"
    );
    assert_eq!(
        counted(&entra, "other").await,
        other,
        "the trap was not asked"
    );
    assert_eq!(backend.count(), 6);

    // Who is in as many groups, but not in the one.
    let (outsider, _) = crowded(&entra, "overage-outside").await;
    let all = entra.control(Method::GET, "/people", json!({})).await;
    let me = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["login"] == outsider.as_str())
        .unwrap();
    let mut groups = me["groups"].as_array().unwrap().clone();
    groups.retain(|group| group != "99999999-0000-4000-8000-000000000001");
    assert!(groups.len() > 200);
    order(
        &entra,
        &format!("/people/{outsider}"),
        json!({"groups": groups}),
    )
    .await;
    assert_refused(
        &open(&gateway, &outsider).await,
        "not-allowed",
        "not in the group",
    );
}

#[tokio::test]
async fn nobody_gets_in_while_graph_cannot_be_asked() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let faults = [
        json!({"kind": "status", "status": 500}),
        json!({"kind": "status", "status": 403}),
        json!({"kind": "status", "status": 404}),
        json!({"kind": "throttle", "retry_after": 60}),
        json!({"kind": "garbage"}),
        json!({"kind": "html"}),
        json!({"kind": "oversize"}),
        json!({"kind": "close"}),
        json!({"kind": "redirect", "location": "https://evil.example/"}),
        json!({"kind": "hang"}),
    ];
    for (allowed, fault) in faults.into_iter().enumerate() {
        let what = fault.to_string();
        let mut fault = fault;
        fault["endpoint"] = json!("graph");
        fault["count"] = json!(1000);
        let (login, oid) = crowded(&entra, "graph-away").await;
        order(&entra, "/faults", fault).await;
        let began = Instant::now();
        let page = open(&gateway, &login).await;
        assert_refused(&page, "groups-unknown", &what);
        assert_eq!(page.status, 503, "{what}");
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{what}: {:?}",
            began.elapsed()
        );
        assert_eq!(backend.count(), allowed, "{what}");
        entra.control(Method::DELETE, "/faults", json!({})).await;
        let page = open(&gateway, &login).await;
        assert_eq!(page.remote_user(), oid, "{what}: and heals");
    }
}

#[tokio::test]
async fn graph_without_the_permission_lets_nobody_in() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    order(&entra, "/settings", json!({"graph_roles": []})).await;
    let gateway = stage.gateway().await;
    let (login, _) = crowded(&entra, "graph-403").await;
    let page = open(&gateway, &login).await;
    assert_refused(&page, "groups-unknown", "no permission");
    assert!(
        gateway.log().contains("permission"),
        "the log says what is missing"
    );
    // And no token for Graph at all.
    order(
        &entra,
        "/faults",
        json!({"endpoint": "graph", "kind": "hang", "count": 1000}),
    )
    .await;
    let (other, _) = crowded(&entra, "graph-token").await;
    assert_refused(&open(&gateway, &other).await, "groups-unknown", "hangs");
    assert_eq!(backend.count(), 0);
}
