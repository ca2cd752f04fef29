//! The commands for Windows: PowerShell, to be run as a domain administrator where the RSAT tools are. It may be run again.

use super::Backend;
use super::Delegation;
use super::Plan;
use super::either;
use super::unit_name;
use crate::ldap::Dn;

pub(super) fn script(plan: &Plan, delegation: Delegation) -> String {
    let account = quoted(&plan.account);
    let domain = quoted(&plan.realm.to_ascii_lowercase());
    let principal = quoted(&format!("{}@{}", plan.account, plan.realm));
    let mut lines = vec![
        String::from(
            "# What Kerbgate needs in Active Directory. Run as a domain administrator, after reading.",
        ),
        String::from(
            "# Needs the ActiveDirectory module, setspn, ktpass and dsacls (RSAT). No KDS root key and no managed account is needed.",
        ),
        String::from("$ErrorActionPreference = 'Stop'"),
        String::from("Import-Module ActiveDirectory"),
        format!("$domain = (Get-ADDomain -Identity {domain}).NetBIOSName"),
        format!("$gateway = \"$domain\\\" + {account}"),
        String::new(),
        format!(
            "# 1. The gateway's account, {}@{}: AES keys only, a password that nobody knows",
            plan.account, plan.realm
        ),
        format!(
            "if (-not (Get-ADObject -LDAPFilter {})) {{",
            quoted(&format!("(sAMAccountName={})", plan.account_in_filter()))
        ),
        String::from(
            "    $first = ConvertTo-SecureString ('aA1!' + [guid]::NewGuid() + [guid]::NewGuid()) -AsPlainText -Force",
        ),
        format!(
            "    New-ADUser -Name {account} -SamAccountName {account} -AccountPassword $first -Enabled $true -PasswordNeverExpires $true"
        ),
        String::from("}"),
        format!("Set-ADUser -Identity {account} -KerberosEncryptionType AES128,AES256"),
        String::from("# S4U2Self needs an SPN on the account; any unused host name will do."),
        format!("setspn -S {} {account}", quoted(&plan.own_spn)),
        String::from(
            "# Reading people's group memberships (tokenGroups): Windows Authorization Access Group, in every language.",
        ),
        String::from("$readers = Get-ADGroup -Identity 'S-1-5-32-560'"),
        format!(
            "if ((Get-ADUser -Identity {account} -Properties MemberOf).MemberOf -notcontains $readers.DistinguishedName) {{ Add-ADGroupMember -Identity $readers -Members {account} }}"
        ),
        String::from(
            "# A new random password, after the encryption types, and the keytab. Carry it to the gateway over a safe way, delete the copy.",
        ),
        format!(
            "ktpass /princ {principal} /mapuser $gateway /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL +rndPass /out gateway.keytab"
        ),
        String::new(),
        String::from("# 2. Where guests and their groups live"),
    ];
    lines.extend(plan.units().into_iter().map(unit));
    lines.extend(plan.groups.iter().map(group));
    lines.push(String::new());
    lines.push(String::from(
        "# 3. What the account may do there, and nowhere else",
    ));
    for unit in &plan.user_units {
        let dn = quoted(&unit.to_string());
        lines.push(format!("dsacls {dn} /I:T /G ($gateway + ':CCDC;user')"));
        lines.push(format!("dsacls {dn} /I:S /G ($gateway + ':GA;;user')"));
    }
    lines.extend(group_rights(plan));
    for unit in &plan.partner_units {
        let (dn, anchor) = (quoted(&unit.to_string()), &plan.anchor);
        lines.push(format!(
            "dsacls {dn} /I:S /G ($gateway + ':RPWP;{anchor};user')"
        ));
    }
    for backend in &plan.backends {
        lines.extend(allowed(&account, backend, delegation));
    }
    lines.push(String::new());
    lines.push(String::from("# Then, on the gateway: kerbgate doctor"));
    lines.join("\n")
}

fn group_rights(plan: &Plan) -> Vec<String> {
    let Some(unit) = &plan.group_unit else {
        return Vec::new();
    };
    let dn = quoted(&unit.to_string());
    let mut lines = vec![format!(
        "dsacls {dn} /I:S /G ($gateway + ':RPWP;member;group')"
    )];
    if plan.makes_groups {
        lines.push(format!("dsacls {dn} /I:T /G ($gateway + ':CC;group')"));
    }
    lines
}

impl Plan {
    /// Escaped for a filter (RFC 4515 3): `(` and `)` may stand in an account's name.
    fn account_in_filter(&self) -> String {
        let mut text = String::new();
        for c in self.account.chars() {
            if "()*\\\0".contains(c) {
                text.push_str(&format!("\\{:02x}", u32::from(c)));
            } else {
                text.push(c);
            }
        }
        text
    }
}

fn unit(dn: &Dn) -> String {
    let (Some(name), Some(parent)) = (unit_name(dn), dn.parent()) else {
        return format!("# {dn} must be there already: it is no organizational unit");
    };
    format!(
        "try {{ $null = Get-ADOrganizationalUnit -Identity {} }} catch [Microsoft.ActiveDirectory.Management.ADIdentityNotFoundException] {{ New-ADOrganizationalUnit -Name {} -Path {} }}",
        quoted(&dn.to_string()),
        quoted(name),
        quoted(&parent.to_string())
    )
}

fn group(dn: &Dn) -> String {
    let Some(parent) = dn.parent() else {
        return format!("# {dn} must be there already");
    };
    format!(
        "try {{ $null = Get-ADGroup -Identity {} }} catch [Microsoft.ActiveDirectory.Management.ADIdentityNotFoundException] {{ New-ADGroup -Name {} -GroupScope Global -Path {} }}",
        quoted(&dn.to_string()),
        quoted(dn.leaf().unwrap_or_default()),
        quoted(&parent.to_string())
    )
}

fn allowed(account: &str, backend: &Backend, delegation: Delegation) -> Vec<String> {
    let spn = quoted(backend.spn.as_str());
    let resource = vec![
        format!(
            "$backend = @(Get-ADObject -LDAPFilter {})",
            quoted(backend.filter.as_str())
        ),
        format!(
            "if ($backend.Count -ne 1) {{ throw {} }}",
            quoted(&format!(
                "not exactly one account answers to {}: setspn -S",
                backend.spn
            ))
        ),
        String::from(
            "$verb = if ($backend[0].ObjectClass -eq 'computer') { 'ADComputer' } else { 'ADUser' }",
        ),
        String::from(
            "$allowed = @((& \"Get-$verb\" $backend[0] -Properties PrincipalsAllowedToDelegateToAccount).PrincipalsAllowedToDelegateToAccount)",
        ),
        format!("$allowed += (Get-ADUser -Identity {account}).DistinguishedName"),
        String::from(
            "& \"Set-$verb\" $backend[0] -PrincipalsAllowedToDelegateToAccount ($allowed | Select-Object -Unique)",
        ),
    ];
    let classic = vec![
        format!(
            "if ((Get-ADUser -Identity {account} -Properties msDS-AllowedToDelegateTo).'msDS-AllowedToDelegateTo' -notcontains {spn}) {{ Set-ADUser -Identity {account} -Add @{{'msDS-AllowedToDelegateTo' = {spn}}} }}"
        ),
        format!("Set-ADAccountControl -Identity {account} -TrustedToAuthForDelegation $true"),
    ];
    either(backend, delegation, resource, classic)
}

/// A literal string of PowerShell: everything in it stands for itself, but PowerShell takes four typographic quotes for the
/// plain one (`[char]::IsSingleQuote` of its tokenizer), so each is doubled.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}
