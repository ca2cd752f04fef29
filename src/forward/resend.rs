//! Whether a request that was lost on a kept connection may be sent once more.
//!
//! In: the request before it goes out, and its connection. Out: yes or no, once the connection has ended.
//! Specification: RFC 9112 9.3.1, RFC 9110 9.2.2.
//!
//! # Why
//!
//! A backend may close a kept connection at any time, so also while a request is on its way to it: Apache does
//! when it runs short of workers. That is nobody's fault, and a visitor should not see it. Whether the backend
//! had begun to act on the request cannot be known; so only what may be done twice is sent twice, and only if not
//! a single byte of an answer came. That is counted below HTTP, where no library's opinion of an error matters.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use http::Method;
use http::Request;
use http_body::Body as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use super::body::Upload;
use super::pool::Lease;

/// How many bytes a backend has said on a connection.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<AtomicU64>);

impl Heard {
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection on which is counted what the backend says.
#[derive(Debug)]
pub struct Counted<T> {
    inner: T,
    heard: Heard,
}

impl<T> Counted<T> {
    /// `inner`, and where its bytes are counted.
    pub fn new(inner: T) -> (Self, Heard) {
        let heard = Heard::default();
        let counted = Self {
            inner,
            heard: heard.clone(),
        };
        (counted, heard)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        self.heard.0.fetch_add(read as u64, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// A request that may be sent once more, if its connection ends without a word.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    /// What had been heard before it was sent.
    heard: u64,
}

impl Spare {
    /// For `request`, about to be sent on `lease`.
    #[must_use]
    pub fn of(request: &Request<Upload>, lease: &Lease) -> Option<Self> {
        // RFC 9112 9.3.1: what a new connection does to a request says something about the server or the request.
        if !lease.reused || !is_idempotent(request.method()) || !request.body().is_end_stream() {
            return None;
        }
        let heard = lease.heard()?.bytes();
        Some(Self { heard })
    }

    /// True when `lease` ended, as `error` says, before anything of an answer came.
    #[must_use]
    pub fn allows(self, lease: &Lease, error: &hyper::Error) -> bool {
        let silent = lease
            .heard()
            .is_some_and(|heard| heard.bytes() == self.heard);
        silent && !error.is_parse() && !error.is_user()
    }
}

/// RFC 9110 9.2.2. A method that we do not know may do anything.
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}
