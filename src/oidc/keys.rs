//! The issuer's signing keys (RFC 7517), as far as they may sign tokens.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::error::TokenError;

/// The keys of one JWKS document.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    by_kid: HashMap<String, Key>,
}

/// A public RSA key, and the issuer it belongs to.
#[derive(Clone, Debug)]
pub struct Key {
    /// For the signature.
    pub decoding: DecodingKey,
    /// Entra's `issuer` beside the key: a key of another issuer must not sign for this one.
    pub issuer: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    key_ops: Option<Vec<String>>,
    n: String,
    e: String,
    issuer: Option<String>,
}

impl KeySet {
    /// Reads a JWKS document. Keys that may not or cannot sign RS256 are left out, as RFC 7517 5 asks.
    ///
    /// # Errors
    /// The document is no key set, or holds more keys than the limit.
    pub fn parse(document: &serde_json::Value) -> Result<Self, String> {
        let document = Document::deserialize(document).map_err(|e| e.to_string())?;
        if document.keys.len() > MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        let mut by_kid = HashMap::new();
        for value in &document.keys {
            let Ok(jwk) = Jwk::deserialize(value) else {
                continue; // another key type
            };
            if let Some(key) = jwk.signing_key() {
                by_kid.entry(jwk.kid).or_insert(key);
            }
        }
        Ok(Self { by_kid })
    }

    /// The key named `kid`.
    ///
    /// # Errors
    /// There is none, or there are several and the token names none.
    pub fn find(&self, kid: Option<&str>) -> Result<Key, TokenError> {
        match kid {
            Some(kid) => self
                .by_kid
                .get(kid)
                .cloned()
                .ok_or_else(|| TokenError::KeyUnknown(super::error::bounded(kid))),
            // OpenID Connect Core 10.1: without `kid` only a single key can be meant.
            None => match self.by_kid.len() {
                1 => self
                    .by_kid
                    .values()
                    .next()
                    .cloned()
                    .ok_or(TokenError::KeyAmbiguous),
                _ => Err(TokenError::KeyAmbiguous),
            },
        }
    }

    /// How many usable keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_kid.len()
    }

    /// True when no key is usable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_kid.is_empty()
    }
}

impl Jwk {
    fn signing_key(&self) -> Option<Key> {
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        // RFC 8725 3.5: RSA keys under 2048 bits are not strong enough.
        let modulus = URL_SAFE_NO_PAD.decode(&self.n).ok()?;
        let long_enough = modulus.iter().skip_while(|b| **b == 0).count() >= 256;
        if self.kty != "RSA" || !signs || !long_enough {
            return None;
        }
        Some(Key {
            decoding: DecodingKey::from_rsa_components(&self.n, &self.e).ok()?,
            issuer: self.issuer.clone(),
        })
    }
}

/// Entra publishes fewer than ten; a document with thousands is a mistake or an attack.
const MAX_KEYS: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn modulus(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xc1; bytes])
    }

    #[test]
    fn only_rsa_keys_that_may_sign_are_kept() {
        let n = modulus(256);
        let set = KeySet::parse(&json!({"keys": [
            {"kty": "RSA", "kid": "good", "use": "sig", "n": n, "e": "AQAB", "x5t": "x", "issuer": "https://i/"},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": n, "e": "AQAB"},
            {"kty": "RSA", "kid": "ps", "use": "sig", "alg": "PS256", "n": n, "e": "AQAB"},
            {"kty": "RSA", "kid": "ops", "key_ops": ["encrypt"], "n": n, "e": "AQAB"},
            {"kty": "RSA", "kid": "short", "use": "sig", "n": modulus(128), "e": "AQAB"},
            {"kty": "oct", "kid": "hmac", "k": "c2VjcmV0"},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "eA", "y": "eQ"},
            {"kty": "RSA", "use": "sig", "n": n, "e": "AQAB"},
            "nonsense"
        ]}))
        .unwrap();
        assert_eq!(set.len(), 1);
        assert_eq!(
            set.find(Some("good")).unwrap().issuer.as_deref(),
            Some("https://i/")
        );
        assert!(set.find(Some("enc")).is_err());
        assert!(set.find(None).is_ok(), "a single key needs no kid");
    }

    #[test]
    fn several_keys_need_a_kid_and_too_many_are_refused() {
        let key = |kid: usize| json!({"kty": "RSA", "kid": kid.to_string(), "n": modulus(256), "e": "AQAB"});
        let two = KeySet::parse(&json!({"keys": [key(1), key(2)]})).unwrap();
        assert_eq!(two.find(None).unwrap_err(), TokenError::KeyAmbiguous);
        let many: Vec<_> = (0..=MAX_KEYS).map(key).collect();
        assert!(KeySet::parse(&json!({ "keys": many })).is_err());
        assert!(KeySet::parse(&json!({"keys": 7})).is_err());
    }
}
