//! `[sync.partners]`: which accounts on premises become guests of the cloud, and how.

use std::time::Duration;

use uuid::Uuid;

use crate::config::Config;
use crate::config::reader::Section;

/// Graph is asked about everybody each time.
const OFTEN: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86400);

/// What may follow the directory.
const ATTRIBUTES: [&str; 8] = [
    "displayName",
    "givenName",
    "sn",
    "company",
    "title",
    "department",
    "mobile",
    "employeeID",
];
/// What does unless told otherwise.
const USUAL: usize = 6;

/// Partners' accounts as guests of the cloud.
#[derive(Clone, Debug)]
pub struct PartnersSync {
    /// How often the gateway does it by itself; absent = never.
    pub every: Option<Duration>,
    /// Units in which partners' accounts lie.
    pub bases: Vec<String>,
    /// Which of the accounts there; absent = all.
    pub filter: Option<String>,
    /// The attribute with which people sign in.
    pub sign_in: String,
    /// Whether they are members instead of guests.
    pub members: bool,
    /// Who is of another type.
    pub type_rules: Vec<TypeRule>,
    /// Whether people who are not in the cloud are invited.
    pub invite: bool,
    /// Most invitations of a run.
    pub invitations: usize,
    /// Where the invited are led.
    pub redirect: String,
    /// Whether Microsoft writes to them.
    pub invitation_mail: bool,
    /// In which language.
    pub language: Option<String>,
    /// A text of one's own.
    pub message: Option<String>,
    /// Whether internal accounts become invited ones.
    pub convert: bool,
    /// Attributes that follow the directory.
    pub attributes: Vec<String>,
    /// The cloud's attribute that holds the record.
    pub record: String,
    /// Groups to be a member of.
    pub groups: Vec<Uuid>,
    /// Applications to be assigned to.
    pub assign: Vec<Assign>,
    /// How long a disabled person rests; absent = for ever.
    pub delete_after: Option<Duration>,
    /// Most removals of a run.
    pub brake_removals: usize,
    /// The same in percent of the people in use.
    pub brake_percent: usize,
}

/// Who is of another type than usual.
#[derive(Clone, Debug)]
pub struct TypeRule {
    /// Below this unit.
    pub ou: Option<String>,
    /// With this value of `attribute`.
    pub attribute: Option<String>,
    /// The value.
    pub value: String,
    /// Whether they are members.
    pub members: bool,
}

/// An application to be assigned to.
#[derive(Clone, Debug)]
pub struct Assign {
    /// Its client id.
    pub application: Uuid,
    /// The app role's value; empty = just assigned.
    pub role: String,
}

const TYPES: [(&str, bool); 2] = [("guest", false), ("member", true)];

pub(super) fn partners(section: &Section<'_>) -> Option<PartnersSync> {
    if !section.exists() {
        return None;
    }
    let bases: Vec<String> = section.list("bases", "a distinguished name");
    // SECURITY: an empty list would be "nobody", and everybody's access would go.
    if bases.is_empty() {
        let wanted = "a list of distinguished names: the units of partners' accounts";
        section.required::<()>("bases", wanted, None);
    }
    // "0s" = never: a span that is over at once would be one slip away from everybody's.
    let span = |key, default| Some(section.span(key, default)).filter(|span| !span.is_zero());
    let number = |key, most, default| {
        usize::try_from(section.number(key, 0..=most, default)).unwrap_or_default()
    };
    let partners = PartnersSync {
        every: span("every", Duration::ZERO),
        bases,
        filter: section.text("filter"),
        sign_in: section
            .text("sign_in")
            .unwrap_or_else(|| String::from("mail")),
        members: section.choice("user_type", &TYPES).unwrap_or(false),
        type_rules: type_rules(section),
        invite: section
            .choice("create", &[("invite", true), ("never", false)])
            .unwrap_or(true),
        invitations: number("invitations", 10_000, 200),
        redirect: redirect(section),
        invitation_mail: section.flag("invitation_mail", false),
        language: section.text("invitation_language"),
        message: section.text("invitation_message"),
        convert: section
            .choice("internal", &[("leave", false), ("convert", true)])
            .unwrap_or(false),
        attributes: attributes(section),
        record: record(section),
        groups: section.list("groups", "a group's object id (GUID)"),
        assign: assign(section),
        delete_after: span("delete_after", DAY * 30),
        brake_removals: number("brake_removals", 1_000_000, 50),
        brake_percent: number("brake_percent", 100, 10),
    };
    if partners.delete_after.is_some_and(|span| span < DAY) {
        section.mistake("delete_after", "is less than a day; \"0s\" is never");
    }
    if partners.every.is_some_and(|every| every < OFTEN) {
        section.mistake("every", "is less than 10 s; \"0s\" is never");
    }
    if !partners.invitation_mail && (partners.language.is_some() || partners.message.is_some()) {
        let why = "is not true, and without a mail nobody reads invitation_language or _message";
        section.mistake("invitation_mail", why);
    }
    section.finish();
    Some(partners)
}

fn type_rules(section: &Section<'_>) -> Vec<TypeRule> {
    let sections = section.sections("user_types");
    let rules = sections.iter().filter_map(|one| {
        let rule = TypeRule {
            ou: one.text("ou"),
            attribute: one.text("attribute"),
            value: one.text("value").unwrap_or_default(),
            members: one.required(
                "user_type",
                "\"guest\" or \"member\"",
                one.choice("user_type", &TYPES),
            )?,
        };
        if rule.ou.is_none() && rule.attribute.is_none() {
            one.mistake(
                "attribute",
                "is missing; wanted: ou, or attribute with value",
            );
        }
        if rule.attribute.is_some() == rule.value.is_empty() {
            one.mistake("value", "goes with attribute, and cannot be empty");
        }
        one.finish();
        Some(rule)
    });
    rules.collect()
}

fn assign(section: &Section<'_>) -> Vec<Assign> {
    let sections = section.sections("assign");
    let all = sections.iter().filter_map(|one| {
        const CLIENT: &str = "an application's client id (GUID)";
        let application = one.required("application", CLIENT, one.parsed("application", CLIENT));
        let role = one.text("role").unwrap_or_default();
        one.finish();
        Some(Assign {
            application: application?,
            role,
        })
    });
    all.collect()
}

fn redirect(section: &Section<'_>) -> String {
    let text = section.text("invitation_redirect");
    let text = text.unwrap_or_else(|| String::from("https://myapplications.microsoft.com/"));
    if !url::Url::parse(&text).is_ok_and(|url| url.scheme() == "https") {
        let problem = format!("{text:?} is no https URL");
        section.mistake("invitation_redirect", &problem);
    }
    text
}

fn attributes(section: &Section<'_>) -> Vec<String> {
    let named: Vec<String> = section.list("attributes", "an attribute's name");
    for name in &named {
        if !ATTRIBUTES.contains(&name.as_str()) {
            let problem = format!("{name:?} is none of {}", ATTRIBUTES.join(", "));
            section.mistake("attributes", &problem);
        }
    }
    if named.is_empty() {
        let usual = ATTRIBUTES.iter().take(USUAL);
        return usual.map(ToString::to_string).collect();
    }
    named
}

/// `extensionAttribute1` to `15`.
fn record(section: &Section<'_>) -> String {
    let name = section.text("record");
    let name = name.unwrap_or_else(|| String::from("extensionAttribute14"));
    let number = name.strip_prefix("extensionAttribute");
    let number = number.and_then(|number| number.parse::<u8>().ok());
    if !number.is_some_and(|n| (1..=15).contains(&n) && name == format!("extensionAttribute{n}")) {
        let problem = format!("{name:?} is none of extensionAttribute1 to extensionAttribute15");
        section.mistake("record", &problem);
    }
    name
}

/// What only shows beside the other sections.
pub(super) fn together(config: &Config) -> Vec<(&'static str, String)> {
    let able =
        config.issuer.graph.is_some() && config.mapping.is_some() && config.directory.is_some();
    if config.partners_sync.is_some() && !able {
        let why = "wants issuer.graph and the sections [directory] and [mapping]";
        return vec![("sync.partners", String::from(why))];
    }
    Vec::new()
}
