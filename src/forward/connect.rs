//! New connections to backends: name, TCP, TLS with verification, HTTP/1.1; see [`super::http2`] for HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::client::conn::http1 as protocol;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::balance::Server;
use super::binding;
use super::body::Upload;
use super::error::Error;
use super::http2;
use super::pool::Connection;
use super::resend::Counted;
use crate::model::application::backend_tls::Client;
use crate::model::wire::Wire;

/// What is read ahead for a client that does not take it, and the largest head of an answer. hyper's own
/// 400 KiB, twice a connection, is what a few thousand such clients would fill the memory with.
pub(super) const READ_AHEAD: usize = 128 * 1024;

/// Whom we believe that a backend is the one it says. There is no way not to check.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// The authorities that the machine trusts.
    #[default]
    Platform,
    /// These alone.
    Authorities(Vec<CertificateDer<'static>>),
}

/// TLS settings towards backends.
///
/// # Errors
/// An authority that is no certificate, a machine without any, or a key that is not the certificate's.
pub fn client_config(
    trust: Trust,
    client: Option<&Client>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match trust {
        Trust::Platform => builder.with_platform_verifier()?,
        Trust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut config = match client {
        Some(client) => {
            builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key())?
        }
        None => builder.with_no_client_auth(),
    };
    // Negotiate and HTTP/2 do not mix: IIS itself falls back (HTTP_1_1_REQUIRED).
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The right to send one request to `server`, in the protocol that it is to be spoken to in.
///
/// Boxed: most requests find a connection, and need not carry the room for making one.
///
/// # Errors
/// When there is no connection and none can be made, or not within `within`.
pub fn connect(server: &Server, within: Duration) -> BoxFuture<'_, Result<Connection, Error>> {
    match &server.http2 {
        Some(http2) => Box::pin(http2::connect(http2, server, within)),
        None => Box::pin(http1(server, within)),
    }
}

/// Connects to `server` for HTTP/1.1, TLS included, within `within`.
///
/// # Errors
/// When that fails or takes too long.
pub async fn http1(server: &Server, within: Duration) -> Result<Connection, Error> {
    let connecting = async {
        let stream = tcp(server).await?;
        match &server.tls {
            None => http(server, stream).await,
            Some((_, config)) => http_in_tls(server, tls(server, config, stream).await?).await,
        }
    };
    in_time(server, within, connecting).await
}

/// What `connecting` comes to, if it does within `within`.
pub(super) async fn in_time<T>(
    server: &Server,
    within: Duration,
    connecting: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(within, connecting)
        .await
        .unwrap_or_else(|_| {
            Err(Error::ConnectTimeout {
                backend: server.to_string(),
                within,
            })
        })
}

pub(super) async fn tcp(server: &Server) -> Result<Wire<TcpStream>, Error> {
    open(server)
        .await
        .map(Wire)
        .map_err(|source| Error::Unreachable {
            backend: server.to_string(),
            source,
        })
}

async fn open(server: &Server) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match server.address {
        Some(address) => vec![address],
        None => tokio::net::lookup_host((server.host.as_str(), server.port))
            .await?
            .collect(),
    };
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The handshake: the name that the server has to have is the configured one, `config` says what it may speak.
pub(super) async fn tls(
    server: &Server,
    config: &Arc<ClientConfig>,
    stream: Wire<TcpStream>,
) -> Result<TlsStream<Wire<TcpStream>>, Error> {
    let failed = |source| Error::Tls {
        backend: server.to_string(),
        source,
    };
    let Some((name, _)) = &server.tls else {
        return Err(failed(io::Error::other("its URL is without TLS")));
    };
    TlsConnector::from(Arc::clone(config))
        .connect(name.clone(), stream)
        .await
        .map_err(failed)
}

/// HTTP/1.1 within TLS.
pub(super) async fn http_in_tls(
    server: &Server,
    stream: TlsStream<Wire<TcpStream>>,
) -> Result<Connection, Error> {
    let shown = stream.get_ref().1.peer_certificates();
    let binding = shown.and_then(|chain| binding::of(chain.first()?));
    Ok(http(server, stream).await?.bound(binding))
}

async fn http<T>(server: &Server, stream: T) -> Result<Connection, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stream, heard) = Counted::new(stream);
    let (sender, connection) = protocol::Builder::new()
        .max_buf_size(READ_AHEAD)
        .handshake::<_, Upload>(TokioIo::new(stream))
        .await
        .map_err(|source| Error::Protocol {
            backend: server.to_string(),
            source,
        })?;
    let counted = server
        .connections
        .as_ref()
        .map(|(_, alive)| Arc::clone(alive));
    // What ends it is told to whoever waits for its answer.
    let task = tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(Connection::new(sender, task.abort_handle())
        .hearing(heard)
        .counted(counted))
}
