//! The directory: searches in and changes of an Active Directory over LDAPS.
//!
//! In: [`Settings`] (which controllers, whose certificates, as whom). Out: a [`Directory`], whose searches
//! fail over between controllers, and [`Session`]s, whose operations stay on one: what was just written is
//! read back where it was written. Knows LDAP (RFC 4511 to 4519) and nothing of the gateway.
//!
//! # Why
//! - [`Filter`] and [`Dn`] can only be built escaped: there is no text interface to forget the escaping in.
//! - TLS always, the controller's certificate checked against its name; StartTLS that is refused ends the
//!   connection. The bind is our own (`bind`), with channel binding; ldap3 then speaks over a socket pair.
//! - Long answers come in pages ([`Pages`]) and long attributes in ranges ([`Ranged`]), each read to its end or reported
//!   as cut: what is missing without a word would look like "is not there".
//! - An operation without an answer is told apart from a refused one ([`Error::outcome_unknown`]): a write
//!   may have happened, so callers read back instead of trying again blindly.

mod ber;
mod bind;
mod connection;
mod dn;
mod entry;
mod error;
mod filter;
#[cfg(test)]
mod naughty;
mod operation;
mod paged;
mod pool;
mod ranged;
mod referral;
mod servers;
mod tls;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::model::names::HostName;

pub use bind::Bind;
pub use bind::SaslExchange;
pub use bind::SaslFailure;
pub use bind::SaslFault;
pub use bind::SaslSource;
pub use bind::Step;
pub use dn::Dn;
pub use entry::Entry;
pub use entry::Range;
pub use error::Error;
pub use error::Refusal;
pub use error::ResultCode;
pub use filter::Attribute;
pub use filter::Filter;
pub use operation::Change;
pub use operation::Found;
pub use operation::Scope;
pub use operation::Search;
pub use operation::Session;
pub use paged::Pages;
pub use paged::Paging;
pub use paged::Turn;
pub use pool::Directory;
pub use ranged::Ranged;
pub use ranged::VALUES_AT_A_TIME;
pub use ranged::Values;
pub use servers::Servers;
pub use tls::client_config;

/// Everything a [`Directory`] is told from outside.
#[derive(Debug)]
pub struct Settings {
    /// Where domain controllers come from.
    pub servers: Servers,
    /// Their port: 636 for LDAPS, 389 for StartTLS.
    pub port: u16,
    /// How the connection becomes a secure one.
    pub transport: Transport,
    /// Whose certificates are trusted; see [`client_config`].
    pub tls: Arc<ClientConfig>,
    /// As whom the gateway binds.
    pub bind: Bind,
    /// Time for TCP, TLS and bind together.
    pub connect: Duration,
    /// Time for one operation.
    pub operation: Duration,
    /// Most entries of one page; a controller gives no more than its own `MaxPageSize` (1000).
    pub page_size: u32,
    /// Hosts to which referrals are followed; empty = they are refused. Listed hosts are bound to like controllers.
    pub follow_referrals: Vec<HostName>,
    /// Addresses without DNS, by host name.
    pub hosts: HashMap<String, IpAddr>,
    /// Connections to each controller; many operations share one.
    pub connections: usize,
    /// A connection unused for so long is closed; controllers do so after 15 minutes.
    pub idle: Duration,
    /// A connection is renewed after so long: the bind's ticket does not live for ever.
    pub lifetime: Duration,
}

/// How a connection becomes a secure one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS from the first octet.
    Ldaps,
    /// TLS asked for on a plain connection (RFC 4511 4.14).
    StartTls,
}

impl Settings {
    /// Settings with the usual limits: two connections, idle 10 minutes, renewed after an hour.
    #[must_use]
    pub fn new(servers: Servers, tls: Arc<ClientConfig>, bind: Bind) -> Self {
        Self {
            servers,
            port: 636,
            transport: Transport::Ldaps,
            tls,
            bind,
            connect: Duration::from_secs(3),
            operation: Duration::from_secs(10),
            page_size: 500,
            follow_referrals: Vec::new(),
            hosts: HashMap::new(),
            connections: 2,
            idle: Duration::from_secs(600),
            lifetime: Duration::from_secs(3600),
        }
    }
}
