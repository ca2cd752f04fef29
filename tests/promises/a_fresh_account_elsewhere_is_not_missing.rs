//! An account that one domain controller has and another has not heard of yet is not missing: `kerbgate sync guests` makes no second
//! one, and makes it again only when it is certain that the first is gone.

use kerbgate::model::names::PersonId;
use kerbgate::store::Store as _;
use kerbgate::store::records::AccountLink;
use kerbgate::store::sqlite::SqliteStore;
use serde_json::json;
use uuid::Uuid;

use crate::guests_are_kept_in_step::Company;
use crate::guests_are_kept_in_step::Guest;
use crate::guests_are_kept_in_step::lines;
use crate::lab::gateway::TENANT;

const DAY: i64 = 86_400;

/// What a gateway leaves behind that has made the account on `dc`.
async fn made_on(company: &Company, guest: &Guest, dc: &str, ago: i64) {
    let path = company.stage.path("state/kerbgate.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let link = AccountLink {
        person: PersonId {
            tid: TENANT.parse().unwrap(),
            oid: guest.oid,
        },
        sid: "S-1-5-21-1-2-3-1104".parse().unwrap(),
        guid: Uuid::new_v4(),
        dn: company.guests.child("CN", &guest.sam).to_string(),
        dc: dc.to_owned(),
        created: time::OffsetDateTime::now_utc().unix_timestamp() - ago,
    };
    store.save_account_link(&link).await.unwrap();
}

#[tokio::test]
async fn who_was_given_an_account_on_another_controller_gets_no_second_one() {
    let company = Company::new().await;
    let fresh = company.guest("fresh", json!({})).await;
    let old = company.guest("old", json!({})).await;
    let here = company.guest("here", json!({})).await;
    let never = company.guest("never", json!({})).await;
    let dc = company.stage.lab.facts.dc.clone();
    made_on(&company, &fresh, "dc9.contoso.test", 60).await;
    made_on(&company, &old, "dc9.contoso.test", 2 * DAY).await;
    made_on(&company, &here, &dc, 60).await;
    let plan = company.plan().await;
    assert_eq!(lines(&plan), ["create new"; 3], "{plan}");
    let left = &plan["left_alone"][0];
    assert_eq!(left["oid"], fresh.oid.to_string());
    let why = left["why"].as_str().unwrap();
    assert!(why.contains("was made on dc9.contoso.test"), "{why}");
    company.sync(&["apply", "--yes"], 0).await;
    for (guest, made) in [(&fresh, 0), (&old, 1), (&here, 1), (&never, 1)] {
        let accounts = company.state().await;
        let own = accounts.iter().filter(|(dn, _)| dn.contains(&guest.sam));
        assert_eq!(own.count(), made, "{}", guest.login);
    }
}
