//! Kerbgate.
