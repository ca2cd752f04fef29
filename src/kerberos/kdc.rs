//! Which KDCs answer, in which order they are asked, and when none needs to be asked at all.
//!
//! libkrb5 tries the KDCs of `krb5.conf` in order and gives one that accepts a connection but never answers
//! ten seconds, again at every call. It reads the file anew for every call, though. So a prober asks every
//! KDC a real question (an AS-REQ; a bare connect would not notice one that hangs), and the file lists only
//! those that answered. A failed or slow call wakes the prober at once.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::model::names::Principal;
use crate::model::names::Realm;

use super::address::KdcAddress;
use super::address::discover;
use super::error::Error;
use super::krb5_conf;
use super::krb5_conf::Profile;
use super::probe::KdcHealth;
use super::probe::probe;

/// A KDC and its health.
#[derive(Clone, Debug)]
pub struct KdcStatus {
    /// The KDC.
    pub address: KdcAddress,
    /// Its health.
    pub health: KdcHealth,
    /// Since when it is so.
    pub since: Instant,
}

/// What there is to keep in order.
#[derive(Clone, Debug)]
pub(super) struct KdcSettings {
    pub(super) profile: Profile,
    /// As whom the probe asks: the gateway's own account, so that no strange names stand in the KDC's log.
    pub(super) principal: Principal,
    pub(super) kdcs: Vec<KdcAddress>,
    pub(super) trusted: Vec<(Realm, Vec<KdcAddress>)>,
    pub(super) runtime_dir: PathBuf,
    pub(super) probe_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Kdcs {
    settings: KdcSettings,
    states: Mutex<States>,
    /// Grows when the file names other KDCs, or the same in another order.
    generation: AtomicU64,
    /// Another room's file is in use.
    pub(super) retired: AtomicBool,
    probing: tokio::sync::Mutex<Option<Instant>>,
    pub(super) wake: Notify,
}

#[derive(Debug)]
struct States {
    kdcs: Vec<KdcStatus>,
    preferred: Option<(String, Instant)>,
    written: Vec<String>,
    /// The second of the wall clock in which `written` was written.
    second: i64,
    /// When DNS was last asked, where the KDCs are not configured.
    discovered: Option<Instant>,
}

const EVERY: Duration = Duration::from_secs(15);
const LOOK_UP_EVERY: Duration = Duration::from_secs(300);
const EVERY_WHILE_DOWN: Duration = Duration::from_secs(2);

impl Kdcs {
    /// Writes the first file, every KDC in its configured order.
    pub(super) fn start(settings: KdcSettings) -> Result<Self, Error> {
        let kdcs = settings
            .kdcs
            .iter()
            .cloned()
            .map(KdcStatus::unknown)
            .collect();
        let kdcs = Self {
            settings,
            states: Mutex::new(States {
                kdcs,
                preferred: None,
                written: Vec::new(),
                second: 0,
                discovered: None,
            }),
            generation: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            probing: tokio::sync::Mutex::new(None),
            wake: Notify::new(),
        };
        kdcs.rewrite(true)?;
        Ok(kdcs)
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Vec<KdcStatus> {
        self.lock().kdcs.clone()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Refuses at once while every KDC is known to be down: the prober, not a visitor, finds out when that ends.
    pub(super) fn gate(&self) -> Result<(), Error> {
        let states = self.lock();
        let all_down = !states.kdcs.is_empty()
            && states
                .kdcs
                .iter()
                .all(|kdc| matches!(kdc.health, KdcHealth::Down { .. }));
        if !all_down {
            return Ok(());
        }
        let kdcs: Vec<String> = states
            .kdcs
            .iter()
            .map(|kdc| match &kdc.health {
                KdcHealth::Down { reason } => format!("{}: {reason}", kdc.address),
                KdcHealth::Up { .. } | KdcHealth::Unknown => kdc.address.to_string(),
            })
            .collect();
        Err(Error::KdcUnreachable {
            realm: self.settings.profile.realm.to_string(),
            kdcs: kdcs.join("; "),
        })
    }

    /// Puts the KDC on `host` first for a while: the one on which an account was just made.
    pub(super) fn prefer(&self, host: &str, span: Duration) -> Result<(), Error> {
        self.lock().preferred = Some((host.to_ascii_lowercase(), Instant::now() + span));
        self.rewrite(false)
    }

    /// How long until the next look.
    pub(super) fn pause(&self) -> Duration {
        let down = self
            .lock()
            .kdcs
            .iter()
            .any(|kdc| !matches!(kdc.health, KdcHealth::Up { .. }));
        if down { EVERY_WHILE_DOWN } else { EVERY }
    }

    /// Asks every KDC now, or takes the answers of a round that began after this call.
    pub(super) async fn probe(&self) {
        let asked = Instant::now();
        let mut last = self.probing.lock().await;
        if last.is_some_and(|began| began >= asked) {
            return;
        }
        let began = Instant::now();
        self.look_up().await;
        let addresses: Vec<KdcAddress> = self.status().into_iter().map(|kdc| kdc.address).collect();
        let answers = join_all(addresses.iter().map(|address| {
            probe(
                address,
                &self.settings.principal,
                self.settings.probe_timeout,
            )
        }))
        .await;
        {
            let mut states = self.lock();
            for (kdc, health) in states.kdcs.iter_mut().zip(answers) {
                kdc.learn(health);
            }
        }
        if let Err(error) = self.rewrite(false) {
            tracing::error!(%error, "the KDCs' order could not be written");
        }
        *last = Some(began);
    }

    /// Waits until libkrb5 sees the file as it was last written: it looks at most once in a second of the
    /// wall clock.
    pub(super) async fn settle(&self) {
        let now = OffsetDateTime::now_utc();
        if now.unix_timestamp() <= self.lock().second {
            let rest = 1_010_u64.saturating_sub(u64::from(now.millisecond()));
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
    }

    /// Asks DNS for the KDCs now and then, if none are configured.
    async fn look_up(&self) {
        let known = self.lock().discovered;
        let fresh = known.is_some_and(|when| when.elapsed() < LOOK_UP_EVERY);
        if !self.settings.kdcs.is_empty() || fresh {
            return;
        }
        match discover(&self.settings.profile.realm).await {
            Ok(found) => {
                let mut states = self.lock();
                states.discovered = Some(Instant::now());
                let old = std::mem::take(&mut states.kdcs);
                states.kdcs = found
                    .into_iter()
                    .map(|address| {
                        old.iter()
                            .find(|kdc| kdc.address == address)
                            .cloned()
                            .unwrap_or_else(|| KdcStatus::unknown(address))
                    })
                    .collect();
            }
            Err(reason) => tracing::warn!(reason, "DNS names no KDC"),
        }
    }

    /// Writes `krb5.conf` if the KDCs or their order changed.
    pub(super) fn rewrite(&self, first: bool) -> Result<(), Error> {
        // The file is the process's: only one room at a time may write it.
        if self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut states = self.lock();
        let order = states.order();
        if !first && order == states.written {
            return Ok(());
        }
        let mut realms = vec![(&self.settings.profile.realm, order.clone())];
        realms.extend(
            self.settings
                .trusted
                .iter()
                .map(|(realm, kdcs)| (realm, kdcs.iter().map(ToString::to_string).collect())),
        );
        krb5_conf::write(
            &self.settings.runtime_dir,
            &self.settings.profile.render(&realms),
        )?;
        states.written = order;
        states.second = OffsetDateTime::now_utc().unix_timestamp();
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

impl States {
    /// Those that answered, the preferred one first; all of them while none is known to.
    fn order(&self) -> Vec<String> {
        let up: Vec<&KdcStatus> = self
            .kdcs
            .iter()
            .filter(|kdc| !matches!(kdc.health, KdcHealth::Down { .. }))
            .collect();
        let mut chosen: Vec<&KdcStatus> = if up.is_empty() {
            self.kdcs.iter().collect()
        } else {
            up
        };
        if let Some((host, until)) = &self.preferred
            && *until > Instant::now()
        {
            chosen.sort_by_key(|kdc| !kdc.address.host.eq_ignore_ascii_case(host));
        }
        chosen.iter().map(|kdc| kdc.address.written()).collect()
    }
}

impl KdcStatus {
    fn unknown(address: KdcAddress) -> Self {
        Self {
            address,
            health: KdcHealth::Unknown,
            since: Instant::now(),
        }
    }

    fn learn(&mut self, health: KdcHealth) {
        let was_up = matches!(self.health, KdcHealth::Up { .. });
        let was_down = matches!(self.health, KdcHealth::Down { .. });
        match &health {
            KdcHealth::Up { answered_in, .. } if !was_up => {
                tracing::info!(kdc = %self.address, ?answered_in, "KDC answers");
                self.since = Instant::now();
            }
            KdcHealth::Down { reason } if !was_down => {
                tracing::warn!(kdc = %self.address, reason, "KDC does not answer and is left out");
                self.since = Instant::now();
            }
            KdcHealth::Up { .. } | KdcHealth::Down { .. } | KdcHealth::Unknown => {}
        }
        self.health = health;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::kerberos::probe::tests::ANSWER;
    use crate::kerberos::probe::tests::stub;

    fn gateway() -> Principal {
        "svc-gateway@CONTOSO.TEST".parse().unwrap()
    }

    fn kdcs(dir: &std::path::Path, addresses: &[&str]) -> Kdcs {
        let realm: Realm = "CONTOSO.TEST".parse().unwrap();
        Kdcs::start(KdcSettings {
            profile: Profile {
                realm,
                allow_rc4: false,
                dns_lookup_kdc: false,
            },
            principal: gateway(),
            kdcs: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            trusted: vec![],
            runtime_dir: dir.to_owned(),
            probe_timeout: Duration::from_millis(300),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn only_those_that_answer_are_in_the_file_and_all_if_none_does() {
        let dir = tempfile::tempdir().unwrap();
        let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = hanging.local_addr().unwrap().to_string();
        let alive = stub(ANSWER).await;
        let both = kdcs(dir.path(), &[&dead, &alive]);
        assert_eq!(both.lock().written, [dead.clone(), alive.clone()]);
        let before = both.generation();
        both.probe().await;
        assert_eq!(both.lock().written, [alive]);
        assert!(both.generation() > before);
        assert!(both.gate().is_ok());

        let none = kdcs(dir.path(), &[&dead]);
        assert!(none.gate().is_ok(), "not known yet");
        none.probe().await;
        assert_eq!(none.lock().written, [dead]);
        let error = none.gate().unwrap_err().to_string();
        assert!(error.contains("no answer within 300 ms"), "{error}");
    }
}
