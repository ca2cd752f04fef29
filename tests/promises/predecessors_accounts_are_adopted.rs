//! For an administrator who comes from MIM or from Microsoft's script: guests keep the accounts (and SIDs)
//! they have, if adoption is switched on, and only then.

use kerbgate::mapping::settings::Settings;

use crate::directory::GUESTS;
use crate::directory::add_user;
use crate::directory::directory;
use crate::directory::dn;
use crate::directory::entry;
use crate::directory::guest;
use crate::directory::made;
use crate::directory::mapping;
use crate::directory::outcome;
use crate::directory::settings;
use crate::directory::unique;
use crate::lab::Lab;

fn adopting() -> Settings {
    let mut settings = settings();
    settings.adopt = true;
    settings
}

#[tokio::test]
async fn an_account_made_by_mim_is_taken_over_and_found_by_its_anchor() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let jane = guest();
    let sam = unique("mim-");
    let made_by_mim = dn(GUESTS).child("CN", &jane.person.oid.to_string());
    // 262656 and "no password needed": MIM's value, without a password to set.
    add_user(
        &ad,
        &made_by_mim,
        &[("sAMAccountName", &sam), ("userAccountControl", "262688")],
    )
    .await;
    let account = made(&mapping(adopting(), directory(lab)).await, &jane)
        .await
        .unwrap();
    assert_eq!(account.principal.name(), sam);
    let stamped = entry(
        &ad,
        &made_by_mim,
        &["userAccountControl", "adminDescription"],
    )
    .await
    .unwrap();
    let anchor = format!("User_{}", jane.person.oid);
    assert_eq!(stamped.text("adminDescription"), Some(anchor.as_str()));
    // With "password never expires", or S4U2Proxy would fail.
    assert_eq!(
        stamped.number("userAccountControl"),
        Some(262_688 | 0x1_0000)
    );
    let plain = mapping(settings(), directory(lab)).await;
    assert_eq!(
        made(&plain, &jane).await.unwrap().sid,
        account.sid,
        "found by the anchor from now on"
    );
}

#[tokio::test]
async fn an_account_made_by_the_script_goes_to_its_person_and_to_nobody_else() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let name = unique("script-");
    let upn = format!("{name}#EXT#@contoso.onmicrosoft.com");
    let made_by_script = dn(GUESTS).child("CN", &name);
    add_user(
        &ad,
        &made_by_script,
        &[
            ("sAMAccountName", &name),
            ("userAccountControl", "328224"),
            ("userPrincipalName", &upn),
        ],
    )
    .await;
    let mut jane = guest();
    jane.upn = Some(upn);
    let plain = mapping(settings(), directory(lab)).await;
    assert_eq!(
        outcome(&plain, &jane).await,
        "account-conflict",
        "not without being told to"
    );
    let gateway = mapping(adopting(), directory(lab)).await;
    assert_eq!(made(&gateway, &jane).await.unwrap().principal.name(), name);
    // The UPN changes hands: the account does not.
    let mut successor = guest();
    successor.upn.clone_from(&jane.upn);
    assert_eq!(outcome(&gateway, &successor).await, "account-conflict");
}

#[tokio::test]
async fn what_could_not_be_used_is_not_stamped() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let jane = guest();
    let resting = dn(GUESTS).child("CN", &jane.person.oid.to_string());
    add_user(
        &ad,
        &resting,
        &[
            ("sAMAccountName", &unique("off-")),
            ("userAccountControl", "262690"),
        ],
    )
    .await;
    let gateway = mapping(adopting(), directory(lab)).await;
    assert_eq!(outcome(&gateway, &jane).await, "account-disabled");
    let untouched = entry(&ad, &resting, &["adminDescription"]).await.unwrap();
    assert!(untouched.values("adminDescription").is_empty());
}
