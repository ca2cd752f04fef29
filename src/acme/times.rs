//! When to renew, and when to try again.

use std::time::Duration;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The authority could not be asked, or could not answer.
    Unreachable,
    /// It said no.
    Refused,
    /// It said: too often (RFC 8555 6.6).
    TooOften,
}

/// When a certificate that is valid from `start` to `end` is renewed: when two thirds of its life are over, or up to a
/// twentieth of it earlier, as `dice` (0..=255) falls, so that hosts which began together do not stay together.
pub(super) fn renew_at(start: i64, end: i64, dice: u8) -> i64 {
    let life = end.saturating_sub(start).max(0);
    let two_thirds = life / 3 * 2;
    let earlier = (life / 20).saturating_mul(i64::from(dice)) / 255;
    start.saturating_add(two_thirds - earlier)
}

/// Seconds until the next try after `failures` in a row; never before the authority's own `retry_after`.
///
/// Let's Encrypt allows five failed validations an hour for a host: a refusal is not asked for again at once. Up to a
/// quarter more, as `dice` falls, so that a crowd that failed together does not come back together.
pub(super) fn pause(failed: Failed, failures: u32, retry_after: Option<Duration>, dice: u8) -> i64 {
    let doublings = failures.saturating_sub(1).min(16);
    let ours = match failed {
        Failed::Unreachable => (2_i64 << doublings).min(10 * MINUTE),
        Failed::Refused => (MINUTE << (2 * doublings)).min(HOUR),
        Failed::TooOften => HOUR,
    };
    let theirs = retry_after.map(|after| i64::try_from(after.as_secs()).unwrap_or(DAY));
    let pause = match (failed, theirs) {
        // It knows better than our guess.
        (Failed::TooOften, Some(theirs)) => theirs.clamp(MINUTE, DAY),
        (Failed::Unreachable | Failed::Refused, Some(theirs)) => ours.max(theirs.min(DAY)),
        (_, None) => ours,
    };
    pause + pause * i64::from(dice) / 1024
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_comes_when_two_thirds_are_over() {
        let day = 86_400;
        assert_eq!(renew_at(0, 90 * day, 0), 60 * day);
        let earliest = renew_at(0, 90 * day, 255);
        assert!((55 * day..=56 * day).contains(&earliest), "{earliest}");
        assert_eq!(renew_at(7, 7, 255), 7);
        assert_eq!(renew_at(9, 3, 255), 9);
        assert!(renew_at(i64::MIN, i64::MAX, 255) < i64::MAX);
    }

    #[test]
    fn pauses_grow_to_a_ceiling_and_heed_the_authority() {
        let pauses = |failed| [1, 2, 3, 4, 40].map(|n| pause(failed, n, None, 0));
        assert_eq!(pauses(Failed::Unreachable), [2, 4, 8, 16, 600]);
        assert_eq!(pauses(Failed::Refused), [60, 240, 960, 3600, 3600]);
        assert_eq!(pauses(Failed::TooOften), [3600; 5]);
        let told = |failed, seconds| pause(failed, 1, Some(Duration::from_secs(seconds)), 0);
        assert_eq!(told(Failed::Unreachable, 90), 90);
        assert_eq!(told(Failed::Unreachable, 1), 2);
        assert_eq!(told(Failed::TooOften, 120), 120);
        assert_eq!(told(Failed::TooOften, 0), 60);
        assert_eq!(told(Failed::Refused, u64::MAX), DAY);
        assert_eq!(pause(Failed::Refused, 1, None, 255), 74);
        assert_eq!(pause(Failed::Unreachable, 0, None, 0), 2);
    }
}
