//! Rows of the database, read back into records.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::records::AccountLink;
use super::records::AcmeKind;
use super::records::AcmeRecord;
use super::records::Changed;
use super::records::EndReason;
use super::records::HandOver;
use super::records::IdHash;
use super::records::KeptForm;
use super::records::Login;
use super::records::Pending;
use super::records::Seen;
use super::records::Session;
use super::records::SignIn;
use crate::model::names::PersonId;

/// Why a row is no record: the kind, and what is wrong.
pub(super) type Unreadable = (&'static str, String);

struct Columns<'a> {
    row: &'a SqliteRow,
    record: &'static str,
}

impl Columns<'_> {
    fn get<'r, T>(&'r self, column: &str) -> Result<T, Unreadable>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row
            .try_get(column)
            .map_err(|e| (self.record, e.to_string()))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        column: &str,
    ) -> Result<T, Unreadable> {
        self.get::<String>(column)?
            .parse()
            .map_err(|e: T::Err| (self.record, format!("{column}: {e}")))
    }

    fn hash(&self, column: &str) -> Result<IdHash, Unreadable> {
        IdHash::from_bytes(&self.get::<Vec<u8>>(column)?)
            .ok_or_else(|| (self.record, format!("{column}: not 32 bytes")))
    }

    fn person(&self) -> Result<PersonId, Unreadable> {
        Ok(PersonId {
            tid: self.parsed("tid")?,
            oid: self.parsed("oid")?,
        })
    }
}

pub(super) fn id_and_person(row: &SqliteRow) -> Result<(Uuid, PersonId), Unreadable> {
    let record = "sign-in";
    let columns = Columns { row, record };
    Ok((columns.parsed("id")?, columns.person()?))
}

pub(super) fn hash(row: &SqliteRow) -> Result<IdHash, Unreadable> {
    let record = "session";
    Columns { row, record }.hash("hash")
}

pub(super) fn changed(row: &SqliteRow) -> Result<Changed, Unreadable> {
    let record = "change";
    let columns = Columns { row, record };
    let sign_in: Option<String> = columns.get("sign_in")?;
    match sign_in {
        Some(_) => Ok(Changed::SignIn(columns.parsed("sign_in")?)),
        None => Ok(Changed::Session(columns.hash("session")?)),
    }
}

pub(super) fn mark(row: &SqliteRow) -> Result<String, Unreadable> {
    let record = "mark";
    Columns { row, record }.get("content")
}

pub(super) fn sign_in(row: &SqliteRow) -> Result<SignIn, Unreadable> {
    let record = "sign-in";
    let columns = Columns { row, record };
    let claims: String = columns.get("claims")?;
    let ended: Option<i64> = columns.get("ended")?;
    let reason: Option<String> = columns.get("end_reason")?;
    let ended = match (ended, reason) {
        (None, _) => None,
        (Some(at), reason) => {
            let reason = reason.unwrap_or_default();
            let known = EndReason::from_name(&reason)
                .ok_or_else(|| (record, format!("end_reason {reason:?}")))?;
            Some((at, known))
        }
    };
    Ok(SignIn {
        id: columns.parsed("id")?,
        // The position, not the text: claims hold personal data.
        claims: serde_json::from_str(&claims).map_err(|e| {
            (
                record,
                format!("claims: line {} column {}", e.line(), e.column()),
            )
        })?,
        refresh_token: columns.get("refresh_token")?,
        created: columns.get("created")?,
        checked: columns.get("checked")?,
        expires: columns.get("expires")?,
        ended,
    })
}

pub(super) fn session(row: &SqliteRow) -> Result<Session, Unreadable> {
    let record = "session";
    let columns = Columns { row, record };
    Ok(Session {
        hash: columns.hash("hash")?,
        sign_in: columns.parsed("sign_in")?,
        host: columns.parsed("host")?,
        created: columns.get("s_created")?,
        last_seen: columns.get("last_seen")?,
        idle_until: columns.get("idle_until")?,
        expires: columns.get("s_expires")?,
    })
}

pub(super) fn pending(row: &SqliteRow) -> Result<Pending, Unreadable> {
    let record = "pending sign-in";
    let columns = Columns { row, record };
    Ok(Pending {
        hash: columns.hash("hash")?,
        browser: columns.hash("browser")?,
        host: columns.parsed("host")?,
        origin: columns.get("origin")?,
        target: columns.get("target")?,
        attempt: columns.get("attempt")?,
        created: columns.get("created")?,
        expires: columns.get("expires")?,
    })
}

pub(super) fn login(row: &SqliteRow) -> Result<Login, Unreadable> {
    let record = "login state";
    let columns = Columns { row, record };
    Ok(Login {
        hash: columns.hash("hash")?,
        pending: columns.hash("pending")?,
        browser: columns.hash("browser")?,
        nonce: columns.get("nonce")?,
        verifier: columns.get("verifier")?,
        issuer: columns.get("issuer")?,
        expires: columns.get("expires")?,
    })
}

pub(super) fn hand_over(row: &SqliteRow) -> Result<HandOver, Unreadable> {
    let record = "hand-over code";
    let columns = Columns { row, record };
    Ok(HandOver {
        hash: columns.hash("hash")?,
        sign_in: columns.parsed("sign_in")?,
        pending: columns.hash("pending")?,
        expires: columns.get("expires")?,
    })
}

pub(super) fn kept_form(row: &SqliteRow) -> Result<KeptForm, Unreadable> {
    let record = "kept form";
    let columns = Columns { row, record };
    Ok(KeptForm {
        hash: columns.hash("hash")?,
        person: columns.person()?,
        app: columns.get("app")?,
        target: columns.get("target")?,
        content: columns.get("content")?,
        expires: columns.get("expires")?,
    })
}

pub(super) fn seen(row: &SqliteRow) -> Result<Seen, Unreadable> {
    let record = "visit";
    let columns = Columns { row, record };
    let sign_ins: i64 = columns.get("sign_ins")?;
    Ok(Seen {
        last: columns.get("last")?,
        sign_ins: u32::try_from(sign_ins).unwrap_or(u32::MAX),
    })
}

pub(super) fn account_link(row: &SqliteRow) -> Result<AccountLink, Unreadable> {
    let record = "account link";
    let columns = Columns { row, record };
    Ok(AccountLink {
        person: columns.person()?,
        sid: columns.parsed("sid")?,
        guid: columns.parsed("guid")?,
        dn: columns.get("dn")?,
        dc: columns.get("dc")?,
        created: columns.get("created")?,
    })
}

pub(super) fn acme(row: &SqliteRow) -> Result<AcmeRecord, Unreadable> {
    let record = "ACME record";
    let columns = Columns { row, record };
    let kind: String = columns.get("kind")?;
    Ok(AcmeRecord {
        kind: AcmeKind::from_name(&kind).ok_or_else(|| (record, format!("kind {kind:?}")))?,
        name: columns.get("name")?,
        content: columns.get("content")?,
        revision: columns.get("revision")?,
    })
}
