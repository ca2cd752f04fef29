-- What has changed about sign-ins and sessions that somebody may hold in memory. Replicas ask for what is new.
-- By triggers: whatever writes, an administrator's SQL included, is told.

CREATE TABLE news (
    revision INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sign_in  TEXT,
    session  BLOB
) STRICT;

CREATE TRIGGER sign_in_changed AFTER UPDATE OF claims, checked, ended ON sign_in
BEGIN
    INSERT INTO news (sign_in) VALUES (NEW.id);
END;

CREATE TRIGGER sign_in_gone AFTER DELETE ON sign_in
BEGIN
    INSERT INTO news (sign_in) VALUES (OLD.id);
END;

CREATE TRIGGER session_gone AFTER DELETE ON session
BEGIN
    INSERT INTO news (session) VALUES (OLD.hash);
END;
