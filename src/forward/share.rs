//! How much of an application's requests each server gets: by its weight, and less while it warms up. Pure.
//!
//! # Why
//!
//! - Turns by weight follow the golden ratio's multiples (Weyl's equidistribution): every stretch of turns is
//!   shared as the weights say, without a lock and without a memory of its own.
//! - Sticky by weight is weighted rendezvous hashing: when one server's weight grows, people move only to it,
//!   so a server that warms up gets its people back little by little and each of them moves once.

use std::time::Duration;

/// A server's share while it is well: its weight in thousandths.
const WHOLE: u64 = 1000;
/// What a server begins with after it was left out.
const LEAST: u64 = WHOLE / 10;

/// The share of a server of that weight that came back `since`; `None` = it never was away.
#[must_use]
pub fn of(weight: u32, since: Option<Duration>, slow_start: Duration) -> u64 {
    let full = u64::from(weight).saturating_mul(WHOLE);
    match since {
        Some(since) if since < slow_start => {
            let part = since.as_micros().saturating_mul(u128::from(WHOLE));
            let part = part / slow_start.as_micros().max(1);
            let part = u64::try_from(part).unwrap_or(WHOLE).clamp(LEAST, WHOLE);
            u64::from(weight).saturating_mul(part)
        }
        Some(_) | None => full,
    }
}

/// Whose turn it is: a place among `shares`.
#[must_use]
pub fn turn(turn: usize, shares: &[u64]) -> usize {
    /// 2^64 divided by the golden ratio.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let total: u64 = shares.iter().sum();
    let point = (turn as u64).wrapping_mul(STEP);
    let point = (u128::from(point) * u128::from(total)) >> 64;
    let mut passed: u128 = 0;
    for (at, share) in shares.iter().enumerate() {
        passed += u128::from(*share);
        if point < passed {
            return at;
        }
    }
    0
}

/// How a server ranks for a session with this `hash` of both; the highest is the session's.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a hash stays a hash with 53 of its bits"
)]
pub fn rank(hash: u64, share: u64) -> f64 {
    // Strictly between 0 and 1, so that the logarithm is finite and below 0.
    let point = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    share.max(1) as f64 / -point.ln()
}

/// How busy a server is with so many requests, and one more, for its share.
#[must_use]
pub fn busy(load: usize, share: u64) -> u64 {
    const SCALE: u64 = 1 << 32;
    (load as u64)
        .saturating_add(1)
        .saturating_mul(SCALE)
        .checked_div(share)
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_server_warms_up_from_a_tenth() {
        let slow = Duration::from_secs(10);
        for (since, share) in [
            (None, 3000),
            (Some(0), 300),
            (Some(500), 300),
            (Some(5_000), 1500),
            (Some(9_999), 2997),
            (Some(10_000), 3000),
            (Some(99_000), 3000),
        ] {
            assert_eq!(of(3, since.map(Duration::from_millis), slow), share);
        }
        assert_eq!(of(3, Some(Duration::ZERO), Duration::ZERO), 3000);
    }

    proptest! {
        #[test]
        fn any_stretch_of_turns_is_shared_as_the_weights_say(
            shares in prop::collection::vec(1_u64..2000, 1..6),
            start in any::<usize>(),
        ) {
            const TURNS: usize = 1000;
            let mut got = vec![0_u64; shares.len()];
            for number in 0..TURNS {
                got[turn(start.wrapping_add(number), &shares)] += 1;
            }
            let total: u64 = shares.iter().sum();
            for (got, share) in got.iter().zip(&shares) {
                let wanted = share * TURNS as u64 / total;
                prop_assert!(got.abs_diff(wanted) <= 10, "{got} instead of {wanted}");
            }
        }

        #[test]
        fn a_growing_share_only_ever_gains(hash in any::<u64>(), share in 1_u64..1_000_000) {
            prop_assert!(rank(hash, share + 1) > rank(hash, share));
            prop_assert!(rank(hash, share).is_finite());
            prop_assert!(busy(3, share) >= busy(3, share + 1));
            prop_assert!(busy(4, share) > busy(3, share));
        }
    }
}
