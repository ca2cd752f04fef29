//! For a guest who has never been here: one sign-in, and every published application knows them.

use std::path::Path;
use std::process::Command;

use crate::lab::Stage;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// The shadow account of `oid` in the directory itself: its sAMAccountNames, by the anchor.
pub fn accounts_of(stage: &Stage, oid: &str) -> Vec<String> {
    let facts = &stage.lab.facts;
    let found = Command::new("ldapsearch")
        .env("LDAPTLS_CACERT", &facts.ca)
        .args(["-LLL", "-x", "-H", &format!("ldaps://{}", facts.address)])
        .args([
            "-D",
            "svc-gateway@contoso.test",
            "-w",
            &facts.accounts.passwords["svc-gateway"],
        ])
        .args(["-b", &facts.base_dn])
        .arg(format!("(msDS-ExternalDirectoryObjectId=User_{oid})"))
        .arg("sAMAccountName")
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.strip_prefix("sAMAccountName: "))
        .map(str::to_owned)
        .collect()
}

fn visitor(ca: &Path) -> Visitor {
    Visitor::new(ca, Speaks::Http2)
}

#[tokio::test]
async fn a_new_guest_is_in_the_intranet_as_themselves() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let (login, oid) = entra
        .new_guest(
            "first-visit",
            &["Intranet.User", "Timesheet.User", "Wiki.User"],
        )
        .await;
    assert!(
        accounts_of(&stage, &oid).is_empty(),
        "a guest nobody has seen before"
    );

    let mut guest = visitor(&stage.lab.facts.ca);
    let page = guest
        .open_as(&login, &gateway.url("intranet", "/echo/deep?a=1&b=%20"))
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    let sam = accounts_of(&stage, &oid);
    assert_eq!(sam.len(), 1, "exactly one shadow account");
    assert_eq!(page.remote_user(), format!("{}@CONTOSO.TEST", sam[0]));
    assert_eq!(
        page.json()["path"],
        "/echo/deep",
        "the guest is where they wanted to be"
    );
    assert_eq!(page.json()["query"], "a=1&b=%20");

    // The second application: RBCD, connection-bound, no new sign-in.
    let second = guest
        .open(&gateway.url("timesheet", "/echo"))
        .await
        .unwrap();
    assert_eq!(second.remote_user(), format!("{}@CONTOSO.TEST", sam[0]));
    // The third: headers, with the same account and the display name.
    let third = guest.open(&gateway.url("wiki", "/echo")).await.unwrap();
    assert_eq!(third.remote_user(), sam[0]);
    assert_eq!(accounts_of(&stage, &oid), sam, "still exactly one");
}

#[tokio::test]
async fn an_employee_uses_the_account_they_have() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut emma = visitor(&stage.lab.facts.ca);
    let page = emma
        .open_as("emma@contoso.example", &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(
        page.remote_user(),
        "emma.employee@CONTOSO.TEST",
        "{}",
        page.body
    );
}

#[tokio::test]
async fn who_is_not_assigned_reads_why() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut guest = visitor(&stage.lab.facts.ca);
    let page = guest
        .open_as("unassigned@fabrikam.example", &gateway.url("intranet", "/"))
        .await
        .unwrap();
    assert_eq!(page.status, 403);
    assert_eq!(page.header("kerbgate-reason"), "not-allowed");
    assert!(page.body.contains("not-allowed"), "the page shows the code");
    assert!(
        page.body.contains(page.header("kerbgate-request-id")),
        "and the request id"
    );
    assert!(page.remote_user().is_empty());
}
