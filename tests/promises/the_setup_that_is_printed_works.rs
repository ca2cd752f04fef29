//! For an administrator who sets a directory up: what `kerbgate doctor --print-setup` prints can be run as it is, twice if need be,
//! and is then enough; it holds no secret.

use std::path::Path;
use std::process::Command;
use std::process::Output;

use kerbgate::ldap::Filter;
use kerbgate::ldap::Scope;
use kerbgate::ldap::Search;
use serde_json::Value;
use serde_json::json;

use crate::directory::directory;
use crate::directory::dn;
use crate::directory::unique;
use crate::lab::Stage;
use crate::lab::kerbgate;
use crate::walk::order;

async fn doctor(stage: &Stage, more: &[&str]) -> Output {
    let mut command = kerbgate();
    command
        .arg("doctor")
        .arg("--config")
        .arg(stage.path("kerbgate.toml"))
        .args(more);
    tokio::process::Command::from(command)
        .output()
        .await
        .unwrap()
}

async fn printed(stage: &Stage, more: &[&str]) -> String {
    let done = doctor(stage, more).await;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    String::from_utf8(done.stdout).unwrap()
}

/// A configuration for units, groups and an account that nobody has made yet.
fn fresh(stage: &Stage, name: &str) {
    let text = std::fs::read_to_string(stage.path("kerbgate.toml")).unwrap();
    let keytab = stage.lab.facts.keytabs.gateway.to_string_lossy();
    let text = text
        .replace(
            "OU=Guests,",
            &format!("OU=It's {name}, \\\\\"new\\\\\",OU={name},"),
        )
        .replace("OU=Disabled Guests,", &format!("OU=Resting,OU={name},"))
        .replace("OU=Guest Groups,", &format!("OU=Groups & co,OU={name},"))
        .replace("CN=Intranet Users", &format!("CN=Users $HOME {name}"))
        .replace("CN=Timesheet Users", &format!("CN=Users `x` {name}"))
        .replace("\"svc-gateway@", &format!("\"svc-{name}@"))
        .replace(&*keytab, "gateway.keytab")
        .replace(
            "https://login.localhost",
            &format!("https://{name}.localhost"),
        );
    // Commas and quotes in a unit's name, as RFC 4514 writes them.
    let text = text.replace(", \\\\\"new\\\\\"", "\\\\2c \\\\22new\\\\22");
    // A group that the gateway makes itself, for an Entra group of nobody.
    let made = format!(
        "[sync.guests]\nmemberships = true\nscope = \"groups\"\ngroups = [\"{NOBODY}\"]\n\
         [[mapping.groups]]\ngroup = \"{NOBODY}\"\ncreate = true\n\
         ad_group = \"CN=Made {name},OU=Groups & co,OU={name},DC=contoso,DC=test\"\n"
    );
    std::fs::write(stage.path("kerbgate.toml"), format!("{text}\n{made}")).unwrap();
}

const NOBODY: &str = "99999999-0000-4000-8000-0000000000ff";

fn run(stage: &Stage, script: &Path) -> String {
    let tree = stage.lab.facts.logs.parent().unwrap().join("ad/tree");
    let done = Command::new("sh")
        .arg(script)
        .current_dir(stage.root.path())
        .env("CONF", tree.join("etc/smb.conf"))
        .env("H", tree.join("private/sam.ldb"))
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{said}");
    said
}

#[tokio::test]
async fn it_makes_a_bare_domain_ready_for_both_kinds_of_delegation() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let name = unique("s");
    fresh(&stage, &name);
    // The unit above is somebody else's matter: it is there, bare.
    let above = format!("OU={name},DC=contoso,DC=test");
    let tree = stage.lab.facts.logs.parent().unwrap().join("ad/tree");
    let made = Command::new("samba-tool")
        .args(["ou", "create", &above, "-H"])
        .arg(tree.join("private/sam.ldb"))
        .arg("-s")
        .arg(tree.join("etc/smb.conf"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );

    let script = printed(&stage, &["--print-setup", "samba", "--app", "timesheet"]).await;
    let file = stage.path("setup.sh");
    std::fs::write(&file, &script).unwrap();
    run(&stage, &file);
    // The other application's script begins with what is there already: it may be run again.
    let classic = [
        "--print-setup",
        "samba",
        "--app",
        "intranet",
        "--delegation",
        "classic",
    ];
    std::fs::write(&file, printed(&stage, &classic).await).unwrap();
    run(&stage, &file);

    let done = doctor(&stage, &["--json", "--as", "emma.employee"]).await;
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let all = report["findings"].as_array().unwrap();
    assert_eq!(report["healthy"], true, "{report:#}");
    for check in [
        "keytab",
        "gateway-ticket",
        "directory",
        "gateway-spn",
        "gateway-account",
        "guests-ou-rights",
        "group-rights",
        "delegation",
        "token-accepted",
    ] {
        // The group that the gateway is to make itself is not there yet.
        let made = |one: &&Value| one.to_string().contains("create = true");
        let states = all.iter().filter(|one| one["name"] == check && !made(one));
        let states: Vec<_> = states.collect();
        assert!(!states.is_empty(), "{check}");
        for one in states {
            assert_eq!(one["state"], "ok", "{one:#}");
        }
    }
    // The names came out as they were meant, none of them read by a shell.
    let search = Search {
        base: dn(&above),
        scope: Scope::Subtree,
        filter: Filter::present(&"objectClass".parse().unwrap()),
        attributes: vec![String::from("name")],
        limit: 0,
    };
    let found = directory(stage.lab).search(&search).await.unwrap();
    let mut names: Vec<&str> = found
        .entries
        .iter()
        .filter_map(|one| one.dn.leaf())
        .collect();
    names.sort_unstable();
    let home = format!("Users $HOME {name}");
    let ticks = format!("Users `x` {name}");
    let own = format!("It's {name}, \"new\"");
    let mut wanted = [own.as_str(), &home, &ticks, "Groups & co", "Resting", &name];
    wanted.sort_unstable();
    assert_eq!(names, wanted);

    // The rights are enough to make a group, with the account and the keytab that the script made.
    order(
        &entra,
        &format!("/groups/{NOBODY}"),
        json!({"name": "Nobody"}),
    )
    .await;
    let mut command = kerbgate();
    command
        .args(["sync", "guests", "apply", "--yes", "--config"])
        .arg(stage.path("kerbgate.toml"));
    let done = tokio::process::Command::from(command)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{complaints}");
    assert!(said.contains("steps taken: 1; failed: 0"), "{said}");
}

#[tokio::test]
async fn what_is_printed_for_windows_is_quoted_and_holds_no_secret() {
    let stage = Stage::new().await;
    fresh(&stage, "win");
    stage.replace(
        "kerbgate.toml",
        "CN=Users $HOME win",
        "CN=Users ’ Remove-Item $x",
    );
    let script = printed(&stage, &["--print-setup", "windows"]).await;
    for part in [
        "setspn -S 'HTTP/win.localhost' 'svc-win'",
        r"dsacls 'OU=It''s win\2c \22new\22,OU=win,DC=contoso,DC=test' /I:T /G ($gateway + ':CCDC;user')",
        "New-ADGroup -Name 'Users ’’ Remove-Item $x' -GroupScope Global",
        "/princ 'svc-win@CONTOSO.TEST' /mapuser $gateway",
        "+rndPass",
        "-PrincipalsAllowedToDelegateToAccount ($allowed",
        "Set-ADUser -Identity 'svc-win' -Add @{'msDS-AllowedToDelegateTo' = 'HTTP/intranet.contoso.test'}",
    ] {
        assert!(script.contains(part), "{part:?} is not in\n{script}");
    }
    let mut secrets: Vec<String> = stage
        .lab
        .facts
        .accounts
        .passwords
        .values()
        .cloned()
        .collect();
    secrets.push(std::fs::read_to_string(stage.path("client-secret")).unwrap());
    for script in [script, printed(&stage, &["--print-setup", "samba"]).await] {
        for secret in &secrets {
            assert!(!script.contains(secret.trim()), "a secret in\n{script}");
        }
    }
    // What cannot be seen is not printed.
    stage.replace("kerbgate.toml", "Users ’ Remove-Item $x", "Users \\u202e x");
    let done = doctor(&stage, &["--print-setup", "windows"]).await;
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("cannot be seen"), "{said}");
}
