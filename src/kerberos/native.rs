//! Tokens without GSS-API: an AP-REQ (RFC 4120 5.5.1) from a ticket and session key that are held.
//!
//! In: the ticket that S4U2Proxy brought, as [`Held`]; a channel binding, the time. Out: the bytes of one
//! Negotiate token, and what is needed to judge the backend's AP-REP (RFC 4120 5.5.2).
//!
//! # Why
//!
//! MIT's `gss_init_sec_context` reads and parses its configuration anew for each context: about 105 µs, of
//! which AES is two. Nothing in a warm token needs configuration, files or the KDC. So it is put together
//! here, on the thread that asks, without a lock. What is not AES (RFC 3962), or not of the form known,
//! takes the general way through GSS-API, which is also what the promises compare this one with.
//!
//! The token says what libkrb5's says: mutual authentication wanted, nothing delegated, a subkey and a
//! sequence number of its own.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use aws_lc_rs::rand;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::model::names::Principal;

use super::aes;
use super::aes::BLOCK;
use super::aes::MAC;
use super::aes::Opener;
use super::aes::Sealer;
use super::der;
use super::der::head;
use super::der::sized;
use super::md5;
use super::spnego;

/// RFC 4121 4.1: the mechanism, and the number of an AP-REQ.
const AP_REQ: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00";
/// The same with the number of an AP-REP.
const AP_REP: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x02\x00";
/// RFC 4120 7.5.1: key usage of an AP-REQ's authenticator.
const USAGE_AP_REQ: u32 = 11;
/// Key usage of an AP-REP's encrypted part.
const USAGE_AP_REP: u32 = 12;
/// RFC 4121 4.1.1.1: `GSS_C_MUTUAL_FLAG`, and `GSS_C_TRANS_FLAG` as libkrb5 sets it. Never
/// `GSS_C_DELEG_FLAG`.
const FLAGS: u32 = 0x0002 | 0x0100;
/// A ticket that ends sooner than this, in seconds, is not sent.
const MARGIN: i64 = 30;

/// A ticket and its session key, as they lie in a credential.
pub(super) struct Held {
    /// The client as the KDC spells it: `Jane@CORP.EXAMPLE.COM`.
    pub(super) client: String,
    /// The session key's encryption type (RFC 3961 8).
    pub(super) enctype: u32,
    /// The session key.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// When it begins to be valid, Unix seconds.
    pub(super) begins: i64,
    /// When it ends, Unix seconds.
    pub(super) ends: i64,
    /// The ticket, DER (RFC 4120 5.3).
    pub(super) ticket: Vec<u8>,
}

/// Makes tokens from one ticket.
pub(super) struct Native {
    sealer: Sealer,
    opener: Opener,
    enctype: u8,
    key_length: usize,
    begins: i64,
    ends: i64,
    /// AP-REQ from its version to its ticket.
    head: Vec<u8>,
    /// Authenticator from its version to the client's name.
    client: Vec<u8>,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Native")
    }
}

/// What of a token must come back in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Seconds since the Unix epoch.
    seconds: i64,
    /// Microseconds within the second.
    micros: u32,
}

/// Gives each token a time of its own: acceptors take two authenticators of one time for a replay.
#[derive(Debug, Default)]
pub(super) struct Stamps(AtomicI64);

impl Stamps {
    /// `now` (microseconds since the Unix epoch), or a little later if that was given away already.
    pub(super) fn next(&self, now: i64) -> Stamp {
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(now.max(last + 1))
            })
            .unwrap_or(now);
        let mine = now.max(before + 1);
        Stamp {
            seconds: mine.div_euclid(1_000_000),
            micros: u32::try_from(mine.rem_euclid(1_000_000)).unwrap_or(0),
        }
    }
}

/// The 16 octets for application data `binding` (RFC 4121 4.1.1.2); addresses are not bound (RFC 5929 says
/// nothing of them, and Windows sends none).
pub(super) fn binding_hash(binding: &[u8]) -> [u8; 16] {
    let mut bytes = vec![0; 16];
    let length = u32::try_from(binding.len()).unwrap_or(0);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(binding);
    md5::digest(&bytes)
}

impl Native {
    /// From what is held for `client` and `spn`; nothing where the general way has to be taken.
    pub(super) fn new(held: &Held, client: &Principal) -> Option<Self> {
        if !aes::is_usable(held.enctype, &held.key) {
            return None;
        }
        let (name, realm) = held.client.rsplit_once('@')?;
        // SECURITY: the authenticator repeats the ticket's own name, which must be the one asked for.
        if realm != client.realm() || !name.eq_ignore_ascii_case(client.name()) {
            return None;
        }
        // Names of several components, or with characters that libkrb5 writes with a backslash.
        if name.contains(['/', '\\', '@']) {
            return None;
        }
        // RFC 4120 5.2.2: NT-PRINCIPAL (1).
        let string = |text: &str| der::tlv(0x1b, text.as_bytes());
        let kind = der::tlv(0xa0, &der::integer(1));
        let names = der::tlv(0xa1, &der::tlv(0x30, &string(name)));
        let cname = der::wrap(0x30, &[kind, names]);
        let version = der::integer(5);
        // ap-options: mutual-required (RFC 4120 5.5.1) and nothing else.
        let options = der::tlv(0x03, &[0, 0x20, 0, 0, 0]);
        Some(Self {
            sealer: Sealer::new(&held.key, USAGE_AP_REQ)?,
            opener: Opener::new(&held.key, USAGE_AP_REP)?,
            enctype: u8::try_from(held.enctype).ok()?,
            key_length: held.key.len(),
            begins: held.begins,
            ends: held.ends,
            head: [
                der::tlv(0xa0, &version),
                der::tlv(0xa1, &der::integer(14)),
                der::tlv(0xa2, &options),
                der::tlv(0xa3, &held.ticket),
            ]
            .concat(),
            client: [
                der::tlv(0xa0, &version),
                der::tlv(0xa1, &string(realm)),
                der::tlv(0xa2, &cname),
            ]
            .concat(),
        })
    }

    /// One token, never to be made again; nothing where the ticket's time is over or not yet come.
    ///
    /// `binding` is [`binding_hash`]'s, zeros without a channel binding.
    pub(super) fn token(
        &self,
        stamp: Stamp,
        binding: [u8; 16],
        is_spnego: bool,
    ) -> Option<Vec<u8>> {
        if stamp.seconds < self.begins - MARGIN * 10 || stamp.seconds + MARGIN > self.ends {
            return None;
        }
        let mut chance = Zeroizing::new([0_u8; BLOCK + 4 + 32]);
        rand::fill(&mut *chance).ok()?;
        let (confounder, rest) = chance.split_at_checked(BLOCK)?;
        let (sequence, subkey) = rest.split_at_checked(4)?;
        let body = self.authenticator(stamp, binding, sequence, subkey.get(..self.key_length)?)?;
        // All lengths are known before the first octet is written: one buffer, nothing moved.
        let inner = sized(body.len());
        let text = BLOCK + sized(inner);
        let sealed = text + MAC;
        let cipher = sized(sized(sealed)) + 5;
        let request = self.head.len() + sized(sized(cipher));
        let kerberos = AP_REQ.len() + sized(sized(request));
        let total = sized(kerberos);
        let mut out = Vec::with_capacity(total + 64);
        if is_spnego {
            spnego::begin(&mut out, total);
        }
        head(&mut out, 0x60, kerberos);
        out.extend_from_slice(AP_REQ);
        head(&mut out, 0x6e, sized(request));
        head(&mut out, 0x30, request);
        out.extend_from_slice(&self.head);
        head(&mut out, 0xa4, sized(cipher));
        head(&mut out, 0x30, cipher);
        out.extend_from_slice(&[0xa0, 3, 0x02, 1, self.enctype]);
        head(&mut out, 0xa2, sized(sealed));
        head(&mut out, 0x04, sealed);
        let start = out.len();
        out.extend_from_slice(confounder);
        head(&mut out, 0x62, inner);
        head(&mut out, 0x30, body.len());
        out.extend_from_slice(&body);
        self.sealer.seal(&mut out, start)?;
        Some(out)
    }

    /// The content of RFC 4120 5.5.1's Authenticator.
    fn authenticator(
        &self,
        stamp: Stamp,
        binding: [u8; 16],
        sequence: &[u8],
        subkey: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.client.len() + 160));
        out.extend_from_slice(&self.client);
        // cksum: 0x8003 (RFC 4121 4.1.1), 24 octets.
        out.extend_from_slice(b"\xa3\x25\x30\x23\xa0\x05\x02\x03\x00\x80\x03\xa1\x1a\x04\x18");
        out.extend_from_slice(&16_u32.to_le_bytes());
        out.extend_from_slice(&binding);
        out.extend_from_slice(&FLAGS.to_le_bytes());
        let micros = der::integer(stamp.micros);
        head(&mut out, 0xa4, micros.len());
        out.extend_from_slice(&micros);
        out.extend_from_slice(b"\xa5\x11\x18\x0f");
        out.extend_from_slice(&generalized_time(stamp.seconds)?);
        let key = sized(sized(subkey.len())) + 5;
        head(&mut out, 0xa6, sized(key));
        head(&mut out, 0x30, key);
        out.extend_from_slice(&[0xa0, 3, 0x02, 1, self.enctype]);
        head(&mut out, 0xa1, sized(subkey.len()));
        head(&mut out, 0x04, subkey.len());
        out.extend_from_slice(subkey);
        // Always four octets and positive, as old acceptors read it signed; 29 bits of chance.
        let (first, rest) = sequence.split_first()?;
        out.extend_from_slice(&[0xa7, 6, 0x02, 4, 0x20 | (first & 0x1f)]);
        out.extend_from_slice(rest);
        Some(out)
    }

    /// Whether `answer` is the AP-REP to the token of that stamp, made with the session key, which only the
    /// holder of the service's key could take out of the ticket (RFC 4120 3.2.5).
    pub(super) fn is_answer(&self, answer: &[u8], stamp: Stamp) -> bool {
        self.answered(answer) == Some(stamp)
    }

    fn answered(&self, answer: &[u8]) -> Option<Stamp> {
        let content = der::expect(0x60, answer)?.strip_prefix(AP_REP)?;
        let fields = der::expect(0x30, der::expect(0x6f, content)?)?;
        let number = |tag, fields| der::number(der::expect(0x02, der::find(tag, fields)?)?);
        if number(0xa0, fields)? != 5 || number(0xa1, fields)? != 15 {
            return None;
        }
        let sealed = der::expect(0x30, der::find(0xa2, fields)?)?;
        if number(0xa0, sealed)? != i64::from(self.enctype) {
            return None;
        }
        let sealed = der::expect(0x04, der::find(0xa2, sealed)?)?;
        let plain = self.opener.open(sealed)?;
        let part = der::expect(0x30, der::expect(0x7b, &plain)?)?;
        let ctime = der::expect(0x18, der::find(0xa0, part)?)?;
        Some(Stamp {
            seconds: unix(ctime)?,
            micros: u32::try_from(number(0xa1, part)?).ok()?,
        })
    }
}

/// `20260102030405Z` (RFC 4120 5.2.3).
fn generalized_time(seconds: i64) -> Option<[u8; 15]> {
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let year = u32::try_from(at.year()).ok()?;
    let two = |number: u32| [tens(number), b'0' + u8::try_from(number % 10).unwrap_or(0)];
    let mut out = [b'Z'; 15];
    let parts = [
        two(year / 100),
        two(year % 100),
        two(u32::from(u8::from(at.month()))),
        two(u32::from(at.day())),
        two(u32::from(at.hour())),
        two(u32::from(at.minute())),
        two(u32::from(at.second())),
    ];
    for (place, part) in out.chunks_exact_mut(2).zip(parts) {
        place.copy_from_slice(&part);
    }
    Some(out)
}

fn tens(number: u32) -> u8 {
    b'0' + u8::try_from(number / 10 % 10).unwrap_or(0)
}

fn unix(time: &[u8]) -> Option<i64> {
    let digits = time.strip_suffix(b"Z").filter(|rest| rest.len() == 14)?;
    let number = |from: usize, to: usize| -> Option<u16> {
        digits.get(from..to)?.iter().try_fold(0_u16, |value, byte| {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            Some(value * 10 + u16::from(digit))
        })
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| u8::try_from(value).ok());
    let month = time::Month::try_from(small(4)?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(number(0, 4)?), month, small(6)?).ok()?;
    let clock = time::Time::from_hms(small(8)?, small(10)?, small(12)?).ok()?;
    Some(date.with_time(clock).assume_utc().unix_timestamp())
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
