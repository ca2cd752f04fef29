//! `[balance]` of an application's file.

use crate::config::reader::Section;
use crate::model::application::balance::Balance;
use crate::model::application::balance::Eject;
use crate::model::application::balance::Policy;

/// Reads the section; what is absent has its default.
pub(super) fn balance(section: &Section<'_>) -> Balance {
    let default = Balance::default();
    let policy = section.choice(
        "policy",
        &[
            ("round-robin", Policy::RoundRobin),
            ("least-requests", Policy::LeastRequests),
            ("sticky", Policy::Sticky),
        ],
    );
    let eject = section.section("eject");
    let failures = eject.number("failures", 1..=1000, u64::from(default.eject.failures));
    let read = Eject {
        failures: u32::try_from(failures).unwrap_or(default.eject.failures),
        first: eject.span("first", default.eject.first),
        longest: eject.span("longest", default.eject.longest),
    };
    if read.longest < read.first {
        eject.mistake("longest", "is shorter than `first`");
    }
    eject.finish();
    section.finish();
    Balance {
        policy: policy.unwrap_or(default.policy),
        eject: read,
    }
}
