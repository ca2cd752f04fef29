//! The identity soak: many people, many requests, and not one answer that is somebody else's.
//!
//! In: a running demo. Out: counts, and failure if a single answer named another person than the
//! asker. A gateway that signs people in at backends and keeps connections to them has this one
//! mistake to fear most; it shows only under concurrency, cancellations and reused connections, so
//! these are made here, with dice whose seed is printed.
//!
//! | File | What it is |
//! |---|---|
//! | `crew.rs` | the people, signed in, and the names they must have |
//! | `shot.rs` | one request, from the throw of the dice to its answer |
//! | `judge.rs` | whether the answer is the asker's own |
//! | `connections.rs` | connections, own and shared by everybody |
//! | `tally.rs` | counts |
//! | `company.rs` | WebSockets and reloads beside the requests of a long soak |
//! | `flat.rs` | whether memory and descriptors stay what they were |

pub mod company;
pub mod connections;
pub mod crew;
pub mod dice;
pub mod flat;
pub mod judge;
pub mod shot;
pub mod tally;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;
use tokio::task::JoinSet;

use crate::meter::Meter;
use crate::meter::Reading;
use crate::soak::connections::Dialer;
use crate::soak::connections::Pool;
use crate::soak::dice::Dice;
use crate::soak::flat::Shape;
use crate::soak::shot::Range;
use crate::soak::shot::Shot;
use crate::soak::tally::Tally;
use crate::stage::Failure;
use crate::stage::Stage;

/// What is typed.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// A running demo's summary.
    #[arg(long, default_value = ".lab/demo.json")]
    pub demo: PathBuf,
    /// How many people.
    #[arg(long, default_value_t = 200)]
    pub people: usize,
    /// How many requests.
    #[arg(long, default_value_t = 200_000)]
    pub requests: u64,
    /// How many at the same time.
    #[arg(long, default_value_t = 64)]
    pub concurrency: u64,
    /// How many people sign in at the same time.
    #[arg(long, default_value_t = 8)]
    pub sign_ins: usize,
    /// Stops after so many seconds of requests, whatever is left.
    #[arg(long, default_value_t = 1800)]
    pub seconds_max: u64,
    /// Goes on for so many minutes instead, with WebSockets and a reload each minute beside the requests; fails when
    /// memory or descriptors grow.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=240))]
    pub minutes: Option<u64>,
    /// Throws the same dice again.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Failures (neither mixed nor given up) in a hundred requests that are still borne.
    #[arg(long, default_value_t = 1)]
    pub failures_percent: u64,
    /// Writes the figures there as well.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

struct Soak {
    range: Range,
    tally: Mutex<Tally>,
    /// Numbers given out.
    given: AtomicU64,
    requests: u64,
    until: Instant,
    stop: AtomicBool,
    readings: Mutex<Vec<Reading>>,
}

impl Soak {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && Instant::now() < self.until
    }

    fn is_flat(&self) -> bool {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        Shape::of(&readings).is_some_and(|shape| shape.is_flat())
    }
}

const PROGRESS: Duration = Duration::from_secs(5);
/// So many failures before the first good answer: nothing is to be learned any more.
const HOPELESS: u64 = 2_000;

/// Runs the soak. Exit code 1: somebody's answer went to somebody else; 2: too many failures; 3: the gateway grew.
pub async fn run(mut args: Args) -> Result<ExitCode, Failure> {
    if let Some(minutes) = args.minutes {
        (args.requests, args.seconds_max) = (u64::MAX, minutes * 60);
    }
    let stage = Stage::read(&args.demo)?;
    let gateway = stage.gateway()?;
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()) ^ 0x5eed_0000_0000);
    println!(
        "soak: signing in {} people at {} applications",
        args.people,
        stage.demo.apps.len()
    );
    let began = Instant::now();
    let crew = crew::people_for_load(0, args.people);
    if crew.len() < args.people {
        return Err(format!("the lab has {} people for load only", crew.len()).into());
    }
    let members = crew::assemble(&stage, crew, args.sign_ins).await?;
    let signed_in = began.elapsed();
    println!(
        "soak: signed in after {:.1} s; each name known from the directory; seed {seed}",
        signed_in.as_secs_f64()
    );
    let started = Instant::now();
    let soak = Arc::new(Soak {
        range: Range {
            apps: stage.demo.apps.clone(),
            members,
            dialer: Dialer::new(&stage.demo.ca)?,
            pool: Pool::default(),
        },
        tally: Mutex::default(),
        given: AtomicU64::new(0),
        requests: args.requests,
        until: started + Duration::from_secs(args.seconds_max),
        stop: AtomicBool::new(false),
        readings: Mutex::default(),
    });
    let before = gateway.read()?;
    let count = Arc::new(company::Count::default());
    let pid = stage.demo.pids.get("kerbgate").copied().unwrap_or_default();
    let company = args.minutes.map(|_| {
        let (soak, count) = (Arc::clone(&soak), Arc::clone(&count));
        tokio::spawn(company::keep(soak, count, pid, seed))
    });
    let mut workers = JoinSet::new();
    for number in 0..args.concurrency {
        workers.spawn(work(
            Arc::clone(&soak),
            Dice::new(seed.wrapping_add(number << 32)),
        ));
    }
    let watched = watch(&soak, &gateway, &mut workers).await;
    let took = started.elapsed();
    let after = gateway
        .read()
        .map_err(|error| format!("kerbgate has gone: {error}"));
    print(
        &soak,
        &args,
        seed,
        took,
        after.as_ref().ok().map(|after| (before, *after)),
    )?;
    watched?;
    after?;
    if let Some(company) = company {
        company.await??;
        println!("beside it: {}", count.told());
    }
    if args.minutes.is_some() && !soak.is_flat() {
        println!("memory or descriptors grew");
        return Ok(ExitCode::from(3));
    }
    Ok(verdict(&soak, args.failures_percent))
}

async fn work(soak: Arc<Soak>, mut dice: Dice) {
    while soak.goes_on() && soak.given.fetch_add(1, Ordering::Relaxed) < soak.requests {
        let shot = Shot::drawn(&mut dice, &soak.range);
        let began = Instant::now();
        let outcome = shot.fire(&soak.range).await;
        let app = soak
            .range
            .apps
            .get(shot.wire.app)
            .map_or("", |app| app.label());
        let told = || {
            let who = soak
                .range
                .members
                .get(shot.member)
                .map_or("", |member| member.login.as_str());
            format!("{who} at {app}, {shot:.300?}")
        };
        let mut tally = soak.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.count(
            app,
            shot.wire.protocol.name(),
            began.elapsed(),
            outcome,
            told,
        );
    }
}

async fn watch(soak: &Soak, gateway: &Meter, workers: &mut JoinSet<()>) -> Result<(), Failure> {
    let mut clock = tokio::time::interval(PROGRESS);
    let (mut then, mut sent_then) = (Instant::now(), 0);
    clock.tick().await;
    loop {
        tokio::select! {
            done = workers.join_next() => match done {
                Some(done) => done?,
                None => return Ok(()),
            },
            _ = clock.tick() => {
                let line = {
                    let tally = soak.tally.lock().unwrap_or_else(PoisonError::into_inner);
                    if tally.failed > HOPELESS && tally.failed * 10 > tally.sent * 9 {
                        soak.stop.store(true, Ordering::Relaxed);
                    }
                    let rate = (tally.sent - sent_then) as f64 / then.elapsed().as_secs_f64();
                    (then, sent_then) = (Instant::now(), tally.sent);
                    let of = match soak.requests {
                        u64::MAX => String::new(),
                        most => format!(" of {most}"),
                    };
                    format!(
                        "{}{of} requests, {rate:.0}/s, {} mixed, {} garbled, {} failed, {} given up",
                        tally.sent, tally.mixed, tally.garbled, tally.failed, tally.left
                    )
                };
                let reading = gateway.read().inspect_err(|_| soak.stop.store(true, Ordering::Relaxed))?;
                let mut readings = soak.readings.lock().unwrap_or_else(PoisonError::into_inner);
                readings.push(reading);
                drop(readings);
                println!("soak: {line}; kerbgate {} MiB, {} descriptors", reading.resident >> 20, reading.descriptors);
            }
        }
    }
}

fn print(
    soak: &Soak,
    args: &Args,
    seed: u64,
    took: Duration,
    gateway: Option<(Reading, Reading)>,
) -> Result<(), Failure> {
    let tally = soak.tally.lock().unwrap_or_else(PoisonError::into_inner);
    let rate = tally.sent as f64 / took.as_secs_f64();
    println!("\n{}", tally.table());
    println!(
        "{} requests of {} people in {:.0} s, {rate:.0}/s (seed {seed})",
        tally.sent,
        args.people,
        took.as_secs_f64()
    );
    println!(
        "good answers within {:.1?} (half), {:.1?} (99 of 100)",
        tally.within(50),
        tally.within(99)
    );
    let mut figures = json!({
        "people": args.people,
        "concurrency": args.concurrency,
        "seed": seed,
        "seconds": took.as_secs_f64(),
        "requests_per_second": rate,
        "tally": tally.json(),
    });
    if let Some((before, after)) = gateway {
        let micros = (after.cpu - before.cpu).as_secs_f64() * 1e6 / tally.sent.max(1) as f64;
        println!(
            "kerbgate: {micros:.0} µs of processor time a request; memory {} -> {} MiB (at most {}), descriptors {} -> {}",
            before.resident >> 20,
            after.resident >> 20,
            after.peak >> 20,
            before.descriptors,
            after.descriptors,
        );
        let told = |reading: Reading| json!({"resident": reading.resident, "peak": reading.peak, "descriptors": reading.descriptors, "threads": reading.threads});
        figures["gateway"] =
            json!({"cpu_micros_per_request": micros, "before": told(before), "after": told(after)});
    }
    let readings = soak.readings.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shape) = Shape::of(&readings) {
        println!(
            "early and late: memory {} and {} MiB, descriptors {} and {}",
            shape.memory.0 >> 20,
            shape.memory.1 >> 20,
            shape.descriptors.0,
            shape.descriptors.1
        );
        figures["shape"] = shape.json();
    }
    println!("identities mixed: {}", tally.mixed);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_vec_pretty(&figures)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn verdict(soak: &Soak, failures_percent: u64) -> ExitCode {
    let tally = soak.tally.lock().unwrap_or_else(PoisonError::into_inner);
    if tally.mixed > 0 || tally.garbled > 0 {
        return ExitCode::from(1);
    }
    if tally.sent == 0 || tally.failed * 100 > tally.sent * failures_percent {
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}
