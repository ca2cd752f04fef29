"""A gRPC server for the promises: says who it was told came, and streams in every direction.

    grpc_server.py READY PORT

Writes {"port": ...} into the file READY; PORT 0 = any. Without a schema: messages are JSON, so that nothing is generated.
"""

import json
import os
import sys
import threading
import time
from concurrent import futures

import grpc

STATE = {"calls": 0, "cancelled": 0}
LOCK = threading.Lock()


def count(what):
    with LOCK:
        STATE[what] += 1


def begin(context):
    count("calls")
    context.done_well = False
    context.add_callback(lambda: context.done_well or count("cancelled"))
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}


def end(context):
    context.done_well = True
    context.set_trailing_metadata((("x-end", "of the call"), ("kerbgate-reason", "forged")))


def say(request, context):
    seen = begin(context)
    end(context)
    return {"said": request["say"], "seen": seen, "deadline": context.time_remaining()}


def fail(request, context):
    begin(context)
    context.done_well = True
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, request["say"])


def count_up(request, context):
    begin(context)
    for at in range(request["to"]):
        yield {"at": at, "filling": "x" * request.get("size", 0)}
    end(context)


def forever(_, context):
    begin(context)
    at = 0
    while context.is_active():
        yield {"at": at}
        at += 1
        time.sleep(0.02)


def wait(_, context):
    begin(context)
    while context.is_active():
        time.sleep(0.02)
    return {}


def join(requests, context):
    begin(context)
    length = sum(len(request["say"]) for request in requests)
    end(context)
    return {"length": length}


def talk(requests, context):
    seen = begin(context)
    for request in requests:
        yield {"said": request["say"], "user": seen.get("x-remote-user")}
    end(context)


def state(_, _context):
    with LOCK:
        return dict(STATE)


def main():
    def load(message):
        return json.loads(message)

    def dump(answer):
        return json.dumps(answer).encode()

    kinds = {
        "Say": (grpc.unary_unary_rpc_method_handler, say),
        "Fail": (grpc.unary_unary_rpc_method_handler, fail),
        "Wait": (grpc.unary_unary_rpc_method_handler, wait),
        "State": (grpc.unary_unary_rpc_method_handler, state),
        "Count": (grpc.unary_stream_rpc_method_handler, count_up),
        "Forever": (grpc.unary_stream_rpc_method_handler, forever),
        "Join": (grpc.stream_unary_rpc_method_handler, join),
        "Talk": (grpc.stream_stream_rpc_method_handler, talk),
    }
    handlers = {name: kind(answer, load, dump) for name, (kind, answer) in kinds.items()}
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Echo", handlers),))
    ready, wanted = sys.argv[1:]
    port = server.add_insecure_port("127.0.0.1:" + wanted)
    server.start()
    with open(ready + ".new", "w") as file:
        json.dump({"port": port}, file)
    os.rename(ready + ".new", ready)
    server.wait_for_termination()


main()
