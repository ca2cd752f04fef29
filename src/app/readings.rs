//! Numbers that nobody counts: they are looked at when `/metrics` is asked for.
//!
//! In: the rooms of the configuration that serves, and what the kernel knows of the process. Out: readings.

use std::fs;

use crate::acme::Standing;
use crate::app::ops::Readiness;
use crate::forward::Forwarder;
use crate::kerberos::Delegator;
use crate::kerberos::KdcHealth;
use crate::kerberos::LaneStatus;
use crate::telemetry::metrics::Reading;

/// Whether each part works, and which configuration serves.
pub(super) fn of_parts(parts: &[Readiness], generation: u64, refused: bool) -> Vec<Reading> {
    let mut readings: Vec<Reading> = parts
        .iter()
        .map(|part| Reading {
            name: "ready",
            help: "Whether a part works that must work before traffic is welcome",
            labels: vec![("part", part.part.to_owned())],
            value: yes(part.ready),
        })
        .collect();
    readings.push(one(
        "configuration_generation",
        "Which configuration serves, counted from the start",
        count(generation),
    ));
    readings.push(one(
        "configuration_refused",
        "Whether the files on disk were refused and the configuration before them serves",
        yes(refused),
    ));
    readings
}

/// Connections to backends.
pub(super) fn of_forwarder(forwarder: &Forwarder) -> Vec<Reading> {
    let mut readings = vec![one(
        "backend_connections_waiting",
        "Connections to backends that wait for their next request",
        count(forwarder.waiting() as u64),
    )];
    for server in forwarder.status() {
        let labels = vec![
            ("published_url", server.published_url.to_string()),
            ("backend_url", server.backend),
        ];
        readings.push(Reading {
            name: "backend_up",
            help: "Whether a server gets requests: it is left out for a while after it failed",
            labels: labels.clone(),
            value: yes(!server.ejected),
        });
        readings.extend(server.healthy.map(|healthy| Reading {
            name: "backend_healthy",
            help: "What a server's health checks say, where it has some",
            labels: labels.clone(),
            value: yes(healthy),
        }));
        readings.extend(server.in_flight.map(|in_flight| Reading {
            name: "backend_requests",
            help: "Requests that a server has now, where they are counted",
            labels: labels.clone(),
            value: count(in_flight as u64),
        }));
    }
    let queues = forwarder.queues().into_iter();
    readings.extend(queues.map(|(published_url, waiting)| Reading {
        name: "backend_queue",
        help: "Requests that wait for a server, where servers take only so many",
        labels: vec![("published_url", published_url.to_string())],
        value: count(waiting as u64),
    }));
    readings
}

/// Certificates that are ordered; the hosts are those of the configuration.
pub(super) fn of_ordered(standing: &[Standing], now: i64) -> Vec<Reading> {
    let of = |wanted: &dyn Fn(&Standing) -> bool| {
        let number = standing.iter().filter(|one| wanted(one)).count();
        count(number as u64)
    };
    let mut readings = vec![
        one(
            "acme_hosts_without_certificate",
            "Hosts that wait for their first certificate",
            of(&|one| one.end.is_none()),
        ),
        one(
            "acme_hosts_failing",
            "Hosts whose last order of a certificate came to nothing",
            of(&|one| one.trouble.is_some()),
        ),
    ];
    readings.extend(standing.iter().filter_map(|one| {
        let left = one.end?.saturating_sub(now).max(0);
        Some(Reading {
            name: "acme_certificate_seconds",
            help: "How long an ordered certificate is still valid",
            labels: vec![("host", one.host.to_string())],
            value: count(left.unsigned_abs()),
        })
    }));
    readings
}

/// Tickets, threads and KDCs.
pub(super) fn of_delegator(delegator: &Delegator) -> Vec<Reading> {
    let status = delegator.status();
    let remaining = status.tgt.remaining.map_or(0.0, |left| left.as_secs_f64());
    let mut readings = vec![
        one(
            "kerberos_tgt_seconds",
            "How long the gateway's own ticket is still good",
            remaining,
        ),
        one(
            "kerberos_people",
            "People whose tickets are held, counted now and then",
            count(status.people),
        ),
    ];
    for (lane, status) in [("kdc", &status.kdc_lane), ("local", &status.local_lane)] {
        readings.extend(of_lane(lane, status));
    }
    readings.extend(status.kdcs.iter().map(|kdc| Reading {
        name: "kdc_up",
        help: "Whether a KDC answered when it was last asked",
        labels: vec![("kdc", kdc.address.to_string())],
        value: yes(matches!(kdc.health, KdcHealth::Up { .. })),
    }));
    readings
}

fn of_lane(lane: &str, status: &LaneStatus) -> [Reading; 2] {
    let labels = vec![("lane", lane.to_owned())];
    [
        Reading {
            name: "kerberos_threads_busy",
            help: "Threads inside a Kerberos call",
            labels: labels.clone(),
            value: count(status.busy as u64),
        },
        Reading {
            name: "kerberos_queue",
            help: "Kerberos calls that wait for a thread",
            labels,
            value: count(status.queued as u64),
        },
    ]
}

/// The process, as the kernel sees it (proc(5)); what cannot be read is left out.
pub(super) fn of_process() -> Vec<Reading> {
    let mut readings = Vec::new();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kibibytes) = field("VmRSS:") {
        let help = "Memory in use, in bytes";
        readings.push(one("memory_bytes", help, count(kibibytes * 1024)));
    }
    if let Some(threads) = field("Threads:") {
        readings.push(one("threads", "Threads of the process", count(threads)));
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        let help = "Open file descriptors";
        readings.push(one("descriptors", help, count(descriptors.count() as u64)));
    }
    readings
}

const fn one(name: &'static str, help: &'static str, value: f64) -> Reading {
    Reading {
        name,
        help,
        labels: Vec::new(),
        value,
    }
}

fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts here stay far below what a float holds exactly"
)]
const fn count(number: u64) -> f64 {
    number as f64
}
