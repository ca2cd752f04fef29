//! Steps of a synchronization on one account, beside disabling and restoring: the same checks, the same audit.

use super::Asked;
use super::Error;
use super::Lifecycle;
use super::Order;
use crate::ldap::Attribute;
use crate::ldap::Change;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Session;
use crate::mapping::fence;

/// An attribute and what it is to hold; `None` takes it away.
pub type NewValue = (Attribute, Option<String>);

impl Lifecycle {
    /// Writes these values and no others.
    ///
    /// # Errors
    /// No such account, not one of ours, or the directory does not answer.
    pub async fn write_values(
        &self,
        asked: &Asked,
        values: &[NewValue],
        order: &Order,
    ) -> Result<(), Error> {
        let (entry, session) = self.own(asked).await?;
        let changes = values.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| value.clone().into_bytes());
            Change::Replace(name.clone(), value.into_iter().collect())
        });
        let done = session.modify(&entry.dn, changes.collect()).await;
        let done = done.map(|()| (entry.dn.clone(), true)).map_err(Error::from);
        self.audit(
            "account-updated",
            &entry,
            &self.people(&entry),
            order,
            &done,
        );
        done.map(drop)
    }

    /// Moves the account to where it belongs: disabled ones to rest, the others into the guests' OU.
    ///
    /// # Errors
    /// No such account, not one of ours, or the directory does not answer.
    pub async fn settle(&self, asked: &Asked, order: &Order) -> Result<(), Error> {
        let (entry, session) = self.own(asked).await?;
        let place = if fence::is_disabled(&entry) {
            &self.settings.disabled_ou
        } else {
            &self.settings.guests_ou
        };
        let done = self.bring_below(&session, &entry, place.as_ref()).await;
        self.audit("account-moved", &entry, &self.people(&entry), order, &done);
        done.map(drop)
    }

    async fn bring_below(
        &self,
        session: &Session,
        entry: &Entry,
        place: Option<&Dn>,
    ) -> Result<(Dn, bool), Error> {
        match place.filter(|place| !entry.dn.is_under(place)) {
            Some(place) => Ok((self.bring(session, &entry.dn, place).await?, true)),
            None => Ok((entry.dn.clone(), false)),
        }
    }

    /// Deletes the account for ever, ends its person's sign-ins and forgets the link to it.
    ///
    /// # Errors
    /// No such account, not one of ours, not disabled, or the directory or the store does not answer.
    pub async fn delete(&self, asked: &Asked, order: &Order) -> Result<(), Error> {
        let (entry, session) = self.own(asked).await?;
        // SECURITY: whoever is deleted has rested before. No mistake of a plan deletes an account in use.
        if !fence::is_disabled(&entry) {
            return Err(Error::Refused {
                dn: entry.dn.to_string(),
                why: String::from("is not disabled, and only those are deleted"),
            });
        }
        let people = self.people(&entry);
        let done = session.delete(&entry.dn).await;
        let done = done.map(|()| (entry.dn.clone(), true)).map_err(Error::from);
        self.audit("account-deleted", &entry, &people, order, &done);
        done?;
        if let Some(store) = &self.tools.store {
            for person in &people {
                store.forget_account_link(*person).await?;
            }
        }
        self.end(&people, order).await?;
        Ok(())
    }
}
