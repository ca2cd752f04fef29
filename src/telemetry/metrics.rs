//! What is counted, for Prometheus: read at `/metrics` of the ops listener.
//!
//! In: what happens, told by the rooms. Out: the text of the OpenMetrics format. Labels are bounded: applications,
//! reason codes, rooms, steps and kinds, all of them known before the first request; never a host, a path or a person.
//!
//! # Why global
//! It is as global as the logger is, and for the same reason: every room may have something to tell, and none should
//! be built differently for it. On a warm request it is two look-ups and a dozen additions, no lock.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Access;
use crate::model::stop::Code;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    request_seconds: Family<OfApplication, Histogram>,
    response_bytes: Family<OfApplication, Counter>,
    room_seconds: [Histogram; 4],
    kerberos_seconds: Family<OfStep, Histogram>,
    kerberos_errors: Family<OfKind, Counter>,
    ldap_seconds: Family<OfStep, Histogram>,
    ldap_errors: Family<OfKind, Counter>,
    graph_seconds: Family<OfStep, Histogram>,
    graph_errors: Family<OfKind, Counter>,
    store_seconds: Family<OfStep, Histogram>,
    store_errors: Family<OfKind, Counter>,
    handshakes: Family<OfKind, Counter>,
    connections: Gauge,
    reloads: Family<OfKind, Counter>,
    cutoff_rounds: Family<OfKind, Counter>,
    cutoff_ended: Family<OfKind, Counter>,
    sync_rounds: Family<OfSync, Counter>,
    sync_steps: Family<OfSync, Counter>,
    sync_success: Family<OfWhat, Gauge>,
    sync_taken: Family<OfSync, Counter>,
    sync_planned: Family<OfWhat, Gauge>,
    sync_removals: Family<OfWhat, Gauge>,
    sync_braked: Family<OfWhat, Gauge>,
    known: ArcSwap<HashMap<String, Arc<OneApplication>>>,
}

/// The handles of one application, so that a request looks up one name.
#[derive(Debug)]
struct OneApplication {
    good: [Counter; STATUSES.len()],
    seconds: Histogram,
    bytes: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    application: String,
    status: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfApplication {
    application: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoom {
    room: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSync {
    what: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWhat {
    what: &'static str,
}

const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const ROOMS: [&str; 4] = ["authn", "authz", "mapping", "forward"];

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The process's metrics.
#[must_use]
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("kerbgate");
        let mut this = Self {
            requests: Family::default(),
            request_seconds: Family::default(),
            response_bytes: Family::default(),
            room_seconds: Default::default(),
            kerberos_seconds: Family::default(),
            kerberos_errors: Family::default(),
            ldap_seconds: Family::default(),
            ldap_errors: Family::default(),
            graph_seconds: Family::default(),
            graph_errors: Family::default(),
            store_seconds: Family::default(),
            store_errors: Family::default(),
            handshakes: Family::default(),
            connections: Gauge::default(),
            reloads: Family::default(),
            cutoff_rounds: Family::default(),
            cutoff_ended: Family::default(),
            sync_rounds: Family::default(),
            sync_steps: Family::default(),
            sync_success: Family::default(),
            sync_taken: Family::default(),
            sync_planned: Family::default(),
            sync_removals: Family::default(),
            sync_braked: Family::default(),
            known: ArcSwap::default(),
            registry: Registry::default(),
        };
        this.tell_requests(&mut registry);
        this.tell_others(&mut registry);
        this.registry = registry;
        this.at_zero();
        this
    }

    /// What nothing has happened to yet is told as zero: a graph that begins with the first error hides it.
    fn at_zero(&self) {
        drop(self.application(""));
        for step in ["tgt", "s4u2self", "s4u2proxy", "token"] {
            drop(self.kerberos_seconds.get_or_create(&OfStep { step }));
        }
        for kind in ["kdc-unreachable", "delegation-refused", "spn-unknown"] {
            drop(self.kerberos_errors.get_or_create(&OfKind { kind }));
        }
        for kind in ["search", "add", "modify"] {
            drop(self.ldap_seconds.get_or_create(&OfStep { step: kind }));
            drop(self.ldap_errors.get_or_create(&OfKind { kind }));
        }
        for kind in ["throttled", "failed"] {
            drop(self.graph_errors.get_or_create(&OfKind { kind }));
        }
        for kind in ["read", "write"] {
            drop(self.store_seconds.get_or_create(&OfStep { step: kind }));
            drop(self.store_errors.get_or_create(&OfKind { kind }));
        }
        for kind in ["done", "failed", "late"] {
            drop(self.handshakes.get_or_create(&OfKind { kind }));
        }
        for kind in ["done", "failed"] {
            drop(self.cutoff_rounds.get_or_create(&OfKind { kind }));
        }
        for kind in ["person-disabled", "group-changed"] {
            drop(self.cutoff_ended.get_or_create(&OfKind { kind }));
        }
        for kind in ["taken", "refused"] {
            drop(self.reloads.get_or_create(&OfKind { kind }));
        }
        for what in ["guests", "partners"] {
            for kind in ["done", "failed", "stopped", "elsewhere"] {
                drop(self.sync_rounds.get_or_create(&OfSync { what, kind }));
            }
            for kind in ["done", "failed"] {
                drop(self.sync_steps.get_or_create(&OfSync { what, kind }));
            }
            drop(self.sync_success.get_or_create(&OfWhat { what }));
            for gauge in [&self.sync_planned, &self.sync_removals, &self.sync_braked] {
                drop(gauge.get_or_create(&OfWhat { what }));
            }
        }
        for kind in ["create", "adopt", "update", "disable", "restore", "delete"] {
            let what = "guests";
            drop(self.sync_taken.get_or_create(&OfSync { what, kind }));
        }
        for kind in ["invite", "link", "update", "disable", "enable", "delete"] {
            let what = "partners";
            drop(self.sync_taken.get_or_create(&OfSync { what, kind }));
        }
    }

    fn tell_requests(&mut self, to: &mut Registry) {
        let help = "Requests by application, class of the status and reason code (ok = passed on)";
        to.register("requests", help, self.requests.clone());
        let help = "Time from a request's head to its answer's end, in seconds";
        to.register("request_seconds", help, self.request_seconds.clone());
        let help = "Bytes of answers' bodies";
        to.register("response_bytes", help, self.response_bytes.clone());
        let rooms = Family::<OfRoom, Histogram>::default();
        self.room_seconds = ROOMS.map(|room| rooms.get_or_create_owned(&OfRoom { room }));
        let help = "Time that a request spent in a room of the corridor, in seconds";
        to.register("room_seconds", help, rooms);
        let help = "Client connections that are open now";
        to.register("client_connections", help, self.connections.clone());
        let help = "TLS handshakes with clients";
        to.register("tls_handshakes", help, self.handshakes.clone());
    }

    fn tell_others(&self, to: &mut Registry) {
        let help = "Time of a step with a KDC, or of making a token, in seconds";
        to.register("kerberos_seconds", help, self.kerberos_seconds.clone());
        let help = "Kerberos errors by diagnosis";
        to.register("kerberos_errors", help, self.kerberos_errors.clone());
        let help = "Time of an LDAP operation, in seconds";
        to.register("ldap_seconds", help, self.ldap_seconds.clone());
        let help = "LDAP operations that failed";
        to.register("ldap_errors", help, self.ldap_errors.clone());
        let help = "Time of one try of a question to Microsoft Graph, in seconds";
        to.register("graph_seconds", help, self.graph_seconds.clone());
        let help = "Tries of questions to Microsoft Graph that were throttled or failed";
        to.register("graph_errors", help, self.graph_errors.clone());
        let help = "Time of a statement in the store, in seconds";
        to.register("store_seconds", help, self.store_seconds.clone());
        let help = "Statements in the store that failed";
        to.register("store_errors", help, self.store_errors.clone());
        let help = "Changes of the configuration, taken or refused";
        to.register("reloads", help, self.reloads.clone());
        let help = "Rounds in which Graph was asked who has left";
        to.register("cutoff_rounds", help, self.cutoff_rounds.clone());
        let help = "People whose running sign-ins ended because they have left, by reason";
        to.register("cutoff_ended", help, self.cutoff_ended.clone());
        let help = "Rounds of a synchronization: done, failed, stopped by the brake, elsewhere (another replica's)";
        to.register("sync_rounds", help, self.sync_rounds.clone());
        let help = "Steps of a synchronization, taken or failed";
        to.register("sync_steps", help, self.sync_steps.clone());
        let help =
            "When a round was last done without any failure, in seconds since 1970; 0 = not yet";
        to.register("sync_success_timestamp", help, self.sync_success.clone());
        let help = "Steps of a synchronization that were taken, by what they do";
        to.register("sync_taken", help, self.sync_taken.clone());
        let help = "Steps of the last plan";
        to.register("sync_planned", help, self.sync_planned.clone());
        let help = "Removals of the last plan: what the brake counts";
        to.register("sync_removals", help, self.sync_removals.clone());
        let help = "1 = the brake stops the last plan";
        to.register("sync_braked", help, self.sync_braked.clone());
    }

    /// A request's end.
    pub(super) fn served(&self, access: &Access) {
        let one = self.application(&access.application);
        let status = usize::from(access.status / 100).min(STATUSES.len() - 1);
        match (access.why, one.good.get(status)) {
            ("", Some(good)) => {
                good.inc();
            }
            (reason, _) => {
                let outcome = Outcome {
                    application: access.application.clone(),
                    status: STATUSES.get(status).copied().unwrap_or("none"),
                    reason,
                };
                self.requests.get_or_create(&outcome).inc();
            }
        }
        one.seconds.observe(access.total);
        one.bytes.inc_by(access.bytes);
        let rooms = &access.rooms;
        let spent = [rooms.authn, rooms.authz, rooms.mapping, rooms.forward];
        for (histogram, spent) in self.room_seconds.iter().zip(spent) {
            // Nothing was spent in a room that was not entered.
            if !spent.is_zero() {
                histogram.observe(spent);
            }
        }
    }

    fn application(&self, id: &str) -> Arc<OneApplication> {
        if let Some(known) = self.known.load().get(id) {
            return Arc::clone(known);
        }
        let label = OfApplication {
            application: id.to_owned(),
        };
        let good = STATUSES.map(|status| {
            self.requests.get_or_create_owned(&Outcome {
                application: id.to_owned(),
                status,
                reason: "ok",
            })
        });
        let new = Arc::new(OneApplication {
            good,
            seconds: self.request_seconds.get_or_create_owned(&label),
            bytes: self.response_bytes.get_or_create_owned(&label),
        });
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.insert(id.to_owned(), Arc::clone(&new));
            known
        });
        new
    }

    /// An application was removed: its numbers go with it.
    pub fn forget_application(&self, id: &str) {
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.remove(id);
            known
        });
        let label = OfApplication {
            application: id.to_owned(),
        };
        self.request_seconds.remove(&label);
        self.response_bytes.remove(&label);
        let codes = Code::ALL.iter().map(|code| code.as_str());
        for reason in codes.chain(["ok", "account-in-preparation", "body-cut"]) {
            for status in STATUSES {
                let application = id.to_owned();
                self.requests.remove(&Outcome {
                    application,
                    status,
                    reason,
                });
            }
        }
    }

    /// A client connection, as long as the returned value lives.
    #[must_use]
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// A TLS handshake: `kind` is `done`, `failed` or `late`.
    pub fn handshake(&self, kind: &'static str) {
        self.handshakes.get_or_create(&OfKind { kind }).inc();
    }

    /// A step towards a ticket (`tgt`, `s4u2self`, `s4u2proxy`, `token`) took `spent`.
    pub fn kerberos(&self, step: &'static str, spent: Duration) {
        self.kerberos_seconds
            .get_or_create(&OfStep { step })
            .observe(spent);
    }

    /// A Kerberos error with that diagnosis.
    pub fn kerberos_error(&self, kind: &'static str) {
        self.kerberos_errors.get_or_create(&OfKind { kind }).inc();
    }

    /// An LDAP operation took `spent` and went well or not.
    pub fn ldap(&self, step: &'static str, spent: Duration, well: bool) {
        self.ldap_seconds
            .get_or_create(&OfStep { step })
            .observe(spent);
        if !well {
            self.ldap_errors.get_or_create(&OfKind { kind: step }).inc();
        }
    }

    /// One try of a question to Graph took `spent`; `trouble` is `throttled`, `failed` or nothing.
    pub fn graph(&self, step: &'static str, spent: Duration, trouble: Option<&'static str>) {
        self.graph_seconds
            .get_or_create(&OfStep { step })
            .observe(spent);
        if let Some(kind) = trouble {
            self.graph_errors.get_or_create(&OfKind { kind }).inc();
        }
    }

    /// A round in which Graph was asked who has left came to `kind`: `done` or `failed`.
    pub fn cutoff_round(&self, kind: &'static str) {
        self.cutoff_rounds.get_or_create(&OfKind { kind }).inc();
    }

    /// Somebody's running sign-ins ended for that reason.
    pub fn cutoff_ended(&self, kind: &'static str) {
        self.cutoff_ended.get_or_create(&OfKind { kind }).inc();
    }

    /// A statement in the store took `spent` and went well or not.
    pub fn store(&self, step: &'static str, spent: Duration, well: bool) {
        self.store_seconds
            .get_or_create(&OfStep { step })
            .observe(spent);
        if !well {
            self.store_errors
                .get_or_create(&OfKind { kind: step })
                .inc();
        }
    }

    /// A change of the configuration: `kind` is `taken` or `refused`.
    pub fn reload(&self, kind: &'static str) {
        self.reloads.get_or_create(&OfKind { kind }).inc();
    }

    /// A round of the synchronization of `what` (`guests`, `partners`) at `now`, in seconds since 1970: `kind` is `done`, `failed`,
    /// `stopped` or `elsewhere`; steps taken and failed.
    pub fn sync_round(
        &self,
        what: &'static str,
        kind: &'static str,
        steps: (usize, usize),
        now: i64,
    ) {
        self.sync_rounds.get_or_create(&OfSync { what, kind }).inc();
        for (kind, count) in [("done", steps.0), ("failed", steps.1)] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.sync_steps
                .get_or_create(&OfSync { what, kind })
                .inc_by(count);
        }
        if kind == "done" {
            self.sync_success.get_or_create(&OfWhat { what }).set(now);
        }
    }

    /// A plan of `what` that is about to be carried out: its steps, its removals, whether the brake stops it.
    pub fn sync_plan(&self, what: &'static str, steps: usize, removals: usize, braked: bool) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (gauge, value) in [
            (&self.sync_planned, number(steps)),
            (&self.sync_removals, number(removals)),
            (&self.sync_braked, i64::from(braked)),
        ] {
            gauge.get_or_create(&OfWhat { what }).set(value);
        }
    }

    /// A step of `what` was taken; `kind`: what it does, such as `create`.
    pub fn sync_taken(&self, what: &'static str, kind: &'static str) {
        self.sync_taken.get_or_create(&OfSync { what, kind }).inc();
    }

    /// All of it, and `now`: what is not counted but looked at at this moment.
    ///
    /// # Errors
    /// A formatter that writes into memory does not fail; the library's signature says it might.
    pub fn text(&self, now: &[Reading]) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode_registry(&mut out, &self.registry)?;
        let mut moment = Registry::with_prefix("kerbgate");
        let mut families: Vec<(&str, Readings)> = Vec::new();
        for reading in now {
            let labels = reading.labels.iter();
            let labels: Vec<_> = labels
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            let known = families.iter().position(|(name, _)| *name == reading.name);
            let at = known.unwrap_or_else(|| {
                let family = Readings::default();
                moment.register(reading.name, reading.help, Family::clone(&family));
                families.push((reading.name, family));
                families.len() - 1
            });
            if let Some((_, family)) = families.get(at) {
                family.get_or_create(&labels).set(reading.value);
            }
        }
        text::encode_registry(&mut out, &moment)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

type Readings = Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>;

/// A number that is looked at when somebody asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Without the `kerbgate_` in front.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Which of several.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// A client connection that is counted as open.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Times in buckets from 100 µs to 100 s; additions only, so that threads never wait for each other.
#[derive(Clone, Debug, Default)]
struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// Upper bounds in microseconds.
const BOUNDS: [u64; 13] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    100_000,
    500_000,
    2_500_000,
    10_000_000,
    100_000_000,
];

impl Histogram {
    fn observe(&self, spent: Duration) {
        let micros = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.0.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of microseconds stay exact for 285 years"
    )]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            .chain([f64::INFINITY]);
        let counts = self
            .0
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = self.0.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_with_its_times() {
        let metrics = Metrics::new();
        let mut access = Access {
            application: "wiki".to_owned(),
            status: 200,
            bytes: 7,
            total: Duration::from_micros(251),
            ..Access::default()
        };
        access.rooms.add("forward", Duration::from_millis(2));
        metrics.served(&access);
        access.status = 403;
        access.why = "not-allowed";
        metrics.served(&access);
        let text = metrics.text(&[]).unwrap();
        for line in [
            "kerbgate_requests_total{application=\"wiki\",status=\"2xx\",reason=\"ok\"} 1",
            "kerbgate_requests_total{application=\"wiki\",status=\"4xx\",reason=\"not-allowed\"} 1",
            "kerbgate_request_seconds_bucket{le=\"0.00025\",application=\"wiki\"} 0",
            "kerbgate_request_seconds_bucket{le=\"0.0005\",application=\"wiki\"} 2",
            "kerbgate_request_seconds_bucket{le=\"+Inf\",application=\"wiki\"} 2",
            "kerbgate_request_seconds_sum{application=\"wiki\"} 0.000502",
            "kerbgate_response_bytes_total{application=\"wiki\"} 14",
            "kerbgate_room_seconds_count{room=\"forward\"} 2",
            "kerbgate_room_seconds_count{room=\"authn\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        metrics.forget_application("wiki");
        assert!(!metrics.text(&[]).unwrap().contains("wiki"));
    }

    #[test]
    fn what_is_looked_at_is_there_too() {
        let reading = |kdc: &str, value| Reading {
            name: "kdc_up",
            help: "Whether a KDC answers",
            labels: vec![("kdc", kdc.to_owned())],
            value,
        };
        let text = Metrics::new()
            .text(&[reading("a", 1.0), reading("b", 0.0)])
            .unwrap();
        assert_eq!(text.matches("# HELP kerbgate_kdc_up").count(), 1, "{text}");
        assert!(text.contains("kerbgate_kdc_up{kdc=\"b\"} 0.0"), "{text}");
    }
}
