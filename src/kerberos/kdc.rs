//! Which KDCs answer, in which order they are asked, and when none needs to be asked at all.
//!
//! libkrb5 tries the KDCs of `krb5.conf` in order and gives one that accepts a connection but never answers
//! ten seconds, again at every call. It reads the file anew for every call, though. So a prober asks every
//! KDC a real question (an AS-REQ; a bare connect would not notice one that hangs), and the file lists only
//! those that answered. A failed or slow call wakes the prober at once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::model::clock::Clock;
use crate::model::names::BadName;
use crate::model::names::Principal;
use crate::model::names::Realm;

use super::der;
use super::error::Error;
use super::krb5_conf;
use super::krb5_conf::Profile;

/// Where a KDC listens: `host`, `host:port`, `[v6]:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KdcAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for KdcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for KdcAddress {
    type Err = BadName;

    fn from_str(value: &str) -> Result<Self, BadName> {
        let bad = || BadName {
            value: value.chars().take(300).collect(),
            wanted: "a KDC such as dc1.corp.example.com, dc1:88, 10.0.0.1 or [2001:db8::1]:88",
        };
        let (host, port) = match value.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (
                    host,
                    if port.is_empty() {
                        Some("88")
                    } else {
                        port.strip_prefix(':')
                    },
                )
            }
            None => match value.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (value, Some("88")),
            },
        };
        let port: u16 = port.and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        // SECURITY: the text is written into krb5.conf, so nothing but a name may be in it.
        let sound = !host.is_empty()
            && host.len() <= 253
            && port != 0
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        if sound {
            Ok(Self {
                host: host.to_owned(),
                port,
            })
        } else {
            Err(bad())
        }
    }
}

/// What the last probe of a KDC met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KdcHealth {
    /// Not asked yet.
    Unknown,
    /// It answered.
    Up {
        /// How long it took.
        answered_in: Duration,
        /// Its clock minus ours in seconds, where it told.
        skew: Option<i64>,
    },
    /// It did not.
    Down {
        /// What was met.
        reason: String,
    },
}

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
}

const EVERY: Duration = Duration::from_secs(15);
const EVERY_WHILE_DOWN: Duration = Duration::from_secs(2);

impl Kdcs {
    /// Writes the first file, every KDC in its configured order.
    pub(super) fn start(settings: KdcSettings) -> Result<Self, Error> {
        let now = Instant::now();
        let kdcs = settings
            .kdcs
            .iter()
            .map(|address| KdcStatus {
                address: address.clone(),
                health: KdcHealth::Unknown,
                since: now,
            })
            .collect();
        let kdcs = Self {
            settings,
            states: Mutex::new(States {
                kdcs,
                preferred: None,
                written: Vec::new(),
                second: 0,
            }),
            generation: AtomicU64::new(0),
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
        let addresses = self.settings.kdcs.clone();
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

    /// Writes `krb5.conf` if the KDCs or their order changed.
    fn rewrite(&self, first: bool) -> Result<(), Error> {
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
        chosen.iter().map(|kdc| kdc.address.to_string()).collect()
    }
}

impl KdcStatus {
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

/// Asks one KDC for a ticket without proof of identity and takes any well-formed answer as a sign of life.
///
/// The normal answer is `KDC_ERR_PREAUTH_REQUIRED`, which counts as no failed logon and carries the KDC's time.
pub async fn probe(address: &KdcAddress, principal: &Principal, patience: Duration) -> KdcHealth {
    let began = Instant::now();
    let question = as_req(principal);
    match tokio::time::timeout(patience, exchange(address, &question)).await {
        Err(_) => KdcHealth::Down {
            reason: format!("no answer within {} ms", patience.as_millis()),
        },
        Ok(Err(reason)) => KdcHealth::Down {
            reason: reason.to_string(),
        },
        Ok(Ok(answer)) => match read_answer(&answer) {
            Some(time) => KdcHealth::Up {
                answered_in: began.elapsed(),
                skew: time.map(|seconds| seconds - Clock::System.unix()),
            },
            None => KdcHealth::Down {
                reason: "answers, but not as a KDC".to_owned(),
            },
        },
    }
}

async fn exchange(address: &KdcAddress, question: &[u8]) -> std::io::Result<Vec<u8>> {
    const LARGEST: u32 = 65_536;
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    // RFC 4120 7.2.2: four octets of length, high bit zero.
    let length = u32::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u32().await?;
    if length > LARGEST {
        return Err(std::io::Error::other("answers, but not as a KDC"));
    }
    let mut answer = vec![0; usize::try_from(length).unwrap_or(0)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// `AS-REQ` (RFC 4120 5.4.1) for a TGT, without pre-authentication data.
fn as_req(principal: &Principal) -> Vec<u8> {
    let text = |value: &str| der::tlv(0x1b, value.as_bytes());
    let name = |kind: u32, parts: &[&str]| {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| text(part)).collect();
        der::wrap(
            0x30,
            &[
                der::tlv(0xa0, &der::integer(kind)),
                der::tlv(0xa1, &der::wrap(0x30, &parts)),
            ],
        )
    };
    let realm = principal.realm();
    let etypes: Vec<Vec<u8>> = [18, 17, 23].into_iter().map(der::integer).collect();
    let body = der::wrap(
        0x30,
        &[
            der::tlv(0xa0, &der::tlv(0x03, &[0, 0, 0, 0, 0])),
            der::tlv(0xa1, &name(1, &[principal.name()])),
            der::tlv(0xa2, &text(realm)),
            der::tlv(0xa3, &name(2, &["krbtgt", realm])),
            der::tlv(0xa5, &der::tlv(0x18, b"20370913024805Z")),
            der::tlv(0xa7, &der::integer(0x1234_5678)),
            der::tlv(0xa8, &der::wrap(0x30, &etypes)),
        ],
    );
    let request = der::wrap(
        0x30,
        &[
            der::tlv(0xa1, &der::integer(5)),
            der::tlv(0xa2, &der::integer(10)),
            der::tlv(0xa4, &body),
        ],
    );
    der::tlv(0x6a, &request)
}

/// `Some` for an `AS-REP` or a `KRB-ERROR`, with the KDC's time if it is in there.
fn read_answer(answer: &[u8]) -> Option<Option<i64>> {
    match der::split(answer)? {
        (0x6b, _, _) => Some(None),
        // KRB-ERROR (RFC 4120 5.9.1): stime [4], error-code [6].
        (0x7e, content, _) => {
            let fields = der::expect(0x30, content)?;
            der::find(0xa6, fields)?;
            let time = der::find(0xa4, fields)
                .and_then(|field| der::expect(0x18, field))
                .and_then(|text| std::str::from_utf8(text).ok())
                .and_then(kerberos_time);
            Some(time)
        }
        _ => None,
    }
}

/// `YYYYMMDDHHMMSSZ` as seconds since the Unix epoch.
fn kerberos_time(text: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let small = |range| part(range).and_then(|n| u8::try_from(n).ok());
    if text.len() != 15 || !text.ends_with('Z') {
        return None;
    }
    let month = time::Month::try_from(small(4..6)?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(part(0..4)?), month, small(6..8)?).ok()?;
    let clock = time::Time::from_hms(small(8..10)?, small(10..12)?, small(12..14)?).ok()?;
    Some(OffsetDateTime::new_utc(date, clock).unix_timestamp())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

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

    #[test]
    fn addresses_are_names_with_a_port_and_nothing_else() {
        for (text, shown) in [
            ("dc1.contoso.test", "dc1.contoso.test:88"),
            ("10.0.0.1:1088", "10.0.0.1:1088"),
            ("[2001:db8::1]", "[2001:db8::1]:88"),
            ("[2001:db8::1]:1088", "[2001:db8::1]:1088"),
        ] {
            assert_eq!(text.parse::<KdcAddress>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "dc1:0",
            "dc1:x",
            "a b",
            "a\nkdc = evil",
            "[::1",
            "dc1:88}",
            ":88",
        ] {
            assert!(bad.parse::<KdcAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_kdcs_time_is_read() {
        assert_eq!(kerberos_time("20260101000000Z"), Some(1_767_225_600));
        for bad in [
            "",
            "20260101000000",
            "20261301000000Z",
            "2026010100000\u{e9}Z",
        ] {
            assert_eq!(kerberos_time(bad), None, "{bad}");
        }
    }

    /// A KDC of three lines: reads the question, sends `answer`.
    async fn stub(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                reply(stream, answer).await;
            }
        });
        address
    }

    async fn reply(mut stream: TcpStream, answer: &[u8]) {
        let length = stream.read_u32().await.unwrap();
        let mut question = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut question).await.unwrap();
        stream.write_all(answer).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_hangs_refuses_or_babbles_is_down() {
        let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = refusing.local_addr().unwrap().to_string();
        drop(refusing);
        for (address, reason) in [
            (
                hanging.local_addr().unwrap().to_string(),
                "no answer within",
            ),
            (refused, "refused"),
            (
                stub(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
                "not as a KDC",
            ),
            (stub(b"\0\0\0\x04\x30\x02\x01\x00").await, "not as a KDC"),
        ] {
            let health = probe(
                &address.parse().unwrap(),
                &gateway(),
                Duration::from_millis(300),
            )
            .await;
            let down =
                matches!(&health, KdcHealth::Down { reason: found } if found.contains(reason));
            assert!(down, "{address} counts as {health:?}");
        }
    }

    #[tokio::test]
    async fn only_those_that_answer_are_in_the_file_and_all_if_none_does() {
        // KRB-ERROR with stime and error-code 25.
        const ANSWER: &[u8] =
            b"\0\0\0\x1c\x7e\x1a\x30\x18\xa4\x11\x18\x0f20260101000000Z\xa6\x03\x02\x01\x19";
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
