-- Forms that were sent after their session had ended, until their person has signed in again.

CREATE TABLE kept_form (
    hash    BLOB    NOT NULL PRIMARY KEY,
    tid     TEXT    NOT NULL,
    oid     TEXT    NOT NULL,
    app     TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    content TEXT    NOT NULL,        -- sealed
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX kept_form_person ON kept_form (tid, oid);
CREATE INDEX kept_form_expires ON kept_form (expires);
