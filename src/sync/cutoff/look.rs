//! Who has left: Graph is asked, nobody is touched.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use futures_util::stream;
use uuid::Uuid;

use super::Error;
use super::Settings;
use super::Watch;
use super::mark::Mark;
use crate::graph;
use crate::graph::Change;
use crate::graph::Link;
use crate::graph::Then;
use crate::model::claims::Groups;
use crate::store::records::SignIn;

/// Who is signed in.
pub(super) type Live = Vec<SignIn>;

/// Who is in the groups that decide, nested ones included.
pub(super) type Members = BTreeMap<Uuid, BTreeSet<Uuid>>;

/// Whose token is wrong about which groups: whether they are in, as Graph says.
pub(super) type Wrong = BTreeMap<Uuid, BTreeMap<Uuid, bool>>;

/// What people's delta told.
pub(super) struct Told {
    /// Who was disabled or deleted; absent = that is not known, and everybody has to be asked about.
    gone: Option<BTreeSet<Uuid>>,
    /// Those among them who were told to be enabled as well.
    doubtful: BTreeSet<Uuid>,
    link: Link,
}

impl Watch {
    /// What happened since the mark. Asked before it is read who is signed in: whoever comes in between is among them.
    pub(super) async fn told(&self, mark: &Mark) -> Result<Told, Error> {
        let (tenant, now) = (self.settings.tenant, self.tools.clock.unix());
        if let Some(link) = mark.link(&self.tools.graph, tenant, now) {
            match self.pages(Some(link)).await {
                Ok(told) => return Ok(told),
                Err(Error::Graph(error @ graph::Error::ResyncNeeded { .. })) => {
                    tracing::info!(%error, "everybody who is signed in is asked about");
                }
                Err(error) => return Err(error),
            }
        }
        // The link first: whoever leaves while the others are asked about is told of next time.
        let told = self.pages(None).await?;
        Ok(Told { gone: None, ..told })
    }

    /// Those among `live` who were disabled or deleted; the mark goes on.
    pub(super) async fn gone(
        &self,
        told: &Told,
        mark: &mut Mark,
        live: &Live,
    ) -> Result<BTreeSet<Uuid>, Error> {
        let mut people: BTreeSet<Uuid> = live.iter().map(|one| one.claims.person.oid).collect();
        if let Some(gone) = &told.gone {
            people.retain(|oid| gone.contains(oid));
        }
        let gone = if told.gone.is_none() || people.len() > MANY {
            self.really_gone(&people).await?
        } else {
            let (doubtful, mut gone): (BTreeSet<Uuid>, BTreeSet<Uuid>) = people
                .into_iter()
                .partition(|oid| told.doubtful.contains(oid));
            gone.extend(self.really_gone(&doubtful).await?);
            gone
        };
        mark.go_on_from(&told.link, self.settings.tenant, self.tools.clock.unix());
        Ok(gone)
    }

    async fn pages(&self, from: Option<Link>) -> Result<Told, Error> {
        let (mut gone, mut here) = (BTreeSet::new(), BTreeSet::new());
        let mut link = None;
        let mut pages = self.tools.graph.leavers(from)?;
        while let Some(page) = pages.next().await? {
            for change in page.rows {
                match change {
                    Change::Removed(oid, _) => drop(gone.insert(oid)),
                    Change::Now(user) => match user.account_enabled.value() {
                        Some(false) => drop(gone.insert(user.id)),
                        Some(true) => drop(here.insert(user.id)),
                        None => {}
                    },
                }
            }
            match page.then {
                Then::Delta(next) => link = Some(next),
                Then::Page(_) | Then::End => {}
            }
        }
        // SECURITY: deltas come out of order. Whoever took the later word for the newer one would miss a leaver for good.
        here.retain(|oid| gone.contains(oid));
        Ok(Told {
            gone: Some(gone),
            doubtful: here,
            link: link.ok_or(Error::NoLink)?,
        })
    }

    /// Those of `people` who are disabled or not there, each asked about.
    async fn really_gone(&self, people: &BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, Error> {
        let asked = stream::iter(people.iter().copied()).map(async |oid| {
            match self.tools.graph.is_enabled(oid).await {
                // Half an answer says nothing about anybody.
                Ok(Some(true) | None) => Ok(None),
                Ok(Some(false)) | Err(graph::Error::UserUnknown(_)) => Ok(Some(oid)),
                Err(error) => Err(Error::from(error)),
            }
        });
        let gone = asked.buffer_unordered(AT_ONCE);
        gone.try_filter_map(async |one| Ok(one)).try_collect().await
    }

    /// Leaves those whose token is wrong indeed, each asked about.
    pub(super) async fn really_wrong(&self, wrong: Wrong) -> Result<Wrong, Error> {
        let asked = stream::iter(wrong).map(async |(oid, mut groups)| {
            let named: Vec<Uuid> = groups.keys().copied().collect();
            match self.tools.graph.member_now(oid, &named).await {
                Ok(now) => groups.retain(|group, is_in| now.contains(group) == *is_in),
                // Deleted meanwhile, and so in no group.
                Err(graph::Error::UserUnknown(_)) => groups.retain(|_, is_in| !*is_in),
                Err(error) => return Err(Error::from(error)),
            }
            Ok((oid, groups))
        });
        let mut wrong: Wrong = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        wrong.retain(|_, groups| !groups.is_empty());
        Ok(wrong)
    }

    /// Everybody in the groups that decide.
    pub(super) async fn members(&self) -> Result<Members, Error> {
        let mut all = Members::new();
        for group in self.settings.admitting.union(&self.settings.barring) {
            let mut members = BTreeSet::new();
            let mut pages = self.tools.graph.transitive_ids(*group)?;
            loop {
                match pages.next().await {
                    Ok(Some(page)) => members.extend(page.rows.iter().map(|one| one.id)),
                    // A group that was deleted has no members.
                    Ok(None) | Err(graph::Error::ObjectUnknown { .. }) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            all.insert(*group, members);
        }
        Ok(all)
    }
}

impl Settings {
    /// All groups that somebody's token is wrong about in a way that matters, and whether they are in.
    pub(super) fn wrong_groups(&self, sign_in: &SignIn, members: &Members) -> BTreeMap<Uuid, bool> {
        // In more groups than a token holds: then Graph is asked at each decision, and remembered for one recheck.
        let Groups::Listed(listed) = &sign_in.claims.groups else {
            return BTreeMap::new();
        };
        let oid = sign_in.claims.person.oid;
        let is_in = |group: &Uuid| members.get(group).is_some_and(|all| all.contains(&oid));
        let lost = self.admitting.iter();
        let lost = lost.filter(|group| listed.contains(group) && !is_in(group));
        let caught = self.barring.iter();
        let caught = caught.filter(|group| !listed.contains(group) && is_in(group));
        let lost = lost.map(|group| (*group, false));
        lost.chain(caught.map(|group| (*group, true))).collect()
    }
}

/// So many people may seem to have left between two rounds before each of them is asked about.
pub(super) const MANY: usize = 20;
/// Questions about single people at a time: thousands are to be through within a round.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::claims::Claims;
    use crate::model::claims::Home;
    use crate::model::names::PersonId;

    const PERSON: Uuid = Uuid::from_u128(9);
    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);
    const BARRED: Uuid = Uuid::from_u128(3);

    fn settings() -> Settings {
        Settings {
            tenant: Uuid::nil(),
            within: Duration::from_secs(300),
            admitting: [ONE, TWO].into(),
            barring: [BARRED].into(),
            notices: None,
        }
    }

    fn sign_in(groups: Groups) -> SignIn {
        SignIn {
            id: Uuid::nil(),
            claims: Claims {
                person: PersonId {
                    tid: Uuid::nil(),
                    oid: PERSON,
                },
                home: Home::Own,
                guest: None,
                display_name: None,
                given_name: None,
                family_name: None,
                email: None,
                upn: None,
                preferred_username: None,
                roles: Vec::new(),
                groups,
                onprem_sid: None,
                session_id: None,
                login_hint: None,
            },
            refresh_token: None,
            created: 0,
            checked: 0,
            expires: 0,
            ended: None,
        }
    }

    fn wrong(listed: &[Uuid], is_in: &[Uuid]) -> Vec<(Uuid, bool)> {
        let members = is_in.iter().map(|group| (*group, [PERSON].into()));
        let groups = Groups::Listed(listed.to_vec());
        let wrong = settings().wrong_groups(&sign_in(groups), &members.collect());
        wrong.into_iter().collect()
    }

    #[test]
    fn every_group_that_a_token_is_wrong_about_counts() {
        assert_eq!(wrong(&[ONE, TWO], &[ONE, TWO]), []);
        assert_eq!(wrong(&[ONE, TWO], &[ONE]), [(TWO, false)]);
        // One that is told already hides no other.
        assert_eq!(wrong(&[ONE, TWO], &[]), [(ONE, false), (TWO, false)]);
        assert_eq!(wrong(&[ONE], &[BARRED]), [(ONE, false), (BARRED, true)]);
        // To gain what admits, or to lose what bars, is for the next token to say.
        assert_eq!(wrong(&[], &[ONE]), []);
        assert_eq!(wrong(&[BARRED], &[]), []);
    }

    #[test]
    fn a_token_without_its_groups_is_wrong_about_none() {
        let found = settings().wrong_groups(&sign_in(Groups::Overage), &Members::new());
        assert!(found.is_empty());
    }
}
