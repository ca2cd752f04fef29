//! How the gateway proves itself at the token endpoint: for sign-ins and for Microsoft Graph alike.
//!
//! A certificate is looked at here, so that `kerbgate check` names what Entra would only refuse at the first sign-in.

use std::path::Path;

use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::config::reader::Section;
use crate::config::sections::Certificate;
use crate::config::sections::ClientCredential;
use crate::model::clock::Clock;

pub(super) fn client_credential(section: &Section<'_>) -> Option<ClientCredential> {
    let secret = section.secret([
        "client_secret",
        "client_secret_file",
        "client_secret_env",
        "client_secret_credential",
    ]);
    let certificate = section.path("client_certificate");
    let key = section.path("client_key");
    match (secret, certificate, key) {
        (Some(secret), None, None) => Some(ClientCredential::Secret(secret)),
        (None, Some(chain), Some(key)) => {
            match examine(&chain, &key, Clock::System.unix()) {
                Ok(()) => {}
                Err((which, problem)) => section.mistake(which, &problem),
            }
            Some(ClientCredential::Certificate(Certificate { chain, key }))
        }
        (None, Some(_), None) => {
            section.mistake("client_key", "is missing; wanted: the certificate's key");
            None
        }
        (None, None, Some(_)) => {
            section.mistake(
                "client_certificate",
                "is missing; wanted: the key's certificate",
            );
            None
        }
        (Some(_), _, _) | (None, None, None) => {
            section.mistake(
                "client_secret",
                "wanted: either client_secret_file (or _env, _credential), or client_certificate with client_key",
            );
            None
        }
    }
}

/// The wrong one of the two keys, and what is wrong.
type Wrong = (&'static str, String);

/// Whether `key` signs what `certificate` proves, today.
fn examine(certificate: &Path, key: &Path, now: i64) -> Result<(), Wrong> {
    let of_certificate = |why: String| {
        (
            "client_certificate",
            format!("{} {why}", certificate.display()),
        )
    };
    let of_key = |why: String| ("client_key", format!("{} {why}", key.display()));
    let der = CertificateDer::from_pem_file(certificate)
        .map_err(|e| of_certificate(format!("holds no certificate (PEM): {e}")))?;
    let (_, parsed) = X509Certificate::from_der(&der)
        .map_err(|e| of_certificate(format!("holds no certificate: {e}")))?;
    let pair = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| of_key(format!("holds no private key (PEM, not encrypted): {e}")))?;
    let pair = match &pair {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()).ok(),
        PrivateKeyDer::Sec1(_) | _ => None, // the enum is foreign and open
    };
    // RFC 7518 3.5: PS256 is RSA with at least 2048 bits, which is what this library takes.
    let Some(pair) = pair else {
        return Err(of_key(
            "is no RSA key of 2048 bits or more; Entra takes no other".to_owned(),
        ));
    };
    if pair.public_key().as_ref() != parsed.public_key().subject_public_key.data.as_ref() {
        return Err(of_key(format!(
            "is not the key of {}",
            certificate.display()
        )));
    }
    let validity = parsed.validity();
    if validity.not_after.timestamp() <= now {
        return Err(of_certificate(format!(
            "expired on {}; register a new one with the app registration",
            validity.not_after
        )));
    }
    if validity.not_before.timestamp() > now {
        return Err(of_certificate(format!(
            "is not valid before {}: is this machine's clock right?",
            validity.not_before
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn rsa() -> rcgen::KeyPair {
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
    }

    #[test]
    fn a_certificate_that_entra_would_refuse_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = rsa();
        let mut params = rcgen::CertificateParams::new(vec!["kerbgate".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        fs::write(path("client.pem"), certificate.pem()).unwrap();
        fs::write(path("client.key"), key.serialize_pem()).unwrap();
        fs::write(path("other.key"), rsa().serialize_pem()).unwrap();
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        fs::write(path("elliptic.key"), elliptic).unwrap();
        let (before, during, after) = (1_500_000_000, 1_750_000_000, 1_900_000_000);
        let told = |pem: &str, key: &str, now| {
            examine(&path(pem), &path(key), now)
                .map_err(|(which, problem)| format!("{which}: {problem}"))
                .err()
                .unwrap_or_default()
        };
        assert_eq!(told("client.pem", "client.key", during), "");
        for (pem, key, now, which, part) in [
            (
                "client.pem",
                "client.key",
                after,
                "client_certificate",
                "expired on",
            ),
            (
                "client.pem",
                "client.key",
                before,
                "client_certificate",
                "is not valid before",
            ),
            (
                "client.pem",
                "other.key",
                during,
                "client_key",
                "is not the key of",
            ),
            (
                "client.pem",
                "elliptic.key",
                during,
                "client_key",
                "is no RSA key",
            ),
            (
                "client.pem",
                "client.pem",
                during,
                "client_key",
                "holds no private key",
            ),
            (
                "client.key",
                "client.key",
                during,
                "client_certificate",
                "holds no certificate",
            ),
            (
                "nowhere.pem",
                "client.key",
                during,
                "client_certificate",
                "holds no certificate",
            ),
        ] {
            let said = told(pem, key, now);
            assert!(said.starts_with(which) && said.contains(part), "{said}");
        }
    }
}
