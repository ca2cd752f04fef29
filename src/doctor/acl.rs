//! Who may act for others towards an account: the security descriptor in
//! `msDS-AllowedToActOnBehalfOfOtherIdentity`. Pure.
//!
//! In: the octets (MS-DTYP 2.4.6, self-relative). Out: whom it allows and whom it denies. Only as much of
//! Windows' access check as resource-based delegation uses: a denial wins, a group counts.

use crate::model::names::Sid;

/// Trustees of a descriptor's access list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trustees {
    /// Whom an entry allows.
    pub allowed: Vec<Sid>,
    /// Whom an entry denies.
    pub denied: Vec<Sid>,
}

// MS-DTYP 2.4.4.1 ACE types.
const ALLOWED: u8 = 0;
const DENIED: u8 = 1;
/// The entry is for children only (MS-DTYP 2.4.4.1, INHERIT_ONLY_ACE).
const INHERIT_ONLY: u8 = 0x08;

impl Trustees {
    /// Reads the discretionary access list of a self-relative security descriptor.
    ///
    /// `None`: the octets are none. A descriptor without a list allows nobody here: what cannot be read as
    /// permission is none.
    #[must_use]
    pub fn read(descriptor: &[u8]) -> Option<Self> {
        let [1, _, _, _, ..] = descriptor else {
            return None;
        };
        let at = usize::try_from(long(descriptor, 16)?).ok()?;
        if at == 0 {
            return Some(Self::default());
        }
        let list = descriptor.get(at..)?;
        let size = usize::from(short(list, 2)?);
        let count = short(list, 4)?;
        let mut rest = list.get(8..size)?;
        let mut trustees = Self::default();
        for _ in 0..count {
            let entry = rest.get(..usize::from(short(rest, 2)?))?;
            rest = rest.get(entry.len()..)?;
            let (kind, flags) = (*entry.first()?, *entry.get(1)?);
            if flags & INHERIT_ONLY != 0 {
                continue;
            }
            let mask = long(entry, 4);
            match kind {
                ALLOWED if mask != Some(0) => trustees.allowed.push(sid(entry.get(8..)?)?),
                DENIED => trustees.denied.push(sid(entry.get(8..)?)?),
                // Object entries are for single attributes: no full right, so no delegation.
                _ => {}
            }
        }
        Some(trustees)
    }

    /// Whether somebody with these SIDs (their own and their groups') may act for others.
    #[must_use]
    pub fn allow(&self, sids: &[Sid]) -> bool {
        !self.denied.iter().any(|sid| sids.contains(sid))
            && self.allowed.iter().any(|sid| sids.contains(sid))
    }
}

/// A SID at the beginning of `bytes`; its second octet says how long it is.
fn sid(bytes: &[u8]) -> Option<Sid> {
    let length = 8 + 4 * usize::from(*bytes.get(1)?);
    Sid::from_bytes(bytes.get(..length)?).ok()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    two.try_into().ok().map(u16::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    /// As read from an account in the lab whose descriptor was made from
    /// `O:BAD:(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;<svc-gateway>)`.
    const REAL: &str = "AQAEgBQAAAAAAAAAAAAAACQAAAABAgAAAAAABSAAAAAgAgAABAAsAAEAAAAAACQA/wEPAAEFAAAAAAAFFQAAAPHYyVUHhMQ9GKG8klcEAAA=";
    const GATEWAY: &str = "S-1-5-21-1439291633-1036289031-2461835544-1111";

    fn of(text: &str) -> Sid {
        text.parse().unwrap()
    }

    #[test]
    fn a_real_descriptor_names_the_gateway_and_nobody_else() {
        let trustees = Trustees::read(&STANDARD.decode(REAL).unwrap()).unwrap();
        assert_eq!(trustees.allowed, [of(GATEWAY)]);
        assert!(trustees.allow(&[of("S-1-5-21-1-2-3-513"), of(GATEWAY)]));
        assert!(!trustees.allow(&[of("S-1-5-21-1439291633-1036289031-2461835544-1112")]));
        assert!(!trustees.allow(&[]));
    }

    #[test]
    fn a_denial_wins_and_entries_for_children_do_not_count() {
        let mut bytes = STANDARD.decode(REAL).unwrap();
        bytes[0x24 + 8] = DENIED;
        assert!(!Trustees::read(&bytes).unwrap().allow(&[of(GATEWAY)]));
        bytes[0x24 + 8] = ALLOWED;
        bytes[0x24 + 9] = INHERIT_ONLY;
        assert_eq!(Trustees::read(&bytes).unwrap(), Trustees::default());
    }

    #[test]
    fn without_a_list_nobody_is_allowed() {
        let mut bytes = STANDARD.decode(REAL).unwrap();
        bytes[16] = 0;
        assert_eq!(Trustees::read(&bytes), Some(Trustees::default()));
        assert_eq!(Trustees::read(&bytes[..40]), Some(Trustees::default()));
        assert_eq!(Trustees::read(b""), None);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(at in 0_usize..80, value: u8, cut in 0_usize..90) {
            let mut bytes = STANDARD.decode(REAL).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            drop(Trustees::read(&bytes));
        }
    }
}
