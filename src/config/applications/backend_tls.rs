//! `[backend_tls]` of an application's file.
//!
//! The files are read here and not by `forward`: a mistake in one of them is found before anything runs,
//! and a change of their content is a change of the application.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;

use crate::config::reader::Section;
use crate::model::application::Backend;
use crate::model::application::backend_tls::BackendTls;
use crate::model::application::backend_tls::Client;

/// Reads the section and the files it names.
pub(super) fn read(section: &Section<'_>, backends: &[Backend]) -> BackendTls {
    let plain = backends.iter().find(|one| one.url.scheme() != "https");
    if let Some(backend) = plain.filter(|_| section.exists()) {
        section.mistake(
            "",
            &format!(
                "\"{}\" is reached without TLS; write https in all `backend_urls`, or remove this section",
                backend.url
            ),
        );
    }
    let authorities = section.path("ca_file").map(|path| {
        let found = certificates(section, "ca_file", &path);
        let mut roots = RootCertStore::empty();
        for one in &found {
            if let Err(error) = roots.add(one.clone()) {
                let problem = format!("{} holds no authority: {error}", path.display());
                section.mistake("ca_file", &problem);
            }
        }
        found
    });
    let server_name = section.text("server_name").and_then(|name| {
        let parsed = ServerName::try_from(name.clone()).ok();
        if parsed.is_none() {
            section.mistake(
                "server_name",
                &format!("\"{name}\" is not a host name or an address as in a certificate"),
            );
        }
        parsed
    });
    let client = client(section);
    section.finish();
    BackendTls {
        authorities: authorities.unwrap_or_default(),
        client,
        server_name,
    }
}

fn client(section: &Section<'_>) -> Option<Client> {
    let certificate = section.path("client_certificate");
    let key = section.path("client_key");
    let (certificate, key_path) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            section.mistake("client_key", "is missing; wanted: the certificate's key");
            return None;
        }
        (None, Some(_)) => {
            section.mistake(
                "client_certificate",
                "is missing; wanted: the key's certificate",
            );
            return None;
        }
        (None, None) => return None,
    };
    let chain = certificates(section, "client_certificate", &certificate);
    let key = match PrivateKeyDer::from_pem_file(&key_path) {
        Ok(key) => key,
        Err(error) => {
            let problem = format!(
                "{} holds no private key (PEM, not encrypted): {error}",
                key_path.display()
            );
            section.mistake("client_key", &problem);
            return None;
        }
    };
    if chain.is_empty() {
        return None;
    }
    let provider = aws_lc_rs::default_provider();
    if let Err(error) = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider) {
        let problem = format!(
            "{} is not the key of {}: {error}",
            key_path.display(),
            certificate.display()
        );
        section.mistake("client_key", &problem);
        return None;
    }
    Some(Client {
        chain,
        key: Arc::new(key),
    })
}

fn certificates(
    section: &Section<'_>,
    key: &'static str,
    path: &PathBuf,
) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => {
            section.mistake(key, &format!("{} holds no certificate", path.display()));
            found
        }
        Ok(found) => found,
        Err(error) => {
            section.mistake(key, &format!("{} cannot be read: {error}", path.display()));
            Vec::new()
        }
    }
}
