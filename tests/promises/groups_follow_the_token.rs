//! For an administrator: membership of managed AD groups is what the token says, and no other group is touched.

use std::collections::BTreeSet;

use kerbgate::mapping::settings::GroupSource;
use kerbgate::mapping::settings::ManagedGroup;
use kerbgate::mapping::settings::Settings;
use kerbgate::model::claims::Claims;
use uuid::Uuid;

use crate::directory::directory;
use crate::directory::dn;
use crate::directory::entry;
use crate::directory::guest;
use crate::directory::made;
use crate::directory::mapping;
use crate::directory::settings;
use crate::directory::shadow;
use crate::lab::Lab;

const INTRANET: &str = "CN=Intranet Users,OU=Guest Groups,DC=contoso,DC=test";
const TIMESHEET: &str = "CN=Timesheet Users,OU=Guest Groups,DC=contoso,DC=test";

fn managed() -> Settings {
    let mut settings = settings();
    for (from, group) in [
        (GroupSource::Role("Intranet.User".into()), INTRANET),
        (GroupSource::Group(Uuid::from_u128(7)), TIMESHEET),
    ] {
        settings.groups.push(ManagedGroup {
            from,
            group: dn(group),
        });
    }
    settings
}

async fn member_of(lab: &Lab, person: &Claims) -> BTreeSet<String> {
    let found = entry(&directory(lab), &shadow(person), &["memberOf"])
        .await
        .unwrap();
    found.texts("memberOf").map(String::from).collect()
}

#[tokio::test]
async fn a_guest_joins_and_leaves_with_their_roles_and_groups() {
    let lab = Lab::get().await;
    let gateway = mapping(managed(), directory(lab)).await;
    let mut jane = guest();
    jane.roles = vec![String::from("Intranet.User")];
    made(&gateway, &jane).await.unwrap();
    assert_eq!(
        member_of(lab, &jane).await,
        BTreeSet::from([INTRANET.to_owned()])
    );
    // The role goes, the group comes: seen at once, not when the cache has run out.
    jane.roles.clear();
    gateway
        .account(&jane, &[Uuid::from_u128(7)], true)
        .await
        .unwrap();
    assert_eq!(
        member_of(lab, &jane).await,
        BTreeSet::from([TIMESHEET.to_owned()])
    );
    made(&gateway, &jane).await.unwrap();
    assert_eq!(member_of(lab, &jane).await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_gateways_agree() {
    let lab = Lab::get().await;
    let mut jane = guest();
    jane.roles = vec![String::from("Intranet.User")];
    let mut gateways = Vec::new();
    for _ in 0..6 {
        let gateway = mapping(managed(), directory(lab)).await;
        let jane = jane.clone();
        gateways.push(tokio::spawn(async move {
            made(&gateway, &jane).await.map(|_| gateway)
        }));
    }
    for gateway in gateways {
        gateway.await.unwrap().expect("joining twice is no failure");
    }
    assert_eq!(
        member_of(lab, &jane).await,
        BTreeSet::from([INTRANET.to_owned()])
    );
}
