//! `kerbgate doctor` says what is wrong, shows what it saw, and names the command that mends it; what still
//! works is still examined. `kerbgate explain` walks one person's way without a browser.

use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use kerbgate::doctor::check;
use kerbgate::ldap::Filter;
use kerbgate::ldap::Scope;
use kerbgate::ldap::Search;
use serde_json::Value;

use crate::directory;
use crate::lab::PrivateLab;
use crate::lab::Stage;
use crate::lab::kerbgate;

/// No check may hang, whatever hangs around it.
const LIMIT: Duration = Duration::from_secs(60);

async fn run(stage: &Stage, command: &str, more: &[&str]) -> Output {
    let mut command_line = kerbgate();
    command_line
        .arg(command)
        .arg("--config")
        .arg(stage.path("kerbgate.toml"))
        .args(more);
    let begun = Instant::now();
    let done = tokio::process::Command::from(command_line).output().await;
    assert!(begun.elapsed() < LIMIT, "took {:?}", begun.elapsed());
    done.unwrap()
}

/// The report, and whether it counts as a success.
async fn doctor(stage: &Stage, more: &[&str]) -> (Value, bool) {
    let mut arguments = vec!["--json"];
    arguments.extend(more);
    let done = run(stage, "doctor", &arguments).await;
    let text = String::from_utf8_lossy(&done.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(report["healthy"], done.status.success(), "{report:#}");
    (report, done.status.success())
}

fn finding<'a>(report: &'a Value, name: &str, subject: &str) -> &'a Value {
    let all = report["findings"].as_array().unwrap();
    let fits =
        |one: &&Value| one["name"] == name && one["subject"].as_str().unwrap().contains(subject);
    let found = all.iter().find(fits);
    found.unwrap_or_else(|| panic!("no {name} for {subject:?} in {report:#}"))
}

/// The state must be this, and cause, proof or fix must have each of these in it.
fn says(report: &Value, name: &str, subject: &str, state: &str, texts: &[&str]) {
    let one = finding(report, name, subject);
    assert_eq!(one["state"], state, "{one:#}");
    let all = one.to_string().replace("\\\\", "\\");
    for text in texts {
        assert!(all.contains(text), "{text:?} is not in {one:#}");
    }
}

#[tokio::test]
async fn a_sound_installation_is_healthy_and_nothing_is_left_behind() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let (report, healthy) = doctor(&stage, &[]).await;
    assert!(healthy, "{report:#}");
    let all = report["findings"].as_array().unwrap();
    for one in check::ALL {
        assert!(
            all.iter().any(|found| found["number"] == one.number),
            "{}",
            one.name
        );
    }
    let numbers: Vec<_> = all
        .iter()
        .map(|one| one["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    says(
        &report,
        "guests-ou-rights",
        "OU=Guests",
        "ok",
        &["deleted it again"],
    );
    says(&report, "delegation", "intranet", "ok", &["classic"]);
    says(
        &report,
        "delegation",
        "timesheet",
        "ok",
        &["resource-based"],
    );
    says(&report, "protocol-transition", "intranet", "ok", &[]);
    for app in ["intranet", "timesheet"] {
        says(&report, "backend-negotiate", app, "ok", &["Negotiate"]);
        says(
            &report,
            "token-accepted",
            app,
            "ok",
            &["200", "S4U2Proxy", "saw "],
        );
    }
    let untouchable = [
        "sandra.sensitive (sensitive)",
        "admin.privileged (privileged)",
        "paula.protected (Protected Users)",
    ];
    says(&report, "untouchable-accounts", "", "warning", &untouchable);

    let search = Search {
        base: directory::dn(directory::GUESTS),
        scope: Scope::Subtree,
        filter: Filter::present(&"description".parse().unwrap()),
        attributes: vec![String::from("description"), String::from("whenCreated")],
        limit: 0,
    };
    // Other doctors of this test file may be at work: each of theirs lives for milliseconds.
    crate::lab::eventually("no temporary account is left", async || {
        let found = directory::directory(stage.lab)
            .search(&search)
            .await
            .unwrap();
        !found
            .entries
            .iter()
            .any(|one| one.dn.leaf().unwrap_or_default().starts_with("kgdoctor-"))
    })
    .await;
}

#[tokio::test]
async fn the_wrong_keytab_is_told_from_the_old_one() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let keytabs = &stage.lab.facts.keytabs;
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let good = path(&keytabs.gateway);

    let wrong = path(&keytabs.wrong_account);
    stage.replace("kerbgate.toml", &good, &wrong);
    let (report, healthy) = doctor(&stage, &[]).await;
    assert!(!healthy);
    says(
        &report,
        "keytab",
        "",
        "fault",
        &[
            "holds no key of svc-gateway",
            "svc-wrong",
            "ktpass",
            "samba-tool domain exportkeytab",
        ],
    );
    says(&report, "gateway-ticket", "", "skipped", &["check 10"]);
    says(&report, "token-accepted", "intranet", "skipped", &[]);
    // What does not need the keytab was examined all the same.
    says(&report, "issuer-metadata", "", "ok", &[]);
    says(&report, "kdc", "dc1", "ok", &[]);
    says(&report, "backend-negotiate", "intranet", "ok", &[]);

    let old = path(&keytabs.old_kvno);
    stage.replace("kerbgate.toml", &wrong, &old);
    let (report, healthy) = doctor(&stage, &[]).await;
    assert!(!healthy);
    says(&report, "keytab", "", "ok", &["key version"]);
    says(
        &report,
        "gateway-ticket",
        "svc-gateway",
        "fault",
        &["gateway-keytab-stale", "msDS-KeyVersionNumber", "ktpass"],
    );
    says(&report, "directory", "", "skipped", &["check 11"]);

    // With a bind that needs no ticket both numbers are there to be seen.
    let simple = "bind = \"simple\"\nbind_name = \"svc-gateway@contoso.test\"\nbind_password_file = \"bind-password\"";
    stage.replace("kerbgate.toml", "bind = \"kerberos\"", simple);
    let password = &stage.lab.facts.accounts.passwords["svc-gateway"];
    std::fs::write(stage.path("bind-password"), password).unwrap();
    let (report, _) = doctor(&stage, &[]).await;
    says(
        &report,
        "keytab-version",
        "svc-gateway",
        "fault",
        &["keytab ", "directory ", "make a new keytab"],
    );
    says(&report, "guests-ou-rights", "OU=Guests", "ok", &[]);
    assert!(
        !report.to_string().contains(password.as_str()),
        "no password in a report"
    );

    let unreadable = stage.path("nothing.keytab").to_string_lossy().into_owned();
    stage.replace("kerbgate.toml", &old, &unreadable);
    let (report, _) = doctor(&stage, &[]).await;
    says(&report, "keytab", "", "fault", &["cannot be read", "chown"]);
}

#[tokio::test]
async fn each_application_is_told_its_own_trouble() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    for app in ["refusing", "undelegated"] {
        stage.publish(app);
    }
    stage.replace(
        "apps/timesheet.toml",
        "HTTP/timesheet.contoso.test",
        "HTTP/nobody.contoso.test",
    );
    stage.replace("apps/wiki.toml", ".test:", ".test:1");
    let (report, healthy) = doctor(&stage, &[]).await;
    assert!(!healthy);
    says(&report, "token-accepted", "intranet", "ok", &[]);

    says(
        &report,
        "delegation",
        "undelegated",
        "fault",
        &[
            "Set-ADUser svc-undelegated -PrincipalsAllowedToDelegateToAccount",
            "samba-tool delegation add-principal svc-undelegated svc-gateway",
            "msDS-AllowedToDelegateTo",
        ],
    );
    says(
        &report,
        "token-accepted",
        "undelegated",
        "fault",
        &["KDC error 13"],
    );

    says(&report, "backend-spn", "refusing", "ok", &["svc-refusing"]);
    says(
        &report,
        "token-accepted",
        "refusing",
        "fault",
        &[
            "ticket-refused",
            "401",
            "setspn -Q HTTP/refusing.contoso.test",
        ],
    );

    says(
        &report,
        "backend-spn",
        "timesheet",
        "fault",
        &["on no account", "setspn -S HTTP/nobody.contoso.test"],
    );
    says(&report, "delegation", "timesheet", "skipped", &["check 23"]);
    says(
        &report,
        "token-accepted",
        "timesheet",
        "fault",
        &["spn-unknown"],
    );

    says(
        &report,
        "backend-reachable",
        "wiki",
        "fault",
        &["curl -v http://wiki.contoso.test"],
    );

    // One application alone does not answer for the others.
    let (report, healthy) = doctor(&stage, &["--app", "intranet"]).await;
    assert!(healthy, "{report:#}");
    let none = run(&stage, "doctor", &["--app", "nothing"]).await;
    assert!(!none.status.success());
    assert!(String::from_utf8_lossy(&none.stderr).contains("known: intranet"));
}

#[tokio::test]
async fn delegation_by_kerberos_only_is_found() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let keytabs = &stage.lab.facts.keytabs;
    stage.replace("kerbgate.toml", "svc-gateway@", "svc-noprotocol@");
    stage.replace(
        "kerbgate.toml",
        &keytabs.gateway.to_string_lossy(),
        &keytabs.noprotocol.to_string_lossy(),
    );
    let (report, healthy) = doctor(&stage, &[]).await;
    assert!(!healthy);
    let fix = [
        "0x1000000",
        "Set-ADAccountControl svc-noprotocol -TrustedToAuthForDelegation $true",
        "samba-tool delegation for-any-protocol svc-noprotocol on",
    ];
    says(&report, "protocol-transition", "intranet", "fault", &fix);
    says(
        &report,
        "delegation",
        "timesheet",
        "fault",
        &["names others"],
    );
    // This account has no rights in the directory either.
    says(
        &report,
        "guests-ou-rights",
        "OU=Guests",
        "fault",
        &[
            "insufficientAccessRights",
            "dsacls \\\"OU=Guests",
            "samba-tool dsacl set",
        ],
    );
    says(
        &report,
        "group-rights",
        "Intranet Users",
        "fault",
        &["RPWP;member;group"],
    );
}

#[tokio::test]
async fn accounts_nobody_acts_for_are_named() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    for (account, code) in [
        ("sandra.sensitive", "account-not-delegable"),
        ("paula.protected", "account-protected"),
        ("admin.privileged", "account-privileged"),
        ("dora.disabled", "account-disabled"),
    ] {
        let (report, healthy) = doctor(&stage, &["--app", "intranet", "--as", account]).await;
        assert!(!healthy);
        says(
            &report,
            "token-accepted",
            "intranet",
            "fault",
            &[code, account],
        );
    }
    let (report, healthy) = doctor(&stage, &["--app", "intranet", "--as", "erik.employee"]).await;
    assert!(healthy, "{report:#}");
    says(
        &report,
        "token-accepted",
        "intranet",
        "ok",
        &["saw erik.employee@CONTOSO.TEST"],
    );
}

#[tokio::test]
async fn the_issuers_refusal_is_explained() {
    let stage = Stage::new().await;
    let (report, healthy) = doctor(&stage, &["--app", "wiki"]).await;
    assert!(!healthy);
    says(
        &report,
        "issuer-metadata",
        "",
        "fault",
        &["does not answer", "curl -v"],
    );
    says(&report, "client-credential", "", "skipped", &["check 5"]);

    let _entra = stage.entra(&[]).await;
    std::fs::write(
        stage.path("client-secret"),
        "another secret, of a good length",
    )
    .unwrap();
    let (report, healthy) = doctor(&stage, &["--app", "wiki"]).await;
    assert!(!healthy);
    says(&report, "issuer-metadata", "", "ok", &[]);
    says(
        &report,
        "client-credential",
        "",
        "fault",
        &["AADSTS7000215", "the client secret is wrong"],
    );
    assert!(
        !report.to_string().contains("another secret"),
        "no secret in a report"
    );
}

#[tokio::test]
async fn a_dead_kdc_and_one_that_hangs_are_found_in_bounded_time() {
    let private: &'static PrivateLab = Box::leak(Box::new(PrivateLab::start().await));
    let stage = Stage::in_lab(&private.lab);
    let kdcs = format!("kdcs = [\"{}\"", private.lab.facts.dc);
    let with_dead = kdcs.replace("[", &format!("[\"{}:1\", ", private.lab.facts.dc));
    stage.replace("kerbgate.toml", &kdcs, &with_dead);
    let (report, _) = doctor(&stage, &[]).await;
    says(
        &report,
        "kdc",
        ":1",
        "warning",
        &["refused", "another KDC takes over"],
    );
    says(&report, "gateway-ticket", "", "ok", &[]);

    private.signal("samba", "STOP");
    let (report, healthy) = doctor(&stage, &[]).await;
    private.signal("samba", "CONT");
    assert!(!healthy);
    says(
        &report,
        "kdc",
        ":88",
        "fault",
        &["no answer within", "Test-NetConnection"],
    );
    says(&report, "gateway-ticket", "", "skipped", &["check 9"]);
}

#[tokio::test]
async fn the_table_for_people_has_the_fix_in_it() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    stage.publish("undelegated");
    let done = run(&stage, "doctor", &["--app", "undelegated"]).await;
    let text = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        text.contains("24  FAULT    delegation [undelegated: HTTP/undelegated.contoso.test]"),
        "{text}"
    );
    assert!(
        text.contains("samba-tool delegation add-principal svc-undelegated svc-gateway"),
        "{text}"
    );
    assert!(
        text.contains(" fault, ") || text.contains(" faults, "),
        "{text}"
    );
}

/// The walk, and whether it counts as a success.
async fn explain(stage: &Stage, person: &str, app: &str, more: &[&str]) -> (Value, bool) {
    let mut arguments = vec!["--json", "--person", person, "--app", app];
    arguments.extend(more);
    let done = run(stage, "explain", &arguments).await;
    let text = String::from_utf8_lossy(&done.stdout);
    let walk: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(walk["arrived"], done.status.success(), "{walk:#}");
    (walk, done.status.success())
}

fn last(walk: &Value) -> &Value {
    walk["steps"].as_array().unwrap().last().unwrap()
}

#[tokio::test]
async fn an_employee_is_walked_to_the_backend() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    for app in ["intranet", "timesheet"] {
        let (walk, arrived) = explain(&stage, "emma@contoso.example", app, &[]).await;
        assert!(arrived, "{walk:#}");
        let rooms: Vec<_> = walk["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["room"].as_str().unwrap())
            .collect();
        let wanted = [
            "route",
            "claims",
            "policy",
            "mapping",
            "s4u2self",
            "s4u2proxy",
            "token",
            "backend",
        ];
        assert!(wanted.iter().all(|room| rooms.contains(room)), "{rooms:?}");
        let slow = |room: &str| {
            walk["steps"]
                .as_array()
                .unwrap()
                .iter()
                .find(|step| step["room"] == room)
                .unwrap()["micros"]
                .as_u64()
        };
        assert!(
            slow("s4u2self") > Some(100) && slow("s4u2proxy") > Some(100),
            "{walk:#}"
        );
        assert!(
            last(&walk)["detail"]
                .as_str()
                .unwrap()
                .contains("saw emma.employee@CONTOSO.TEST"),
            "{walk:#}"
        );
    }
    let (walk, arrived) = explain(&stage, "emma@contoso.example", "wiki", &[]).await;
    assert!(arrived, "{walk:#}");
    assert!(
        last(&walk)["detail"]
            .as_str()
            .unwrap()
            .contains("saw emma.employee"),
        "{walk:#}"
    );
}

#[tokio::test]
async fn a_guest_without_an_account_learns_what_the_first_visit_would_do() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let (_, oid) = entra.new_guest("new", &["Intranet.User"]).await;
    let (walk, arrived) = explain(&stage, &oid, "intranet", &[]).await;
    assert!(!arrived);
    assert_eq!(
        last(&walk)["code"],
        "not-allowed",
        "roles are not read: {walk:#}"
    );
    assert!(walk.to_string().contains("--role"), "{walk:#}");

    let (walk, arrived) = explain(&stage, &oid, "intranet", &["--role", "Intranet.User"]).await;
    assert!(!arrived);
    let open = walk["open"].as_str().unwrap();
    assert!(
        open.contains("makes the account kg-") && open.contains("OU=Guests"),
        "{walk:#}"
    );
    assert_eq!(last(&walk)["room"], "mapping");
    // Asked twice, answered twice the same: the walk made nothing.
    let (again, _) = explain(&stage, &oid, "intranet", &["--role", "Intranet.User"]).await;
    assert_eq!(again["open"], walk["open"]);

    stage.replace(
        "apps/intranet.toml",
        "guests = \"provision\"",
        "guests = \"existing\"",
    );
    let (walk, _) = explain(&stage, &oid, "intranet", &["--role", "Intranet.User"]).await;
    assert_eq!(last(&walk)["code"], "provisioning-denied", "{walk:#}");
}

#[tokio::test]
async fn a_walk_that_ends_says_where_and_why() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    stage.publish("undelegated");
    stage.publish("refusing");
    let person = |n: u8| format!("11111111-0000-4000-8000-{n:012}");
    for (who, app, room, code) in [
        (person(13), "intranet", "mapping", "account-not-delegable"),
        (person(14), "intranet", "mapping", "account-privileged"),
        (person(15), "intranet", "mapping", "account-protected"),
        (person(16), "intranet", "mapping", "account-disabled"),
        (person(7), "intranet", "claims", "person-disabled"),
        (person(99), "intranet", "claims", "sign-in-refused"),
        (person(9), "undelegated", "s4u2proxy", "delegation-refused"),
        (person(9), "refusing", "backend", "ticket-refused"),
    ] {
        let (walk, arrived) = explain(&stage, &who, app, &[]).await;
        assert!(!arrived);
        assert_eq!(last(&walk)["room"], room, "{who} {app}: {walk:#}");
        assert_eq!(last(&walk)["code"], code, "{who} {app}: {walk:#}");
    }
}
