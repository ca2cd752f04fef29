//! The command line: `run`, `check`, `doctor`, `explain`, `accounts`, `sync`.
//!
//! Exit codes (`accounts` and `sync` have more): 0 = as asked; 1 = failed, or the doctor found a fault; 64 = the configuration has mistakes
//! (EX_USAGE of sysexits.h), in which case nothing was bound and nothing written.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command's answer goes to the terminal"
)]

mod accounts;
mod guests;
mod partners;
mod shown;
mod sync;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use rustls::crypto::aws_lc_rs;
use uuid::Uuid;

use crate::app;
use crate::config;
use crate::config::Config;
use crate::config::reader::Mistake;
use crate::doctor;
use crate::doctor::Examination;
use crate::doctor::Visit;
use crate::doctor::setup;
use crate::doctor::setup::Delegation;
use crate::doctor::setup::Platform;
use crate::doctor::setup::Wanted;
use crate::kerberos;
use crate::telemetry;

const MISTAKES: u8 = 64;

/// Guests sign in with Entra ID; old applications see a Kerberos ticket.
#[derive(Debug, Parser)]
#[command(name = "kerbgate", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Serve until a signal says stop.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Write the bound addresses there as JSON once ready.
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Load the configuration as `run` would, and report every mistake.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check everything around the gateway, and name the fix of what is wrong.
    Doctor {
        #[command(flatten)]
        config: ConfigFile,
        /// Only what this application needs.
        #[arg(long, value_name = "ID")]
        app: Option<String>,
        /// In whose name backends are tried: a sAMAccountName under `account_bases`. Default: the first
        /// account that may be acted for.
        #[arg(long = "as", value_name = "ACCOUNT")]
        act_as: Option<String>,
        /// Check nothing: print the commands that make the directory ready.
        #[arg(long, value_name = "PLATFORM")]
        print_setup: Option<Platform>,
        /// With --print-setup: which kind of delegation is set up.
        #[arg(long, default_value = "resource-based", requires = "print_setup")]
        delegation: Delegation,
        /// Report as JSON.
        #[arg(long, conflicts_with = "print_setup")]
        json: bool,
    },
    /// Walk the corridor for a person without a browser, with the time of each step.
    Explain {
        #[command(flatten)]
        config: ConfigFile,
        /// The person's object id, or the UPN they have at the identity provider.
        #[arg(long, value_name = "OID|UPN")]
        person: String,
        /// The application's id.
        #[arg(long, value_name = "ID")]
        app: String,
        /// An app role to assume: roles cannot be read without more rights than the gateway has.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// A group to assume, beside those that Graph knows.
        #[arg(long = "group", value_name = "GUID")]
        groups: Vec<Uuid>,
        /// The home tenant to assume: Graph does not tell it.
        #[arg(long, value_name = "GUID")]
        home_tenant: Option<Uuid>,
        /// Report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shadow accounts: list, show, disable, restore, forget.
    Accounts {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        what: accounts::What,
    },
    /// Guests of the cloud as accounts in the directory, and partners' accounts as guests of the cloud: what would be done, and
    /// doing it.
    Sync {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        what: sync::What,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        long = "config",
        global = true,
        env = "KERBGATE_CONFIG",
        default_value = "/etc/kerbgate/kerbgate.toml"
    )]
    path: PathBuf,
}

/// Reads the arguments and does what they ask.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        What::Check { config, json } => check(&config, json),
        What::Run {
            config: file,
            ready_file,
        } => with_config(&file, |config| {
            // Lives until everything has ended: the last lines are written when it goes.
            let log = &config.log;
            let started = telemetry::start_as(&log.filter, log.file.as_deref(), log.access);
            let sending = log.traces.as_ref().map(telemetry::send_traces).transpose();
            let (_lines, _spans) = match (started, sending) {
                (Ok(lines), Ok(spans)) => (lines, spans),
                (Err(error), _) | (_, Err(error)) => return failed(&error),
            };
            block_on(app::run(config, &file.path, ready_file.as_deref()), |()| {
                ExitCode::SUCCESS
            })
        }),
        What::Doctor {
            config,
            app,
            print_setup: Some(platform),
            delegation,
            ..
        } => {
            let app = app.as_deref();
            let wanted = Wanted {
                platform,
                delegation,
                app,
            };
            print_setup(&config, &wanted)
        }
        What::Doctor {
            config,
            app,
            act_as,
            json,
            ..
        } => examine(&config, Examination { app, act_as }, json),
        What::Accounts { config, what } => {
            let writes = what.writes();
            on_accounts(&config, writes, "accounts", |config| {
                let work = accounts::run(config, what);
                block_on_coded(work, accounts::Error::code)
            })
        }
        What::Sync { config, what } => {
            let writes = what.writes();
            on_accounts(&config, writes, "sync", |config| {
                block_on_coded(sync::run(config, what), sync::Error::code)
            })
        }
        What::Explain {
            config,
            person,
            app,
            roles,
            groups,
            home_tenant,
            json,
        } => beside_gateway(&config, |config| {
            let visit = Visit {
                person,
                app,
                roles,
                groups,
                home_tenant,
            };
            block_on(doctor::explain(config, &visit), |walk| told(&walk, json))
        }),
    }
}

fn told(walk: &doctor::Walk, json: bool) -> ExitCode {
    println!(
        "{}",
        if json {
            walk.to_json()
        } else {
            walk.to_string()
        }
    );
    if walk.arrived() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn examine(file: &ConfigFile, asked: Examination, json: bool) -> ExitCode {
    beside_gateway(file, |config| {
        block_on(doctor::examine(config, asked), |report| {
            println!(
                "{}",
                if json {
                    report.to_json()
                } else {
                    report.to_string()
                }
            );
            if report.is_healthy() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        })
    })
}

fn print_setup(file: &ConfigFile, wanted: &Wanted<'_>) -> ExitCode {
    with_loaded(file, |config| match setup::commands(&config, wanted) {
        Ok(commands) => {
            println!("{commands}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    })
}

fn check(file: &ConfigFile, json: bool) -> ExitCode {
    drop(aws_lc_rs::default_provider().install_default());
    let sound = config::load(&file.path).and_then(|config| {
        let wrong = app::contradictions(&config);
        let mistakes: Vec<Mistake> = wrong.into_iter().map(|why| unsound(file, why)).collect();
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(mistakes)
        }
    });
    match sound {
        Ok(config) if json => {
            println!(
                "{}",
                serde_json::json!({"ok": true, "applications": config.applications.len()})
            );
            ExitCode::SUCCESS
        }
        Ok(config) => {
            println!(
                "{}: sound, {} applications",
                file.path.display(),
                config.applications.len()
            );
            ExitCode::SUCCESS
        }
        Err(mistakes) if json => {
            println!("{}", serde_json::json!({"ok": false, "mistakes": mistakes}));
            ExitCode::from(MISTAKES)
        }
        Err(mistakes) => report(&mistakes),
    }
}

/// A mistake that no single line has made.
fn unsound(file: &ConfigFile, problem: String) -> Mistake {
    Mistake {
        file: file.path.clone(),
        line: 0,
        key: String::new(),
        problem,
    }
}

fn report(mistakes: &[Mistake]) -> ExitCode {
    mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
    let s = if mistakes.len() == 1 { "" } else { "s" };
    let n = mistakes.len();
    eprintln!("{n} mistake{s} in the configuration; nothing was done");
    ExitCode::from(MISTAKES)
}

fn with_config(file: &ConfigFile, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    with_loaded(file, |config| isolated(config, then))
}

fn with_loaded(file: &ConfigFile, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match config::load(&file.path) {
        Ok(config) => then(config),
        Err(mistakes) => report(&mistakes),
    }
}

/// For commands that run while the gateway does: they write their `krb5.conf` where it is in nobody's way, and
/// what they do in people's names into the gateway's own audit file.
fn beside_gateway(file: &ConfigFile, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    with_loaded(file, |mut config| {
        config.gateway.runtime_dir.push("doctor");
        isolated(config, |config| {
            // Standard output is the answer's; a file that the gateway has not made yet would be another user's.
            let audit = config.log.file.as_deref().filter(|file| file.exists());
            let started = audit.map(|audit| telemetry::start("off", Some(audit)));
            match started.transpose() {
                Ok(_lines) => then(config),
                Err(error) => failed(&error),
            }
        })
    })
}

/// As [`beside_gateway`]; what is written is audited in any case, on standard error where there is no file.
fn on_accounts(
    file: &ConfigFile,
    writes: bool,
    place: &str,
    then: impl FnOnce(Config) -> ExitCode,
) -> ExitCode {
    with_loaded(file, |mut config| {
        config.gateway.runtime_dir.push(place);
        isolated(config, |config| {
            let audit = config.log.file.as_deref().filter(|file| file.exists());
            let audit = audit.or_else(|| writes.then(|| Path::new("/dev/stderr")));
            let started = audit.map(|audit| telemetry::start("off", Some(audit)));
            match started.transpose() {
                Ok(_lines) => then(config),
                Err(error) => failed(&error),
            }
        })
    })
}

fn block_on_coded<E: std::fmt::Display>(
    work: impl Future<Output = Result<ExitCode, E>>,
    code: impl Fn(&E) -> u8,
) -> ExitCode {
    let coded = async {
        Ok::<_, std::convert::Infallible>(work.await.unwrap_or_else(|error| {
            eprintln!("kerbgate: {error}");
            ExitCode::from(code(&error))
        }))
    };
    block_on(coded, |code| code)
}

fn isolated(config: Config, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match isolate(&config) {
        Ok(()) => then(config),
        Err(error) => failed(&error),
    }
}

/// Starts this program again with an environment in which no ambient Kerberos credential exists.
///
/// SECURITY: with one, libgssapi falls back to it without an error, and a backend would see the
/// gateway's own account. The environment is read by other threads, so it cannot be changed later.
///
/// Without a [kerberos] section, too: one may be added while the gateway runs.
fn isolate(config: &Config) -> std::io::Result<()> {
    let wanted = kerberos::environment(&config.gateway.runtime_dir);
    let missing = |(name, value): &(String, String)| std::env::var(name).as_ref() != Ok(value);
    if !wanted.iter().any(missing) {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).envs(wanted).exec())
}

fn block_on<T, E: std::fmt::Display>(
    work: impl Future<Output = Result<T, E>>,
    then: impl FnOnce(T) -> ExitCode,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(work) {
        Ok(done) => then(done),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("kerbgate: {error}");
    ExitCode::FAILURE
}
