//! Is there a KDC that answers? A real question to it, so that one that hangs is found out too.

use std::time::Duration;
use std::time::Instant;

use time::OffsetDateTime;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::model::clock::Clock;
use crate::model::names::Principal;

use super::address::KdcAddress;
use super::der;

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
    let mut stream = TcpStream::connect(address.target()).await?;
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
pub(super) mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// KRB-ERROR with stime and error-code 25.
    pub(in crate::kerberos) const ANSWER: &[u8] =
        b"\0\0\0\x1c\x7e\x1a\x30\x18\xa4\x11\x18\x0f20260101000000Z\xa6\x03\x02\x01\x19";

    fn gateway() -> Principal {
        "svc-gateway@CONTOSO.TEST".parse().unwrap()
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
    pub(in crate::kerberos) async fn stub(answer: &'static [u8]) -> String {
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
    async fn one_that_answers_tells_its_time() {
        let address = stub(ANSWER).await.parse().unwrap();
        let health = probe(&address, &gateway(), Duration::from_secs(5)).await;
        let skew = 1_767_225_600 - Clock::System.unix();
        let told =
            matches!(health, KdcHealth::Up { skew: Some(found), .. } if (found - skew).abs() < 5);
        assert!(told, "{health:?}");
    }
}
