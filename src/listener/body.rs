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
    /// Bytes, but too few.
    #[error("the body came in at less than {0} bytes a second")]
    TooSlow(u64),
    /// Not over when it had to be.
    #[error("the exchange took longer than {0:?}")]
    TooLong(Duration),
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
    /// Fewest bytes a second; 0 = none.
    min_rate: u64,
    /// How long it may still be waited for: each byte earns the time it may take.
    left: Duration,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> IdleBody<B> {
    /// The same, cut as well when it was waited for `patience` long in all and came in at less than
    /// `min_rate` bytes a second: one byte now and then is no silence, and holds a backend all the same.
    #[must_use]
    pub const fn at_least(mut self, min_rate: u64) -> Self {
        self.min_rate = min_rate;
        self
    }

    /// Takes the time that was waited, gives what `bytes` may take.
    fn arrived(&mut self, bytes: usize) {
        let Some(since) = self.waiting.take() else {
            return;
        };
        let earned = (bytes as u64)
            .saturating_mul(1000)
            .checked_div(self.min_rate)
            .map_or(self.patience, Duration::from_millis);
        let left = self.left.saturating_sub(since.elapsed());
        self.left = left.saturating_add(earned).min(self.patience);
    }

    const fn cut(&self) -> BodyCut {
        if self.left.as_nanos() < self.patience.as_nanos() {
            BodyCut::TooSlow(self.min_rate)
        } else {
            BodyCut::Silent(self.patience)
        }
    }

    /// `body`, cut when it is silent for longer than `patience`.
    pub const fn new(body: B, patience: Duration) -> Self {
        Self {
            body,
            patience,
            min_rate: 0,
            left: patience,
            waiting: None,
            timer: None,
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        if self.waiting.is_none() {
            let now = Instant::now();
            self.waiting = Some(now);
            let until = now + self.left;
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
                let data = frame
                    .as_ref()
                    .and_then(|frame| frame.as_ref().ok()?.data_ref());
                let bytes = data.map_or(0, Bytes::len);
                self.arrived(bytes);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if self.overdue(cx) => Poll::Ready(Some(Err(self.cut().into()))),
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

/// A body that has to be over at some moment.
pub struct TimedBody<B> {
    body: B,
    span: Duration,
    end: Pin<Box<Sleep>>,
}

impl<B> TimedBody<B> {
    /// `body`, cut at `end`, which is `span` after the exchange began.
    pub fn new(body: B, end: Instant, span: Duration) -> Self {
        Self {
            body,
            span,
            end: Box::pin(tokio::time::sleep_until(end)),
        }
    }
}

impl<B> Body for TimedBody<B>
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
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyCut::TooLong(self.span).into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
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

    /// A byte every `every`, for ever.
    fn drip(every: Duration) -> impl Body<Data = Bytes, Error = BodyError> + Unpin {
        StreamBody::new(Box::pin(futures_util::stream::unfold(
            (),
            move |()| async move {
                tokio::time::sleep(every).await;
                Some((
                    Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))),
                    (),
                ))
            },
        )))
    }

    #[tokio::test]
    async fn a_drip_is_cut_and_a_stream_is_not() {
        let (drop, patience) = (Duration::from_millis(5), Duration::from_millis(80));
        // A byte in 5 ms is 200 a second.
        let slow = IdleBody::new(drip(drop), patience).at_least(2000);
        let error = slow.collect().await.unwrap_err();
        assert_eq!(BodyCut::of(&*error), Some(BodyCut::TooSlow(2000)));
        let fast = IdleBody::new(drip(drop), patience).at_least(20);
        let total = 4 * patience;
        let timed = TimedBody::new(fast, Instant::now() + total, total);
        let error = timed.collect().await.unwrap_err();
        assert_eq!(BodyCut::of(&*error), Some(BodyCut::TooLong(total)));
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
