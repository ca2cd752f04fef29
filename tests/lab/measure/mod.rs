//! The figures of one gateway, all from one run: what a first visit takes and where, what a warm
//! request costs, what an idle gateway holds.
//!
//! In: a running demo, used for nothing else meanwhile. Out: a table and JSON. Absolute figures
//! differ from machine to machine; what can be compared are ratios measured in turn.
//!
//! | File | What it is |
//! |---|---|
//! | `first_visit.rs` | new guests, one after the other, by the gateway's own records |
//! | `kvno.rs` | the same delegation by MIT's own tool |
//! | `warm.rs` | processor time and requests a second with everything held |
//! | `sync.rs` | a synchronization of guests, beside `ldapadd` |
//! | `token.rs` | one warm Negotiate token, both ways it can be made |
//! | `cutoff.rs` | how soon somebody disabled is out |
//! | `median.rs` | the middle of several rounds |

pub mod cutoff;
pub mod first_visit;
pub mod kvno;
pub mod median;
pub mod sync;
pub mod token;
pub mod warm;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::measure::first_visit::FirstVisits;
use crate::measure::warm::Warm;
use crate::stage::Failure;
use crate::stage::Stage;

/// What is typed.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// A running demo's summary.
    #[arg(long, default_value = ".lab/demo.json")]
    pub demo: PathBuf,
    /// New guests, and as many runs of kvno in between.
    #[arg(long, default_value_t = 24)]
    pub visits: usize,
    /// Rounds of warm requests, one application after the other in each.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Warm requests to each application in a round.
    #[arg(long, default_value_t = 6_000)]
    pub requests: u64,
    /// Connections, each of another person.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// How long nothing happens before memory at rest is read once more.
    #[arg(long, default_value_t = 20)]
    pub rest_seconds: u64,
    /// Writes the figures there as well.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Measures and prints.
pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let stage = Stage::read(&args.demo)?;
    let gateway = stage.gateway()?;
    let fresh = gateway.read()?;
    let visits = first_visit::measure(&stage, args.visits).await?;
    let warm = warm::measure(&stage, &args).await?;
    // Part of the question: what is left when nobody does anything.
    tokio::time::sleep(Duration::from_secs(args.rest_seconds)).await;
    let rested = gateway.read()?;
    let size = fs::metadata(&stage.demo.binary)?.len();
    let memory = json!({
        "before": fresh.resident,
        "peak": rested.peak,
        "after_rest": rested.resident,
        "threads": rested.threads,
    });
    println!("{}", table(&visits, &warm));
    println!(
        "memory: {} MiB before, {} MiB at most, {} MiB after {} s of rest, {} threads",
        mebibytes(fresh.resident),
        mebibytes(rested.peak),
        mebibytes(rested.resident),
        args.rest_seconds,
        rested.threads
    );
    println!(
        "{}: {} MiB, a {} build",
        stage.demo.binary.display(),
        mebibytes(size),
        build(&stage)
    );
    if let Some(path) = &args.json {
        let figures = json!({
            "build": build(&stage),
            "binary_bytes": size,
            "memory": memory,
            "first_visit": visits.json(),
            "warm": warm.iter().map(Warm::json).collect::<Vec<Value>>(),
        });
        fs::write(path, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(visits: &FirstVisits, warm: &[Warm]) -> String {
    let mut text = visits.table();
    text.push_str("\nwarm requests for 1 KiB (HTTP/1.1, TLS 1.3), medians of rounds in turn:\n");
    for row in warm {
        text.push_str(&row.line());
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

// A debug build's figures are not the product's.
fn build(stage: &Stage) -> &'static str {
    let folder = stage
        .demo
        .binary
        .parent()
        .and_then(|folder| folder.file_name());
    match folder.and_then(|name| name.to_str()) {
        Some("dist") => "dist",
        Some("release") => "release",
        Some(_) | None => "DEBUG",
    }
}
