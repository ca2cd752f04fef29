-- Times are seconds since the Unix epoch. Ids that a browser holds are stored as SHA-256 only.

CREATE TABLE sign_in (
    id             TEXT    NOT NULL PRIMARY KEY,
    tid            TEXT    NOT NULL,
    oid            TEXT    NOT NULL,
    claims         TEXT    NOT NULL,
    issuer_session TEXT,
    refresh_token  TEXT,              -- sealed
    created        INTEGER NOT NULL,
    checked        INTEGER NOT NULL,
    expires        INTEGER NOT NULL,
    ended          INTEGER,
    end_reason     TEXT
) STRICT;
CREATE INDEX sign_in_person ON sign_in (tid, oid);
CREATE INDEX sign_in_issuer_session ON sign_in (issuer_session) WHERE issuer_session IS NOT NULL;
CREATE INDEX sign_in_expires ON sign_in (expires);

CREATE TABLE session (
    hash       BLOB    NOT NULL PRIMARY KEY,
    sign_in    TEXT    NOT NULL REFERENCES sign_in (id) ON DELETE CASCADE,
    host       TEXT    NOT NULL,
    created    INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    idle_until INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_sign_in ON session (sign_in);
CREATE INDEX session_idle ON session (idle_until);

CREATE TABLE pending (
    hash    BLOB    NOT NULL PRIMARY KEY,
    browser BLOB    NOT NULL,
    host    TEXT    NOT NULL,
    origin  TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_browser ON pending (browser);
CREATE INDEX pending_expires ON pending (expires);

CREATE TABLE login (
    hash     BLOB    NOT NULL PRIMARY KEY,
    pending  BLOB    NOT NULL,
    browser  BLOB    NOT NULL,
    nonce    TEXT    NOT NULL,
    verifier TEXT    NOT NULL,        -- sealed
    issuer   TEXT    NOT NULL,
    used     INTEGER NOT NULL DEFAULT 0,
    expires  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX login_expires ON login (expires);

CREATE TABLE hand_over (
    hash    BLOB    NOT NULL PRIMARY KEY,
    sign_in TEXT    NOT NULL REFERENCES sign_in (id) ON DELETE CASCADE,
    pending BLOB    NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX hand_over_expires ON hand_over (expires);
CREATE INDEX hand_over_sign_in ON hand_over (sign_in);

CREATE TABLE account_link (
    tid     TEXT    NOT NULL,
    oid     TEXT    NOT NULL,
    sid     TEXT    NOT NULL,
    guid    TEXT    NOT NULL,
    dn      TEXT    NOT NULL,
    dc      TEXT    NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (tid, oid)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    name   TEXT    NOT NULL PRIMARY KEY,
    holder TEXT    NOT NULL,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
