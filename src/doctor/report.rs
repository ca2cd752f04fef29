//! What the doctor and the explainer found: as a table for people, as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warning,
    /// Wrong; `fix` says what to do.
    Fault,
    /// Could not be checked, because something before it is wrong or it does not apply.
    Skipped,
}

/// One named, numbered check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Stable number: the same check always has the same one.
    pub number: u16,
    /// Stable kebab-case name.
    pub name: &'static str,
    /// What it was checked for: an application, a KDC, a domain controller; empty = the whole.
    pub subject: String,
    /// How it ended.
    pub state: State,
    /// Why, when it is not ok.
    pub cause: String,
    /// What was seen.
    pub proof: String,
    /// The exact command or setting that mends it.
    pub fix: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl Finding {
    /// A check that found everything as it should be.
    pub fn ok(
        number: u16,
        name: &'static str,
        subject: impl Into<String>,
        proof: impl Into<String>,
    ) -> Self {
        Self {
            number,
            name,
            subject: subject.into(),
            state: State::Ok,
            cause: String::new(),
            proof: proof.into(),
            fix: String::new(),
            millis: 0,
        }
    }

    /// The same check with another end.
    #[must_use]
    pub fn but(self, state: State, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            state,
            cause: cause.into(),
            fix: fix.into(),
            ..self
        }
    }

    /// The same check with the time it took.
    #[must_use]
    pub fn took(self, span: Duration) -> Self {
        Self {
            millis: u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            ..self
        }
    }
}

/// All findings of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// True when no check found a fault.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self
            .findings
            .iter()
            .any(|finding| finding.state == State::Fault)
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let healthy = self.is_healthy();
        serde_json::json!({"healthy": healthy, "findings": self.findings}).to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = match finding.state {
                State::Ok => "ok     ",
                State::Warning => "WARNING",
                State::Fault => "FAULT  ",
                State::Skipped => "skipped",
            };
            write!(f, "{:>2}  {mark}  {}", finding.number, finding.name)?;
            if !finding.subject.is_empty() {
                write!(f, " [{}]", finding.subject)?;
            }
            if finding.state == State::Skipped {
                writeln!(f, ": {}", finding.cause)?;
                continue;
            }
            writeln!(f, ": {}", finding.proof)?;
            if !finding.cause.is_empty() {
                writeln!(f, "             cause: {}", finding.cause)?;
            }
            for (at, line) in finding.fix.lines().enumerate() {
                writeln!(
                    f,
                    "             {} {line}",
                    if at == 0 { "fix:  " } else { "      " }
                )?;
            }
        }
        let count = |state| {
            self.findings
                .iter()
                .filter(|finding| finding.state == state)
                .count()
        };
        let several = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        write!(
            f,
            "{}: {} ok, {}, {}, {} skipped",
            several(self.findings.len(), "check"),
            count(State::Ok),
            several(count(State::Warning), "warning"),
            several(count(State::Fault), "fault"),
            count(State::Skipped),
        )
    }
}

/// One step of the corridor, walked without a browser.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The room, or the part of a room.
    pub room: &'static str,
    /// Whether the walk went on from here.
    pub passed: bool,
    /// The reason code when it did not.
    pub code: String,
    /// What was seen.
    pub detail: String,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// A walk through the corridor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Walk {
    /// Who was asked for.
    pub person: String,
    /// For which application.
    pub application: String,
    /// The steps, as far as the walk came.
    pub steps: Vec<Step>,
    /// What a visit would do that the walk must not: the steps after it could not be walked.
    pub open: Option<String>,
}

impl Walk {
    /// True when every step passed and none was left out.
    #[must_use]
    pub fn arrived(&self) -> bool {
        self.open.is_none() && !self.steps.is_empty() && self.steps.iter().all(|step| step.passed)
    }

    /// The walk as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let arrived = self.arrived();
        serde_json::json!({
            "person": self.person, "application": self.application, "arrived": arrived, "steps": self.steps,
            "open": self.open,
        })
        .to_string()
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} -> {}", self.person, self.application)?;
        for step in &self.steps {
            let mark = if step.passed { "ok  " } else { "STOP" };
            let millis = step.micros / 1000;
            let rest = step.micros % 1000 / 100;
            writeln!(
                f,
                "{mark}  {:<12} {millis:>6}.{rest} ms  {}",
                step.room, step.detail
            )?;
            if !step.code.is_empty() {
                writeln!(f, "      reason: {}", step.code)?;
            }
        }
        match &self.open {
            Some(open) => write!(f, "not walked to the end: {open}"),
            None if self.arrived() => write!(f, "arrived"),
            None => write!(f, "did not arrive"),
        }
    }
}
