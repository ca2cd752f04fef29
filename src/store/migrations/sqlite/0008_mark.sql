-- How far work that replicas do in turn has come: whoever does it next goes on from there.

CREATE TABLE mark (
    name    TEXT NOT NULL PRIMARY KEY,
    content TEXT NOT NULL             -- as the owner wrote it
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_live ON sign_in (id) WHERE ended IS NULL;
