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
//! | [`store`] | what must survive a restart: sign-ins, sessions, links |
//! | [`oidc`] | discovery, keys, token validation and code flow towards one issuer |
//! | [`graph`] | the few questions put to Microsoft Graph |

pub mod graph;
pub mod model;
pub mod oidc;
pub mod store;
