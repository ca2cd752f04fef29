//! What the gateway may change in the directory, shown and not supposed: it makes an account and deletes it
//! again. Also what the schema knows, and accounts that no ticket is ever asked for.

use aws_lc_rs::rand;

use crate::config::sections::Mapping;
use crate::ldap;
use crate::ldap::Attribute;
use crate::ldap::Dn;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Session;
use crate::model::application::Guests;
use crate::model::clock::Clock;
use crate::model::names::Sid;

use super::check;
use super::check::Check;
use super::check::mend;
use super::directory::Held;
use super::directory::NOT_DELEGATED;
use super::directory::generalized_time;
use super::report::Finding;
use super::world::World;
use super::world::timed;

/// Stands in every temporary account, so that one that was left behind is known for what it is.
const MARK: &str = "made by kerbgate doctor to prove the gateway's rights; may be deleted";
/// A temporary account older than this was left behind; a younger one may be another doctor's.
const LEFT_BEHIND: i64 = 600;

pub(super) async fn examine(world: &World, held: Option<&Held>) -> Vec<Finding> {
    let all = [
        check::KRBTGT,
        check::ANCHOR,
        check::GUEST_OU,
        check::GROUPS,
        check::UNTOUCHABLE,
    ];
    let (Some(held), Some(mapping)) = (held, &world.config.mapping) else {
        let why = "the directory cannot be asked (check 12), or there is no [mapping]";
        return all
            .into_iter()
            .map(|check| check.skipped("", why))
            .collect();
    };
    let mut findings = vec![
        timed(check::KRBTGT, "", krbtgt(held)).await,
        timed(
            check::ANCHOR,
            &mapping.anchor_attribute,
            anchor(held, &mapping.anchor_attribute),
        )
        .await,
        // Not cut short: what was made must be deleted. Each of its operations is bounded by itself.
        guests_ou(world, held, mapping).await,
    ];
    findings.extend(groups(world, held, mapping).await);
    findings.push(timed(check::UNTOUCHABLE, "", untouchable(held, mapping)).await);
    findings
}

fn failed(check: Check, subject: &str, error: &ldap::Error) -> Finding {
    let cure = match error {
        ldap::Error::Refused { refusal, .. } => refusal.cure().unwrap_or("the directory refused"),
        ldap::Error::NoServer { .. }
        | ldap::Error::Unreachable { .. }
        | ldap::Error::Lost { .. }
        | ldap::Error::TimedOut { .. }
        | ldap::Error::Protocol { .. }
        | ldap::Error::Sasl { .. }
        | ldap::Error::Referral { .. }
        | ldap::Error::EmptyPassword { .. }
        | ldap::Error::Setup { .. } => "the directory gave no answer",
    };
    check.fault(subject, error.to_string(), mend(cure, ""))
}

async fn find(
    session: &Session,
    base: &Dn,
    filter: Filter,
    attributes: &[&str],
    limit: u32,
) -> Result<Vec<ldap::Entry>, ldap::Error> {
    let search = Search {
        base: base.clone(),
        scope: Scope::Subtree,
        filter,
        attributes: attributes.iter().map(ToString::to_string).collect(),
        limit,
    };
    Ok(session.search(&search).await?.entries)
}

/// Marked sensitive, the KDC's own account stops protocol transition everywhere.
async fn krbtgt(held: &Held) -> Finding {
    let name: Result<Attribute, _> = "sAMAccountName".parse();
    let read = match name {
        Ok(name) => {
            find(
                &held.session,
                &held.base,
                Filter::equals(&name, "krbtgt"),
                &["userAccountControl"],
                1,
            )
            .await
        }
        Err(error) => Err(error),
    };
    let control = match read {
        Ok(entries) => entries
            .first()
            .and_then(|entry| entry.number("userAccountControl")),
        Err(error) => return failed(check::KRBTGT, "krbtgt", &error),
    };
    match control {
        None => check::KRBTGT.skipped("krbtgt", "it cannot be read"),
        Some(control) if control & NOT_DELEGATED != 0 => check::KRBTGT.fault(
            "krbtgt",
            "marked \"sensitive and cannot be delegated\"",
            mend(
                "no delegation works in this domain, for anybody (SSPI calls it 0x8009030e)",
                "Set-ADUser krbtgt -AccountNotDelegated $false        (then restart the domain controllers)",
            ),
        ),
        Some(_) => check::KRBTGT.ok("krbtgt", "not marked sensitive"),
    }
}

async fn anchor(held: &Held, anchor: &str) -> Finding {
    match knows(&held.session, anchor).await {
        Ok(true) => check::ANCHOR.ok(anchor, "the schema has it"),
        Ok(false) => check::ANCHOR.fault(
            anchor,
            "the schema does not have it",
            mend(
                "people cannot be tied to accounts: the attribute came with Windows Server 2016",
                "set mapping.anchor_attribute = \"adminDescription\"\nor extend the schema: adprep /forestprep",
            ),
        ),
        Err(error) => failed(check::ANCHOR, anchor, &error),
    }
}

async fn knows(session: &Session, attribute: &str) -> Result<bool, ldap::Error> {
    let root = session.root().await?;
    let Some(schema) = root.text("schemaNamingContext") else {
        return Ok(false);
    };
    let filter = Filter::equals(&"lDAPDisplayName".parse()?, attribute);
    Ok(!find(session, &schema.parse()?, filter, &["1.1"], 1)
        .await?
        .is_empty())
}

async fn guests_ou(world: &World, held: &Held, mapping: &Mapping) -> Finding {
    let makes = world
        .applications
        .iter()
        .any(|app| app.needs_account() && app.access.guests == Guests::Provision);
    let Some(ou) = mapping.guests_ou.as_ref().filter(|_| makes) else {
        return check::GUEST_OU.skipped("", "no application has guests = \"provision\"");
    };
    let begun = std::time::Instant::now();
    let finding = match prove(&held.session, ou, &mapping.anchor_attribute).await {
        Ok(proof) => check::GUEST_OU.ok(ou.as_str(), proof),
        Err(Trouble::Make(error)) => check::GUEST_OU.fault(
            ou.as_str(),
            error.to_string(),
            mend(
                "the gateway cannot make shadow accounts",
                ou_fix(world, held, ou),
            ),
        ),
        Err(Trouble::Delete(dn, error)) => {
            let fix = format!(
                "Remove-ADUser -Identity \"{dn}\"\n{}",
                ou_fix(world, held, ou)
            );
            check::GUEST_OU.fault(
                ou.as_str(),
                format!("{dn} was made but not deleted: {error}"),
                mend("the gateway may make accounts, but not delete them", fix),
            )
        }
    };
    finding.took(begun.elapsed())
}

enum Trouble {
    Make(ldap::Error),
    Delete(Dn, ldap::Error),
}

impl From<ldap::Error> for Trouble {
    fn from(error: ldap::Error) -> Self {
        Self::Make(error)
    }
}

/// Makes a disabled account as provisioning would, and deletes it.
async fn prove(session: &Session, ou: &str, anchor: &str) -> Result<String, Trouble> {
    let ou: Dn = ou.parse()?;
    let removed = sweep(session, &ou).await?;
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| setup("random numbers", "there are none"))?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("kgdoctor-{}", hex.get(..10).unwrap_or_default());
    let dn = ou.child("CN", &name);
    // AD wants the new password quoted in UTF-16LE (MS-ADTS 3.1.1.3.1.5); nobody keeps it.
    let password: Vec<u8> = format!("\"Kg.{hex}.Z9\"")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let text = |name: &str, values: &[&str]| -> Result<(Attribute, Vec<Vec<u8>>), ldap::Error> {
        Ok((
            name.parse()?,
            values
                .iter()
                .map(|value| value.as_bytes().to_vec())
                .collect(),
        ))
    };
    let attributes = vec![
        text(
            "objectClass",
            &["top", "person", "organizationalPerson", "user"],
        )?,
        text("sAMAccountName", &[&name])?,
        text("description", &[MARK])?,
        // Disabled, normal, smart card required, password never expires.
        text("userAccountControl", &["328194"])?,
        text(anchor, &[&format!("kerbgate-doctor_{name}")])?,
        ("unicodePwd".parse()?, vec![password]),
    ];
    let made = session.add(&dn, attributes).await;
    tracing::info!(target: "audit", event = "rights-proved", via = "doctor", dn = %dn, made = made.is_ok());
    if let Err(error) = &made
        && !error.outcome_unknown()
    {
        return Err(Trouble::Make(error.clone()));
    }
    let deleted = session.delete(&dn).await;
    match (made, deleted) {
        (Ok(()), Ok(())) => Ok(format!(
            "made the disabled account {name} with password and anchor, and deleted it again{}",
            if removed > 0 {
                format!("; deleted {removed} left behind earlier")
            } else {
                String::new()
            }
        )),
        (Ok(()), Err(error)) => Err(Trouble::Delete(dn, error)),
        (Err(error), Ok(())) => Err(Trouble::Make(error)),
        (Err(lost), Err(error)) if error.code() == Some(ldap::ResultCode::NO_SUCH_OBJECT) => {
            Err(Trouble::Make(lost))
        }
        (Err(_), Err(error)) => Err(Trouble::Delete(dn, error)),
    }
}

fn setup(what: &str, reason: &str) -> ldap::Error {
    ldap::Error::Setup {
        what: what.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Deletes what an earlier doctor, ended in the middle, left.
async fn sweep(session: &Session, ou: &Dn) -> Result<usize, ldap::Error> {
    let filter = Filter::equals(&"description".parse()?, MARK);
    let left = find(session, ou, filter, &["whenCreated"], 100).await?;
    let now = Clock::System.unix();
    let mut removed = 0;
    for entry in left {
        let created = entry
            .text("whenCreated")
            .and_then(generalized_time)
            .unwrap_or(now);
        if now.saturating_sub(created) > LEFT_BEHIND {
            session.delete(&entry.dn).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

const USER_CLASS: &str = "bf967aba-0de6-11d0-a285-00aa003049e2";
const GROUP_CLASS: &str = "bf967a9c-0de6-11d0-a285-00aa003049e2";
const MEMBER: &str = "bf9679c0-0de6-11d0-a285-00aa003049e2";

fn gateway_sid(held: &Held) -> String {
    let sid = held
        .gateway
        .as_ref()
        .and_then(|own| own.entry.sid("objectSid"));
    sid.map_or_else(
        || String::from("<gateway account's SID>"),
        |sid| sid.to_string(),
    )
}

fn ou_fix(world: &World, held: &Held, ou: &str) -> String {
    let (account, sid) = (world.gateway_in_domain(), gateway_sid(held));
    format!(
        "dsacls \"{ou}\" /I:T /G \"{account}:CCDC;user\"\n\
         dsacls \"{ou}\" /I:S /G \"{account}:GA;;user\"\n\
         samba-tool dsacl set --objectdn=\"{ou}\" --sddl=\"(OA;CI;CCDC;{USER_CLASS};;{sid})(OA;CIIO;GA;;{USER_CLASS};{sid})\"        (Samba)"
    )
}

/// Whether members can be written is read from what the directory computes for us: a dry write would have to
/// change a real group.
async fn groups(world: &World, held: &Held, mapping: &Mapping) -> Vec<Finding> {
    let mut wanted: Vec<&str> = mapping
        .groups
        .iter()
        .map(|one| one.ad_group.as_str())
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return vec![check::GROUPS.skipped("", "no [[mapping.groups]]")];
    }
    let mut findings = Vec::new();
    for group in wanted {
        findings.push(timed(check::GROUPS, group, writable(world, held, mapping, group)).await);
    }
    findings
}

async fn writable(world: &World, held: &Held, mapping: &Mapping, group: &str) -> Finding {
    let read = match group.parse::<Dn>() {
        Ok(dn) => {
            held.session
                .read(&dn, &["objectClass", "allowedAttributesEffective"])
                .await
        }
        Err(error) => Err(error),
    };
    let entry = match read {
        Ok(Some(entry)) => entry,
        Ok(None) if made_by_us(world, mapping, group) => {
            return check::GROUPS.skipped(group, "kerbgate sync guests makes it (create = true)");
        }
        Ok(None) => {
            let cn = group
                .parse::<Dn>()
                .ok()
                .and_then(|dn| dn.leaf().map(str::to_owned))
                .unwrap_or_default();
            let ou = mapping.groups_ou.as_deref().unwrap_or_default();
            let fix = format!(
                "New-ADGroup -Name \"{cn}\" -GroupScope Global -Path \"{ou}\"\nsamba-tool group add \"{cn}\" --groupou=\"<OU without the domain>\"        (Samba)"
            );
            return check::GROUPS.fault(
                group,
                "there is no such group",
                mend("its members get no ticket with it", fix),
            );
        }
        Err(error) => return failed(check::GROUPS, group, &error),
    };
    if entry.has("allowedAttributesEffective", "member") {
        return check::GROUPS.ok(group, "allowedAttributesEffective has member");
    }
    let ou = mapping.groups_ou.as_deref().unwrap_or(group);
    let (account, sid) = (world.gateway_in_domain(), gateway_sid(held));
    let fix = format!(
        "dsacls \"{ou}\" /I:S /G \"{account}:RPWP;member;group\"\n\
         samba-tool dsacl set --objectdn=\"{ou}\" --sddl=\"(OA;CIIO;RPWP;{MEMBER};{GROUP_CLASS};{sid})\"        (Samba)"
    );
    check::GROUPS.fault(
        group,
        "allowedAttributesEffective has no member",
        mend("the gateway may not write the group's members", fix),
    )
}

fn made_by_us(world: &World, mapping: &Mapping, group: &str) -> bool {
    let mut named = mapping.groups.iter().filter(|one| one.ad_group == group);
    world.config.guests_sync.memberships && named.any(|one| one.create)
}

/// Accounts under `account_bases` that the fence will refuse: no fault, but the people behind them will ask.
async fn untouchable(held: &Held, mapping: &Mapping) -> Finding {
    match kept_out(held, mapping).await {
        Err(error) => failed(check::UNTOUCHABLE, "account_bases", &error),
        Ok((seen, kept)) if kept.is_empty() => check::UNTOUCHABLE.ok(
            "account_bases",
            format!("{seen} accounts looked at, none privileged, protected or sensitive"),
        ),
        Ok((seen, kept)) => {
            let named: Vec<_> = kept.iter().take(10).cloned().collect();
            let more = kept.len().saturating_sub(named.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let proof = format!(
                "{} of {seen} accounts: {}{more}",
                kept.len(),
                named.join(", ")
            );
            let cause = "the gateway never acts for them, whatever the KDC allows; these people cannot use Kerberos applications through it";
            let fix = "leave administrators out of account_bases; a mark that is not meant is taken away with: Set-ADUser <name> -AccountNotDelegated $false";
            check::UNTOUCHABLE.warning("account_bases", proof, mend(cause, fix))
        }
    }
}

/// How many accounts were looked at, and those the fence refuses for what they are.
async fn kept_out(held: &Held, mapping: &Mapping) -> Result<(usize, Vec<String>), ldap::Error> {
    const PROTECTED_USERS: u32 = 525;
    // The most that Active Directory gives in one answer (MaxPageSize).
    const MOST: u32 = 1000;
    let session = &held.session;
    let domain = session.read(&held.base, &["objectSid"]).await?;
    let domain = domain.and_then(|entry| entry.sid("objectSid"));
    let mut protected = None;
    if let Some(sid) = domain.and_then(|sid| format!("{sid}-{PROTECTED_USERS}").parse::<Sid>().ok())
    {
        let filter = Filter::equals_bytes(&"objectSid".parse()?, &sid.to_bytes());
        let found = find(session, &held.base, filter, &["1.1"], 1).await?;
        protected = found.into_iter().next().map(|group| group.dn.to_string());
    }
    let person = Filter::all(&[
        Filter::equals(&"objectCategory".parse()?, "person"),
        Filter::equals(&"objectClass".parse()?, "user"),
    ]);
    let (mut seen, mut kept) = (0, Vec::new());
    for base in &mapping.account_bases {
        let wanted = [
            "sAMAccountName",
            "userAccountControl",
            "adminCount",
            "memberOf",
        ];
        for entry in find(session, &base.parse()?, person.clone(), &wanted, MOST).await? {
            seen += 1;
            let name = entry.text("sAMAccountName").unwrap_or("?");
            let control = entry.number("userAccountControl").unwrap_or(0);
            if entry.number("adminCount").is_some_and(|count| count != 0) {
                kept.push(format!("{name} (privileged)"));
            } else if protected
                .as_ref()
                .is_some_and(|group| entry.has("memberOf", group))
            {
                kept.push(format!("{name} (Protected Users)"));
            } else if control & NOT_DELEGATED != 0 {
                kept.push(format!("{name} (sensitive)"));
            }
        }
    }
    Ok((seen, kept))
}
