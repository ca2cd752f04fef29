//! The signed assertion beside identity headers, and the key set with which a backend checks it.
//!
//! `Kerbgate-Jwt-Assertion` is a JWT (RFC 7519), ES256, audience = the application's published URL, 60
//! seconds. The key is made once and kept in `state_dir` with mode 0600.

use std::fmt;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Value;
use serde_json::json;

/// How long an assertion may be used, in seconds.
pub const LIFETIME: i64 = 60;

/// Why the assertion key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key's file cannot be read or written.
    #[error("assertion key {path:?}: {source}")]
    File {
        /// Where it is kept.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The key's file holds no P-256 key in PKCS #8.
    #[error(
        "assertion key {path:?} is no P-256 key in PKCS #8 (DER); remove the file to have one made"
    )]
    Unsound {
        /// Where it is kept.
        path: String,
    },
    /// The system gave no random numbers, or refused to sign.
    #[error("the cryptographic library refused to make a key or to sign")]
    Crypto,
}

/// Signs assertions.
pub struct Signer {
    key: EncodingKey,
    public_point: Vec<u8>,
    kid: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the key from `path`, or makes it there.
    ///
    /// # Errors
    /// The file is unreadable or unsound: a key is never replaced silently, backends trust it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = |source| Error::File {
            path: path.display().to_string(),
            source,
        };
        let der = match fs::read(path) {
            Ok(der) => der,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = EcdsaKeyPair::generate_pkcs8(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &SystemRandom::new(),
                )
                .map_err(|_| Error::Crypto)?;
                let mut options = fs::OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                let mut out = options.open(path).map_err(file)?;
                out.write_all(made.as_ref())
                    .and_then(|()| out.sync_all())
                    .map_err(file)?;
                made.as_ref().to_vec()
            }
            Err(error) => return Err(file(error)),
        };
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| {
                Error::Unsound {
                    path: path.display().to_string(),
                }
            })?;
        let print = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        let kid = URL_SAFE_NO_PAD.encode(print.as_ref().get(..12).unwrap_or_default());
        Ok(Self {
            key: EncodingKey::from_ec_der(&der),
            public_point: pair.public_key().as_ref().to_vec(),
            kid,
        })
    }

    /// The key set (RFC 7517) to publish under `jwks.json`.
    #[must_use]
    pub fn key_set(&self) -> Value {
        // The public key is an uncompressed point: 0x04, x, y (SEC 1, 2.3.3).
        let part = |range| URL_SAFE_NO_PAD.encode(self.public_point.get(range).unwrap_or_default());
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": part(1..33), "y": part(33..65),
        }]})
    }

    /// Signs `claims` (RFC 7515, compact form).
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| Error::Crypto)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::DecodingKey;
    use jsonwebtoken::Validation;

    use super::*;

    #[test]
    fn a_backend_can_check_the_assertion_with_the_published_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assertion.key");
        let signer = Signer::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let kid = signer.kid.clone();
        let again = Signer::open(&path).unwrap();
        assert_eq!(again.kid, kid, "the key survives a restart");

        let token = again
            .sign(&json!({"sub": "x", "aud": "https://wiki/", "exp": 4_000_000_000_u64}))
            .unwrap();
        let jwk = serde_json::from_value(signer.key_set()["keys"][0].clone()).unwrap();
        let mut wanted = Validation::new(Algorithm::ES256);
        wanted.set_audience(&["https://wiki/"]);
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let read = jsonwebtoken::decode::<Value>(&token, &key, &wanted).unwrap();
        assert_eq!(read.claims["sub"], "x");
    }

    #[test]
    fn a_broken_key_file_is_refused_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assertion.key");
        fs::write(&path, "garbage").unwrap();
        assert!(matches!(Signer::open(&path), Err(Error::Unsound { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"garbage");
    }
}
