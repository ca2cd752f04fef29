//! Guests of the cloud and partners, synchronized on a schedule.

use std::sync::Arc;

use crate::app::generation::Ground;
use crate::assembly;
use crate::authn::Authn;
use crate::config::Config;
use crate::graph::Graph;
use crate::kerberos::Delegator;
use crate::ldap::Directory;
use crate::mapping::Mapping;
use crate::store::Store;
use crate::store::records::EndReason;
use crate::sync::Ends;
use crate::sync::Sync;
use crate::sync::Tools;
use crate::sync::partners::Partners;

/// Ends the sign-ins of whoever was removed, and forgets which account was theirs.
pub(super) fn ends(authn: &Authn, mapping: &Mapping) -> Ends {
    let (authn, mapping) = (authn.clone(), mapping.clone());
    Ends(Arc::new(move |person| {
        let (authn, mapping) = (authn.clone(), mapping.clone());
        Box::pin(async move {
            drop(mapping.forget(person));
            if let Err(stop) = authn.end_person(person, EndReason::PersonDisabled).await {
                tracing::warn!(%person, ?stop, "sign-ins not ended; the account is disabled all the same");
            }
        })
    }))
}

/// The room that synchronizes, if it is to do so by itself. `graph` is the one that sign-ins ask: they share one budget.
pub(super) fn room(
    config: &Config,
    ground: &Ground,
    graph: Option<Graph>,
    delegator: Option<&Delegator>,
    ends: Ends,
) -> Result<Option<Sync>, String> {
    if config.guests_sync.every.is_none() {
        return Ok(None);
    }
    let settings = assembly::guests_sync_settings(config).map_err(|error| error.to_string())?;
    let ldap = assembly::ldap_settings(config, delegator).map_err(|error| error.to_string())?;
    let (Some(settings), Some(mut ldap), Some(graph)) = (settings, ldap, graph) else {
        return Err(String::from(
            "sync.guests.every wants [directory], [mapping] and issuer.graph",
        ));
    };
    ldap.connections = settings.at_once;
    let tools = Tools {
        graph,
        directory: Directory::new(ldap),
        store: Some(Arc::clone(&ground.store) as Arc<dyn Store>),
        clock: ground.clock,
        ends: Some(ends),
    };
    let room = Sync::new(settings, tools).map_err(|error| error.to_string())?;
    Ok(Some(room))
}

/// The room that synchronizes partners, if it is to do so by itself.
pub(super) fn partners(
    config: &Config,
    ground: &Ground,
    graph: Option<Graph>,
    delegator: Option<&Delegator>,
    ends: Ends,
) -> Result<Option<Partners>, String> {
    if config
        .partners_sync
        .as_ref()
        .and_then(|partners| partners.every)
        .is_none()
    {
        return Ok(None);
    }
    let settings = assembly::partners_sync_settings(config).map_err(|error| error.to_string())?;
    let ldap = assembly::ldap_settings(config, delegator).map_err(|error| error.to_string())?;
    let (Some(settings), Some(ldap), Some(graph)) = (settings, ldap, graph) else {
        return Err(String::from(
            "sync.partners.every wants [directory], [mapping] and issuer.graph",
        ));
    };
    let tools = Tools {
        graph,
        directory: Directory::new(ldap),
        store: Some(Arc::clone(&ground.store) as Arc<dyn Store>),
        clock: ground.clock,
        ends: Some(ends),
    };
    Ok(Some(Partners::new(settings, tools)))
}
