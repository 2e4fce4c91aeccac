"""A gRPC origin on Python's grpcio with raw bytes for messages: no generated code.

    grpc_origin.py NAME

Prints JSON lines: first its port, then what it sees. Ends when its standard input ends.
"""

import collections
import json
import os
import sys
import threading
from concurrent import futures

import grpc

NAME = sys.argv[1]
OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
# Streams that a test steps through share their progress with unary calls of the same name.
seen = collections.Counter()
permits = collections.defaultdict(lambda: threading.Semaphore(0))


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def text(value):
    return value.hex() if isinstance(value, bytes) else value


def watch(context, call):
    """Tells how long the call may take, and when it ends, whoever ends it."""
    say(event="start", call=call, remaining=context.time_remaining())
    context.add_callback(lambda: say(event="end", call=call))


def describe(_request, context):
    """What came with the call: every field with all its values, and the time that is left."""
    fields = collections.defaultdict(list)
    for key, value in context.invocation_metadata():
        fields[key].append(text(value))
    answer = {"name": NAME, "metadata": fields, "remaining": context.time_remaining()}
    return json.dumps(answer).encode()


def echo(request, context):
    """Gives back the message and, in headers and trailers, the metadata that starts with `x-`."""
    mine = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata([("h-" + key, value) for key, value in mine])
    context.set_trailing_metadata([("t-" + key, value) for key, value in mine])
    return request


def fail(request, context):
    """Ends with the status that the message asks for, before any answer."""
    code, details = json.loads(request)
    context.set_trailing_metadata((("x-why", "asked"), ("x-why-bin", b"\x00\xff\x80")))
    context.abort(next(c for c in grpc.StatusCode if c.value[0] == code), details)


def fail_late(_request, context):
    """Two messages, then a status."""
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "after two")


def hang(_request, context):
    """Never answers. Ends when the caller, or a deadline, ends the call."""
    watch(context, "hang")
    over = threading.Event()
    context.add_callback(over.set)
    over.wait(30)
    return b""


def begin(_request, context):
    """One message, then nothing more until somebody ends the call."""
    watch(context, "begin")
    over = threading.Event()
    context.add_callback(over.set)
    yield b"first"
    over.wait(30)


def quit_early(_request, context):
    """Cancels the call itself."""
    context.cancel()
    return b""


def collect(requests, context):
    """Client streaming: counts each message as it comes, and joins them."""
    key = dict(context.invocation_metadata())["x-key"]
    parts = []
    for part in requests:
        parts.append(part)
        seen[key] += 1
    return b",".join(parts)


def count(request, _context):
    """How many messages the `collect` of this name has seen so far."""
    return str(seen[request.decode()]).encode()


def expand(request, context):
    """Server streaming: each message waits for a permit."""
    key = dict(context.invocation_metadata())["x-key"]
    for number in range(int(request)):
        if not permits[key].acquire(timeout=8):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no permit")
        yield str(number).encode()


def permit(request, _context):
    """Lets the `expand` of this name send one more."""
    permits[request.decode()].release()
    return b""


def chat(requests, _context):
    """Both ways: an answer to each message, and one more when the caller has sent its last."""
    number = 0
    for part in requests:
        number += 1
        yield part
    yield b"end after %d" % number


UNARY = {"Describe": describe, "Echo": echo, "Fail": fail, "Hang": hang, "QuitEarly": quit_early, "Count": count,
         "Permit": permit}
HANDLERS = {name: grpc.unary_unary_rpc_method_handler(function) for name, function in UNARY.items()}
HANDLERS |= {
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Expand": grpc.unary_stream_rpc_method_handler(expand),
    "Begin": grpc.unary_stream_rpc_method_handler(begin),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=256), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port=port)
    sys.stdin.read()
    os._exit(0)


main()
