//! Serving for the lab's programs: bind, TLS, HTTP/1.1, a ready file, an orderly end.
//!
//! hyper is used directly under axum's router because a lab must be able to cut a connection
//! without an answer, and to number connections; `axum::serve` can do neither.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// What a program of the lab may fail with: text for a person.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Put into a response's extensions: the connection is closed and nothing is sent.
#[derive(Clone)]
pub struct Cut;

/// A response that makes the server close the connection without an answer.
pub fn cut() -> Response {
    let mut response = ().into_response();
    response.extensions_mut().insert(Cut);
    response
}

/// Put into each request's extensions: which connection, counted from 1, brought it.
#[derive(Clone, Copy)]
pub struct Connection(pub u64);

/// Options that every program of the lab has.
#[derive(clap::Args, Debug)]
pub struct Common {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Certificate chain (PEM); without it, plain HTTP.
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate (PEM).
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
    /// Written (JSON) once requests are answered.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
    /// End when the process that started this one has gone.
    #[arg(long)]
    pub die_with_parent: bool,
}

/// A bound socket that does not answer yet.
pub struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready_file: Option<PathBuf>,
    parent: Option<u32>,
}

impl Bound {
    /// Binds and loads the certificate.
    pub async fn new(common: &Common) -> Result<Self, Failure> {
        // Taken first: a parent that dies during start-up must be noticed too.
        let parent = common
            .die_with_parent
            .then(std::os::unix::process::parent_id);
        let tls = match (&common.cert, &common.key) {
            (Some(cert), Some(key)) => Some(acceptor(cert, key)?),
            _ => None,
        };
        let listener = TcpListener::bind(common.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", common.listen))?;
        Ok(Self {
            listener,
            tls,
            ready_file: common.ready_file.clone(),
            parent,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.listener.local_addr()?)
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Answers until SIGTERM, SIGINT or the parent's end. `connections` counts accepted ones.
    pub async fn serve(
        self,
        router: Router,
        public_url: &str,
        connections: Arc<AtomicU64>,
    ) -> Result<(), Failure> {
        let ended = told_to_end(self.parent)?;
        if let Some(path) = &self.ready_file {
            let ready = serde_json::json!({
                "address": self.address()?.to_string(),
                "public_url": public_url,
                "pid": std::process::id(),
            });
            // Renamed into place: a reader never sees half a file.
            let half = path.with_extension("half");
            std::fs::write(&half, ready.to_string())
                .and_then(|()| std::fs::rename(&half, path))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        tokio::pin!(ended);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut ended => return Ok(()),
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let number = Connection(connections.fetch_add(1, Ordering::Relaxed) + 1);
            tokio::spawn(connection(stream, self.tls.clone(), router.clone(), number));
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    number: Connection,
) {
    drop(stream.set_nodelay(true));
    match tls {
        None => speak(stream, router, number).await,
        Some(tls) => {
            // A refused handshake is the client's affair.
            if let Ok(Ok(stream)) =
                tokio::time::timeout(Duration::from_secs(10), tls.accept(stream)).await
            {
                speak(stream, router, number).await;
            }
        }
    }
}

async fn speak<S>(stream: S, router: Router, number: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(number);
        let answer = router.call(request);
        async move {
            let Ok(response) = answer.await;
            if response.extensions().get::<Cut>().is_some() {
                return Err(std::io::Error::other("cut on request"));
            }
            Ok(response)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(1024 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    // Ended by the peer or cut on request: nobody to tell.
    drop(served);
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let told = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| told(cert, &error))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| told(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| told(cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Resolves on SIGTERM, SIGINT, or when the parent is no longer `parent`.
fn told_to_end(parent: Option<u32>) -> Result<impl Future<Output = ()>, Failure> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let orphaned = async {
            let Some(parent) = parent else {
                return std::future::pending().await;
            };
            // PR_SET_PDEATHSIG would need unsafe code; a glance every moment does as well.
            while std::os::unix::process::parent_id() == parent {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            () = orphaned => {}
        }
    })
}

/// Runs one of the lab's programs on a runtime of its own.
pub fn block_on(program: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(program);
    // Requests that hang on demand must not keep the process.
    runtime.shutdown_background();
    ended
}
