//! May this person use this application?
//!
//! In: an [`AuthenticatedUser`] and the application. Out: an [`AuthorizedUser`], or a denial with its
//! reason. The order is a security decision and reads from top to bottom: guests, home tenant, deny,
//! allow, otherwise no. A group overage is resolved by asking Graph for just the groups that policies and
//! group mappings name; when Graph cannot be asked, the answer is no.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::authn::AuthenticatedUser;
use crate::graph::Graph;
use crate::model::application::Access;
use crate::model::application::Application;
use crate::model::application::Guests;
use crate::model::application::Kind;
use crate::model::application::Rule;
use crate::model::claims::Claims;
use crate::model::claims::Groups;
use crate::model::claims::Home;
use crate::model::stop::Code;
use crate::model::stop::Denial;
use crate::model::stop::Side;
use crate::model::stop::Stop;

/// A person who may use the application they asked for. Made only here.
#[derive(Clone, Debug)]
pub struct AuthorizedUser {
    user: AuthenticatedUser,
    /// What Graph answered, where the token did not list them.
    asked: Option<Arc<[Uuid]>>,
}

impl AuthorizedUser {
    /// The person, as authenticated.
    #[must_use]
    pub const fn user(&self) -> &AuthenticatedUser {
        &self.user
    }

    /// What the token said.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.user.claims()
    }

    /// The person's groups, as far as policies and mappings name them.
    #[must_use]
    pub fn groups(&self) -> &[Uuid] {
        match (&self.asked, &self.user.claims().groups) {
            (Some(asked), _) => asked,
            (None, Groups::Listed(groups)) => groups,
            (None, Groups::Overage) => &[],
        }
    }
}

/// The room.
#[derive(Clone)]
pub struct Authz {
    graph: Option<Graph>,
    mapped_groups: Arc<[Uuid]>,
}

impl Authz {
    /// `graph` resolves overages; `mapped_groups` are the groups that group mappings name.
    #[must_use]
    pub fn new(graph: Option<Graph>, mapped_groups: Vec<Uuid>) -> Self {
        Self {
            graph,
            mapped_groups: mapped_groups.into(),
        }
    }

    /// Graph, if there is one: who else asks it shares its budget.
    #[must_use]
    pub const fn graph(&self) -> Option<&Graph> {
        self.graph.as_ref()
    }

    /// Lets `user` into `app`.
    ///
    /// # Errors
    /// The denial's reason, or `groups-unknown` when an overage could not be resolved.
    pub async fn admit(
        &self,
        user: AuthenticatedUser,
        app: &Application,
    ) -> Result<AuthorizedUser, Stop> {
        let asked = match user.claims().groups {
            Groups::Listed(_) => None,
            // Boxed, as what is rare: it would lie in every request's future.
            Groups::Overage => Some(Box::pin(self.groups(user.claims(), app)).await?.into()),
        };
        let user = AuthorizedUser { user, asked };
        decide(user.claims(), user.groups(), &app.access).map_err(Stop::Deny)?;
        Ok(user)
    }

    /// Lets somebody who may use `app` in while it is closed for maintenance, if an exception fits.
    ///
    /// # Errors
    /// `maintenance`.
    pub fn excepted(&self, user: &AuthorizedUser, app: &Application) -> Result<(), Stop> {
        if is_excepted(user.claims(), user.groups(), app) {
            return Ok(());
        }
        let detail = format!("{} fits no exception", user.claims().person);
        Err(Stop::deny(Code::Maintenance, detail))
    }

    /// Resolves an overage.
    async fn groups(&self, claims: &Claims, app: &Application) -> Result<Vec<Uuid>, Stop> {
        let except = app.maintenance.iter().flat_map(|closed| &closed.except);
        let rules = app
            .access
            .allow
            .iter()
            .chain(&app.access.deny)
            .chain(except);
        let named: BTreeSet<Uuid> = rules
            .filter_map(|rule| rule.group)
            .chain(self.mapped_groups.iter().copied())
            .collect();
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = |why: String| {
            let person = claims.person;
            Stop::fail(
                Code::GroupsUnknown,
                Side::Issuer,
                format!("{person} is in more groups than the token holds, and {why}"),
            )
        };
        let Some(graph) = &self.graph else {
            return Err(unknown(String::from("issuer.graph is not configured")));
        };
        let named: Vec<Uuid> = named.into_iter().collect();
        graph
            .check_member_groups(claims.person.oid, &named)
            .await
            .map_err(|error| unknown(error.to_string()))
    }
}

/// The decision itself, pure.
///
/// # Errors
/// The first reason against, in the order of the module's first paragraph.
pub fn decide(claims: &Claims, groups: &[Uuid], access: &Access) -> Result<(), Denial> {
    let deny = |code, detail: String| Err(Denial { code, detail });
    let person = claims.person;
    if claims.is_guest() && access.guests == Guests::Deny {
        return deny(Code::GuestsDenied, format!("{person} is a guest"));
    }
    if claims.is_external() && !access.home_tenants.is_empty() {
        let listed = match &claims.home {
            Home::Tenant(home) => access.home_tenants.contains(home),
            Home::Own | Home::Provider(_) => false,
        };
        if !listed {
            return deny(
                Code::TenantDenied,
                format!("{person} comes from {:?}", claims.home),
            );
        }
    }
    if let Some(rule) = access.deny.iter().find(|rule| fits(rule, claims, groups)) {
        return deny(Code::DenyRule, format!("{person} fits {rule:?}"));
    }
    if access.allow.iter().any(|rule| fits(rule, claims, groups)) {
        return Ok(());
    }
    let roles = claims.roles.join(",");
    deny(
        Code::NotAllowed,
        format!("{person} fits no allow rule; app roles in the token: [{roles}]"),
    )
}

/// True unless `app` is closed for maintenance and no exception fits.
#[must_use]
pub fn is_excepted(claims: &Claims, groups: &[Uuid], app: &Application) -> bool {
    app.maintenance.as_ref().is_none_or(|closed| {
        let mut rules = closed.except.iter();
        rules.any(|rule| fits(rule, claims, groups))
    })
}

/// True when every part of `rule` fits; a rule without parts fits nobody.
fn fits(rule: &Rule, claims: &Claims, groups: &[Uuid]) -> bool {
    if *rule == Rule::default() {
        return false;
    }
    let role = rule
        .role
        .as_ref()
        .is_none_or(|role| claims.roles.contains(role));
    let group = rule.group.is_none_or(|group| groups.contains(&group));
    let home = rule
        .home_tenant
        .is_none_or(|home| claims.home == Home::Tenant(home));
    let person = rule.person.is_none_or(|oid| claims.person.oid == oid);
    let kind = rule.kind.is_none_or(|kind| match kind {
        Kind::Anyone => true,
        Kind::Guest => claims.is_guest(),
        Kind::Member => !claims.is_guest(),
        Kind::External => claims.is_external(),
        Kind::Employee => !claims.is_guest() && !claims.is_external(),
    });
    role && group && home && person && kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::PersonId;

    const GROUP: Uuid = Uuid::from_u128(0x99);
    const HOME: Uuid = Uuid::from_u128(0xb);

    fn claims(home: Home, guest: Option<bool>, roles: &[&str]) -> Claims {
        Claims {
            person: PersonId {
                tid: Uuid::from_u128(0xa),
                oid: Uuid::from_u128(1),
            },
            home,
            guest,
            display_name: None,
            given_name: None,
            family_name: None,
            email: None,
            upn: None,
            preferred_username: None,
            roles: roles.iter().map(ToString::to_string).collect(),
            groups: Groups::Listed(Vec::new()),
            onprem_sid: None,
            session_id: None,
            login_hint: None,
        }
    }

    fn access(guests: Guests, allow: Rule) -> Access {
        Access {
            guests,
            allow: vec![allow],
            ..Access::default()
        }
    }

    fn role(role: &str) -> Rule {
        Rule {
            role: Some(role.to_owned()),
            ..Rule::default()
        }
    }

    fn kind(kind: Kind) -> Rule {
        Rule {
            kind: Some(kind),
            ..Rule::default()
        }
    }

    fn why(claims: &Claims, groups: &[Uuid], access: &Access) -> Option<Code> {
        decide(claims, groups, access)
            .err()
            .map(|denial| denial.code)
    }

    #[test]
    fn nobody_enters_without_a_fitting_rule() {
        let guest = claims(Home::Tenant(HOME), Some(true), &["A"]);
        assert_eq!(
            why(
                &guest,
                &[],
                &Access {
                    guests: Guests::Existing,
                    ..Access::default()
                }
            ),
            Some(Code::NotAllowed)
        );
        assert_eq!(
            why(&guest, &[], &access(Guests::Existing, Rule::default())),
            Some(Code::NotAllowed)
        );
        assert_eq!(
            why(&guest, &[], &access(Guests::Existing, role("B"))),
            Some(Code::NotAllowed)
        );
        assert_eq!(why(&guest, &[], &access(Guests::Existing, role("A"))), None);
    }

    #[test]
    fn every_part_of_a_rule_must_fit() {
        let guest = claims(Home::Tenant(HOME), Some(true), &["A"]);
        let both = Rule {
            group: Some(GROUP),
            ..role("A")
        };
        assert_eq!(
            why(&guest, &[], &access(Guests::Existing, both.clone())),
            Some(Code::NotAllowed)
        );
        assert_eq!(why(&guest, &[GROUP], &access(Guests::Existing, both)), None);
    }

    #[test]
    fn guests_tenants_and_deny_rules_come_before_allow() {
        let guest = claims(Home::Tenant(HOME), Some(true), &["A"]);
        assert_eq!(
            why(&guest, &[], &access(Guests::Deny, role("A"))),
            Some(Code::GuestsDenied)
        );
        let mut elsewhere = access(Guests::Existing, role("A"));
        elsewhere.home_tenants = vec![Uuid::from_u128(0xc)];
        assert_eq!(why(&guest, &[], &elsewhere), Some(Code::TenantDenied));
        let mut denied = access(Guests::Existing, role("A"));
        denied.deny = vec![kind(Kind::External)];
        assert_eq!(why(&guest, &[], &denied), Some(Code::DenyRule));
    }

    #[test]
    fn external_and_guest_are_two_facts() {
        let member = claims(Home::Tenant(HOME), Some(false), &[]);
        let internal_guest = claims(Home::Own, Some(true), &[]);
        let employee = claims(Home::Own, Some(false), &[]);
        let silent = claims(Home::Provider(String::from("live.com")), None, &[]);
        let enters = |c: &Claims, k| why(c, &[], &access(Guests::Existing, kind(k))).is_none();
        assert!(enters(&member, Kind::External) && enters(&member, Kind::Member));
        assert!(!enters(&member, Kind::Guest) && !enters(&member, Kind::Employee));
        assert!(enters(&internal_guest, Kind::Guest) && !enters(&internal_guest, Kind::External));
        assert!(enters(&employee, Kind::Employee));
        assert!(
            enters(&silent, Kind::Guest),
            "who signs in elsewhere and is not called a member is a guest"
        );
    }
}
