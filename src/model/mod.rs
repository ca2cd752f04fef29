//! The nouns of the house, valid by construction.
//!
//! Data without opinions: what a person, an application, a claim set or a denial *is*. No I/O and
//! no verbs of the corridor; every room may import this one, and it imports none.

pub mod account;
pub mod addresses;
pub mod application;
pub mod body;
pub mod claims;
pub mod clock;
pub mod in_place;
pub mod names;
pub mod poll;
pub mod rates;
pub mod secret;
pub mod stop;
pub mod wire;
