//! The keeper: the one process of a lab that stays, and the parent of all others.
//!
//! It holds the folder's lock and the loopback address; when it ends, by whatever means, the
//! kernel ends its children (`setpriv --pdeathsig`) and releases both.

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::address::Claim;
use crate::apache;
use crate::apache::Apache;
use crate::apache::Ports;
use crate::demo;
use crate::demo::DemoPorts;
use crate::facts::Backends;
use crate::facts::Facts;
use crate::facts::Keytabs;
use crate::folder::Folder;
use crate::folder::Keeper;
use crate::folder::Started;
use crate::pki::Authority;
use crate::pki::Identity;
use crate::processes::ProcessId;
use crate::processes::Service;
use crate::samba;
use crate::samba::Samba;
use crate::trouble::Because;
use crate::trouble::Trouble;

/// What this lab consists of.
pub struct Plan {
    pub folder: Folder,
    /// The gateway and the Entra emulator as well.
    pub demo: Option<DemoPorts>,
    /// Ends when nobody has held the in-use lock for so long.
    pub unused: Option<Duration>,
    /// Kept in `keeper.json`, so that a later `up` sees whether this is what it wants.
    pub recipe: String,
}

/// Brings the lab up and keeps it until told to end.
pub async fn keep(plan: &Plan) -> Result<(), Trouble> {
    let folder = &plan.folder;
    let Some(_lock) = folder.keeper_lock()? else {
        return Err(Trouble::new("this lab has a keeper already"));
    };
    let mut stop = Stop::new()?;
    let Some(id) = ProcessId::of(std::process::id()) else {
        return Err(Trouble::new("cannot read /proc/self"));
    };
    folder.forget(&["lab.json", "demo.json"]);
    folder.write_json(
        "keeper.json",
        &Keeper {
            id,
            recipe: plan.recipe.clone(),
        },
    )?;
    let before: Option<Ipv4Addr> = folder.read_json("address.json");
    let claim = Claim::take(folder.root(), before).await?;
    folder.write_json("address.json", &claim.address)?;
    let mut services = Vec::new();
    let mut ended = tokio::select! {
        started = start(plan, claim.address, &mut services) => started,
        () = stop.asked() => Err(Trouble::new("told to end while starting")),
    };
    if ended.is_ok() {
        ended = watch(plan, &mut services, &mut stop).await;
    }
    folder.forget(&["lab.json", "demo.json"]);
    for service in services.into_iter().rev() {
        service.stop().await;
    }
    folder.forget(&["processes.json", "keeper.json"]);
    let _left_over = apache::remove_files(claim.address);
    claim.give_back().await;
    ended
}

/// A request to end, from `down` or a terminal.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self, Trouble> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).because("signals")?,
            interrupt: signal(SignalKind::interrupt()).because("signals")?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn start(plan: &Plan, address: Ipv4Addr, services: &mut Vec<Service>) -> Result<(), Trouble> {
    let folder = &plan.folder;
    let logs = folder.path("logs");
    let clock = Instant::now();
    let step = |what: &str| {
        println!("{:6.1} s  {what}", clock.elapsed().as_secs_f64());
    };
    step(&format!("address {address}, certificates"));
    let pki = Pki::issue(folder, address)?;
    let samba = Samba::new(folder.root(), address);
    if !samba.is_provisioned() {
        step("provisioning Active Directory (once per folder)");
        samba.provision().await?;
    }
    step("starting the domain controller");
    let authority = pki.authority.certificate_file();
    services.push(samba.start(&pki.dc, &authority).await?);
    record(folder, services)?;
    let krb5_conf = folder.path("krb5.conf");
    fs::write(&krb5_conf, krb5_text(address)).because("krb5.conf")?;
    step("starting Apache with the Windows-authentication applications");
    let keytabs = samba.keytabs();
    let apache = Apache {
        address,
        keytabs: &keytabs,
        logs: &logs,
        krb5_conf: &krb5_conf,
        tls: &pki.backend,
    };
    let (service, ports) = apache.start().await?;
    services.push(service);
    record(folder, services)?;
    step("starting the header application");
    let (service, wiki) = demo::start_echo(folder, address).await?;
    services.push(service);
    record(folder, services)?;
    let facts = facts(folder, &samba, &pki, &ports, wiki)?;
    folder.write_json("sids.json", &demo::sids_by_login(&facts))?;
    if let Some(demo_ports) = &plan.demo {
        step("starting the Entra emulator");
        services.push(demo::start_entra(folder, &facts, demo_ports).await?);
        record(folder, services)?;
        step("starting Kerbgate");
        services.push(demo::start_gateway(folder, &facts, demo_ports).await?);
        record(folder, services)?;
        demo::write_summary(folder, &facts, demo_ports, services)?;
    }
    // Last: whoever sees this file may use everything.
    folder.write_json("lab.json", &facts)?;
    step("ready");
    Ok(())
}

fn record(folder: &Folder, services: &[Service]) -> Result<(), Trouble> {
    let started: Vec<Started> = services
        .iter()
        .filter_map(|service| {
            Some(Started {
                name: service.name.to_owned(),
                id: service.id()?,
            })
        })
        .collect();
    folder.write_json("processes.json", &started)
}

async fn watch(plan: &Plan, services: &mut [Service], stop: &mut Stop) -> Result<(), Trouble> {
    let in_use = plan.folder.in_use_lock()?;
    let mut last_used = Instant::now();
    loop {
        tokio::select! {
            () = stop.asked() => {
                println!("told to end");
                return Ok(());
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        if let Some(trouble) = services.iter_mut().find_map(Service::ended) {
            return Err(trouble);
        }
        let Some(limit) = plan.unused else { continue };
        if in_use.try_lock().is_ok() {
            in_use.unlock().because("the in-use lock")?;
        } else {
            last_used = Instant::now();
        }
        if last_used.elapsed() > limit {
            println!("nobody has used the lab for {} s", limit.as_secs());
            return Ok(());
        }
    }
}

struct Pki {
    authority: Authority,
    dc: Identity,
    backend: Identity,
    gateway: Identity,
    second: Identity,
    entra: Identity,
}

impl Pki {
    fn issue(folder: &Folder, address: Ipv4Addr) -> Result<Self, Trouble> {
        let authority = Authority::in_folder(&folder.path("pki"))?;
        let address = address.to_string();
        Ok(Self {
            dc: authority.issue("dc", &[samba::DC, &address])?,
            backend: authority.issue("backend", &["intranet.contoso.test", &address])?,
            gateway: authority.issue("gateway", demo::PUBLISHED)?,
            second: authority.issue("second", &["second.localhost"])?,
            entra: authority.issue("entra", &["entra.localhost", "localhost", "127.0.0.1"])?,
            authority,
        })
    }
}

fn facts(
    folder: &Folder,
    samba: &Samba,
    pki: &Pki,
    ports: &Ports,
    wiki: SocketAddr,
) -> Result<Facts, Trouble> {
    let address = samba.address();
    let keytab = |name: &str| -> PathBuf { samba.keytabs().join(format!("{name}.keytab")) };
    Ok(Facts {
        realm: samba::REALM.to_owned(),
        base_dn: "DC=contoso,DC=test".to_owned(),
        dc: samba::DC.to_owned(),
        address,
        kdc: SocketAddr::from((address, 88)),
        ldaps: SocketAddr::from((address, 636)),
        dns: SocketAddr::from((address, 53)),
        krb5_conf: folder.path("krb5.conf"),
        ca: pki.authority.certificate_file(),
        gateway_certificate: pki.gateway.certificate.clone(),
        gateway_key: pki.gateway.key.clone(),
        second_certificate: pki.second.certificate.clone(),
        second_key: pki.second.key.clone(),
        entra_certificate: pki.entra.certificate.clone(),
        entra_key: pki.entra.key.clone(),
        keytabs: Keytabs {
            gateway: keytab("gateway"),
            old_kvno: keytab("old-kvno"),
            wrong_account: keytab("wrong-account"),
            noprotocol: keytab("noprotocol"),
            empty: keytab("empty"),
            intranet: keytab("intranet"),
            timesheet: keytab("timesheet"),
            undelegated: keytab("undelegated"),
        },
        backends: Backends {
            intranet: ports.intranet,
            intranet_tls: ports.intranet_tls,
            timesheet: ports.timesheet,
            refusing: ports.refusing,
            undelegated: ports.undelegated,
            plain: ports.plain,
            wiki,
        },
        accounts: samba.accounts()?,
        sids_file: folder.path("sids.json"),
        logs: folder.path("logs"),
    })
}

// forwardable: a service ticket of a ticket that is not cannot be used for delegation.
fn krb5_text(address: Ipv4Addr) -> String {
    format!(
        "\
[libdefaults]
    default_realm = CONTOSO.TEST
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
    udp_preference_limit = 1

[realms]
    CONTOSO.TEST = {{
        kdc = {address}:88
        kpasswd_server = {address}:464
    }}

[domain_realm]
    contoso.test = CONTOSO.TEST
    .contoso.test = CONTOSO.TEST
"
    )
}
