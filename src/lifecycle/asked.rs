//! By what an account is asked for: the person, the anchor, the UPN or the `sAMAccountName`.

use std::convert::Infallible;
use std::str::FromStr;

use uuid::Uuid;

use super::Error;
use super::Lifecycle;
use super::Shadow;
use super::shadow;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Session;
use crate::model::names::PersonId;

/// What somebody typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `tid/oid`.
    Person(PersonId),
    /// `User_<oid>`, or an object id alone.
    Anchor(Uuid),
    /// Anything with an `@`.
    Upn(String),
    /// Anything else.
    Sam(String),
}

impl FromStr for Asked {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let text = text.trim();
        if let Some((tid, oid)) = text.split_once('/')
            && let (Ok(tid), Ok(oid)) = (tid.parse(), oid.parse())
        {
            return Ok(Self::Person(PersonId { tid, oid }));
        }
        let plain = shadow::oid_of(text).or_else(|| text.parse().ok());
        if let Some(oid) = plain {
            return Ok(Self::Anchor(oid));
        }
        if text.contains('@') {
            return Ok(Self::Upn(text.to_owned()));
        }
        Ok(Self::Sam(text.to_owned()))
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(person) => write!(f, "{person}"),
            Self::Anchor(oid) => write!(f, "{}", shadow::anchor(*oid)),
            Self::Upn(text) | Self::Sam(text) => f.write_str(text),
        }
    }
}

impl Lifecycle {
    /// The one account that is asked for, with everything that is known of it.
    ///
    /// # Errors
    /// There is none, there are several, or somebody does not answer.
    pub async fn find(&self, asked: &Asked) -> Result<Shadow, Error> {
        let (entry, _) = self.one(asked).await?;
        self.portrait(&entry).await
    }

    /// The entry, and the session that read it: what follows is done on the same controller.
    pub(super) async fn one(&self, asked: &Asked) -> Result<(Entry, Session), Error> {
        let filter = match asked {
            Asked::Person(PersonId { oid, .. }) | Asked::Anchor(oid) => {
                Filter::equals(&self.settings.anchor, &shadow::anchor(*oid))
            }
            Asked::Upn(upn) => Filter::equals(&"userPrincipalName".parse()?, upn),
            Asked::Sam(sam) => Filter::equals(&"sAMAccountName".parse()?, sam),
        };
        let session = self.tools.directory.session().await?;
        let mut found = Vec::new();
        for base in self.places() {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: filter.clone(),
                attributes: vec![String::from("1.1")],
                limit: 3,
            };
            found.extend(session.search(&search).await?.entries);
        }
        let missing = || Error::NotFound {
            asked: asked.to_string(),
            bases: shadow::joined(self.places().into_iter().map(ToString::to_string)),
        };
        let [one] = found.as_slice() else {
            if found.is_empty() {
                return Err(missing());
            }
            return Err(Error::Ambiguous {
                asked: asked.to_string(),
                names: shadow::joined(found.iter().map(|entry| entry.dn.to_string())),
            });
        };
        let wanted = self.wanted(true);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let entry = session.read(&one.dn, &wanted).await?;
        let entry = entry.ok_or_else(missing)?;
        // The anchor says nothing of the tenant; the name of an account that we made does.
        if let Asked::Person(person) = asked
            && !self.people(&entry).contains(person)
        {
            return Err(missing());
        }
        Ok((entry, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_taken_for_what_it_looks_like() {
        let oid = "11111111-0000-4000-8000-000000000001";
        let tid = "aaaaaaaa-0000-4000-8000-00000000000a";
        let id: Uuid = oid.parse().unwrap();
        let person = PersonId {
            tid: tid.parse().unwrap(),
            oid: id,
        };
        for (text, asked) in [
            (format!("{tid}/{oid}"), Asked::Person(person)),
            (format!("User_{oid}"), Asked::Anchor(id)),
            (format!(" user_{oid} "), Asked::Anchor(id)),
            (oid.to_owned(), Asked::Anchor(id)),
            (String::from("a@b.test"), Asked::Upn("a@b.test".into())),
            (String::from("kg-abc"), Asked::Sam("kg-abc".into())),
            (String::from("*"), Asked::Sam("*".into())),
            (String::from("x/y"), Asked::Sam("x/y".into())),
        ] {
            assert_eq!(text.parse::<Asked>(), Ok(asked), "{text}");
        }
    }
}
