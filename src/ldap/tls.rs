//! Trust in domain controllers, and the name of a TLS channel.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use super::error::Error;

/// Trust in the authorities of `pem` alone, or in the system's if there is none.
///
/// # Errors
/// `pem` holds no certificate, or a broken one.
pub fn client_config(pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, Error> {
    let setup = |reason: String| Error::Setup {
        what: String::from("the directory's certificate authority"),
        reason,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?;
    let Some(pem) = pem else {
        let trusting = builder
            .with_platform_verifier()
            .map_err(|error| setup(error.to_string()))?;
        return Ok(Arc::new(trusting.with_no_client_auth()));
    };
    let mut roots = RootCertStore::empty();
    // SECURITY: one broken certificate is an error, not a smaller or empty store.
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| setup(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| setup(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(setup(String::from("no certificate in the PEM file")));
    }
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// `tls-server-end-point` channel binding (RFC 5929 4.1): the certificate hashed with the hash of its own
/// signature, MD5 and SHA-1 replaced by SHA-256. `None` where the signature has no single hash.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    let hash = match algorithm.as_str() {
        // RSA and ECDSA with MD5, SHA-1, SHA-256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    let mut binding = b"tls-server-end-point:".to_vec();
    binding.extend_from_slice(digest::digest(hash, certificate).as_ref());
    Some(binding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_follows_the_certificates_own_hash() {
        let hashed = |algorithm| {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["dc1.contoso.test".into()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            server_end_point(certificate.der()).map(|binding| binding.len())
        };
        let prefix = "tls-server-end-point:".len();
        assert_eq!(hashed(&rcgen::PKCS_ECDSA_P256_SHA256), Some(prefix + 32));
        assert_eq!(hashed(&rcgen::PKCS_ECDSA_P384_SHA384), Some(prefix + 48));
        assert_eq!(hashed(&rcgen::PKCS_ED25519), None);
        assert_eq!(server_end_point(b"no certificate"), None);
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        assert!(client_config(Some(b"")).is_err());
        assert!(
            client_config(Some(
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            ))
            .is_err()
        );
    }
}
