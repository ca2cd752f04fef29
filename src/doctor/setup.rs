//! The exact commands that make the directory ready: units, groups, the gateway's account, its rights, SPN, delegation.
//!
//! In: the configuration. Out: a script for an administrator to read and run, in PowerShell or for Samba. Pure: nothing is asked and
//! nothing changed here. No secret is in it: passwords are random and nobody's, the keytab is made where the script runs.
//!
//! # Why like this
//! - The rights are the least that was found to be enough (make and delete users in two units, all of those users, the
//!   members of groups in a third, and to make groups there if the configuration lets it); the gateway's account is in no administrative group.
//! - SECURITY: an administrator runs this as it is. Every value is quoted for its shell, and one with control characters,
//!   or such as turn the text around, is refused: what is read must be what is run.

mod samba;
mod windows;

use clap::ValueEnum;

use crate::config::Config;
use crate::config::sections::GroupMapping;
use crate::ldap;
use crate::ldap::Dn;
use crate::ldap::Filter;
use crate::mapping::names::is_hidden;
use crate::model::names::Spn;

use super::delegation::spns;

/// For which kind of directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// Windows: PowerShell with the ActiveDirectory module, setspn, ktpass, dsacls.
    Windows,
    /// Samba: samba-tool and the ldb tools, on a domain controller.
    Samba,
}

/// How the gateway may delegate to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Delegation {
    /// By the backend's own list (RBCD): no right over the domain is needed, and protocol transition is included.
    ResourceBased,
    /// By the gateway's list (KCD), with protocol transition.
    Classic,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// For which kind of directory.
    pub platform: Platform,
    /// Which kind of delegation is set up; the other one stands beside it as a comment.
    pub delegation: Delegation,
    /// Only what this application needs; absent = all.
    pub app: Option<&'a str>,
}

/// Why there are no commands.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A section that says what to set up is missing.
    #[error("there is no [{0}] section: nothing to set up in a directory")]
    Missing(&'static str),
    /// A value that cannot stand in a command.
    #[error("{0:?} has characters that cannot be seen; no command is printed with it")]
    Hidden(String),
    /// A value that is no name.
    #[error(transparent)]
    Name(#[from] ldap::Error),
    /// An application that is not configured.
    #[error("there is no application {0:?}")]
    NoApplication(String),
}

/// The commands for `config`.
///
/// # Errors
/// A section is missing, or a value cannot be printed safely.
pub fn commands(config: &Config, wanted: &Wanted<'_>) -> Result<String, Error> {
    let plan = Plan::of(config, wanted)?;
    Ok(match wanted.platform {
        Platform::Windows => windows::script(&plan, wanted.delegation),
        Platform::Samba => samba::script(&plan, wanted.delegation),
    })
}

/// What has to be there.
struct Plan {
    /// The gateway's account.
    account: String,
    realm: String,
    base: Dn,
    /// Where users are made and deleted.
    user_units: Vec<Dn>,
    /// Where groups' members are written.
    group_unit: Option<Dn>,
    groups: Vec<Dn>,
    /// Whether the gateway makes groups there itself.
    makes_groups: bool,
    /// What S4U2Self needs an SPN for; the host's own name will do.
    own_spn: String,
    backends: Vec<Backend>,
    /// Where partners' accounts lie: of those there the anchor is written, and nothing else.
    partner_units: Vec<Dn>,
    /// The anchor's name.
    anchor: String,
}

/// A service that the gateway goes to in people's names.
struct Backend {
    spn: Spn,
    /// Finds the account that answers to it.
    filter: Filter,
}

impl Plan {
    fn of(config: &Config, wanted: &Wanted<'_>) -> Result<Self, Error> {
        let directory = config
            .directory
            .as_ref()
            .ok_or(Error::Missing("directory"))?;
        let mapping = config.mapping.as_ref().ok_or(Error::Missing("mapping"))?;
        let kerberos = config.kerberos.as_ref().ok_or(Error::Missing("kerberos"))?;
        let mut all = Vec::new();
        let mut known = wanted.app.is_none();
        for app in &config.applications {
            if wanted.app.is_none_or(|id| app.id.as_str() == id) {
                known = true;
                all.extend(spns(app));
            }
        }
        if let (false, Some(app)) = (known, wanted.app) {
            return Err(Error::NoApplication(app.to_owned()));
        }
        all.sort();
        all.dedup();
        let attribute = "servicePrincipalName".parse()?;
        let backends = all
            .into_iter()
            .map(|spn| Backend {
                filter: Filter::equals(&attribute, spn.as_str()),
                spn,
            })
            .collect();
        let made = |group: &&GroupMapping| config.guests_sync.memberships && group.create;
        let others = mapping.groups.iter().filter(|group| !made(group));
        let mut groups: Vec<&str> = others.map(|group| group.ad_group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        let names = |texts: &mut dyn Iterator<Item = &str>| -> Result<Vec<Dn>, Error> {
            texts.map(visible_name).collect()
        };
        let partners = config.partners_sync.iter().flat_map(|sync| &sync.bases);
        let units = mapping.guests_ou.iter().chain(&mapping.disabled_ou);
        Ok(Self {
            account: visible(kerberos.principal.name())?,
            realm: visible(directory.realm.as_str())?,
            base: visible_name(&directory.base_dn)?,
            user_units: names(&mut units.map(String::as_str))?,
            group_unit: mapping.groups_ou.as_deref().map(visible_name).transpose()?,
            groups: names(&mut groups.into_iter())?,
            makes_groups: mapping.groups.iter().any(|group| made(&group)),
            own_spn: visible(&format!("HTTP/{}", config.gateway.sign_in_host))?,
            backends,
            partner_units: names(&mut partners.into_iter().map(String::as_str))?,
            anchor: visible(&mapping.anchor_attribute)?,
        })
    }

    /// Every unit, those above before those below.
    fn units(&self) -> Vec<&Dn> {
        let all = self.user_units.iter().chain(&self.group_unit);
        let mut all: Vec<&Dn> = all.collect();
        all.sort_by_key(|unit| std::iter::successors(Some((*unit).clone()), Dn::parent).count());
        all
    }
}

fn visible(text: &str) -> Result<String, Error> {
    if text.chars().any(is_hidden) {
        return Err(Error::Hidden(text.to_owned()));
    }
    Ok(text.to_owned())
}

fn visible_name(text: &str) -> Result<Dn, Error> {
    Ok(visible(text)?.parse()?)
}

/// A unit's own name, if it is an organizational unit and so can be made here.
fn unit_name(dn: &Dn) -> Option<&str> {
    let kind = dn.rdn()?;
    kind.get(..3)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("OU="))
        .then(|| dn.leaf())?
}

/// The part that sets the delegation to `backend`, and as a comment the other way to do it.
fn either(
    backend: &Backend,
    delegation: Delegation,
    resource: Vec<String>,
    classic: Vec<String>,
) -> Vec<String> {
    let ((name, active), (other_name, other)) = match delegation {
        Delegation::ResourceBased => (("resource-based", resource), ("classic", classic)),
        Delegation::Classic => (("classic", classic), ("resource-based", resource)),
    };
    let mut lines = vec![
        String::new(),
        format!("# 4. Delegation to {}, {name}", backend.spn),
    ];
    lines.extend(active);
    lines.push(format!("# or {other_name}:"));
    lines.extend(other.into_iter().map(|line| format!("#   {line}")));
    lines
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn plan(group: &str) -> Plan {
        Plan {
            account: String::from("svc-gateway"),
            realm: String::from("CORP.EXAMPLE.COM"),
            base: "DC=corp,DC=example,DC=com".parse().unwrap(),
            user_units: vec!["OU=Guests,DC=corp,DC=example,DC=com".parse().unwrap()],
            group_unit: Some(
                "OU=Gäste's $(x) `id`,DC=corp,DC=example,DC=com"
                    .parse()
                    .unwrap(),
            ),
            groups: vec![
                "OU=Groups,DC=corp,DC=example,DC=com"
                    .parse::<Dn>()
                    .unwrap()
                    .child("CN", group),
            ],
            makes_groups: true,
            own_spn: String::from("HTTP/login.example.com"),
            backends: vec![Backend {
                spn: "HTTP/intranet.corp.example.com".parse().unwrap(),
                filter: Filter::equals(
                    &"servicePrincipalName".parse().unwrap(),
                    "HTTP/intranet.corp.example.com",
                ),
            }],
            partner_units: vec!["OU=Partners,DC=corp,DC=example,DC=com".parse().unwrap()],
            anchor: String::from("msDS-ExternalDirectoryObjectId"),
        }
    }

    #[test]
    fn hidden_characters_are_refused() {
        for bad in ["OU=a\nrm -rf /,DC=x", "OU=\u{202e}x,DC=y", "OU=\u{7f},DC=y"] {
            assert!(
                matches!(visible_name(bad), Err(Error::Hidden(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn both_kinds_of_delegation_are_there_and_one_is_a_comment() {
        for (delegation, active, other) in [
            (Delegation::ResourceBased, "add-principal", "add-service"),
            (Delegation::Classic, "add-service", "add-principal"),
        ] {
            let script = samba::script(&plan("a"), delegation);
            let line = |text: &str| {
                script
                    .lines()
                    .find(|l| l.contains(text))
                    .unwrap()
                    .to_owned()
            };
            assert!(!line(active).starts_with('#'), "{script}");
            assert!(line(other).starts_with('#'), "{script}");
        }
        let script = windows::script(&plan("a"), Delegation::Classic);
        let line = |text: &str| {
            script
                .lines()
                .find(|l| l.contains(text))
                .unwrap()
                .to_owned()
        };
        assert!(!line("msDS-AllowedToDelegateTo").starts_with('#'));
        assert!(line("-PrincipalsAllowedToDelegateToAccount ($allowed").starts_with('#'));
    }

    proptest! {
        /// What a POSIX shell makes of the quoted text is the text.
        #[test]
        fn a_shell_reads_what_was_meant(text in "[^\u{0}]{0,40}") {
            let echoed = Command::new("sh")
                .args(["-c", &format!("printf %s {}", samba::quoted(&text))])
                .output()
                .unwrap();
            prop_assert_eq!(String::from_utf8(echoed.stdout).unwrap(), text);
        }

        /// PowerShell ends a literal at any of five characters, unless it is there twice.
        #[test]
        fn a_literal_of_powershell_ends_at_its_end(text in "[ -~‘’‚‛]{0,40}") {
            let quoted = windows::quoted(&text);
            let inside: Vec<char> = quoted[1..quoted.len() - 1].chars().collect();
            let mut back = String::new();
            let mut at = 0;
            while at < inside.len() {
                let c = inside[at];
                if "'‘’‚‛".contains(c) {
                    prop_assert_eq!(inside.get(at + 1), Some(&c));
                    at += 1;
                }
                back.push(c);
                at += 1;
            }
            prop_assert_eq!(back, text);
        }

        #[test]
        fn a_group_of_any_name_leaves_the_script_whole(name in "[ -~]{1,30}") {
            let script = samba::script(&plan(&name), Delegation::Classic);
            let checked = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
            prop_assert!(checked.status.success(), "{}\n{}", String::from_utf8_lossy(&checked.stderr), script);
        }
    }
}
