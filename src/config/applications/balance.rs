//! `[balance]` of an application's file.

use std::time::Duration;

use url::Url;

use crate::config::applications::health;
use crate::config::reader::Section;
use crate::model::application::Backend;
use crate::model::application::balance::Balance;
use crate::model::application::balance::Eject;
use crate::model::application::balance::Policy;
use crate::model::application::balance::Queue;
use crate::model::application::balance::Share;

/// Reads the section; what is absent has its default.
pub(super) fn balance(section: &Section<'_>, backends: &[Backend]) -> Balance {
    let default = Balance::default();
    let policy = section.choice(
        "policy",
        &[
            ("round-robin", Policy::RoundRobin),
            ("least-requests", Policy::LeastRequests),
            ("sticky", Policy::Sticky),
        ],
    );
    let slow_start = section.span("slow_start", default.slow_start);
    let max_connections = most(section);
    let eject = eject(&section.section("eject"), &default.eject);
    let servers = servers(section, backends);
    let limited = max_connections.is_some() || servers.iter().any(|s| s.max_connections.is_some());
    let queue = queue(&section.section("queue"), &default.queue, limited);
    let health = health::health(&section.section("health"));
    section.finish();
    Balance {
        policy: policy.unwrap_or(default.policy),
        eject,
        slow_start,
        max_connections,
        queue,
        servers,
        health,
    }
}

/// 0 stands for no limit.
fn most(section: &Section<'_>) -> Option<u32> {
    let read = section.number("max_connections", 0..=100_000, 0);
    u32::try_from(read).ok().filter(|most| *most > 0)
}

fn eject(section: &Section<'_>, default: &Eject) -> Eject {
    let failures = section.number("failures", 1..=1000, u64::from(default.failures));
    let read = Eject {
        failures: u32::try_from(failures).unwrap_or(default.failures),
        first: section.span("first", default.first),
        longest: section.span("longest", default.longest),
    };
    if read.longest < read.first {
        section.mistake("longest", "is shorter than `first`");
    }
    section.finish();
    read
}

fn queue(section: &Section<'_>, default: &Queue, limited: bool) -> Queue {
    let length = section.number("length", 0..=100_000, default.length as u64);
    let read = Queue {
        length: usize::try_from(length).unwrap_or(default.length),
        patience: section.span("timeout", default.patience),
    };
    if section.exists() && !limited {
        section.mistake(
            "",
            "means nothing without `max_connections`: no request ever waits",
        );
    }
    if read.patience > Duration::from_secs(600) {
        section.mistake(
            "timeout",
            "is longer than 10m; wanted: as long as a visitor waits",
        );
    }
    section.finish();
    read
}

fn servers(section: &Section<'_>, backends: &[Backend]) -> Vec<Share> {
    const WANTED: &str = "one of `backend_urls`, written alike";
    let mut shares: Vec<Share> = Vec::new();
    for server in section.sections("servers") {
        let url: Option<Url> = server.required("url", WANTED, server.parsed("url", WANTED));
        let weight = server.number("weight", 1..=1000, 1);
        let max_connections = most(&server);
        server.finish();
        let Some(url) = url else { continue };
        if !backends.iter().any(|backend| backend.url == url) {
            server.mistake("url", &format!("\"{url}\" is not {WANTED}"));
        }
        if shares.iter().any(|share| share.url == url) {
            server.mistake("url", &format!("\"{url}\" comes twice"));
        }
        shares.push(Share {
            url,
            weight: u32::try_from(weight).unwrap_or(1),
            max_connections,
        });
    }
    shares
}
