//! One connection: TCP, TLS that verifies the controller, bind; then ldap3 over a socket pair.
//!
//! Why the pair: ldap3 would choose trust, name and time-outs by itself and cannot bind as we must. It is
//! given a Unix socket whose other end a task of ours joins to the authenticated TLS stream.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use ldap3::Ldap;
use ldap3::LdapConnAsync;
use ldap3::LdapConnSettings;
use ldap3::StdStream;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Settings;
use super::Transport;
use super::bind;
use super::error::Error;
use super::tls;
use crate::model::names::HostName;

/// How long the system may try to deliver what we sent before it declares the connection dead.
const UNDELIVERED: Duration = Duration::from_secs(30);

/// An authenticated connection on which many operations run at once.
#[derive(Debug)]
pub(super) struct Connection {
    ldap: Ldap,
    opened: Instant,
    used: std::sync::Mutex<Instant>,
    broken: AtomicBool,
}

impl Connection {
    pub(super) async fn open(settings: &Settings, server: &HostName) -> Result<Self, Error> {
        let opening = async {
            let mut stream = secured(settings, server).await?;
            let binding = channel_binding(&stream);
            bind::bind(&mut stream, server, &settings.bind, binding.as_deref()).await?;
            hand_over(stream)
                .await
                .map_err(|reason| unreachable(server, "hand-over", &reason))
        };
        let ldap = tokio::time::timeout(settings.connect, opening)
            .await
            .map_err(|_| {
                let within = format!("not connected and bound within {:?}", settings.connect);
                unreachable(server, "connect", &within)
            })??;
        let now = Instant::now();
        Ok(Self {
            ldap,
            opened: now,
            used: std::sync::Mutex::new(now),
            broken: AtomicBool::new(false),
        })
    }

    /// A handle for one operation.
    pub(super) fn handle(&self) -> Ldap {
        *self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        self.ldap.clone()
    }

    /// Never used again: an operation on it failed in a way that makes the next one doubtful.
    pub(super) fn condemn(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether a new operation may go out on it.
    pub(super) fn is_usable(&self, idle: Duration, lifetime: Duration) -> bool {
        let used = *self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        !self.broken.load(Ordering::Relaxed)
            && !self.ldap.clone().is_closed()
            && used.elapsed() < idle
            && self.opened.elapsed() < lifetime
    }
}

fn unreachable(server: &HostName, step: &'static str, reason: &impl ToString) -> Error {
    Error::Unreachable {
        server: server.clone(),
        step,
        reason: reason.to_string(),
    }
}

/// TCP and TLS, the certificate checked against the controller's name.
async fn secured(settings: &Settings, server: &HostName) -> Result<TlsStream<TcpStream>, Error> {
    let mut tcp = connect(settings, server)
        .await
        .map_err(|reason| unreachable(server, "TCP connect", &reason))?;
    match settings.transport {
        Transport::Ldaps => {}
        Transport::StartTls => bind::start_tls(&mut tcp, server).await?,
    }
    let name = ServerName::try_from(server.as_str().to_owned())
        .map_err(|reason| unreachable(server, "TLS", &reason))?;
    TlsConnector::from(Arc::clone(&settings.tls))
        .connect(name, tcp)
        .await
        .map_err(|reason| unreachable(server, "TLS", &reason))
}

async fn connect(settings: &Settings, server: &HostName) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match settings.hosts.get(server.as_str()) {
        Some(ip) => vec![SocketAddr::new(*ip, settings.port)],
        None => match server.as_str().parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, settings.port)],
            Err(_) => tokio::net::lookup_host((server.as_str(), settings.port))
                .await?
                .collect(),
        },
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tune(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// A controller that vanished without a word is noticed by the system, not by the next visitor.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNDELIVERED))?;
    stream.set_nodelay(true)
}

/// `tls-server-end-point` (RFC 5929 4.1) of the controller's certificate.
fn channel_binding(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let (_, session) = stream.get_ref();
    tls::server_end_point(session.peer_certificates()?.first()?)
}

async fn hand_over(mut stream: TlsStream<TcpStream>) -> Result<Ldap, String> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|e| e.to_string())?;
    ours.set_nonblocking(true).map_err(|e| e.to_string())?;
    let mut ours = UnixStream::from_std(ours).map_err(|e| e.to_string())?;
    // Ends when either side closes: ldap3 when its last handle is dropped, the controller when it likes.
    drop(tokio::spawn(async move {
        drop(tokio::io::copy_bidirectional(&mut ours, &mut stream).await);
    }));
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(theirs));
    let (driver, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///")
        .await
        .map_err(|e| e.to_string())?;
    drop(tokio::spawn(async move {
        if let Err(error) = driver.drive().await {
            tracing::debug!(%error, "an LDAP connection ended");
        }
    }));
    Ok(ldap)
}
