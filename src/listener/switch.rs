//! A client's connection, or stream, that is to become something else than requests and answers.
//!
//! In: a request whose client offered it; its extensions hold a [`Switch`]. Out: the bare [`Wire`], once
//! the service has answered 101 (HTTP/1.1, RFC 9110 7.8) or 200 to an extended CONNECT (RFC 8441).
//!
//! # Why
//!
//! hyper's own `with_upgrades` ends the connection's task at that moment. Ours goes on until the wire is
//! dropped: its place among the connections stays taken, and the drain waits for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;

use bytes::Buf;
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::oneshot;

use super::activity::Busy;
use super::connection::Ends;

/// What both kinds of wire are.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The right to take over the client's side.
pub struct Switch {
    source: Source,
    /// When it has to end.
    pub ends: Ends,
    busy: Busy,
}

enum Source {
    Connection(oneshot::Receiver<Wire>),
    Stream(OnUpgrade),
}

/// The client's side, taken over.
pub struct Wire {
    io: Box<dyn Duplex>,
    /// Read too far by the HTTP parser.
    ahead: Bytes,
    /// The connection counts as served, and its task waits, as long as these live.
    _busy: Option<Busy>,
    _stays: Option<oneshot::Sender<()>>,
}

/// Where a connection's task and its requests agree on a takeover.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<oneshot::Sender<Wire>>>>);

/// In a request's extensions; taken once.
#[derive(Clone)]
struct Offered(Arc<Mutex<Option<Switch>>>);

impl Switch {
    /// Takes what was offered with a request.
    pub fn take(extensions: &mut http::Extensions) -> Option<Self> {
        let offered = extensions.remove::<Offered>()?;
        offered
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The wire, after the answer was sent.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn wire(self) -> io::Result<Wire> {
        let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let mut wire = match self.source {
            Source::Connection(receiver) => receiver.await.map_err(|_| gone())?,
            Source::Stream(stream) => Wire {
                io: Box::new(TokioIo::new(stream.await.map_err(io::Error::other)?)),
                ahead: Bytes::new(),
                _busy: None,
                _stays: None,
            },
        };
        wire._busy = Some(self.busy);
        Ok(wire)
    }
}

impl Handover {
    /// Puts a [`Switch`] with `request`, if its client offers one.
    pub(super) fn offer(
        &self,
        request: &mut Request<Incoming>,
        busy: impl FnOnce() -> Busy,
        ends: &Ends,
    ) {
        if request.extensions().get::<OnUpgrade>().is_none() {
            return;
        }
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return;
        };
        let source = if request.version() == http::Version::HTTP_2 {
            Source::Stream(upgrade)
        } else {
            let (sender, receiver) = oneshot::channel();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            Source::Connection(receiver)
        };
        let switch = Switch {
            source,
            ends: ends.clone(),
            busy: busy(),
        };
        request
            .extensions_mut()
            .insert(Offered(Arc::new(Mutex::new(Some(switch)))));
    }

    /// Hands a connection over that answered 101, and waits until whoever took it is done.
    pub(super) async fn hand_over(&self, io: Box<dyn Duplex>, ahead: Bytes) {
        let taker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(taker) = taker else {
            return;
        };
        let (stays, left) = oneshot::channel();
        let wire = Wire {
            io,
            ahead,
            _busy: None,
            _stays: Some(stays),
        };
        if taker.send(wire).is_ok() {
            // Nothing is ever sent: the sender is dropped with the wire.
            drop(left.await);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..length).unwrap_or_default());
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
