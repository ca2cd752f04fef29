//! Whether a process keeps its shape: memory and descriptors over a long soak.
//!
//! In: readings at even distances. Out: what the first quarter after warming up and the last one held (medians, so that
//! one upload does not decide), and whether they are alike.

use serde_json::Value;
use serde_json::json;

use crate::meter::Reading;

/// A heap may wander by so much.
const MEMORY_PERCENT: u64 = 10;
/// And a small one by so many bytes.
const MEMORY: u64 = 16 << 20;
/// Connections come and go.
const DESCRIPTORS_PERCENT: usize = 10;
const DESCRIPTORS: usize = 32;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes resident, early and late.
    pub memory: (u64, u64),
    /// Descriptors, early and late.
    pub descriptors: (usize, usize),
}

impl Shape {
    /// The second quarter of `readings` (the first is for warming up) beside the last; none for fewer than eight.
    pub fn of(readings: &[Reading]) -> Option<Self> {
        let quarter = readings.len() / 4;
        if quarter < 2 {
            return None;
        }
        let early = readings.get(quarter..2 * quarter)?;
        let late = readings.get(readings.len() - quarter..)?;
        let memory = |part: &[Reading]| median(part.iter().map(|one| one.resident).collect());
        let descriptors =
            |part: &[Reading]| median(part.iter().map(|one| one.descriptors).collect());
        Some(Self {
            memory: (memory(early)?, memory(late)?),
            descriptors: (descriptors(early)?, descriptors(late)?),
        })
    }

    /// Alike, up to what a heap and a pool wander.
    pub const fn is_flat(&self) -> bool {
        let (early, late) = self.memory;
        let (few, many) = self.descriptors;
        let memory = late <= early + early * MEMORY_PERCENT / 100 || late <= early + MEMORY;
        let descriptors =
            many <= few + few * DESCRIPTORS_PERCENT / 100 || many <= few + DESCRIPTORS;
        memory && descriptors
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "resident_early": self.memory.0,
            "resident_late": self.memory.1,
            "descriptors_early": self.descriptors.0,
            "descriptors_late": self.descriptors.1,
            "flat": self.is_flat(),
        })
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn readings(
        resident: impl Fn(u64) -> u64,
        descriptors: impl Fn(usize) -> usize,
    ) -> Vec<Reading> {
        (0..100)
            .map(|n| Reading {
                cpu: Duration::ZERO,
                resident: resident(n) << 20,
                peak: 0,
                descriptors: descriptors(n as usize),
                threads: 1,
            })
            .collect()
    }

    #[test]
    fn what_grows_is_not_flat() {
        let level = readings(|n| 100 + n % 7, |n| 300 + n % 20);
        assert!(Shape::of(&level).unwrap().is_flat());
        let warming_up = readings(|n| 60 + 60 * n.min(20) / 20, |n| 300 * n.min(20) / 20);
        assert!(Shape::of(&warming_up).unwrap().is_flat());
        let leaks_memory = readings(|n| 100 + n, |_| 300);
        assert!(!Shape::of(&leaks_memory).unwrap().is_flat());
        let leaks_descriptors = readings(|_| 100, |n| 300 + 2 * n);
        assert!(!Shape::of(&leaks_descriptors).unwrap().is_flat());
        assert_eq!(Shape::of(&level[..5]), None);
    }
}
