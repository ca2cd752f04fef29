"""A gRPC client for the promises: makes one kind of call and prints what came of it as JSON.

    grpc_client.py PORT HOST CA CALL [NAME=VALUE...]

Connects to 127.0.0.1:PORT as HOST over TLS, trusting CA; NAME=VALUE are sent as metadata.
"""

import json
import queue
import sys
import time

import grpc

port, host, ca, call, *pairs = sys.argv[1:]
metadata = [tuple(pair.split("=", 1)) for pair in pairs]
with open(ca, "rb") as file:
    trusted = grpc.ssl_channel_credentials(file.read())
channel = grpc.secure_channel(
    "127.0.0.1:" + port,
    trusted,
    options=[
        ("grpc.ssl_target_name_override", host),
        ("grpc.default_authority", f"{host}:{port}"),
        ("grpc.enable_retries", 0),
    ],
)


def dump(message):
    return json.dumps(message).encode()


def method(kind, name):
    return getattr(channel, kind)("/lab.Echo/" + name, dump, json.loads)


def ends(of):
    return {key: value for key, value in of.trailing_metadata() or () if isinstance(value, str)}


def unary(name, request, **more):
    answer, made = method("unary_unary", name).with_call(request, metadata=metadata, timeout=20, **more)
    return {"answer": answer, "trailers": ends(made), "code": made.code().name}


def say():
    return unary("Say", {"say": "h\u00e9llo"})


def state():
    return unary("State", {})


def fail():
    return unary("Fail", {"say": "n\u00f6t \u2713 now"})


def count():
    made = method("unary_stream", "Count")({"to": 100}, metadata=metadata, timeout=20)
    got = [answer["at"] for answer in made]
    return {"answer": got, "trailers": ends(made), "code": made.code().name}


def join():
    parts = ({"say": "x" * 1000} for _ in range(100))
    answer, made = method("stream_unary", "Join").with_call(parts, metadata=metadata, timeout=20)
    return {"answer": answer, "trailers": ends(made), "code": made.code().name}


def talk():
    """Each word only after the answer to the one before: nothing waits for the end of anything."""
    words = queue.Queue()
    made = method("stream_stream", "Talk")(iter(words.get, None), metadata=metadata, timeout=20)
    got = []
    for word in ["one", "two", "three"]:
        words.put({"say": word})
        got.append(next(made))
    words.put(None)
    rest = list(made)
    return {"answer": got, "rest": rest, "trailers": ends(made), "code": made.code().name}


def deadline():
    began = time.monotonic()
    try:
        method("unary_unary", "Wait")({}, metadata=metadata, timeout=0.5)
    except grpc.RpcError as error:
        return {"code": error.code().name, "took": time.monotonic() - began}
    return {"code": "none"}


def cancel():
    made = method("unary_stream", "Forever")({}, metadata=metadata, timeout=20)
    first = next(made)
    made.cancel()
    return {"answer": first, "code": made.code().name}


def leave():
    """Cancelled before anything of an answer came, and without a deadline that the server could know."""
    before = state()["answer"]["calls"]
    made = method("unary_unary", "Wait").future({}, metadata=metadata)
    while state()["answer"]["calls"] == before:
        pass
    made.cancel()
    return {"code": made.code().name}


def download():
    made = method("unary_stream", "Count")({"to": 1024, "size": 65536}, metadata=metadata, timeout=60)
    length = sum(len(answer["filling"]) for answer in made)
    return {"length": length, "code": made.code().name}


def upload():
    part = {"say": "x" * 65536}
    parts = (part for _ in range(1024))
    answer, made = method("stream_unary", "Join").with_call(parts, metadata=metadata, timeout=60)
    return {"length": answer["length"], "code": made.code().name}


def slow():
    """Calls whose answers nobody reads, and one beside them."""
    stuck = [method("unary_stream", "Count")({"to": 1024, "size": 65536}, metadata=metadata) for _ in range(8)]
    firsts = [next(made)["at"] for made in stuck]
    # By then every buffer on the way is full.
    until = time.monotonic() + 3
    while time.monotonic() < until:
        beside = say()
    for made in stuck:
        made.cancel()
    return {"firsts": firsts, "beside": beside}


try:
    told = globals()[call]()
except grpc.RpcError as error:
    told = {"code": error.code().name, "details": error.details(), "trailers": ends(error)}
    told["head"] = dict(error.initial_metadata() or ())
print(json.dumps(told))
