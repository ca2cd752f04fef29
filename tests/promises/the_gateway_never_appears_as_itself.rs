//! For a security officer: whatever goes wrong, and whatever credentials lie around on the machine, an
//! application sees the person or nobody, never the gateway's own account.

use std::path::Path;

use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Gateway;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::kerbgate;
use crate::relay::Relay;
use crate::relay::through;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// The gateway as a careless administrator starts it: with its own ticket and keytabs in the environment.
async fn careless(stage: &Stage) -> Gateway {
    let facts = &stage.lab.facts;
    let cache = stage.path("ambient.cc");
    let keytab = &facts.keytabs.gateway;
    let kinit = stage
        .lab
        .mit_tool("kinit", &cache)
        .args(["-f", "-k", "-t"])
        .arg(keytab)
        .arg("svc-gateway")
        .status();
    assert!(kinit.unwrap().success());
    assert_would_get_in(stage, &cache);
    let ready = stage.path("gateway.ready");
    drop(std::fs::remove_file(&ready));
    let mut command = kerbgate();
    command
        .arg("run")
        .arg("--config")
        .arg(stage.path("kerbgate.toml"))
        .arg("--ready-file")
        .arg(&ready)
        .env("KRB5_CONFIG", &facts.krb5_conf)
        .env("KRB5CCNAME", format!("FILE:{}", cache.display()))
        .env("KRB5_KTNAME", format!("FILE:{}", keytab.display()))
        .env("KRB5_CLIENT_KTNAME", format!("FILE:{}", keytab.display()));
    let mut process = Running::start("kerbgate", &command, stage.path("kerbgate.log"));
    process.wrote(&ready).await;
    Gateway {
        process,
        ready: serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap(),
        port: stage.port,
    }
}

/// The trap is set: with these credentials a ticket for the backend in the gateway's own name can be had.
fn assert_would_get_in(stage: &Stage, cache: &Path) {
    let kvno = stage
        .lab
        .mit_tool("kvno", cache)
        .arg("HTTP/intranet.contoso.test")
        .status();
    assert!(kvno.unwrap().success(), "svc-gateway could go as itself");
}

fn visitor(stage: &Stage) -> Visitor {
    Visitor::new(&stage.lab.facts.ca, Speaks::Http2)
}

/// Nobody but this file's own scenarios would write it, and no other file may either.
fn assert_not_seen(stage: &Stage) {
    let log = stage.lab.access_log();
    let seen: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("user=svc-") || line.contains("user=HTTP/"))
        .collect();
    assert_eq!(seen, Vec::<&str>::new(), "a service arrived at a backend");
}

#[tokio::test]
async fn credentials_in_the_environment_are_not_used() {
    let stage = Stage::new().await;
    stage.publish("undelegated");
    stage.publish("refusing");
    std::fs::write(
        stage.path("apps/other.toml"),
        crate::lab::gateway::application("intranet", &stage.world())
            .replace("https://intranet.localhost", "https://other.localhost")
            .replace("HTTP/intranet.contoso.test", "HTTP/nobody.contoso.test"),
    )
    .unwrap();
    let entra = stage.entra(&[]).await;
    let gateway = careless(&stage).await;
    let roles = ["Intranet.User", "Timesheet.User", "Wiki.User"];
    let (login, oid) = entra.new_guest("ambient", &roles).await;
    let mut guest = visitor(&stage);
    let first = guest
        .open_as(&login, &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(first.status, 200, "{}", first.body);
    let sam = accounts_of(&stage, &oid).remove(0);
    assert_eq!(first.remote_user(), format!("{sam}@CONTOSO.TEST"));
    let second = guest
        .open(&gateway.url("timesheet", "/echo"))
        .await
        .unwrap();
    assert_eq!(second.remote_user(), format!("{sam}@CONTOSO.TEST"));
    // Where no ticket can be had for the person there is a page with the reason, and nobody arrives.
    for (app, code) in [
        ("undelegated", "delegation-refused"),
        ("other", "spn-unknown"),
        ("refusing", "ticket-refused"),
    ] {
        let page = guest.open(&gateway.url(app, "/echo")).await.unwrap();
        assert_eq!(page.header("kerbgate-reason"), code, "{app}: {}", page.body);
        assert_eq!(page.remote_user(), "", "{app}");
    }
    // Outside the fence: no ticket is asked for, and none is at hand.
    let mut sandra = visitor(&stage);
    let page = sandra
        .open_as("sandra@contoso.example", &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.header("kerbgate-reason"), "account-not-delegable");
    assert_not_seen(&stage);
}

#[tokio::test]
async fn not_even_when_the_kdc_dies() {
    let stage = Stage::new().await;
    let relay = Relay::to(stage.lab.facts.kdc).await;
    through(&stage, &[&relay]);
    // The directory is asked with a password: only tickets are missing then.
    simple_bind(&stage);
    let entra = stage.entra(&[]).await;
    let gateway = careless(&stage).await;
    let (login, oid) = entra
        .new_guest("kdc-dies", &["Intranet.User", "Timesheet.User"])
        .await;
    let mut guest = visitor(&stage);
    let url = gateway.url("intranet", "/echo");
    let page = guest.open_as(&login, &url).await.unwrap();
    let sam = accounts_of(&stage, &oid).remove(0);
    assert_eq!(page.remote_user(), format!("{sam}@CONTOSO.TEST"));
    relay.cut();
    // The held ticket still serves; a ticket that is not held cannot be had, and nothing takes its place.
    let held = guest.open(&url).await.unwrap();
    assert_eq!(held.remote_user(), format!("{sam}@CONTOSO.TEST"));
    let mut emma = visitor(&stage);
    for app in ["intranet", "timesheet"] {
        let page = emma
            .open_as("emma@contoso.example", &gateway.url(app, "/echo"))
            .await
            .unwrap();
        assert_eq!(
            page.header("kerbgate-reason"),
            "kdc-unreachable",
            "{}",
            page.body
        );
        assert_eq!(page.remote_user(), "", "{app}");
    }
    assert_not_seen(&stage);
}

#[tokio::test]
async fn not_even_with_a_keytab_that_grew_old() {
    let stage = Stage::new().await;
    let facts = &stage.lab.facts;
    simple_bind(&stage);
    let keytab = stage.path("old.keytab");
    std::fs::copy(&facts.keytabs.old_kvno, &keytab).unwrap();
    stage.replace(
        "kerbgate.toml",
        &facts.keytabs.gateway.to_string_lossy(),
        &keytab.to_string_lossy(),
    );
    let _entra = stage.entra(&[]).await;
    let gateway = careless(&stage).await;
    let mut emma = visitor(&stage);
    let page = emma
        .open_as("emma@contoso.example", &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(
        page.header("kerbgate-reason"),
        "keytab-unusable",
        "{}",
        page.body
    );
    assert_eq!(page.remote_user(), "");
    assert_not_seen(&stage);
}

/// The directory with name and password, so that Kerberos has its troubles alone.
pub fn simple_bind(stage: &Stage) {
    let secret = stage.path("bind-password");
    let password = &stage.lab.facts.accounts.passwords["svc-gateway"];
    std::fs::write(&secret, password).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).unwrap();
    stage.replace(
        "kerbgate.toml",
        "bind = \"kerberos\"",
        "bind = \"simple\"\nbind_name = \"svc-gateway@contoso.test\"\nbind_password_file = \"bind-password\"",
    );
}
