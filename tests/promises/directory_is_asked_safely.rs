//! For a security officer: the directory is believed only over a verified connection, and for an on-call
//! engineer: a refusal names the controller and the cure, a dead controller costs little.

use std::time::Duration;
use std::time::Instant;

use kerbgate::ldap::Bind;
use kerbgate::ldap::Change;
use kerbgate::ldap::Directory;
use kerbgate::ldap::Servers;
use kerbgate::ldap::Settings;
use kerbgate::ldap::Transport;
use kerbgate::ldap::client_config;
use kerbgate::model::secret::Secret;

use crate::directory::BadLine;
use crate::directory::Trouble;
use crate::directory::directory;
use crate::directory::dn;
use crate::directory::ldap_settings;
use crate::lab::Lab;

async fn refusal(settings: Settings) -> String {
    let begun = Instant::now();
    let error = Directory::new(settings)
        .session()
        .await
        .expect_err("refused");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}: {error}",
        begun.elapsed()
    );
    error.to_string()
}

#[tokio::test]
async fn ldaps_and_start_tls_bind_as_the_gateway() {
    let lab = Lab::get().await;
    for (transport, port) in [(Transport::Ldaps, 636), (Transport::StartTls, 389)] {
        let mut settings = ldap_settings(lab);
        (settings.transport, settings.port) = (transport, port);
        let session = Directory::new(settings).session().await.unwrap();
        assert_eq!(session.who_am_i().await.unwrap(), "u:CONTOSO\\svc-gateway");
    }
}

#[tokio::test]
async fn a_controller_that_cannot_prove_its_name_is_refused() {
    let lab = Lab::get().await;
    let mut another_name = ldap_settings(lab);
    another_name.servers = Servers::Listed(vec!["dc9.contoso.test".parse().unwrap()]);
    another_name
        .hosts
        .insert("dc9.contoso.test".into(), lab.facts.address.into());
    let said = refusal(another_name).await;
    assert!(
        said.contains("dc9.contoso.test") && said.contains("TLS"),
        "{said}"
    );

    let mut another_authority = ldap_settings(lab);
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".into()]).unwrap();
    another_authority.tls = client_config(Some(stranger.cert.pem().as_bytes())).unwrap();
    let said = refusal(another_authority).await;
    assert!(said.contains("TLS"), "{said}");

    // TLS where the controller does not speak it: no plain conversation takes its place.
    let mut plain = ldap_settings(lab);
    plain.port = 389;
    refusal(plain).await;
}

#[tokio::test]
async fn a_refused_bind_says_what_to_do() {
    let lab = Lab::get().await;
    let mut wrong = ldap_settings(lab);
    wrong.bind = Bind::Simple {
        name: String::from("svc-gateway@contoso.test"),
        password: Secret::new(String::from("wrong")),
    };
    let said = refusal(wrong).await;
    assert!(
        said.contains("invalidCredentials (49)") && said.contains("wrong password"),
        "{said}"
    );
    let mut empty = ldap_settings(lab);
    empty.bind = Bind::Simple {
        name: String::from("svc-gateway@contoso.test"),
        password: Secret::new(String::new()),
    };
    let said = refusal(empty).await;
    assert!(said.contains("anonymous"), "{said}");
}

#[tokio::test]
async fn the_gateway_cannot_write_outside_its_units() {
    let lab = Lab::get().await;
    let session = directory(lab).session().await.unwrap();
    let change = Change::Replace("description".parse().unwrap(), vec![b"x".to_vec()]);
    let emma = dn("CN=emma.employee,OU=Staff,DC=contoso,DC=test");
    let said = session
        .modify(&emma, vec![change])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("insufficientAccessRights (50)") && said.contains("emma.employee"),
        "{said}"
    );
}

#[tokio::test]
async fn a_dead_controller_costs_little_and_only_once() {
    let lab = Lab::get().await;
    let mut settings = ldap_settings(lab);
    settings.connect = Duration::from_millis(500);
    settings.servers = Servers::Listed(vec![
        "silent.contoso.test".parse().unwrap(),
        lab.facts.dc.parse().unwrap(),
    ]);
    // Both on one port: one of them accepts and never says a word.
    let line = BadLine::to(lab, Trouble::Off).await;
    let silent = std::net::TcpListener::bind(("127.0.0.2", line.address.port())).unwrap();
    settings.port = line.address.port();
    settings
        .hosts
        .insert(lab.facts.dc.clone(), line.address.ip());
    settings
        .hosts
        .insert("silent.contoso.test".into(), "127.0.0.2".parse().unwrap());
    let directory = Directory::new(settings);
    let begun = Instant::now();
    let session = directory.session().await.unwrap();
    assert_eq!(session.server().as_str(), lab.facts.dc);
    assert!(
        begun.elapsed() >= Duration::from_millis(450),
        "the first one was tried"
    );
    let begun = Instant::now();
    directory.session().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    drop(silent);
}

#[tokio::test]
async fn controllers_are_found_in_dns() {
    let lab = Lab::get().await;
    let mut settings = ldap_settings(lab);
    settings.servers = Servers::Dns {
        domain: String::from("contoso.test"),
        site: Some(String::from("Default-First-Site-Name")),
        name_server: Some(lab.facts.address.into()),
    };
    let found = Directory::new(settings).servers().await.unwrap();
    assert_eq!(found, [lab.facts.dc.parse().unwrap()]);
}
