"""Sessions written into the store's own tables, so that a gateway starts with a hundred thousand.

The form is src/store/migrations/sqlite/; each is a copy of one that a real sign-in made, with ids of its own.
"""

import hashlib
import os
import secrets
import sqlite3
import uuid


def copy_store(from_gateway, to_gateway, count, host="wiki.localhost"):
    """The first gateway's store, while it runs, with `count` sessions in all; returns a file of their cookies."""
    path = to_gateway.state("kerbgate.db")
    source = sqlite3.connect(from_gateway.state("kerbgate.db"), timeout=10)
    store = sqlite3.connect(path)
    source.backup(store)
    source.close()
    os.chmod(path, 0o600)
    store.row_factory = sqlite3.Row
    session = dict(store.execute("SELECT * FROM session WHERE host = ?", (host,)).fetchone())
    sign_in = dict(store.execute("SELECT * FROM sign_in WHERE id = ?", (session["sign_in"],)).fetchone())
    store.execute("DELETE FROM session")
    store.execute("DELETE FROM sign_in")
    cookies = []
    for _ in range(count):
        cookie = secrets.token_urlsafe(32)
        cookies.append(f"__Host-kerbgate={cookie}")
        sign_in["id"] = str(uuid.uuid4())
        session["sign_in"] = sign_in["id"]
        session["hash"] = hashlib.sha256(cookie.encode()).digest()
        # Found by another sign-in with the same issuer session, all would end together.
        sign_in["issuer_session"] = None
        for table, row in (("sign_in", sign_in), ("session", session)):
            marks = ", ".join("?" * len(row))
            store.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    store.commit()
    store.close()
    file = os.path.join(to_gateway.folder, "cookies")
    with open(file, "w", encoding="ascii") as out:
        out.write("\n".join(cookies) + "\n")
    return file
