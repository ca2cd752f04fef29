//! Certificates that were ordered (ACME), beside those in files; and the proof of TLS-ALPN-01 (RFC 8737).
//!
//! In: chains and keys as PEM, and challenges. Out: what a handshake shows. Nothing here asks an authority.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::DistinguishedName;
use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::tls::read_leaf;

/// The protocol of TLS-ALPN-01 (RFC 8737 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// What handshakes show besides the certificates in files.
#[derive(Clone, Debug, Default)]
pub struct Ordered {
    /// By host; each is preferred to a file that names the same host.
    pub certificates: HashMap<String, Arc<CertifiedKey>>,
    /// Proofs by host, shown to an authority only.
    pub proofs: HashMap<String, Arc<CertifiedKey>>,
}

impl Ordered {
    /// The certificate of `host`.
    pub(super) fn certificate(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.certificates.get(host)
    }
}

/// True when a client speaks nothing but TLS-ALPN-01.
///
/// SECURITY: RFC 8737 3: the client offers this protocol alone. Whoever offers more is a visitor, and no visitor is ever
/// shown a certificate that nobody signed.
pub(super) fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    let Some(mut offered) = hello.alpn() else {
        return false;
    };
    offered.next() == Some(ACME_TLS) && offered.next().is_none()
}

/// A certificate with its key, and how long it is valid.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain and the key.
    pub certified: Arc<CertifiedKey>,
    /// When it begins, in seconds since 1970.
    pub start: i64,
    /// When it ends, in seconds since 1970.
    pub end: i64,
}

/// Reads a chain (leaf first) and its key.
///
/// # Errors
/// They are unreadable, do not belong together, or are not valid for `host`.
pub fn issued(chain: &str, key: &str, host: &str) -> Result<Issued, String> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let leaf = chain.first().ok_or("the chain holds no certificate")?;
    let leaf = read_leaf(leaf)?;
    if !leaf.names.iter().any(|name| name == host) {
        return Err(format!("the certificate is not for {host}"));
    }
    let certified = certified(chain, key)?;
    match certified.keys_match() {
        Ok(()) => {}
        Err(_) => return Err(String::from("the certificate is for another key")),
    }
    Ok(Issued {
        certified: Arc::new(certified),
        start: leaf.start,
        end: leaf.end,
    })
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &str) -> Result<CertifiedKey, String> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
    let key = default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(chain, key))
}

/// The proof of TLS-ALPN-01: a certificate that nobody signed, for `host`, with the key authorization's hash.
///
/// # Errors
/// `host` cannot stand in a certificate, or the cryptographic library refused.
pub fn proof(host: &str, key_authorization: &str) -> Result<Arc<CertifiedKey>, String> {
    let wrong = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(wrong)?;
    let mut params = CertificateParams::new([host.to_owned()]).map_err(wrong)?;
    params.distinguished_name = DistinguishedName::new();
    // RFC 8737 3: critical, the SHA-256 of the key authorization.
    let hash = digest(&SHA256, key_authorization.as_bytes());
    params
        .custom_extensions
        .push(CustomExtension::new_acme_identifier(hash.as_ref()));
    let made = params.self_signed(&key).map_err(wrong)?;
    certified(vec![made.der().clone()], &key.serialize_pem()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_is_taken() {
        let made = rcgen::generate_simple_self_signed([String::from("a.example")]).unwrap();
        let other = rcgen::generate_simple_self_signed([String::from("a.example")]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let read = issued(&chain, &key, "a.example").unwrap();
        assert!(read.start < read.end);
        let wrong = |chain: &str, key: &str, host: &str| issued(chain, key, host).unwrap_err();
        assert!(wrong(&chain, &key, "b.example").contains("not for b.example"));
        let theirs = other.signing_key.serialize_pem();
        assert!(wrong(&chain, &theirs, "a.example").contains("another key"));
        assert!(wrong(&key, &key, "a.example").contains("no certificate"));
        assert!(!wrong(&chain, "", "a.example").is_empty());
    }

    #[test]
    fn a_proof_says_the_hash_and_the_host() {
        let proof = proof("a.example", "token.thumbprint").unwrap();
        let der = &proof.cert[0];
        let leaf = read_leaf(der).unwrap();
        assert_eq!(leaf.names, ["a.example"]);
        let hash = digest(&SHA256, b"token.thumbprint");
        let bytes: &[u8] = der.as_ref();
        assert!(bytes.windows(32).any(|window| window == hash.as_ref()));
    }
}
