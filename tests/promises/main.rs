//! Promises to a user, one file each, in one binary.
