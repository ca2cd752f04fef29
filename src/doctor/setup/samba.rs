//! The commands for Samba: a POSIX shell script, to be run as root on a domain controller. It may be run again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Backend;
use super::Delegation;
use super::Plan;
use super::either;
use super::unit_name;
use crate::ldap::Dn;

const USER: &str = "bf967aba-0de6-11d0-a285-00aa003049e2";
const GROUP: &str = "bf967a9c-0de6-11d0-a285-00aa003049e2";
const MEMBER: &str = "bf9679c0-0de6-11d0-a285-00aa003049e2";
const ADMIN_DESCRIPTION: &str = "bf967919-0de6-11d0-a285-00aa003049e2";
const EXTERNAL_OBJECT_ID: &str = "bd29bf90-66ad-40e1-887b-10df070419a6";

pub(super) fn script(plan: &Plan, delegation: Delegation) -> String {
    let account = quoted(&plan.account);
    let mut lines = vec![
        String::from("#!/bin/sh"),
        String::from(
            "# What Kerbgate needs in a Samba directory. Run as root on a domain controller, after reading.",
        ),
        String::from("# Another place: CONF=/path/smb.conf H=/path/private/sam.ldb sh this-script"),
        String::from("set -eu"),
        String::from("CONF=${CONF:-/etc/samba/smb.conf}"),
        String::from("H=${H:-/var/lib/samba/private/sam.ldb}"),
        String::from("umask 077"),
        String::new(),
        format!(
            "# 1. The gateway's account, {}@{}: AES keys only, a password that nobody knows",
            plan.account, plan.realm
        ),
        format!("samba-tool user show {account} -H \"$H\" -s \"$CONF\" >/dev/null 2>&1 || {{"),
        format!("  samba-tool user create {account} --random-password -H \"$H\" -s \"$CONF\""),
        format!("  samba-tool user setexpiry {account} --noexpiry -H \"$H\" -s \"$CONF\""),
        String::from("}"),
        format!(
            "dn=$(samba-tool user show {account} --attributes=dn -H \"$H\" -s \"$CONF\" | sed -n 's/^dn: //p')"
        ),
        String::from("ldbmodify -H \"$H\" <<EOF"),
        String::from("dn: $dn"),
        String::from("changetype: modify"),
        String::from("replace: msDS-SupportedEncryptionTypes"),
        String::from("msDS-SupportedEncryptionTypes: 24"),
        String::from("EOF"),
        String::from("# Only a password set after that has AES keys alone."),
        format!("samba-tool user setpassword {account} --random-password -H \"$H\" -s \"$CONF\""),
        String::from("# S4U2Self needs an SPN on the account; any unused host name will do."),
        format!(
            "samba-tool spn list {account} -H \"$H\" -s \"$CONF\" | sed 's/^[[:space:]]*//' | grep -qixF {} ||",
            quoted(&plan.own_spn)
        ),
        format!(
            "  samba-tool spn add {} {account} -H \"$H\" -s \"$CONF\"",
            quoted(&plan.own_spn)
        ),
        String::from("# Reading people's group memberships (tokenGroups):"),
        format!(
            "samba-tool group addmembers 'Windows Authorization Access Group' {account} -H \"$H\" -s \"$CONF\""
        ),
        String::from("# Carry this file to the gateway over a safe way, and delete the copy."),
        String::from("rm -f gateway.keytab"),
        format!("samba-tool domain exportkeytab gateway.keytab --principal={account} -s \"$CONF\""),
    ];
    lines.extend(units(plan));
    lines.extend(rights(plan, &account));
    for backend in &plan.backends {
        lines.extend(allowed(plan, backend, delegation));
    }
    lines.push(String::new());
    lines.push(String::from("# Then, on the gateway: kerbgate doctor"));
    lines.join("\n")
}

fn units(plan: &Plan) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        String::from("# 2. Where guests and their groups live"),
    ];
    for unit in plan.units() {
        let dn = quoted(&unit.to_string());
        lines.push(match unit_name(unit) {
            Some(_) => format!(
                "ldbsearch -H \"$H\" -s base -b {dn} dn >/dev/null 2>&1 || samba-tool ou create {dn} -H \"$H\" -s \"$CONF\""
            ),
            None => format!("# {unit} must be there already: it is no organizational unit"),
        });
    }
    for group in &plan.groups {
        let dn = quoted(&group.to_string());
        let ldif = [
            ldif("dn", &group.to_string()),
            String::from("objectClass: group"),
            ldif("sAMAccountName", group.leaf().unwrap_or_default()),
        ];
        lines.push(format!(
            "ldbsearch -H \"$H\" -s base -b {dn} dn >/dev/null 2>&1 || ldbadd -H \"$H\" <<'EOF'"
        ));
        lines.extend(ldif);
        lines.push(String::from("EOF"));
    }
    lines
}

/// RFC 2849: base64, so that no value can look like a line of its own.
fn ldif(name: &str, value: &str) -> String {
    format!("{name}:: {}", STANDARD.encode(value))
}

fn rights(plan: &Plan, account: &str) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        String::from("# 3. What the account may do there, and nowhere else"),
        format!(
            "SID=$(samba-tool user show {account} --attributes=objectSid -H \"$H\" -s \"$CONF\" | sed -n 's/^objectSid: //p')"
        ),
        String::from("test -n \"$SID\""),
    ];
    let grant = |unit: &Dn, ace: &str| {
        format!(
            "samba-tool dsacl set -H \"$H\" -s \"$CONF\" --objectdn={} --sddl=\"{ace}\" >/dev/null",
            quoted(&unit.to_string())
        )
    };
    let users = format!("(OA;CI;CCDC;{USER};;$SID)(OA;CIIO;GA;;{USER};$SID)");
    lines.extend(plan.user_units.iter().map(|unit| grant(unit, &users)));
    let made = if plan.makes_groups {
        format!("(OA;CI;CC;{GROUP};;$SID)")
    } else {
        String::new()
    };
    let members = format!("{made}(OA;CIIO;RPWP;{MEMBER};{GROUP};$SID)");
    lines.extend(plan.group_unit.iter().map(|unit| grant(unit, &members)));
    let attribute = if plan.anchor.eq_ignore_ascii_case("adminDescription") {
        ADMIN_DESCRIPTION
    } else {
        EXTERNAL_OBJECT_ID
    };
    let anchor = format!("(OA;CIIO;RPWP;{attribute};{USER};$SID)");
    lines.extend(plan.partner_units.iter().map(|unit| grant(unit, &anchor)));
    lines
}

fn allowed(plan: &Plan, backend: &Backend, delegation: Delegation) -> Vec<String> {
    let (account, spn) = (quoted(&plan.account), quoted(backend.spn.as_str()));
    let (base, filter) = (
        quoted(&plan.base.to_string()),
        quoted(backend.filter.as_str()),
    );
    let listed = quoted(&format!("msDS-AllowedToDelegateTo: {}", backend.spn));
    let resource = vec![
        format!(
            "backend=$(ldbsearch -H \"$H\" -b {base} {filter} sAMAccountName | sed -n 's/^sAMAccountName: //p')"
        ),
        format!(
            "test -n \"$backend\" || {{ echo {} >&2; exit 1; }}",
            quoted(&format!(
                "no account answers to {}: samba-tool spn add",
                backend.spn
            ))
        ),
        format!(
            "samba-tool delegation show \"$backend\" -H \"$H\" -s \"$CONF\" | grep -qixF \"msDS-AllowedToActOnBehalfOfOtherIdentity: $dn\" ||"
        ),
        format!(
            "  samba-tool delegation add-principal \"$backend\" {account} -H \"$H\" -s \"$CONF\""
        ),
    ];
    let classic = vec![
        format!(
            "samba-tool delegation show {account} -H \"$H\" -s \"$CONF\" | grep -qixF {listed} ||"
        ),
        format!("  samba-tool delegation add-service {account} {spn} -H \"$H\" -s \"$CONF\""),
        format!("samba-tool delegation for-any-protocol {account} on -H \"$H\" -s \"$CONF\""),
    ];
    either(backend, delegation, resource, classic)
}

/// One word for a POSIX shell (XCU 2.2.2): nothing between single quotes has a meaning.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
