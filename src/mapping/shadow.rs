//! What a new shadow account holds: the same whether a visitor waits for it or a synchronization makes it ahead.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use super::names;
use super::settings::Settings;
use super::settings::UpnRule;
use crate::ldap;
use crate::ldap::Attribute;
use crate::ldap::Change;
use crate::ldap::Entry;
use crate::model::claims::Claims;
use crate::model::claims::Home;
use crate::model::names::PersonId;

const DONT_EXPIRE_PASSWORD: i64 = 0x1_0000;
const SMARTCARD_REQUIRED: i64 = 0x4_0000;
/// Normal account, smart card required, password never expires: nobody signs in by password, and a domain at
/// functional level 2016 does not call the password expired at S4U2Proxy.
pub const SHADOW_CONTROL: i64 = 0x200 | DONT_EXPIRE_PASSWORD | SMARTCARD_REQUIRED;

/// What an LDAP add takes.
pub type Attributes = Vec<(Attribute, Vec<Vec<u8>>)>;

/// An attribute whose value comes from the cloud and may change there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Flow {
    /// `userPrincipalName`.
    UserPrincipalName,
    /// `displayName`.
    DisplayName,
    /// `givenName`.
    GivenName,
    /// `sn`.
    Sn,
    /// `mail`.
    Mail,
    /// `company`.
    Company,
    /// `mobile`.
    Mobile,
    /// `employeeType`.
    EmployeeType,
}

impl Flow {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::UserPrincipalName,
        Self::DisplayName,
        Self::GivenName,
        Self::Sn,
        Self::Mail,
        Self::Company,
        Self::Mobile,
        Self::EmployeeType,
    ];

    /// The attribute's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserPrincipalName => "userPrincipalName",
            Self::DisplayName => "displayName",
            Self::GivenName => "givenName",
            Self::Sn => "sn",
            Self::Mail => "mail",
            Self::Company => "company",
            Self::Mobile => "mobile",
            Self::EmployeeType => "employeeType",
        }
    }

    /// Most UTF-16 units (MS-ADA: rangeUpper; of the UPN less, see [`names::usable_upn`]).
    const fn longest(self) -> usize {
        match self {
            Self::GivenName | Self::Sn | Self::Company | Self::Mobile => 64,
            Self::UserPrincipalName | Self::DisplayName | Self::Mail | Self::EmployeeType => 256,
        }
    }

    /// `value` as the directory takes it; `None` when nothing is left of it.
    #[must_use]
    pub fn fit(self, value: &str) -> Option<String> {
        names::clip(value, self.longest())
    }
}

/// Values of an account, empty ones left out.
pub type Values = BTreeMap<Flow, String>;

/// What a token (or what stands for one) says of the values that may change. The `userPrincipalName` is always among them.
#[must_use]
pub fn values(settings: &Settings, sam: &str, claims: &Claims) -> Values {
    let realm = settings.realm.as_str().to_ascii_lowercase();
    let upn = match &settings.upn {
        UpnRule::CloudUpn => names::usable_upn(claims).map(String::from),
        UpnRule::Suffix(suffix) => Some(format!("{sam}@{suffix}")),
    };
    let company = match &claims.home {
        Home::Own => None,
        Home::Tenant(tenant) => Some(tenant.to_string()),
        Home::Provider(provider) => Some(provider.clone()),
    };
    let told = [
        (Flow::DisplayName, Some(claims.shown_name())),
        (Flow::GivenName, claims.given_name.clone()),
        (Flow::Sn, claims.family_name.clone()),
        (Flow::Mail, claims.email.clone()),
        (Flow::Company, company),
    ];
    let fitting = told
        .into_iter()
        .filter_map(|(flow, value)| Some((flow, flow.fit(&value?)?)));
    let mut values: Values = fitting.collect();
    let upn = upn.unwrap_or_else(|| format!("{sam}@{realm}"));
    values.insert(Flow::UserPrincipalName, upn);
    values
}

/// A whole new account: `values`, and what every shadow account has.
///
/// # Errors
/// The system gives no random bytes.
pub fn attributes(
    settings: &Settings,
    person: PersonId,
    sam: &str,
    values: &Values,
) -> Result<Attributes, ldap::Error> {
    let anchor = super::rules::anchor_value(person);
    let required = [
        ("objectClass", String::from("user")),
        ("sAMAccountName", sam.to_owned()),
        ("userAccountControl", SHADOW_CONTROL.to_string()),
        (
            "description",
            String::from("Shadow account of an Entra guest, kept by Kerbgate"),
        ),
        ("adminDescription", anchor.clone()),
    ];
    let mut attributes: Attributes = Vec::new();
    for (name, value) in required {
        attributes.push((name.parse()?, vec![value.into_bytes()]));
    }
    for (flow, value) in values {
        attributes.push((flow.as_str().parse()?, vec![value.clone().into_bytes()]));
    }
    if settings.anchor.as_str() != "adminDescription" {
        attributes.push((settings.anchor.clone(), vec![anchor.into_bytes()]));
    }
    attributes.push(("unicodePwd".parse()?, vec![random_password()?]));
    Ok(attributes)
}

/// What makes an account that another tool has made this person's: written whole or not at all.
///
/// # Errors
/// Never in practice: the attributes' names are constants.
pub fn stamp(
    anchor: &Attribute,
    person: PersonId,
    entry: &Entry,
) -> Result<Vec<Change>, ldap::Error> {
    let value = super::rules::anchor_value(person).into_bytes();
    // "Add", not "replace": if somebody else stamped it meanwhile, this fails.
    let mut changes = vec![Change::Add(anchor.clone(), value.clone())];
    let description: Attribute = "adminDescription".parse()?;
    if description != *anchor && entry.values("adminDescription").is_empty() {
        changes.push(Change::Add(description, value));
    }
    let control = entry.number("userAccountControl").unwrap_or(0);
    if control & SMARTCARD_REQUIRED != 0 && control & DONT_EXPIRE_PASSWORD == 0 {
        // MIM's 262656: without this bit S4U2Proxy fails with "password has expired".
        let control = (control | DONT_EXPIRE_PASSWORD).to_string().into_bytes();
        changes.push(Change::Replace(
            "userAccountControl".parse()?,
            vec![control],
        ));
    }
    Ok(changes)
}

/// 116 characters of 672 random bits, with one of each class for the domain's complexity rule, quoted and in
/// UTF-16 (MS-ADTS 3.1.1.3.1.5). Nobody keeps it.
fn random_password() -> Result<Vec<u8>, ldap::Error> {
    let mut bytes = Zeroizing::new([0_u8; 84]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| ldap::Error::Setup {
        what: String::from("random password"),
        reason: String::from("the system gives no random bytes"),
    })?;
    let password = Zeroizing::new(format!("\"{}aA1!\"", STANDARD.encode(bytes.as_slice())));
    Ok(password.encode_utf16().flat_map(u16::to_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_quoted_utf16_and_never_the_same() {
        let one = random_password().unwrap();
        assert_eq!(one.len(), (112 + 4 + 2) * 2);
        assert_eq!(one[..2], [b'"', 0]);
        assert_eq!(one[one.len() - 2..], [b'"', 0]);
        assert_ne!(one, random_password().unwrap());
        assert_eq!(SHADOW_CONTROL, 328_192);
    }
}
