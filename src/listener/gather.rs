//! What an HTTP/2 connection writes within one poll, gathered and written at once.
//!
//! # Why
//! The h2 crate writes each DATA frame of 256 bytes and more by itself, with a TLS record and a system call for
//! each. Streams that have something to say at the same time are the rule in HTTP/2: their frames go out together
//! when the poll is over. Nothing waits longer than that, and what is larger than a record is not copied.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// The content of one TLS record (RFC 8446 5.1).
const MOST: usize = 16 * 1024;

/// A connection's wire that takes small writes and keeps them until [`Gathered::end_of_poll`].
pub struct Gathered<T>(Arc<Mutex<Gathering<T>>>);

struct Gathering<T> {
    wire: T,
    waiting: Vec<u8>,
    /// How much of it is written.
    gone: usize,
    /// Who wrote was told that all is well: it hears of this at the next opportunity.
    broken: Option<io::Error>,
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Gathered<T> {
    /// `wire`, with nothing to be written.
    pub fn new(wire: T) -> Self {
        Self(Arc::new(Mutex::new(Gathering {
            wire,
            waiting: Vec::new(),
            gone: 0,
            broken: None,
        })))
    }

    /// Never waited for: one task has all of them.
    fn lock(&self) -> MutexGuard<'_, Gathering<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes what was gathered. Where the wire takes no more, the task of `cx` is woken when it does,
    /// and has to call this again.
    pub fn end_of_poll(&self, cx: &mut Context<'_>) {
        let mut this = self.lock();
        if this.broken.is_some() {
            return;
        }
        if let Poll::Ready(Err(error)) = this.poll_out(cx) {
            this.broken = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: AsyncWrite + Unpin> Gathering<T> {
    fn check(&mut self) -> io::Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Until nothing waits.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .waiting
            .get(self.gone..)
            .filter(|rest| !rest.is_empty())
        {
            match ready!(Pin::new(&mut self.wire).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.gone += bytes,
            }
        }
        // An idle connection keeps no buffer.
        (self.waiting, self.gone) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drained(cx))?;
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    /// Whether `bytes` more are to be gathered; false: nothing waits, and they go straight to the wire.
    fn poll_gathers(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<bool>> {
        self.check()?;
        if self.waiting.len() + bytes > MOST {
            ready!(self.poll_drained(cx))?;
        }
        if bytes > MOST {
            return Poll::Ready(Ok(false));
        }
        if self.waiting.is_empty() {
            self.waiting.reserve_exact(MOST);
        }
        Poll::Ready(Ok(true))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut this = self.lock();
        this.check()?;
        Pin::new(&mut this.wire).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.lock();
        if !ready!(this.poll_gathers(cx, buf.len()))? {
            return Pin::new(&mut this.wire).poll_write(cx, buf);
        }
        this.waiting.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.lock();
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if !ready!(this.poll_gathers(cx, bytes))? {
            return Pin::new(&mut this.wire).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            this.waiting.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().wire.is_write_vectored()
    }

    /// Flushed is what is gathered at the end of the poll; the h2 crate asks after each DATA frame.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.lock();
        this.check()?;
        ready!(this.poll_drained(cx))?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A wire that takes so many bytes a time, every second time none, and breaks after so many in all.
    struct Slow {
        at_once: usize,
        breaks_after: usize,
        said_no: bool,
        taken: Vec<Vec<u8>>,
    }

    impl Slow {
        fn new(at_once: usize, breaks_after: usize) -> Self {
            Self {
                at_once,
                breaks_after,
                said_no: true,
                taken: Vec::new(),
            }
        }

        fn all(&self) -> Vec<u8> {
            self.taken.concat()
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.said_no = !self.said_no;
            if self.said_no {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.all().len() >= self.breaks_after {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let bytes = buf.len().min(self.at_once);
            self.taken.push(buf[..bytes].to_vec());
            Poll::Ready(Ok(bytes))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.taken.push(b"bye".to_vec());
            Poll::Ready(Ok(()))
        }
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn write<T: AsyncWrite + Unpin>(
        wire: &mut Gathered<T>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let halves = bytes.split_at(bytes.len() / 2);
        let both = [IoSlice::new(halves.0), IoSlice::new(halves.1)];
        Pin::new(wire).poll_write_vectored(&mut context(), &both)
    }

    #[test]
    fn what_is_written_in_one_poll_goes_out_together_at_its_end() {
        let mut wire = Gathered::new(Slow::new(usize::MAX, usize::MAX));
        for word in [&b"one "[..], b"two ", b"three"] {
            assert!(
                matches!(write(&mut wire, word), Poll::Ready(Ok(bytes)) if bytes == word.len())
            );
            assert!(Pin::new(&mut wire).poll_flush(&mut context()).is_ready());
        }
        assert!(wire.lock().wire.taken.is_empty());
        wire.end_of_poll(&mut context());
        assert_eq!(wire.lock().wire.taken, [b"one two three"]);
        assert_eq!(
            wire.lock().waiting.capacity(),
            0,
            "an idle connection keeps no buffer"
        );
    }

    #[test]
    fn a_wire_that_takes_nothing_holds_the_writer_back() {
        let mut wire = Gathered::new(Slow::new(0, usize::MAX));
        wire.lock().wire.said_no = false;
        assert!(write(&mut wire, &[1; MOST]).is_ready());
        assert!(write(&mut wire, &[2]).is_pending());
        assert_eq!(wire.lock().waiting.len(), MOST);
    }

    #[test]
    fn a_wire_that_broke_is_told_at_the_next_opportunity() {
        for hears in [
            |wire: &mut Gathered<Slow>| write(wire, b"more").map_ok(drop),
            |wire: &mut Gathered<Slow>| Pin::new(wire).poll_flush(&mut context()),
            |wire: &mut Gathered<Slow>| Pin::new(wire).poll_shutdown(&mut context()),
        ] {
            let mut wire = Gathered::new(Slow::new(9, 0));
            assert!(write(&mut wire, b"lost").is_ready());
            wire.end_of_poll(&mut context());
            let told = hears(&mut wire);
            let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
            assert!(
                matches!(&told, Poll::Ready(Err(error)) if broken(error)),
                "{told:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_reader_hears_of_a_broken_wire_too() {
        let (near, far) = tokio::io::duplex(8);
        drop(far);
        let mut wire = Gathered::new(near);
        assert!(write(&mut wire, b"lost").is_ready());
        wire.end_of_poll(&mut context());
        assert!(wire.read_u8().await.is_err());
    }

    proptest! {
        #[test]
        fn every_byte_arrives_in_order_and_before_the_end(
            sizes in vec(prop_oneof![0..200_usize, 0..3 * MOST], 0..12),
            at_once in 1..2 * MOST,
            poll_ends in vec(any::<bool>(), 12),
        ) {
            let mut wire = Gathered::new(Slow::new(at_once, usize::MAX));
            let mut sent = Vec::new();
            for (size, ends) in sizes.into_iter().zip(poll_ends) {
                let bytes: Vec<u8> = (0..size).map(|at| (at + sent.len()) as u8).collect();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    if let Poll::Ready(written) = write(&mut wire, rest) {
                        rest = &rest[written.unwrap()..];
                    }
                }
                sent.extend(bytes);
                if ends {
                    wire.end_of_poll(&mut context());
                }
            }
            while Pin::new(&mut wire).poll_shutdown(&mut context()).is_pending() {}
            sent.extend(b"bye");
            prop_assert_eq!(wire.lock().wire.all(), sent);
        }
    }
}
