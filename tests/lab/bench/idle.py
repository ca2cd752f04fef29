"""Many TLS connections that do nothing after one request each, and what they hold on the other side."""

import os
import socket
import ssl
import threading
import time

import machine
from load import Wrong

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 18)]
OPENERS = 8


def _open(server, request, number, context):
    raw = socket.socket()
    raw.settimeout(20)
    # Several sources: one has 28 000 ports, and most of them may be waiting out an earlier connection.
    raw.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    raw.bind((ADDRESSES[number % len(ADDRESSES)], 0))
    raw.connect(("127.0.0.1", server.port))
    with context.wrap_socket(raw, server_hostname="wiki.localhost") as tls:
        tls.sendall(request)
        answer = b""
        while not answer.endswith(b"x" * 1024):
            part = tls.recv(16384)
            if not part:
                break
            answer += part
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Wrong(f"{server.name}: {answer[:200]!r}")
        # Only the connection is kept: our own half of the encryption would be another gigabyte.
        return os.dup(tls.fileno())


def measure(world, server, count):
    """KiB for each of `count` idle connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    cookie = server.cookies.get("wiki", "")
    request = (f"GET /1k HTTP/1.1\r\nHost: wiki.localhost:{server.port}\r\n"
               + (f"Cookie: {cookie}\r\n" if cookie else "") + "\r\n").encode()
    kept, faults, lock = [], [], threading.Lock()

    def open_some(first, to):
        for number in range(first, to, OPENERS):
            if faults:
                return
            try:
                connection = _open(server, request, number, context)
            except (OSError, Wrong) as fault:
                faults.append(fault)
                return
            with lock:
                kept.append(connection)

    def open_all(first, to):
        threads = [threading.Thread(target=open_some, args=(first + n, to)) for n in range(OPENERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise Wrong(f"{server.name}: connection {len(kept)}: {faults[0]}\n{server.last_words()}")

    try:
        # A few first: what the first connections make once is not theirs.
        open_all(0, 64)
        before = machine.memory(server.pids())
        open_all(64, 64 + count)
        time.sleep(1)
        after = machine.memory(server.pids())
    finally:
        for connection in kept:
            os.close(connection)
    # So that the next round does not find them still open.
    time.sleep(1)
    return (after - before) / count
