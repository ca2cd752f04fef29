//! The wire of one client connection: inspects HTTP/1 framing and notes when it last moved.
//!
//! Bytes are read straight into the parser's buffer and looked at there; nothing is copied. At the
//! first refused line the buffer is cut before that line, so hyper never sees the complete head of the
//! request that was refused: what a service sees is what was found sound. Within a head nothing
//! more is read, and the connection's task answers. Within a body, whose reader waits, a byte that no
//! HTTP allows is put in the line's place: the body ends with an error and the connection closes.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadBuf;

use super::activity::Activity;
use super::framing::Framing;

/// NUL is allowed nowhere in HTTP/1; the empty line makes a parser that waits for a head's end look.
const POISON: &[u8] = b"\0\r\n\r\n";

enum Reading {
    /// HTTP/2 has its own framing, which the h2 crate reads strictly.
    Plain,
    Inspected(Framing),
    /// A head was refused: nothing more is read.
    Parked,
    /// This much of [`POISON`] still has to be read; then the connection ends.
    Poisoned(&'static [u8]),
}

/// A connection to a client whose bytes are watched.
pub struct Guard<T> {
    inner: T,
    reading: Reading,
    activity: Arc<Activity>,
    /// Read while nobody was there to parse it.
    ahead: Option<u8>,
    /// Begun to be written; nothing else is until it is over.
    interim: Bytes,
}

impl<T> Guard<T> {
    /// The wire itself.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// For HTTP/1: no head may be longer than `max_head`.
    pub fn http1(inner: T, max_head: usize, activity: Arc<Activity>) -> Self {
        let framing = Framing::new(max_head);
        Self {
            inner,
            reading: Reading::Inspected(framing),
            activity,
            ahead: None,
            interim: Bytes::new(),
        }
    }

    /// For HTTP/2.
    pub const fn http2(inner: T, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            reading: Reading::Plain,
            activity,
            ahead: None,
            interim: Bytes::new(),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guard<T> {
    /// Waits for the next request without a buffer to read it into; false when none comes.
    pub async fn next(&mut self) -> io::Result<bool> {
        self.inner.flush().await?;
        let mut first = [0];
        if self.inner.read(&mut first).await? == 0 {
            return Ok(false);
        }
        self.ahead = Some(first[0]);
        Ok(true)
    }
}

impl<T> Guard<T> {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(Ok(bytes)) => self.activity.written(*bytes),
            Poll::Ready(Err(_)) => {}
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
        if matches!(this.reading, Reading::Parked) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let ahead = this.ahead.take();
        if let Some(byte) = ahead {
            buf.put_slice(&[byte]);
        }
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if read.is_ready() || ahead.is_none() {
            std::task::ready!(read)?;
        }
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
            Ok(()) => this
                .activity
                .read(framing.within_head(), framing.is_between()),
            // Within a head nothing waits for what follows: the parser is left waiting, and the connection's
            // task answers with the reason once the requests before are done.
            Err(refused) if framing.at_head() => {
                this.activity.refuse(refused.why);
                this.reading = Reading::Parked;
                buf.set_filled(before + refused.sound);
                // SECURITY: ready with nothing read would be the end of the stream.
                if refused.sound == 0 {
                    return Poll::Pending;
                }
            }
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

impl<T: AsyncWrite + Unpin> Guard<T> {
    /// Goes on with an interim response that was begun.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = Pin::new(&mut self.inner).poll_write(cx, &self.interim);
            self.note(&written);
            match std::task::ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.interim.advance(bytes),
            }
            if self.interim.is_empty() {
                self.activity.interim.written();
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
        std::task::ready!(self.poll_interim(cx))?;
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_interim(cx))?;
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper has nothing half written now: see `interim`.
        std::task::ready!(self.poll_interim(cx))?;
        while let Some(interim) = self.activity.interim.next() {
            self.interim = interim;
            std::task::ready!(self.poll_interim(cx))?;
        }
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_pending() {
            self.activity.write_blocked();
        } else {
            self.activity.written(0);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::StatusCode;

    use super::*;
    use crate::listener::interim::Line;

    #[tokio::test]
    async fn an_interim_response_is_written_whole_before_anything_else() {
        let activity = Activity::new();
        let line = Line::new(Arc::clone(&activity), activity.interim.open());
        // Takes five bytes at a time.
        let (near, mut far) = tokio::io::duplex(5);
        let mut guard = Guard::http1(near, 1024, activity);
        line.send(StatusCode::PROCESSING, &HeaderMap::new());
        let writing = async move {
            assert!(futures_util::poll!(Box::pin(guard.flush())).is_pending());
            line.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
            guard.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            guard.flush().await.unwrap();
        };
        let mut all = String::new();
        let (read, ()) = tokio::join!(far.read_to_string(&mut all), writing);
        read.unwrap();
        // The second one came while hyper had an answer to write: it has to wait for a flush.
        let expected = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert!(all.starts_with(expected), "{all}");
    }
}
