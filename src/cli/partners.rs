//! `kerbgate sync partners`: what would be done about partners in the cloud, and doing it. Exit codes as for `sync guests`.

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::accounts;
use super::shown::cell;
use super::shown::json as safe_json;
use super::shown::shown;
use super::sync::Error;
use super::sync::confirm;
use super::sync::missing;
use super::sync::not_kept;
use super::sync::or_differences;
use super::sync::tell;
use super::sync::tools;
use crate::assembly;
use crate::config::Config;
use crate::sync;
use crate::sync::Run;
use crate::sync::partners;
use crate::sync::partners::LIMITS;
use crate::sync::partners::Look;
use crate::sync::partners::Saved;
use crate::sync::partners::Turn;
use crate::sync::partners::step::Act;
use crate::sync::partners::step::Step;

/// What to do about partners.
#[derive(Debug, Subcommand)]
pub(super) enum Partners {
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
        /// Go past the brake: exactly so many people may be disabled and deleted.
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

impl Partners {
    /// Whether something is written, and so audited.
    pub(super) const fn writes(&self) -> bool {
        match self {
            Self::Plan { .. } => false,
            Self::Apply { .. } => true,
        }
    }
}

/// Does what was asked.
pub(super) async fn run(config: &Config, what: Partners) -> Result<ExitCode, Error> {
    let settings = assembly::partners_sync_settings(config)?
        .ok_or_else(|| missing("[sync.partners] section"))?;
    let room = partners::Partners::new(settings, tools(config).await?);
    match what {
        Partners::Plan { json, save } => plan(&room, json, save).await,
        Partners::Apply {
            plan,
            accept_removals,
            yes,
            json,
        } => {
            let approved = plan.as_deref().map(Saved::read).transpose()?;
            let asked = Asked {
                accept_removals,
                yes,
                json,
            };
            let turn = room.begin().await?;
            let code = applied(&turn, &asked, approved.as_ref()).await;
            turn.end().await;
            code
        }
    }
}

async fn plan(
    room: &partners::Partners,
    json: bool,
    save: Option<PathBuf>,
) -> Result<ExitCode, Error> {
    let look = room.look().await?;
    let saved = Saved::of_partners(&look);
    if let Some(path) = &save {
        let kept = saved.write(path);
        kept.map_err(|error| not_kept(path, &error))?;
    }
    let mut out = std::io::stdout().lock();
    if json {
        let mut plan = serde_json::to_value(&saved).map_err(std::io::Error::from)?;
        if let Some(plan) = plan.as_object_mut() {
            plan.insert(String::from("limits"), json!(LIMITS));
        }
        writeln!(out, "{}", safe_json(&plan.to_string()))?;
        return Ok(ExitCode::SUCCESS);
    }
    write!(out, "{}", table(&look, &saved))?;
    if let Some(path) = &save {
        writeln!(out, "kept in {}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Asked {
    accept_removals: Option<usize>,
    yes: bool,
    json: bool,
}

async fn applied(
    turn: &Turn<'_>,
    asked: &Asked,
    approved: Option<&Saved>,
) -> Result<ExitCode, Error> {
    let mut look = or_differences(turn.look(approved).await)?;
    let saved = Saved::of_partners(&look);
    if approved.is_none() && !asked.yes && !look.plan.steps.is_empty() {
        confirm(&table(&look, &saved))?;
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
    let progress = move |number: usize, of: usize, step: &Step| {
        if terminal {
            let line = format!(
                "{number}/{of} {} {}",
                step.act.as_str(),
                shown(&step.account)
            );
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

fn table(look: &Look, saved: &Saved) -> String {
    let mut text = String::new();
    if let Some(step) = &look.cut_off {
        let step = shown(&step.to_string());
        text.push_str(&format!("the last run was cut off at: {step}\n"));
    }
    if !saved.steps.is_empty() {
        text.push_str(&format!(
            "{:<8}  {:<20}  {:<36}  {:<28}  WHY\n",
            "DO", "ACCOUNT", "PERSON (OID)", "NAME"
        ));
    }
    for step in &saved.steps {
        let oid = step
            .oid
            .map_or_else(|| String::from("-"), |oid| oid.to_string());
        text.push_str(&format!(
            "{:<8}  {}  {oid:<36}  {}  {}\n",
            step.act.as_str(),
            cell(&step.account, 20),
            cell(&step.name, 28),
            step.why.sentence()
        ));
        text.push_str(&more(&step.act));
    }
    for left in &saved.left_alone {
        let oid = left
            .oid
            .map_or_else(|| String::from("-"), |oid| oid.to_string());
        let what = if left.needs_decision { "decide" } else { "-" };
        let account = cell(&left.account, 20);
        text.push_str(&format!(
            "{what:<8}  {account}  {oid:<36}  {}\n",
            shown(&left.why)
        ));
    }
    text.push_str(&sum(look, saved));
    text
}

fn sum(look: &Look, saved: &Saved) -> String {
    let counts: Vec<String> = saved
        .counts
        .iter()
        .map(|(what, n)| format!("{what} {n}"))
        .collect();
    let sum = if counts.is_empty() {
        String::from("nothing to do")
    } else {
        counts.join(", ")
    };
    let decide = saved.left_alone.iter().filter(|left| left.needs_decision);
    let locals = look.world.locals.iter().filter(|local| local.in_scope);
    let mut text = format!(
        "{sum}; left alone {}, of these {} need a decision; accounts in scope {}\n",
        saved.left_alone.len(),
        decide.count(),
        locals.count()
    );
    for reason in &saved.brake {
        text.push_str(&format!("the brake would stop this: {reason}\n"));
    }
    text.push_str("what Graph cannot do, and Entra Connect does:\n");
    for limit in LIMITS {
        text.push_str(&format!("  - {limit}\n"));
    }
    text
}

/// What else there is to say of a step, a line each.
fn more(act: &Act) -> String {
    match act {
        Act::Update { changes } => {
            let value = |value: &Option<String>| {
                let text = value.as_deref().map(|text| cell(text, 60));
                text.map_or_else(
                    || String::from("nothing"),
                    |t| format!("{:?}", t.trim_end()),
                )
            };
            let lines = changes.iter().map(|edit| {
                let (from, to) = (value(&edit.from), value(&edit.to));
                format!("{:<8}  {}: {from} -> {to}\n", "", shown(&edit.property))
            });
            lines.collect()
        }
        Act::Invite { address, user_type } => {
            format!("{:<8}  {} as {}\n", "", shown(address), shown(user_type))
        }
        Act::Convert { address } => format!("{:<8}  {}\n", "", shown(address)),
        Act::Join { group } => format!("{:<8}  group {group}\n", ""),
        Act::Assign { application, role } => {
            format!("{:<8}  application {application} {}\n", "", shown(role))
        }
        Act::Disable | Act::Undelete | Act::Enable | Act::Link | Act::Delete => String::new(),
    }
}
