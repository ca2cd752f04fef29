//! Bounds of a request's body, for whoever reads it: how large, and how long it may be silent.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use thiserror::Error;
use tokio::time::Instant;
use tokio::time::Sleep;

use crate::model::body::BodyError;

/// A body that was cut.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyCut {
    /// More bytes than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// No byte for too long.
    #[error("the body was silent for {0:?}")]
    Silent(Duration),
}

impl BodyCut {
    /// The cut that ended a body, if it was one of these.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(this) = error {
            if let Some(cut) = this.downcast_ref::<Self>() {
                return Some(*cut);
            }
            error = this.source();
        }
        None
    }
}

/// A body of at most so many bytes.
#[derive(Debug)]
pub struct LimitedBody<B> {
    body: B,
    limit: u64,
    left: u64,
}

impl<B: Body> LimitedBody<B> {
    /// At most `limit` bytes of `body`; 0 = no limit.
    ///
    /// # Errors
    /// A body that announces more is refused before a byte of it is read.
    pub fn new(body: B, limit: u64) -> Result<Self, BodyCut> {
        let left = if limit == 0 { u64::MAX } else { limit };
        if body.size_hint().lower() > left {
            return Err(BodyCut::TooLarge(limit));
        }
        Ok(Self { body, limit, left })
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(size) else {
            return Poll::Ready(Some(Err(BodyCut::TooLarge(self.limit).into())));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that may not be silent for long while somebody waits for it.
///
/// The time in which nobody asks for more does not count: that is back-pressure, not silence.
pub struct IdleBody<B> {
    body: B,
    patience: Duration,
    waiting: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> IdleBody<B> {
    /// `body`, cut when it is silent for longer than `patience`.
    pub const fn new(body: B, patience: Duration) -> Self {
        Self {
            body,
            patience,
            waiting: false,
            timer: None,
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.waiting {
            self.waiting = true;
            let until = Instant::now() + self.patience;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
            }
        }
        self.timer
            .as_mut()
            .is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

impl<B> Body for IdleBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if self.overdue(cx) => {
                Poll::Ready(Some(Err(BodyCut::Silent(self.patience).into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::Full;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_above_the_limit_is_cut() {
        let announced = Full::new(Bytes::from_static(b"12345"));
        assert!(matches!(
            LimitedBody::new(announced, 4),
            Err(BodyCut::TooLarge(4))
        ));
        let parts = ["123", "45"].map(|part| Ok::<_, BodyError>(Frame::data(Bytes::from(part))));
        let streamed = StreamBody::new(futures_util::stream::iter(parts));
        let error = LimitedBody::new(streamed, 4)
            .unwrap()
            .collect()
            .await
            .unwrap_err();
        assert_eq!(BodyCut::of(&*error), Some(BodyCut::TooLarge(4)));
        let exact = Full::new(Bytes::from_static(b"12345"));
        assert!(LimitedBody::new(exact, 5).unwrap().collect().await.is_ok());
    }

    #[tokio::test]
    async fn a_silent_body_is_cut() {
        let silent = StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, BodyError>,
        >());
        let error = IdleBody::new(silent, Duration::from_millis(5))
            .collect()
            .await
            .unwrap_err();
        assert!(matches!(BodyCut::of(&*error), Some(BodyCut::Silent(_))));
    }
}
