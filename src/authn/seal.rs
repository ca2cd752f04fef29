//! Sealing of what must be kept but not read: refresh tokens and PKCE verifiers in the store.
//!
//! `v1.<key id>.<nonce, ciphertext, tag>` under AES-256-GCM-SIV (RFC 8452: safe with random nonces on many nodes), bound
//! to purpose and record by the associated data. The current key seals; the one before still opens.

use std::fs::OpenOptions;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::aead::AES_256_GCM_SIV;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::secret::Secret;

/// Why a key or a sealed value is not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// A secret that is too short.
    #[error("the seal key has {0} characters, at least 32 are needed")]
    TooShort(usize),
    /// A key file that cannot be read or made.
    #[error("seal key file {path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// Sealed with a key that is no longer known.
    #[error("sealed with the unknown key {0:?}")]
    KeyUnknown(String),
    /// Altered, or sealed for something else.
    #[error("the sealed value was altered or belongs to something else")]
    Broken,
}

/// What a sealed value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A sign-in's refresh token.
    RefreshToken,
    /// A login's PKCE verifier.
    Verifier,
    /// A form that waits for its person.
    KeptForm,
    /// What ACME keeps: keys of accounts and certificates.
    Acme,
}

/// The current key, and the one before.
pub struct Keyring {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    aead: RandomizedNonceKey,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| &key.id))
            .finish()
    }
}

impl Keyring {
    /// Keys from configured secrets.
    ///
    /// # Errors
    /// A secret is too short to be one.
    pub fn from_secrets(
        current: &Secret<String>,
        previous: Option<&Secret<String>>,
    ) -> Result<Self, SealError> {
        let keys = std::iter::once(current)
            .chain(previous)
            .map(|secret| Key::derive(secret.expose().trim()))
            .collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// The key in `path`, made on the first start (mode 0600).
    ///
    /// # Errors
    /// The file cannot be read or made, or holds no key.
    pub fn from_file(path: &Path) -> Result<Self, SealError> {
        let failed = |e: std::io::Error| SealError::File {
            path: path.display().to_string(),
            cause: e.to_string(),
        };
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| SealError::Broken)?;
        let fresh = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match fresh {
            Ok(mut file) => {
                let text = URL_SAFE_NO_PAD.encode(random);
                file.write_all(text.as_bytes()).map_err(failed)?;
                file.sync_all().map_err(failed)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e)),
        }
        let mut text = String::new();
        OpenOptions::new()
            .read(true)
            .open(path)
            .and_then(|file| file.take(4096).read_to_string(&mut text))
            .map_err(failed)?;
        Self::from_secrets(&Secret::new(text), None)
    }

    /// Seals `plain` for one purpose and one record.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn seal(&self, purpose: Purpose, record: &str, plain: &str) -> Result<String, SealError> {
        let key = self.keys.first().ok_or(SealError::Broken)?;
        let mut data = plain.as_bytes().to_vec();
        let nonce = key
            .aead
            .seal_in_place_append_tag(associated(purpose, record), &mut data)
            .map_err(|_| SealError::Broken)?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut data);
        Ok(format!("v1.{}.{}", key.id, URL_SAFE_NO_PAD.encode(whole)))
    }

    /// True when the current key sealed it; what lives for long is sealed anew before the key goes.
    #[must_use]
    pub fn is_current(&self, sealed: &str) -> bool {
        let current = self.keys.first().map(|key| key.id.as_str());
        sealed.split('.').nth(1) == current
    }

    /// Opens what was sealed for the same purpose and record.
    ///
    /// # Errors
    /// Another key, another purpose, another record, or altered.
    pub fn open(
        &self,
        purpose: Purpose,
        record: &str,
        sealed: &str,
    ) -> Result<Secret<String>, SealError> {
        let mut parts = sealed.split('.');
        let (Some("v1"), Some(id), Some(data), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SealError::Broken);
        };
        let key = self
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| SealError::KeyUnknown(id.chars().take(16).collect()))?;
        let whole = URL_SAFE_NO_PAD
            .decode(data)
            .map_err(|_| SealError::Broken)?;
        let (nonce, data) = whole.split_at_checked(12).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
        let mut data = data.to_vec();
        let plain = key
            .aead
            .open_in_place(nonce, associated(purpose, record), &mut data)
            .map_err(|_| SealError::Broken)?;
        let text = std::str::from_utf8(plain).map_err(|_| SealError::Broken)?;
        Ok(Secret::new(text.to_owned()))
    }
}

impl Key {
    fn derive(secret: &str) -> Result<Self, SealError> {
        if secret.len() < 32 {
            return Err(SealError::TooShort(secret.len()));
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"kerbgate seal v1");
        let master = salt.extract(secret.as_bytes());
        let (mut key, mut id) = ([0; 32], [0; 6]);
        expand(&master, b"aes-256-gcm-siv", &mut key)?;
        expand(&master, b"key id", &mut id)?;
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(id),
            aead: RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).map_err(|_| SealError::Broken)?,
        })
    }
}

fn expand(master: &hkdf::Prk, label: &[u8], out: &mut [u8]) -> Result<(), SealError> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    master
        .expand(&[label], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| SealError::Broken)
}

fn associated(purpose: Purpose, record: &str) -> Aad<Vec<u8>> {
    let purpose = match purpose {
        Purpose::RefreshToken => "refresh-token",
        Purpose::Verifier => "verifier",
        Purpose::KeptForm => "kept-form",
        Purpose::Acme => "acme",
    };
    Aad::from([purpose.as_bytes(), b"\0", record.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(current: &str, previous: Option<&str>) -> Keyring {
        let long = |text: &str| Secret::new(text.repeat(32));
        Keyring::from_secrets(&long(current), previous.map(long).as_ref()).unwrap()
    }

    #[test]
    fn no_bit_can_be_flipped_and_no_value_moved() {
        let ring = ring("a", None);
        let sealed = ring.seal(Purpose::RefreshToken, "1", "canary").unwrap();
        let open = |purpose, record, sealed: &str| ring.open(purpose, record, sealed);
        assert_eq!(
            open(Purpose::RefreshToken, "1", &sealed).unwrap().expose(),
            "canary"
        );
        assert!(open(Purpose::RefreshToken, "2", &sealed).is_err());
        assert!(open(Purpose::Verifier, "1", &sealed).is_err());
        let (head, data) = sealed.rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(data).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let bent = format!("{head}.{}", URL_SAFE_NO_PAD.encode(bent));
            assert!(
                open(Purpose::RefreshToken, "1", &bent).is_err(),
                "bit {bit}"
            );
        }
        for garbage in [
            "",
            "v1",
            "v1.x",
            "v2.a.b",
            "v1.a.b.c",
            &format!("{head}.AAAA"),
        ] {
            assert!(open(Purpose::RefreshToken, "1", garbage).is_err());
        }
        assert_ne!(
            sealed,
            ring.seal(Purpose::RefreshToken, "1", "canary").unwrap()
        );
    }

    #[test]
    fn the_key_before_opens_and_then_dies() {
        let old = ring("a", None).seal(Purpose::Verifier, "1", "x").unwrap();
        let overlap = ring("b", Some("a"));
        assert!(overlap.open(Purpose::Verifier, "1", &old).is_ok());
        assert!(!overlap.is_current(&old));
        let new = overlap.seal(Purpose::Verifier, "1", "x").unwrap();
        let after = ring("b", None);
        assert!(after.open(Purpose::Verifier, "1", &new).is_ok());
        assert!(overlap.is_current(&new) && after.is_current(&new));
        assert!(matches!(
            after.open(Purpose::Verifier, "1", &old).unwrap_err(),
            SealError::KeyUnknown(_)
        ));
    }

    #[test]
    fn a_key_file_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let sealed = Keyring::from_file(&path)
            .unwrap()
            .seal(Purpose::Verifier, "1", "x")
            .unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let again = Keyring::from_file(&path).unwrap();
        assert_eq!(
            again
                .open(Purpose::Verifier, "1", &sealed)
                .unwrap()
                .expose(),
            "x"
        );
        std::fs::write(&path, "short").unwrap();
        assert_eq!(
            Keyring::from_file(&path).unwrap_err(),
            SealError::TooShort(5)
        );
    }
}
