"""A gRPC client on Python's grpcio with raw bytes for messages: no generated code.

    grpc_client.py SCENARIO PORT [AUTHORITY]

Plays one scenario against a proxy and prints what it saw as JSON, the last line being the result.
"""

import hashlib
import json
import os
import queue
import sys
import time

import grpc

PORT = sys.argv[2]
AUTHORITY = sys.argv[3] if len(sys.argv) > 3 else "world"
OPTIONS = [
    ("grpc.default_authority", AUTHORITY),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
LIMIT = 9  # seconds for any single call
ROUNDS = 10
CHANNEL = grpc.insecure_channel(f"127.0.0.1:{PORT}", options=OPTIONS)


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def method(kind, name):
    return getattr(CHANNEL, kind)(f"/test.Echo/{name}")


def unary(name, request=b"", **options):
    return method("unary_unary", name)(request, **{"timeout": LIMIT, **options})


def plain(metadata):
    return [[key, value.hex() if isinstance(value, bytes) else value] for key, value in metadata or ()]


def outcome(error):
    return {
        "code": error.code().name,
        "details": error.details(),
        "initial": plain(error.initial_metadata()),
        "trailing": plain(error.trailing_metadata()),
    }


def attempt(action):
    """The result, or how it failed, and after how many seconds."""
    start = time.monotonic()
    try:
        result = {"code": "OK", "message": action()}
    except grpc.RpcError as error:
        result = outcome(error)
    return {**result, "seconds": time.monotonic() - start}


class Feed:
    """Requests of a stream, sent when the scenario says so."""

    def __init__(self):
        self.queue = queue.Queue()

    def __iter__(self):
        return iter(self.queue.get, None)

    def send(self, message):
        self.queue.put(message)

    def close(self):
        self.queue.put(None)


def scenario_unary():
    """A message out and back with metadata, some of it binary, some repeated."""
    metadata = [("x-text", "plain"), ("x-raw-bin", bytes(range(256))), ("x-empty-bin", b""), ("x-two", "a"), ("x-two", "b")]
    answer, call = method("unary_unary", "Echo").with_call(b"hello\x00\xff", metadata=metadata, timeout=LIMIT)
    return {
        "message": answer.hex(),
        "code": call.code().name,
        "initial": plain(call.initial_metadata()),
        "trailing": plain(call.trailing_metadata()),
    }


def scenario_describe():
    """What the origin sees of a call; metadata from the environment, as JSON."""
    metadata = [tuple(pair) for pair in json.loads(os.environ.get("METADATA", "[]"))]
    limit = float(os.environ.get("LIMIT", LIMIT))
    return attempt(lambda: json.loads(unary("Describe", metadata=metadata, timeout=limit)))


def scenario_collect():
    """Client streaming: the next message goes out when the origin has the one before."""
    feed, arrived = Feed(), 0
    call = method("stream_unary", "Collect").future(iter(feed), metadata=[("x-key", "k")], timeout=LIMIT)
    for number in range(ROUNDS):
        feed.send(str(number).encode())
        while int(unary("Count", b"k")) <= number:
            pass
        arrived += 1
    feed.close()
    return {"arrived": arrived, "message": call.result().decode(), "code": call.code().name}


def scenario_expand():
    """Server streaming: the origin sends the next message when this end has the one before."""
    call = method("unary_stream", "Expand")(str(ROUNDS).encode(), metadata=[("x-key", "k")], timeout=LIMIT)
    got = []
    for _ in range(ROUNDS):
        unary("Permit", b"k")
        got.append(next(call).decode())
    return {"got": got, "more": [part.decode() for part in call], "code": call.code().name}


def scenario_chat():
    """Both ways, one message at a time; the end of one side is no end of the other."""
    feed = Feed()
    call = method("stream_stream", "Chat")(iter(feed), timeout=LIMIT)
    got = []
    for number in range(ROUNDS):
        feed.send(str(number).encode())
        got.append(next(call).decode())
    feed.close()
    return {"got": got, "more": [part.decode() for part in call], "code": call.code().name}


def scenario_fail():
    """Each status there is, with a message that has to be escaped on the wire, and metadata."""
    details = "no: 100 % of it, ä\nsecond"
    return {code.value[0]: attempt(lambda c=code: unary("Fail", json.dumps([c.value[0], details]).encode()))
            for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


def scenario_fail_late():
    """A status after two messages."""
    call, got = method("unary_stream", "FailLate")(b"", timeout=LIMIT), []
    return {**attempt(lambda: got.extend(part.decode() for part in call)), "got": got}


def scenario_hang():
    """A call that nobody answers, with the caller's own deadline."""
    return attempt(lambda: unary("Hang", timeout=float(os.environ["LIMIT"])).hex())


def scenario_cancel_waiting():
    """Gives up a call when the test says so, before any answer."""
    call = method("unary_unary", "Hang").future(b"", timeout=LIMIT)
    sys.stdin.readline()
    call.cancel()
    return {"cancelled": call.cancelled()}


def scenario_cancel_stream():
    """Gives up a stream after its first message."""
    call = method("unary_stream", "Begin")(b"", timeout=LIMIT)
    first = next(call).decode()
    call.cancel()
    sys.stdin.readline()  # the channel stays open: it is the stream that ends, not the connection
    return {"first": first, "after": unary("Echo", b"still here").decode()}


def scenario_read_on():
    """Reads a stream to whatever end it has."""
    call = method("unary_stream", "Begin")(b"", timeout=LIMIT)
    say(first=next(call).decode())
    return attempt(lambda: [part.decode() for part in call])


def scenario_quit_early():
    """The origin gives up."""
    return attempt(lambda: unary("QuitEarly").hex())


def scenario_large():
    """4 MiB each way, in one message, then in five of a stream; octets are compared."""
    block = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(131072))
    feed = Feed()
    same = unary("Echo", block) == block
    call = method("stream_stream", "Chat")(iter(feed), timeout=LIMIT)
    streamed = 0
    for _ in range(5):
        feed.send(block)
        streamed += next(call) == block
    feed.close()
    return {"size": len(block), "same": same, "streamed": streamed, "more": [part.decode() for part in call]}


def scenario_many():
    """200 streams open at one time, each with its own messages."""
    feeds = [Feed() for _ in range(200)]
    calls = [method("stream_stream", "Chat")(iter(feed), timeout=LIMIT) for feed in feeds]
    for number, feed in enumerate(feeds):
        feed.send(b"first %d" % number)
    good = sum(next(call) == b"first %d" % number for number, call in enumerate(calls))
    say(open=good)
    sys.stdin.readline()
    for number, feed in enumerate(feeds):
        feed.send(b"second %d" % number)
        feed.close()
    ends = [b"second %d,end after 2" % number for number in range(200)]
    good += sum(b",".join(call) == end for call, end in zip(calls, ends))
    return {"good": good, "codes": sorted({call.code().name for call in calls})}


def scenario_recover():
    """One call for each line of the test, on one channel."""
    for _ in sys.stdin:
        result = attempt(lambda: json.loads(unary("Describe", wait_for_ready=True))["name"])
        say(**result)
    return {}


say(**{"result": globals()["scenario_" + sys.argv[1]]()})
os._exit(0)
