//! One new connection to a backend: name, TCP, TLS, HTTP/1.1.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::model::application::Backend;
use crate::model::body::Body;

/// Why there is no connection. In none of these cases was a request sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name does not resolve.
    #[error("{host} does not resolve: {source}")]
    Name {
        /// The backend's host.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// TCP failed.
    #[error("connecting to {backend} failed: {source}")]
    Tcp {
        /// Host and port.
        backend: String,
        /// The system's answer.
        source: io::Error,
    },
    /// TLS failed.
    #[error("TLS with {backend} failed: {source}")]
    Tls {
        /// Host and port.
        backend: String,
        /// The library's answer: which check failed.
        source: io::Error,
    },
    /// Name, TCP and TLS took longer than the application's `connect`.
    #[error("connecting to {backend} took longer than {} ms", limit.as_millis())]
    Timeout {
        /// Host and port.
        backend: String,
        /// The limit.
        limit: Duration,
    },
    /// HTTP could not begin.
    #[error("HTTP with {backend} could not begin: {source}")]
    Http {
        /// Host and port.
        backend: String,
        /// The library's answer.
        source: hyper::Error,
    },
}

/// Why the trust in backends cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read as PEM certificates.
    #[error("{path}: no PEM certificates: {problem}")]
    File {
        /// The CA file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The library refused.
    #[error("TLS towards backends: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS settings towards a backend: its certificate is verified, always.
///
/// # Errors
/// `ca_file` holds no certificates.
pub fn tls(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let builder = ClientConfig::builder();
    let config = match ca_file {
        None => builder.with_platform_verifier()?,
        Some(path) => {
            let file = |problem: String| TrustError::File {
                path: path.display().to_string(),
                problem,
            };
            let mut roots = RootCertStore::empty();
            let found = CertificateDer::pem_file_iter(path).map_err(|e| file(e.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| file(e.to_string()))?;
                roots.add(certificate).map_err(|e| file(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(file(String::from("the file holds none")));
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A new connection to `backend`, ready for its first request.
///
/// # Errors
/// See [`Error`]; no request was sent.
pub async fn connect(
    backend: &Backend,
    tls: &Arc<ClientConfig>,
    limit: Duration,
) -> Result<SendRequest<Body>, Error> {
    let shown = authority(backend);
    match tokio::time::timeout(limit, connect_unbounded(backend, tls, &shown)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout {
            backend: shown,
            limit,
        }),
    }
}

/// Host and port of `backend`, the port left out where it is the scheme's own.
#[must_use]
pub fn authority(backend: &Backend) -> String {
    let host = backend.url.host_str().unwrap_or_default();
    match backend.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

async fn connect_unbounded(
    backend: &Backend,
    tls: &Arc<ClientConfig>,
    shown: &str,
) -> Result<SendRequest<Body>, Error> {
    let host = backend.url.host_str().unwrap_or_default();
    let addresses: Vec<SocketAddr> = match backend.address {
        Some(address) => vec![address],
        None => {
            let port = backend.url.port_or_known_default().unwrap_or(80);
            let found = tokio::net::lookup_host((host, port)).await;
            found
                .map_err(|source| Error::Name {
                    host: host.to_owned(),
                    source,
                })?
                .collect()
        }
    };
    let tcp = |source| Error::Tcp {
        backend: shown.to_owned(),
        source,
    };
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(tcp)?;
    stream.set_nodelay(true).map_err(tcp)?;
    if backend.url.scheme() != "https" {
        return speak(stream, shown).await;
    }
    let wrong = |source| Error::Tls {
        backend: shown.to_owned(),
        source,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| wrong(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(wrong)?;
    speak(stream, shown).await
}

async fn speak<S>(stream: S, shown: &str) -> Result<SendRequest<Body>, Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let begun = http1::Builder::new()
        .max_headers(256)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = begun.map_err(|source| Error::Http {
        backend: shown.to_owned(),
        source,
    })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a backend connection ended with an error");
        }
    });
    Ok(sender)
}

/// Largest head of a backend's response, and write buffer for a request with a large ticket.
const MAX_HEAD: usize = 256 * 1024;
