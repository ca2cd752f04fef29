//! Time as a value that is handed down, so that a test owns it.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

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

/// An HTTP date in seconds since the Unix epoch: IMF-fixdate (RFC 9110 5.6.7), which is a form of RFC 2822's dates.
#[must_use]
pub fn http_date(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc2822)
        .ok()
        .map(OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_http_answer_is_read() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
