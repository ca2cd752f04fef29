//! What stands in the cloud user about the account on premises: `kerbgate <REALM> <objectGUID>`, and since when and why the person
//! rests. Pure.
//!
//! # Why
//! - The `objectGUID` never changes and is never used again; names, addresses and even the SID of an account may change.
//! - It stands in one of the fifteen `extensionAttribute`s: of the properties that Graph lets an application write for people who
//!   are not synchronized it is the one that holds so much text (`employeeId`: 16 characters), comes with every list of users (an
//!   open extension does not), needs no registration (a directory extension does), and means nothing to Entra Connect
//!   (`onPremisesImmutableId` does: an account that came into its scope would take the guest over).
//! - The realm stands before it: another forest's records are left alone.

use uuid::Uuid;

use super::super::moment;
use super::super::time_text;

const WHO: &str = "kerbgate";

/// What the attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing.
    Nothing,
    /// It is ours.
    Ours(Record),
    /// Somebody else's text.
    Other(String),
}

/// A record of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The account's `objectGUID`.
    pub guid: Uuid,
    /// Since when it rests by our word, in seconds since 1970, and why.
    pub rests: Option<(i64, String)>,
}

impl Record {
    /// For an account in use.
    #[must_use]
    pub const fn of(guid: Uuid) -> Self {
        Self { guid, rests: None }
    }

    /// As it stands in the attribute.
    #[must_use]
    pub fn text(&self, realm: &str) -> String {
        let whom = format!("{WHO} {realm} {}", self.guid);
        match &self.rests {
            Some((since, why)) => format!("{whom} disabled {} {why}", time_text(*since)),
            None => whom,
        }
    }
}

impl Recorded {
    /// Reads `text`; only a record of `realm` is ours.
    #[must_use]
    pub fn read(text: Option<&str>, realm: &str) -> Self {
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
            return Self::Nothing;
        };
        ours(text, realm).map_or_else(|| Self::Other(text.chars().take(100).collect()), Self::Ours)
    }

    /// The record, if it is ours.
    #[must_use]
    pub const fn ours(&self) -> Option<&Record> {
        match self {
            Self::Ours(record) => Some(record),
            Self::Nothing | Self::Other(_) => None,
        }
    }
}

fn ours(text: &str, realm: &str) -> Option<Record> {
    let mut words = text.split(' ');
    let (who, whose) = (words.next()?, words.next()?);
    if who != WHO || !whose.eq_ignore_ascii_case(realm) {
        return None;
    }
    let guid = words.next()?.parse().ok()?;
    let rests = match (words.next(), words.next(), words.next()) {
        (None, _, _) => None,
        (Some("disabled"), Some(since), Some(why)) => Some((moment(since)?, why.to_owned())),
        (Some(_), _, _) => return None,
    };
    words.next().is_none().then_some(Record { guid, rests })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REALM: &str = "CONTOSO.TEST";

    #[test]
    fn only_our_own_words_are_a_record() {
        let guid = Uuid::from_u128(7);
        let read = |text: &str| Recorded::read(Some(text), REALM);
        assert_eq!(Recorded::read(None, REALM), Recorded::Nothing);
        assert_eq!(read(" "), Recorded::Nothing);
        let plain = Record::of(guid).text(REALM);
        assert_eq!(read(&plain), Recorded::Ours(Record::of(guid)));
        for other in [
            "External".to_owned(),
            plain.replace("CONTOSO", "FABRIKAM"),
            plain.replace("kerbgate", "Kerbgate2"),
            format!("{plain} x"),
            format!("{plain} disabled yesterday left-scope"),
            format!("{plain} disabled 2026-11-23T10:00:00Z"),
            format!("{plain} disabled 2026-11-23T10:00:00Z left-scope x"),
            "kerbgate CONTOSO.TEST".to_owned(),
        ] {
            assert!(matches!(read(&other), Recorded::Other(_)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(guid: u128, since in 0_i64..4_000_000_000, why in "[a-z-]{1,20}", rests: bool) {
            let record = Record { guid: Uuid::from_u128(guid), rests: rests.then_some((since, why)) };
            prop_assert_eq!(Recorded::read(Some(&record.text(REALM)), REALM), Recorded::Ours(record));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,80}") {
            drop(Recorded::read(Some(&text), REALM));
        }
    }
}
