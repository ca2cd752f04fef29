//! Which poll of a task this is: between two looks at the clock within one poll nobody was waited for.
//!
//! # Why
//! A look at the clock costs a fortieth of a microsecond, where the clock is virtual more. A request walks through
//! seven rooms, and waits in one.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// One poll. Equal marks: nothing was waited for between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll(u64);

/// A new poll of some task begins on this thread.
pub fn begins() {
    COUNT.with(|count| count.set(count.get().wrapping_add(1)));
}

/// The poll that goes on.
#[must_use]
pub fn this() -> Poll {
    Poll(COUNT.with(Cell::get))
}

/// Threads begin far from each other, so that a task that moves finds no mark of its own.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNT: Cell<u64> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) << 40);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_polls_and_one_threads() {
        begins();
        let first = this();
        assert_eq!(this(), first);
        begins();
        assert_ne!(this(), first);
        let elsewhere = std::thread::spawn(|| {
            begins();
            this()
        });
        assert_ne!(elsewhere.join().unwrap(), this());
    }
}
