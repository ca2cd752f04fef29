//! SPNEGO framing (RFC 4178 4.2) around a Kerberos token, and telling tokens apart.
//!
//! # Why not libgssapi's own SPNEGO mechanism
//!
//! MIT's mechanism layer looks for the credential *of the mechanism asked for* and, where there is none,
//! silently takes the process's default credential: a SPNEGO context over a Kerberos-only credential then
//! speaks as the gateway. Asked for Kerberos alone, over a Kerberos credential, that branch cannot be
//! taken at all. It also asks the KDC half as often (SPNEGO keeps its own copy of every credential), and
//! the KDC's error codes arrive unmapped. We offer exactly one mechanism, so there is nothing to negotiate
//! and no list that a MIC would have to protect (RFC 4178 5 (a)).

use super::der;
use super::der::head;
use super::der::sized;

/// 1.2.840.113554.1.2.2 (RFC 4121), tag and length included.
const KRB5: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02,
];
/// 1.2.840.48018.1.2.2: the same mechanism under the number that Windows 2000 sent by mistake (MS-SPNG).
const MS_KRB5: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 0x01, 0x02, 0x02,
];
/// 1.3.6.1.5.5.2
const SPNEGO: &[u8] = &[0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];

/// What a token in an `Authorization` or `WWW-Authenticate: Negotiate` header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// SPNEGO, first token (`YII…` in base64).
    SpnegoInit,
    /// SPNEGO, answer (`oY…` in base64).
    SpnegoAnswer,
    /// Kerberos without SPNEGO around it (`YII…` in base64 as well).
    Kerberos,
    /// NTLM, bare or inside SPNEGO (`TlRMTVNTUAAB…` in base64): Kerberos was not possible at the sender.
    Ntlm,
    /// None of these.
    Unknown,
}

/// Tells which kind of token `bytes` is.
#[must_use]
pub fn kind(bytes: &[u8]) -> TokenKind {
    const NTLM: &[u8] = b"NTLMSSP\0";
    if bytes.starts_with(NTLM) {
        return TokenKind::Ntlm;
    }
    match der::split(bytes) {
        Some((0x60, content, _)) if content.starts_with(KRB5) => TokenKind::Kerberos,
        Some((0x60, content, _)) if content.starts_with(SPNEGO) => {
            if content.windows(NTLM.len()).any(|window| window == NTLM) {
                TokenKind::Ntlm
            } else {
                TokenKind::SpnegoInit
            }
        }
        Some((0xa1, content, _)) => {
            if content.windows(NTLM.len()).any(|window| window == NTLM) {
                TokenKind::Ntlm
            } else {
                TokenKind::SpnegoAnswer
            }
        }
        _ => TokenKind::Unknown,
    }
}

/// Begins a `NegTokenInit` that offers Kerberos and nothing else; its optimistic first token, of `length`
/// octets, is to follow.
pub(super) fn begin(out: &mut Vec<u8>, length: usize) {
    let types = sized(sized(KRB5.len()));
    let fields = types + sized(sized(length));
    head(out, 0x60, SPNEGO.len() + sized(sized(fields)));
    out.extend_from_slice(SPNEGO);
    head(out, 0xa0, sized(fields));
    head(out, 0x30, fields);
    head(out, 0xa0, sized(KRB5.len()));
    head(out, 0x30, KRB5.len());
    out.extend_from_slice(KRB5);
    head(out, 0xa2, sized(length));
    head(out, 0x04, length);
}

/// `NegTokenInit` around `mech_token`.
pub(super) fn init(mech_token: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mech_token.len() + 64);
    begin(&mut out, mech_token.len());
    out.extend_from_slice(mech_token);
    out
}

/// Why an answer is not the second half of our negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Not a `NegTokenResp`.
    #[error("the answer is no SPNEGO token")]
    Malformed,
    /// `negState` is `reject`.
    #[error("the backend answered `reject`")]
    Rejected,
    /// The backend chose a mechanism that was not offered.
    #[error("the backend chose a mechanism that was not offered")]
    OtherMechanism,
    /// No token inside, so the backend has not proved who it is.
    #[error("the answer carries no token, so the backend proved nothing")]
    Empty,
    /// Its token was not made with the key of the ticket, or answers another token.
    #[error("the answer was not made with the service's key, or not for this token")]
    Forged,
}

/// The mechanism's token inside a `NegTokenResp`; a bare Kerberos token is handed through.
pub(super) fn answer(token: &[u8]) -> Result<&[u8], BadAnswer> {
    if kind(token) == TokenKind::Kerberos {
        return Ok(token);
    }
    let fields = der::expect(0xa1, token)
        .and_then(|body| der::expect(0x30, body))
        .ok_or(BadAnswer::Malformed)?;
    // RFC 4178 4.2.2: negState reject (2) ends the negotiation.
    let state = der::find(0xa0, fields).and_then(|field| der::expect(0x0a, field));
    if state.and_then(der::number) == Some(2) {
        return Err(BadAnswer::Rejected);
    }
    if let Some(mech) = der::find(0xa1, fields)
        && mech != KRB5
        && mech != MS_KRB5
    {
        return Err(BadAnswer::OtherMechanism);
    }
    der::find(0xa2, fields)
        .and_then(|field| der::expect(0x04, field))
        .filter(|inner| !inner.is_empty())
        .ok_or(BadAnswer::Empty)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn tokens_are_told_apart_by_what_a_capture_shows() {
        let ntlm = STANDARD.decode("TlRMTVNTUAABAAAAl4II4gAAAAA=").unwrap();
        assert_eq!(kind(&ntlm), TokenKind::Ntlm);
        let wrapped = init(&[1; 1500]);
        assert!(STANDARD.encode(&wrapped).starts_with("YII"));
        assert_eq!(kind(&wrapped), TokenKind::SpnegoInit);
        assert_eq!(kind(&init(&ntlm)), TokenKind::Ntlm);
        assert_eq!(kind(&der::tlv(0x60, KRB5)), TokenKind::Kerberos);
        assert_eq!(kind(b"Basic"), TokenKind::Unknown);
        assert_eq!(kind(b""), TokenKind::Unknown);
    }

    fn response(state: u8, mech: &[u8], token: Option<&[u8]>) -> Vec<u8> {
        let mut fields = vec![
            der::tlv(0xa0, &der::tlv(0x0a, &[state])),
            der::tlv(0xa1, mech),
        ];
        fields.extend(token.map(|bytes| der::tlv(0xa2, &der::tlv(0x04, bytes))));
        der::tlv(0xa1, &der::wrap(0x30, &fields))
    }

    #[test]
    fn an_answer_gives_its_token_or_says_why_not() {
        assert_eq!(answer(&response(0, KRB5, Some(b"rep"))), Ok(&b"rep"[..]));
        assert_eq!(answer(&response(0, MS_KRB5, Some(b"rep"))), Ok(&b"rep"[..]));
        assert_eq!(
            answer(&response(2, KRB5, Some(b"rep"))),
            Err(BadAnswer::Rejected)
        );
        assert_eq!(
            answer(&response(0, SPNEGO, Some(b"rep"))),
            Err(BadAnswer::OtherMechanism)
        );
        assert_eq!(answer(&response(0, KRB5, None)), Err(BadAnswer::Empty));
        assert_eq!(answer(b"\xa1\x7f\x30"), Err(BadAnswer::Malformed));
        assert_eq!(answer(b""), Err(BadAnswer::Malformed));
    }
}
