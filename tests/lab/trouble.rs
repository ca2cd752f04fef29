//! What went wrong in the lab, as one sentence that names the thing.

use std::fmt;

/// A sentence for the person in front of the terminal.
#[derive(Debug)]
pub struct Trouble(String);

impl Trouble {
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// `Err` with what was being done, in the words of the caller.
pub trait Because<T> {
    fn because(self, doing: impl fmt::Display) -> Result<T, Trouble>;
}

impl<T, E: fmt::Display> Because<T> for Result<T, E> {
    fn because(self, doing: impl fmt::Display) -> Result<T, Trouble> {
        self.map_err(|error| Trouble(format!("{doing}: {error}")))
    }
}
