//! `kerbgate-lab`: a real Active Directory, real backends and an Entra ID that is not, on loopback.
//!
//! In: a folder. Out: a running world whose addresses are in `lab.json` (and `demo.json`) there.
//! One process stays, the [`keeper`]; everything else is its child and ends with it.
//! An example target: it may use the development dependencies and is in no release artefact.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers: it exports nothing, talks to a terminal, and stops loudly"
)]

mod address;
mod apache;
mod demo;
mod echo;
mod entra;
mod facts;
mod folder;
mod gateway;
mod keeper;
mod measure;
mod meter;
mod people;
mod pki;
mod processes;
mod samba;
mod serve;
mod soak;
mod stage;
mod trouble;
#[allow(dead_code, reason = "shared with the promises")]
mod truth;
mod up;
#[allow(dead_code, reason = "shared with the promises")]
mod visitor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::trouble::Trouble;
use crate::up::Wanted;

#[derive(Parser)]
#[command(
    about = "A Kerbgate laboratory on loopback: Active Directory, backends, Entra ID emulator"
)]
enum Command {
    /// Bring the lab up, or find it running; returns when it is ready.
    #[command(alias = "ad")]
    Up(Wanted),
    /// Stop the lab of this folder, and whatever an earlier one left behind.
    Down {
        /// The lab's folder.
        #[arg(long, default_value = ".lab")]
        dir: PathBuf,
    },
    /// Say whether the lab of this folder runs.
    Status {
        /// The lab's folder.
        #[arg(long, default_value = ".lab")]
        dir: PathBuf,
    },
    /// An emulator of Microsoft Entra ID and of the few Graph calls used.
    Entra(Box<entra::Args>),
    /// A backend that believes identity headers and echoes what it got.
    Echo(echo::Args),
    /// Many people, many requests against a running demo: not one answer may be somebody else's.
    Soak(soak::Args),
    /// The figures of a running demo: first visit by step, warm requests, memory.
    Measure(measure::Args),
    /// What one warm Negotiate token costs, made here and by GSS-API; of a running lab.
    Token(measure::token::Args),
    /// How soon somebody disabled in Entra is out of a running demo with `[sync.cutoff]`.
    Cutoff(measure::cutoff::Args),
    /// What a synchronization of guests costs, beside `ldapadd`; fills the lab it runs in.
    Sync(measure::sync::Args),
    /// Write a gateway's configuration for a running lab, to be started by somebody else.
    Configure(up::Configured),
    /// What `up` starts in the background.
    #[command(hide = true)]
    Keep(Wanted),
}

fn main() -> ExitCode {
    let command = Command::parse();
    match run(command) {
        Ok(code) => code,
        Err(trouble) => {
            eprintln!("kerbgate-lab: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Trouble> {
    match command {
        Command::Up(wanted) => in_runtime(up::up(&wanted)),
        Command::Down { dir } => in_runtime(up::down(&dir)),
        Command::Status { dir } => up::status(&dir),
        Command::Entra(args) => ended(entra::run(*args)),
        Command::Echo(args) => ended(echo::run(args)),
        Command::Soak(args) => in_runtime(told(soak::run(args))),
        Command::Measure(args) => in_runtime(told(measure::run(args))),
        Command::Token(args) => in_runtime(told(measure::token::run(args))),
        Command::Cutoff(args) => in_runtime(told(measure::cutoff::run(args))),
        Command::Sync(args) => in_runtime(told(measure::sync::run(args))),
        Command::Configure(wanted) => up::configure(&wanted),
        Command::Keep(wanted) => in_runtime(up::keep(wanted)),
    }
}

// One thread: children end with the thread that started them.
fn in_runtime<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::new(format!("start the runtime: {error}")))?;
    runtime.block_on(work)
}

async fn told<T>(work: impl Future<Output = Result<T, stage::Failure>>) -> Result<T, Trouble> {
    work.await.map_err(|error| Trouble::new(error.to_string()))
}

fn ended(result: Result<(), serve::Failure>) -> Result<ExitCode, Trouble> {
    result
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Trouble::new(error.to_string()))
}
