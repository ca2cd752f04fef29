//! How far the last round came. In the store: replicas go on where another one stopped, and so does a restart.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::notices::Kept as Subscribed;
use crate::graph::DELTA_LASTS;
use crate::graph::Graph;
use crate::graph::LEAVERS_SELECT;
use crate::graph::Link;

/// What is kept between rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    /// Where the delta of people goes on.
    link: Option<Kept>,
    /// When a round last came to its end.
    pub(super) done: Option<i64>,
    /// When groups were last read.
    pub(super) groups: Option<i64>,
    /// What Graph was asked to tell.
    pub(super) subscriptions: Vec<Subscribed>,
    /// Sign-ins that ended for a group: which group, whose, when.
    pub(super) told: BTreeMap<Uuid, BTreeMap<Uuid, i64>>,
}

/// A link, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    tenant: Uuid,
    select: String,
    link: String,
    at: i64,
}

impl Mark {
    /// As it was kept; what cannot be read is as good as nothing.
    pub(super) fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// To be kept.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The link, if it is of this tenant, of the same question, young enough, and leads to the configured Graph.
    pub(super) fn link(&self, graph: &Graph, tenant: Uuid, now: i64) -> Option<Link> {
        let kept = self.link.as_ref().filter(|kept| kept.fits(tenant, now))?;
        graph.link(&kept.link).ok()
    }

    /// Keeps `link`, which was given at `now`.
    pub(super) fn go_on_from(&mut self, link: &Link, tenant: Uuid, now: i64) {
        self.link = Some(Kept {
            tenant,
            select: String::from(LEAVERS_SELECT),
            link: link.as_str().to_owned(),
            at: now,
        });
    }

    /// Whether somebody's sign-ins have ended for `group` already. A token may go on naming a group for a while: whoever it lets in
    /// again is not thrown out at every round.
    pub(super) fn has_told(&self, group: Uuid, person: Uuid) -> bool {
        let of_group = self.told.get(&group);
        of_group.is_some_and(|people| people.contains_key(&person))
    }

    /// Notes that somebody's sign-ins end for `group`.
    ///
    /// SECURITY: the first time counts. Whoever is let in by a wrong token again and again is thrown out again after a while.
    pub(super) fn tell(&mut self, group: Uuid, person: Uuid, now: i64) {
        let of_group = self.told.entry(group).or_default();
        of_group.entry(person).or_insert(now);
    }

    /// Forgets what was told long ago, or is as it was before.
    pub(super) fn forget(&mut self, now: i64, is_settled: impl Fn(Uuid, Uuid) -> bool) {
        for (group, people) in &mut self.told {
            people.retain(|person, at| now - *at < REMEMBERED && !is_settled(*group, *person));
        }
        self.told.retain(|_, people| !people.is_empty());
    }
}

impl Kept {
    fn fits(&self, tenant: Uuid, now: i64) -> bool {
        let age = now.saturating_sub(self.at);
        let lasts = i64::try_from(DELTA_LASTS.as_secs()).unwrap_or_default();
        self.tenant == tenant && self.select == LEAVERS_SELECT && (0..lasts).contains(&age)
    }
}

/// Seconds: longer than an issuer hands out old tokens.
const REMEMBERED: i64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn kept() -> Kept {
        Kept {
            tenant: TENANT,
            select: String::from(LEAVERS_SELECT),
            link: String::from("https://graph.microsoft.com/v1.0/users/delta?$deltatoken=x"),
            at: 1_000_000,
        }
    }

    #[test]
    fn a_link_is_followed_for_seven_days_in_its_own_tenant_for_the_same_question() {
        let now = 1_000_000;
        assert!(kept().fits(TENANT, now));
        assert!(kept().fits(TENANT, now + 7 * 86_400 - 1));
        assert!(!kept().fits(TENANT, now + 7 * 86_400));
        assert!(!kept().fits(TENANT, now - 1), "the clock was put back");
        assert!(!kept().fits(OTHER, now));
        let mut other = kept();
        other.select.push_str(",mail");
        assert!(!other.fits(TENANT, now));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        for text in [None, Some(""), Some("[]"), Some("{\"link\":7}")] {
            assert_eq!(Mark::read(text), Mark::default(), "{text:?}");
        }
        let mut mark = Mark {
            link: Some(kept()),
            ..Mark::default()
        };
        mark.tell(TENANT, OTHER, 7);
        assert_eq!(Mark::read(Some(&mark.text())), mark);
    }

    #[test]
    fn a_group_ends_a_sign_in_once_until_it_has_settled() {
        let (group, person) = (TENANT, OTHER);
        let mut mark = Mark::default();
        assert!(!mark.has_told(group, person));
        mark.tell(group, person, 100);
        mark.forget(300, |_, _| false);
        assert!(mark.has_told(group, person), "still remembered");
        assert!(
            !mark.has_told(person, group),
            "another group is another end"
        );
        mark.forget(400, |_, _| true);
        assert!(!mark.has_told(group, person), "a member again");
        mark.tell(group, person, 400);
        mark.tell(group, person, 400 + REMEMBERED - 1);
        mark.forget(400 + REMEMBERED, |_, _| false);
        assert!(!mark.has_told(group, person), "not for ever, however often");
        assert!(mark.told.is_empty());
    }
}
