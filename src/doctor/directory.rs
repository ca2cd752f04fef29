//! Checks of the directory: it answers, the gateway's account there, and what the gateway may do.

use std::time::Duration;
use std::time::Instant;

use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::assembly;
use crate::config::sections::Bind;
use crate::kerberos::Keytab;
use crate::ldap;
use crate::ldap::Directory;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Session;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::model::names::Sid;

use super::check;
use super::check::mend;
use super::credential::Credential;
use super::report::Finding;
use super::world;
use super::world::World;

/// What later checks use.
#[derive(Debug, Default)]
pub(super) struct Inside {
    pub(super) findings: Vec<Finding>,
    /// A bound session and the domain's base.
    pub(super) held: Option<Held>,
}

/// A bound session with what is known of the gateway's own account.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Session,
    pub(super) base: Dn,
    pub(super) gateway: Option<Own>,
}

/// The gateway's account.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) entry: Entry,
    /// Its own SID and those of its groups.
    pub(super) sids: Vec<Sid>,
}

// MS-ADTS 2.2.16 userAccountControl bits.
pub(super) const DISABLED: i64 = 0x2;
pub(super) const UNCONSTRAINED: i64 = 0x8_0000;
pub(super) const NOT_DELEGATED: i64 = 0x10_0000;
pub(super) const ANY_PROTOCOL: i64 = 0x100_0000;

/// Kerberos' limit counts here too: the bind is a Kerberos exchange.
const SKEW: Duration = Duration::from_secs(300);

pub(super) async fn open(world: &World, credential: &Credential) -> Inside {
    let Some(section) = &world.config.directory else {
        return closed(world, "there is no [directory] section");
    };
    if !world.needs_accounts() {
        return closed(world, "no application needs accounts");
    }
    if matches!(section.bind, Bind::Kerberos) && credential.delegator.is_none() {
        return closed(world, "the bind needs the gateway's ticket (check 11)");
    }
    let settings = assembly::ldap_settings(&world.config, credential.delegator.as_ref());
    let settings = match settings {
        Ok(Some(settings)) => settings,
        Ok(None) => return closed(world, "there is no [directory] section"),
        Err(error) => {
            let mend = mend("the settings cannot be used", "correct [directory]");
            return broken(world, check::DIRECTORY.fault("", error.to_string(), mend));
        }
    };
    let directory = Directory::new(settings);
    let servers = match directory.servers().await {
        Ok(servers) => servers,
        Err(error) => {
            let domain = section.realm.as_str().to_ascii_lowercase();
            let fix = format!(
                "dig SRV _ldap._tcp.dc._msdcs.{domain}\nor list them: directory.servers = [\"dc1.{domain}\"]"
            );
            return broken(
                world,
                check::DIRECTORY.fault(
                    "",
                    error.to_string(),
                    mend("no domain controller is known", fix),
                ),
            );
        }
    };
    let mut findings = Vec::new();
    let mut best = None;
    for server in &servers {
        let (more, session) = meet(world, &directory, server).await;
        findings.extend(more);
        best = best.or(session);
    }
    let base: Result<Dn, _> = section.base_dn.parse();
    let (Some(session), Ok(base)) = (best, base) else {
        findings.extend(skipped("no domain controller can be asked (check 12)"));
        return Inside {
            findings,
            held: None,
        };
    };
    let gateway = match &world.config.kerberos {
        Some(kerberos) => own(&session, &base, kerberos.principal.name()).await,
        None => Ok(None),
    };
    findings.extend(account(world, credential, &gateway));
    let gateway = gateway.ok().flatten();
    Inside {
        findings,
        held: Some(Held {
            session,
            base,
            gateway,
        }),
    }
}

/// Everything that needs the directory, skipped.
fn closed(world: &World, why: &str) -> Inside {
    let first =
        [check::DIRECTORY, check::DIRECTORY_CLOCK].map(|check| check.skipped(subject(world), why));
    let findings = first.into_iter().chain(skipped(why)).collect();
    Inside {
        findings,
        held: None,
    }
}

fn broken(world: &World, finding: Finding) -> Inside {
    let why = "the directory cannot be asked (check 12)";
    let clock = check::DIRECTORY_CLOCK.skipped(subject(world), why);
    let findings = [finding, clock].into_iter().chain(skipped(why)).collect();
    Inside {
        findings,
        held: None,
    }
}

fn subject(world: &World) -> String {
    let realm = world
        .config
        .directory
        .as_ref()
        .map(|directory| directory.realm.to_string());
    realm.unwrap_or_default()
}

fn skipped(why: &str) -> impl Iterator<Item = Finding> {
    [
        check::KEY_VERSION,
        check::ENCTYPES,
        check::GATEWAY_SPN,
        check::GATEWAY_ACCOUNT,
    ]
    .into_iter()
    .map(move |check| check.skipped("", why))
}

/// One controller: does it answer, as whom does it see us, what time is it there.
async fn meet(
    world: &World,
    directory: &Directory,
    server: &HostName,
) -> (Vec<Finding>, Option<Session>) {
    let begun = Instant::now();
    let session = match directory.session_on(server).await {
        Ok(session) => session,
        Err(error) => {
            let finding = check::DIRECTORY.fault(
                server.as_str(),
                error.to_string(),
                bind_mend(world, server, &error),
            );
            let clock =
                check::DIRECTORY_CLOCK.skipped(server.as_str(), "the controller does not answer");
            return (vec![finding.took(begun.elapsed()), clock], None);
        }
    };
    let root = session.root().await;
    let took = begun.elapsed();
    let clock = match root
        .as_ref()
        .ok()
        .and_then(|root| generalized_time(root.text("currentTime")?))
    {
        Some(time) => {
            let skew = time.saturating_sub(Clock::System.unix());
            world::clock(check::DIRECTORY_CLOCK, server.as_str(), skew, SKEW)
        }
        None => {
            check::DIRECTORY_CLOCK.skipped(server.as_str(), "the controller does not tell its time")
        }
    };
    let finding = match root {
        Ok(_) => {
            let whom = session
                .who_am_i()
                .await
                .unwrap_or_else(|error| error.to_string());
            check::DIRECTORY.ok(
                server.as_str(),
                format!("LDAPS, certificate checked, sees us as {whom}"),
            )
        }
        Err(error) => check::DIRECTORY.fault(
            server.as_str(),
            error.to_string(),
            bind_mend(world, server, &error),
        ),
    };
    (vec![finding.took(took), clock], Some(session))
}

fn bind_mend(world: &World, server: &HostName, error: &ldap::Error) -> check::Mend {
    let port = world
        .config
        .directory
        .as_ref()
        .map_or(636, |directory| directory.port);
    let tls = format!(
        "openssl s_client -connect {server}:{port} -verify_hostname {server}\na private authority goes into directory.ca_file"
    );
    match error {
        ldap::Error::Refused { refusal, .. } => mend(
            refusal.cure().unwrap_or("the controller refuses the bind"),
            "",
        ),
        ldap::Error::Sasl { .. } => mend(
            "the controller does not take the gateway's ticket: its SPN ldap/ is missing, or it wants another channel binding",
            format!("setspn -Q ldap/{server}"),
        ),
        ldap::Error::Unreachable { .. }
        | ldap::Error::Lost { .. }
        | ldap::Error::TimedOut { .. } => mend(
            "the controller does not answer, or its certificate does not verify",
            tls,
        ),
        ldap::Error::NoServer { .. }
        | ldap::Error::Protocol { .. }
        | ldap::Error::Referral { .. }
        | ldap::Error::EmptyPassword { .. }
        | ldap::Error::Setup { .. } => mend("the controller cannot be used", tls),
    }
}

/// `YYYYMMDDHHMMSS.0Z` (RFC 4517 3.3.13, as Active Directory writes it).
pub(super) fn generalized_time(text: &str) -> Option<i64> {
    let plain = format_description!("[year][month][day][hour][minute][second]");
    let time = PrimitiveDateTime::parse(text.get(..14)?, plain).ok()?;
    Some(time.assume_utc().unix_timestamp())
}

async fn own(session: &Session, base: &Dn, sam: &str) -> Result<Option<Own>, ldap::Error> {
    let search = Search {
        base: base.clone(),
        scope: Scope::Subtree,
        filter: Filter::equals(&"sAMAccountName".parse()?, sam),
        attributes: vec![String::from("1.1")],
        limit: 2,
    };
    let found = session.search(&search).await?;
    let Some(first) = found.entries.first() else {
        return Ok(None);
    };
    const WANTED: [&str; 8] = [
        "objectSid",
        "userAccountControl",
        "servicePrincipalName",
        "msDS-AllowedToDelegateTo",
        "msDS-KeyVersionNumber",
        "msDS-SupportedEncryptionTypes",
        "tokenGroups",
        "adminCount",
    ];
    let Some(entry) = session.read(&first.dn, &WANTED).await? else {
        return Ok(None);
    };
    let groups = entry
        .values("tokenGroups")
        .iter()
        .filter_map(|bytes| Sid::from_bytes(bytes).ok());
    let sids = entry.sid("objectSid").into_iter().chain(groups).collect();
    Ok(Some(Own { entry, sids }))
}

fn account(
    world: &World,
    credential: &Credential,
    own: &Result<Option<Own>, ldap::Error>,
) -> Vec<Finding> {
    let name = world.gateway();
    let why = match own {
        Ok(Some(own)) => {
            return vec![
                key_version(world, credential, &own.entry),
                enctypes(world, credential.keytab.as_ref(), &own.entry),
                spn(&name, &own.entry),
                state(&name, &own.entry),
            ];
        }
        Ok(None) if world.config.kerberos.is_none() => {
            String::from("there is no [kerberos] section")
        }
        Ok(None) => format!("the directory has no account {name}"),
        Err(error) => error.to_string(),
    };
    skipped(&why).collect()
}

fn key_version(world: &World, credential: &Credential, account: &Entry) -> Finding {
    const CHECK: check::Check = check::KEY_VERSION;
    let name = world.gateway();
    let (Some(keytab), Some(kerberos)) = (&credential.keytab, &world.config.kerberos) else {
        return CHECK.skipped(name, "the keytab cannot be used (check 10)");
    };
    let Some(theirs) = account.number("msDS-KeyVersionNumber") else {
        return CHECK.skipped(name, "msDS-KeyVersionNumber cannot be read");
    };
    let ours = keytab.newest_kvno(&kerberos.principal).map_or(0, i64::from);
    if ours == theirs {
        return CHECK.ok(name, format!("version {ours} here and there"));
    }
    let proof = format!("keytab {ours}, directory {theirs}");
    let fix = format!(
        "make a new keytab from the password set last, and put it at {}",
        kerberos.keytab.display()
    );
    // An RODC's and Samba's numbers may differ in their upper half (branch id), the key being the same.
    if ours & 0xffff == theirs & 0xffff {
        return CHECK.ok(
            name,
            format!("{proof}: the same key, numbered by another controller"),
        );
    }
    if credential.delegator.is_some() {
        let cause = "the KDC still takes the keytab, but this controller knows a newer password: is replication slow?";
        return CHECK.warning(name, proof, mend(cause, fix));
    }
    let cause = "the password was changed after the keytab was made";
    CHECK.fault(name, proof, mend(cause, fix))
}

/// msDS-SupportedEncryptionTypes (MS-KILE 2.2.7).
fn enctypes(world: &World, keytab: Option<&Keytab>, account: &Entry) -> Finding {
    const AES: i64 = 0x18;
    const RC4: i64 = 0x4;
    let name = world.gateway();
    let types = account.number("msDS-SupportedEncryptionTypes").unwrap_or(0);
    let fix = format!(
        "Set-ADUser {name} -KerberosEncryptionType AES128,AES256\nthen set its password again and make a new keytab"
    );
    if types & AES == 0 && types != 0 {
        let proof = format!("msDS-SupportedEncryptionTypes = {types}: no AES");
        return check::ENCTYPES.fault(
            name,
            proof,
            mend("the KDC makes no AES tickets for the gateway", fix),
        );
    }
    let weak =
        keytab.is_some_and(|keytab| keytab.entries().iter().all(|entry| !entry.enctype.is_aes()));
    if weak || types & RC4 != 0 {
        let proof = format!("msDS-SupportedEncryptionTypes = {types}");
        return check::ENCTYPES.warning(
            name,
            proof,
            mend("RC4 is still allowed for this account (RFC 8429)", fix),
        );
    }
    let proof = match types {
        0 => String::from("the domain's default; the keytab has AES keys"),
        _ => format!("msDS-SupportedEncryptionTypes = {types}: AES only"),
    };
    check::ENCTYPES.ok(name, proof)
}

fn spn(name: &str, account: &Entry) -> Finding {
    let all: Vec<&str> = account.texts("servicePrincipalName").collect();
    if !all.is_empty() {
        return check::GATEWAY_SPN.ok(name, all.join(", "));
    }
    let cause = "without an SPN of its own the KDC makes out no ticket to the gateway in other people's names";
    let fix = format!(
        "setspn -S HTTP/<gateway host> {name}\nsamba-tool spn add HTTP/<gateway host> {name}        (Samba)"
    );
    check::GATEWAY_SPN.fault(name, "servicePrincipalName is empty", mend(cause, fix))
}

fn state(name: &str, account: &Entry) -> Finding {
    let control = account.number("userAccountControl").unwrap_or(0);
    let dn = &account.dn;
    if control & DISABLED != 0 {
        let fix = format!("Enable-ADAccount {name}");
        return check::GATEWAY_ACCOUNT.fault(
            name,
            format!("{dn} is disabled"),
            mend("it cannot log in", fix),
        );
    }
    if control & UNCONSTRAINED != 0 {
        let cause = "unconstrained delegation collects everybody's tickets and is not needed";
        let fix = format!(
            "Set-ADAccountControl {name} -TrustedForDelegation $false\nsamba-tool delegation for-any-service {name} off        (Samba)"
        );
        return check::GATEWAY_ACCOUNT.warning(
            name,
            format!("{dn} is trusted for any service"),
            mend(cause, fix),
        );
    }
    if account.number("adminCount").is_some_and(|count| count != 0) {
        let cause = "the gateway needs rights on two OUs, not an administrator's";
        let fix = format!("Get-ADPrincipalGroupMembership {name}");
        return check::GATEWAY_ACCOUNT.warning(
            name,
            format!("{dn} has adminCount set"),
            mend(cause, fix),
        );
    }
    check::GATEWAY_ACCOUNT.ok(name, format!("{dn}, enabled, no administrator"))
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn account(attributes: &[(&str, &[&[u8]])]) -> Entry {
        Entry::from_parts(
            "CN=svc-gateway,DC=contoso,DC=test".parse().unwrap(),
            attributes,
        )
    }

    #[test]
    fn the_directorys_time_is_read() {
        assert_eq!(generalized_time("20261122231031.0Z"), Some(1_795_389_031));
        assert_eq!(generalized_time("20261122"), None);
    }

    #[test]
    fn the_gateways_account_is_judged_by_its_bits() {
        for (control, expected) in [
            ("16843264", State::Ok),
            ("66050", State::Fault),
            ("590336", State::Warning),
        ] {
            let entry = account(&[("userAccountControl", &[control.as_bytes()])]);
            assert_eq!(state("svc-gateway", &entry).state, expected, "{control}");
        }
        assert_eq!(spn("svc-gateway", &account(&[])).state, State::Fault);
    }
}
