//! Connections to the gateway, one by one: which person's requests share one is the soak's choice.
//!
//! A client library's pool would decide that itself, and would hide when a request was sent again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use crate::stage::Failure;

/// What is sent along with a request.
pub type Upload = UnsyncBoxBody<Bytes, Infallible>;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As it is written in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// One connection, or for HTTP/2 one handle on it.
#[derive(Debug)]
pub enum Line {
    /// Carries one request at a time.
    Http1(http1::SendRequest<Upload>),
    /// Carries many.
    Http2(http2::SendRequest<Upload>),
}

impl Line {
    /// Sends `request` when the connection can take it.
    pub async fn send(&mut self, request: Request<Upload>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Makes connections.
#[derive(Clone)]
pub struct Dialer {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Dialer {
    /// Trusts the authority in `ca` and nobody else.
    pub fn new(ca: &Path) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            http1: speaking(b"http/1.1"),
            http2: speaking(b"h2"),
        })
    }

    /// The bare connection to `url`'s host, which is on loopback by its name (RFC 6761 6.3).
    pub async fn wire(
        &self,
        url: &Url,
        protocol: Protocol,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host)?;
        Ok(match protocol {
            Protocol::Http1 => self.http1.connect(name, stream).await?,
            Protocol::Http2 => self.http2.connect(name, stream).await?,
        })
    }

    /// The same, speaking HTTP.
    pub async fn dial(&self, url: &Url, protocol: Protocol) -> Result<Line, Failure> {
        let io = TokioIo::new(self.wire(url, protocol).await?);
        // A connection's own end is told to whoever uses it.
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Line::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Line::Http2(sender))
            }
        }
    }
}

/// Which connections may carry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wire {
    /// One person's own, or, with `None`, one that everybody uses in turn.
    pub owner: Option<usize>,
    /// The application's number.
    pub app: usize,
    /// The protocol.
    pub protocol: Protocol,
}

/// Connections that are open and free.
#[derive(Default)]
pub struct Pool {
    free: Mutex<HashMap<Wire, Vec<Line>>>,
}

impl Pool {
    /// A free connection; one of HTTP/2 stays in the pool as well.
    pub fn take(&self, wire: Wire) -> Option<Line> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = free.get_mut(&wire)?;
        lines.retain(|line| !line.is_closed());
        match lines.last() {
            Some(Line::Http2(sender)) => Some(Line::Http2(sender.clone())),
            Some(Line::Http1(_)) | None => lines.pop(),
        }
    }

    /// Takes back a connection whose answer was read to its end.
    pub fn give(&self, wire: Wire, line: Line) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = free.entry(wire).or_default();
        match line {
            Line::Http1(_) => lines.push(line),
            Line::Http2(_) if lines.is_empty() => lines.push(line),
            Line::Http2(_) => {}
        }
    }

    /// Closes what is free on `wire`.
    pub fn hang_up(&self, wire: Wire) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        drop(free.remove(&wire));
    }
}
