//! What the checks work with: the configuration, the applications asked for, and the tools as far as they
//! can be made. A tool that cannot be made is a finding, not the end.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::config::Config;
use crate::model::application::Application;
use crate::model::application::Sso;
use crate::model::clock::Clock;

use super::Error;
use super::check::Check;
use super::check::mend;
use super::report::Finding;

/// The longest that any single check may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The configuration, and which part of it is asked for.
#[derive(Debug)]
pub(super) struct World {
    pub(super) config: Config,
    pub(super) applications: Vec<Arc<Application>>,
    pub(super) act_as: Option<String>,
    pub(super) clock: Clock,
}

impl World {
    pub(super) fn new(
        config: Config,
        app: Option<&str>,
        act_as: Option<String>,
    ) -> Result<Self, Error> {
        let wanted = |one: &&Application| app.is_none_or(|id| one.id.as_str() == id);
        let applications: Vec<_> = config
            .applications
            .iter()
            .filter(wanted)
            .cloned()
            .map(Arc::new)
            .collect();
        if let Some(id) = app
            && applications.is_empty()
        {
            let known: Vec<_> = config
                .applications
                .iter()
                .map(|one| one.id.to_string())
                .collect();
            return Err(Error::NoApplication {
                asked: id.to_owned(),
                known: known.join(", "),
            });
        }
        Ok(Self {
            config,
            applications,
            act_as,
            clock: Clock::System,
        })
    }

    pub(super) fn needs_tickets(&self) -> bool {
        self.applications
            .iter()
            .any(|app| matches!(app.sso, Sso::Kerberos(_)))
            || self
                .config
                .directory
                .as_ref()
                .is_some_and(|_| self.needs_accounts())
    }

    pub(super) fn needs_accounts(&self) -> bool {
        self.applications.iter().any(|app| app.needs_account())
    }

    /// The gateway's account in commands.
    pub(super) fn gateway(&self) -> String {
        let principal = self
            .config
            .kerberos
            .as_ref()
            .map(|kerberos| &kerberos.principal);
        principal.map_or_else(
            || String::from("<gateway account>"),
            |p| p.name().to_owned(),
        )
    }

    /// `DOMAIN\account` as `dsacls` wants it. The NetBIOS name is by default the domain's first label.
    pub(super) fn gateway_in_domain(&self) -> String {
        let realm = self
            .config
            .directory
            .as_ref()
            .map(|directory| directory.realm.as_str());
        let domain = realm
            .and_then(|realm| realm.split('.').next())
            .unwrap_or("<DOMAIN>");
        format!("{domain}\\{}", self.gateway())
    }

    /// The address that `[hosts]` gives `host`, if it does.
    pub(super) fn listed(&self, host: &str) -> Option<IpAddr> {
        self.config.issuer.hosts.get(host).copied()
    }
}

/// Runs one check in bounded time and notes how long it took.
pub(super) async fn timed(
    check: Check,
    subject: &str,
    work: impl Future<Output = Finding>,
) -> Finding {
    let begun = Instant::now();
    let finding = match tokio::time::timeout(PATIENCE, work).await {
        Ok(finding) => finding,
        Err(_) => {
            let proof = format!("no end after {} s", PATIENCE.as_secs());
            check.fault(
                subject,
                proof,
                mend("something on the way does not answer", ""),
            )
        }
    };
    finding.took(begun.elapsed())
}

/// Clocks further apart than this are worth a warning.
const NOTICEABLE: i64 = 60;

/// Judges the difference between two clocks: theirs minus ours, in seconds.
pub(super) fn clock(check: Check, subject: &str, skew: i64, limit: Duration) -> Finding {
    let limit = i64::try_from(limit.as_secs()).unwrap_or(300);
    let proof = match skew {
        0 => String::from("no difference"),
        1.. => format!("{skew} s ahead of ours"),
        _ => format!("{} s behind ours", skew.saturating_neg()),
    };
    let cause = format!("the clocks differ; more than {limit} s are refused");
    let fix = "timedatectl set-ntp true\nchronyc makestep        (Windows: w32tm /resync)";
    match skew.saturating_abs() {
        off if off > limit => check.fault(subject, proof, mend(cause, fix)),
        off if off > NOTICEABLE => check.warning(subject, proof, mend(cause, fix)),
        _ => check.ok(subject, proof),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::report::State;
    use super::*;

    #[test]
    fn clocks_are_judged_both_ways() {
        let five = Duration::from_secs(300);
        for (skew, state) in [
            (0, State::Ok),
            (-60, State::Ok),
            (61, State::Warning),
            (-299, State::Warning),
            (301, State::Fault),
            (i64::MIN, State::Fault),
        ] {
            assert_eq!(
                clock(check::DIRECTORY_CLOCK, "dc1", skew, five).state,
                state,
                "{skew}"
            );
        }
    }
}
