//! What the store holds, opened and parsed: the account, open orders, certificates, failures.
//!
//! In: records as they were written by whichever replica. Out: what is to be shown and what is to be done. A record that
//! cannot be opened counts as gone: its certificate is ordered again.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;
use serde::de::DeserializeOwned;

use crate::acme::Settings;
use crate::acme::Trouble;
use crate::acme::times::renew_at;
use crate::authn::seal::Keyring;
use crate::authn::seal::Purpose;
use crate::config::acme::Challenge;
use crate::listener::ordered;
use crate::listener::ordered::Issued;
use crate::model::secret::Secret;
use crate::store::records::AcmeKind;
use crate::store::records::AcmeRecord;

/// What is known of the store's records.
#[derive(Default)]
pub(super) struct Book {
    /// Everything up to it has been read.
    pub(super) revision: i64,
    /// When the last look began.
    pub(super) looked: Option<Instant>,
    /// True when it was said that the store does not answer.
    pub(super) silent: bool,
    /// True when another keeper shows what handshakes see.
    pub(super) retired: bool,
    pub(super) account: Option<KeptAccount>,
    pub(super) orders: HashMap<String, Open>,
    pub(super) certificates: HashMap<String, Held>,
    /// By host, or by the directory's URL for what concerns all of them.
    pub(super) troubles: HashMap<String, Trouble>,
    /// What an older key sealed.
    pub(super) aged: BTreeSet<(&'static str, String)>,
}

/// The account at the directory.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptAccount {
    /// As the ACME library writes them; with the account's key.
    #[serde(serialize_with = "exposed")]
    pub(super) credentials: Secret<String>,
    /// As the authority knows it.
    pub(super) contact: Vec<String>,
}

/// An order.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptOrder {
    pub(super) directory: String,
    pub(super) url: String,
    /// The certificate's key, PEM.
    #[serde(serialize_with = "exposed")]
    pub(super) key: Secret<String>,
    /// What the challenge is answered with, once it is known.
    pub(super) answer: Option<KeptAnswer>,
}

/// The answer to a challenge.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptAnswer {
    pub(super) token: String,
    pub(super) authorization: String,
}

/// An order, and what a handshake shows for it.
pub(super) struct Open {
    pub(super) kept: KeptOrder,
    pub(super) proof: Option<Arc<CertifiedKey>>,
}

/// A certificate.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptCertificate {
    pub(super) directory: String,
    pub(super) chain: String,
    #[serde(serialize_with = "exposed")]
    pub(super) key: Secret<String>,
}

/// A certificate, ready to be shown.
pub(super) struct Held {
    pub(super) kept: KeptCertificate,
    pub(super) issued: Issued,
    pub(super) renew_at: i64,
}

fn exposed<S: Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

impl Book {
    /// Takes over what was written, oldest first.
    pub(super) fn read(&mut self, records: &[AcmeRecord], settings: &Settings, keyring: &Keyring) {
        for record in records {
            self.revision = self.revision.max(record.revision);
            self.remove(record, settings);
            if record.content.is_empty() {
                continue;
            }
            if let Err(problem) = self.take(record, settings, keyring) {
                let (kind, name) = (record.kind.as_str(), &record.name);
                tracing::warn!(kind, name, problem, "an ACME record counts as gone");
            }
        }
    }

    fn remove(&mut self, record: &AcmeRecord, settings: &Settings) {
        let name = &record.name;
        self.aged.remove(&(record.kind.as_str(), name.clone()));
        match record.kind {
            AcmeKind::Account if *name == settings.directory => self.account = None,
            AcmeKind::Account => {}
            AcmeKind::Order => drop(self.orders.remove(name)),
            AcmeKind::Certificate => drop(self.certificates.remove(name)),
            AcmeKind::Trouble => drop(self.troubles.remove(name)),
        }
    }

    fn take(
        &mut self,
        record: &AcmeRecord,
        settings: &Settings,
        keyring: &Keyring,
    ) -> Result<(), String> {
        let name = record.name.clone();
        match record.kind {
            AcmeKind::Account if name == settings.directory => {
                self.account = Some(opened(record, keyring)?);
            }
            AcmeKind::Account => return Ok(()),
            AcmeKind::Order => {
                let kept: KeptOrder = opened(record, keyring)?;
                // Another authority's order means nothing to this one.
                if kept.directory != settings.directory {
                    return Ok(());
                }
                let answer = kept.answer.as_ref();
                let answer = answer.filter(|_| settings.challenge == Challenge::TlsAlpn01);
                let proof = answer.map(|answer| ordered::proof(&name, &answer.authorization));
                let proof = proof.transpose()?;
                self.orders.insert(name, Open { kept, proof });
            }
            AcmeKind::Certificate => {
                let kept: KeptCertificate = opened(record, keyring)?;
                self.certificates.insert(name.clone(), held(kept, &name)?);
            }
            AcmeKind::Trouble => {
                let trouble: Trouble = opened(record, keyring)?;
                // What failed under other settings may work under these.
                if trouble.settings != settings.print() {
                    return Ok(());
                }
                self.troubles.insert(name, trouble);
            }
        }
        if !keyring.is_current(&record.content) {
            self.aged
                .insert((record.kind.as_str(), record.name.clone()));
        }
        Ok(())
    }

    /// What an older key sealed, sealed by the current one.
    pub(super) fn renewed(&self, keyring: &Keyring) -> Vec<AcmeRecord> {
        let renewed = self.aged.iter().filter_map(|(kind, name)| {
            let kind = AcmeKind::from_name(kind)?;
            let sealed = match kind {
                AcmeKind::Account => sealed(kind, name, self.account.as_ref()?, keyring),
                AcmeKind::Order => sealed(kind, name, &self.orders.get(name)?.kept, keyring),
                AcmeKind::Certificate => {
                    sealed(kind, name, &self.certificates.get(name)?.kept, keyring)
                }
                AcmeKind::Trouble => sealed(kind, name, self.troubles.get(name)?, keyring),
            };
            sealed.ok()
        });
        renewed.collect()
    }
}

fn held(kept: KeptCertificate, host: &str) -> Result<Held, String> {
    let issued = ordered::issued(&kept.chain, kept.key.expose(), host)?;
    // The same on every replica: from the certificate itself.
    let leaf = issued.certified.cert.first();
    let dice = leaf.and_then(|leaf| leaf.last().copied()).unwrap_or(0);
    Ok(Held {
        renew_at: renew_at(issued.start, issued.end, dice),
        kept,
        issued,
    })
}

fn place(kind: AcmeKind, name: &str) -> String {
    format!("{}/{name}", kind.as_str())
}

fn opened<T: DeserializeOwned>(record: &AcmeRecord, keyring: &Keyring) -> Result<T, String> {
    let place = place(record.kind, &record.name);
    let plain = keyring
        .open(Purpose::Acme, &place, &record.content)
        .map_err(|error| error.to_string())?;
    // SECURITY: position only; the text of a serde error quotes what it read, and this may be a key.
    serde_json::from_str(plain.expose())
        .map_err(|error| format!("cannot be read (column {})", error.column()))
}

/// A record to be written.
///
/// # Errors
/// The cryptographic library refused.
pub(super) fn sealed<T: Serialize>(
    kind: AcmeKind,
    name: &str,
    content: &T,
    keyring: &Keyring,
) -> Result<AcmeRecord, String> {
    let text = serde_json::to_string(content).map_err(|error| error.to_string())?;
    let text = Secret::new(text);
    let content = keyring
        .seal(Purpose::Acme, &place(kind, name), text.expose())
        .map_err(|error| error.to_string())?;
    Ok(AcmeRecord {
        content,
        ..gone(kind, name)
    })
}

/// A record that says: there is none any more.
pub(super) fn gone(kind: AcmeKind, name: &str) -> AcmeRecord {
    AcmeRecord {
        kind,
        name: name.to_owned(),
        content: String::new(),
        revision: 0,
    }
}
