//! When to ask again: `Retry-After` (RFC 9110 10.2.3: seconds or a date), and a growing pause with jitter without one.

use std::time::Duration;

use crate::model::clock;

/// How long to be patient with one question.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Tries of one question of a synchronization; default 6.
    pub tries: u32,
    /// The first pause when Graph names none; doubled each time; default 500 ms.
    pub first_pause: Duration,
    /// Longest pause taken, named by Graph or not; default 5 min. Graph asking for more ends the question.
    pub longest_pause: Duration,
    /// Time for one try of a synchronization; default 60 s.
    pub one_try: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 6,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(300),
            one_try: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// The pause after try number `tried` (from 1), between half and all of the doubled one: replicas that failed
    /// together do not come back together.
    pub(super) fn pause(&self, tried: u32, dice: u8) -> Duration {
        let doubled = 2_u32.saturating_pow(tried.saturating_sub(1).min(20));
        let whole = self
            .first_pause
            .saturating_mul(doubled)
            .min(self.longest_pause);
        whole / 2 + (whole / 2).saturating_mul(u32::from(dice)) / 255
    }
}

/// `Retry-After` as a time to wait; a date in the past is no time. Nonsense is as good as nothing.
pub(super) fn retry_after(value: &str, now: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let left = clock::http_date(value)?.saturating_sub(now);
    Some(Duration::from_secs(u64::try_from(left).unwrap_or_default()).min(LONGEST))
}

/// No clock overflows by what a server says.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_comes_in_seconds_or_as_a_date() {
        let now = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let told = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(told(" 17 "), Some(17));
        assert_eq!(told("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(told("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(told("18446744073709551615"), Some(86_400), "no overflow");
        for nonsense in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994",
            "99999999999999999999",
        ] {
            assert_eq!(told(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(value in ".{0,40}") {
            let _ = retry_after(&value, 0);
        }

        #[test]
        fn a_pause_grows_and_has_an_end(tried in 1_u32.., dice: u8) {
            let patience = Patience::default();
            let pause = patience.pause(tried, dice);
            prop_assert!(pause <= patience.longest_pause);
            prop_assert!(pause >= patience.first_pause / 2);
            prop_assert!(patience.pause(tried.saturating_add(2), 0) >= pause || pause >= patience.longest_pause / 2);
        }
    }
}
