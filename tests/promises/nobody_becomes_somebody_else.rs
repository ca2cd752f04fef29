//! For a security officer: look-alikes, names that are taken, privileged and foreign accounts never give
//! anybody another's identity. Refused with a reason, never "the first one found".

use kerbgate::ldap::Change;
use kerbgate::mapping::names;
use kerbgate::mapping::rules;
use kerbgate::model::claims::Home;
use uuid::Uuid;

use crate::directory::GUESTS;
use crate::directory::add_user;
use crate::directory::directory;
use crate::directory::dn;
use crate::directory::employee;
use crate::directory::entry;
use crate::directory::guest;
use crate::directory::made;
use crate::directory::mapping;
use crate::directory::outcome;
use crate::directory::remove;
use crate::directory::settings;
use crate::directory::shadow;
use crate::directory::unique;
use crate::lab::Lab;

#[tokio::test]
async fn two_accounts_with_one_anchor_are_refused() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let gateway = mapping(settings(), directory(lab)).await;
    let jane = guest();
    assert_eq!(outcome(&gateway, &jane).await, "ok");
    let name = unique("look-");
    let look_alike = dn(GUESTS).child("CN", &name);
    let anchor = rules::anchor_value(jane.person);
    add_user(
        &ad,
        &look_alike,
        &[
            ("sAMAccountName", &name),
            ("msDS-ExternalDirectoryObjectId", &anchor),
        ],
    )
    .await;
    drop(gateway.forget(jane.person));
    assert_eq!(outcome(&gateway, &jane).await, "account-ambiguous");
    remove(&ad, &look_alike).await;
    drop(gateway.forget(jane.person));
    assert_eq!(outcome(&gateway, &jane).await, "ok");
}

#[tokio::test]
async fn an_object_that_holds_the_name_is_not_taken_for_the_account() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let gateway = mapping(settings(), directory(lab)).await;
    // The distinguished name.
    let first = guest();
    add_user(
        &ad,
        &shadow(&first),
        &[("sAMAccountName", &unique("held-"))],
    )
    .await;
    assert_eq!(outcome(&gateway, &first).await, "account-conflict");
    remove(&ad, &shadow(&first)).await;
    // The sAMAccountName.
    let second = guest();
    let holder = dn(GUESTS).child("CN", &unique("holder-"));
    add_user(
        &ad,
        &holder,
        &[("sAMAccountName", &names::sam("kg-", second.person))],
    )
    .await;
    assert_eq!(outcome(&gateway, &second).await, "account-conflict");
    remove(&ad, &holder).await;
    // The userPrincipalName, here an employee's.
    let mut third = guest();
    third.upn = Some(String::from("emma.employee@contoso.test"));
    assert_eq!(outcome(&gateway, &third).await, "account-conflict");
    assert!(entry(&ad, &shadow(&third), &["cn"]).await.is_none());
}

#[tokio::test]
async fn the_same_object_id_in_another_tenant_is_another_person() {
    let lab = Lab::get().await;
    let gateway = mapping(settings(), directory(lab)).await;
    let jane = guest();
    assert_eq!(outcome(&gateway, &jane).await, "ok");
    let mut other = jane.clone();
    other.person.tid = Uuid::new_v4();
    assert_eq!(outcome(&gateway, &other).await, "account-conflict");
}

#[tokio::test]
async fn employees_pass_the_fence_or_hear_why_not() {
    let lab = Lab::get().await;
    let gateway = mapping(settings(), directory(lab)).await;
    for (account, reason) in [
        ("emma.employee", "ok"),
        ("sandra.sensitive", "account-not-delegable"),
        ("admin.privileged", "account-privileged"),
        ("paula.protected", "account-protected"),
        ("dora.disabled", "account-disabled"),
        // Exists, but not under account_bases: as good as not there.
        ("svc-intranet", "account-missing"),
    ] {
        assert_eq!(
            outcome(&gateway, &employee(lab, account)).await,
            reason,
            "{account}"
        );
    }
    let emma = made(&gateway, &employee(lab, "emma.employee"))
        .await
        .unwrap();
    assert_eq!(emma.principal.as_str(), "emma.employee@CONTOSO.TEST");
    // An employee without an account on premises never gets a second identity.
    let mut cloud_only = guest();
    cloud_only.home = Home::Own;
    cloud_only.guest = Some(false);
    assert_eq!(outcome(&gateway, &cloud_only).await, "account-missing");
}

#[tokio::test]
async fn two_sources_that_name_two_accounts_are_refused() {
    let lab = Lab::get().await;
    let gateway = mapping(settings(), directory(lab)).await;
    let mut jane = guest();
    assert_eq!(outcome(&gateway, &jane).await, "ok");
    jane.onprem_sid = employee(lab, "emma.employee").onprem_sid;
    assert_eq!(outcome(&gateway, &jane).await, "account-ambiguous");
}

#[tokio::test]
async fn an_account_that_is_disabled_or_expires_is_refused_when_next_asked() {
    let lab = Lab::get().await;
    let session = directory(lab).session().await.unwrap();
    let gateway = mapping(settings(), directory(lab)).await;
    let jane = guest();
    assert_eq!(outcome(&gateway, &jane).await, "ok");
    for (attribute, value, reason, healthy) in [
        ("userAccountControl", "328194", "account-disabled", "328192"),
        (
            "accountExpires",
            "133000000000000000",
            "account-expired",
            "0",
        ),
    ] {
        let set = async |value: &str| {
            let change =
                Change::Replace(attribute.parse().unwrap(), vec![value.as_bytes().to_vec()]);
            session.modify(&shadow(&jane), vec![change]).await.unwrap();
            drop(gateway.forget(jane.person));
        };
        set(value).await;
        assert_eq!(outcome(&gateway, &jane).await, reason);
        set(healthy).await;
        assert_eq!(outcome(&gateway, &jane).await, "ok");
    }
}
