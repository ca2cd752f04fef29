//! For whoever changes a configuration before it is night: `kerbgate check` calls nothing sound that the gateway would refuse to
//! start with, and names everything at once.

use std::fs;

use crate::lab::Stage;
use crate::lab::kerbgate;

const MISTAKES: Option<i32> = Some(64);

fn check(stage: &Stage) -> (Option<i32>, String) {
    let file = stage.path("kerbgate.toml");
    let answer = kerbgate().arg("check").arg("--config").arg(file).output();
    let answer = answer.unwrap();
    let said = [answer.stdout, answer.stderr].concat();
    (answer.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn what_the_rooms_refuse_is_no_sound_configuration() {
    let stage = Stage::new().await;
    let (code, said) = check(&stage);
    assert_eq!(code, Some(0), "{said}");
    let sound = fs::read_to_string(stage.path("kerbgate.toml")).unwrap();
    let units = "\"OU=Partners,DC=contoso,DC=test\"";
    for (old, new, named) in [
        (
            "guests_ou = \"OU=Guests,",
            "guests_ou = \"OU=Nowhere,",
            "mapping.guests_ou: OU=Nowhere,DC=contoso,DC=test is under none of account_bases",
        ),
        (
            "disabled_ou = \"OU=Disabled Guests,DC=contoso,DC=test\"",
            "disabled_ou = \"somewhere\"",
            "mapping.disabled_ou: ",
        ),
        (
            &format!("bases = [{units}]"),
            "bases = [\"OU=Guests,DC=contoso,DC=test\"]",
            "sync.partners.bases: ",
        ),
        (
            &format!("bases = [{units}]"),
            &format!("bases = [{units}]\nfilter = \"(foo\""),
            "sync.partners.filter: ",
        ),
        ("gateway.keytab", "nobody.keytab", "nobody.keytab"),
        ("gateway.key\"", "gateway.nokey\"", "gateway.nokey"),
        ("[pages]", "[pages]\naccent = \"green\"", "pages.accent: "),
    ] {
        assert!(sound.contains(old), "no {old:?} in\n{sound}");
        fs::write(stage.path("kerbgate.toml"), sound.replacen(old, new, 1)).unwrap();
        let (code, said) = check(&stage);
        assert_eq!(code, MISTAKES, "{new}: {said}");
        assert!(said.contains(named), "{new}: {said}");
        assert!(said.contains("\n1 mistake in the configuration"), "{said}");
        // What only a command needs does not keep people out.
        if named.starts_with("sync.partners") {
            continue;
        }
        let mut process = stage.gateway_process(&[]);
        let status = process.ended(std::time::Duration::from_secs(30)).await;
        assert!(!status.success(), "{new}: {}", process.log());
    }
}

#[tokio::test]
async fn everything_is_named_at_once() {
    let stage = Stage::new().await;
    stage.replace(
        "kerbgate.toml",
        "guests_ou = \"OU=Guests,",
        "guests_ou = \"OU=Nowhere,",
    );
    stage.replace("kerbgate.toml", "gateway.keytab", "nobody.keytab");
    let (code, said) = check(&stage);
    assert_eq!(code, MISTAKES, "{said}");
    assert!(
        said.contains("mapping.guests_ou") && said.contains("nobody.keytab"),
        "{said}"
    );
    assert!(said.contains("\n2 mistakes in the configuration"), "{said}");
}
