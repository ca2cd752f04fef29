//! What came of all requests: counts by application, protocol and outcome, and a few of each failure in full.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::soak::judge::Outcome;

/// Failures of one kind that are kept in full.
const SAMPLES: usize = 5;

/// The counts.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<(String, &'static str, String), u64>,
    samples: BTreeMap<String, Vec<String>>,
    micros: Vec<u32>,
    /// Requests that were sent.
    pub sent: u64,
    /// Somebody else's answers.
    pub mixed: u64,
    /// The right person's, but not what was asked for.
    pub garbled: u64,
    /// Neither good, nor given up as drawn.
    pub failed: u64,
    /// Given up as drawn.
    pub left: u64,
}

impl Tally {
    /// Counts `outcome`; `told` describes the request when it has to be shown.
    pub fn count(
        &mut self,
        app: &str,
        protocol: &'static str,
        took: Duration,
        outcome: Outcome,
        told: impl Fn() -> String,
    ) {
        self.sent += 1;
        let (kind, detail) = match outcome {
            Outcome::Good => {
                self.micros
                    .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                ("good".to_owned(), None)
            }
            Outcome::Left(how) => {
                self.left += 1;
                (format!("given up {how}"), None)
            }
            Outcome::Mixed(what) => {
                self.mixed += 1;
                ("MIXED".to_owned(), Some(what))
            }
            Outcome::Garbled(what) => {
                self.garbled += 1;
                ("GARBLED".to_owned(), Some(what))
            }
            Outcome::Refused(status, what) => {
                self.failed += 1;
                (format!("status {status}"), Some(what))
            }
            Outcome::Broken(what) => {
                self.failed += 1;
                ("no whole answer".to_owned(), Some(what))
            }
        };
        if let Some(what) = detail {
            let samples = self.samples.entry(kind.clone()).or_default();
            // Nobody may be spared of the worst kind.
            if samples.len() < SAMPLES || kind == "MIXED" {
                samples.push(format!("{}: {what}", told()));
            }
        }
        *self
            .counts
            .entry((app.to_owned(), protocol, kind))
            .or_default() += 1;
    }

    /// The time within which `percent` of the good answers came.
    pub fn within(&self, percent: usize) -> Duration {
        let mut micros = self.micros.clone();
        micros.sort_unstable();
        let place = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
        Duration::from_micros(micros.get(place).copied().unwrap_or(0).into())
    }

    /// The counts as a table, and the samples below it.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<12} {:<9} {:<32} {:>9}\n",
            "application", "protocol", "outcome", "requests"
        );
        for ((app, protocol, kind), count) in &self.counts {
            text.push_str(&format!("{app:<12} {protocol:<9} {kind:<32} {count:>9}\n"));
        }
        for (kind, samples) in &self.samples {
            text.push_str(&format!("\n{kind}, in full:\n"));
            for sample in samples {
                text.push_str(&format!("  {sample}\n"));
            }
        }
        text
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|((app, protocol, outcome), requests)| {
                json!({"app": app, "protocol": protocol, "outcome": outcome, "requests": requests})
            })
            .collect();
        json!({
            "sent": self.sent,
            "mixed": self.mixed,
            "garbled": self.garbled,
            "failed": self.failed,
            "given_up": self.left,
            "counts": counts,
            "samples": self.samples,
            "milliseconds_p50": self.within(50).as_secs_f64() * 1e3,
            "milliseconds_p99": self.within(99).as_secs_f64() * 1e3,
        })
    }
}
