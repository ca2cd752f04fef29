//! The store in one SQLite file: one connection writes, a few read (write-ahead log).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use sqlx::Executor;
use sqlx::Row;
use sqlx::Sqlite;
use sqlx::SqlitePool;
use sqlx::Transaction;
use sqlx::migrate::MigrateError;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteRow;
use sqlx::sqlite::SqliteSynchronous;
use uuid::Uuid;

use super::Answer;
use super::Error;
use super::Store;
use super::records::AccountLink;
use super::records::AcmeRecord;
use super::records::EndReason;
use super::records::Ended;
use super::records::HandOver;
use super::records::IdHash;
use super::records::KeepLimits;
use super::records::KeptForm;
use super::records::Lease;
use super::records::Login;
use super::records::News;
use super::records::Pending;
use super::records::Renewal;
use super::records::Seen;
use super::records::Session;
use super::records::SignIn;
use super::records::TakenLogin;
use super::records::Touch;
use super::records::Whose;
use super::rows;
use super::rows::Unreadable;
use super::sql;
use crate::model::names::PersonId;
use crate::telemetry::metrics::metrics;

/// A store in one SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: PathBuf,
    write: SqlitePool,
    read: SqlitePool,
}

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

impl SqliteStore {
    /// Opens the file, creating it if it is absent, checks it, and brings its schema up to date.
    ///
    /// # Errors
    /// Names the file and what is wrong with it: unreadable, read-only, full, damaged, something else, too new.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        create_private(path)?;
        let options = options().filename(path);
        let read = pool(READERS).connect_lazy_with(options.clone().pragma("query_only", "1"));
        let store = Self {
            path: path.to_owned(),
            write: pool(1).connect_lazy_with(options),
            read,
        };
        store.check().await?;
        store.migrate().await?;
        store.prove_writable().await?;
        Ok(store)
    }

    /// A store that is gone with the process: for tests of other rooms.
    ///
    /// # Errors
    /// The engine refuses to work at all.
    pub async fn in_memory() -> Result<Self, Error> {
        // One connection for both: a second one would open another, empty database.
        let pool = pool(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options().in_memory(true).shared_cache(false));
        let store = Self {
            path: PathBuf::from(":memory:"),
            write: pool.clone(),
            read: pool,
        };
        store.migrate().await?;
        Ok(store)
    }

    /// For tests that write past the interface.
    #[cfg(test)]
    pub const fn writer(&self) -> &SqlitePool {
        &self.write
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    async fn check(&self) -> Result<(), Error> {
        let quick = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&self.write);
        match tokio::time::timeout(CHECK_AT_MOST, quick).await {
            Ok(Ok(verdict)) if verdict == "ok" => Ok(()),
            Ok(Ok(verdict)) => Err(Error::Corrupt {
                path: self.path.clone(),
                cause: verdict.chars().take(300).collect(),
            }),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                tracing::warn!(path = %self.path.display(), "store not checked completely: it is very large");
                Ok(())
            }
        }
    }

    async fn migrate(&self) -> Result<(), Error> {
        MIGRATIONS.run(&self.write).await.map_err(|error| {
            if let MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) = &error
            {
                return self.failed(cause);
            }
            Error::Schema {
                path: self.path.clone(),
                cause: error.to_string(),
            }
        })
    }

    async fn prove_writable(&self) -> Result<(), Error> {
        let mut work = self.begin().await?;
        work.execute("INSERT INTO lease (name, holder, until) VALUES ('start', '', 0) ON CONFLICT DO NOTHING")
            .await
            .map_err(|e| self.failed(&e))?;
        work.execute("DELETE FROM lease WHERE name = 'start'")
            .await
            .map_err(|e| self.failed(&e))?;
        work.commit().await.map_err(|e| self.failed(&e))
    }

    async fn begin(&self) -> Result<Transaction<'_, Sqlite>, Error> {
        let begun = match self.write.begin_with("BEGIN IMMEDIATE").await {
            // When the disk is full SQLite rolls back by itself; sqlx's own rollback then fails, and it counts one open
            // transaction for as long as the connection lives. A new connection counts from zero.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                tracing::warn!(path = %self.path.display(), "store connected anew after a failed transaction");
                if let Ok(stuck) = self.write.acquire().await {
                    drop(stuck.close().await);
                }
                self.write.begin_with("BEGIN IMMEDIATE").await
            }
            other => other,
        };
        begun.map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        let path = self.path.clone();
        let cause = error.to_string();
        let extended = error
            .as_database_error()
            .and_then(|e| e.code())
            .and_then(|code| code.parse::<u32>().ok());
        // https://sqlite.org/rescode.html: the low byte is the primary code.
        match extended.map(|code| code & 0xff) {
            Some(5 | 6) => Error::Busy { path, cause },
            Some(8) => Error::ReadOnly { path, cause },
            Some(11) => Error::Corrupt { path, cause },
            Some(13) => Error::Full { path, cause },
            Some(14) => Error::Unopenable { path, cause },
            Some(26) => Error::NotADatabase { path, cause },
            Some(_) | None => Error::Failed { path, cause },
        }
    }

    fn unreadable(&self, (record, cause): Unreadable) -> Error {
        Error::Record {
            path: self.path.clone(),
            record,
            cause,
        }
    }

    fn read_as<T>(
        &self,
        row: Option<&SqliteRow>,
        read: impl Fn(&SqliteRow) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Error> {
        row.map(read).transpose().map_err(|e| self.unreadable(e))
    }

    fn claims_text(&self, claims: &crate::model::claims::Claims) -> Result<String, Error> {
        serde_json::to_string(claims).map_err(|e| self.unreadable(("sign-in", e.to_string())))
    }

    async fn end(&self, whose: &Whose, reason: EndReason, now: i64) -> Result<Vec<Ended>, Error> {
        let mut work = self.begin().await?;
        let query = match whose {
            Whose::SignIn(id) => sqlx::query(sql::END_SIGN_IN)
                .bind(now)
                .bind(reason.as_str())
                .bind(id.to_string()),
            Whose::Person(person) => sqlx::query(sql::END_PERSON)
                .bind(now)
                .bind(reason.as_str())
                .bind(person.tid.to_string())
                .bind(person.oid.to_string()),
            Whose::IssuerSession(sid) => sqlx::query(sql::END_ISSUER_SESSION)
                .bind(now)
                .bind(reason.as_str())
                .bind(sid),
        };
        let rows = query
            .fetch_all(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        let mut all = Vec::new();
        for row in &rows {
            let (sign_in, person) = rows::id_and_person(row).map_err(|e| self.unreadable(e))?;
            let sessions = sqlx::query(sql::SESSIONS_OF_SIGN_IN)
                .bind(sign_in.to_string())
                .fetch_all(&mut *work)
                .await
                .map_err(|e| self.failed(&e))?;
            let sessions: Result<Vec<_>, _> = sessions.iter().map(rows::hash).collect();
            all.push(Ended {
                sign_in,
                person,
                sessions: sessions.map_err(|e| self.unreadable(e))?,
            });
        }
        work.commit().await.map_err(|e| self.failed(&e))?;
        Ok(all)
    }

    /// One transaction for all: its cost is the disk's.
    async fn touch_all(&self, used: &[Touch]) -> Result<(), Error> {
        let began = Instant::now();
        let mut work = self.begin().await?;
        for one in used {
            sqlx::query(sql::TOUCH_SESSION)
                .bind(one.hash.as_bytes())
                .bind(one.last_seen)
                .bind(one.idle_until)
                .execute(&mut *work)
                .await
                .map_err(|e| self.failed(&e))?;
        }
        let done = work.commit().await;
        metrics().store("write", began.elapsed(), done.is_ok());
        done.map_err(|e| self.failed(&e))
    }

    async fn news(&self, after: Option<i64>) -> Result<News, Error> {
        let revision = |row: &SqliteRow| {
            row.try_get::<i64, _>("revision")
                .map_err(|e| self.failed(&e))
        };
        // Before the rows: what is told between the two questions is only told twice.
        let row = self.one(&self.read, sqlx::query(sql::LATEST_NEWS)).await?;
        // No row: nothing was ever told.
        let latest = row.as_ref().map(revision).transpose()?.unwrap_or(0);
        let mut news = News {
            changed: Vec::new(),
            revision: latest,
            whole: true,
            more: false,
        };
        let Some(after) = after else {
            return Ok(news);
        };
        let query = sqlx::query(sql::NEWS).bind(after).bind(MOST_NEWS);
        let rows = query.fetch_all(&self.read).await;
        let rows = rows.map_err(|e| self.failed(&e))?;
        let changed: Result<Vec<_>, _> = rows.iter().map(rows::changed).collect();
        news.changed = changed.map_err(|e| self.unreadable(e))?;
        news.more = i64::try_from(rows.len()).is_ok_and(|rows| rows == MOST_NEWS);
        // Revisions leave no gap, and never fall unless the store was put back.
        match (rows.first(), rows.last()) {
            (Some(first), Some(last)) => {
                news.whole = revision(first)? == after + 1;
                news.revision = revision(last)?;
            }
            _ => news.whole = latest == after,
        }
        Ok(news)
    }

    async fn put_pending(
        &self,
        pending: &Pending,
        per_browser: u32,
        overall: u32,
    ) -> Result<(), Error> {
        let mut work = self.begin().await?;
        sqlx::query(DROP_OLDEST_OF_BROWSER)
            .bind(pending.browser.as_bytes())
            .bind(per_browser.saturating_sub(1))
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        let count: i64 = sqlx::query_scalar(sql::COUNT_PENDING)
            .fetch_one(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        if count >= i64::from(overall) {
            // A tenth at once, so that a flood does not count and sort for each of its requests.
            sqlx::query(sql::DROP_OLDEST_PENDING)
                .bind((overall / 10).max(1))
                .execute(&mut *work)
                .await
                .map_err(|e| self.failed(&e))?;
        }
        sqlx::query(sql::ADD_PENDING)
            .bind(pending.hash.as_bytes())
            .bind(pending.browser.as_bytes())
            .bind(pending.host.as_str())
            .bind(&pending.origin)
            .bind(&pending.target)
            .bind(pending.attempt)
            .bind(pending.created)
            .bind(pending.expires)
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        work.commit().await.map_err(|e| self.failed(&e))
    }

    async fn put_form(&self, form: &KeptForm, limits: KeepLimits) -> Result<bool, Error> {
        let mut work = self.begin().await?;
        sqlx::query(sql::DROP_EXPIRED_FORMS)
            .bind(limits.now)
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        sqlx::query(sql::DROP_OLDEST_FORMS)
            .bind(form.person.tid.to_string())
            .bind(form.person.oid.to_string())
            .bind(limits.per_person.saturating_sub(1))
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        let kept: i64 = sqlx::query_scalar(sql::KEPT_BYTES)
            .fetch_one(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        let wanted = u64::try_from(kept).unwrap_or(u64::MAX);
        if wanted.saturating_add(form.content.len() as u64) > limits.overall {
            return Ok(false);
        }
        sqlx::query(sql::KEEP_FORM)
            .bind(form.hash.as_bytes())
            .bind(form.person.tid.to_string())
            .bind(form.person.oid.to_string())
            .bind(&form.app)
            .bind(&form.target)
            .bind(&form.content)
            .bind(form.expires)
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(&e))?;
        work.commit().await.map_err(|e| self.failed(&e))?;
        Ok(true)
    }

    async fn put_all_acme(
        &self,
        records: &[AcmeRecord],
        lease: &Lease,
        now: i64,
    ) -> Result<bool, Error> {
        let mut work = self.begin().await?;
        for record in records {
            let done = sqlx::query(sql::PUT_ACME)
                .bind(record.kind.as_str())
                .bind(&record.name)
                .bind(&record.content)
                .bind(&lease.name)
                .bind(&lease.holder)
                .bind(now)
                .execute(&mut *work)
                .await
                .map_err(|e| self.failed(&e))?;
            if done.rows_affected() != 1 {
                return Ok(false);
            }
        }
        work.commit().await.map_err(|e| self.failed(&e))?;
        Ok(true)
    }

    async fn run<'q>(
        &self,
        query: sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<u64, Error> {
        let began = Instant::now();
        let done = query.execute(&self.write).await;
        metrics().store("write", began.elapsed(), done.is_ok());
        Ok(done.map_err(|e| self.failed(&e))?.rows_affected())
    }

    async fn one<'q>(
        &self,
        pool: &SqlitePool,
        query: sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Option<SqliteRow>, Error> {
        let began = Instant::now();
        let found = query.fetch_optional(pool).await;
        metrics().store("read", began.elapsed(), found.is_ok());
        found.map_err(|e| self.failed(&e))
    }
}

impl Store for SqliteStore {
    fn add_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> Answer<'a, ()> {
        Box::pin(async move {
            let claims = self.claims_text(&sign_in.claims)?;
            let query = sqlx::query(sql::ADD_SIGN_IN)
                .bind(sign_in.id.to_string())
                .bind(sign_in.claims.person.tid.to_string())
                .bind(sign_in.claims.person.oid.to_string())
                .bind(claims)
                .bind(&sign_in.claims.session_id)
                .bind(&sign_in.refresh_token)
                .bind(sign_in.created)
                .bind(sign_in.checked)
                .bind(sign_in.expires);
            self.run(query).await.map(drop)
        })
    }

    fn sign_in(&self, id: Uuid) -> Answer<'_, Option<SignIn>> {
        Box::pin(async move {
            let query = sqlx::query(sql::SIGN_IN).bind(id.to_string());
            let row = self.one(&self.read, query).await?;
            self.read_as(row.as_ref(), rows::sign_in)
        })
    }

    fn renew_sign_in<'a>(&'a self, renewal: &'a Renewal) -> Answer<'a, bool> {
        Box::pin(async move {
            let claims = self.claims_text(&renewal.claims)?;
            let query = sqlx::query(sql::RENEW_SIGN_IN)
                .bind(renewal.id.to_string())
                .bind(claims)
                .bind(&renewal.claims.session_id)
                .bind(&renewal.refresh_token)
                .bind(renewal.checked);
            Ok(self.run(query).await? == 1)
        })
    }

    fn end_sign_ins<'a>(
        &'a self,
        whose: &'a Whose,
        reason: EndReason,
        now: i64,
    ) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.end(whose, reason, now))
    }

    fn add_session<'a>(&'a self, session: &'a Session) -> Answer<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::ADD_SESSION)
                .bind(session.hash.as_bytes())
                .bind(session.sign_in.to_string())
                .bind(session.host.as_str())
                .bind(session.created)
                .bind(session.last_seen)
                .bind(session.idle_until)
                .bind(session.expires);
            self.run(query).await.map(drop)
        })
    }

    fn session<'a>(&'a self, hash: &'a IdHash) -> Answer<'a, Option<(Session, SignIn)>> {
        Box::pin(async move {
            let query = sqlx::query(sql::SESSION).bind(hash.as_bytes());
            let row = self.one(&self.read, query).await?;
            self.read_as(row.as_ref(), |row| {
                Ok((rows::session(row)?, rows::sign_in(row)?))
            })
        })
    }

    fn touch_sessions<'a>(&'a self, used: &'a [Touch]) -> Answer<'a, ()> {
        Box::pin(self.touch_all(used))
    }

    fn news_since(&self, revision: Option<i64>) -> Answer<'_, News> {
        Box::pin(self.news(revision))
    }

    fn remove_session<'a>(&'a self, hash: &'a IdHash) -> Answer<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::REMOVE_SESSION).bind(hash.as_bytes());
            self.run(query).await.map(drop)
        })
    }

    fn add_pending<'a>(
        &'a self,
        pending: &'a Pending,
        per_browser: u32,
        overall: u32,
    ) -> Answer<'a, ()> {
        Box::pin(self.put_pending(pending, per_browser, overall))
    }

    fn pending<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, Option<Pending>> {
        Box::pin(async move {
            let query = sqlx::query(sql::PENDING).bind(hash.as_bytes()).bind(now);
            let row = self.one(&self.read, query).await?;
            self.read_as(row.as_ref(), rows::pending)
        })
    }

    fn add_login<'a>(&'a self, login: &'a Login) -> Answer<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::ADD_LOGIN)
                .bind(login.hash.as_bytes())
                .bind(login.pending.as_bytes())
                .bind(login.browser.as_bytes())
                .bind(&login.nonce)
                .bind(&login.verifier)
                .bind(&login.issuer)
                .bind(login.expires);
            self.run(query).await.map(drop)
        })
    }

    fn take_login<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, TakenLogin> {
        Box::pin(async move {
            let take = sqlx::query(sql::TAKE_LOGIN).bind(hash.as_bytes()).bind(now);
            let row = self.one(&self.write, take).await?;
            if let Some(login) = self.read_as(row.as_ref(), rows::login)? {
                return Ok(TakenLogin::Fresh(login));
            }
            let look = sqlx::query(sql::LOGIN).bind(hash.as_bytes()).bind(now);
            let row = self.one(&self.read, look).await?;
            let used = self.read_as(row.as_ref(), rows::login)?;
            Ok(used.map_or(TakenLogin::Unknown, TakenLogin::Used))
        })
    }

    fn add_hand_over<'a>(&'a self, hand_over: &'a HandOver) -> Answer<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::ADD_HAND_OVER)
                .bind(hand_over.hash.as_bytes())
                .bind(hand_over.sign_in.to_string())
                .bind(hand_over.pending.as_bytes())
                .bind(hand_over.expires);
            self.run(query).await.map(drop)
        })
    }

    fn take_hand_over<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, Option<HandOver>> {
        Box::pin(async move {
            let query = sqlx::query(sql::TAKE_HAND_OVER).bind(hash.as_bytes());
            let row = self.one(&self.write, query).await?;
            let taken = self.read_as(row.as_ref(), rows::hand_over)?;
            Ok(taken.filter(|hand_over| hand_over.expires > now))
        })
    }

    fn keep_form<'a>(&'a self, form: &'a KeptForm, limits: KeepLimits) -> Answer<'a, bool> {
        Box::pin(self.put_form(form, limits))
    }

    fn take_form<'a>(&'a self, hash: &'a IdHash, now: i64) -> Answer<'a, Option<KeptForm>> {
        Box::pin(async move {
            let query = sqlx::query(sql::TAKE_FORM).bind(hash.as_bytes());
            let row = self.one(&self.write, query).await?;
            let taken = self.read_as(row.as_ref(), rows::kept_form)?;
            Ok(taken.filter(|form| form.expires > now))
        })
    }

    fn account_link(&self, person: PersonId) -> Answer<'_, Option<AccountLink>> {
        Box::pin(async move {
            let query = sqlx::query(sql::ACCOUNT_LINK)
                .bind(person.tid.to_string())
                .bind(person.oid.to_string());
            let row = self.one(&self.read, query).await?;
            self.read_as(row.as_ref(), rows::account_link)
        })
    }

    fn save_account_link<'a>(&'a self, link: &'a AccountLink) -> Answer<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::SAVE_ACCOUNT_LINK)
                .bind(link.person.tid.to_string())
                .bind(link.person.oid.to_string())
                .bind(link.sid.as_str())
                .bind(link.guid.to_string())
                .bind(&link.dn)
                .bind(&link.dc)
                .bind(link.created);
            self.run(query).await.map(drop)
        })
    }

    fn forget_account_link(&self, person: PersonId) -> Answer<'_, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::FORGET_ACCOUNT_LINK)
                .bind(person.tid.to_string())
                .bind(person.oid.to_string());
            self.run(query).await.map(drop)
        })
    }

    fn person_seen(&self, person: PersonId, now: i64) -> Answer<'_, Seen> {
        Box::pin(async move {
            let query = sqlx::query(sql::PERSON_SEEN)
                .bind(person.tid.to_string())
                .bind(person.oid.to_string())
                .bind(now);
            let row = self.one(&self.read, query).await?;
            let seen = self.read_as(row.as_ref(), rows::seen)?;
            Ok(seen.unwrap_or_default())
        })
    }

    fn take_lease<'a>(&'a self, lease: &'a Lease, now: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query(sql::TAKE_LEASE)
                .bind(&lease.name)
                .bind(&lease.holder)
                .bind(lease.until)
                .bind(now);
            Ok(self.run(query).await? == 1)
        })
    }

    fn prolong_lease<'a>(&'a self, lease: &'a Lease, now: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query(sql::PROLONG_LEASE)
                .bind(&lease.name)
                .bind(&lease.holder)
                .bind(lease.until)
                .bind(now);
            Ok(self.run(query).await? == 1)
        })
    }

    fn give_lease_back<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let query = sqlx::query(sql::GIVE_LEASE_BACK).bind(name).bind(holder);
            self.run(query).await.map(drop)
        })
    }

    fn acme_since(&self, revision: i64) -> Answer<'_, Vec<AcmeRecord>> {
        Box::pin(async move {
            let query = sqlx::query(sql::ACME_SINCE).bind(revision);
            let rows = query.fetch_all(&self.read).await;
            let rows = rows.map_err(|e| self.failed(&e))?;
            let records: Result<Vec<_>, _> = rows.iter().map(rows::acme).collect();
            records.map_err(|e| self.unreadable(e))
        })
    }

    fn put_acme<'a>(
        &'a self,
        records: &'a [AcmeRecord],
        lease: &'a Lease,
        now: i64,
    ) -> Answer<'a, bool> {
        Box::pin(self.put_all_acme(records, lease, now))
    }

    fn live_sign_ins(&self, now: i64, after: Option<Uuid>, most: u32) -> Answer<'_, Vec<SignIn>> {
        Box::pin(async move {
            let after = after.map(|id| id.to_string()).unwrap_or_default();
            let query = sqlx::query(sql::LIVE_SIGN_INS)
                .bind(now)
                .bind(after)
                .bind(most);
            let rows = query.fetch_all(&self.read).await;
            let rows = rows.map_err(|e| self.failed(&e))?;
            let records: Result<Vec<_>, _> = rows.iter().map(rows::sign_in).collect();
            records.map_err(|e| self.unreadable(e))
        })
    }

    fn mark<'a>(&'a self, name: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let row = self
                .one(&self.read, sqlx::query(sql::MARK).bind(name))
                .await?;
            self.read_as(row.as_ref(), rows::mark)
        })
    }

    fn save_mark<'a>(&'a self, content: &'a str, lease: &'a Lease, now: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query(sql::SAVE_MARK)
                .bind(&lease.name)
                .bind(content)
                .bind(&lease.holder)
                .bind(now);
            Ok(self.run(query).await? == 1)
        })
    }

    fn sweep(&self, now: i64, batch: u32) -> Answer<'_, u64> {
        Box::pin(async move {
            let mut gone = self
                .run(sqlx::query(sql::DROP_OLD_NEWS).bind(KEPT_NEWS))
                .await?;
            // One short transaction each: a sign-in that waits for the writer waits milliseconds.
            for statement in sql::SWEEP {
                gone += self
                    .run(sqlx::query(statement).bind(now).bind(batch))
                    .await?;
            }
            Ok(gone)
        })
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.one(&self.read, sqlx::query("SELECT name FROM lease LIMIT 1"))
                .await
                .map(drop)
        })
    }
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(3))
        .foreign_keys(true)
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
}

/// Creates the file with mode 0600 before the engine would create it with the umask's; its `-wal` and `-shm` inherit it.
fn create_private(path: &Path) -> Result<(), Error> {
    let unopenable = |e: std::io::Error| {
        let (path, cause) = (path.to_owned(), e.to_string());
        if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
            Error::ReadOnly { path, cause }
        } else if e.kind() == std::io::ErrorKind::StorageFull {
            Error::Full { path, cause }
        } else {
            Error::Unopenable { path, cause }
        }
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(unopenable)?;
    let meta = file.metadata().map_err(unopenable)?;
    if !meta.is_file() {
        return Err(unopenable(std::io::Error::other("not a regular file")));
    }
    // SECURITY: sessions and sealed tokens are nobody else's to read.
    if meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "store was readable by others; mode set to 0600");
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(unopenable)?;
    }
    Ok(())
}

const READERS: u32 = 4;
/// How many changes are told at a time.
const MOST_NEWS: i64 = 10_000;
/// How many changes are kept for who asks late.
const KEPT_NEWS: i64 = 100_000;
const CHECK_AT_MOST: Duration = Duration::from_secs(20);
const DROP_OLDEST_OF_BROWSER: &str = "DELETE FROM pending WHERE hash IN \
(SELECT hash FROM pending WHERE browser = $1 ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET $2)";

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
