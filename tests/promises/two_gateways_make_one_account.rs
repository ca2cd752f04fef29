//! For an operator of several replicas, and for the guest who meets them all at once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Stage;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

#[tokio::test]
async fn a_guest_at_two_gateways_in_the_same_instant_has_one_account() {
    let stages = [Stage::new().await, Stage::new().await];
    let entras = [stages[0].entra(&[]).await, stages[1].entra(&[]).await];
    let gateways = [stages[0].gateway().await, stages[1].gateway().await];
    let roles = ["Intranet.User"];
    let (login, oid) = entras[0].new_guest("two-doors", &roles).await;
    let same = json!({"login": login, "like": "jane@fabrikam.example", "oid": oid, "roles": roles});
    let path = "/people";
    entras[1].control(http::Method::POST, path, same).await;
    assert!(accounts_of(&stages[0], &oid).is_empty());

    let visits = (0..8).map(|visit| {
        let url = gateways[visit % 2].url("intranet", "/echo");
        let mut guest = Visitor::new(&stages[0].lab.facts.ca, Speaks::Http2);
        let login = login.clone();
        async move { guest.open_as(&login, &url).await.unwrap() }
    });
    let pages = join_all(visits).await;
    let made = accounts_of(&stages[0], &oid);
    assert_eq!(made.len(), 1, "{made:?}");
    for page in pages {
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.remote_user(), format!("{}@CONTOSO.TEST", made[0]));
    }
}

#[tokio::test]
async fn a_guest_whose_account_takes_a_while_reads_so_and_goes_on_by_themselves() {
    let stage = Stage::new().await;
    stage.replace(
        "kerbgate.toml",
        "[mapping]\n",
        "[mapping]\npatience = \"0ms\"\n",
    );
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = entra.new_guest("patient", &["Intranet.User"]).await;
    let url = gateway.url("intranet", "/echo/after?wait=1");

    let mut guest = Visitor::new(&stage.lab.facts.ca, Speaks::Http1);
    guest.waits = false;
    let waiting = guest.open_as(&login, &url).await.unwrap();
    assert_eq!(waiting.status, 202, "{}", waiting.body);
    assert!(
        !waiting.header("refresh").is_empty(),
        "the browser comes back by itself"
    );
    assert!(waiting.body.contains("Intranet"), "the page says where to");
    assert_eq!(
        waiting.url.as_str(),
        url,
        "the page comes back to where the guest wanted to be"
    );
    guest.waits = true;
    let there = guest.open(&url).await.unwrap();
    assert_eq!(there.status, 200, "{}", there.body);
    assert_eq!(there.json()["path"], "/echo/after");
    assert_eq!(accounts_of(&stage, &oid).len(), 1);

    // A program is told to come back, and is not given a page.
    let (login, _) = entra
        .new_guest("impatient", &["Intranet.User", "Wiki.User"])
        .await;
    let mut program = Visitor::new(&stage.lab.facts.ca, Speaks::Http1);
    program.waits = false;
    let page = program.open_as(&login, &url).await.unwrap();
    assert_eq!(page.status, 202);
    let ask = program.request(http::Method::GET, &url.parse().unwrap());
    let answer = ask.header("sec-fetch-mode", "cors").send().await.unwrap();
    let status = answer.status().as_u16();
    assert!(status == 503 || status == 200, "{status}");
    if status == 503 {
        assert!(answer.headers().contains_key("retry-after"));
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["error"], "account-in-preparation");
    }
    tokio::time::timeout(Duration::from_secs(30), program.open(&url))
        .await
        .unwrap()
        .unwrap();
}
