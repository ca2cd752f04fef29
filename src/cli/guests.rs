//! How plans about guests are shown by `kerbgate sync guests`.

use super::shown::cell;
use super::shown::shown;
use super::sync::Error;
use super::sync::Plan;
use super::sync::Shown;
use super::sync::below;
use super::sync::change;
use super::sync::missing;
use super::sync::row;
use super::sync::tools;
use crate::assembly;
use crate::config::Config;
use crate::sync::Look;
use crate::sync::Sync;
use crate::sync::step::Act;
use crate::sync::step::Edit;

pub(super) async fn open(config: &Config) -> Result<Sync, Error> {
    let settings = assembly::guests_sync_settings(config)?
        .ok_or_else(|| missing("[directory] or no [mapping] section"))?;
    Ok(Sync::new(settings, tools(config).await?)?)
}

impl Shown for Sync {
    fn rows(plan: &Plan<Self>) -> String {
        let mut text = String::new();
        for step in &plan.steps {
            let (what, why) = (step.act.as_str(), step.why.sentence());
            text.push_str(&row(what, &step.sam, Some(step.oid), &step.name, why));
            if let Act::Adopt { shape, dn, .. } = &step.act {
                text.push_str(&below(&format!("{}: {dn}", shape.sentence())));
            }
            if let Some(group) = step.act.group() {
                text.push_str(&below(group));
            }
            if let Act::Update { changes } = &step.act {
                let line = |edit: &Edit| {
                    let name = edit.attribute.as_str();
                    change(name, edit.from.as_ref(), edit.to.as_ref())
                };
                text.extend(changes.iter().map(line));
            }
        }
        for left in &plan.left_alone {
            text.push_str(&row("-", &left.sam, Some(left.oid), "", &left.why));
        }
        for finding in &plan.findings {
            text.push_str(&format!(
                "{:<9} {}  {}: {}\n",
                finding.found.as_str(),
                cell(&finding.sam, 20),
                shown(&finding.dn),
                shown(&finding.why)
            ));
        }
        text
    }

    fn sum(look: &Look, plan: &Plan<Self>) -> String {
        let (others, told) = (plan.findings.len(), look.world.cloud.people.len());
        format!("; accounts of others {others}; guests in the cloud {told}")
    }
}
