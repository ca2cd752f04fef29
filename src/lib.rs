//! Kerbgate: guests sign in with Entra ID, old applications see a Kerberos ticket.
//!
//! # The map of the house
//!
//! A request walks one straight corridor; each room hands the next a value that only it could make.
//! A room imports only rooms above it in this list (`tests/house.rs` holds that).
//!
//! | Room | What it is |
//! |---|---|
//! | [`model`] | the nouns, valid by construction |
//! | [`telemetry`] | diagnostics, access lines, audit events |
//! | [`config`] | the files, parsed into checked settings; every mistake at once |
//! | [`store`] | what must survive a restart: sign-ins, sessions, links to accounts |
//! | [`oidc`] | tool: metadata, keys, token validation, code flow |
//! | [`graph`] | tool: the few questions asked of Microsoft Graph |
//! | [`ldap`] | tool: connections, filters, entries of the directory |
//! | [`kerberos`] | tool: keytab, S4U, Negotiate tokens, KDC health, diagnosis |
//! | [`listener`] | sockets, TLS, strict framing, limits |
//! | [`pages`] | what a visitor is shown, in their language |
//! | [`route`] | 1: host + path → the application |
//! | [`authn`] | 2: cookie or bearer token → `AuthenticatedUser` |
//! | [`authz`] | 3: user + application → `AuthorizedUser` |
//! | [`mapping`] | 4: user → `MappedUser`, the on-premises account found or made |
//! | [`lifecycle`] | shadow accounts beside the requests: seen, laid to rest, brought back |
//! | [`sync`] | guests of the cloud become accounts by themselves, partners' accounts guests: plan, brake, journal |
//! | [`sso`] | 5: mapped user + application → `BackendCredential` |
//! | [`forward`] | 6: request + credential → the backend's response |
//! | [`rewrite`] | 7: the backend's response → ours |
//! | [`pipeline`] | the corridor: one function, one line a room |
//! | [`acme`] | beside the corridor: certificates that are ordered, the same on every replica |
//! | [`assembly`] | from the configuration to each tool's own settings |
//! | [`doctor`] | named checks of everything around the gateway; the walk without a browser |
//! | [`app`] | builds every room once and ties the listener to the pipeline |
//! | [`cli`] | run, check, doctor, explain, accounts |

pub mod acme;
pub mod app;
pub mod assembly;
pub mod authn;
pub mod authz;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod forward;
pub mod graph;
pub mod kerberos;
pub mod ldap;
pub mod lifecycle;
pub mod listener;
pub mod mapping;
pub mod model;
pub mod oidc;
pub mod pages;
pub mod pipeline;
pub mod rewrite;
pub mod route;
pub mod sso;
pub mod store;
pub mod sync;
pub mod telemetry;
