//! A directory that refuses something (a name that is taken, a right that is missing) stops that step of `kerbgate sync guests` and no
//! other, says what and how to mend it, and the next run does what can be done by then.

use serde_json::json;

use crate::directory::add_user;
use crate::directory::remove;
use crate::guests_are_kept_in_step::Company;

#[tokio::test]
async fn a_name_that_is_taken_stops_its_own_step() {
    let company = Company::new().await;
    let long = "Ж\u{0}\n\u{202e}%n*)(\\".repeat(40);
    let taken = company.guest("taken", json!({})).await;
    let named = company.guest("named", json!({})).await;
    let free = company.guest("free", json!({"name": long})).await;
    // Somebody else's, with the name that the account would get: as sAMAccountName, and as an object's.
    let other = company.rest.child("CN", "somebody else");
    let all = [
        ("sAMAccountName", taken.sam.as_str()),
        ("userAccountControl", "546"),
    ];
    add_user(&company.ad, &other, &all).await;
    let object = company.guests.child("CN", &named.sam);
    let session = company.ad.session().await.unwrap();
    let class = ("objectClass".parse().unwrap(), vec![b"group".to_vec()]);
    session.add(&object, vec![class]).await.unwrap();
    let before = company.state().await;

    for _ in 0..2 {
        let said = company.sync(&["apply", "--yes"], 1).await;
        for part in [taken.sam.as_str(), named.sam.as_str(), "failed: 2"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let after = company.state().await;
    let made = after.iter().filter(|(dn, _)| dn.contains(&free.sam));
    assert_eq!(made.count(), 1);
    assert!(
        before.iter().all(|one| after.contains(one)),
        "others' as they were"
    );
    assert_eq!(after.len(), before.len() + 1);

    remove(&company.ad, &other).await;
    remove(&company.ad, &object).await;
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(company.planned().await, [""; 0]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_nothing_is_made() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    // Where nobody has delegated anything to the gateway.
    let unit = "OU=Staff,DC=contoso,DC=test";
    let ours = company.guests.to_string();
    for _ in 0..2 {
        company.stage.replace("kerbgate.toml", &ours, unit);
    }
    let before = company.state().await;
    let said = company.sync(&["apply", "--yes"], 1).await;
    assert!(said.contains(&jane.sam), "{said}");
    assert!(said.contains("lacks the right"), "{said}");
    assert_eq!(company.state().await, before);
}
