//! Development binary `kerbgate-lab`: the parts of the lab that are programs of our own.
//! Never part of a release artefact: it is an example target.

#![allow(
    clippy::print_stderr,
    unreachable_pub,
    reason = "a program for developers: it exports nothing and talks to a terminal"
)]

mod echo;
mod entra;
mod people;
mod serve;

use clap::Parser;

/// The lab's own programs.
#[derive(Parser)]
#[command(name = "kerbgate-lab")]
enum Command {
    /// Emulator of Microsoft Entra ID and the few Graph calls used.
    Entra(entra::Args),
    /// Backend that trusts identity headers and echoes what it got.
    Echo(echo::Args),
}

fn main() -> std::process::ExitCode {
    let ended = match Command::parse() {
        Command::Entra(args) => entra::run(args),
        Command::Echo(args) => echo::run(args),
    };
    match ended {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kerbgate-lab: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
