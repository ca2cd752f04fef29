//! Kerbgate: guests sign in with Entra ID, old applications see a Kerberos ticket.
//!
//! # The map of the house
//!
//! A request walks one straight corridor; each room hands the next a value that only it could make.
//! A room imports only rooms above it in this list (`tests/house.rs` holds that):
//!
//! | Room | What it is |
//! |---|---|
//! | [`model`] | the nouns, valid by construction |
//! | [`config`] | the files, parsed into checked settings; every mistake at once |

pub mod config;
pub mod forward;
pub mod listener;
pub mod model;
pub mod rewrite;
pub mod route;
