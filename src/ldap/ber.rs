//! The little BER (X.690, as RFC 4511 5.1 restricts it) that is needed before ldap3 takes over:
//! StartTLS and bind.
//!
//! In come bytes from a server that is not yet authenticated, so every length is bounded.

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;

/// Largest answer to a bind: an AP-REP and an error text are a few kilobytes.
const LARGEST: usize = 256 * 1024;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;

/// What every LDAPResult begins with (RFC 4511 4.1.9), and a bind's `serverSaslCreds`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u32,
    pub(super) diagnostic: String,
    pub(super) sasl: Option<Vec<u8>>,
}

/// One element.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length: Vec<u8> = content
                .len()
                .to_be_bytes()
                .into_iter()
                .skip_while(|byte| *byte == 0)
                .collect();
            out.push(0x80 | u8::try_from(length.len()).unwrap_or(8));
            out.extend(length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// One LDAPMessage around `operation` (RFC 4511 4.1.1); `id` stays below 128.
pub(super) fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    let mut content = element(INTEGER, &[id & 0x7f]);
    content.extend_from_slice(operation);
    element(SEQUENCE, &content)
}

/// A BindRequest (RFC 4511 4.2) with the authentication choice given.
pub(super) fn bind_request(name: &str, authentication: &[u8]) -> Vec<u8> {
    let mut content = element(INTEGER, &[3]);
    content.extend(element(OCTETS, name.as_bytes()));
    content.extend_from_slice(authentication);
    element(0x60, &content)
}

/// Reads exactly one message and not a byte more: what follows StartTLS belongs to TLS.
pub(super) async fn read_message<R: AsyncRead + Unpin>(from: &mut R) -> std::io::Result<Vec<u8>> {
    let bad = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let tag = from.read_u8().await?;
    let first = from.read_u8().await?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        // RFC 4511 5.1: definite lengths only.
        let count = first & 0x7f;
        if !(1..=4).contains(&count) {
            return Err(bad("length of an LDAP message is not definite"));
        }
        let mut length = 0_usize;
        for _ in 0..count {
            length = (length << 8) | usize::from(from.read_u8().await?);
        }
        length
    };
    if tag != SEQUENCE || length > LARGEST {
        return Err(bad("not an LDAP message"));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content).await?;
    Ok(content)
}

/// Reads a message's content as the answer `tag` to the request `id`.
pub(super) fn answer(message: &[u8], id: u8, tag: u8) -> Option<Answer> {
    let (INTEGER, got, rest) = split(message)? else {
        return None;
    };
    if got != [id] {
        return None;
    }
    let (got, body, _) = split(rest)?;
    if got != tag {
        return None;
    }
    let (ENUMERATED, code, rest) = split(body)? else {
        return None;
    };
    let (OCTETS, _matched, rest) = split(rest)? else {
        return None;
    };
    let (OCTETS, diagnostic, mut rest) = split(rest)? else {
        return None;
    };
    let mut sasl = None;
    while let Some((tag, content, tail)) = split(rest) {
        // RFC 4511 4.2.2: serverSaslCreds [7]; [3] is a referral.
        if tag == 0x87 {
            sasl = Some(content.to_vec());
        }
        rest = tail;
    }
    Some(Answer {
        code: code.iter().try_fold(0_u32, |sum, byte| {
            sum.checked_mul(256)?.checked_add(u32::from(*byte))
        })?,
        diagnostic: String::from_utf8_lossy(diagnostic).into_owned(),
        sasl,
    })
}

/// The cookie in a paged results control's value (RFC 2696 2).
pub(super) fn paging_cookie(value: &[u8]) -> Option<Vec<u8>> {
    let (SEQUENCE, content, _) = split(value)? else {
        return None;
    };
    let (INTEGER, _estimate, rest) = split(content)? else {
        return None;
    };
    let (OCTETS, cookie, _) = split(rest)? else {
        return None;
    };
    Some(cookie.to_vec())
}

type Split<'a> = (u8, &'a [u8], &'a [u8]);

/// Splits the first element off `input`: its tag, its content, and what follows.
fn split(input: &[u8]) -> Option<Split<'_>> {
    let (tag, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        let length = bytes
            .iter()
            .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_answer(code: u8, text: &str, sasl: Option<&[u8]>) -> Vec<u8> {
        let mut body = element(ENUMERATED, &[code]);
        body.extend(element(OCTETS, b""));
        body.extend(element(OCTETS, text.as_bytes()));
        if let Some(sasl) = sasl {
            body.extend(element(0x87, sasl));
        }
        message(3, &element(0x61, &body))
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_not_a_byte_more() {
        let long = "x".repeat(70_000);
        let mut wire = bind_answer(14, &long, Some(b"token"));
        wire.extend(b"tls");
        let mut from = wire.as_slice();
        let content = read_message(&mut from).await.unwrap();
        assert_eq!(from, b"tls");
        let read = answer(&content, 3, 0x61).unwrap();
        assert_eq!((read.code, read.diagnostic), (14, long));
        assert_eq!(read.sasl.as_deref(), Some(&b"token"[..]));
        assert!(answer(&content, 4, 0x61).is_none(), "another request's");
        assert!(answer(&content, 3, 0x78).is_none(), "another operation's");
    }

    #[test]
    fn a_paging_cookie_is_read_or_refused() {
        let mut content = element(INTEGER, &[0]);
        content.extend(element(OCTETS, b"cookie"));
        let value = element(SEQUENCE, &content);
        assert_eq!(paging_cookie(&value).as_deref(), Some(&b"cookie"[..]));
        for cut in 0..value.len() {
            assert_eq!(paging_cookie(&value[..cut]), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn nonsense_is_an_error_and_never_a_panic() {
        let whole = bind_answer(0, "ok", Some(b"t"));
        for cut in 0..whole.len() {
            assert!(read_message(&mut &whole[..cut]).await.is_err(), "{cut}");
        }
        for cut in 0..whole.len() - 2 {
            drop(answer(&whole[2..2 + cut], 3, 0x61));
        }
        for bad in [
            &b"HTTP/1.1 400 Bad Request"[..],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(read_message(&mut &*bad).await.is_err());
        }
    }
}
