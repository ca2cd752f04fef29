//! An application that is closed for a while.

use super::Rule;
use super::public::Paths;

/// While it is there, the application is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// What visitors read, in the operator's words.
    pub message: Option<String>,
    /// When it is expected to end, in seconds since the Unix epoch; it ends when the section goes.
    pub until: Option<i64>,
    /// Who may enter all the same, after signing in; access rules hold for them as well.
    pub except: Vec<Rule>,
    /// Anonymous paths that stay open, for what watches over the application.
    pub open: Paths,
}

impl Maintenance {
    /// `Retry-After` in seconds, seen at `now`: until the expected end, else ten minutes.
    #[must_use]
    pub fn retry_after(&self, now: i64) -> i64 {
        match self.until {
            Some(until) if until > now => until - now,
            Some(_) | None => 600,
        }
    }
}
