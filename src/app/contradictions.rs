//! What only the rooms can judge: values of which each is well formed, and that are unusable or contradict each other.
//!
//! In: a configuration that was read without a mistake. Out: why the gateway would not start with it, as far as files tell.
//! Nothing is asked over the network, and nothing is made: `kerbgate check` runs before there is a gateway, and beside one.

use super::generation::certificates;
use super::generation::issuer;
use super::generation::note;
use super::generation::sound_keytab;
use crate::assembly;
use crate::config::Config;
use crate::config::sections::Bind;
use crate::model::clock::Clock;

/// Every reason, in the order of the configuration's sections.
#[must_use]
pub fn contradictions(config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    note(&mut wrong, certificates(config));
    note(&mut wrong, issuer(config, Clock::System));
    if config.session.seal_key.is_some() {
        note(&mut wrong, assembly::keyring(config));
    }
    if let Some(directory) = &config.directory {
        note(&mut wrong, assembly::directory_trust(directory));
        if matches!(directory.bind, Bind::Kerberos) && config.kerberos.is_none() {
            wrong.push(assembly::wants_kerberos().to_string());
        }
    }
    // What the mapping has wrong, both synchronizations would only say again.
    if note(&mut wrong, assembly::mapping_settings(config)).is_some() {
        note(&mut wrong, assembly::guests_sync_settings(config));
        note(&mut wrong, assembly::partners_sync_settings(config));
    }
    note(&mut wrong, assembly::kerberos_settings(config));
    if let Some(kerberos) = &config.kerberos {
        let keytab = sound_keytab(&kerberos.keytab, &kerberos.principal, kerberos.allow_rc4);
        note(&mut wrong, keytab);
    }
    note(&mut wrong, assembly::backend_trust(config));
    note(&mut wrong, assembly::brand(config));
    wrong
}
