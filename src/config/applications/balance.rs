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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::Mistakes;
    use crate::config::reader::Source;

    fn read(text: &str) -> (Balance, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mistakes = Mistakes::default();
        let source = Source::read(file.path(), &mistakes).unwrap();
        let table = source.parse(&mistakes);
        let root = Section::root(&source, &table, &mistakes);
        let backends = ["http://a/", "http://b/"].map(|url| Backend {
            url: url.parse().unwrap(),
            address: None,
        });
        let read = balance(&root.section("balance"), &backends);
        let said = mistakes.into_sorted();
        let said: Vec<_> = said.iter().map(ToString::to_string).collect();
        (read, said.join("\n"))
    }

    #[test]
    fn what_is_said_of_a_server_goes_before_what_is_said_of_all() {
        assert_eq!(read("").0, Balance::default());
        let (read, said) = read(
            "[balance]\nmax_connections = 9\n[[balance.servers]]\nurl = \"http://b\"\nweight = 3\n\
             [balance.health]\npath = \"/up?deep=1\"\nstatus = [\"204\", \"4xx\"]\n",
        );
        assert_eq!(said, "");
        let [a, b] = ["http://a/", "http://b/"].map(|url| read.share(&url.parse().unwrap()));
        assert_eq!((a.weight, a.max_connections), (1, Some(9)));
        assert_eq!((b.weight, b.max_connections), (3, Some(9)));
        let health = read.health.unwrap();
        assert_eq!((health.healthy, health.unhealthy), (2, 3));
        assert!(health.expects(http::StatusCode::UNAUTHORIZED));
        assert!(!health.expects(http::StatusCode::OK));
    }

    #[test]
    fn what_would_mean_nothing_is_a_mistake() {
        for (text, problem) in [
            (
                "[balance.queue]\nlength = 3\n",
                "balance.queue: means nothing without",
            ),
            (
                "[[balance.servers]]\nurl = \"http://c/\"\n",
                "\"http://c/\" is not one of",
            ),
            ("[[balance.servers]]\nweight = 2\n", "url: is missing"),
            (
                "[[balance.servers]]\nurl = \"http://a/\"\n[[balance.servers]]\nurl = \"http://a/\"\n",
                "comes twice",
            ),
            (
                "[[balance.servers]]\nurl = \"http://a/\"\nweight = 0\n",
                "weight",
            ),
            (
                "[balance.health]\ninterval = \"1s\"\n",
                "balance.health.path: is missing",
            ),
            ("[balance.health]\npath = \"up\"\n", "\"up\" is not a path"),
            ("[balance.health]\npath = \"/u p\"\n", "is not a path"),
            (
                "[balance.health]\npath = \"/\"\ninterval = \"1ms\"\n",
                "interval: is shorter",
            ),
            (
                "[balance.health]\npath = \"/\"\ntimeout = \"2m\"\n",
                "timeout: is not between",
            ),
            (
                "[balance.health]\npath = \"/\"\nstatus = [\"ok\"]\n",
                "status",
            ),
            (
                "[balance.health]\npath = \"/\"\nfall = 3\n",
                "fall: is no known key",
            ),
        ] {
            let (_, said) = read(text);
            assert!(said.contains(problem), "{problem} is not in {said:?}");
        }
    }
}
