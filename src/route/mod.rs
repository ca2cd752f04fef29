//! Host and normalized path in, the application out.

pub mod target;
