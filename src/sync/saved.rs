//! A plan as a file: what somebody has looked at and approved.
//!
//! The file's steps are never carried out. A run makes its own plan of the world as it is, and goes on only if that is what was
//! approved: a file that is old or was tampered with can stop a run, and do nothing else.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Error;
use super::adopt::Finding;
use super::brake::Reason;
use super::plan;
use super::plan::LeftAlone;
use super::step::Act;
use super::step::Step;
use super::step::Why;

const VERSION: u32 = 1;
/// A hundred thousand steps are some 40 MB.
const LONGEST: u64 = 256 * 1024 * 1024;

/// A step as plans, files and the journal see it.
pub trait Planned: Clone + PartialEq + fmt::Display {
    /// What files of such plans are called inside.
    const KIND: &'static str;
    /// What it does, in one word.
    fn act(&self) -> &'static str;
    /// The account's name.
    fn account(&self) -> &str;
    /// Whom it is about: the id by which the journal finds its steps again.
    fn subject(&self) -> Uuid;
    /// Whether it makes something whose id only the answer tells.
    fn makes(&self) -> bool;
    /// Whether a run of the same plan that was cut off leaves such a step to be done.
    fn finishes(&self) -> bool;
    /// Whether `other` is the same thing to be done.
    fn same(&self, other: &Self) -> bool;
    /// From how many people these steps take something: what `--accept-removals` has to say.
    fn removals(steps: &[Self]) -> usize;
}

impl Planned for Step {
    const KIND: &'static str = "kerbgate-guests-plan";

    fn act(&self) -> &'static str {
        self.act.as_str()
    }

    fn account(&self) -> &str {
        &self.sam
    }

    fn subject(&self) -> Uuid {
        self.oid
    }

    fn makes(&self) -> bool {
        false
    }

    fn finishes(&self) -> bool {
        let at_rest = self.why == Why::AtRest;
        matches!(self.act, Act::Move { .. }) || (matches!(self.act, Act::Leave { .. }) && at_rest)
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn removals(steps: &[Self]) -> usize {
        plan::removals(steps)
    }
}

/// A plan with everything that it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved<S = Step, L = LeftAlone> {
    pub(super) kind: String,
    pub(super) version: u32,
    /// The program's version.
    pub kerbgate: String,
    /// The tenant.
    pub tenant: Uuid,
    /// When it was made, RFC 3339.
    pub made: String,
    /// A hash of the world it was made of.
    pub world: String,
    /// Steps of each kind.
    pub counts: BTreeMap<String, usize>,
    /// How many accounts it takes from people: what `--accept-removals` has to say.
    pub removals: usize,
    /// Why a run would stop before it.
    pub brake: Vec<Reason>,
    /// What is done, in this order.
    pub steps: Vec<S>,
    /// What is left alone, and why.
    pub left_alone: Vec<L>,
    /// Accounts of other tools that somebody has to look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// A step that is in one of two plans only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Approved, and not needed now.
    Gone(String),
    /// Needed now, and not approved.
    New(String),
}

impl<S: Planned, L> Saved<S, L> {
    /// A plan of the world of a tenant, at a time, with a hash.
    pub(super) fn new(world: (Uuid, i64, String), steps: &[S], brake: &[Reason]) -> Self {
        let (tenant, now, world) = world;
        let mut counts = BTreeMap::new();
        for step in steps {
            *counts.entry(step.act().to_owned()).or_insert(0) += 1;
        }
        Self {
            kind: S::KIND.to_owned(),
            version: VERSION,
            kerbgate: env!("CARGO_PKG_VERSION").to_owned(),
            tenant,
            made: super::time_text(now),
            world,
            counts,
            removals: S::removals(steps),
            brake: brake.to_vec(),
            steps: steps.to_vec(),
            left_alone: Vec::new(),
            findings: Vec::new(),
        }
    }
}

impl<S: Planned + Serialize + DeserializeOwned, L: Serialize + DeserializeOwned> Saved<S, L> {
    /// Names the plan in the journal.
    #[must_use]
    pub fn id(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
        super::world::hex(hash.as_ref()).chars().take(32).collect()
    }

    /// Writes it; the file must not be there yet, and nobody else may read it: it names people.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()
    }

    /// Reads it.
    ///
    /// # Errors
    /// The file cannot be read, or is no plan of this version.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::BadPlan {
            path: path.to_owned(),
            why,
        };
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        let mut text = Vec::new();
        let length = file.take(LONGEST + 1).read_to_end(&mut text);
        let length = length.map_err(|error| bad(error.to_string()))?;
        if u64::try_from(length).unwrap_or(u64::MAX) > LONGEST {
            return Err(bad(format!("is longer than {LONGEST} bytes")));
        }
        let saved: Self = serde_json::from_slice(&text)
            .map_err(|error| bad(format!("is no plan as `plan --save` keeps it: {error}")))?;
        if saved.kind != S::KIND || saved.version != VERSION {
            return Err(bad(format!("is no {} of version {VERSION}", S::KIND)));
        }
        // SECURITY: the number that somebody accepts is compared with this one.
        let removals = S::removals(&saved.steps);
        if saved.removals != removals {
            let says = saved.removals;
            return Err(bad(format!(
                "says {says} removals, and its steps are {removals}"
            )));
        }
        Ok(saved)
    }

    /// How `now` differs from what was approved. `begun`: people at whose account a run of this very plan has already been, which
    /// explains a step that is gone, and one that finishes it.
    #[must_use]
    pub fn differences(&self, now: &[S], begun: &BTreeSet<Uuid>) -> Vec<Difference> {
        let (approved, needed) = (by_subject(&self.steps), by_subject(now));
        let same = |all: &BTreeMap<Uuid, Vec<&S>>, step: &S| {
            let of = all.get(&step.subject());
            of.is_some_and(|of| of.iter().any(|one| one.same(step)))
        };
        let gone = self
            .steps
            .iter()
            .filter(|step| !same(&needed, step) && !begun.contains(&step.subject()))
            .map(|step| Difference::Gone(step.to_string()));
        let finishes = |step: &S| begun.contains(&step.subject()) && step.finishes();
        let new = now
            .iter()
            .filter(|step| !same(&approved, step) && !finishes(step))
            .map(|step| Difference::New(step.to_string()));
        gone.chain(new).collect()
    }
}

/// A first plan has a step for each of a hundred thousand people: not each is compared with each.
fn by_subject<S: Planned>(steps: &[S]) -> BTreeMap<Uuid, Vec<&S>> {
    let mut all: BTreeMap<Uuid, Vec<&S>> = BTreeMap::new();
    for step in steps {
        all.entry(step.subject()).or_default().push(step);
    }
    all
}
