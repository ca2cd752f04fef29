//! Signing keys: several published at once, one of them signing; rotation on demand.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::serve::Failure;

/// base64url without padding.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// base64url of that many random bytes.
pub fn random(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut buffer).expect("the system has random numbers");
    b64(buffer)
}

/// base64url of the SHA-256.
pub fn sha256(text: &str) -> String {
    b64(digest(&SHA256, text.as_bytes()))
}

/// One RSA key with its self-signed certificate.
pub struct SigningKey {
    /// Key id; as with Entra, the certificate's thumbprint.
    pub kid: String,
    pair: KeyPair,
    modulus: String,
    exponent: String,
    certificate: String,
    /// In the key set.
    pub published: bool,
}

impl SigningKey {
    /// Makes a new key of 2048 bit; takes a moment, so off the runtime's threads.
    pub async fn generate() -> Result<Self, Failure> {
        tokio::task::spawn_blocking(Self::generate_now).await?
    }

    fn generate_now() -> Result<Self, Failure> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
        let for_certificate = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &rustls_pki_types::PrivatePkcs8KeyDer::from(pkcs8.as_ref()),
            &rcgen::PKCS_RSA_SHA256,
        )?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(
            rcgen::DnType::CommonName,
            "Kerbgate lab, emulated token signing",
        );
        let certificate = params.self_signed(&for_certificate)?;
        let public = pair.public_key();
        Ok(Self {
            kid: b64(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.der())),
            modulus: b64(public.modulus().big_endian_without_leading_zero()),
            exponent: b64(public.exponent().big_endian_without_leading_zero()),
            certificate: STANDARD.encode(certificate.der()),
            published: true,
            pair,
        })
    }

    /// Signs with an algorithm of RFC 7518 for RSA keys.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
        let padding: &'static dyn RsaEncoding = match algorithm {
            "RS256" => &signature::RSA_PKCS1_SHA256,
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            _ => return None,
        };
        let mut signed = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(padding, &SystemRandom::new(), message, &mut signed)
            .ok()?;
        Some(signed)
    }

    /// The classic confusion: HMAC with the PEM text of the public key as the secret.
    pub fn sign_hs256_with_public_key(&self, message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.public_pem().as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    }

    /// SubjectPublicKeyInfo as PEM, in the usual lines of 64.
    pub fn public_pem(&self) -> String {
        let public = self.pair.public_key();
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(public).expect("a public key has a form");
        let text = STANDARD.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem
    }

    /// As in the key set; v2 adds the issuer.
    pub fn jwk(&self, issuer: Option<&str>) -> Value {
        let mut jwk = json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": self.modulus,
            "e": self.exponent,
            "x5c": [self.certificate],
        });
        if let Some(issuer) = issuer {
            jwk["cloud_instance_name"] = json!("microsoftonline.com");
            jwk["issuer"] = json!(issuer);
        }
        jwk
    }
}

/// The keys there are and were.
pub struct KeyRing {
    /// Removed keys stay here unpublished, so that a test can still sign with them.
    pub keys: Vec<SigningKey>,
    /// A key that was never published, for forging.
    pub foreign: SigningKey,
    current: String,
}

impl KeyRing {
    /// Some published keys, the first of them signing.
    pub async fn generate(published: usize) -> Result<Self, Failure> {
        let all = (0..=published).map(|_| SigningKey::generate());
        let mut keys = futures_util::future::try_join_all(all).await?;
        let foreign = keys.remove(0);
        let current = keys.first().map(|key| key.kid.clone()).unwrap_or_default();
        Ok(Self {
            keys,
            foreign,
            current,
        })
    }

    /// The key that signs now.
    pub fn current(&self) -> &SigningKey {
        self.by_kid(&self.current).unwrap_or(&self.foreign)
    }

    /// Published or not.
    pub fn by_kid(&self, kid: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// From now on this key signs.
    pub fn sign_with(&mut self, kid: &str) -> bool {
        let known = self.by_kid(kid).is_some();
        if known {
            kid.clone_into(&mut self.current);
        }
        known
    }

    /// Adds a key.
    pub fn add(&mut self, mut key: SigningKey, published: bool) {
        key.published = published;
        self.keys.push(key);
    }

    /// Takes a key into the key set or out of it.
    pub fn publish(&mut self, kid: &str, published: bool) -> bool {
        let Some(key) = self.keys.iter_mut().find(|key| key.kid == kid) else {
            return false;
        };
        key.published = published;
        true
    }

    /// The key set.
    pub fn jwks(&self, issuer: Option<&str>) -> Value {
        let published = self.keys.iter().filter(|key| key.published);
        json!({ "keys": published.map(|key| key.jwk(issuer)).collect::<Vec<_>>() })
    }

    /// For the control API.
    pub fn described(&self) -> Value {
        let keys = self.keys.iter().map(|key| {
            json!({
                "kid": key.kid,
                "published": key.published,
                "signing": key.kid == self.current,
            })
        });
        json!({ "keys": keys.collect::<Vec<_>>(), "foreign_kid": self.foreign.kid })
    }
}
