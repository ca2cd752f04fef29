//! The PROXY protocol's header (haproxy.org, "The PROXY protocol", versions 1 and 2): who really connected.
//!
//! In: the first bytes of a connection from a listed peer. Out: the source address they name, and how
//! many bytes they are; TLS begins right behind them. Pure, and never asks for a byte behind the header.
//!
//! # Why our own
//!
//! The crate at hand wants the whole header in one buffer (so it would be read past its end, into
//! TLS), takes several spellings of addresses and ports, and checks neither TLVs nor checksums. What
//! decides about address rules has one spelling here; everything else is refused.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;

/// Section 2.1: the longest header of version 1, CR LF included.
const LONGEST_V1: usize = 107;
/// `PROXY UNKNOWN` CR LF.
const SHORTEST_V1: usize = 15;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_V2: usize = 16;
/// Most bytes behind the fixed part of version 2: what section 2.2 tells senders to stay within.
pub const LONGEST_REST_V2: usize = 536;
/// PP2_TYPE_CRC32C.
const CHECKSUM: u8 = 0x03;

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadHeader {
    /// Neither version's beginning.
    #[error("does not begin with a PROXY header")]
    None,
    /// Version 1, but not as written in section 2.1.
    #[error("a malformed PROXY line (version 1)")]
    Line,
    /// Version 2, but not as written in section 2.2.
    #[error("a malformed PROXY header (version 2): {0}")]
    Binary(&'static str),
    /// Longer than any sender needs.
    #[error("a PROXY header of {0} bytes")]
    TooLong(usize),
}

/// A header as far as it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// At least so many more bytes belong to it.
    More(usize),
    /// It is complete.
    Whole {
        /// Who connected to the proxy; absent when it speaks for itself (LOCAL, UNKNOWN, UNSPEC).
        source: Option<SocketAddr>,
        /// Its bytes.
        length: usize,
    },
}

/// Reads the header at the beginning of `bytes`.
///
/// # Errors
/// As soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Header, BadHeader> {
    if begins(bytes, b"PROXY ") {
        line(bytes)
    } else if begins(bytes, SIGNATURE) {
        binary(bytes)
    } else {
        Err(BadHeader::None)
    }
}

/// Reads a whole header off `stream`: `None` when the proxy speaks for itself.
///
/// # Errors
/// The connection's, or what is wrong with the bytes (`InvalidData`).
pub async fn read<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::with_capacity(LONGEST_V1);
    loop {
        let parsed =
            parse(&bytes).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        match parsed {
            Header::Whole { source, .. } => return Ok(source),
            Header::More(more) => {
                let have = bytes.len();
                bytes.resize(have + more, 0);
                let space = bytes.get_mut(have..).unwrap_or_default();
                stream.read_exact(space).await?;
            }
        }
    }
}

/// True when what there is of `bytes` agrees with `beginning`.
fn begins(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.iter().zip(beginning).all(|(one, other)| one == other)
}

fn line(bytes: &[u8]) -> Result<Header, BadHeader> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        if bytes.len() >= LONGEST_V1 {
            return Err(BadHeader::TooLong(bytes.len()));
        }
        let at_least = if bytes.last() == Some(&b'\r') { 1 } else { 2 };
        return Ok(Header::More(
            SHORTEST_V1
                .saturating_sub(bytes.len())
                .max(at_least)
                .min(LONGEST_V1 - bytes.len()),
        ));
    };
    let length = end + 1;
    if length > LONGEST_V1 {
        return Err(BadHeader::TooLong(length));
    }
    let text = bytes
        .get(..length)
        .and_then(|line| line.strip_prefix(b"PROXY "))
        .and_then(|line| line.strip_suffix(b"\r\n"))
        .and_then(|line| std::str::from_utf8(line).ok())
        .filter(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~')))
        .ok_or(BadHeader::Line)?;
    let mut parts = text.split(' ');
    let source = match parts.next() {
        // Section 2.1: what follows UNKNOWN is ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(ends(parts, plain_v4)?),
        Some("TCP6") => Some(ends(parts, plain_v6)?),
        Some(_) | None => return Err(BadHeader::Line),
    };
    Ok(Header::Whole { source, length })
}

/// Source of `source destination source-port destination-port`.
fn ends<'a>(
    mut parts: impl Iterator<Item = &'a str>,
    address: fn(&str) -> Option<IpAddr>,
) -> Result<SocketAddr, BadHeader> {
    let read = (|| {
        let source = address(parts.next()?)?;
        address(parts.next()?)?;
        let from = port(parts.next()?)?;
        port(parts.next()?)?;
        parts
            .next()
            .is_none()
            .then(|| SocketAddr::new(source.to_canonical(), from))
    })();
    read.ok_or(BadHeader::Line)
}

fn plain_v4(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn plain_v6(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Section 2.1: no leading zero, no sign.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|first| matches!(first, '1'..='9'));
    plain.then(|| text.parse().ok()).flatten()
}

fn binary(bytes: &[u8]) -> Result<Header, BadHeader> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_V2) else {
        return Ok(Header::More(FIXED_V2 - bytes.len()));
    };
    let &[.., command, family, high, low] = fixed else {
        return Err(BadHeader::None);
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    if announced > LONGEST_REST_V2 {
        return Err(BadHeader::TooLong(FIXED_V2 + announced));
    }
    let Some(rest) = rest.get(..announced) else {
        return Ok(Header::More(announced - rest.len()));
    };
    let length = FIXED_V2 + announced;
    let (source, tlvs) = match command {
        // LOCAL: the proxy itself, for example its health check; the rest is to be skipped.
        0x20 => {
            return Ok(Header::Whole {
                source: None,
                length,
            });
        }
        0x21 => proxied(family, rest)?,
        _ => return Err(BadHeader::Binary("neither LOCAL nor PROXY of version 2")),
    };
    check_tlvs(
        tlvs,
        bytes.get(..length).unwrap_or_default(),
        length - tlvs.len(),
    )?;
    Ok(Header::Whole { source, length })
}

/// Source address and what follows the addresses.
fn proxied(family: u8, rest: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), BadHeader> {
    const SHORT: BadHeader = BadHeader::Binary("shorter than its addresses");
    match family {
        // UNSPEC: the receiver takes the connection's own addresses.
        0x00 => Ok((None, rest)),
        0x11 => {
            let (ends, tlvs) = rest.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *ends;
            let port = u16::from_be_bytes([high, low]);
            let source = SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port);
            Ok((Some(source), tlvs))
        }
        0x21 => {
            let (ends, tlvs) = rest.split_first_chunk::<36>().ok_or(SHORT)?;
            let (address, others) = ends.split_first_chunk::<16>().ok_or(SHORT)?;
            let &[.., high, low, _, _] = others else {
                return Err(SHORT);
            };
            let address = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
            let source = SocketAddr::new(address, u16::from_be_bytes([high, low]));
            Ok((Some(source), tlvs))
        }
        // Datagrams and UNIX sockets have no address that a rule could be about.
        _ => Err(BadHeader::Binary(
            "neither TCP over IPv4, TCP over IPv6 nor UNSPEC",
        )),
    }
}

/// Section 2.2: each TLV ends within the header, and a checksum that is there holds.
fn check_tlvs(tlvs: &[u8], header: &[u8], begin: usize) -> Result<(), BadHeader> {
    let mut rest = tlvs;
    let mut at = begin;
    while let Some((&[kind, high, low], value)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = value
            .split_at_checked(length)
            .ok_or(BadHeader::Binary("a TLV beyond its end"))?;
        if kind == CHECKSUM {
            let wanted: [u8; 4] = value
                .try_into()
                .map_err(|_| BadHeader::Binary("a checksum that is not four bytes"))?;
            let place = at + 3..at + 7;
            let bytes = header
                .iter()
                .enumerate()
                .map(|(index, byte)| if place.contains(&index) { 0 } else { *byte });
            if crc32c(bytes) != u32::from_be_bytes(wanted) {
                return Err(BadHeader::Binary("its checksum does not hold"));
            }
        }
        at += 3 + length;
        rest = after;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(BadHeader::Binary("an incomplete TLV"))
    }
}

/// RFC 4960 appendix B.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn write(source: SocketAddr, binary: bool) -> Vec<u8> {
        match (source, binary) {
            (SocketAddr::V4(from), false) => {
                format!("PROXY TCP4 {} 192.0.2.1 {} 443\r\n", from.ip(), from.port()).into_bytes()
            }
            (SocketAddr::V6(from), false) => format!(
                "PROXY TCP6 {} 2001:db8::1 {} 443\r\n",
                from.ip(),
                from.port()
            )
            .into_bytes(),
            (SocketAddr::V4(from), true) => {
                let ports = [&from.port().to_be_bytes()[..], &[1, 187]].concat();
                v2(
                    0x21,
                    0x11,
                    &[&from.ip().octets()[..], &[192, 0, 2, 1], &ports].concat(),
                )
            }
            (SocketAddr::V6(from), true) => {
                let ports = [&from.port().to_be_bytes()[..], &[1, 187]].concat();
                v2(
                    0x21,
                    0x21,
                    &[&from.ip().octets()[..], &[0; 16], &ports].concat(),
                )
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_no_byte_behind_it(
            address: IpAddr, port: u16, binary: bool, behind: Vec<u8>,
        ) {
            let header = write(SocketAddr::new(address, port), binary);
            let wanted = SocketAddr::new(address.to_canonical(), port);
            let bytes = [&header[..], &behind].concat();
            let whole = Header::Whole { source: Some(wanted), length: header.len() };
            prop_assert_eq!(parse(&bytes), Ok(whole));
            for have in 0..header.len() {
                let Ok(Header::More(more)) = parse(&header[..have]) else {
                    return Err(TestCaseError::fail(format!("{have} bytes are not enough")));
                };
                prop_assert!(more > 0 && have + more <= header.len());
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_read_on_for_ever(
            bytes: Vec<u8>, start in 0_usize..3, rest in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            let start = [&b""[..], b"PROXY ", SIGNATURE][start];
            for bytes in [bytes, [start, &rest].concat()] {
                match parse(&bytes) {
                    Ok(Header::More(more)) => {
                        prop_assert!(bytes.len() + more <= FIXED_V2 + LONGEST_REST_V2);
                    }
                    Ok(Header::Whole { length, .. }) => prop_assert!(length <= bytes.len()),
                    Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn lines_have_one_spelling() {
        for line in [
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
            "PROXY TCP6 [::1] ::1 1 2\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWN \u{7f}\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(BadHeader::Line), "{line:?}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(BadHeader::None));
        assert_eq!(parse(b"\x16\x03\x01"), Err(BadHeader::None));
        let long = [b'x'; 120];
        let endless = [&b"PROXY UNKNOWN "[..], &long].concat();
        assert_eq!(parse(&endless), Err(BadHeader::TooLong(134)));
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        let own = |bytes: &[u8]| {
            assert_eq!(
                parse(bytes),
                Ok(Header::Whole {
                    source: None,
                    length: bytes.len()
                })
            );
        };
        own(b"PROXY UNKNOWN\r\n");
        own(b"PROXY UNKNOWN ffff:f...f 1 2 3\r\n");
        own(&v2(0x20, 0x00, b""));
        own(&v2(0x20, 0x11, b"skipped"));
        own(&v2(0x21, 0x00, b""));
        own(&v2(0x21, 0x00, &[0x04, 0, 1, 9]));
    }

    #[test]
    fn binary_headers_are_whole() {
        let ends = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2];
        let bad = |bytes: &[u8]| assert!(matches!(parse(bytes), Err(BadHeader::Binary(_))));
        bad(&v2(0x22, 0x11, &ends));
        bad(&v2(0x11, 0x11, &ends));
        bad(&v2(0x21, 0x12, &ends));
        bad(&v2(0x21, 0x31, &[0; 216]));
        bad(&v2(0x21, 0x21, &ends));
        bad(&v2(0x21, 0x11, &ends[..11]));
        for tlv in [
            &[4][..],
            &[4, 0],
            &[4, 0, 1],
            &[4, 255, 255, 0],
            &[3, 0, 1, 0],
        ] {
            bad(&v2(0x21, 0x11, &[&ends[..], tlv].concat()));
        }
        let long = v2(0x21, 0x11, &[0; LONGEST_REST_V2 + 1]);
        assert_eq!(parse(&long[..16]), Err(BadHeader::TooLong(553)));
    }

    #[test]
    fn a_checksum_that_is_there_holds() {
        // RFC 3720 B.4.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8A91_36AA);
        let ends = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2];
        let mut bytes = v2(
            0x21,
            0x11,
            &[&ends[..], &[4, 0, 1, 9], &[3, 0, 4, 0, 0, 0, 0]].concat(),
        );
        bad_then_good(&mut bytes);
        bytes[17] ^= 1;
        assert!(parse(&bytes).is_err());
    }

    fn bad_then_good(bytes: &mut [u8]) {
        assert!(parse(bytes).is_err());
        let sum = crc32c(bytes.iter().copied()).to_be_bytes();
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&sum);
        assert!(parse(bytes).is_ok());
    }
}
