//! Time as a value that is handed down, so that a test owns it.

use std::time::Duration;

use time::OffsetDateTime;

/// Where "now" comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Always the same instant, in seconds since the Unix epoch.
    Fixed(i64),
}

impl Clock {
    /// Now, in whole seconds since the Unix epoch (the unit of every JWT and of every record in the store).
    #[must_use]
    pub fn unix(self) -> i64 {
        match self {
            Self::System => OffsetDateTime::now_utc().unix_timestamp(),
            Self::Fixed(seconds) => seconds,
        }
    }

    /// Now, in microseconds since the Unix epoch (Kerberos tells a replay by them, RFC 4120 3.2.3).
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        match self {
            Self::System => i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000)
                .unwrap_or(i64::MAX),
            Self::Fixed(seconds) => seconds.saturating_mul(1_000_000),
        }
    }

    /// Now, plus `span`, in whole seconds since the Unix epoch.
    #[must_use]
    pub fn unix_after(self, span: Duration) -> i64 {
        self.unix()
            .saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
    }
}
