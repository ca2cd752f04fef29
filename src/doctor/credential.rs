//! Checks of the gateway's own Kerberos credential: KDCs, keytab, ticket.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use futures_util::future::join_all;

use crate::assembly;
use crate::config::sections::Kerberos;
use crate::kerberos;
use crate::kerberos::Delegator;
use crate::kerberos::Enctype;
use crate::kerberos::KdcAddress;
use crate::kerberos::KdcHealth;
use crate::kerberos::Keytab;
use crate::kerberos::KeytabError;

use super::check;
use super::check::Check;
use super::check::mend;
use super::report::Finding;
use super::report::State;
use super::world;
use super::world::World;
use super::world::timed;

/// What later checks use.
#[derive(Debug, Default)]
pub(super) struct Credential {
    pub(super) findings: Vec<Finding>,
    /// Present when the gateway has a ticket of its own.
    pub(super) delegator: Option<Delegator>,
    /// Present when the keytab can be read and is the gateway's.
    pub(super) keytab: Option<Keytab>,
}

/// How long a KDC may take; the gateway itself gives it one second.
const KDC_PATIENCE: Duration = Duration::from_secs(2);
/// Kerberos' own limit (MS-KILE 3.1.1.2, RFC 4120 3.1.3).
const SKEW: Duration = Duration::from_secs(300);

pub(super) async fn examine(world: &World) -> Credential {
    let section = match &world.config.kerberos {
        Some(section) if world.needs_tickets() => section,
        Some(_) => return unneeded("no application needs tickets or accounts"),
        None => return unneeded("there is no [kerberos] section"),
    };
    let (keytab_finding, keytab) = keytab(section);
    let delegator = match &keytab {
        Some(_) => start(world),
        None => Err(String::from("the keytab cannot be used (check 10)")),
    };
    let mut findings = kdcs(section, delegator.as_ref().ok()).await;
    findings.push(keytab_finding);
    // By number the KDCs come first; without one, the ticket says nothing new.
    let dead = findings
        .iter()
        .any(|finding| finding.number == check::KDC.number && finding.state == State::Fault);
    let delegator = match delegator {
        Err(why) if keytab.is_none() => {
            findings.push(check::TICKET.skipped(section.principal.as_str(), why));
            None
        }
        Err(why) => {
            let mend = mend("the Kerberos room cannot start", "");
            findings.push(check::TICKET.fault(section.principal.as_str(), why, mend));
            None
        }
        Ok(_) if dead => {
            let why = "no KDC answers as it should (check 9)";
            findings.push(check::TICKET.skipped(section.principal.as_str(), why));
            None
        }
        Ok(delegator) => {
            let ticket = timed(
                check::TICKET,
                section.principal.as_str(),
                ticket(&delegator),
            )
            .await;
            let held = ticket.state == State::Ok;
            findings.push(ticket);
            held.then_some(delegator)
        }
    };
    Credential {
        findings,
        delegator,
        keytab,
    }
}

fn unneeded(why: &str) -> Credential {
    let all = [check::KDC, check::KEYTAB, check::TICKET];
    Credential {
        findings: all
            .into_iter()
            .map(|check| check.skipped("", why))
            .collect(),
        ..Credential::default()
    }
}

fn start(world: &World) -> Result<Delegator, String> {
    let settings = assembly::kerberos_settings(&world.config).map_err(|error| error.to_string())?;
    let settings = settings.ok_or_else(|| String::from("there is no [kerberos] section"))?;
    Delegator::start(settings).map_err(|error| error.to_string())
}

fn keytab(section: &Kerberos) -> (Finding, Option<Keytab>) {
    let path = section.keytab.display().to_string();
    let principal = &section.principal;
    let read = Keytab::read(&section.keytab)
        .and_then(|keytab| keytab.check(principal, section.allow_rc4).map(|()| keytab));
    let keytab = match read {
        Ok(keytab) => keytab,
        Err(error) => {
            let mend = mend("the gateway cannot log in", keytab_fix(&error, section));
            return (check::KEYTAB.fault(path, error.to_string(), mend), None);
        }
    };
    let types: BTreeSet<Enctype> = keytab
        .entries_of(principal)
        .map(|entry| entry.enctype)
        .collect();
    let types: Vec<_> = types.iter().rev().map(ToString::to_string).collect();
    let kvno = keytab.newest_kvno(principal).unwrap_or(0);
    let mode = fs::metadata(&section.keytab).map(|meta| meta.permissions().mode() & 0o7777);
    let mode = mode.unwrap_or(0);
    let proof = format!(
        "{principal}, key version {kvno}, {}; mode {mode:04o}",
        types.join(" ")
    );
    let finding = if keytab.is_group_readable() {
        let cause = "the file's group can read the gateway's key, and so act as every guest";
        check::KEYTAB.warning(
            path.clone(),
            proof,
            mend(cause, format!("chmod 0600 {path}")),
        )
    } else {
        check::KEYTAB.ok(path, proof)
    };
    (finding, Some(keytab))
}

fn keytab_fix(error: &KeytabError, section: &Kerberos) -> String {
    let path = section.keytab.display();
    let (account, realm) = (section.principal.name(), section.principal.realm());
    let make = format!(
        "ktpass /princ {account}@{realm} /mapuser {account} /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out kerbgate.keytab        (Windows; sets the password)\n\
         samba-tool domain exportkeytab {path} --principal={account}        (Samba)"
    );
    match error {
        KeytabError::Unreadable { .. } => {
            format!("ls -l {path}\nchown kerbgate: {path}; chmod 0600 {path}")
        }
        KeytabError::Exposed { .. } => format!("chmod 0600 {path}"),
        KeytabError::OtherPrincipal { .. } => {
            format!("klist -k {path}        (shows whose it is)\n{make}")
        }
        KeytabError::Malformed { .. } => make,
        KeytabError::NoStrongKey { .. } => {
            format!(
                "Set-ADUser {account} -KerberosEncryptionType AES128,AES256        (before the password is set)\n{make}"
            )
        }
    }
}

async fn kdcs(section: &Kerberos, delegator: Option<&Delegator>) -> Vec<Finding> {
    let listed: Vec<KdcAddress> = section
        .kdcs
        .iter()
        .filter_map(|text| text.parse().ok())
        .map(|kdc: KdcAddress| {
            let at = section.hosts.get(&kdc.host).copied();
            kdc.at(at)
        })
        .collect();
    let answers: Vec<(String, KdcHealth)> = if listed.is_empty() {
        let Some(delegator) = delegator else {
            return vec![check::KDC.skipped(
                "",
                "DNS names the KDCs, and is asked with a usable keytab only",
            )];
        };
        let found = delegator.probe_kdcs().await;
        found
            .into_iter()
            .map(|kdc| (kdc.address.to_string(), kdc.health))
            .collect()
    } else {
        join_all(listed.iter().map(|kdc| async move {
            let health = kerberos::probe(kdc, &section.principal, KDC_PATIENCE).await;
            (kdc.to_string(), health)
        }))
        .await
    };
    if answers.is_empty() {
        let realm = section.principal.realm().to_ascii_lowercase();
        let fix = format!(
            "dig SRV _kerberos._tcp.{realm}\nor list them: kerberos.kdcs = [\"dc1.{realm}\"]"
        );
        let mend = mend("no ticket can be fetched", fix);
        return vec![check::KDC.fault("", "DNS names no KDC", mend)];
    }
    let some_up = answers
        .iter()
        .any(|(_, health)| matches!(health, KdcHealth::Up { .. }));
    answers
        .into_iter()
        .map(|(kdc, health)| judge_kdc(&kdc, health, some_up))
        .collect()
}

fn judge_kdc(kdc: &str, health: KdcHealth, some_up: bool) -> Finding {
    const CHECK: Check = check::KDC;
    let (host, port) = kdc.rsplit_once(':').unwrap_or((kdc, "88"));
    let fix =
        format!("nc -vz {host} {port}\nTest-NetConnection {host} -Port {port}        (Windows)");
    match health {
        KdcHealth::Up { answered_in, skew } => {
            let skew = skew.unwrap_or(0);
            let mut finding = world::clock(CHECK, kdc, skew, SKEW);
            let millis = answered_in.as_millis();
            finding.proof = format!("answered in {millis} ms, its clock: {}", finding.proof);
            finding.took(answered_in)
        }
        KdcHealth::Down { reason } if some_up => CHECK.warning(
            kdc,
            reason,
            mend(
                "another KDC takes over, at the cost of a second now and then",
                fix,
            ),
        ),
        KdcHealth::Down { reason } => {
            let cause = "no KDC answers: no ticket can be fetched (TCP, not UDP, is asked)";
            CHECK.fault(kdc, reason, mend(cause, fix))
        }
        KdcHealth::Unknown => CHECK.skipped(kdc, "was not asked"),
    }
}

async fn ticket(delegator: &Delegator) -> Finding {
    let principal = delegator.principal();
    let error = match delegator.ready().await {
        Ok(()) => {
            let lasts = delegator.status().tgt.remaining.unwrap_or_default();
            let proof = format!("a ticket for {} h", lasts.as_secs() / 3600);
            return check::TICKET.ok(principal.as_str(), proof);
        }
        Err(error) => error,
    };
    let diagnosis = kerberos::diagnose_as(&error, Some(principal.name()));
    let cause = format!(
        "{} [{}]; {}",
        diagnosis.cause, diagnosis.code, diagnosis.check
    );
    check::TICKET.fault(
        principal.as_str(),
        error.to_string(),
        mend(cause, diagnosis.fix),
    )
}
