//! Ids that a browser holds: 256 random bits as 43 characters of base64url.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::reason;
use crate::model::stop::Stop;

/// A new id. Also fit to be a PKCE verifier (RFC 7636 4.1: 43 characters).
pub(super) fn id() -> Result<String, Stop> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| reason::internal("no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
