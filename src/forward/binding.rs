//! The channel binding of a TLS connection to a backend: `tls-server-end-point` (RFC 5929 4). Pure.
//!
//! In: the certificate that the backend showed on that very connection. Out: the application data that goes
//! into the ticket's checksum (RFC 5056 2.1: the type's name, a colon, the hash). A ticket bound like this is
//! worth nothing on any other server, which is what IIS calls Extended Protection.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;
use x509_parser::signature_algorithm::SignatureAlgorithm;

const TYPE: &[u8] = b"tls-server-end-point:";

/// The binding to `certificate`; nothing where RFC 5929 defines none (a signature without a hash of its own,
/// such as Ed25519).
#[must_use]
pub fn of(certificate: &CertificateDer<'_>) -> Option<Arc<[u8]>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let used = &parsed.signature_algorithm;
    let name = match SignatureAlgorithm::try_from(used).ok() {
        Some(SignatureAlgorithm::RSASSA_PSS(parameters)) => {
            parameters.hash_algorithm_oid().to_id_string()
        }
        Some(_) | None => used.algorithm.to_id_string(),
    };
    let hash = digest::digest(algorithm(&name)?, certificate);
    Some([TYPE, hash.as_ref()].concat().into())
}

/// By the number of a signature's algorithm, or of a hash.
fn algorithm(name: &str) -> Option<&'static digest::Algorithm> {
    match name {
        // RFC 5929 4.1: MD5 and SHA-1 are replaced by SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.3.14.3.2.26"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Some(&digest::SHA384)
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Some(&digest::SHA512)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature_and_never_a_weak_one() {
        for (key, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = KeyPair::generate_for(key).unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            let want = hash.map(|hash| {
                let hash = digest::digest(hash, certificate.der());
                [TYPE, hash.as_ref()].concat()
            });
            assert_eq!(of(certificate.der()).as_deref(), want.as_deref());
        }
        assert_eq!(algorithm("1.2.840.113549.1.1.5"), Some(&digest::SHA256));
        assert_eq!(algorithm("1.2.840.113549.1.1.13"), Some(&digest::SHA512));
        assert_eq!(of(&CertificateDer::from(vec![1, 2])), None);
    }
}
