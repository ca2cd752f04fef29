//! Steps about managed groups, taken: several people of one group in one write.
//!
//! Each is still a step of its own in plan and journal, so that a run that was killed in the middle of a batch leaves just those steps that
//! were not taken.

use super::Error;
use super::Sync;
use super::apply::BREATH;
use super::apply::is_connection;
use super::apply::meanwhile;
use super::apply::order;
use super::step::Act;
use super::step::Step;
use super::step::Why;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::ResultCode;
use crate::lifecycle;
use crate::lifecycle::MEMBERS_AT_A_TIME;
use crate::lifecycle::Membership;
use crate::mapping::managed;

/// Whether several such steps can be taken at once.
pub(super) fn is_membership(step: &Step) -> bool {
    match &step.act {
        Act::Join { .. } | Act::Leave { .. } => true,
        Act::Disable
        | Act::Restore
        | Act::Move { .. }
        | Act::Adopt { .. }
        | Act::Update { .. }
        | Act::Create { .. }
        | Act::Delete
        | Act::MakeGroup { .. } => false,
    }
}

/// The steps in their order: those about members of one group together, all others alone.
pub(super) fn batches(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    let together = |a: &Step, b: &Step| is_membership(a) && a.act == b.act && a.why == b.why;
    steps
        .chunk_by(together)
        .flat_map(|run| run.chunks(MEMBERS_AT_A_TIME))
}

impl Sync {
    /// What came of each step; they are all about the same group.
    pub(super) async fn members_patiently(&self, steps: &[&Step]) -> Vec<Result<(), Error>> {
        let mut taken = self.members(steps).await;
        if taken.as_ref().is_err_and(is_connection) {
            tokio::time::sleep(BREATH).await;
            taken = self.members(steps).await;
        }
        match taken {
            Ok(all) => all,
            Err(error) => {
                let (why, broken) = (error.to_string(), is_connection(&error));
                // The others say the same; one that is the connection's ends the run.
                let first = if broken {
                    error
                } else {
                    meanwhile(why.clone())
                };
                let others = steps.iter().skip(1).map(|_| Err(meanwhile(why.clone())));
                std::iter::once(Err(first)).chain(others).collect()
            }
        }
    }

    async fn members(&self, steps: &[&Step]) -> Result<Vec<Result<(), Error>>, Error> {
        let Some(first) = steps.first() else {
            return Ok(Vec::new());
        };
        let what = match (&first.act, first.why == Why::AtRest) {
            (Act::Join { .. }, _) => Membership::Join,
            (_, true) => Membership::Strip,
            (_, false) => Membership::Leave,
        };
        let group: Dn = first.act.group().unwrap_or_default().parse()?;
        let people: Vec<_> = steps.iter().map(|step| step.oid).collect();
        let room = &self.lifecycle;
        let mut written = room
            .write_members(&group, &people, what, &order(first))
            .await?;
        let broken = |done: &Result<(), lifecycle::Error>| match done {
            Err(lifecycle::Error::Directory(error)) => error.is_connection(),
            Err(
                lifecycle::Error::NotFound { .. }
                | lifecycle::Error::Ambiguous { .. }
                | lifecycle::Error::Refused { .. }
                | lifecycle::Error::Setup(_)
                | lifecycle::Error::Store(_),
            )
            | Ok(()) => false,
        };
        if let Some(place) = written.iter().position(|(_, done)| broken(done))
            && let (_, Err(error)) = written.swap_remove(place)
        {
            return Err(error.into());
        }
        let mut of = |step: &&Step| {
            let place = written.iter().position(|(oid, _)| *oid == step.oid);
            let done = place.map(|place| written.swap_remove(place).1);
            done.map_or_else(
                || Err(meanwhile(String::from("nothing came of it"))),
                |done| done.map_err(Error::from),
            )
        };
        Ok(steps.iter().map(&mut of).collect())
    }

    /// One LDAP add; what is there already must be the group that we made, from a run that was cut off.
    pub(super) async fn make_group(&self, group: &str, anchor: &str) -> Result<(), Error> {
        let dn: Dn = group.parse()?;
        let mapping = &self.rules.mapping;
        if !managed::is_inside(&dn, mapping.groups_ou.as_ref()) {
            return Err(Error::Setup(format!("{dn} is not under groups_ou")));
        }
        let session = self.tools.directory.session().await?;
        let attributes = managed::attributes(&dn, (&mapping.anchor, anchor))?;
        match session.add(&dn, attributes).await {
            Ok(()) => {
                tracing::info!(
                    target: "audit",
                    event = "group-made",
                    group = %dn,
                    anchor,
                    by = super::BY,
                    via = "sync",
                );
                return Ok(());
            }
            Err(error) if error.code() == Some(ResultCode::EXISTS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut wanted = managed::ATTRIBUTES.to_vec();
        wanted.push(mapping.anchor.as_str());
        let entry = session.read(&dn, &wanted).await?;
        let ours = |entry: &Entry| {
            let named = entry
                .texts(mapping.anchor.as_str())
                .any(|value| value == anchor);
            named && managed::refusal(entry, mapping.groups_ou.as_ref()).is_none()
        };
        match entry {
            Some(entry) if ours(&entry) => Ok(()),
            Some(_) => Err(meanwhile(format!("somebody else has made {dn}"))),
            None => Err(meanwhile(format!(
                "another object holds the sAMAccountName of {dn}"
            ))),
        }
    }
}
