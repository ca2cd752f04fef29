//! For a guest and an administrator: however many gateways make it at once, and whatever happens to their
//! connections, there is exactly one account, and it is whole.

use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;

use kerbgate::ldap::Directory;
use kerbgate::ldap::Filter;
use kerbgate::ldap::Scope;
use kerbgate::ldap::Search;
use kerbgate::mapping::rules;
use kerbgate::model::claims::Claims;
use kerbgate::model::stop::Stop;

use crate::directory::BadLine;
use crate::directory::Trouble;
use crate::directory::directory;
use crate::directory::dn;
use crate::directory::entry;
use crate::directory::guest;
use crate::directory::made;
use crate::directory::mapping;
use crate::directory::outcome;
use crate::directory::settings;
use crate::directory::shadow;
use crate::lab::Lab;
use crate::lab::eventually;

async fn accounts(directory: &Directory, person: &Claims) -> usize {
    let anchor = "msDS-ExternalDirectoryObjectId".parse().unwrap();
    let search = Search {
        base: dn("DC=contoso,DC=test"),
        scope: Scope::Subtree,
        filter: Filter::equals(&anchor, &rules::anchor_value(person.person)),
        attributes: vec![String::from("cn")],
        limit: 0,
    };
    directory.search(&search).await.unwrap().entries.len()
}

async fn whole(directory: &Directory, person: &Claims) {
    let wanted = ["userAccountControl", "adminDescription", "displayName"];
    let found = entry(directory, &shadow(person), &wanted)
        .await
        .expect("the account is there");
    assert_eq!(found.text("userAccountControl"), Some("328192"));
    assert_eq!(
        found.text("adminDescription"),
        Some(rules::anchor_value(person.person).as_str())
    );
    assert_eq!(found.text("displayName"), person.display_name.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_gateways_at_the_same_instant_make_one_account() {
    let lab = Lab::get().await;
    let jane = guest();
    let mut gateways = Vec::new();
    for _ in 0..20 {
        let gateway = mapping(settings(), directory(lab)).await;
        let jane = jane.clone();
        gateways.push(tokio::spawn(async move { made(&gateway, &jane).await }));
    }
    let mut seen = HashSet::new();
    for gateway in gateways {
        let account = gateway
            .await
            .unwrap()
            .expect("every gateway goes on with the account");
        seen.insert((account.sid.clone(), account.principal.clone()));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(accounts(&directory(lab), &jane).await, 1);
    whole(&directory(lab), &jane).await;
}

#[tokio::test]
async fn a_create_that_is_cut_leaves_one_whole_account() {
    let lab = Lab::get().await;
    for trouble in [Trouble::CutBefore, Trouble::CutAfter] {
        let line = BadLine::to(lab, trouble).await;
        let gateway = mapping(settings(), line.directory(lab)).await;
        let jane = guest();
        // The visit that met the trouble, or at the latest one of the next, goes through.
        eventually("the next visit heals it", async || {
            outcome(&gateway, &jane).await == "ok"
        })
        .await;
        assert!(line.struck(), "{trouble:?}: nothing was tested");
        assert_eq!(accounts(&directory(lab), &jane).await, 1, "{trouble:?}");
        whole(&directory(lab), &jane).await;
    }
}

#[tokio::test]
async fn a_create_that_hangs_ends_in_time_and_is_healed() {
    let lab = Lab::get().await;
    let line = BadLine::to(lab, Trouble::Hang).await;
    let gateway = mapping(settings(), line.directory(lab)).await;
    let jane = guest();
    let begun = Instant::now();
    // Over another connection in the same visit, or by a later one.
    let met = outcome(&gateway, &jane).await;
    assert!(["ok", "directory-unreachable"].contains(&met), "{met}");
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "{took:?}, operations end after 1 s"
    );
    assert!(line.struck(), "nothing was tested");
    eventually("the next visit heals it", async || {
        outcome(&gateway, &jane).await == "ok"
    })
    .await;
    assert_eq!(accounts(&directory(lab), &jane).await, 1);
    whole(&directory(lab), &jane).await;
}

#[tokio::test]
async fn a_visitor_who_has_waited_long_enough_joins_the_same_making() {
    let lab = Lab::get().await;
    let mut hasty = settings();
    hasty.patience = Duration::ZERO;
    let gateway = mapping(hasty, directory(lab)).await;
    let jane = guest();
    assert!(
        matches!(made(&gateway, &jane).await, Err(Stop::Wait { .. })),
        "told to wait"
    );
    eventually("the account is there", async || {
        outcome(&gateway, &jane).await == "ok"
    })
    .await;
    assert_eq!(accounts(&directory(lab), &jane).await, 1);
}

#[tokio::test]
async fn a_visitor_who_goes_away_does_not_stop_the_making() {
    let lab = Lab::get().await;
    let gateway = mapping(settings(), directory(lab)).await;
    let jane = guest();
    // Polled once, then dropped: the walk goes on by itself.
    let gone = tokio::time::timeout(Duration::ZERO, made(&gateway, &jane)).await;
    assert!(gone.is_err());
    let checked = directory(lab);
    eventually("the account is made all the same", async || {
        accounts(&checked, &jane).await == 1
    })
    .await;
    whole(&checked, &jane).await;
}
