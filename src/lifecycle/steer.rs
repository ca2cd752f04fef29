//! An administrator's steps on one account. Each is audited, whether it was taken or failed.

use super::Asked;
use super::Error;
use super::Lifecycle;
use super::Mark;
use super::Shadow;
use super::shadow;
use crate::ldap;
use crate::ldap::Change;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Session;
use crate::mapping::fence;
use crate::mapping::managed;
use crate::model::names::PersonId;
use crate::store::records::EndReason;
use crate::store::records::Whose;

/// Who orders a step, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who, as the system knows them.
    pub by: String,
    /// Their own words; may be empty.
    pub why: String,
    /// By what means, for the audit event: `accounts` or `sync`.
    pub via: &'static str,
    /// What the person's sign-ins end for, if they do.
    pub ends: EndReason,
}

/// A step that was taken.
#[derive(Clone, Debug)]
pub struct Done {
    /// The account afterwards.
    pub account: Shadow,
    /// False when it was so already.
    pub changed: bool,
    /// Sign-ins that were ended.
    pub ended: usize,
}

impl Lifecycle {
    /// Disables the account, lays it to rest in the disabled OU if there is one, ends the person's sign-ins, and takes it out of the
    /// managed groups. SID, anchor and other groups stay.
    ///
    /// # Errors
    /// No such account, not one of ours, or the directory or the store does not answer; done again it goes on where it was.
    pub async fn disable(&self, asked: &Asked, order: &Order) -> Result<Done, Error> {
        let (entry, session) = self.own(asked).await?;
        let people = self.people(&entry);
        let done = self.lay_to_rest(&entry, &session, order).await;
        self.audit("account-disabled", &entry, &people, order, &done);
        let (dn, changed) = done?;
        // Only now: before, a new sign-in would still have led to the account.
        let ended = self.end(&people, order).await?;
        // After that: a group that cannot be written to must not keep a sign-in alive.
        let stripped = self.strip(&session, &entry, &dn, order).await?;
        Ok(Done {
            account: self.again(&dn, &session).await?,
            changed: changed || stripped,
            ended,
        })
    }

    async fn lay_to_rest(
        &self,
        entry: &Entry,
        session: &Session,
        order: &Order,
    ) -> Result<(Dn, bool), Error> {
        let mut changed = false;
        if !fence::is_disabled(entry) {
            let mark = Mark {
                since: shadow::moment(self.tools.clock.unix()).unwrap_or_default(),
                by: order.by.clone(),
                why: order.why.clone(),
            };
            let notes = mark.put(entry.text("info").unwrap_or_default());
            // In the same write: whatever happens next, what it had is known, and nothing that was planted there before.
            let memory = self.memory(entry, &self.held(entry));
            self.write(session, entry, true, notes, memory).await?;
            changed = true;
        }
        let rest = self.settings.disabled_ou.as_ref();
        let Some(rest) = rest.filter(|rest| !entry.dn.is_under(rest)) else {
            return Ok((entry.dn.clone(), changed));
        };
        Ok((self.bring(session, &entry.dn, rest).await?, true))
    }

    /// Brings the account back: out of the disabled OU, enabled, with the SID and the groups it had.
    ///
    /// # Errors
    /// No such account, not one of ours, or the directory does not answer; done again it goes on where it was.
    pub async fn restore(&self, asked: &Asked, order: &Order) -> Result<Done, Error> {
        let (entry, session) = self.own(asked).await?;
        let people = self.people(&entry);
        let done = self.wake(&entry, &session, order).await;
        self.audit("account-restored", &entry, &people, order, &done);
        let (dn, changed) = done?;
        Ok(Done {
            account: self.again(&dn, &session).await?,
            changed,
            ended: 0,
        })
    }

    async fn wake(
        &self,
        entry: &Entry,
        session: &Session,
        order: &Order,
    ) -> Result<(Dn, bool), Error> {
        let mut entry = entry.clone();
        let mut changed = false;
        if let (Some(home), Some(rest)) = (&self.settings.guests_ou, &self.settings.disabled_ou)
            && entry.dn.is_under(rest)
        {
            entry.dn = self.bring(session, &entry.dn, home).await?;
            changed = true;
        }
        changed |= self.give_back(session, &entry, order).await?;
        let memory = self.memory(&entry, &[]);
        // Last: an account that can be used lies where it belongs, with all it had.
        if fence::is_disabled(&entry) {
            let notes = shadow::without_mark(entry.text("info").unwrap_or_default());
            self.write(session, &entry, false, notes, memory).await?;
            changed = true;
        } else if !self.kept(&entry).is_empty() {
            let change = Change::Replace(managed::MEMORY.parse()?, memory);
            session.modify(&entry.dn, vec![change]).await?;
            changed = true;
        }
        Ok((entry.dn, changed))
    }

    /// Forgets the link to the person's account in the store and ends their sign-ins. The account itself is not touched; the
    /// next visit looks it up anew.
    ///
    /// # Errors
    /// There is no store, or it does not answer.
    pub async fn forget(&self, person: PersonId, order: &Order) -> Result<usize, Error> {
        let Some(store) = &self.tools.store else {
            let why = "there is no store yet: nothing is remembered of anybody";
            return Err(Error::Setup(String::from(why)));
        };
        let done = store.forget_account_link(person).await;
        tracing::info!(
            target: "audit",
            event = "account-forgotten",
            person = %person,
            by = order.by,
            reason = order.why,
            outcome = done.as_ref().err().map_or_else(|| String::from("done"), ToString::to_string),
            via = order.via,
        );
        done?;
        self.end(&[person], order).await
    }

    /// Whom an order to forget is about: the account's person, or the person named when there is no account any more.
    ///
    /// # Errors
    /// Neither, or nobody answers.
    pub async fn person(&self, asked: &Asked) -> Result<PersonId, Error> {
        if let Asked::Person(person) = asked {
            return Ok(*person);
        }
        let (entry, _) = self.one(asked).await?;
        match self.people(&entry).as_slice() {
            [one] => Ok(*one),
            _ => Err(Error::Refused {
                dn: entry.dn.to_string(),
                why: String::from("its person is not certain; ask by tid/oid"),
            }),
        }
    }

    /// The account, if it is one to act on.
    pub(super) async fn own(&self, asked: &Asked) -> Result<(Entry, Session), Error> {
        let (entry, session) = self.one(asked).await?;
        // SECURITY: only what carries our anchor, lies in our units and is nobody privileged.
        match self.untouchable(&entry, true) {
            None => Ok((entry, session)),
            Some(why) => Err(Error::Refused {
                dn: entry.dn.to_string(),
                why,
            }),
        }
    }

    async fn write(
        &self,
        session: &Session,
        entry: &Entry,
        disabled: bool,
        notes: String,
        memory: Vec<Vec<u8>>,
    ) -> Result<(), ldap::Error> {
        let control = fence::control(entry, disabled).to_string();
        let notes = match notes.as_str() {
            "" => Vec::new(),
            notes => vec![notes.as_bytes().to_vec()],
        };
        let mut changes = vec![
            Change::Replace("userAccountControl".parse()?, vec![control.into_bytes()]),
            Change::Replace("info".parse()?, notes),
        ];
        if memory != entry.values(managed::MEMORY) {
            changes.push(Change::Replace(managed::MEMORY.parse()?, memory));
        }
        session.modify(&entry.dn, changes).await
    }

    pub(super) async fn bring(
        &self,
        session: &Session,
        dn: &Dn,
        to: &Dn,
    ) -> Result<Dn, ldap::Error> {
        session.move_below(dn, to).await?;
        Ok(dn.below(to))
    }

    async fn again(&self, dn: &Dn, session: &Session) -> Result<Shadow, Error> {
        let wanted = self.wanted(true);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let Some(entry) = session.read(dn, &wanted).await? else {
            return Err(Error::Refused {
                dn: dn.to_string(),
                why: String::from("is gone: somebody moved or deleted it meanwhile"),
            });
        };
        self.portrait(&entry).await
    }

    pub(super) async fn end(&self, people: &[PersonId], order: &Order) -> Result<usize, Error> {
        let Some(store) = &self.tools.store else {
            return Ok(0);
        };
        let now = self.tools.clock.unix();
        let mut count = 0;
        for person in people {
            let whose = Whose::Person(*person);
            let ended = store.end_sign_ins(&whose, order.ends, now).await?;
            for one in &ended {
                tracing::info!(
                    target: "audit",
                    event = "sign-in-ended",
                    person = %one.person,
                    sign_in = %one.sign_in,
                    reason = order.ends.as_str(),
                    by = order.by,
                    via = order.via,
                );
            }
            count += ended.len();
        }
        Ok(count)
    }

    pub(super) fn audit(
        &self,
        event: &'static str,
        entry: &Entry,
        people: &[PersonId],
        order: &Order,
        done: &Result<(Dn, bool), Error>,
    ) {
        let outcome = match done {
            Ok((_, true)) => String::from("done"),
            Ok((_, false)) => String::from("so already"),
            Err(error) => error.to_string(),
        };
        tracing::info!(
            target: "audit",
            event,
            person = shadow::joined(people.iter().map(ToString::to_string)),
            sam = entry.text("sAMAccountName").unwrap_or_default(),
            dn = %entry.dn,
            by = order.by,
            reason = order.why,
            outcome,
            via = order.via,
        );
    }
}
