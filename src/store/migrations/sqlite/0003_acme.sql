-- What replicas share about ACME (RFC 8555): the account's key, open orders, certificates with their keys, failures.
-- A row that is gone keeps its place with an empty content, so that whoever asks for what is new hears of it.

CREATE TABLE acme (
    kind     TEXT    NOT NULL,
    name     TEXT    NOT NULL,        -- a host, or the directory's URL
    content  TEXT    NOT NULL,        -- sealed
    revision INTEGER NOT NULL,        -- grows with every write
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX acme_revision ON acme (revision);
