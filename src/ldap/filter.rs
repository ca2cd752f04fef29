//! Search filters that can only be built escaped (RFC 4515).

use std::fmt;

use super::error::Error;

/// A search filter. Values are escaped as they go in; whole ones come from the configuration alone ([`Self::written`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter(String);

impl Filter {
    /// `attribute` has the text value `value`.
    #[must_use]
    pub fn equals(attribute: &Attribute, value: &str) -> Self {
        Self::equals_bytes(attribute, value.as_bytes())
    }

    /// `attribute` has the binary value `value`, such as a SID or a GUID.
    #[must_use]
    pub fn equals_bytes(attribute: &Attribute, value: &[u8]) -> Self {
        Self(format!("({attribute}={})", escape(value)))
    }

    /// `attribute` has any value.
    #[must_use]
    pub fn present(attribute: &Attribute) -> Self {
        Self(format!("({attribute}=*)"))
    }

    /// A filter in an administrator's own words.
    ///
    /// SECURITY: for text from the configuration only. Nothing that a token, Graph or a directory said may become part of it.
    ///
    /// # Errors
    /// It is no filter (RFC 4515).
    pub fn written(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        match ldap3::parse_filter(text) {
            Ok(_) if text.starts_with('(') && text.len() <= 4096 => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(Error::Setup {
                what: format!("filter {text:?}"),
                reason: String::from("wanted: a filter in parentheses (RFC 4515)"),
            }),
        }
    }

    /// All of `parts`.
    #[must_use]
    pub fn all(parts: &[Self]) -> Self {
        Self::joined('&', parts)
    }

    /// Any of `parts`.
    #[must_use]
    pub fn any(parts: &[Self]) -> Self {
        Self::joined('|', parts)
    }

    /// Not `part`.
    #[must_use]
    pub fn not(part: &Self) -> Self {
        Self(format!("(!{part})"))
    }

    /// The string form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn joined(operator: char, parts: &[Self]) -> Self {
        let inside: String = parts.iter().map(Self::as_str).collect();
        Self(format!("({operator}{inside})"))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An attribute's name (RFC 4512 1.4 `keystring`): nothing in it has a meaning in a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribute(String);

impl Attribute {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Attribute {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let sound = name.len() <= 128
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if sound {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::Setup {
                what: format!("attribute {name:?}"),
                reason: String::from("wanted: letters, digits and \"-\", a letter first"),
            })
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SECURITY: RFC 4515 3 demands `\XX` for NUL, `(`, `)`, `*` and `\`, and allows it for any octet. All but
/// the plainest characters are escaped, so that no parser's idea of "special" matters.
fn escape(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@') {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("\\{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use ldap3::asn1::ASNTag;
    use ldap3::asn1::PL;
    use ldap3::asn1::StructureTag;
    use proptest::prelude::*;

    use super::*;

    /// What a server would see: the assertion's attribute and value, if it is one equality and nothing else.
    fn seen(filter: &Filter) -> Option<(Vec<u8>, Vec<u8>)> {
        let tag: StructureTag = ldap3::parse_filter(filter.as_str()).ok()?.into_structure();
        // RFC 4511 4.5.1: equalityMatch [3].
        if tag.id != 3 {
            return None;
        }
        let PL::C(parts) = tag.payload else {
            return None;
        };
        let [attribute, value] = <[StructureTag; 2]>::try_from(parts).ok()?;
        Some((attribute.expect_primitive()?, value.expect_primitive()?))
    }

    proptest! {
        #[test]
        fn any_value_stays_a_value(value in proptest::collection::vec(any::<u8>(), 1..200)) {
            let attribute: Attribute = "userPrincipalName".parse().unwrap();
            let filter = Filter::equals_bytes(&attribute, &value);
            prop_assert_eq!(seen(&filter), Some((b"userPrincipalName".to_vec(), value)));
        }
    }

    #[test]
    fn naughty_strings_stay_values() {
        let attribute: Attribute = "cn".parse().unwrap();
        for value in super::super::naughty::STRINGS {
            let filter = Filter::equals(&attribute, value);
            if !value.is_empty() {
                assert_eq!(
                    seen(&filter),
                    Some((b"cn".to_vec(), value.as_bytes().to_vec())),
                    "{value:?}"
                );
            }
        }
    }

    #[test]
    fn an_administrators_filter_is_one_filter() {
        let good = "(&(employeeType=Partner)(!(title=Robot)))";
        assert_eq!(Filter::written(good).unwrap().as_str(), good);
        for bad in ["", "employeeType=x", "(a=b", "(a=b))", "(a=b)(c=d)", "(=x)"] {
            assert!(Filter::written(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_nest() {
        let cn: Attribute = "cn".parse().unwrap();
        let filter = Filter::all(&[
            Filter::any(&[Filter::equals(&cn, "a*"), Filter::present(&cn)]),
            Filter::not(&Filter::equals(&cn, "b")),
        ]);
        assert_eq!(filter.as_str(), r"(&(|(cn=a\2a)(cn=*))(!(cn=b)))");
        assert!(ldap3::parse_filter(filter.as_str()).is_ok());
    }

    #[test]
    fn an_attribute_name_cannot_hold_a_filter() {
        for bad in ["", "1cn", "cn=*)(a", "cn;binary", "a b", "c\0"] {
            assert!(bad.parse::<Attribute>().is_err(), "{bad:?}");
        }
    }
}
