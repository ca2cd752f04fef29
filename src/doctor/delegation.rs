//! Checks of each Kerberos application in the directory: its SPN, and whether the gateway may go there for
//! others, by its own list (classic) or by the backend's (resource-based).

use std::sync::Arc;

use crate::ldap;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::model::application::Application;
use crate::model::application::Sso;
use crate::model::names::Spn;

use super::acl::Trustees;
use super::check;
use super::check::mend;
use super::directory::ANY_PROTOCOL;
use super::directory::Held;
use super::report::Finding;
use super::world::World;

const TRUSTEES: &str = "msDS-AllowedToActOnBehalfOfOtherIdentity";

/// The application's SPNs, each once.
pub(super) fn spns(app: &Application) -> Vec<Spn> {
    let mut spns = match &app.sso {
        Sso::Kerberos(kerberos) => kerberos.spns.clone(),
        Sso::Headers(_) | Sso::None => Vec::new(),
    };
    spns.sort();
    spns.dedup();
    spns
}

pub(super) async fn examine(
    world: &World,
    held: Option<&Held>,
    app: &Arc<Application>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for spn in spns(app) {
        let subject = format!("{}: {spn}", app.id);
        let Some(held) = held else {
            let why = "the directory cannot be asked (check 12)";
            let all = [check::BACKEND_SPN, check::DELEGATION, check::TRANSITION];
            findings.extend(all.into_iter().map(|check| check.skipped(&subject, why)));
            continue;
        };
        let (finding, owner) = match owners(held, &spn).await {
            Ok(found) => owner(&subject, &spn, found),
            Err(error) => {
                let mend = mend("the directory refuses the search", "");
                (
                    check::BACKEND_SPN.fault(&subject, error.to_string(), mend),
                    None,
                )
            }
        };
        findings.push(finding);
        match owner {
            Some(owner) => findings.extend(delegation(world, held, &subject, &spn, &owner)),
            None => {
                let why = "the SPN has no single owner (check 23)";
                let both = [check::DELEGATION, check::TRANSITION];
                findings.extend(both.into_iter().map(|check| check.skipped(&subject, why)));
            }
        }
    }
    findings
}

/// Every account of the domain that answers to the SPN, or to HOST/ on the same host, which stands for HTTP/ too
/// (MS-ADTS 6.1.1.2.4.1, `sPNMappings`).
async fn owners(held: &Held, spn: &Spn) -> Result<Vec<Entry>, ldap::Error> {
    let name = "servicePrincipalName".parse()?;
    let host = format!("HOST/{}", spn.host());
    let search = Search {
        base: held.base.clone(),
        scope: Scope::Subtree,
        filter: Filter::any(&[
            Filter::equals(&name, spn.as_str()),
            Filter::equals(&name, &host),
        ]),
        attributes: [
            "sAMAccountName",
            "servicePrincipalName",
            "userAccountControl",
            TRUSTEES,
        ]
        .map(String::from)
        .to_vec(),
        limit: 10,
    };
    Ok(held.session.search(&search).await?.entries)
}

fn sam(entry: &Entry) -> &str {
    entry.text("sAMAccountName").unwrap_or("<account>")
}

/// The one account whose key the ticket will be made for.
fn owner(subject: &str, spn: &Spn, found: Vec<Entry>) -> (Finding, Option<Entry>) {
    let (exact, by_host): (Vec<Entry>, Vec<Entry>) = found
        .into_iter()
        .partition(|entry| entry.has("servicePrincipalName", spn.as_str()));
    let class = spn.as_str().split('/').next().unwrap_or_default();
    // HOST/ stands for HTTP/ and others, not for every class.
    let by_host = if class.eq_ignore_ascii_case("HTTP") {
        by_host
    } else {
        Vec::new()
    };
    let (found, how) = if exact.is_empty() {
        (by_host, " by HOST/")
    } else {
        (exact, "")
    };
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(sam).collect();
        let remove = names
            .iter()
            .map(|name| format!("setspn -D {spn} {name}"))
            .collect::<Vec<_>>();
        let fix = format!(
            "setspn -X        (lists duplicates)\nkeep the account the service runs as, remove the other:\n{}\nsamba-tool spn delete {spn} <account>        (Samba)",
            remove.join("\n")
        );
        let cause = "two accounts answer to one SPN: the KDC gives no ticket, or one the backend cannot open";
        return (
            check::BACKEND_SPN.fault(subject, names.join(" and "), mend(cause, fix)),
            None,
        );
    }
    match found.into_iter().next() {
        Some(entry) => {
            let proof = format!(
                "registered once in the domain, on {} ({}){how}",
                sam(&entry),
                entry.dn
            );
            (check::BACKEND_SPN.ok(subject, proof), Some(entry))
        }
        None => {
            let fix = format!(
                "setspn -S {spn} <account the service runs as>\nsamba-tool spn add {spn} <account>        (Samba)\nor correct sso.kerberos.spn: setspn -Q */{}",
                spn.host()
            );
            let cause = "no account answers to the SPN, so the KDC gives no ticket for it";
            (
                check::BACKEND_SPN.fault(subject, "on no account of the domain", mend(cause, fix)),
                None,
            )
        }
    }
}

fn delegation(world: &World, held: &Held, subject: &str, spn: &Spn, owner: &Entry) -> [Finding; 2] {
    let skipped =
        |why: &str| [check::DELEGATION, check::TRANSITION].map(|check| check.skipped(subject, why));
    let Some(own) = &held.gateway else {
        return skipped("the gateway's account is not in the directory");
    };
    let classic = own.entry.has("msDS-AllowedToDelegateTo", spn.as_str());
    let any_protocol = own.entry.number("userAccountControl").unwrap_or(0) & ANY_PROTOCOL != 0;
    let descriptor = owner.values(TRUSTEES).first();
    let trustees = descriptor.map(|bytes| Trustees::read(bytes));
    let resource = matches!(&trustees, Some(Some(trustees)) if trustees.allow(&own.sids));
    let (gateway, backend) = (world.gateway(), sam(owner));
    if resource {
        let proof = format!("resource-based: {TRUSTEES} of {backend} allows {gateway}");
        let proof = if classic {
            format!("{proof}; classic as well")
        } else {
            proof
        };
        return [
            check::DELEGATION.ok(subject, proof),
            check::TRANSITION.skipped(subject, "resource-based delegation does not need it"),
        ];
    }
    if classic {
        let proof = format!("classic: msDS-AllowedToDelegateTo of {gateway} has {spn}");
        return [
            check::DELEGATION.ok(subject, proof),
            transition(subject, &gateway, any_protocol),
        ];
    }
    let proof = match &trustees {
        None => {
            format!("not in msDS-AllowedToDelegateTo of {gateway}; {backend} has no {TRUSTEES}")
        }
        Some(Some(_)) => format!(
            "not in msDS-AllowedToDelegateTo of {gateway}; {TRUSTEES} of {backend} names others"
        ),
        Some(None) => format!(
            "not in msDS-AllowedToDelegateTo of {gateway}; {TRUSTEES} of {backend} cannot be read"
        ),
    };
    let fix = format!(
        "resource-based (recommended; write access to {backend} is enough):\n\
         Set-ADUser {backend} -PrincipalsAllowedToDelegateToAccount (Get-ADUser {gateway})        (replaces the list; Set-ADComputer for a computer)\n\
         samba-tool delegation add-principal {backend} {gateway}        (Samba)\n\
         or classic:\n\
         Set-ADUser {gateway} -Add @{{'msDS-AllowedToDelegateTo'='{spn}'}}; Set-ADAccountControl {gateway} -TrustedToAuthForDelegation $true\n\
         samba-tool delegation add-service {gateway} {spn}; samba-tool delegation for-any-protocol {gateway} on        (Samba)"
    );
    [
        check::DELEGATION.fault(
            subject,
            proof,
            mend(
                "the KDC will refuse: the gateway may not delegate to this service",
                fix,
            ),
        ),
        check::TRANSITION.skipped(subject, "there is no delegation to speak of"),
    ]
}

fn transition(subject: &str, gateway: &str, any_protocol: bool) -> Finding {
    if any_protocol {
        return check::TRANSITION.ok(subject, "\"use any authentication protocol\" is set");
    }
    let fix = format!(
        "Set-ADAccountControl {gateway} -TrustedToAuthForDelegation $true\nsamba-tool delegation for-any-protocol {gateway} on        (Samba)"
    );
    let cause =
        "\"use Kerberos only\": tickets for people who signed in with Entra cannot be passed on";
    check::TRANSITION.fault(
        subject,
        format!("userAccountControl of {gateway} lacks 0x1000000"),
        mend(cause, fix),
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn account(name: &str, spns: &[&str]) -> Entry {
        let dn = format!("CN={name},DC=contoso,DC=test").parse().unwrap();
        let spns: Vec<&[u8]> = spns.iter().map(|spn| spn.as_bytes()).collect();
        Entry::from_parts(
            dn,
            &[
                ("sAMAccountName", &[name.as_bytes()]),
                ("servicePrincipalName", &spns),
            ],
        )
    }

    #[test]
    fn an_spn_belongs_to_one_account_or_to_none() {
        let spn: Spn = "HTTP/a.contoso.test".parse().unwrap();
        let one = || account("svc-a", &["http/A.contoso.test"]);
        let host = || account("A$", &["HOST/a.contoso.test"]);
        let owner_of = |found| owner("a", &spn, found);
        for (found, state, name) in [
            (vec![one()], State::Ok, Some("svc-a")),
            (vec![host()], State::Ok, Some("A$")),
            (vec![host(), one()], State::Ok, Some("svc-a")),
            (
                vec![one(), account("svc-b", &["HTTP/a.contoso.test"])],
                State::Fault,
                None,
            ),
            (vec![], State::Fault, None),
        ] {
            let (finding, entry) = owner_of(found);
            assert_eq!(finding.state, state);
            assert_eq!(entry.as_ref().map(sam), name);
        }
        let other: Spn = "MSSQLSvc/a.contoso.test".parse().unwrap();
        assert_eq!(owner("a", &other, vec![host()]).0.state, State::Fault);
    }
}
