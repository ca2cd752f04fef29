//! The development laboratory.
fn main() {}
