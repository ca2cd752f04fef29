//! One question to the KDC: on a thread of ours, in bounded time, asked again where another KDC may answer.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::time::sleep;

use crate::model::names::Principal;

use super::error::Error;
use super::error::Step;
use super::kdc::Kdcs;
use super::workers::LaneStatus;
use super::workers::Refused;
use super::workers::Workers;

/// The two lanes: calls that may wait for a KDC, and calls that only compute.
///
/// Apart, so that people who already hold a ticket are served while the KDC hangs.
#[derive(Debug)]
pub(super) struct Asker {
    network: Workers,
    local: Workers,
    kdcs: Arc<Kdcs>,
    /// After this long without an answer the KDCs are looked at.
    patience: Duration,
    deadline: Duration,
}

impl Asker {
    pub(super) fn start(
        kdcs: Arc<Kdcs>,
        threads: usize,
        queue: usize,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let failed = |reason: std::io::Error| Error::Setup {
            what: "Kerberos threads".to_owned(),
            reason: reason.to_string(),
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            network: Workers::start("krb-kdc", threads.max(1), queue).map_err(failed)?,
            local: Workers::start("krb-local", cores.clamp(2, 8), queue).map_err(failed)?,
            kdcs,
            patience: Duration::from_secs(1).min(deadline / 2),
            deadline,
        })
    }

    pub(super) fn status(&self) -> (LaneStatus, LaneStatus) {
        (self.network.status(), self.local.status())
    }

    /// A call that talks to the KDC. `work` may run twice, on two threads: it must not mind.
    pub(super) async fn kdc<T, W>(&self, step: Step, who: &Principal, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Fn() -> Result<T, Error> + Clone + Send + 'static,
    {
        self.kdcs.gate()?;
        let began = Instant::now();
        let generation = self.kdcs.generation();
        let first = self.once(work.clone(), step, who);
        tokio::pin!(first);
        tokio::select! {
            outcome = &mut first => match outcome {
                Err(error) if error.is_unreachable() => {
                    self.kdcs.probe().await;
                    self.kdcs.gate()?;
                    if self.kdcs.generation() == generation {
                        return Err(error);
                    }
                    self.kdcs.settle().await;
                    self.once(work, step, who).await
                }
                other => {
                    if began.elapsed() > self.patience / 2 {
                        self.kdcs.wake.notify_one();
                    }
                    other
                }
            },
            () = sleep(self.patience) => {
                self.kdcs.probe().await;
                self.kdcs.gate()?;
                if self.kdcs.generation() == generation {
                    // The KDC is slow, or the queue long; another KDC would not help.
                    return first.await;
                }
                self.kdcs.settle().await;
                let second = self.once(work, step, who);
                tokio::pin!(second);
                tokio::select! {
                    outcome = &mut first => outcome,
                    outcome = &mut second => outcome,
                }
            }
        }
    }

    /// A call that only computes.
    pub(super) async fn compute<T, W>(
        &self,
        step: Step,
        who: &Principal,
        work: W,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        self.local
            .run(self.deadline, work)
            .await
            .unwrap_or_else(|refused| Err(self.refused(&self.local, refused, step, who)))
    }

    async fn once<T, W>(&self, work: W, step: Step, who: &Principal) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Fn() -> Result<T, Error> + Send + 'static,
    {
        self.network
            .run(self.deadline, work)
            .await
            .unwrap_or_else(|refused| Err(self.refused(&self.network, refused, step, who)))
    }

    fn refused(&self, lane: &Workers, refused: Refused, step: Step, who: &Principal) -> Error {
        match refused {
            Refused::Full => {
                let status = lane.status();
                Error::Busy {
                    threads: status.threads,
                    queued: status.queued,
                }
            }
            Refused::Late => Error::Deadline {
                step,
                principal: who.clone(),
                after: self.deadline,
            },
            Refused::Died => Error::Setup {
                what: format!("{step} for {who}"),
                reason: "the call panicked; its message is in the log".to_owned(),
            },
        }
    }
}
