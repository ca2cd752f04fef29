//! What the service manager is told (sd_notify(3)): ready, reloading, stopping, alive.
//!
//! Without `NOTIFY_SOCKET` all of this does nothing. The variable survives the start of the program by
//! itself for Kerberos: that keeps the process id and adds to the environment, it does not replace it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;

/// Traffic is served.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A changed configuration is being loaded; [`ready`] must follow.
pub(super) fn reloading() {
    // systemd ties the reload to the signal it sent by this time (`Type=notify-reload`).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
    }
}

/// The end has begun; it may take `within`.
pub(super) fn stopping(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping: requests may finish"),
        NotifyState::ExtendTimeoutUsec(micros),
    ]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Counts that move while the runtimes do, one for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<Mutex<Vec<Arc<AtomicU64>>>>);

impl Pulse {
    /// Beats in the runtime it is awaited on, for ever: a runtime whose threads are all stuck stops beating.
    pub(super) async fn beat(self, every: Duration) {
        let count = Arc::new(AtomicU64::new(0));
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&count));
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(every).await;
        }
    }

    fn counts(&self) -> Vec<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|one| one.load(Ordering::Relaxed)).collect()
    }
}

/// Tells the service manager that we are alive, for as long as every runtime's pulse moves.
///
/// Returns how often the pulse has to beat; nothing when no watchdog is set.
///
/// On a thread of its own: a runtime cannot say that it is stuck.
pub(super) fn watch_over(pulse: Pulse) -> Option<Duration> {
    let limit = sd_notify::watchdog_enabled()?;
    let every = limit / 4;
    let watch = move || {
        let mut before = Vec::new();
        loop {
            let now = pulse.counts();
            let moved = |(count, old): (&u64, &u64)| count != old;
            if now.len() != before.len() || now.iter().zip(&before).all(moved) {
                tell(&[NotifyState::Watchdog]);
                before = now;
            }
            std::thread::park_timeout(every);
        }
    };
    let started = std::thread::Builder::new()
        .name(String::from("watchdog"))
        .spawn(watch);
    if let Err(error) = started {
        tracing::error!(%error, "the watchdog's thread cannot start");
    }
    Some(every / 2)
}
