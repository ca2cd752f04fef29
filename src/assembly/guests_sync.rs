//! The synchronization's own settings.

use super::Error;
use super::mapping_settings;
use super::value;
use crate::config::Config;
use crate::config::sync::ScopeOf;
use crate::mapping::settings::GroupSource;
use crate::mapping::shadow::Flow;
use crate::sync::KeptGroups;
use crate::sync::Scope;
use crate::sync::Settings;
use crate::sync::brake::Limits;
use crate::sync::groups;
use crate::sync::groups::KeptGroup;
use crate::sync::plan::Rules;

/// What the synchronization of guests is told, if accounts are configured at all.
///
/// # Errors
/// The mapping's values contradict each other, or the scope cannot be asked about.
pub fn guests_sync_settings(config: &Config) -> Result<Option<Settings>, Error> {
    let Some(mapping) = mapping_settings(config)? else {
        return Ok(None);
    };
    let section = &config.guests_sync;
    let scope = match section.scope {
        ScopeOf::All => Scope::All,
        ScopeOf::Groups => Scope::Groups(section.groups.clone()),
        ScopeOf::Assigned => {
            let id = config.issuer.client_id.parse();
            Scope::Assigned(id.map_err(|error| value("issuer.client_id", error))?)
        }
    };
    let named = |flow: &Flow| section.attributes.iter().any(|name| name == flow.as_str());
    Ok(Some(Settings {
        rules: Rules {
            mapping,
            external_members: section.external_members,
            pending: section.pending,
            redeem_within: section.redeem_within,
            unseen_after: section.unseen_after,
            delete_after: section.delete_after,
            flow: Flow::ALL.into_iter().filter(named).collect(),
            adopt: section.adopt,
        },
        scope,
        groups: kept_groups(config)?,
        limits: Limits {
            removals: section.brake_removals,
            share: section.brake_percent,
        },
        tenant: config.issuer.tenant,
        other_tenants: config.issuer.allowed_tenants.clone(),
        folder: config.gateway.state_dir.join("sync"),
        at_once: section.connections,
    }))
}

/// The mapping's groups, if the synchronization keeps them.
fn kept_groups(config: &Config) -> Result<KeptGroups, Error> {
    let mapped = config.mapping.iter().flat_map(|mapping| &mapping.groups);
    let mut kept = Vec::new();
    for one in mapped.filter(|_| config.guests_sync.memberships) {
        let group = one.ad_group.parse();
        let from = match (&one.role, one.group) {
            (Some(role), _) => GroupSource::Role(role.clone()),
            (None, Some(group)) => GroupSource::Group(group),
            (None, None) => return Err(value("mapping.groups", "wanted: role or group")),
        };
        kept.push(KeptGroup {
            group: group.map_err(|error| value("mapping.groups.ad_group", error))?,
            from: vec![(from, one.max_members)],
            create: one.create,
        });
    }
    Ok(KeptGroups {
        kept: groups::once(kept),
        // The configuration's check has seen that it is one wherever a role is named.
        client: config.issuer.client_id.parse().unwrap_or_default(),
    })
}
