//! `[sync.guests]`: who gets an account ahead of the first visit, and when it goes.

use std::time::Duration;

use uuid::Uuid;

use crate::config::Config;
use crate::config::reader::Section;

/// Graph is asked about everybody each time.
const OFTEN: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86400);

/// What may follow the cloud.
const ATTRIBUTES: [&str; 8] = [
    "userPrincipalName",
    "displayName",
    "givenName",
    "sn",
    "mail",
    "company",
    "mobile",
    "employeeType",
];
/// What does unless told otherwise: as a sign-in writes it.
const USUAL: usize = 6;

/// Guests of the cloud as accounts.
#[derive(Clone, Debug)]
pub struct GuestsSync {
    /// How often the gateway does it by itself; absent = never.
    pub every: Option<Duration>,
    /// Whose.
    pub scope: ScopeOf,
    /// The groups of [`ScopeOf::Groups`].
    pub groups: Vec<Uuid>,
    /// Whether members from elsewhere count as guests.
    pub external_members: bool,
    /// Whether those get an account who have not redeemed their invitation.
    pub pending: bool,
    /// How long an invitation may wait; absent = for ever.
    pub redeem_within: Option<Duration>,
    /// How long nothing may happen to an account; absent = for ever.
    pub unseen_after: Option<Duration>,
    /// How long a disabled account rests; absent = for ever.
    pub delete_after: Option<Duration>,
    /// Attributes that follow the cloud.
    pub attributes: Vec<String>,
    /// Whether accounts that other tools have made are taken over.
    pub adopt: bool,
    /// Connections to the directory, and steps under way at once.
    pub connections: usize,
    /// Whether `[[mapping.groups]]` are kept too, not only at sign-ins.
    pub memberships: bool,
    /// Most removals of a run.
    pub brake_removals: usize,
    /// The same in percent of the accounts in use.
    pub brake_percent: usize,
}

/// Whose accounts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeOf {
    /// All guests'.
    All,
    /// The members' of some groups.
    Groups,
    /// Those assigned to the gateway's own application registration.
    Assigned,
}

pub(super) fn guests(section: &Section<'_>) -> GuestsSync {
    let scope = section.choice(
        "scope",
        &[
            ("all", ScopeOf::All),
            ("groups", ScopeOf::Groups),
            ("assigned", ScopeOf::Assigned),
        ],
    );
    let scope = scope.unwrap_or(ScopeOf::All);
    let groups: Vec<Uuid> = section.list("groups", "a group's object id (GUID)");
    // SECURITY: an empty list would be "nobody", and everybody's account would go.
    if (scope == ScopeOf::Groups) == groups.is_empty() {
        section.mistake(
            "groups",
            "goes with scope = \"groups\", and needs at least one",
        );
    }
    let attributes: Vec<String> = section.list("attributes", "an attribute's name");
    for name in &attributes {
        if !ATTRIBUTES.contains(&name.as_str()) {
            let problem = format!("{name:?} is none of {}", ATTRIBUTES.join(", "));
            section.mistake("attributes", &problem);
        }
    }
    let attributes = if attributes.is_empty() {
        let usual = ATTRIBUTES.iter().take(USUAL);
        usual.map(ToString::to_string).collect()
    } else {
        attributes
    };
    // "0s" = never: a span that is over at once would be one slip away from everybody's.
    let span = |key, default| Some(section.span(key, default)).filter(|span| !span.is_zero());
    let number = |key, most, default| {
        usize::try_from(section.number(key, 0..=most, default)).unwrap_or_default()
    };
    let guests = GuestsSync {
        every: span("every", Duration::ZERO),
        scope,
        groups,
        external_members: section.flag("external_members", true),
        pending: section.flag("pending", false),
        redeem_within: span("redeem_within", DAY * 30),
        unseen_after: span("unseen_after", Duration::ZERO),
        delete_after: span("delete_after", DAY * 30),
        attributes,
        adopt: section.flag("adopt", false),
        connections: usize::try_from(section.number("connections", 1..=32, 1)).unwrap_or(1),
        memberships: section.flag("memberships", false),
        brake_removals: number("brake_removals", 1_000_000, 50),
        brake_percent: number("brake_percent", 100, 10),
    };
    for (key, span) in [
        ("redeem_within", guests.redeem_within),
        ("unseen_after", guests.unseen_after),
        ("delete_after", guests.delete_after),
    ] {
        if span.is_some_and(|span| span < DAY) {
            section.mistake(key, "is less than a day; \"0s\" is never");
        }
    }
    if guests.every.is_some_and(|every| every < OFTEN) {
        section.mistake("every", "is less than 10 s; \"0s\" is never");
    }
    section.finish();
    guests
}

/// What only shows beside the other sections.
pub(super) fn together(config: &Config) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    let sync = &config.guests_sync;
    let able =
        config.issuer.graph.is_some() && config.mapping.is_some() && config.directory.is_some();
    if sync.every.is_some() && !able {
        let why = "wants issuer.graph and the sections [directory] and [mapping]";
        problems.push(("sync.guests.every", String::from(why)));
    }
    let mapped = config.mapping.iter().flat_map(|mapping| &mapping.groups);
    let roles = mapped.filter(|group| group.role.is_some()).count();
    if sync.memberships && roles > 0 && config.issuer.client_id.parse::<Uuid>().is_err() {
        let why = "goes with [[mapping.groups]] of a role, but issuer.client_id is no GUID that graph could be asked about";
        problems.push(("sync.guests.memberships", String::from(why)));
    }
    if sync.scope == ScopeOf::Assigned && config.issuer.client_id.parse::<Uuid>().is_err() {
        let why =
            "is \"assigned\", but issuer.client_id is no GUID that graph could be asked about";
        problems.push(("sync.guests.scope", String::from(why)));
    }
    problems
}
