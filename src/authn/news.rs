//! Whether memory may be believed, because every change in the store would have been told.
//!
//! In: the store's answers to "what is new?", asked every second. Out: a word for what was read since the first of them,
//! for as long as the last is fresh.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use crate::store::Error;
use crate::store::Store;
use crate::store::records::Changed;

/// What is known of the store's news.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The revision to go on from; also keeps two askers from passing each other.
    revision: tokio::sync::Mutex<Option<i64>>,
    heard: Mutex<Heard>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// No change since then was missed.
    since: Option<Instant>,
    /// When the last answer was asked for.
    last: Option<Instant>,
    /// When something was told last.
    told: Option<Instant>,
}

impl News {
    /// Asks `store` and passes what has changed on to `forget`.
    pub(super) async fn ask(
        &self,
        store: &dyn Store,
        forget: impl Fn(&Changed),
    ) -> Result<(), Error> {
        let mut revision = self.revision.lock().await;
        loop {
            let asked = Instant::now();
            let news = store.news_since(*revision).await?;
            let first = revision.is_none();
            if !news.changed.is_empty() {
                // Before anything is forgotten: see `Sessions::remember`.
                self.heard(|heard| heard.told = Some(Instant::now()));
            }
            news.changed.iter().for_each(&forget);
            *revision = Some(news.revision);
            self.heard(|heard| {
                if first || !news.whole {
                    heard.since = Some(asked);
                }
                if !news.more {
                    heard.last = Some(asked);
                }
            });
            if !news.more {
                return Ok(());
            }
        }
    }

    /// True when a change of what was read from `began` on would have been told by now.
    pub(super) fn vouches_since(&self, began: Instant) -> bool {
        let heard = *self.lock();
        let fresh = |last: Instant| last.elapsed() < FRESH;
        heard.since.is_some_and(|since| since <= began) && heard.last.is_some_and(fresh)
    }

    /// True when something was told at `began` or after it.
    pub(super) fn came_since(&self, began: Instant) -> bool {
        self.lock().told.is_some_and(|told| began <= told)
    }

    fn heard(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A few questions may fail or be late; then memory counts as if nobody told anything.
const FRESH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::IdHash;
    use crate::store::sqlite::SqliteStore;

    #[tokio::test]
    async fn nothing_is_vouched_for_but_what_was_read_since_the_first_answer() {
        let store = SqliteStore::in_memory().await.unwrap();
        let news = News::default();
        let before = Instant::now();
        assert!(!news.vouches_since(before), "nobody was asked");
        news.ask(&store, |_| panic!("nothing has changed"))
            .await
            .unwrap();
        assert!(!news.vouches_since(before), "read before the first answer");
        let after = Instant::now();
        assert!(news.vouches_since(after) && !news.came_since(after));
        // Silence.
        news.heard(|heard| heard.last = heard.last.map(|last| last - FRESH));
        assert!(!news.vouches_since(after));
        news.ask(&store, |_| panic!("nothing has changed"))
            .await
            .unwrap();
        assert!(news.vouches_since(after));
        // The store was put back: nothing that was read before counts.
        *news.revision.lock().await = Some(7);
        news.ask(&store, |_| panic!("nothing has changed"))
            .await
            .unwrap();
        assert!(!news.vouches_since(after));
        assert!(news.vouches_since(Instant::now()));
    }

    #[tokio::test]
    async fn what_was_read_while_something_was_told_is_in_doubt() {
        let store = SqliteStore::in_memory().await.unwrap();
        let news = News::default();
        news.ask(&store, |_| ()).await.unwrap();
        let began = Instant::now();
        sqlx::query("INSERT INTO news (session) VALUES ($1)")
            .bind(IdHash::of("a").as_bytes())
            .execute(store.writer())
            .await
            .unwrap();
        let told = std::cell::Cell::new(None);
        let hear = |changed: &Changed| {
            // Noted before it is acted upon: whoever reads now is in doubt already.
            assert!(news.came_since(began));
            told.set(Some(*changed));
        };
        news.ask(&store, hear).await.unwrap();
        assert_eq!(told.get(), Some(Changed::Session(IdHash::of("a"))));
        assert!(news.came_since(began) && !news.came_since(Instant::now()));
    }
}
