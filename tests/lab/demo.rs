//! The programs of our own in a lab: the header application always; for the demo also the Entra
//! emulator and Kerbgate itself with a configuration written for this lab.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::address::free_port;
use crate::facts::Facts;
use crate::folder::Folder;
use crate::gateway;
use crate::people;
use crate::people::INTRANET_GUESTS;
use crate::processes::Service;
use crate::trouble::Because;
use crate::trouble::Trouble;

/// Host names of the gateway's certificate. `other` and `refusing` are there for tests.
pub const PUBLISHED: &[&str] = &[
    "login.localhost",
    "intranet.localhost",
    "timesheet.localhost",
    "wiki.localhost",
    "refusing.localhost",
    "undelegated.localhost",
    "other.localhost",
    "*.tenants.localhost",
    "localhost",
    "127.0.0.1",
];

/// Ports that people type into a browser.
#[derive(Clone, Copy, Debug)]
pub struct DemoPorts {
    pub gateway: u16,
    pub entra: u16,
}

impl DemoPorts {
    fn sign_in_url(self, path: &str) -> String {
        format!("https://login.localhost:{}{path}", self.gateway)
    }

    pub fn issuer(self) -> String {
        gateway::issuer(self.entra)
    }
}

/// What Entra Connect would have brought into the cloud: the SID of each synchronized person.
pub fn sids_by_login(facts: &Facts) -> BTreeMap<String, String> {
    people::everybody()
        .into_iter()
        .filter_map(|person| {
            let sid = facts.accounts.sids.get(&person.onprem_account?)?;
            Some((person.login, sid.clone()))
        })
        .collect()
}

/// Starts the header application on the lab's address.
pub async fn start_echo(
    folder: &Folder,
    address: Ipv4Addr,
) -> Result<(Service, SocketAddr), Trouble> {
    let listen = SocketAddr::from((address, free_port(address, 8090)?));
    let ready = folder.path("echo.ready");
    folder.forget(&["echo.ready"]);
    let mut service = Service::start(
        "wiki",
        folder.path("logs/wiki.log"),
        &myself()?,
        &[
            OsString::from("echo"),
            "--listen".into(),
            listen.to_string().into(),
            "--ready-file".into(),
            ready.clone().into(),
        ],
        &[],
    )?;
    service.wrote(&ready).await?;
    Ok((service, listen))
}

/// Starts the emulator where the demo's configuration expects it.
pub async fn start_entra(
    folder: &Folder,
    facts: &Facts,
    ports: &DemoPorts,
) -> Result<Service, Trouble> {
    let ready = folder.path("entra.ready");
    folder.forget(&["entra.ready"]);
    port_is_ours("entra-port", ports.entra)?;
    let arguments: Vec<OsString> = vec![
        "entra".into(),
        "--listen".into(),
        SocketAddr::from(([127, 0, 0, 1], ports.entra))
            .to_string()
            .into(),
        "--public-url".into(),
        format!("https://entra.localhost:{}", ports.entra).into(),
        "--cert".into(),
        facts.entra_certificate.clone().into(),
        "--key".into(),
        facts.entra_key.clone().into(),
        "--client-secret".into(),
        gateway::CLIENT_SECRET.into(),
        "--redirect-uri".into(),
        ports.sign_in_url("/.kerbgate/callback").into(),
        "--logout-uri".into(),
        ports.sign_in_url("/.kerbgate/frontchannel-logout").into(),
        "--post-logout-uri".into(),
        ports.sign_in_url("/.kerbgate/signed-out").into(),
        "--people-sids".into(),
        facts.sids_file.clone().into(),
        "--ready-file".into(),
        ready.clone().into(),
    ];
    let log = folder.path("logs/entra.log");
    let mut service = Service::start("entra", log, &myself()?, &arguments, &[])?;
    service.wrote(&ready).await?;
    Ok(service)
}

/// Writes the configuration and starts the gateway.
pub async fn start_gateway(
    folder: &Folder,
    facts: &Facts,
    ports: &DemoPorts,
) -> Result<Service, Trouble> {
    port_is_ours("port", ports.gateway)?;
    write_configuration(folder, facts, *ports)?;
    let ready = folder.path("kerbgate.ready");
    folder.forget(&["kerbgate.ready"]);
    let arguments: Vec<OsString> = vec![
        "run".into(),
        "--config".into(),
        configuration(folder).into(),
        "--ready-file".into(),
        ready.clone().into(),
    ];
    let log = folder.path("logs/kerbgate.log");
    let mut service = Service::start("kerbgate", log, &gateway_binary()?, &arguments, &[])?;
    service.wrote(&ready).await?;
    Ok(service)
}

/// `demo.json`: what an outside client needs to drive the demo.
pub fn write_summary(
    folder: &Folder,
    facts: &Facts,
    ports: &DemoPorts,
    services: &[Service],
) -> Result<(), Trouble> {
    let apps: Vec<Value> = gateway::APPS
        .iter()
        .map(|(id, name, sso)| {
            json!({"name": name, "url": format!("https://{id}.localhost:{}/", ports.gateway), "sso": sso})
        })
        .collect();
    let people: Vec<Value> = people::everybody()
        .into_iter()
        .filter(|person| !person.load && !person.deleted)
        .map(|person| json!({"login": person.login, "what": person.what}))
        .collect();
    let pids: serde_json::Map<String, Value> = services
        .iter()
        .filter_map(|service| Some((service.name.to_owned(), service.id()?.pid.into())))
        .collect();
    let mut logs: serde_json::Map<String, Value> = services
        .iter()
        .map(|service| (service.name.to_owned(), json!(service.log)))
        .collect();
    logs.insert(
        "apache-access".into(),
        json!(facts.logs.join("apache-access.log")),
    );
    logs.insert("keeper".into(), json!(facts.logs.join("keeper.log")));
    // Its port is whatever was free.
    let ready: Value = folder.read_json("kerbgate.ready").unwrap_or_default();
    folder.write_json(
        "demo.json",
        &json!({
            "binary": gateway_binary()?,
            "config": configuration(folder),
            "ca": facts.ca,
            "issuer": ports.issuer(),
            "ops": ready["ops"].as_str().map(|ops| format!("http://{ops}/")),
            "apps": apps,
            "people": people,
            "pids": pids,
            "logs": logs,
        }),
    )
}

fn configuration(folder: &Folder) -> PathBuf {
    folder.path("kerbgate/kerbgate.toml")
}

fn write_configuration(folder: &Folder, facts: &Facts, ports: DemoPorts) -> Result<(), Trouble> {
    let root = folder.path("kerbgate");
    if root.exists() {
        // Sessions and shadow accounts of an earlier demo belong to a domain that is gone.
        fs::remove_dir_all(&root).because(root.display())?;
    }
    let world = gateway::World {
        facts,
        listen: SocketAddr::from(([127, 0, 0, 1], ports.gateway)),
        entra_port: ports.entra,
    };
    gateway::write(&root, &world).because(root.display())?;
    let boot = root.join("kerbgate.toml");
    let text = fs::read_to_string(&boot).because(boot.display())?;
    // Commands beside the gateway write their audit events there, too, and read what happened to an account.
    let log = format!("\n[log]\nfile = {:?}\n", folder.path("logs/kerbgate.log"));
    fs::write(&boot, text + &kept_groups(facts) + &log).because(boot.display())
}

/// A synchronization keeps groups too: those of the roles, and one that it makes for a group of the tenant.
fn kept_groups(facts: &Facts) -> String {
    let base = &facts.base_dn;
    format!(
        r#"
[sync.guests]
memberships = true

[[mapping.groups]]
group = "{INTRANET_GUESTS}"
ad_group = "CN=Intranet Guests,OU=Guest Groups,{base}"
create = true
"#
    )
}

fn myself() -> Result<PathBuf, Trouble> {
    env::current_exe().because("find this program")
}

// Beside the folder that Cargo puts examples into.
fn gateway_binary() -> Result<PathBuf, Trouble> {
    let lab = myself()?;
    let binary = lab
        .parent()
        .and_then(|examples| examples.parent())
        .map(|profile| profile.join("kerbgate"))
        .filter(|binary| binary.exists());
    binary.ok_or_else(|| Trouble::new("target/*/kerbgate is missing: run `cargo build` first"))
}

fn port_is_ours(option: &str, port: u16) -> Result<(), Trouble> {
    let listener = std::net::TcpListener::bind((IpAddr::from([127, 0, 0, 1]), port));
    listener.map(drop).map_err(|error| {
        Trouble::new(format!(
            "port {port} is taken ({error}): stop what listens there, or choose another with --{option}"
        ))
    })
}
