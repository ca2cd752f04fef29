//! From what a token said to what to look for: pure, so that every claim set can be put in a table.

use crate::ldap::Filter;
use crate::mapping::settings::Settings;
use crate::model::claims::Claims;
use crate::model::names::PersonId;
use crate::model::names::Sid;

/// `User_<oid>`: the form that Entra Cloud Sync writes, and that Entra Connect leaves alone.
#[must_use]
pub fn anchor_value(person: PersonId) -> String {
    format!("User_{}", person.oid)
}

/// Whether `value` anchors an object to `person`.
#[must_use]
pub fn is_anchor_of(value: &str, person: PersonId) -> bool {
    value.eq_ignore_ascii_case(&anchor_value(person))
}

/// Rule 1: the account anchored to the person.
#[must_use]
pub fn by_anchor(settings: &Settings, claims: &Claims) -> Filter {
    Filter::equals(&settings.anchor, &anchor_value(claims.person))
}

/// Rule 2: the account of a synced person, whose SID the issuer sends.
///
/// # Errors
/// Never in practice: the attribute's name is a constant.
pub fn by_sid(sid: &Sid) -> Result<Filter, crate::ldap::Error> {
    Ok(Filter::equals_bytes(&"objectSid".parse()?, &sid.to_bytes()))
}

/// Rule 3: an account in the guests' OU that MIM (`cn` = oid) or Microsoft's script (UPN) made.
///
/// # Errors
/// Never in practice: the attributes' names are constants.
pub fn by_predecessor(claims: &Claims) -> Result<Filter, crate::ldap::Error> {
    let cn = Filter::equals(&"cn".parse()?, &claims.person.oid.to_string());
    let Some(upn) = guest_upn(claims) else {
        return Ok(cn);
    };
    let upn = Filter::equals(&"userPrincipalName".parse()?, upn);
    Ok(Filter::any(&[cn, upn]))
}

/// The cloud UPN of a guest.
///
/// SECURITY: only the form that the resource tenant makes by itself. Any other UPN a person may carry could be
/// one that somebody chose, and would then choose the account.
#[must_use]
pub fn guest_upn(claims: &Claims) -> Option<&str> {
    claims.upn.as_deref().filter(|upn| is_guest_upn(upn))
}

/// Whether `upn` has the form that a resource tenant gives its guests.
#[must_use]
pub fn is_guest_upn(upn: &str) -> bool {
    upn.to_ascii_uppercase().contains("#EXT#@") && upn.len() <= 1024
}

/// Whether the person may get a shadow account at all: those at home elsewhere, not employees.
#[must_use]
pub fn may_have_shadow(claims: &Claims) -> bool {
    // An account on premises exists or is missing; a second one would be somebody else.
    claims.onprem_sid.is_none() && (claims.is_external() || claims.is_guest())
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::mapping::settings::tests::settings;
    use crate::model::claims::Groups;
    use crate::model::claims::Home;

    pub(in crate::mapping) fn guest(oid: u128) -> Claims {
        Claims {
            person: PersonId {
                tid: Uuid::parse_str("aaaaaaaa-0000-4000-8000-00000000000a").unwrap(),
                oid: Uuid::from_u128(oid),
            },
            home: Home::Provider("mail".into()),
            guest: Some(true),
            display_name: Some("Jane Guest".into()),
            given_name: None,
            family_name: None,
            email: Some("jane@fabrikam.example".into()),
            upn: None,
            preferred_username: None,
            roles: Vec::new(),
            groups: Groups::Listed(Vec::new()),
            onprem_sid: None,
            session_id: None,
            login_hint: None,
        }
    }

    #[test]
    fn the_anchor_is_the_only_key_of_a_person() {
        let jane = guest(1);
        let mut renamed = jane.clone();
        renamed.upn = Some("*)(objectClass=*".into());
        renamed.email = Some("ceo@contoso.example".into());
        assert_eq!(
            by_anchor(&settings(), &jane),
            by_anchor(&settings(), &renamed)
        );
        assert_eq!(
            by_anchor(&settings(), &jane).as_str(),
            "(msDS-ExternalDirectoryObjectId=User_00000000-0000-0000-0000-000000000001)"
        );
        assert!(is_anchor_of(
            "user_00000000-0000-0000-0000-000000000001",
            jane.person
        ));
        assert!(!is_anchor_of(
            "User_00000000-0000-0000-0000-000000000001x",
            jane.person
        ));
    }

    #[test]
    fn only_the_tenants_own_form_of_upn_is_adopted() {
        let mut jane = guest(1);
        for chosen in ["ceo@contoso.test", "x", "", "jane#EXT#contoso"] {
            jane.upn = Some(chosen.into());
            assert_eq!(guest_upn(&jane), None, "{chosen}");
        }
        jane.upn = Some("jane_fabrikam.com#EXT#@contoso.onmicrosoft.com".into());
        assert_eq!(
            by_predecessor(&jane).unwrap().as_str(),
            "(|(cn=00000000-0000-0000-0000-000000000001)(userPrincipalName=jane_fabrikam.com\\23EXT\\23@contoso.onmicrosoft.com))"
        );
    }

    #[test]
    fn employees_get_no_shadow() {
        let mut person = guest(1);
        assert!(may_have_shadow(&person));
        person.onprem_sid = Some("S-1-5-21-1-2-3-1104".parse().unwrap());
        assert!(
            !may_have_shadow(&person),
            "a guest whose account lives on premises"
        );
        person.onprem_sid = None;
        person.home = Home::Own;
        person.guest = Some(false);
        assert!(!may_have_shadow(&person));
        person.home = Home::Tenant(Uuid::nil());
        assert!(may_have_shadow(&person), "an external member");
    }
}
