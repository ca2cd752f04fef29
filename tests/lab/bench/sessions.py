"""Sessions written into the store's own tables, so that a gateway starts with a hundred thousand.

The form is src/store/migrations/sqlite/; each is a copy of one that a real sign-in made, with ids of its own.
"""

import hashlib
import os
import secrets
import sqlite3
import uuid


def copy_store(from_gateway, to_gateway, count, host="wiki.localhost"):
    """The first gateway's store, while it runs, with `count` sessions in all; returns their cookies."""
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
    # Found by another sign-in with the same issuer session, all would end together.
    sign_in["issuer_session"] = None
    cookies = [secrets.token_urlsafe(32) for _ in range(count)]
    ids = [str(uuid.uuid4()) for _ in range(count)]
    hashes = [hashlib.sha256(cookie.encode()).digest() for cookie in cookies]
    _insert(store, "sign_in", ({**sign_in, "id": mine} for mine in ids), sign_in)
    _insert(store, "session", ({**session, "sign_in": mine, "hash": hash_}
                               for mine, hash_ in sorted(zip(ids, hashes), key=lambda pair: pair[1])), session)
    store.commit()
    store.close()
    return [f"__Host-kerbgate={cookie}" for cookie in cookies]


def _insert(store, table, rows, columns):
    names = ", ".join(columns)
    marks = ", ".join(f":{name}" for name in columns)
    store.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
