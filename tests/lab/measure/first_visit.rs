//! First visits of guests whom nobody has seen before, split by step, beside MIT's `kvno`.
//!
//! The steps are the gateway's own: every access and audit line written meanwhile with a time in
//! microseconds. Visit and `kvno` take turns, so that a busy machine disturbs both alike.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use http::Method;
use serde_json::Value;
use serde_json::json;
use url::Url;

use crate::measure::kvno::Kvno;
use crate::measure::median::median;
use crate::stage::Failure;
use crate::stage::Stage;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::visitor::redirect;

/// What was measured.
#[derive(Debug, Default)]
pub struct FirstVisits {
    visits: usize,
    /// Milliseconds by step, one for each visit.
    steps: BTreeMap<String, Vec<f64>>,
}

const APP: &str = "intranet";
const SPN: &str = "HTTP/intranet.contoso.test";
/// The two exchanges with the KDC, by us and by MIT.
const OURS: &str = "4 delegation: S4U2Self + S4U2Proxy";
const MIT: &str = "5 kvno: S4U2Self + S4U2Proxy, start of the program taken off";
/// A log line may come after the answer's last byte.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// Lets `count` new guests in.
pub async fn measure(stage: &Stage, count: usize) -> Result<FirstVisits, Failure> {
    let kvno = Kvno::prepare(&stage.lab).await?;
    let mut visits = FirstVisits::default();
    for number in 1..=count {
        let login = newcomer(stage).await?;
        let sam = visits.visit(stage, &login).await?;
        let run = kvno.run(&sam, SPN).await?;
        visits.add(MIT, milliseconds(run.net()));
        visits.add(
            "6 kvno: with the start of the program",
            milliseconds(run.whole),
        );
        visits.visits = number;
        if number % 5 == 0 {
            println!("measure: {number} of {count} first visits");
        }
    }
    Ok(visits)
}

impl FirstVisits {
    /// One first visit as `login`; returns the account it led to.
    async fn visit(&mut self, stage: &Stage, login: &str) -> Result<String, Failure> {
        let app = stage.app(APP)?;
        let log = stage
            .demo
            .logs
            .get("kerbgate")
            .ok_or("demo.json names no log of kerbgate")?;
        let mark = File::open(log)?.seek(SeekFrom::End(0))?;
        let mut visitor = Visitor::new(&stage.demo.ca, Speaks::Http2);
        let url = app.url.join("whoami")?;
        let began = Instant::now();
        let page = visitor.open(url.as_str()).await?;
        self.add("1 to Entra's sign-in page", milliseconds(began.elapsed()));
        let began = Instant::now();
        let pressed = visitor.press(&page, login).await?;
        let next = redirect(&pressed).ok_or_else(|| format!("{login}: {}", pressed.body))?;
        self.add(
            "2 Entra's own time, the button pressed",
            milliseconds(began.elapsed()),
        );
        let began = Instant::now();
        let arrived = visitor.open(next.as_str()).await?;
        self.add(
            "3 from Entra's answer to the application's page",
            milliseconds(began.elapsed()),
        );
        let shown = arrived.remote_user();
        let Some((sam, _)) = shown.split_once('@') else {
            return Err(format!("{login} is not in: {} {}", arrived.status, arrived.body).into());
        };
        self.records(log, mark).await?;
        Ok(sam.to_owned())
    }

    /// Adds what the gateway wrote into `log` since `mark`.
    async fn records(&mut self, log: &Path, mark: u64) -> Result<(), Failure> {
        let began = Instant::now();
        let lines = loop {
            let lines = since(log, mark)?;
            let delegated = lines.iter().any(|line| text(line, "event") == "delegation");
            let answered = lines.iter().any(|line| {
                text(line, "target") == "access"
                    && text(line, "path") == "/whoami"
                    && line["status"] == 200
            });
            if delegated && answered {
                break lines;
            }
            if began.elapsed() > LOG_PATIENCE {
                return Err(format!("{} does not tell of the delegation", log.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut sums = BTreeMap::<String, f64>::new();
        for line in &lines {
            for (step, micros) in steps(line) {
                *sums.entry(step).or_default() += micros / 1e3;
            }
        }
        for (step, milliseconds) in sums {
            self.add(&step, milliseconds);
        }
        Ok(())
    }

    fn add(&mut self, step: &str, milliseconds: f64) {
        self.steps
            .entry(step.to_owned())
            .or_default()
            .push(milliseconds);
    }

    fn median(&self, step: &str) -> f64 {
        self.steps.get(step).map_or(0.0, |values| median(values))
    }

    fn ratio(&self) -> f64 {
        self.median(OURS) / self.median(MIT)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!("\n{} first visits, medians:\n", self.visits);
        for (step, values) in &self.steps {
            text.push_str(&format!("  {:>9.2} ms  {step}\n", median(values)));
        }
        text.push_str(&format!("  {:>9.2}     ours over MIT's\n", self.ratio()));
        text
    }

    /// For machines: milliseconds.
    pub fn json(&self) -> Value {
        let medians: BTreeMap<_, _> = self
            .steps
            .iter()
            .map(|(step, values)| (step, median(values)))
            .collect();
        json!({"visits": self.visits, "milliseconds": medians, "ours_over_mit": self.ratio(), "all": self.steps})
    }
}

/// A guest whom nobody has seen before.
pub async fn newcomer(stage: &Stage) -> Result<String, Failure> {
    let entra: Url = stage.demo.issuer.join("/_control/people")?;
    let login = format!(
        "newcomer-{}@fabrikam.example",
        uuid::Uuid::new_v4().simple()
    );
    let made = Visitor::new(&stage.demo.ca, Speaks::Http1)
        .request(Method::POST, &entra)
        .json(&json!({"login": login, "like": "jane@fabrikam.example"}))
        .send()
        .await?;
    if !made.status().is_success() {
        return Err(format!("{entra}: {}: {}", made.status(), made.text().await?).into());
    }
    Ok(login)
}

fn since(log: &Path, mark: u64) -> Result<Vec<Value>, Failure> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(mark))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The times of one line, by step, in microseconds.
fn steps(line: &Value) -> Vec<(String, f64)> {
    let micros = |key: &str| line.get(key).and_then(Value::as_f64).unwrap_or_default();
    match (text(line, "target"), text(line, "event")) {
        ("access", _) => {
            let host = text(line, "host").split('.').next().unwrap_or_default();
            let what = match (text(line, "path"), text(line, "why")) {
                (path, "") => path.to_owned(),
                (path, why) => format!("{path} ({why})"),
            };
            let request = format!("   of 1 and 3, request to {host}: {what}");
            let rooms = ["authn", "authz", "mapping", "forward"].map(|room| {
                let spent = micros(&format!("{room}_us"));
                (format!("{request}, in {room}"), spent)
            });
            // A room that took no time is not worth a line.
            let mut steps: Vec<_> = rooms
                .into_iter()
                .filter(|(_, spent)| *spent >= 100.0)
                .collect();
            steps.push((request, micros("head_us")));
            steps
        }
        ("audit", "delegation") => vec![
            (
                OURS.to_owned(),
                micros("s4u2self_us") + micros("s4u2proxy_us"),
            ),
            (
                "4 delegation: of that, S4U2Self".to_owned(),
                micros("s4u2self_us"),
            ),
            (
                "4 delegation: of that, S4U2Proxy".to_owned(),
                micros("s4u2proxy_us"),
            ),
            ("4 delegation: the token".to_owned(), micros("token_us")),
        ],
        ("audit", event) => {
            let fields = line.as_object().into_iter().flatten();
            let times =
                fields.filter_map(|(key, value)| Some((key.strip_suffix("_us")?, value.as_f64()?)));
            times
                .map(|(key, micros)| (format!("   {event}: {key}"), micros))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
