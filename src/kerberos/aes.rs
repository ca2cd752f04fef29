//! AES as Kerberos uses it: `aes128-` and `aes256-cts-hmac-sha1-96` (RFC 3962 over RFC 3961 5.3).
//!
//! In: a session key and a key usage number. Out: a [`Sealer`] or an [`Opener`], their keys derived once.
//!
//! # Why here and not in libkrb5
//!
//! libkrb5's own functions need a context a thread and unsafe calls, and derive keys without a lock. What
//! is composed here, CBC and HMAC, is aws-lc's; the composition is held to the RFCs' own test vectors.

use aws_lc_rs::cipher::AES_128;
use aws_lc_rs::cipher::AES_256;
use aws_lc_rs::cipher::DecryptingKey;
use aws_lc_rs::cipher::DecryptionContext;
use aws_lc_rs::cipher::EncryptingKey;
use aws_lc_rs::cipher::EncryptionContext;
use aws_lc_rs::cipher::UnboundCipherKey;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

/// AES's block, and the length of a confounder.
pub(super) const BLOCK: usize = 16;
/// The part of HMAC-SHA-1 that is sent.
pub(super) const MAC: usize = 12;

/// RFC 3961 5.3: the last octet of a derivation constant.
const ENCRYPTION: u8 = 0xaa;
const INTEGRITY: u8 = 0x55;

/// Whether a session key of this number and length is one that can be used here.
pub(super) fn is_usable(enctype: u32, key: &[u8]) -> bool {
    matches!((enctype, key.len()), (17, 16) | (18, 32))
}

/// Encrypts under one key for one usage.
pub(super) struct Sealer {
    cipher: EncryptingKey,
    integrity: hmac::Key,
}

/// Decrypts under one key for one usage.
pub(super) struct Opener {
    cipher: DecryptingKey,
    integrity: hmac::Key,
}

impl Sealer {
    /// For `usage` (RFC 4120 7.5.1) under `key`, of 16 or 32 octets.
    pub(super) fn new(key: &[u8], usage: u32) -> Option<Self> {
        Some(Self {
            cipher: EncryptingKey::cbc(unbound(&derive(key, usage, ENCRYPTION)?)?).ok()?,
            integrity: integrity(key, usage)?,
        })
    }

    /// Encrypts `out` from `start` to its end and appends the checksum. What stands there begins with a
    /// random confounder of [`BLOCK`] octets.
    pub(super) fn seal(&self, out: &mut Vec<u8>, start: usize) -> Option<()> {
        let length = out.len().checked_sub(start)?;
        if length <= BLOCK {
            return None;
        }
        let tag = hmac::sign(&self.integrity, out.get(start..)?);
        let padded = length.next_multiple_of(BLOCK);
        out.resize(start + padded, 0);
        let text = out.get_mut(start..)?;
        // RFC 3962 5: the initial vector is zero, the confounder makes each text another.
        let vector = EncryptionContext::Iv128(FixedLength::from(&[0; BLOCK]));
        self.cipher.less_safe_encrypt(text, vector).ok()?;
        // RFC 3962 5, ciphertext stealing: the last two blocks change places, the very last is cut.
        let (last_but_one, last) = text
            .get_mut(padded - 2 * BLOCK..)?
            .split_at_mut_checked(BLOCK)?;
        last_but_one.swap_with_slice(last);
        out.truncate(start + length);
        out.extend_from_slice(tag.as_ref().get(..MAC)?);
        Some(())
    }
}

impl Opener {
    /// For `usage` (RFC 4120 7.5.1) under `key`, of 16 or 32 octets.
    pub(super) fn new(key: &[u8], usage: u32) -> Option<Self> {
        Some(Self {
            cipher: DecryptingKey::ecb(unbound(&derive(key, usage, ENCRYPTION)?)?).ok()?,
            integrity: integrity(key, usage)?,
        })
    }

    /// What `sealed` says, without its confounder; nothing where it was not made with this key.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(MAC)?)?;
        if text.len() <= BLOCK {
            return None;
        }
        let plain = self.decrypt(text)?;
        let made = hmac::sign(&self.integrity, &plain);
        // SECURITY: without this a backend that does not know the key could answer anything.
        verify_slices_are_equal(made.as_ref().get(..MAC)?, tag).ok()?;
        Some(plain.get(BLOCK..)?.to_vec())
    }

    fn decrypt(&self, text: &[u8]) -> Option<Vec<u8>> {
        let blocks = text.len().div_ceil(BLOCK);
        let tail = text.len() - (blocks - 1) * BLOCK;
        let (head, rest) = text.split_at_checked((blocks - 2) * BLOCK)?;
        let (last, stolen) = rest.split_at_checked(BLOCK)?;
        // The last block, decrypted alone, gives back what was cut off the one before it.
        let mut end = last.to_vec();
        self.blocks(&mut end)?;
        let mut chain = head.to_vec();
        chain.extend_from_slice(stolen);
        chain.extend_from_slice(end.get(tail..)?);
        let mut plain = chain.clone();
        self.blocks(&mut plain)?;
        // CBC: each block over the ciphertext before it, the first over zeros.
        for (byte, before) in plain.iter_mut().skip(BLOCK).zip(&chain) {
            *byte ^= *before;
        }
        plain.extend(end.iter().zip(stolen).map(|(byte, over)| byte ^ over));
        Some(plain)
    }

    fn blocks(&self, text: &mut [u8]) -> Option<()> {
        self.cipher.decrypt(text, DecryptionContext::None).ok()?;
        Some(())
    }
}

fn unbound(key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    UnboundCipherKey::new(algorithm, key).ok()
}

fn integrity(key: &[u8], usage: u32) -> Option<hmac::Key> {
    let key = derive(key, usage, INTEGRITY)?;
    Some(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key))
}

/// DK (RFC 3961 5.1): as many blocks, each the encryption of the one before, as the key is long.
fn derive(key: &[u8], usage: u32, purpose: u8) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = EncryptingKey::ecb(unbound(key)?).ok()?;
    let [a, b, c, d] = usage.to_be_bytes();
    let mut block = fold(&[a, b, c, d, purpose]);
    let mut derived = Zeroizing::new(Vec::with_capacity(key.len()));
    while derived.len() < key.len() {
        cipher
            .less_safe_encrypt(&mut block, EncryptionContext::None)
            .ok()?;
        derived.extend_from_slice(&block);
    }
    zeroize::Zeroize::zeroize(&mut block);
    Some(derived)
}

/// n-fold (RFC 3961 5.1) to 128 bits: as many copies as fill whole blocks, each turned 13 bits further than
/// the one before, the blocks added up with the carry brought round.
fn fold(input: &[u8]) -> [u8; BLOCK] {
    let bits = input.len() * 8;
    let bit = |at: usize| {
        let (copy, within) = (at / bits, at % bits);
        let from = (within + bits - (copy * 13) % bits) % bits;
        let byte = input.get(from / 8).copied().unwrap_or(0);
        u128::from((byte >> (7 - from % 8)) & 1)
    };
    let mut sum = 0_u128;
    // Five octets, and any number that has no factor with 16, fill as many blocks as they are octets.
    let blocks = (1..=input.len()).find(|count| (count * BLOCK).is_multiple_of(input.len()));
    for block in 0..blocks.unwrap_or(0) {
        let value = (0..128).fold(0, |value, at| (value << 1) | bit(block * 128 + at));
        let (added, carried) = sum.overflowing_add(value);
        sum = added + u128::from(carried);
    }
    sum.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    /// The 128-bit constant that every Kerberos library derives its keys from (RFC 3961 A.3).
    #[test]
    fn constants_are_folded_as_in_the_rfc() {
        let folded = fold(b"kerberos");
        assert_eq!(folded[..], hex("6b65726265726f737b9b5b2b93132b93"));
    }

    /// RFC 3962 appendix B, key and texts.
    #[test]
    fn ciphertext_stealing_is_that_of_the_rfc() {
        let key = b"chicken teriyaki";
        let cipher = |key: &[u8]| Sealer {
            cipher: EncryptingKey::cbc(unbound(key).unwrap()).unwrap(),
            integrity: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key),
        };
        let opener = Opener {
            cipher: DecryptingKey::ecb(unbound(key).unwrap()).unwrap(),
            integrity: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key),
        };
        let text = b"I would like the General Gau's Chicken, please, and wonton soup.";
        for (length, want) in [
            (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
            (
                31,
                "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5",
            ),
            (
                32,
                "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584",
            ),
            (
                64,
                "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a8\
                 4807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
            ),
        ] {
            let mut out = text[..length].to_vec();
            cipher(key).seal(&mut out, 0).unwrap();
            assert_eq!(out.len(), length + MAC);
            assert_eq!(out[..length], hex(want), "{length}");
            assert_eq!(opener.open(&out).unwrap(), text[BLOCK..length], "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_what_was_changed_does_not(
            text in proptest::collection::vec(any::<u8>(), 17..300),
            at in any::<proptest::sample::Index>(),
            long in any::<bool>(),
        ) {
            let key = vec![7; if long { 32 } else { 16 }];
            let mut out = vec![1, 2, 3];
            out.extend(&text);
            Sealer::new(&key, 11).unwrap().seal(&mut out, 3).unwrap();
            let opener = Opener::new(&key, 11).unwrap();
            prop_assert_eq!(opener.open(&out[3..]).unwrap(), &text[BLOCK..]);
            prop_assert!(Opener::new(&key, 12).unwrap().open(&out[3..]).is_none());
            let at = at.index(out.len() - 3) + 3;
            out[at] ^= 1;
            prop_assert!(opener.open(&out[3..]).is_none());
        }

        #[test]
        fn nonsense_is_refused(sealed in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Opener::new(&[7; 32], 12).unwrap().open(&sealed).is_none());
        }
    }
}
