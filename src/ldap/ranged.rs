//! Attributes with more values than one answer holds (MS-ADTS 3.1.1.3.1.3.3): read range by range to their end.
//!
//! Windows asked at once only, so that a group of a million members costs one range of memory. If the object is changed in
//! between, ranges shift against each other: its update number is read with each, and the reading begins again.

use super::dn::Dn;
use super::entry::Range;
use super::error::Error;
use super::filter::Attribute;
use super::operation::Session;

/// Values asked for at a time: what a controller gives at most (`MaxValRange`).
pub const VALUES_AT_A_TIME: u32 = 1500;
/// An object that changes faster than it can be read.
const MOST_RESTARTS: u8 = 5;

/// One portion of an attribute's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// The next values.
    Next(Vec<Vec<u8>>),
    /// The object was changed meanwhile: what was given so far is void, the reading begins again.
    Restarted,
}

/// Reads all values of one attribute of one entry, a bounded portion at a time.
#[derive(Debug)]
pub struct Ranged {
    session: Session,
    dn: Dn,
    attribute: Attribute,
    at: Option<u32>,
    width: u32,
    state: Option<String>,
    restarts: u8,
}

impl Session {
    /// Begins to read all values of `attribute`, `width` at a time (0 = [`VALUES_AT_A_TIME`]).
    #[must_use]
    pub fn ranged(&self, dn: &Dn, attribute: &Attribute, width: u32) -> Ranged {
        Ranged {
            session: self.clone(),
            dn: dn.clone(),
            attribute: attribute.clone(),
            at: Some(0),
            width: if width == 0 { VALUES_AT_A_TIME } else { width },
            state: None,
            restarts: 0,
        }
    }

    /// All values of `attribute`, if there are no more than `most`.
    ///
    /// # Errors
    /// No answer, a refusal, more values than `most`, or an object that changes all the time.
    pub async fn all_values(
        &self,
        dn: &Dn,
        attribute: &Attribute,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut reading = self.ranged(dn, attribute, 0);
        let mut all = Vec::new();
        while let Some(portion) = reading.next().await? {
            match portion {
                Values::Next(values) => all.extend(values),
                Values::Restarted => all.clear(),
            }
            if all.len() > most {
                return Err(reading.unreadable(&format!("has more than {most} values")));
            }
        }
        Ok(all)
    }
}

impl Ranged {
    /// The next portion; `None` at the end. An entry that is not there, or has no such attribute, has no values.
    ///
    /// # Errors
    /// No answer, a refusal, or an object that changes all the time.
    pub async fn next(&mut self) -> Result<Option<Values>, Error> {
        let Some(first) = self.at else {
            return Ok(None);
        };
        let last = first.saturating_add(self.width - 1);
        let asked = format!("{};range={first}-{last}", self.attribute);
        let read = self.session.read(&self.dn, &[&asked, "uSNChanged"]).await;
        let Some(entry) = read? else {
            // It was there a moment ago: half of it is no answer.
            self.at = None;
            return Ok((first > 0).then_some(Values::Restarted));
        };
        let state = entry.text("uSNChanged").map(String::from);
        if first > 0 && state != self.state {
            self.restarts += 1;
            if self.restarts > MOST_RESTARTS {
                return Err(self.unreadable("changes while it is read"));
            }
            self.at = Some(0);
            return Ok(Some(Values::Restarted));
        }
        self.state = state;
        let values = entry.values(self.attribute.as_str()).to_vec();
        self.at = match entry.range(self.attribute.as_str()) {
            // An end that does not move on would be asked for for ever.
            Some(Range {
                first: from,
                last: Some(to),
            }) if from == first && to >= first && !values.is_empty() => Some(to.saturating_add(1)),
            Some(Range { last: Some(_), .. }) => {
                return Err(self.unreadable("comes in ranges that do not follow each other"));
            }
            Some(Range { last: None, .. }) | None => None,
        };
        Ok((!values.is_empty()).then_some(Values::Next(values)))
    }

    fn unreadable(&self, why: &str) -> Error {
        Error::Setup {
            what: format!("{} of {:?}", self.attribute, self.dn.to_string()),
            reason: why.to_owned(),
        }
    }
}
