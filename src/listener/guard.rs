//! The wire of one client connection: inspects HTTP/1 framing and notes when it last moved.
//!
//! Bytes are read straight into the parser's buffer and looked at there; nothing is copied. At the
//! first refused line the buffer is cut before that line and a byte that no HTTP allows is put in its
//! place: hyper answers 400 in the right order of responses and closes, and has never seen the
//! complete head of the request that was refused. So what a service sees is what was found sound.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use super::activity::Activity;
use super::framing::Framing;

/// NUL is allowed nowhere in HTTP/1; the empty line makes a parser that waits for a head's end look.
const POISON: &[u8] = b"\0\r\n\r\n";

enum Reading {
    /// HTTP/2 has its own framing, which the h2 crate reads strictly.
    Plain,
    Inspected(Framing),
    /// This much of [`POISON`] still has to be read; then the connection ends.
    Poisoned(&'static [u8]),
}

/// A connection to a client whose bytes are watched.
pub struct Guard<T> {
    inner: T,
    reading: Reading,
    activity: Arc<Activity>,
}

impl<T> Guard<T> {
    /// For HTTP/1: no head may be longer than `max_head`.
    pub fn http1(inner: T, max_head: usize, activity: Arc<Activity>) -> Self {
        // hyper answers 431 at `max_head`; the second bound only stands behind it.
        let framing = Framing::new(max_head.saturating_mul(2));
        Self {
            inner,
            reading: Reading::Inspected(framing),
            activity,
        }
    }

    /// For HTTP/2.
    pub const fn http2(inner: T, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            reading: Reading::Plain,
            activity,
        }
    }
}

fn drink(poison: &mut &'static [u8], buf: &mut ReadBuf<'_>) {
    let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
    buf.put_slice(now);
    *poison = later;
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Reading::Poisoned(poison) = &mut this.reading {
            drink(poison, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let Reading::Inspected(framing) = &mut this.reading else {
            return Poll::Ready(Ok(()));
        };
        // SECURITY: only after 101. Whatever a client sends before its offer was accepted is HTTP.
        if this.activity.is_switched() {
            this.reading = Reading::Plain;
            return Poll::Ready(Ok(()));
        }
        let arrived = buf.filled().get(before..).unwrap_or_default();
        match framing.inspect(arrived) {
            Ok(()) => this.activity.head(framing.within_head()),
            Err(refused) => {
                tracing::info!(why = %refused.why, "request refused");
                buf.set_filled(before + refused.sound);
                let mut poison = POISON;
                drink(&mut poison, buf);
                this.reading = Reading::Poisoned(poison);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.activity.write_blocked(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.activity.write_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.activity.write_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
