//! Warm requests: session, account, tickets and connections are all held already.
//!
//! The difference between a Kerberos application and one with headers is what the token costs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

use crate::measure::Args;
use crate::measure::median::median;
use crate::soak::connections::Dialer;
use crate::soak::connections::Pool;
use crate::soak::connections::Protocol;
use crate::soak::connections::Wire;
use crate::soak::crew;
use crate::soak::judge::Outcome;
use crate::soak::shot::Ask;
use crate::soak::shot::Fate;
use crate::soak::shot::Range;
use crate::soak::shot::Shot;
use crate::stage::Failure;
use crate::stage::Stage;

/// One application's figures, one for each round.
#[derive(Debug, Default)]
pub struct Warm {
    name: String,
    sso: String,
    /// The gateway's processor time for a request, in microseconds.
    micros: Vec<f64>,
    /// Requests a second.
    rate: Vec<f64>,
}

impl Warm {
    /// For people.
    pub fn line(&self) -> String {
        let (micros, rate) = (median(&self.micros), median(&self.rate));
        format!(
            "  {:>7.1} µs of processor time, {rate:>6.0}/s  {} ({})\n",
            micros, self.name, self.sso
        )
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "app": self.name,
            "sso": self.sso,
            "cpu_micros_per_request": median(&self.micros),
            "requests_per_second": median(&self.rate),
            "rounds": {"cpu_micros": self.micros, "rate": self.rate},
        })
    }
}

/// Loads each application in turn, several rounds.
pub async fn measure(stage: &Stage, args: &Args) -> Result<Vec<Warm>, Failure> {
    println!("measure: signing in {} people", args.connections);
    let people = crew::people_for_load(0, args.connections);
    let range = Arc::new(Range {
        apps: stage.demo.apps.clone(),
        members: crew::assemble(stage, people, 8).await?,
        dialer: Dialer::new(&stage.demo.ca)?,
        pool: Pool::default(),
    });
    let mut figures: Vec<Warm> = Vec::new();
    for app in &range.apps {
        figures.push(Warm {
            name: app.name.clone(),
            sso: app.sso.clone(),
            ..Warm::default()
        });
        // Opens the connections on both sides.
        load(&range, figures.len() - 1, args.connections as u64 * 5).await?;
    }
    let gateway = stage.gateway()?;
    for round in 1..=args.rounds {
        for (app, warm) in figures.iter_mut().enumerate() {
            let (before, began) = (gateway.read()?, Instant::now());
            load(&range, app, args.requests).await?;
            let (after, took) = (gateway.read()?, began.elapsed());
            let requests = args.requests as f64;
            warm.micros
                .push((after.cpu - before.cpu).as_secs_f64() * 1e6 / requests);
            warm.rate.push(requests / took.as_secs_f64());
        }
        println!(
            "measure: {round} of {} rounds of warm requests",
            args.rounds
        );
    }
    Ok(figures)
}

/// `requests` requests for 1 KiB, each person on one connection of their own.
async fn load(range: &Arc<Range>, app: usize, requests: u64) -> Result<(), Failure> {
    let given = Arc::new(AtomicU64::new(0));
    let mut people = JoinSet::new();
    for member in 0..range.members.len() {
        let (range, given) = (Arc::clone(range), Arc::clone(&given));
        people.spawn(async move {
            let wire = Wire {
                owner: Some(member),
                app,
                protocol: Protocol::Http1,
            };
            let shot = Shot {
                member,
                wire,
                fresh: false,
                ask: Ask::OneKibibyte,
                fate: Fate::Read,
                nonce: 0,
            };
            let mut outcome = Outcome::Good;
            while outcome == Outcome::Good && given.fetch_add(1, Ordering::Relaxed) < requests {
                outcome = shot.fire(&range).await;
            }
            if outcome == Outcome::Good {
                return Ok(());
            }
            Err(format!("{shot:?}: {outcome:?}"))
        });
    }
    while let Some(done) = people.join_next().await {
        done??;
    }
    Ok(())
}
