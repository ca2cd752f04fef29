//! Last uses of sessions on their way to the store: collected for a moment, written together.
//!
//! # Why
//! A write of its own for each costs more than the request that it notes: a transaction's cost is the disk's.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::store::Store;
use crate::store::records::Touch;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Touches {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    touches: Vec<Touch>,
    /// Somebody is about to write them.
    taken_care_of: bool,
}

impl Touches {
    /// Notes `touch`; false when there is no room.
    pub(super) fn add(self: &Arc<Self>, touch: Touch, store: &Arc<dyn Store>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.touches.len() >= MOST {
            return false;
        }
        waiting.touches.push(touch);
        if !waiting.taken_care_of {
            waiting.taken_care_of = true;
            tokio::spawn(Arc::clone(self).write(Arc::clone(store)));
        }
        true
    }

    async fn write(self: Arc<Self>, store: Arc<dyn Store>) {
        tokio::time::sleep(COLLECT).await;
        while let Some(touches) = self.take() {
            for some in touches.chunks(AT_ONCE) {
                if let Err(error) = store.touch_sessions(some).await {
                    tracing::warn!(%error, sessions = some.len(), "last use of sessions not noted");
                }
                tokio::task::yield_now().await; // sign-ins come first
            }
        }
    }

    /// All that waits; with nothing, whoever asked is done.
    fn take(&self) -> Option<Vec<Touch>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.touches.is_empty() {
            waiting.taken_care_of = false;
            return None;
        }
        Some(std::mem::take(&mut waiting.touches))
    }
}

const COLLECT: Duration = Duration::from_millis(500);
const MOST: usize = 20_000;
/// Few enough that a sign-in waits milliseconds for the writer.
const AT_ONCE: usize = 200;
