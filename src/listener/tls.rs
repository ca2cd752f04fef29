//! Certificates towards clients, chosen by SNI (RFC 6066 3), replaced as a whole while serving.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use super::ordered;
use super::ordered::Ordered;

/// What is wrong with a certificate or its key.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The chain's file.
    #[error("certificate chain {path}: {problem}", path = path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key's file.
    #[error("private key {path}: {problem}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Two files that do not belong together.
    #[error("private key {key} does not belong to the first certificate of {chain}", key = key.display(), chain = chain.display())]
    Mismatch {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The TLS library refused the settings.
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
    /// There is nothing to serve with.
    #[error("no certificate is configured")]
    None,
}

#[derive(Debug, Default)]
struct Table {
    /// `intranet.example.com`, or `*.example.com` for a wildcard.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    first: Option<Arc<CertifiedKey>>,
    /// The end of each leaf, in seconds since 1970, with its file.
    ends: Vec<(PathBuf, i64)>,
}

/// The certificates in use.
#[derive(Debug, Default)]
pub struct Certificates {
    files: ArcSwap<Table>,
    ordered: ArcSwap<Ordered>,
}

impl Certificates {
    /// Reads pairs of files: chain (leaf first) and key, both PEM.
    ///
    /// # Errors
    /// Everything that is wrong, each with its file.
    pub fn load(pairs: &[(PathBuf, PathBuf)]) -> Result<Self, Vec<CertificateError>> {
        Ok(Self {
            files: ArcSwap::from_pointee(read(pairs)?),
            ordered: ArcSwap::default(),
        })
    }

    /// Reads them again; new connections get the new ones.
    ///
    /// # Errors
    /// As [`Self::load`]; the old ones stay in use.
    pub fn reload(&self, pairs: &[(PathBuf, PathBuf)]) -> Result<(), Vec<CertificateError>> {
        self.files.store(Arc::new(read(pairs)?));
        Ok(())
    }

    /// Takes over the files that were loaded elsewhere and found good; new connections get them.
    pub fn adopt(&self, loaded: &Self) {
        self.files.store(loaded.files.load_full());
    }

    /// Takes what was ordered, in place of what was ordered before; new connections get it.
    pub fn set_ordered(&self, ordered: Ordered) {
        self.ordered.store(Arc::new(ordered));
    }

    /// The chains whose first certificate ends before `time`, in seconds since 1970, each with its end.
    #[must_use]
    pub fn ending_before(&self, time: i64) -> Vec<(PathBuf, i64)> {
        let table = self.files.load();
        let ending = table.ends.iter().filter(|(_, end)| *end < time);
        ending.cloned().collect()
    }

    /// True when a certificate is valid for `host`, itself or by a wildcard.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.ordered.load().certificate(host).is_some()
            || !candidates(&self.files.load(), host).is_empty()
    }

    /// Whether a client that named `sni` in its handshake was shown what is valid for `host` too. A host that no
    /// certificate here is for says nothing: somebody else shows one for it.
    #[must_use]
    pub fn serve_together(&self, sni: &str, host: &str) -> bool {
        let (files, ordered) = (self.files.load(), self.ordered.load());
        let of = |name: &str| {
            let ordered = ordered.certificate(name).into_iter();
            ordered
                .chain(candidates(&files, name))
                .cloned()
                .collect::<Vec<_>>()
        };
        let (shown, wanted) = (of(sni), of(host));
        wanted.is_empty()
            || wanted
                .iter()
                .any(|one| shown.iter().any(|other| Arc::ptr_eq(one, other)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if ordered::asks_for_proof(&hello) {
            let host = hello.server_name()?.to_ascii_lowercase();
            return self.ordered.load().proofs.get(&host).cloned();
        }
        let table = self.files.load();
        // A client without SNI (a health check by address) gets some certificate and will judge it; one
        // that names a host which is not ours is told so.
        let Some(name) = hello.server_name() else {
            return table.first.clone();
        };
        let name = name.to_ascii_lowercase();
        let ordered = self.ordered.load();
        let ordered = ordered.certificate(&name).into_iter();
        let fits =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        ordered.chain(candidates(&table, &name)).find(fits).cloned()
    }
}

fn candidates<'a>(table: &'a Table, host: &str) -> &'a [Arc<CertifiedKey>] {
    if let Some(keys) = table.by_name.get(host) {
        return keys;
    }
    // RFC 9525 6.3: a wildcard stands for the whole left-most label, nothing else.
    let wildcard = host
        .split_once('.')
        .map(|(_, parent)| format!("*.{parent}"));
    wildcard
        .and_then(|name| table.by_name.get(&name))
        .map_or(&[], Vec::as_slice)
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, sessions resumed by tickets that only this process can open.
///
/// # Errors
/// When the TLS library refuses the settings.
pub fn server_config(
    certificates: Arc<Certificates>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", ordered::ACME_TLS]
        .map(<[u8]>::to_vec)
        .to_vec();
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn read(pairs: &[(PathBuf, PathBuf)]) -> Result<Table, Vec<CertificateError>> {
    let provider = aws_lc_rs::default_provider();
    let mut table = Table::default();
    let mut errors = Vec::new();
    for (chain, key) in pairs {
        match read_pair(&provider, chain, key) {
            Ok((leaf, certified)) => {
                table.ends.push((chain.clone(), leaf.end));
                for name in leaf.names {
                    let same = table.by_name.entry(name).or_default();
                    same.push(Arc::clone(&certified));
                }
                table.first.get_or_insert(certified);
            }
            Err(error) => errors.push(error),
        }
    }
    if pairs.is_empty() {
        errors.push(CertificateError::None);
    }
    if errors.is_empty() {
        Ok(table)
    } else {
        Err(errors)
    }
}

fn read_pair(
    provider: &CryptoProvider,
    chain_path: &Path,
    key_path: &Path,
) -> Result<(Leaf, Arc<CertifiedKey>), CertificateError> {
    let in_chain = |problem: String| CertificateError::Chain {
        path: chain_path.to_owned(),
        problem,
    };
    let in_key = |problem: String| CertificateError::Key {
        path: key_path.to_owned(),
        problem,
    };
    let chain = CertificateDer::pem_file_iter(chain_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_chain(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| in_chain(String::from("holds no certificate (PEM)")))?;
    let leaf = read_leaf(leaf).map_err(in_chain)?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| in_key(error.to_string()))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| in_key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // `Unknown`: the key cannot tell its public half; the first handshake would.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            return Err(CertificateError::Mismatch {
                chain: chain_path.to_owned(),
                key: key_path.to_owned(),
            });
        }
    }
    Ok((leaf, Arc::new(certified)))
}

/// What a first certificate says.
pub(super) struct Leaf {
    pub(super) names: Vec<String>,
    /// Seconds since 1970.
    pub(super) start: i64,
    /// Seconds since 1970.
    pub(super) end: i64,
}

/// The DNS names a certificate is valid for, and its end. RFC 9525 2: the subject's common name is none.
pub(super) fn read_leaf(leaf: &CertificateDer<'_>) -> Result<Leaf, String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let san = leaf
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names: Vec<String> = san
        .iter()
        .flat_map(|san| &san.value.general_names)
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some(name.to_ascii_lowercase())
            } else {
                None
            }
        })
        .collect();
    if names.is_empty() {
        return Err(String::from(
            "names no DNS host (subjectAltName): no browser accepts it",
        ));
    }
    let start = leaf.validity().not_before.timestamp();
    let end = leaf.validity().not_after.timestamp();
    Ok(Leaf { names, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &Path, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| String::from(*name)).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let chain = folder.join(format!("{file}.pem"));
        let key = folder.join(format!("{file}.key"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (chain, key)
    }

    #[test]
    fn wildcards_cover_one_label() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = [
            pair(folder.path(), "a", &["login.example.com"]),
            pair(folder.path(), "b", &["*.apps.example.com"]),
        ];
        let certificates = Certificates::load(&pairs).unwrap();
        assert!(certificates.covers("login.example.com"));
        assert!(certificates.covers("wiki.apps.example.com"));
        assert!(!certificates.covers("a.wiki.apps.example.com"));
        assert!(!certificates.covers("apps.example.com"));
        assert!(!certificates.covers("evil-login.example.com"));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (a_chain, a_key) = pair(folder.path(), "a", &["a.example.com"]);
        let (b_chain, b_key) = pair(folder.path(), "b", &["b.example.com"]);
        let missing = folder.path().join("missing.pem");
        let errors = Certificates::load(&[
            (a_chain.clone(), b_key),
            (missing, a_key.clone()),
            (b_chain, a_chain.clone()),
            (a_key, a_chain),
        ])
        .unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 4, "{texts:?}");
        assert!(texts[0].contains("b.key does not belong"), "{texts:?}");
        assert!(texts[1].contains("missing.pem"), "{texts:?}");
        assert!(texts[2].starts_with("private key"), "{texts:?}");
        assert!(texts[3].contains("holds no certificate"), "{texts:?}");
    }

    #[test]
    fn a_bad_reload_keeps_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = [pair(folder.path(), "a", &["a.example.com"])];
        let certificates = Certificates::load(&pairs).unwrap();
        assert!(certificates.reload(&[]).is_err());
        assert!(certificates.covers("a.example.com"));
    }
}
