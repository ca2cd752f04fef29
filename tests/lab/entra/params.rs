//! Parameters of a query or form: each name at most once.

use crate::entra::error::AadError;

/// Decoded parameters in their order.
#[derive(Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes `application/x-www-form-urlencoded` text.
    pub fn parse(text: &str) -> Self {
        Self(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// With the parameters of `other` after these.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// RFC 6749 3.1: parameters must not be included more than once.
    pub fn refuse_duplicates(&self) -> Result<(), AadError> {
        for (position, (name, _)) in self.0.iter().enumerate() {
            if self.0[..position]
                .iter()
                .any(|(earlier, _)| earlier == name)
            {
                return Err(AadError::duplicated(name));
            }
        }
        Ok(())
    }

    /// RFC 6749 3.1: a parameter without a value counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub fn require(&self, name: &str) -> Result<&str, AadError> {
        self.get(name).ok_or_else(|| AadError::missing(name))
    }

    /// Encoded again, without one name.
    pub fn encoded_without(&self, name: &str) -> String {
        let kept = self.0.iter().filter(|(key, _)| key != name);
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .finish()
    }
}
