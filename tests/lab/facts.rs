//! What a running lab tells those who use it (`lab.json`).
//!
//! Compiled into the promises too, so that both sides agree on the shape.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

/// A running lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    pub realm: String,
    pub base_dn: String,
    /// The domain controller's DNS name, and where it is.
    pub dc: String,
    pub address: Ipv4Addr,
    /// KDC over TCP, LDAPS, and the domain's DNS.
    pub kdc: SocketAddr,
    pub ldaps: SocketAddr,
    pub dns: SocketAddr,
    /// For tools of MIT Kerberos: `KRB5_CONFIG`.
    pub krb5_conf: PathBuf,
    /// The authority of every certificate in the lab.
    pub ca: PathBuf,
    /// Certificate and key for the published names (`*.localhost`).
    pub gateway_certificate: PathBuf,
    pub gateway_key: PathBuf,
    /// A second identity, for the host `second.localhost`: choice by SNI.
    pub second_certificate: PathBuf,
    pub second_key: PathBuf,
    /// Certificate and key for the Entra emulator.
    pub entra_certificate: PathBuf,
    pub entra_key: PathBuf,
    pub keytabs: Keytabs,
    pub backends: Backends,
    pub accounts: Accounts,
    /// SIDs of the synchronized people by login: what the Entra emulator reads.
    pub sids_file: PathBuf,
    pub logs: PathBuf,
}

/// Keytabs, good and bad.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keytabs {
    /// `svc-gateway`, current.
    pub gateway: PathBuf,
    /// `svc-gateway` before its password changed.
    pub old_kvno: PathBuf,
    /// Holds `svc-wrong` only.
    pub wrong_account: PathBuf,
    /// `svc-noprotocol`: may delegate, but not with protocol transition.
    pub noprotocol: PathBuf,
    /// A keytab without an entry.
    pub empty: PathBuf,
    pub intranet: PathBuf,
    pub timesheet: PathBuf,
    pub undelegated: PathBuf,
}

/// Where the applications are; their SPNs are `HTTP/<name>.contoso.test`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backends {
    /// Classic delegation; each request needs a ticket.
    pub intranet: SocketAddr,
    /// The same over TLS, certificate for `intranet.contoso.test` and the lab's address.
    pub intranet_tls: SocketAddr,
    /// Resource-based delegation; the first ticket counts for the connection.
    pub timesheet: SocketAddr,
    /// Its keytab is out of date: it refuses every ticket.
    pub refusing: SocketAddr,
    /// The gateway was never allowed to delegate to it.
    pub undelegated: SocketAddr,
    /// The intranet's pages without any authentication.
    pub plain: SocketAddr,
    /// The header application (our own echo server).
    pub wiki: SocketAddr,
}

/// Accounts of the domain by `sAMAccountName`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accounts {
    pub domain_sid: String,
    pub sids: BTreeMap<String, String>,
    pub passwords: BTreeMap<String, String>,
}
