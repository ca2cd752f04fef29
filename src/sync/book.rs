//! The journal of one run: each line is on the disk before its writer goes on, whatever else is under way.

use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Serialize;
use uuid::Uuid;

use super::Error;
use super::Outcome;
use super::Run;
use super::journal::Journal;
use super::journal::Line;
use super::synchronization::Synchronization;
use crate::model::clock::Clock;

/// The journal of a run under way.
#[derive(Debug)]
pub(super) struct Book {
    journal: Mutex<Journal>,
    run: Uuid,
    tenant: Uuid,
    clock: Clock,
}

/// A line that names no step.
type Plain = Line<()>;

impl Book {
    /// Begins a run of so many steps.
    pub(super) fn begin(
        room: &impl Synchronization,
        wanted: &Run,
        steps: usize,
    ) -> Result<Self, Error> {
        let book = Self {
            journal: Mutex::new(Journal::open(room.folder())?),
            run: Uuid::now_v7(),
            tenant: room.tenant(),
            clock: room.tools().clock,
        };
        book.write(&Plain::Begin {
            run: book.run,
            time: book.time(),
            plan: wanted.plan.clone(),
            tenant: book.tenant,
            by: wanted.by.clone(),
            steps,
        })?;
        Ok(book)
    }

    /// Before a step is taken.
    pub(super) fn before<S: Clone + Serialize>(
        &self,
        number: usize,
        step: &S,
    ) -> Result<(), Error> {
        self.write(&Line::Before {
            run: self.run,
            time: self.time(),
            number,
            step: step.clone(),
        })
    }

    /// What the step for `subject` has made was given this id.
    pub(super) fn made(&self, number: usize, subject: Uuid, id: Uuid) -> Result<(), Error> {
        self.write(&Plain::Made {
            run: self.run,
            time: self.time(),
            number,
            subject,
            id,
        })
    }

    /// What came of a step.
    pub(super) fn after(&self, number: usize, taken: &Result<(), Error>) -> Result<(), Error> {
        self.write(&Plain::After {
            run: self.run,
            time: self.time(),
            number,
            outcome: told(taken),
        })
    }

    /// The run has ended by itself.
    pub(super) fn end<S>(self, outcome: &Outcome<S>) -> Result<(), Error> {
        self.write(&Plain::End {
            run: self.run,
            time: self.time(),
            tenant: self.tenant,
            done: outcome.done,
            failed: outcome.failed.len(),
        })
    }

    fn write<S: Serialize>(&self, line: &Line<S>) -> Result<(), Error> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(journal.write(line)?)
    }

    fn time(&self) -> String {
        super::time_text(self.clock.unix())
    }
}

/// What came of a step, as journal and audit say it.
pub(super) fn told(taken: &Result<(), Error>) -> String {
    match taken {
        Ok(()) => String::from("done"),
        Err(error) => error.to_string(),
    }
}
