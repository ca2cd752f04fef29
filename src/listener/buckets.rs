//! Who has asked for how much: rates and requests at a time, counted by person or address.
//!
//! A rate is kept as one instant for each key (GCRA, ITU-T I.371): when all that was taken will have been paid
//! back. A key without debt needs no entry, so sweeping them loses nothing.
//!
//! # Why our own
//!
//! Tables that grow with every address that ever asked are themselves a way to attack. These have a
//! fixed number of places. When none is left, further keys share one place of their shard: a flood
//! from many addresses limits itself, and those already known are still counted each by themselves.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use crate::model::addresses::counted_as;
use crate::model::names::PersonId;
use crate::model::rates::Rate;

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A person.
    Person(PersonId),
    /// An address, IPv6 by its /64; see [`Key::address`].
    Address(IpAddr),
}

impl Key {
    /// The key of a client's address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(counted_as(address))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person) => write!(f, "{person}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

const SHARDS: usize = 16;
/// Places of one shard: 32 768 of a table, about 2 MiB.
const PLACES: usize = 2048;

#[derive(Debug, Default)]
struct Shard {
    /// When each key's debt is paid, in nanoseconds since the table's beginning.
    paid_at: HashMap<Key, u64>,
    /// The debt of all keys that found no place.
    others: u64,
    sweep_at: u64,
}

/// One rate, for many keys.
#[derive(Debug)]
pub struct Buckets {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    begin: Instant,
    /// What one costs, in nanoseconds.
    price: u64,
    /// Most debt, in nanoseconds.
    most: u64,
}

impl Buckets {
    /// Nobody has asked for anything yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let most = nanos(rate.period);
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            begin: Instant::now(),
            price: most / u64::from(rate.count.get()),
            most,
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// Nothing is left for `key`; there will be one again after the returned time.
    pub fn take(&self, key: Key) -> Result<(), Duration> {
        self.at(key, nanos(self.begin.elapsed()), true)
    }

    /// As [`Self::take`], but takes nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn check(&self, key: Key) -> Result<(), Duration> {
        self.at(key, nanos(self.begin.elapsed()), false)
    }

    fn at(&self, key: Key, now: u64, take: bool) -> Result<(), Duration> {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let known = shard.paid_at.contains_key(&key);
        if !known && shard.paid_at.len() >= PLACES && now >= shard.sweep_at {
            shard.paid_at.retain(|_, paid_at| *paid_at > now);
            // A full shard is looked through now and then, not for each stranger.
            shard.sweep_at = now.saturating_add(self.most / 16);
        }
        let place = if known || (take && shard.paid_at.len() < PLACES) {
            shard.paid_at.entry(key).or_default()
        } else if shard.paid_at.len() < PLACES {
            return Ok(()); // without debt
        } else {
            &mut shard.others
        };
        let after = (*place).max(now).saturating_add(self.price);
        let debt = after - now;
        if debt > self.most {
            return Err(Duration::from_nanos(debt - self.most));
        }
        if take {
            *place = after;
        }
        Ok(())
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        lock(pick(&self.shards, self.hasher.hash_one(key)))
    }
}

/// How many of each key are there at this moment.
#[derive(Debug)]
pub struct AtOnce {
    shards: [Mutex<HashMap<Key, u32>>; SHARDS],
    hasher: RandomState,
    most: u32,
}

impl AtOnce {
    /// At most `most` of each key.
    #[must_use]
    pub fn new(most: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            most: most.get(),
        })
    }

    /// One more of `key`, as long as the returned value lives; `None` when there are enough.
    #[must_use]
    pub fn enter(self: &Arc<Self>, key: Key) -> Option<Inside> {
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_default();
        // A key with no place is never left behind: `most` is at least one.
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Inside {
            table: Arc::clone(self),
            key,
        })
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, u32>> {
        lock(pick(&self.shards, self.hasher.hash_one(key)))
    }
}

/// One that is being served.
#[derive(Debug)]
pub struct Inside {
    table: Arc<AtOnce>,
    key: Key,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut shard = self.table.shard(self.key);
        if let Some(count) = shard.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

fn pick<T>(shards: &[T; SHARDS], hash: u64) -> &T {
    let [first, rest @ ..] = shards;
    match usize::try_from(hash % SHARDS as u64).unwrap_or(0) {
        0 => first,
        index => rest.get(index - 1).unwrap_or(first),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(number: u32) -> Key {
        Key::address(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn buckets(rate: &str) -> Buckets {
        Buckets::new(rate.parse().unwrap())
    }

    #[test]
    fn a_rate_is_all_at_once_then_evenly() {
        let five = buckets("5/s");
        for _ in 0..5 {
            assert_eq!(five.at(key(1), SECOND, true), Ok(()));
        }
        let wait = five.at(key(1), SECOND, true).unwrap_err();
        assert_eq!(wait, Duration::from_millis(200));
        assert_eq!(five.at(key(2), SECOND, true), Ok(()), "another key");
        let then = SECOND + SECOND / 5;
        assert_eq!(
            five.at(key(1), then - 1, true),
            Err(Duration::from_nanos(1))
        );
        assert_eq!(five.at(key(1), then, false), Ok(()), "asking takes nothing");
        assert_eq!(five.at(key(1), then, true), Ok(()));
        assert!(five.at(key(1), then, true).is_err());
        let rested = then + SECOND;
        for _ in 0..5 {
            assert_eq!(five.at(key(1), rested, true), Ok(()));
        }
        assert!(five.at(key(1), rested, false).is_err());
    }

    #[test]
    fn a_flood_of_keys_finds_a_fixed_number_of_places() {
        let one = buckets("1/m");
        let known = key(0);
        assert!(one.at(known, 0, true).is_ok());
        let flood = u32::try_from(SHARDS * PLACES * 2).unwrap();
        let let_in = (1..flood)
            .filter(|number| one.at(key(*number), 0, true).is_ok())
            .count();
        assert!(let_in <= SHARDS * (PLACES + 1), "{let_in}");
        let places: usize = one
            .shards
            .iter()
            .map(|shard| lock(shard).paid_at.len())
            .sum();
        assert!(places <= SHARDS * PLACES, "{places}");
        assert!(one.at(known, 0, true).is_err(), "still known");
        // Once paid, the places are free again.
        assert!(one.at(key(flood + 1), 61 * SECOND, true).is_ok());
        let places: usize = one
            .shards
            .iter()
            .map(|shard| lock(shard).paid_at.len())
            .sum();
        assert!(places <= (SHARDS - 1) * PLACES + 1, "{places}");
    }

    #[test]
    fn at_once_is_counted_down_when_one_leaves() {
        let two = AtOnce::new(NonZeroU32::new(2).unwrap());
        let first = two.enter(key(1)).unwrap();
        let second = two.enter(key(1)).unwrap();
        assert!(two.enter(key(1)).is_none());
        assert!(two.enter(key(2)).is_some());
        drop(first);
        let third = two.enter(key(1));
        assert!(third.is_some());
        drop((second, third));
        assert!(two.shards.iter().all(|shard| lock(shard).is_empty()));
    }
}
