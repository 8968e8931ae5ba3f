"""Faults that networks and services have: the proxy and all fake servers do them to single requests.

A fault with `before` comes before the request is handled. Without it the request is handled first, and the client
cannot know.
"""

import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.client import responses
from urllib.parse import parse_qsl, unquote

PIECE = 1 << 16


@dataclass
class Request:
    """A received request. `size` counts the bytes of its body on the wire. `status` is the status of its answer, or 0.

    The proxy passes bodies on, and keeps none.
    """

    method: str
    target: str
    headers: dict
    size: int = 0
    fault: object = None
    status: int = 0
    body: bytes = field(default=b"", repr=False)
    # The number of its connection, and its own in `requests`.
    connection: int = 0
    number: int = 0
    # The start of the server that got it, from 1 on.
    start: int = 0

    @property
    def host(self):
        """The host that it is for, without the port."""
        return self.headers.get("host", "").partition(":")[0]

    @property
    def path(self):
        return unquote(self.target.partition("?")[0])

    @property
    def query(self):
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass
class Framed:
    """An answer as bytes. `ends` says that the connection ends with it."""

    status: int
    head: bytes
    body: bytes
    ends: bool

    @classmethod
    def of(cls, status, headers, body=b"", ends=False, bodiless=False):
        headers = {"Content-Length": len(body), **headers}
        if status == 204:
            del headers["Content-Length"]
        if ends:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} {responses[status]}", *(f"{name}: {value}" for name, value in headers.items())]
        return cls(status, "\r\n".join([*lines, "", ""]).encode("latin-1"), b"" if bodiless else body, ends)


@dataclass(frozen=True)
class Reset:
    """The connection is reset."""

    before: bool = True

    def run(self, exchange):
        exchange.take() if self.before else exchange.forward()
        exchange.reset()


@dataclass(frozen=True)
class ResetInBody:
    """The connection is reset, on both sides, in the middle of the request's body or after so many bytes of it."""

    after: int | None = None

    def run(self, exchange):
        exchange.forward_part(self.after)
        exchange.reset()


@dataclass(frozen=True)
class Respond:
    """An error of a cloud, in XML, in place of the true answer."""

    status: int
    code: str
    before: bool = True
    headers: tuple = ()

    def run(self, exchange):
        exchange.take() if self.before else exchange.forward()
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code><Message>Injected.</Message>'
        body += "<RequestId>0000000000000000000000FA</RequestId><HostId>faults</HostId></Error>"
        exchange.respond(self.status, "application/xml", body.encode(), self.headers)


@dataclass(frozen=True)
class Say:
    """Any answer in place of the true one."""

    status: int
    body: bytes = b""

    def run(self, exchange):
        exchange.take()
        exchange.respond(self.status, "application/json", self.body, ())


INTERNAL_ERROR = Respond(500, "InternalError")
SLOW_DOWN = Respond(503, "SlowDown")
SERVER_BUSY = Respond(503, "ServerBusy")
ACCESS_DENIED = Respond(403, "AccessDenied")


@dataclass(frozen=True)
class Slow:
    """The answer is late."""

    seconds: float
    before: bool = True

    def run(self, exchange):
        if self.before:
            time.sleep(self.seconds)
        answer = exchange.forward()
        if not self.before:
            time.sleep(self.seconds)
        exchange.deliver(answer)


@dataclass(frozen=True)
class Page:
    """An HTML page of something between, such as a load balancer."""

    status: int = 502
    retry_after: object = None
    before: bool = True

    def run(self, exchange):
        exchange.take() if self.before else exchange.forward()
        headers = () if self.retry_after is None else (("Retry-After", self.retry_after),)
        reason = responses[self.status]
        page = f"<!doctype html><html><head><title>{self.status} {reason}</title></head><body>{reason}</body></html>"
        exchange.respond(self.status, "text/html; charset=UTF-8", page.encode(), headers)


@dataclass(frozen=True)
class Silence:
    """No answer until the client ends the connection."""

    before: bool = True

    def run(self, exchange):
        exchange.take() if self.before else exchange.forward()
        exchange.hang()


@dataclass(frozen=True)
class Trickle:
    """The answer comes a few bytes at a time."""

    pause: float = 0.05
    size: int = 1

    def run(self, exchange):
        answer = exchange.forward()
        whole = answer.head + answer.body
        for at in range(0, len(whole), self.size):
            exchange.send(whole[at : at + self.size])
            time.sleep(self.pause)
        exchange.close_if(answer.ends)


@dataclass(frozen=True)
class Truncate:
    """The connection ends in the middle of the answer's body, or of its head if it has no body."""

    def run(self, exchange):
        answer = exchange.forward()
        whole, body = answer.head + answer.body, answer.body
        exchange.send(whole[: len(answer.head) + len(body) // 2 if body else len(whole) // 2])
        exchange.close_if(True)


@dataclass(frozen=True)
class Damage:
    """A bit in the middle of the answer's body is flipped."""

    def run(self, exchange):
        answer = exchange.forward()
        body, middle = bytearray(answer.body), len(answer.body) // 2
        body[middle] ^= 1
        exchange.send(answer.head + body)
        exchange.close_if(answer.ends)


@dataclass(frozen=True)
class Run:
    """Calls a function with the request. The request goes on, and other rules may fire."""

    function: object
    before: bool = True


@dataclass
class Rule:
    """Fires for `times` matching requests (None: all), from the `nth` on."""

    fault: object
    method: str | None = None
    path: str | None = None
    query: dict | str | None = None
    when: object = None
    nth: int = 1
    times: int | None = 1
    matched: int = 0
    fired: int = 0

    def fires(self, request):
        if not self._matches(request):
            return False
        self.matched += 1
        if self.matched < self.nth or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True

    def _matches(self, request):
        return (
            self.method in (None, request.method)
            and (self.path is None or fnmatchcase(request.path, self.path))
            and _includes(request.query, self.query)
            and (self.when is None or self.when(request))
        )


class Rules:
    """The rules of a server, by which faults are done to requests. It records the requests."""

    # Bodies of recorded requests stay in memory.
    records = True

    def __init__(self):
        self.requests, self.rules = [], []
        self.lock = threading.RLock()

    def inject(self, fault, **conditions):
        """Does `fault` to matching requests. The first rule that fires decides.

        Conditions are fields of `Rule`: `path` is a shell pattern, `query` the name of a parameter or parameters with
        values, `when` a predicate on a `Request`. Returns the rule, which counts how often it `fired`.
        """
        rule = Rule(fault, **conditions)
        with self.lock:
            self.rules.append(rule)
        return rule

    def clear(self):
        """Removes all rules."""
        with self.lock:
            self.rules.clear()

    def arrived(self, request):
        """Records a request and sets its fault. Returns the functions to call."""
        calls = []
        with self.lock:
            request.number = len(self.requests)
            if self.records:
                self.requests.append(request)
            for rule in self.rules:
                if request.fault is None and rule.fires(request):
                    if isinstance(rule.fault, Run):
                        calls.append(rule.fault)
                    else:
                        request.fault = rule.fault
        return calls


class Exchange:
    """A request and its answer. Faults call its methods.

    A subclass defines `take`, which reads the body and drops it, and `forward`, which handles the request and returns
    a `Framed` answer. The connection has `request`, its socket, and `reset` and `finish`.
    """

    def __init__(self, connection, rules, request):
        self.connection, self.rules, self.request = connection, rules, request
        self.calls = []

    def serve(self):
        self.calls = self.rules.arrived(self.request)
        self.call(before=True)
        self.begin()
        if self.request.fault:
            self.request.fault.run(self)
        else:
            self.deliver(self.forward())

    def begin(self):
        """Runs before the body is read."""

    def call(self, before):
        for call in self.calls:
            if call.before == before:
                call.function(self.request)

    def deliver(self, answer):
        self.request.status = answer.status
        self.send(answer.head + answer.body)
        self.close_if(answer.ends)

    def respond(self, status, kind, body, more=()):
        """Answers in place of `forward`."""
        ends = self.request.headers.get("connection", "").lower() == "close"
        headers = {"Content-Type": kind, **dict(more)}
        self.deliver(Framed.of(status, headers, body, ends, self.request.method == "HEAD"))

    def send(self, data):
        self.connection.request.sendall(data)

    def reset(self):
        self.connection.reset()

    def hang(self):
        """Waits until the client ends the connection."""
        while self.connection.request.recv(PIECE):
            pass
        self.close_if(True)

    def close_if(self, ends):
        self.connection.ends = self.connection.ends or ends


def _includes(query, wanted):
    if isinstance(wanted, str):
        return wanted in query
    return all(query.get(name) == str(value) for name, value in (wanted or {}).items())
