//! Boxes whose content is made where it stays.
//!
//! # Why
//! `Box::new(make())` makes it on the stack first and copies it, with all the room a future has for what may come:
//! thousands of bytes for each request. With the box there before, the compiler builds it in the box.

use std::pin::Pin;

/// What `make` makes, in a box.
#[inline]
pub fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}

/// What `make` makes, in a box that it never leaves.
#[inline]
pub fn pinned<T>(make: impl FnOnce() -> T) -> Pin<Box<T>> {
    Box::into_pin(boxed(make))
}
