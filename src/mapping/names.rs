//! Names of a shadow account: derived from the person alone, valid whatever the token said.

use aws_lc_rs::digest;

use crate::model::claims::Claims;
use crate::model::names::PersonId;

/// The longest `sAMAccountName` of a user (MS-ADTS 3.1.1.6: 20 characters).
const LONGEST_SAM: usize = 20;

/// RFC 4648 section 6 in lower case: none of the characters that a `sAMAccountName` forbids.
const ALPHABET: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";

/// The `sAMAccountName` of `person`: the same on every node and at every time.
///
/// A hash, because any part of a name or of an id may be shared by two people; with the default prefix
/// 85 bits of it.
#[must_use]
pub fn sam(prefix: &str, person: PersonId) -> String {
    let mut input = person.tid.as_bytes().to_vec();
    input.extend_from_slice(person.oid.as_bytes());
    let hash = digest::digest(&digest::SHA256, &input);
    let bits = hash.as_ref().iter().flat_map(|byte| {
        (0..8)
            .rev()
            .map(move |place| usize::from(byte >> place & 1))
    });
    let bits: Vec<usize> = bits.collect();
    let letters = bits
        .chunks_exact(5)
        .map(|five| five.iter().fold(0, |sum, bit| sum * 2 + bit))
        .filter_map(|five| ALPHABET.get(five))
        .map(|letter| char::from(*letter));
    prefix.chars().chain(letters).take(LONGEST_SAM).collect()
}

/// `value` as the directory takes it: no control characters, no more than `longest` UTF-16 units (that is
/// how Active Directory counts), `None` when nothing is left.
#[must_use]
pub fn clip(value: &str, longest: usize) -> Option<String> {
    let mut units = 0;
    let mut text = String::new();
    for c in value.chars().filter(|c| !is_hidden(*c)) {
        units += c.len_utf16();
        if units > longest {
            break;
        }
        text.push(c);
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Control characters, and those that change the direction or the shape of what is printed around them.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A `userPrincipalName` from the cloud, if it can be one on premises.
#[must_use]
pub fn usable_upn(claims: &Claims) -> Option<&str> {
    let upn = claims.upn.as_deref()?;
    let (name, suffix) = upn.rsplit_once('@')?;
    let sound = !name.is_empty()
        && upn.len() <= 256
        && !upn.chars().any(|c| c.is_control() || c.is_whitespace())
        && !name.contains('@')
        && suffix.contains('.')
        && suffix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    sound.then_some(upn)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::mapping::rules::tests::guest;

    #[test]
    fn a_name_is_short_plain_steady_and_its_own() {
        let person = guest(1).person;
        let name = sam("kg-", person);
        assert_eq!(name.len(), 20);
        assert_eq!(name, sam("kg-", person));
        assert_eq!(
            name, "kg-lfhsgpjxggntjzl74",
            "names of accounts that exist must never change"
        );
        let other_tenant = PersonId {
            tid: Uuid::nil(),
            ..person
        };
        assert_ne!(name, sam("kg-", other_tenant));
        let names: HashSet<_> = (0..20_000).map(|n| sam("kg-", guest(n).person)).collect();
        assert_eq!(names.len(), 20_000);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(names.iter().all(|name| name.bytes().all(plain)));
    }

    proptest! {
        #[test]
        fn what_is_clipped_fits(value in any::<String>(), longest in 1_usize..300) {
            if let Some(text) = clip(&value, longest) {
                prop_assert!(text.encode_utf16().count() <= longest);
                prop_assert!(!text.chars().any(is_hidden));
                prop_assert_eq!(text.trim(), &text);
            }
        }
    }

    #[test]
    fn a_upn_is_used_only_if_it_can_be_one() {
        let mut jane = guest(1);
        for (upn, good) in [
            ("jane_fabrikam.com#EXT#@contoso.onmicrosoft.com", true),
            ("o'neil_x.de#EXT#@contoso.onmicrosoft.com", true),
            ("no at sign", false),
            ("a@b@c.de", false),
            ("a@b", false),
            ("@c.de", false),
            ("a\n@c.de", false),
        ] {
            jane.upn = Some(upn.into());
            assert_eq!(usable_upn(&jane).is_some(), good, "{upn}");
        }
    }
}
