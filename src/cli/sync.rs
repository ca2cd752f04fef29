//! `kerbgate sync guests` and `kerbgate sync partners`: what would be done, and doing it.
//!
//! Exit codes beside those of every command: 3 = stopped by the brake; 4 = the world is not as the plan says; 5 = not confirmed;
//! 6 = another run is under way. 1 is also: some steps failed.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::BufRead as _;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use rustls::crypto::aws_lc_rs;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::accounts;
use super::guests;
use super::partners;
use super::shown::cell;
use super::shown::json as safe_json;
use super::shown::shown;
use crate::assembly;
use crate::config::Config;
use crate::ldap::Directory;
use crate::model::clock::Clock;
use crate::oidc::Issuer;
use crate::sync;
use crate::sync::Outcome;
use crate::sync::Run;
use crate::sync::Tools;
use crate::sync::Turn;
use crate::sync::saved::Difference;
use crate::sync::saved::Planned as _;
use crate::sync::saved::Saved;
use crate::sync::synchronization::Synchronization;

const STOPPED: u8 = 3;
const CHANGED: u8 = 4;
const NOT_CONFIRMED: u8 = 5;
const BUSY: u8 = 6;

/// What to synchronize.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Guests of the cloud, as accounts in the directory.
    #[command(subcommand)]
    Guests(Do),
    /// Partners' accounts in the directory, as guests of the cloud.
    #[command(subcommand)]
    Partners(Do),
}

/// What to do about them.
#[derive(Debug, Subcommand)]
pub(super) enum Do {
    /// Show what would be done, and why. Changes nothing.
    Plan {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Keep the plan there, to be approved and applied; the file must not exist yet.
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// Do it: as a kept plan says, or as it is found now.
    Apply {
        /// A plan kept by `plan --save`.
        plan: Option<PathBuf>,
        /// Go past the brake: exactly so many may be disabled and deleted.
        #[arg(long, value_name = "N")]
        accept_removals: Option<usize>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Report as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How plans of a synchronization are shown to people.
pub(super) trait Shown: Synchronization {
    /// What stands below each plan, in the table and in JSON.
    const LIMITS: &'static [&'static str] = &[];

    /// A line for each step and for whatever is left alone, and lines that belong to them.
    fn rows(plan: &Plan<Self>) -> String;
    /// What else was counted.
    fn sum(look: &Self::Look, plan: &Plan<Self>) -> String;
}

/// A plan of theirs.
pub(super) type Plan<K> = Saved<<K as Synchronization>::Step, <K as Synchronization>::LeftAlone>;

impl What {
    /// Whether something is written, and so audited.
    pub(super) const fn writes(&self) -> bool {
        match self {
            Self::Guests(Do::Plan { .. }) | Self::Partners(Do::Plan { .. }) => false,
            Self::Guests(Do::Apply { .. }) | Self::Partners(Do::Apply { .. }) => true,
        }
    }
}

/// Why there is no answer, and the exit code that says so.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}", shown(&.0.to_string()))]
    Sync(#[from] sync::Error),
    #[error(transparent)]
    Accounts(#[from] accounts::Error),
    #[error(transparent)]
    Setup(#[from] assembly::Error),
    #[error("{0}")]
    Start(String),
    #[error("not confirmed, nothing was changed{0}")]
    NotConfirmed(&'static str),
    #[error("the answer cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// The exit code.
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Sync(sync::Error::Brake { .. }) => STOPPED,
            Self::Sync(sync::Error::Changed(_) | sync::Error::OtherTenant { .. }) => CHANGED,
            Self::NotConfirmed(_) => NOT_CONFIRMED,
            Self::Sync(sync::Error::Busy(_)) => BUSY,
            Self::Sync(
                sync::Error::Graph(_)
                | sync::Error::Directory(_)
                | sync::Error::Lifecycle(_)
                | sync::Error::Store(_)
                | sync::Error::Partial { .. }
                | sync::Error::BadPlan { .. }
                | sync::Error::Meanwhile(_)
                | sync::Error::Setup(_)
                | sync::Error::Folder(_),
            )
            | Self::Accounts(_)
            | Self::Start(_)
            | Self::Output(_) => 1,
            Self::Setup(_) => super::MISTAKES,
        }
    }
}

/// Does what was asked.
pub(super) async fn run(config: Config, what: What) -> Result<ExitCode, Error> {
    drop(aws_lc_rs::default_provider().install_default());
    match what {
        What::Guests(what) => what.with(&guests::open(&config).await?).await,
        What::Partners(what) => what.with(&partners::open(&config).await?).await,
    }
}

impl Do {
    async fn with<K: Shown>(self, room: &K) -> Result<ExitCode, Error> {
        match self {
            Self::Plan { json, save } => plan(room, json, save).await,
            Self::Apply {
                plan,
                accept_removals,
                yes,
                json,
            } => {
                let approved = plan.as_deref().map(Saved::read).transpose()?;
                let asked = Asked {
                    approved,
                    accept_removals,
                    yes,
                    json,
                };
                let turn = Turn::begin(room).await?;
                let code = apply(&turn, &asked).await;
                turn.end().await;
                code
            }
        }
    }
}

/// A plan that somebody may be about to approve is never overwritten.
fn not_kept(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::Start(if error.kind() == std::io::ErrorKind::AlreadyExists {
        format!("{path} is there already and is left as it is: name another file, or remove it")
    } else {
        format!("{path}: the plan cannot be kept: {error}")
    })
}

pub(super) fn missing(what: &str) -> Error {
    Error::Start(format!("there is no {what} in the configuration"))
}

/// Both sides, and the store if there is one.
pub(super) async fn tools(config: &Config) -> Result<Tools, Error> {
    let delegator = accounts::delegator(config)?;
    let mut ldap = assembly::ldap_settings(config, delegator.as_ref())?
        .ok_or_else(|| missing("[directory] section"))?;
    ldap.connections = config.guests_sync.connections;
    let issuer = Issuer::new(assembly::oidc_settings(config)?, Clock::System)
        .map_err(|error| Error::Start(error.to_string()))?;
    let graph = assembly::graph(config, &Arc::new(issuer))?;
    Ok(Tools {
        graph: graph.ok_or_else(|| missing("issuer.graph"))?,
        directory: Directory::new(ldap),
        store: accounts::store(&config.gateway.state_dir).await?,
        clock: Clock::System,
        ends: None,
    })
}

async fn plan<K: Shown>(room: &K, json: bool, save: Option<PathBuf>) -> Result<ExitCode, Error> {
    let look = room.look().await?;
    let saved = K::saved(&look);
    if let Some(path) = &save {
        let kept = saved.write(path);
        kept.map_err(|error| not_kept(path, &error))?;
    }
    let mut out = std::io::stdout().lock();
    if json {
        let plan = Told {
            plan: &saved,
            limits: K::LIMITS,
        };
        let text = serde_json::to_string(&plan).map_err(std::io::Error::from)?;
        writeln!(out, "{}", safe_json(&text))?;
        return Ok(ExitCode::SUCCESS);
    }
    write!(out, "{}", table::<K>(&look, &saved))?;
    if let Some(path) = &save {
        writeln!(out, "kept in {}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A plan as JSON; written as it goes, because it may be of a hundred thousand people.
#[derive(Serialize)]
struct Told<'a, P> {
    #[serde(flatten)]
    plan: &'a P,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    limits: &'static [&'static str],
}

struct Asked<K: Shown> {
    approved: Option<Plan<K>>,
    accept_removals: Option<usize>,
    yes: bool,
    json: bool,
}

async fn apply<K: Shown>(turn: &Turn<'_, K>, asked: &Asked<K>) -> Result<ExitCode, Error> {
    let approved = asked.approved.as_ref();
    let mut look = or_differences(turn.look(approved).await)?;
    let saved = K::saved(&look);
    if approved.is_none() && !asked.yes && !saved.steps.is_empty() {
        confirm(&table::<K>(&look, &saved))?;
        // Somebody may have thought about it over night: what was shown is done, or nothing.
        look = or_differences(turn.look(Some(&saved)).await)?;
    }
    let whole = approved.map(|approved| approved.removals);
    // What is left of an approved plan is covered by the number that covered the whole.
    let accepted = match asked.accept_removals {
        Some(number) if whole == Some(number) => Some(saved.removals),
        given => given,
    };
    let run = Run {
        by: accounts::operator(),
        plan: approved.map(Saved::id),
    };
    let terminal = std::io::stderr().is_terminal();
    let progress = move |number: usize, of: usize, step: &K::Step| {
        if terminal {
            let line = format!("{number}/{of} {} {}", step.act(), shown(step.account()));
            // Progress is a comfort: a terminal that went away stops nothing.
            drop(write!(std::io::stderr(), "\r\u{1b}[K{line}"));
        }
    };
    let outcome = turn.apply(&look, accepted, &run, &progress).await;
    if terminal {
        drop(write!(std::io::stderr(), "\r\u{1b}[K"));
    }
    let outcome = match outcome {
        Err(sync::Error::Brake { reasons, removals }) => {
            let hint = format!("to go past it all the same: --accept-removals {removals}\n");
            std::io::stderr().write_all(hint.as_bytes())?;
            return Err(sync::Error::Brake { reasons, removals }.into());
        }
        outcome => outcome?,
    };
    tell(&outcome, &saved.counts, asked.json)?;
    Ok(if outcome.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn confirm(table: &str) -> Result<(), Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::NotConfirmed(
            ": nobody can be asked here, say --yes or apply a kept plan",
        ));
    }
    let mut err = std::io::stderr();
    write!(err, "{table}Do this? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::NotConfirmed("")),
    }
}

fn table<K: Shown>(look: &K::Look, plan: &Plan<K>) -> String {
    let mut text = String::new();
    if let Some(step) = K::cut_off(look) {
        let step = shown(&step.to_string());
        text.push_str(&format!("the last run was cut off at: {step}\n"));
    }
    if !plan.steps.is_empty() || !plan.left_alone.is_empty() {
        text.push_str(&format!(
            "{:<8}  {:<20}  {:<36}  {:<28}  WHY\n",
            "DO", "ACCOUNT", "PERSON (OID)", "NAME"
        ));
    }
    text.push_str(&K::rows(plan));
    let counts = plan.counts.iter().map(|(what, n)| format!("{what} {n}"));
    let counts: Vec<String> = counts.collect();
    let counts = match counts.as_slice() {
        [] => String::from("nothing to do"),
        counts => counts.join(", "),
    };
    let (left, sum) = (plan.left_alone.len(), K::sum(look, plan));
    text.push_str(&format!("{counts}; left alone {left}{sum}\n"));
    for reason in &plan.brake {
        text.push_str(&format!("the brake would stop this: {reason}\n"));
    }
    if !K::LIMITS.is_empty() {
        text.push_str("what Graph cannot do, and Entra Connect does:\n");
    }
    for limit in K::LIMITS {
        text.push_str(&format!("  - {limit}\n"));
    }
    text
}

/// One row.
pub(super) fn row(what: &str, account: &str, oid: Option<Uuid>, name: &str, why: &str) -> String {
    let oid = oid.map_or_else(|| String::from("-"), |oid| oid.to_string());
    let (account, name, why) = (cell(account, 20), cell(name, 28), shown(why));
    format!("{what:<8}  {account}  {oid:<36}  {name}  {why}\n")
}

/// A line that belongs to the row above it.
pub(super) fn below(text: &str) -> String {
    format!("{:<8}  {}\n", "", shown(text))
}

/// A change of a value.
pub(super) fn change(name: &str, from: Option<&String>, to: Option<&String>) -> String {
    let value = |value: Option<&String>| match value {
        Some(text) => format!("{:?}", cell(text, 60).trim_end()),
        None => String::from("nothing"),
    };
    below(&format!("{name}: {} -> {}", value(from), value(to)))
}

/// What was seen; where it is not what was approved, the differences are told first.
fn or_differences<T>(look: Result<T, sync::Error>) -> Result<T, Error> {
    if let Err(sync::Error::Changed(differences)) = &look {
        tell_differences(differences)?;
    }
    Ok(look?)
}

fn tell_differences(differences: &[Difference]) -> Result<(), Error> {
    let mut err = std::io::stderr();
    for difference in differences {
        let (mark, step) = match difference {
            Difference::Gone(step) => ("in the plan, not needed now:", step),
            Difference::New(step) => ("not in the plan, needed now:", step),
        };
        writeln!(err, "{mark} {}", shown(step))?;
    }
    Ok(())
}

fn tell<S: Display + Serialize>(
    outcome: &Outcome<S>,
    counts: &BTreeMap<String, usize>,
    json: bool,
) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if json {
        let failed: Vec<_> = outcome
            .failed
            .iter()
            .map(|(step, why)| json!({"step": step, "why": why}))
            .collect();
        let text = json!({"done": outcome.done, "failed": failed, "counts": counts});
        writeln!(out, "{}", safe_json(&text.to_string()))?;
        return Ok(());
    }
    for (step, why) in &outcome.failed {
        writeln!(out, "failed: {}: {}", shown(&step.to_string()), shown(why))?;
    }
    writeln!(
        out,
        "steps taken: {}; failed: {}",
        outcome.done,
        outcome.failed.len()
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_says_what_to_do() {
        let path = Path::new("/tmp/tuesday.json");
        let said = |kind: std::io::ErrorKind| not_kept(path, &kind.into()).to_string();
        let there = said(std::io::ErrorKind::AlreadyExists);
        assert!(there.contains("tuesday.json is there already"), "{there}");
        let missing = said(std::io::ErrorKind::NotFound);
        assert!(
            missing.contains("tuesday.json: the plan cannot be kept"),
            "{missing}"
        );
    }
}
