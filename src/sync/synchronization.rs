//! What the synchronizations have in common: of guests to the directory, of partners to the cloud.
//!
//! A run is the same for both, by command or on a schedule ([`Turn`](super::Turn), [`keep`](super::keep())). How the world is read, what is
//! planned and how steps are taken is each one's own.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Error;
use super::Outcome;
use super::Progress;
use super::Run;
use super::Tools;
use super::brake::Reason;
use super::journal;
use super::journal::Past;
use super::saved::Planned;
use super::saved::Saved;

/// One of them.
pub trait Synchronization: Send + Sync + 'static {
    /// What a look at the world has shown.
    type Look: Clone + Debug + Send + Sync;
    /// A step of its plans.
    type Step: Planned + Debug + Serialize + DeserializeOwned + Send + Sync;
    /// Whom its plans leave alone.
    type LeftAlone: Debug + Serialize + DeserializeOwned + Send + Sync;

    /// Whose accounts, as commands, logs and metrics call it: `guests`.
    const WHOSE: &'static str;
    /// The lease that keeps other replicas out.
    const LEASE: &'static str;
    /// Who runs it on a schedule.
    const BY: &'static str;

    /// What it works with.
    fn tools(&self) -> &Tools;
    /// Where its journal and lock are.
    fn folder(&self) -> &Path;
    /// The tenant of its people.
    fn tenant(&self) -> Uuid;

    /// Looks at both sides, after what the journal tells, and plans. Writes nothing.
    fn look_after(
        &self,
        past: &Past<Self::Step>,
    ) -> impl Future<Output = Result<Self::Look, Error>> + Send;

    /// Takes the steps of a look, each in the journal before and after. The caller holds the lock.
    fn carry_out(
        &self,
        look: &Self::Look,
        run: &Run,
        progress: Progress<'_, Self::Step>,
    ) -> impl Future<Output = Result<Outcome<Self::Step>, Error>> + Send;

    /// What would be done.
    fn steps(look: &Self::Look) -> &[Self::Step];
    /// Why a run would stop before it.
    fn brake(look: &Self::Look) -> &[Reason];
    /// The step at which the last run was cut off, if it was.
    fn cut_off(look: &Self::Look) -> Option<&Self::Step>;
    /// What was seen, to be kept.
    fn saved(look: &Self::Look) -> Saved<Self::Step, Self::LeftAlone>;

    /// Looks at both sides and plans. Writes nothing.
    ///
    /// # Errors
    /// One of the sides does not answer, or not wholly.
    fn look(&self) -> impl Future<Output = Result<Self::Look, Error>> + Send {
        async { self.look_after(&journal::past(self.folder(), None)?).await }
    }
}
