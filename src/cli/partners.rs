//! How plans about partners are shown by `kerbgate sync partners`.

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
use crate::sync::partners;
use crate::sync::partners::Look;
use crate::sync::partners::Partners;
use crate::sync::partners::step::Act;
use crate::sync::partners::step::Edit;

pub(super) async fn open(config: &Config) -> Result<Partners, Error> {
    let settings = assembly::partners_sync_settings(config)?
        .ok_or_else(|| missing("[sync.partners] section"))?;
    Ok(Partners::new(settings, tools(config).await?))
}

impl Shown for Partners {
    const LIMITS: &'static [&'static str] = &partners::LIMITS;

    fn rows(plan: &Plan<Self>) -> String {
        let mut text = String::new();
        for step in &plan.steps {
            let (what, why) = (step.act.as_str(), step.why.sentence());
            text.push_str(&row(what, &step.account, step.oid, &step.name, why));
            text.push_str(&more(&step.act));
        }
        for left in &plan.left_alone {
            let what = if left.needs_decision { "decide" } else { "-" };
            text.push_str(&row(what, &left.account, left.oid, "", &left.why));
        }
        text
    }

    fn sum(look: &Look, plan: &Plan<Self>) -> String {
        let decide = plan.left_alone.iter().filter(|left| left.needs_decision);
        let locals = look.world.locals.iter().filter(|local| local.in_scope);
        let (decide, locals) = (decide.count(), locals.count());
        format!(", of these {decide} need a decision; accounts in scope {locals}")
    }
}

/// What else there is to say of a step, a line each.
fn more(act: &Act) -> String {
    let line = |edit: &Edit| change(&edit.property, edit.from.as_ref(), edit.to.as_ref());
    match act {
        Act::Update { changes } => changes.iter().map(line).collect(),
        Act::Invite { address, user_type } => below(&format!("{address} as {user_type}")),
        Act::Convert { address } => below(address),
        Act::Join { group } => below(&format!("group {group}")),
        Act::Assign { application, role } => below(&format!("application {application} {role}")),
        Act::Disable | Act::Undelete | Act::Enable | Act::Link | Act::Delete => String::new(),
    }
}
