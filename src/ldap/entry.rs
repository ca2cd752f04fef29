//! Entries as they come back from a search: raw octets, read by type on demand.
//!
//! Not ldap3's `SearchEntry`: it panics on malformed answers and sorts a value into "text" or "binary" by
//! whether it *happens* to be UTF-8, which for a SID or a GUID is a matter of luck.

use std::collections::HashMap;

use ldap3::ResultEntry;
use ldap3::asn1::PL;
use ldap3::asn1::StructureTag;
use time::PrimitiveDateTime;
use time::macros::format_description;
use uuid::Uuid;

use super::dn::Dn;
use crate::model::names::Sid;

/// One entry of the directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub dn: Dn,
    attributes: HashMap<String, Vec<Vec<u8>>>,
    ranges: HashMap<String, Range>,
}

/// Which of an attribute's values an answer holds, counted from 0 (MS-ADTS 3.1.1.3.1.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u32,
    /// The last; absent = up to the end.
    pub last: Option<u32>,
}

impl Entry {
    pub(super) fn read(entry: ResultEntry) -> Option<Self> {
        let mut parts = constructed(entry.0)?.into_iter();
        let name = text(parts.next()?)?;
        let dn = if name.is_empty() {
            Dn::root()
        } else {
            name.parse().ok()?
        };
        let mut attributes = HashMap::new();
        let mut ranges = HashMap::new();
        for attribute in constructed(parts.next()?)? {
            let mut parts = constructed(attribute)?.into_iter();
            let name = text(parts.next()?)?.to_ascii_lowercase();
            let values = constructed(parts.next()?)?
                .into_iter()
                .map(StructureTag::expect_primitive)
                .collect::<Option<Vec<_>>>()?;
            // "member;range=0-1499": its values are the attribute's, as far as they go. Beside it comes an empty "member".
            match name.split_once(";range=") {
                Some((plain, range)) => {
                    ranges.insert(plain.to_owned(), read_range(range)?);
                    attributes.insert(plain.to_owned(), values);
                }
                None if values.is_empty() => {}
                None => drop(attributes.insert(name, values)),
            }
        }
        Some(Self {
            dn,
            attributes,
            ranges,
        })
    }

    /// An entry made of parts, for tests of what judges entries.
    #[must_use]
    pub fn from_parts(dn: Dn, attributes: &[(&str, &[&[u8]])]) -> Self {
        let attributes = attributes
            .iter()
            .map(|(name, values)| {
                let values = values.iter().map(|value| value.to_vec()).collect();
                (name.to_ascii_lowercase(), values)
            })
            .collect();
        Self {
            dn,
            attributes,
            ranges: HashMap::new(),
        }
    }

    /// Which values of `name` these are, if the server gave them as a range. One with a `last` was cut: read the rest by
    /// [`super::Session::ranged`].
    #[must_use]
    pub fn range(&self, name: &str) -> Option<Range> {
        self.ranges.get(&name.to_ascii_lowercase()).copied()
    }

    /// All values of `name` as octets.
    #[must_use]
    pub fn values(&self, name: &str) -> &[Vec<u8>] {
        self.attributes
            .get(&name.to_ascii_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    /// The first value of `name` as text, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.values(name).first()?).ok()
    }

    /// All values of `name` that are text.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values(name)
            .iter()
            .filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The first value of `name` as a number, if it is one.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// The first value of `name` as a security identifier.
    #[must_use]
    pub fn sid(&self, name: &str) -> Option<Sid> {
        Sid::from_bytes(self.values(name).first()?).ok()
    }

    /// The first value of `name` as a GUID, in Microsoft's mixed byte order (MS-DTYP 2.3.4.2).
    #[must_use]
    pub fn guid(&self, name: &str) -> Option<Uuid> {
        Uuid::from_slice_le(self.values(name).first()?).ok()
    }

    /// The first value of `name` as Unix time, if it is a generalized time (RFC 4517 3.3.13).
    #[must_use]
    pub fn time(&self, name: &str) -> Option<i64> {
        let plain = format_description!("[year][month][day][hour][minute][second]");
        let time = PrimitiveDateTime::parse(self.text(name)?.get(..14)?, plain).ok()?;
        Some(time.assume_utc().unix_timestamp())
    }

    /// The first value of `name` as Unix time, if it counts 100 ns since 1601 (MS-DTYP 2.3.3). Never, which is 0 or the largest
    /// number, is none.
    #[must_use]
    pub fn file_time(&self, name: &str) -> Option<i64> {
        const SECONDS_1601_TO_1970: i64 = 11_644_473_600;
        match self.number(name)? {
            0 | i64::MAX => None,
            ticks => Some(ticks / 10_000_000 - SECONDS_1601_TO_1970),
        }
    }

    /// True when `name` has a value equal to `value`, letter case aside.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.texts(name).any(|one| one.eq_ignore_ascii_case(value))
    }
}

/// `0-1499`, or `1500-*` for the last one.
fn read_range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-')?;
    let last = match last {
        "*" => None,
        last => Some(last.parse().ok()?),
    };
    Some(Range {
        first: first.parse().ok()?,
        last,
    })
}

fn constructed(tag: StructureTag) -> Option<Vec<StructureTag>> {
    match tag.payload {
        PL::C(parts) => Some(parts),
        PL::P(_) => None,
    }
}

fn text(tag: StructureTag) -> Option<String> {
    String::from_utf8(tag.expect_primitive()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_server_writes_them() {
        let range = |first, last| Some(Range { first, last });
        assert_eq!(read_range("0-1499"), range(0, Some(1499)));
        assert_eq!(read_range("1500-*"), range(1500, None));
        for bad in ["", "5", "a-b", "-1-2", "0-", "*-*", "0-99999999999"] {
            assert_eq!(read_range(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn values_are_read_by_type_whatever_their_bytes() {
        let sid: Sid = "S-1-5-32-544".parse().unwrap();
        let guid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        let entry = Entry::from_parts(
            "CN=x,DC=y".parse().unwrap(),
            &[
                ("objectSid", &[&sid.to_bytes()]),
                ("objectGUID", &[&guid.to_bytes_le()]),
                ("adminCount", &[b"1"]),
                ("cn", &["Зо́я".as_bytes(), b"second"]),
                ("blob", &[&[0xff, 0xfe]]),
            ],
        );
        assert_eq!(entry.sid("objectsid"), Some(sid));
        assert_eq!(entry.guid("objectGUID"), Some(guid));
        assert_eq!(guid.to_bytes_le()[..4], [0x33, 0x22, 0x11, 0x00]);
        assert_eq!(entry.number("admincount"), Some(1));
        assert_eq!(entry.text("CN"), Some("Зо́я"));
        assert!(entry.has("cn", "SECOND"));
        assert_eq!(entry.text("blob"), None);
        assert!(entry.values("absent").is_empty());
    }
}
