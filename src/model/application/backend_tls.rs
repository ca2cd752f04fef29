//! How TLS with an application's backends differs from what is configured for all.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;

/// What differs; the default is: nothing. That a certificate is verified cannot be turned off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendTls {
    /// These authorities alone may vouch for the backends; empty = those configured for all.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Who the gateway is to these backends.
    pub client: Option<Client>,
    /// Asked for and verified instead of the backend URL's host.
    pub server_name: Option<ServerName<'static>>,
}

/// A client certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The certificate, and those that lead to its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key; not shown by `Debug`.
    pub key: Arc<PrivateKeyDer<'static>>,
}
