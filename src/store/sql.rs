//! SQL that SQLite and PostgreSQL both read.

pub(super) const ADD_SIGN_IN: &str = "INSERT INTO sign_in \
(id, tid, oid, claims, issuer_session, refresh_token, created, checked, expires) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(super) const SIGN_IN: &str = "SELECT id, claims, refresh_token, created, checked, expires, ended, end_reason \
FROM sign_in WHERE id = $1";

pub(super) const RENEW_SIGN_IN: &str = "UPDATE sign_in SET claims = $2, issuer_session = $3, refresh_token = $4, checked = $5 \
WHERE id = $1 AND ended IS NULL";

pub(super) const END_SIGN_IN: &str = "UPDATE sign_in SET ended = $1, end_reason = $2, refresh_token = NULL \
WHERE id = $3 AND ended IS NULL RETURNING id, tid, oid";

pub(super) const END_PERSON: &str = "UPDATE sign_in SET ended = $1, end_reason = $2, refresh_token = NULL \
WHERE tid = $3 AND oid = $4 AND ended IS NULL RETURNING id, tid, oid";

pub(super) const END_ISSUER_SESSION: &str = "UPDATE sign_in SET ended = $1, end_reason = $2, refresh_token = NULL \
WHERE issuer_session = $3 AND ended IS NULL RETURNING id, tid, oid";

pub(super) const SESSIONS_OF_SIGN_IN: &str = "SELECT hash FROM session WHERE sign_in = $1";

pub(super) const ADD_SESSION: &str = "INSERT INTO session \
(hash, sign_in, host, created, last_seen, idle_until, expires) VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(super) const SESSION: &str = "SELECT s.hash, s.sign_in, s.host, s.created AS s_created, s.last_seen, s.idle_until, \
s.expires AS s_expires, i.id, i.claims, i.refresh_token, i.created, i.checked, i.expires, i.ended, i.end_reason \
FROM session s JOIN sign_in i ON i.id = s.sign_in WHERE s.hash = $1";

pub(super) const TOUCH_SESSION: &str = "UPDATE session SET last_seen = $2, idle_until = $3 \
WHERE hash = $1 AND last_seen < $2";

pub(super) const LATEST_NEWS: &str =
    "SELECT seq AS revision FROM sqlite_sequence WHERE name = 'news'";

pub(super) const NEWS: &str =
    "SELECT revision, sign_in, session FROM news WHERE revision > $1 ORDER BY revision LIMIT $2";

pub(super) const DROP_OLD_NEWS: &str =
    "DELETE FROM news WHERE revision <= (SELECT MAX(revision) FROM news) - $1";

pub(super) const REMOVE_SESSION: &str = "DELETE FROM session WHERE hash = $1";

pub(super) const ADD_PENDING: &str = "INSERT INTO pending (hash, browser, host, origin, target, attempt, created, expires) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(super) const COUNT_PENDING: &str = "SELECT COUNT(*) FROM pending";

pub(super) const DROP_OLDEST_PENDING: &str = "DELETE FROM pending WHERE hash IN \
(SELECT hash FROM pending ORDER BY expires LIMIT $1)";

pub(super) const PENDING: &str = "SELECT hash, browser, host, origin, target, attempt, created, expires \
FROM pending WHERE hash = $1 AND expires > $2";

pub(super) const ADD_LOGIN: &str = "INSERT INTO login (hash, pending, browser, nonce, verifier, issuer, expires) \
VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(super) const TAKE_LOGIN: &str = "UPDATE login SET used = 1 WHERE hash = $1 AND used = 0 AND expires > $2 \
RETURNING hash, pending, browser, nonce, verifier, issuer, expires";

pub(super) const LOGIN: &str = "SELECT hash, pending, browser, nonce, verifier, issuer, expires \
FROM login WHERE hash = $1 AND expires > $2";

pub(super) const ADD_HAND_OVER: &str =
    "INSERT INTO hand_over (hash, sign_in, pending, expires) VALUES ($1, $2, $3, $4)";

pub(super) const TAKE_HAND_OVER: &str =
    "DELETE FROM hand_over WHERE hash = $1 RETURNING hash, sign_in, pending, expires";

pub(super) const KEPT_BYTES: &str = "SELECT COALESCE(SUM(LENGTH(content)), 0) FROM kept_form";

pub(super) const DROP_EXPIRED_FORMS: &str = "DELETE FROM kept_form WHERE expires <= $1";

pub(super) const DROP_OLDEST_FORMS: &str = "DELETE FROM kept_form WHERE hash IN \
(SELECT hash FROM kept_form WHERE tid = $1 AND oid = $2 ORDER BY expires DESC LIMIT 1000 OFFSET $3)";

pub(super) const KEEP_FORM: &str = "INSERT INTO kept_form (hash, tid, oid, app, target, content, expires) \
VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(super) const TAKE_FORM: &str = "DELETE FROM kept_form WHERE hash = $1 \
RETURNING hash, tid, oid, app, target, content, expires";

pub(super) const PERSON_SEEN: &str = "SELECT MAX(COALESCE(s.last_seen, i.created)) AS last, \
COUNT(DISTINCT CASE WHEN i.ended IS NULL AND i.expires > $3 THEN i.id END) AS sign_ins \
FROM sign_in i LEFT JOIN session s ON s.sign_in = i.id WHERE i.tid = $1 AND i.oid = $2";

pub(super) const ACCOUNT_LINK: &str =
    "SELECT tid, oid, sid, guid, dn, dc, created FROM account_link WHERE tid = $1 AND oid = $2";

pub(super) const SAVE_ACCOUNT_LINK: &str = "INSERT INTO account_link (tid, oid, sid, guid, dn, dc, created) \
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tid, oid) DO UPDATE SET sid = excluded.sid, guid = excluded.guid, \
dn = excluded.dn, dc = excluded.dc, created = excluded.created";

pub(super) const FORGET_ACCOUNT_LINK: &str = "DELETE FROM account_link WHERE tid = $1 AND oid = $2";

pub(super) const TAKE_LEASE: &str = "INSERT INTO lease (name, holder, until) VALUES ($1, $2, $3) \
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
WHERE lease.until <= $4 OR lease.holder = excluded.holder";

pub(super) const PROLONG_LEASE: &str =
    "UPDATE lease SET until = $3 WHERE name = $1 AND holder = $2 AND until > $4";

pub(super) const GIVE_LEASE_BACK: &str = "DELETE FROM lease WHERE name = $1 AND holder = $2";

pub(super) const ACME_SINCE: &str =
    "SELECT kind, name, content, revision FROM acme WHERE revision > $1 ORDER BY revision";

// SECURITY: the lease is looked at in the statement that writes. A process that was stopped for longer than its lease
// must not overwrite what its successor has done meanwhile.
pub(super) const PUT_ACME: &str = "INSERT INTO acme (kind, name, content, revision) \
SELECT $1, $2, $3, (SELECT COALESCE(MAX(revision), 0) + 1 FROM acme) \
WHERE EXISTS (SELECT 1 FROM lease WHERE name = $4 AND holder = $5 AND until > $6) \
ON CONFLICT (kind, name) DO UPDATE SET content = excluded.content, revision = excluded.revision";

pub(super) const LIVE_SIGN_INS: &str = "SELECT id, claims, refresh_token, created, checked, expires, ended, end_reason \
FROM sign_in WHERE ended IS NULL AND expires > $1 AND id > $2 ORDER BY id LIMIT $3";

pub(super) const MARK: &str = "SELECT content FROM mark WHERE name = $1";

// SECURITY: as with PUT_ACME, the lease is looked at in the statement that writes.
pub(super) const SAVE_MARK: &str = "INSERT INTO mark (name, content) SELECT $1, $2 \
WHERE EXISTS (SELECT 1 FROM lease WHERE name = $1 AND holder = $3 AND until > $4) \
ON CONFLICT (name) DO UPDATE SET content = excluded.content";

/// Each takes the time before which a record is expired, and the batch.
pub(super) const SWEEP: [&str; 7] = [
    "DELETE FROM kept_form WHERE hash IN (SELECT hash FROM kept_form WHERE expires <= $1 LIMIT $2)",
    "DELETE FROM session WHERE hash IN \
     (SELECT hash FROM session WHERE idle_until <= $1 OR expires <= $1 LIMIT $2)",
    "DELETE FROM hand_over WHERE hash IN (SELECT hash FROM hand_over WHERE expires <= $1 LIMIT $2)",
    "DELETE FROM login WHERE hash IN (SELECT hash FROM login WHERE expires <= $1 LIMIT $2)",
    "DELETE FROM pending WHERE hash IN (SELECT hash FROM pending WHERE expires <= $1 LIMIT $2)",
    "DELETE FROM lease WHERE name IN (SELECT name FROM lease WHERE until <= $1 LIMIT $2)",
    "DELETE FROM sign_in WHERE id IN \
     (SELECT id FROM sign_in WHERE expires <= $1 OR ended <= $1 LIMIT $2)",
];
