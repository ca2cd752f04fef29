//! One shadow account as an administrator wants to see it.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Error;
use super::Lifecycle;
use crate::ldap::Entry;
use crate::mapping::fence;
use crate::mapping::managed;
use crate::mapping::names;
use crate::model::names::PersonId;

/// A disabled account's note in `info` begins with this.
const MARK: &str = "kerbgate disabled ";
/// `info` (MS-ADA: rangeUpper 1024, in UTF-16 units).
const LONGEST_NOTES: usize = 1024;

/// An account, with what the directory and the store know of it. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct Shadow {
    /// `tid/oid`; absent when several tenants are accepted and the account's name does not say for which it was made.
    pub person: Option<String>,
    /// The anchor's value.
    pub anchor: String,
    /// `sAMAccountName`.
    pub sam: String,
    /// `userPrincipalName`.
    pub upn: String,
    /// `displayName`.
    pub name: String,
    /// `mail`.
    pub mail: String,
    /// The distinguished name.
    pub dn: String,
    /// `objectSid`.
    pub sid: String,
    /// `objectGUID`.
    pub guid: Option<Uuid>,
    /// The groups it is a direct member of; the primary group is not among them.
    pub groups: Vec<String>,
    /// When it was made.
    pub created: Option<String>,
    /// Whether it can be used.
    pub state: State,
    /// Why it is disabled, if Kerbgate did it.
    pub disabled: Option<Mark>,
    /// Why Kerbgate does not act on it, if so.
    pub untouchable: Option<String>,
    /// When a session of the person was last used, as long as the store remembers it.
    pub last_used: Option<String>,
    /// When a controller last saw a logon, its own count: exact to about two weeks.
    pub last_logon: Option<String>,
    /// Sign-ins that are running.
    pub sign_ins: u32,
}

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It can.
    Enabled,
    /// Disabled, by whomever.
    Disabled,
    /// Locked out, for a while.
    Locked,
    /// `accountExpires` has passed.
    Expired,
}

impl State {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::Expired => "expired",
        }
    }
}

/// Kerbgate's note on an account that it disabled: one line of `info`, which administrators see as *Notes*.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// When, RFC 3339.
    pub since: String,
    /// Who ordered it.
    pub by: String,
    /// The order's own words.
    pub why: String,
}

impl Mark {
    /// The mark in an account's notes, if there is one.
    #[must_use]
    pub fn read(notes: &str) -> Option<Self> {
        let line = notes.lines().find_map(|line| line.strip_prefix(MARK))?;
        let (since, rest) = line.split_once(" by ")?;
        let (by, why) = rest.split_once(": ").unwrap_or((rest, ""));
        Some(Self {
            since: since.to_owned(),
            by: by.to_owned(),
            why: why.to_owned(),
        })
    }

    /// `notes` with this mark in place of an older one. Somebody else's notes are kept; what does not fit beside them is our own.
    pub(super) fn put(&self, notes: &str) -> String {
        let others = without_mark(notes);
        let room = LONGEST_NOTES.saturating_sub(others.encode_utf16().count() + 2);
        let head = format!("{MARK}{} by {}", self.since, self.by);
        let line = names::clip(&format!("{head}: {}", self.why), room);
        // The reason may be cut; when and who are the mark.
        let Some(line) = line.filter(|line| line.len() >= head.len()) else {
            return others;
        };
        if others.is_empty() {
            line
        } else {
            format!("{line}\r\n{others}")
        }
    }
}

/// `notes` without our mark.
pub(super) fn without_mark(notes: &str) -> String {
    if !notes.lines().any(|line| line.starts_with(MARK)) {
        return notes.to_owned();
    }
    let others: Vec<&str> = notes
        .lines()
        .filter(|line| !line.starts_with(MARK))
        .collect();
    others.join("\r\n")
}

/// The value of a person's anchor.
pub(super) fn anchor(oid: Uuid) -> String {
    format!("User_{oid}")
}

/// The object id in an anchor's value.
pub(super) fn oid_of(anchor: &str) -> Option<Uuid> {
    let (kind, oid) = anchor.split_at_checked(5)?;
    kind.eq_ignore_ascii_case("User_")
        .then(|| oid.parse().ok())?
}

pub(super) fn joined(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A time as people and programs read it.
pub(super) fn moment(unix: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(unix).ok()?;
    time.format(&Rfc3339).ok()
}

impl Lifecycle {
    /// What is read of an account; `alone`: also what a controller computes for one entry at a time only.
    pub(super) fn wanted(&self, alone: bool) -> Vec<String> {
        let more = [
            self.settings.anchor.as_str(),
            "displayName",
            "mail",
            "info",
            managed::MEMORY,
            "whenCreated",
            "lastLogonTimestamp",
        ];
        fence::ATTRIBUTES
            .into_iter()
            .filter(|name| alone || *name != "tokenGroups")
            .chain(more)
            .map(String::from)
            .collect()
    }

    /// Whose account it may be: one person, unless several tenants are accepted and its name does not say.
    pub(super) fn people(&self, entry: &Entry) -> Vec<PersonId> {
        let Some(oid) = self.oid(entry) else {
            return Vec::new();
        };
        let all = self.tools.tenants.iter();
        let all: Vec<PersonId> = all.map(|tid| PersonId { tid: *tid, oid }).collect();
        let sam = entry.text("sAMAccountName").unwrap_or_default();
        let prefix = &self.settings.sam_prefix;
        match all.iter().find(|one| names::sam(prefix, **one) == sam) {
            Some(one) => vec![*one],
            None => all,
        }
    }

    pub(super) fn oid(&self, entry: &Entry) -> Option<Uuid> {
        entry.texts(self.settings.anchor.as_str()).find_map(oid_of)
    }

    /// Why nothing is done to this account, if so.
    pub(super) fn untouchable(&self, entry: &Entry, alone: bool) -> Option<String> {
        if self.oid(entry).is_none() {
            return Some(format!("has no anchor ({})", self.settings.anchor));
        }
        if !fence::is_ours(entry, true) {
            let why = "its source of authority (msDS-ObjectSoa) is another system";
            return Some(String::from(why));
        }
        let places: Vec<_> = self.places().into_iter().cloned().collect();
        let judged = if alone {
            fence::may_change(entry, &places)
        } else {
            fence::may_list(entry, &places)
        };
        let denial = judged.err()?;
        Some(format!("{} [{}]", denial.detail, denial.code))
    }

    /// The account with what the store knows.
    pub(super) async fn portrait(&self, entry: &Entry) -> Result<Shadow, Error> {
        let mut shadow = self.shadow(entry, true);
        self.add_use(&mut shadow, &self.people(entry)).await?;
        Ok(shadow)
    }

    pub(super) async fn add_use(
        &self,
        shadow: &mut Shadow,
        people: &[PersonId],
    ) -> Result<(), Error> {
        let Some(store) = &self.tools.store else {
            return Ok(());
        };
        let mut last = None;
        for person in people {
            let seen = store.person_seen(*person, self.tools.clock.unix()).await?;
            last = last.max(seen.last);
            shadow.sign_ins = shadow.sign_ins.saturating_add(seen.sign_ins);
        }
        shadow.last_used = last.and_then(moment);
        Ok(())
    }

    pub(super) fn shadow(&self, entry: &Entry, alone: bool) -> Shadow {
        let text = |name: &str| entry.text(name).unwrap_or_default().to_owned();
        let people = self.people(entry);
        let person = match people.as_slice() {
            [one] => Some(one.to_string()),
            _ => None,
        };
        let now = self.tools.clock.unix();
        let disabled = fence::is_disabled(entry);
        Shadow {
            person,
            anchor: text(self.settings.anchor.as_str()),
            sam: text("sAMAccountName"),
            upn: text("userPrincipalName"),
            name: text("displayName"),
            mail: text("mail"),
            dn: entry.dn.to_string(),
            sid: entry
                .sid("objectSid")
                .map(|s| s.to_string())
                .unwrap_or_default(),
            guid: entry.guid("objectGUID"),
            groups: entry.texts("memberOf").map(String::from).collect(),
            created: entry.time("whenCreated").and_then(moment),
            state: if disabled {
                State::Disabled
            } else if fence::is_locked(entry) {
                State::Locked
            } else if fence::has_expired(entry, now) {
                State::Expired
            } else {
                State::Enabled
            },
            disabled: entry.text("info").filter(|_| disabled).and_then(Mark::read),
            untouchable: self.untouchable(entry, alone),
            last_used: None,
            last_logon: entry.file_time("lastLogonTimestamp").and_then(moment),
            sign_ins: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            since: "2026-11-23T06:00:00Z".into(),
            by: "root".into(),
            why: "left: the company".into(),
        }
    }

    #[test]
    fn a_mark_is_read_back_and_leaves_other_notes_alone() {
        for notes in ["", "call first", "a\r\nb"] {
            let put = mark().put(notes);
            assert_eq!(Mark::read(&put), Some(mark()), "{put:?}");
            assert_eq!(without_mark(&put), notes);
            assert_eq!(mark().put(&put), put, "not twice");
        }
        assert_eq!(Mark::read("nothing of ours"), None);
        let long = "ü".repeat(1020);
        assert_eq!(mark().put(&long), long, "no room, and nothing lost");
        let hostile = Mark {
            why: "x\r\nkerbgate disabled \u{202e}".into(),
            ..mark()
        };
        assert_eq!(hostile.put("").lines().count(), 1);
    }

    #[test]
    fn an_anchor_is_read_or_not() {
        let oid = Uuid::from_u128(7);
        assert_eq!(oid_of(&anchor(oid)), Some(oid));
        for bad in [
            "",
            "User_",
            "User_x",
            "Üser_",
            "Group_00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(oid_of(bad), None, "{bad}");
        }
    }
}
