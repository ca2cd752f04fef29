//! The journal: what a run was about to do and what came of it, on the disk before anything else happens.
//!
//! One JSON object a line, appended and synced before and after each step. It undoes nothing and repeats nothing: after a crash
//! the next run looks at the directory as it is. The journal tells it which approved plan was under way, and an administrator
//! what was happening when the power went.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::saved::Planned;
use super::step::Step;

/// A journal longer than this is put aside, as `journal.old`, when a run begins.
const LONG: u64 = 64 * 1024 * 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line<S = Step> {
    /// A run begins.
    Begin {
        /// The run.
        run: Uuid,
        /// When, RFC 3339.
        time: String,
        /// The approved plan, by its id; none for one made for the run.
        plan: Option<String>,
        /// The tenant.
        tenant: Uuid,
        /// Who ordered it.
        by: String,
        /// How many steps.
        steps: usize,
    },
    /// A step is about to be taken.
    Before {
        /// The run.
        run: Uuid,
        /// When.
        time: String,
        /// Its number, from 1.
        number: usize,
        /// The step.
        step: S,
    },
    /// What the step under way has made has this id: known from now on, whatever becomes of the step.
    Made {
        /// The run.
        run: Uuid,
        /// When.
        time: String,
        /// The step's number.
        number: usize,
        /// Whom the step is about.
        subject: Uuid,
        /// The id that was given.
        id: Uuid,
    },
    /// A step has been taken, or not.
    After {
        /// The run.
        run: Uuid,
        /// When.
        time: String,
        /// Its number.
        number: usize,
        /// `done`, or why not.
        outcome: String,
    },
    /// A run has ended by itself.
    End {
        /// The run.
        run: Uuid,
        /// When.
        time: String,
        /// The tenant.
        tenant: Uuid,
        /// Steps taken.
        done: usize,
        /// Steps that failed.
        failed: usize,
    },
}

/// What earlier runs have left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past<S = Step> {
    /// The tenant of the last run.
    pub tenant: Option<Uuid>,
    /// When the journal was last written to.
    pub last: Option<i64>,
    /// The first step that was begun and never reported, if the last run was cut off.
    pub cut_off: Option<S>,
    /// People at whose accounts runs of the given plan have been.
    pub begun: BTreeSet<Uuid>,
    /// What runs have set out to make, by whom it is for: the last time counts.
    pub making: BTreeMap<Uuid, Making>,
}

/// Something that a run has set out to make where only the answer tells its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    /// When it was begun, in seconds since 1970.
    pub since: i64,
    /// The id it was given, if the answer was still heard.
    pub id: Option<Uuid>,
}

impl<S> Default for Past<S> {
    fn default() -> Self {
        Self {
            tenant: None,
            last: None,
            cut_off: None,
            begun: BTreeSet::new(),
            making: BTreeMap::new(),
        }
    }
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("journal.jsonl")
}

fn old(folder: &Path) -> PathBuf {
    folder.join("journal.old")
}

/// What is in the file; nothing if it is not there.
fn reader(path: &Path) -> io::Result<Box<dyn io::Read>> {
    match File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Box::new(io::empty())),
        Err(error) => Err(error),
    }
}

/// Makes the folder, for the gateway's own user alone.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

impl Journal {
    /// Opens it to append; made when it is not there.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = path(folder);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LONG) {
            fs::rename(&path, old(folder))?;
        }
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path)?;
        // A line that a crash cut short must not swallow the next one.
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
        File::open(folder)?.sync_all()?;
        Ok(Self { file })
    }

    /// Appends a line; it is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written: nothing may then be done.
    pub fn write<S: Serialize>(&mut self, line: &Line<S>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.file.sync_data()
    }
}

/// What the journal in `folder` tells; `plan`: the id of an approved plan.
///
/// # Errors
/// It is there and cannot be read.
pub fn past<S: Planned + DeserializeOwned>(
    folder: &Path,
    plan: Option<&str>,
) -> io::Result<Past<S>> {
    let mut past = Past::default();
    let mut of_plan = false;
    let mut open = BTreeMap::new();
    // The one that was put aside first: a run that has just begun a new one knows nothing else of the runs before.
    let old = reader(&old(folder))?.chain(reader(&path(folder))?);
    for line in BufReader::new(old).split(b'\n') {
        // A line cut short by a crash says nothing.
        let Ok(line) = serde_json::from_slice::<Line<S>>(&line?) else {
            continue;
        };
        match line {
            Line::Begin {
                plan: id,
                time,
                tenant,
                ..
            } => {
                of_plan = plan.is_some() && id.as_deref() == plan;
                past.tenant = Some(tenant);
                past.last = super::moment(&time);
                open.clear();
            }
            Line::Before {
                step, time, number, ..
            } => {
                if of_plan {
                    past.begun.insert(step.subject());
                }
                past.last = super::moment(&time);
                if step.makes() {
                    let since = past.last.unwrap_or_default();
                    past.making
                        .insert(step.subject(), Making { since, id: None });
                }
                open.insert(number, step);
            }
            Line::Made {
                time, subject, id, ..
            } => {
                past.last = super::moment(&time);
                if let Some(making) = past.making.get_mut(&subject) {
                    making.id = Some(id);
                }
            }
            Line::After { time, number, .. } => {
                past.last = super::moment(&time);
                open.remove(&number);
            }
            Line::End { time, .. } => {
                past.last = super::moment(&time);
                open.clear();
            }
        }
    }
    past.cut_off = open.into_values().next();
    Ok(past)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::step::Act;
    use crate::sync::step::Why;

    #[test]
    fn what_was_under_way_is_known_whatever_the_last_line_looks_like() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert_eq!(past::<Step>(home, None).unwrap(), Past::default());
        let (run, time) = (Uuid::from_u128(1), String::from("2026-11-23T06:00:00Z"));
        let step = |n| Step {
            act: Act::Disable,
            oid: Uuid::from_u128(n),
            sam: String::from("kg-x"),
            name: String::from("a\nb"),
            why: Why::LeftScope,
        };
        let before = |number, n| Line::<Step>::Before {
            run,
            time: time.clone(),
            number,
            step: step(n),
        };
        let tenant = Uuid::from_u128(9);
        let begin = |plan: Option<&str>| Line::<Step>::Begin {
            run,
            time: time.clone(),
            plan: plan.map(String::from),
            tenant,
            by: String::from("anna"),
            steps: 2,
        };
        let after: Line = Line::After {
            run,
            time: time.clone(),
            number: 1,
            outcome: String::from("done"),
        };
        let mut journal = Journal::open(home).unwrap();
        let lines = [
            begin(None),
            before(1, 7),
            after.clone(),
            begin(Some("p")),
            before(1, 1),
            after,
            before(2, 2),
        ];
        for line in &lines {
            journal.write(line).unwrap();
        }
        journal.file.write_all(b"{\"event\":\"aft").unwrap();
        let told = past::<Step>(home, Some("p")).unwrap();
        assert_eq!(told.begun, [1, 2].map(Uuid::from_u128).into());
        assert_eq!(told.cut_off, Some(step(2)));
        assert_eq!(told.tenant, Some(tenant));
        let mut journal = Journal::open(home).unwrap();
        journal.write(&begin(None)).unwrap();
        let told = past::<Step>(home, Some("q")).unwrap();
        assert_eq!((told.begun.len(), told.cut_off), (0, None));
        // Several under way: what is reported does not hide what is not.
        let after = |number| Line::<Step>::After {
            run,
            time: time.clone(),
            number,
            outcome: String::from("done"),
        };
        for line in [before(1, 1), before(2, 2), after(1), before(3, 3), after(3)] {
            journal.write(&line).unwrap();
        }
        let told = past::<Step>(home, None).unwrap();
        assert_eq!(told.cut_off, Some(step(2)));
    }

    #[test]
    fn a_journal_that_was_put_aside_is_not_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let (run, time) = (Uuid::from_u128(1), String::from("2026-11-23T06:00:00Z"));
        let step = Step {
            act: Act::Disable,
            oid: Uuid::from_u128(7),
            sam: String::from("kg-x"),
            name: String::new(),
            why: Why::LeftScope,
        };
        let mut journal = Journal::open(home).unwrap();
        let tenant = Uuid::from_u128(9);
        let begin = Line::<Step>::Begin {
            run,
            time: time.clone(),
            plan: Some(String::from("p")),
            tenant,
            by: String::from("anna"),
            steps: 1,
        };
        let before = Line::Before {
            run,
            time,
            number: 1,
            step: step.clone(),
        };
        journal.write(&begin).unwrap();
        journal.write(&before).unwrap();
        let whole = past::<Step>(home, Some("p")).unwrap();
        assert_eq!(whole.cut_off, Some(step));
        // Too long: put aside by the next run, which is killed before it has written a line.
        journal.file.set_len(LONG + 1).unwrap();
        drop(Journal::open(home).unwrap());
        assert!(fs::metadata(home.join("journal.old")).is_ok());
        assert_eq!(past::<Step>(home, Some("p")).unwrap(), whole);
    }
}
