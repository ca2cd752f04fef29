//! How much one person or one address may ask for: rates, and requests at a time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// What is no rate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is no rate such as \"20/s\", \"600/m\" or \"5000/h\"")]
pub struct BadRate(String);

/// So many in a period: all of them at once, if nothing came before; after that evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In what time.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let read = || {
            let (count, unit) = text.split_once('/')?;
            let plain = count.bytes().all(|byte| byte.is_ascii_digit());
            let count: NonZeroU32 = plain.then(|| count.parse().ok()).flatten()?;
            let period = Duration::from_secs(match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            });
            (count.get() <= 1_000_000).then_some(Self { count, period })
        };
        read().ok_or_else(|| BadRate(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} s", self.count, self.period.as_secs())
    }
}

/// Limits of one place, the gateway or an application; absent = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests of one signed-in person.
    pub per_person: Option<Rate>,
    /// Requests of one person at a time.
    pub person_at_once: Option<NonZeroU32>,
    /// Requests from one address (IPv6: one /64).
    pub per_address: Option<Rate>,
    /// Requests from one address at a time.
    pub address_at_once: Option<NonZeroU32>,
}

impl Rates {
    /// True when nothing is limited.
    #[must_use]
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_numbers_in_a_period() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.to_string());
        assert_eq!(rate("20/s").as_deref(), Ok("20 in 1 s"));
        assert_eq!(rate("600/m").as_deref(), Ok("600 in 60 s"));
        for bad in [
            "",
            "0/s",
            "20",
            "20/d",
            "-1/s",
            "+1/s",
            "1.5/s",
            "20 /s",
            "1000001/s",
        ] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
