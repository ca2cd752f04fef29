//! Query parameters of our own paths: a security parameter comes once or the request is refused.

use http::request::Parts;

use super::Query;
use crate::model::stop::Code;
use crate::model::stop::Stop;

/// The query's parameters.
pub(super) struct Params(Query);

impl Params {
    pub(super) fn of(head: &Parts) -> Self {
        let mut all = Query::new();
        let query = head.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()).take(MOST) {
            all.entry(name.into_owned())
                .or_default()
                .push(value.into_owned());
        }
        Self(all)
    }

    /// The parameter `name`; empty counts as absent.
    ///
    /// # Errors
    /// `sign-in-parameter-duplicate`: last-wins and first-wins parsers would disagree (RFC 6749 3.1: MUST NOT be
    /// included more than once).
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Stop> {
        match self.0.get(name).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([one]) => Ok(Some(one.as_str()).filter(|value| !value.is_empty())),
            Some(_) => Err(Stop::deny(
                Code::SignInParameterDuplicate,
                format!("parameter {name} came several times"),
            )),
        }
    }
}

const MOST: usize = 50;
