//! The settings of the synchronization of partners.

use super::Error;
use super::mapping_settings;
use super::value;
use crate::config::Config;
use crate::config::partners::PartnersSync;
use crate::graph::Letter;
use crate::ldap::Dn;
use crate::ldap::Filter;
use crate::mapping::settings as mapping;
use crate::sync::brake::Limits;
use crate::sync::partners::FLOW;
use crate::sync::partners::Settings;
use crate::sync::partners::TypeRule;
use crate::sync::partners::UserType;
use crate::sync::partners::plan::Rules;

/// What the synchronization of partners is told, if it is configured.
///
/// # Errors
/// A value is none of its kind, or a unit lies where no partner's account may lie.
pub fn partners_sync_settings(config: &Config) -> Result<Option<Settings>, Error> {
    let (Some(section), Some(mapping)) = (&config.partners_sync, mapping_settings(config)?) else {
        return Ok(None);
    };
    let bases = bases(section, &mapping)?;
    let filter = section.filter.as_deref().map(Filter::written).transpose();
    let named = |name: &str| section.attributes.iter().any(|one| one == name);
    let flow = FLOW.iter().filter(|(name, _, _)| named(name));
    Ok(Some(Settings {
        rules: Rules {
            invite: section.invite,
            invitations: section.invitations,
            convert: section.convert,
            groups: section.groups.clone(),
            assign: section
                .assign
                .iter()
                .map(|one| (one.application, one.role.clone()))
                .collect(),
            delete_after: section.delete_after,
            flow: flow.map(|(_, property, _)| *property).collect(),
            anchor: mapping.anchor.to_string(),
        },
        bases,
        filter: filter.map_err(|error| value("sync.partners.filter", error))?,
        sign_in: section
            .sign_in
            .parse()
            .map_err(|error| value("sync.partners.sign_in", error))?,
        user_type: user_type(section.members),
        type_rules: type_rules(section)?,
        record: section.record.clone(),
        redirect: section.redirect.clone(),
        letter: section.invitation_mail.then(|| Letter {
            language: section.language.clone(),
            text: section.message.clone(),
        }),
        limits: Limits {
            removals: section.brake_removals,
            share: section.brake_percent,
        },
        tenant: config.issuer.tenant,
        folder: config.gateway.state_dir.join("sync").join("partners"),
        mapping,
    }))
}

const fn user_type(members: bool) -> UserType {
    if members {
        UserType::Member
    } else {
        UserType::Guest
    }
}

fn bases(section: &PartnersSync, mapping: &mapping::Settings) -> Result<Vec<Dn>, Error> {
    const KEY: &str = "sync.partners.bases";
    let mut bases = Vec::new();
    for text in &section.bases {
        let base: Dn = text.parse().map_err(|error| value(KEY, error))?;
        // What a sign-in does not look at would be a second person there.
        if !mapping
            .account_bases
            .iter()
            .any(|outer| base.is_under(outer))
        {
            let why = format!(
                "{base} lies under none of mapping.account_bases: nobody could be acted for"
            );
            return Err(value(KEY, why));
        }
        let mut guests = mapping.guests_ou.iter().chain(&mapping.disabled_ou);
        if guests.any(|ou| base.is_under(ou)) {
            return Err(value(KEY, format!("{base} lies in the guests' units")));
        }
        bases.push(base);
    }
    Ok(bases)
}

fn type_rules(section: &PartnersSync) -> Result<Vec<TypeRule>, Error> {
    const KEY: &str = "sync.partners.user_types";
    let rule = |rule: &crate::config::partners::TypeRule| {
        let attribute = rule.attribute.as_deref().map(str::parse).transpose();
        let under = rule.ou.as_deref().map(str::parse).transpose();
        Ok(TypeRule {
            attribute: attribute.map_err(|error| value(KEY, error))?,
            value: rule.value.clone(),
            under: under.map_err(|error| value(KEY, error))?,
            user_type: user_type(rule.members),
        })
    };
    section.type_rules.iter().map(rule).collect()
}
