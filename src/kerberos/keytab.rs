//! Reading a keytab (MIT file format version 2): who is in it, which keys, how old.
//!
//! libkrb5 reads the keys itself; this reader exists so that a wrong file is refused at start with its
//! reason instead of at the first guest with `KDC_ERR_PREAUTH_FAILED`. Key material is skipped, never kept.
//! Format: MIT Kerberos documentation, "Keytab file format".

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::model::names::Principal;

/// What is wrong with a keytab file.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeytabError {
    /// Not there, or not for us.
    #[error(
        "keytab {path}: cannot be read: {reason}; let the gateway's user read it, or export it again with ktpass (Samba: samba-tool domain exportkeytab)"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// Everybody on the machine could read the gateway's key, or change it.
    #[error("keytab {path}: mode {mode:o} lets others in; run: chmod 0600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a keytab, or cut off.
    #[error(
        "keytab {path}: {what} at byte {offset}; export it again with ktpass (Samba: samba-tool domain exportkeytab)"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was met.
        what: &'static str,
        /// Where.
        offset: usize,
    },
    /// A good keytab of somebody else.
    #[error(
        "keytab {path}: holds no key of {principal}, only of {found}; for {principal}, export it again with ktpass (Samba: samba-tool domain exportkeytab)"
    )]
    OtherPrincipal {
        /// The file.
        path: PathBuf,
        /// Who was looked for.
        principal: String,
        /// Who is in it.
        found: String,
    },
    /// Only keys of types that are switched off.
    #[error(
        "keytab {path}: {principal} has no AES key, only {found}; set msDS-SupportedEncryptionTypes to 24, then its password, then export it again with ktpass (Samba: samba-tool domain exportkeytab)"
    )]
    NoStrongKey {
        /// The file.
        path: PathBuf,
        /// Whose keys.
        principal: String,
        /// The types found.
        found: String,
    },
}

/// An encryption type (RFC 3961 section 8 and its IANA registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Enctype(pub u16);

impl Enctype {
    /// aes256-cts-hmac-sha1-96
    pub const AES256_SHA1: Self = Self(18);
    /// aes128-cts-hmac-sha1-96
    pub const AES128_SHA1: Self = Self(17);
    /// rc4-hmac
    pub const RC4: Self = Self(23);

    /// AES of any form; everything else is off by default (RFC 8429).
    #[must_use]
    pub const fn is_aes(self) -> bool {
        matches!(self.0, 17..=20)
    }
}

impl fmt::Display for Enctype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("des-cbc-crc"),
            3 => f.write_str("des-cbc-md5"),
            16 => f.write_str("des3-cbc-sha1"),
            17 => f.write_str("aes128-cts-hmac-sha1-96"),
            18 => f.write_str("aes256-cts-hmac-sha1-96"),
            19 => f.write_str("aes128-cts-hmac-sha256-128"),
            20 => f.write_str("aes256-cts-hmac-sha384-192"),
            23 => f.write_str("rc4-hmac"),
            other => write!(f, "enctype {other}"),
        }
    }
}

/// One entry: whose key, of which version and type, from when. Not the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `components/joined@REALM`.
    pub principal: String,
    /// Key version number.
    pub kvno: u32,
    /// Encryption type.
    pub enctype: Enctype,
    /// When the key was written, seconds since the Unix epoch.
    pub written: u32,
}

/// What tells one version of the file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// A keytab that was read and found sound.
#[derive(Clone, Debug)]
pub struct Keytab {
    path: PathBuf,
    entries: Vec<Entry>,
    fingerprint: Fingerprint,
    mode: u32,
}

const LARGEST: u64 = 1 << 20;

impl Keytab {
    /// Reads and checks the file's form and mode.
    ///
    /// # Errors
    /// The file is missing, open to others, or no keytab.
    pub fn read(path: &Path) -> Result<Self, KeytabError> {
        let unreadable = |reason: std::io::Error| KeytabError::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let file = fs::File::open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(unreadable(std::io::Error::other("not a regular file")));
        }
        let mode = meta.mode() & 0o7777;
        // SECURITY: whoever reads this file can act as the gateway, and through it as every guest.
        if mode & 0o027 != 0 {
            return Err(KeytabError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut bytes = Vec::new();
        file.take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        let entries = parse(&bytes).map_err(|(what, offset)| KeytabError::Malformed {
            path: path.to_owned(),
            what,
            offset,
        });
        zeroize::Zeroize::zeroize(&mut bytes);
        Ok(Self {
            path: path.to_owned(),
            entries: entries?,
            fingerprint: Fingerprint {
                inode: meta.ino(),
                size: meta.size(),
                seconds: meta.mtime(),
                nanoseconds: meta.mtime_nsec(),
            },
            mode,
        })
    }

    /// The file's present fingerprint, to be compared with [`Keytab::fingerprint`].
    ///
    /// # Errors
    /// The file is missing.
    pub fn fingerprint_of(path: &Path) -> Result<Fingerprint, KeytabError> {
        let meta = fs::metadata(path).map_err(|reason| KeytabError::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        })?;
        Ok(Fingerprint {
            inode: meta.ino(),
            size: meta.size(),
            seconds: meta.mtime(),
            nanoseconds: meta.mtime_nsec(),
        })
    }

    /// Checks that `principal` can log in with it.
    ///
    /// # Errors
    /// The keytab is somebody else's, or holds only weak keys and `allow_rc4` is not set.
    pub fn check(&self, principal: &Principal, allow_rc4: bool) -> Result<(), KeytabError> {
        let own: Vec<&Entry> = self.entries_of(principal).collect();
        if own.is_empty() {
            return Err(KeytabError::OtherPrincipal {
                path: self.path.clone(),
                principal: principal.to_string(),
                found: listed(self.entries.iter().map(|entry| entry.principal.clone())),
            });
        }
        let usable = own
            .iter()
            .any(|entry| entry.enctype.is_aes() || (allow_rc4 && entry.enctype == Enctype::RC4));
        // RFC 8429: RC4 and DES are broken.
        if !usable {
            return Err(KeytabError::NoStrongKey {
                path: self.path.clone(),
                principal: principal.to_string(),
                found: listed(own.iter().map(|entry| entry.enctype.to_string())),
            });
        }
        Ok(())
    }

    /// All entries, in the file's order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of `principal`. Exact, as libkrb5 compares.
    pub fn entries_of(&self, principal: &Principal) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.principal == principal.as_str())
    }

    /// The newest key version of `principal`, to be compared with `msDS-KeyVersionNumber`.
    #[must_use]
    pub fn newest_kvno(&self, principal: &Principal) -> Option<u32> {
        self.entries_of(principal).map(|entry| entry.kvno).max()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this version of the file from the next.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the file's group may read it: allowed, but worth a line in the log.
    #[must_use]
    pub const fn is_group_readable(&self) -> bool {
        self.mode & 0o040 != 0
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return "nobody".to_owned();
    }
    names.join(", ")
}

type Wrong = (&'static str, usize);

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Wrong> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.take(2, "no keytab header")? {
        [5, 2] => {}
        [5, 1] => return Err(("the keytab has format version 1, only version 2 is read", 0)),
        _ => return Err(("this is not a keytab (it does not begin with 05 02)", 0)),
    }
    let mut entries = Vec::new();
    while reader.at < bytes.len() {
        let size = i32::from_be_bytes(reader.array("a cut-off entry length")?);
        let length = usize::try_from(size.unsigned_abs()).unwrap_or(usize::MAX);
        let start = reader.at;
        let body = reader.take(length, "a cut-off entry")?;
        // A negative length is a hole that a deleted entry left; zero ends the file.
        if size == 0 {
            break;
        }
        if size > 0 {
            entries.push(entry(body).map_err(|(what, at)| (what, start + at))?);
        }
    }
    if entries.is_empty() {
        return Err(("the keytab is empty", reader.at));
    }
    Ok(entries)
}

fn entry(body: &[u8]) -> Result<Entry, Wrong> {
    let mut reader = Reader { bytes: body, at: 0 };
    let components = u16::from_be_bytes(reader.array("a cut-off entry")?);
    let realm = reader.counted()?;
    let mut parts = Vec::new();
    for _ in 0..components {
        parts.push(reader.counted()?);
    }
    let _name_type: [u8; 4] = reader.array("a cut-off name type")?;
    let written = u32::from_be_bytes(reader.array("a cut-off timestamp")?);
    let [short_kvno] = reader.array("a cut-off key version")?;
    let enctype = u16::from_be_bytes(reader.array("a cut-off key type")?);
    let key_length = u16::from_be_bytes(reader.array("a cut-off key length")?);
    reader.take(usize::from(key_length), "a cut-off key")?;
    // A 32-bit key version follows if there is room, and wins unless it is zero.
    let kvno = match reader.array("") {
        Ok(bytes) if u32::from_be_bytes(bytes) != 0 => u32::from_be_bytes(bytes),
        Ok(_) | Err(_) => u32::from(short_kvno),
    };
    Ok(Entry {
        principal: format!("{}@{realm}", parts.join("/")),
        kvno,
        enctype: Enctype(enctype),
        written,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Wrong> {
        let end = self.at.checked_add(count).ok_or((what, self.at))?;
        let taken = self.bytes.get(self.at..end).ok_or((what, self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Wrong> {
        let at = self.at;
        self.take(N, what)?.try_into().map_err(|_| (what, at))
    }

    fn counted(&mut self) -> Result<String, Wrong> {
        let at = self.at;
        let length = u16::from_be_bytes(self.array("a cut-off name")?);
        let bytes = self.take(usize::from(length), "a cut-off name")?;
        String::from_utf8(bytes.to_vec()).map_err(|_| ("a name that is not UTF-8", at))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn counted(text: &str) -> Vec<u8> {
        let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        out.extend(text.as_bytes());
        out
    }

    fn entry_bytes(parts: &[&str], realm: &str, kvno: u32, enctype: u16) -> Vec<u8> {
        let mut body = u16::try_from(parts.len()).unwrap().to_be_bytes().to_vec();
        body.extend(counted(realm));
        parts.iter().for_each(|part| body.extend(counted(part)));
        body.extend(1_u32.to_be_bytes());
        body.extend(1_700_000_000_u32.to_be_bytes());
        body.push(u8::try_from(kvno & 0xff).unwrap());
        body.extend(enctype.to_be_bytes());
        body.extend(32_u16.to_be_bytes());
        body.extend([0x5a; 32]);
        body.extend(kvno.to_be_bytes());
        let mut out = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        out.extend(body);
        out
    }

    fn keytab(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![5, 2];
        entries.iter().for_each(|entry| out.extend(entry));
        out
    }

    fn on_disk(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.keytab");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn gateway() -> Principal {
        "svc-gateway@CONTOSO.TEST".parse().unwrap()
    }

    #[test]
    fn entries_are_read_and_holes_skipped() {
        let mut hole = (-8_i32).to_be_bytes().to_vec();
        hole.extend([0; 8]);
        let bytes = keytab(&[
            entry_bytes(&["svc-gateway"], "CONTOSO.TEST", 300, 18),
            hole,
            entry_bytes(&["HTTP", "web.contoso.test"], "CONTOSO.TEST", 2, 23),
        ]);
        let (_dir, path) = on_disk(&bytes, 0o600);
        let read = Keytab::read(&path).unwrap();
        assert_eq!(read.entries().len(), 2);
        assert_eq!(
            read.entries()[1].principal,
            "HTTP/web.contoso.test@CONTOSO.TEST"
        );
        assert_eq!(read.newest_kvno(&gateway()), Some(300));
        assert!(read.check(&gateway(), false).is_ok());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let bytes = keytab(&[entry_bytes(&["svc-gateway"], "CONTOSO.TEST", 1, 18)]);
        for mode in [0o604, 0o660, 0o602, 0o644, 0o620] {
            let (_dir, path) = on_disk(&bytes, mode);
            assert!(
                matches!(Keytab::read(&path), Err(KeytabError::Exposed { .. })),
                "{mode:o}"
            );
        }
        let (_dir, path) = on_disk(&bytes, 0o640);
        assert!(Keytab::read(&path).unwrap().is_group_readable());
    }

    #[test]
    fn the_wrong_account_is_named_with_those_that_are_there() {
        let bytes = keytab(&[entry_bytes(&["svc-other"], "CONTOSO.TEST", 1, 18)]);
        let (_dir, path) = on_disk(&bytes, 0o600);
        let error = Keytab::read(&path)
            .unwrap()
            .check(&gateway(), false)
            .unwrap_err();
        assert!(
            error.to_string().ends_with(
                "holds no key of svc-gateway@CONTOSO.TEST, only of svc-other@CONTOSO.TEST; \
                 for svc-gateway@CONTOSO.TEST, export it again with ktpass \
                 (Samba: samba-tool domain exportkeytab)"
            ),
            "{error}"
        );
    }

    #[test]
    fn rc4_alone_is_refused_unless_allowed() {
        let bytes = keytab(&[entry_bytes(&["svc-gateway"], "CONTOSO.TEST", 1, 23)]);
        let (_dir, path) = on_disk(&bytes, 0o600);
        let read = Keytab::read(&path).unwrap();
        assert!(matches!(
            read.check(&gateway(), false),
            Err(KeytabError::NoStrongKey { .. })
        ));
        assert!(read.check(&gateway(), true).is_ok());
    }

    #[test]
    fn every_cut_of_a_good_keytab_is_refused_or_sound() {
        let bytes = keytab(&[
            entry_bytes(&["svc-gateway"], "CONTOSO.TEST", 1, 18),
            entry_bytes(&["svc-gateway"], "CONTOSO.TEST", 2, 18),
        ]);
        let whole_entry = 2 + (bytes.len() - 2) / 2;
        for length in 0..bytes.len() {
            let cut = parse(&bytes[..length]);
            assert_eq!(cut.is_ok(), length == whole_entry, "cut at {length}");
        }
    }

    #[test]
    fn nonsense_and_absence_have_their_own_words() {
        let (_dir, path) = on_disk(b"-----BEGIN PRIVATE KEY-----", 0o600);
        let error = Keytab::read(&path).unwrap_err().to_string();
        assert!(error.contains("this is not a keytab"), "{error}");
        let error = Keytab::read(Path::new("/nonexistent/k"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
