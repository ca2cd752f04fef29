//! Kerbgate's binary.
fn main() {}
