//! How an application's servers are asked whether they are well.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;

/// Questions that the gateway asks by itself, in nobody's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path on each server, with a query if wanted.
    pub path: String,
    /// From the end of one question to the next, a tenth more or less.
    pub interval: Duration,
    /// An answer has to be there by then, connection included.
    pub patience: Duration,
    /// Statuses of a server that is well.
    pub status: Vec<Expected>,
    /// So many good answers in a row let a server back in; at least 1.
    pub healthy: u32,
    /// So many bad ones in a row leave it out; at least 1.
    pub unhealthy: u32,
}

impl Health {
    /// True for an answer of a server that is well.
    #[must_use]
    pub fn expects(&self, status: StatusCode) -> bool {
        self.status.iter().any(|one| match one {
            Expected::Exactly(wanted) => *wanted == status,
            Expected::Class(class) => *class == status.as_u16() / 100,
        })
    }
}

/// One status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This one.
    Exactly(StatusCode),
    /// All that begin with this digit.
    Class(u16),
}

/// A text that is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStatus;

impl fmt::Display for NoStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no status such as \"200\" and no class such as \"2xx\"")
    }
}

impl FromStr for Expected {
    type Err = NoStatus;

    fn from_str(text: &str) -> Result<Self, NoStatus> {
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().map_err(|_| NoStatus)?;
            return (2..=5)
                .contains(&class)
                .then_some(Self::Class(class))
                .ok_or(NoStatus);
        }
        let status = StatusCode::from_bytes(text.as_bytes()).map_err(|_| NoStatus)?;
        // 1xx is never the answer (RFC 9110 15.2).
        ((200..=599).contains(&status.as_u16()))
            .then_some(Self::Exactly(status))
            .ok_or(NoStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_or_a_class() {
        let health = |status: &[&str]| Health {
            path: String::from("/"),
            interval: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            status: status.iter().map(|text| text.parse().unwrap()).collect(),
            healthy: 1,
            unhealthy: 1,
        };
        let usual = health(&["2xx", "401"]);
        for (status, well) in [
            (200, true),
            (204, true),
            (401, true),
            (403, false),
            (302, false),
        ] {
            assert_eq!(usual.expects(StatusCode::from_u16(status).unwrap()), well);
        }
        for text in [
            "", "xx", "1xx", "6xx", "20", "2000", "100", "600", "-2xx", "ok",
        ] {
            assert_eq!(text.parse::<Expected>(), Err(NoStatus), "{text}");
        }
    }
}
