//! A plan carried out: step by step, each on the disk before and after.
//!
//! Each step looks at its person in the cloud again before it writes: only one whose record names the account is changed. An
//! invitation is the one thing that cannot be looked at before it is made; its answer goes into the journal at once, and whoever
//! was invited is recognized by the next run, by that line or by the time of the one before it.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use super::BY;
use super::Partners;
use super::cloud;
use super::record::Record;
use super::record::Recorded;
use super::step::Act;
use super::step::Edit;
use super::step::Step;
use super::step::Why;
use super::world::Anchor;
use super::world::Person;
use crate::graph;
use crate::graph::Invitation;
use crate::model::names::PersonId;
use crate::store::records::EndReason;
use crate::store::records::Whose;
use crate::sync::Ends;
use crate::sync::Error;
use crate::sync::Outcome;
use crate::sync::Progress;
use crate::sync::Run;
use crate::sync::apply::BREATH;
use crate::sync::apply::is_connection;
use crate::sync::book;
use crate::sync::book::Book;
use crate::telemetry::metrics::metrics;

/// How often, and how long apart, a person who was just made is asked for until all of Graph knows them.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(2);
/// Clocks differ by so much at most.
const APART: i64 = 300;

impl Partners {
    /// Takes the steps. The caller holds the lock.
    pub(super) async fn take_all(
        &self,
        steps: &[Step],
        wanted: &Run,
        progress: Progress<'_, Step>,
    ) -> Result<Outcome<Step>, Error> {
        let book = Book::begin(self, wanted, steps.len())?;
        let mut outcome = Outcome::default();
        for (number, step) in (1..).zip(steps) {
            progress(number, steps.len(), step);
            book.before(number, step)?;
            let taken = self.take(step, number, &book).await;
            book.after(number, &taken)?;
            self.audit(step, wanted, &taken);
            match taken {
                Ok(()) => {
                    outcome.done += 1;
                    metrics().sync_taken("partners", step.act.as_str());
                }
                Err(error) if ends_the_run(&error) => return Err(error),
                Err(error) => outcome.failed.push((step.clone(), error.to_string())),
            }
        }
        book.end(&outcome)?;
        Ok(outcome)
    }

    fn audit(&self, step: &Step, run: &Run, taken: &Result<(), Error>) {
        tracing::info!(
            target: "audit",
            event = "partner-changed",
            act = step.act.as_str(),
            oid = step.oid.map(|oid| oid.to_string()),
            guid = %step.guid,
            sam = step.account,
            reason = step.why.as_str(),
            outcome = book::told(taken),
            by = run.by,
            via = "sync",
        );
    }

    async fn take(&self, step: &Step, number: usize, book: &Book) -> Result<(), Error> {
        if let Act::Invite { address, user_type } = &step.act {
            return self.invite(step, (address, user_type), number, book).await;
        }
        // Invited a moment ago: not every part of Graph knows them at once.
        let mut tries = if step.oid.is_none() { TRIES } else { 1 };
        loop {
            tries -= 1;
            match self.take_known(step).await {
                Err(error) if tries > 0 && is_not_yet(&error) => tokio::time::sleep(PAUSE).await,
                taken => return taken,
            }
        }
    }

    async fn take_known(&self, step: &Step) -> Result<(), Error> {
        let oid = match step.oid {
            Some(oid) => oid,
            // Invited by a step before this one.
            None => self.anchored(step.guid).await?,
        };
        if step.act == Act::Undelete {
            return Ok(self.tools.graph.restore_user(oid).await?);
        }
        let person = self.person(oid).await?;
        match &person.recorded {
            Recorded::Ours(record) if record.guid == step.guid => {}
            Recorded::Nothing if step.act == Act::Link => {}
            Recorded::Ours(_) | Recorded::Nothing | Recorded::Other(_) => {
                return Err(meanwhile(
                    "the record of the person in the cloud is another one now",
                ));
            }
        }
        let graph = &self.tools.graph;
        match &step.act {
            Act::Invite { .. } | Act::Undelete => {}
            Act::Link => self.link(step, &person).await?,
            // SECURITY: written over it, our word would later let in whom somebody else has shut out.
            Act::Disable if !person.enabled && !rests_by_us(&person) => {
                return Err(meanwhile("somebody else has disabled them"));
            }
            Act::Disable => {
                let now = (self.tools.clock.unix(), step.why.as_str().to_owned());
                self.enable(step, oid, false, Some(now)).await?;
                self.end_sign_ins(oid).await?;
            }
            Act::Enable => {
                if !rests_by_us(&person) {
                    return Err(meanwhile("somebody else has disabled them"));
                }
                self.enable(step, oid, true, None).await?;
            }
            Act::Convert { address } => {
                if !person.addresses.contains(address) {
                    graph.change_user(oid, json!({ "mail": address })).await?;
                }
                let invited = graph
                    .invite(&self.invitation(step, address, "", Some(oid)))
                    .await?;
                if invited != oid {
                    return Err(meanwhile("the invitation led to another person"));
                }
            }
            Act::Update { changes } => graph.change_user(oid, properties(changes)).await?,
            Act::Join { group } => graph.add_member(*group, oid).await?,
            Act::Assign { application, role } => self.assign(*application, role, oid).await?,
            Act::Delete => {
                if person.enabled || !rests_by_us(&person) || step.why != Why::RestOver {
                    return Err(meanwhile("they do not rest by our word"));
                }
                graph.delete_user(oid).await?;
                self.end_sign_ins(oid).await?;
            }
        }
        Ok(())
    }

    /// Makes a person in the cloud. Who has the address already is not invited: the next look compares.
    async fn invite(
        &self,
        step: &Step,
        (address, user_type): (&str, &str),
        number: usize,
        book: &Book,
    ) -> Result<(), Error> {
        let graph = &self.tools.graph;
        let mut pages = graph.with_address(address)?;
        while let Some(page) = pages.next().await? {
            if let Some(there) = page.rows.first() {
                let why = format!("{} has the address already", there.id);
                return Err(Error::Meanwhile(why));
            }
        }
        let began = self.tools.clock.unix();
        let values = self.fresh_values(step.guid).await?;
        let oid = graph
            .invite(&self.invitation(step, address, user_type, None))
            .await?;
        book.made(number, step.guid, oid)?;
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.finish(step, oid, began, &values).await {
                Err(error) if tries > 0 && is_not_yet(&error) => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
        }
    }

    /// Both sides of an invitation are made to name each other.
    async fn finish(
        &self,
        step: &Step,
        oid: Uuid,
        began: i64,
        values: &Map<String, Value>,
    ) -> Result<(), Error> {
        let person = self.person(oid).await?;
        if person.recorded == Recorded::Ours(Record::of(step.guid)) {
            return self.link_with(step, &person, Map::new()).await;
        }
        // SECURITY: Graph answers an invitation of somebody it knows under another address with that person.
        let fresh = person.created.is_some_and(|at| at >= began - APART);
        if person.recorded != Recorded::Nothing || !person.invited || !fresh {
            let why = format!("the invitation led to {oid}, who was there before");
            return Err(Error::Meanwhile(why));
        }
        self.link_with(step, &person, values.clone()).await
    }

    /// What the cloud is to hold besides the name, which the invitation brings.
    async fn fresh_values(&self, guid: Uuid) -> Result<Map<String, Value>, Error> {
        let Some((_, entry)) = self.account(guid).await? else {
            return Err(meanwhile("the account is not there any more"));
        };
        let now = self.tools.clock.unix();
        let local = self.settings.local(&entry, guid, true, now);
        if !local.enabled || local.untouchable.is_some() || local.anchor != Anchor::None {
            return Err(meanwhile("the account is not as it was planned"));
        }
        let flow = &self.settings.rules.flow;
        let kept = local.values.into_iter();
        let kept = kept.filter(|(name, _)| flow.contains(&name.as_str()));
        Ok(kept
            .map(|(name, value)| (name, Value::from(value)))
            .collect())
    }

    async fn link(&self, step: &Step, person: &Person) -> Result<(), Error> {
        let found = self.account(step.guid).await?;
        let now = self.tools.clock.unix();
        let local = found.map(|(_, entry)| self.settings.local(&entry, step.guid, true, now));
        let address = local.and_then(|local| local.address);
        if address.is_none_or(|address| !person.addresses.contains(&address)) {
            return Err(meanwhile("the addresses are not the same any more"));
        }
        self.link_with(step, person, Map::new()).await
    }

    /// The record in the cloud first: without it nobody would know whose the anchor is.
    async fn link_with(
        &self,
        step: &Step,
        person: &Person,
        mut values: Map<String, Value>,
    ) -> Result<(), Error> {
        if person.recorded == Recorded::Nothing {
            values.extend(self.record(&Record::of(step.guid)));
            let graph = &self.tools.graph;
            graph.change_user(person.oid, Value::Object(values)).await?;
        }
        let mut anchored = self.anchor(step.guid, person.oid).await;
        if anchored.as_ref().is_err_and(is_connection) {
            tokio::time::sleep(BREATH).await;
            anchored = self.anchor(step.guid, person.oid).await;
        }
        anchored
    }

    fn record(&self, record: &Record) -> Map<String, Value> {
        let text = record.text(self.settings.realm());
        let attribute = json!({ self.settings.record.as_str(): text });
        let mut map = Map::new();
        map.insert(String::from("onPremisesExtensionAttributes"), attribute);
        map
    }

    /// State and record in one write: who rests is always recorded as resting by our word.
    async fn enable(
        &self,
        step: &Step,
        oid: Uuid,
        enabled: bool,
        rests: Option<(i64, String)>,
    ) -> Result<(), Error> {
        let guid = step.guid;
        let mut map = self.record(&Record { guid, rests });
        map.insert(String::from("accountEnabled"), json!(enabled));
        let graph = &self.tools.graph;
        Ok(graph.change_user(oid, Value::Object(map)).await?)
    }

    fn invitation<'a>(
        &'a self,
        step: &'a Step,
        address: &'a str,
        user_type: &'a str,
        internal: Option<Uuid>,
    ) -> Invitation<'a> {
        Invitation {
            address,
            name: if step.name.is_empty() {
                &step.account
            } else {
                &step.name
            },
            redirect: &self.settings.redirect,
            user_type,
            letter: self.settings.letter.as_ref(),
            internal,
        }
    }

    async fn assign(&self, client: Uuid, role: &str, oid: Uuid) -> Result<(), Error> {
        let graph = &self.tools.graph;
        let application = graph.application(client).await?;
        let Some(role_id) = application.role(role) else {
            return Err(meanwhile("the application has no such role any more"));
        };
        Ok(graph.assign(application.id, role_id, oid).await?)
    }

    /// Whom the account is anchored to.
    async fn anchored(&self, guid: Uuid) -> Result<Uuid, Error> {
        let now = self.tools.clock.unix();
        let found = self.account(guid).await?;
        let local = found.map(|(_, entry)| self.settings.local(&entry, guid, true, now));
        let oid = local.and_then(|local| local.anchor.oid());
        oid.ok_or_else(|| meanwhile("the account belongs to nobody in the cloud"))
    }

    /// The person as they are now.
    async fn person(&self, oid: Uuid) -> Result<Person, Error> {
        let known = self.tools.graph.known(oid).await?;
        cloud::person(&known, &self.settings)
    }

    async fn end_sign_ins(&self, oid: Uuid) -> Result<(), Error> {
        let person = PersonId {
            tid: self.settings.tenant,
            oid,
        };
        if let Some(Ends(ends)) = &self.tools.ends {
            ends(person).await;
        } else if let Some(store) = &self.tools.store {
            let (whose, now) = (Whose::Person(person), self.tools.clock.unix());
            let ended = store
                .end_sign_ins(&whose, EndReason::PersonDisabled, now)
                .await?;
            for one in &ended {
                tracing::info!(
                    target: "audit",
                    event = "sign-in-ended",
                    person = %one.person,
                    sign_in = %one.sign_in,
                    reason = EndReason::PersonDisabled.as_str(),
                    by = BY,
                    via = "sync",
                );
            }
        }
        Ok(())
    }
}

fn properties(changes: &[Edit]) -> Value {
    let each = changes.iter();
    let map: Map<String, Value> = each
        .map(|edit| (edit.property.clone(), json!(edit.to)))
        .collect();
    Value::Object(map)
}

/// One of the sides does not answer any more: the rest would fail the same way.
fn ends_the_run(error: &Error) -> bool {
    let graph_is_gone = matches!(
        error,
        Error::Graph(
            graph::Error::Unreachable(_)
                | graph::Error::Token(_)
                | graph::Error::Throttled { .. }
                | graph::Error::Setting(_)
        )
    );
    graph_is_gone || is_connection(error)
}

fn rests_by_us(person: &Person) -> bool {
    let record = person.recorded.ours();
    record.is_some_and(|record| record.rests.is_some())
}

/// Graph does not know somebody, or not yet.
fn is_not_yet(error: &Error) -> bool {
    matches!(
        error,
        Error::Graph(graph::Error::UserUnknown(_) | graph::Error::ObjectUnknown { .. })
    )
}

fn meanwhile(why: &str) -> Error {
    Error::Meanwhile(why.to_owned())
}
