//! For an administrator: whatever a guest calls themselves stays a value of an attribute.

use crate::directory::directory;
use crate::directory::entry;
use crate::directory::guest;
use crate::directory::made;
use crate::directory::mapping;
use crate::directory::settings;
use crate::directory::shadow;
use crate::lab::Lab;

const HOSTILE: [&str; 9] = [
    "\"Robert\"; #,+<>\\= ' OR 1=1 --",
    "*)(objectClass=*",
    "x,OU=Staff,DC=contoso,DC=test",
    "<script>alert(1)</script>",
    "nul\0 bell\u{7} line\r\nbreak",
    "\u{202e}gpj.exe\u{feff}",
    "Зоя Ёлкина",
    "田中さん 😀🏳\u{fe0f}\u{200d}🌈",
    "   ",
];

#[tokio::test]
async fn every_name_gives_an_account_and_none_says_where() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let gateway = mapping(settings(), directory(lab)).await;
    let long = format!("Ж{}", "я".repeat(400));
    for name in HOSTILE.into_iter().chain([long.as_str()]) {
        let mut jane = guest();
        for field in [
            &mut jane.display_name,
            &mut jane.given_name,
            &mut jane.family_name,
            &mut jane.email,
            &mut jane.upn,
            &mut jane.preferred_username,
        ] {
            *field = Some(name.to_owned());
        }
        let account = made(&gateway, &jane).await;
        let account = account.unwrap_or_else(|stop| panic!("{name:?}: {stop:?}"));
        assert_eq!(account.dn, shadow(&jane).to_string(), "{name:?}");
        let found = entry(
            &ad,
            &shadow(&jane),
            &["displayName", "sn", "userPrincipalName"],
        )
        .await;
        let found = found.expect("the account is where it belongs");
        let shown = found.text("displayName").unwrap_or_default();
        assert!(shown.encode_utf16().count() <= 256, "{name:?}");
        assert!(!shown.chars().any(char::is_control), "{name:?}");
        assert!(
            found.text("sn").unwrap_or_default().encode_utf16().count() <= 64,
            "{name:?}"
        );
        let upn = found.text("userPrincipalName").unwrap();
        assert!(upn.ends_with("@contoso.test"), "{name:?} became {upn:?}");
    }
}

#[tokio::test]
async fn the_clouds_own_upn_is_kept() {
    let lab = Lab::get().await;
    let gateway = mapping(settings(), directory(lab)).await;
    let mut jane = guest();
    let upn = format!(
        "o'neil_{}#EXT#@contoso.onmicrosoft.com",
        jane.person.oid.simple()
    );
    jane.upn = Some(upn.clone());
    let account = made(&gateway, &jane).await.unwrap();
    assert_eq!(account.upn, Some(upn));
    assert!(
        account.principal.as_str().starts_with("kg-"),
        "{}",
        account.principal
    );
}
