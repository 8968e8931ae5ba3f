"""A proxy that hands on HTTP/1.1 as it is, and does to single requests what networks and services do on bad days.

Faults that take `before` come before a request is handed on, or after the upstream has answered it: then what was asked
for is done, but the client can't know.

It stands where the upstream would be, or it is a proxy as clients know them: of requests with a whole URL, those for an
address go there, and those for a name to the upstream, without DNS.
"""

import ipaddress
import socket
import struct
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.client import responses
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import parse_qsl, unquote

from local_server import ADDRESS, TrackedConnections, in_origin_form

PIECE = 1 << 16
LONGEST_LINE = 1 << 16


@dataclass
class Request:
    """A request as it came. `size` counts the bytes of its body that were read, as they are on the wire. `status` is
    what the upstream answered, or what was answered instead, and 0 where neither was."""

    method: str
    target: str
    headers: dict
    size: int = 0
    fault: object = None
    status: int = 0

    @property
    def host(self):
        """Who it is for, without the port."""
        return self.headers.get("host", "").partition(":")[0]

    @property
    def path(self):
        return unquote(self.target.partition("?")[0])

    @property
    def query(self):
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass
class Answer:
    status: int
    head: bytes
    body: bytes
    ends: bool


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
    """An answer that is not the upstream's."""

    status: int
    code: str
    before: bool = True
    headers: tuple = ()

    def run(self, exchange):
        exchange.take() if self.before else exchange.forward()
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code><Message>Injected.</Message>'
        body += "<RequestId>0000000000000000000000FA</RequestId><HostId>faults</HostId></Error>"
        exchange.respond(self.status, "application/xml", body.encode(), self.headers)


INTERNAL_ERROR = Respond(500, "InternalError")
SLOW_DOWN = Respond(503, "SlowDown")
SERVER_BUSY = Respond(503, "ServerBusy")
ACCESS_DENIED = Respond(403, "AccessDenied")


@dataclass(frozen=True)
class Silence:
    """No answer, ever, until the client goes."""

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
    """The connection ends in the middle of the answer's body or, where it has none, of its head."""

    def run(self, exchange):
        answer = exchange.forward()
        whole, body = answer.head + answer.body, answer.body
        exchange.send(whole[: len(answer.head) + len(body) // 2 if body else len(whole) // 2])
        exchange.close_if(True)


@dataclass(frozen=True)
class Damage:
    """A bit in the middle of the answer's body is another one."""

    def run(self, exchange):
        answer = exchange.forward()
        body, middle = bytearray(answer.body), len(answer.body) // 2
        body[middle] ^= 1
        exchange.send(answer.head + body)
        exchange.close_if(answer.ends)


@dataclass(frozen=True)
class Run:
    """Calls a function with the request. This is no fault: the request goes on, to a fault of another rule or none."""

    function: object
    before: bool = True


@dataclass
class Rule:
    """When to do something: with `times` matching requests, or all of them where it is None, from the `nth` on."""

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


class FaultyProxy:
    """Stands before an upstream, which is a pair of host and port, until `close`."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.requests = []
        self.rules = []
        self._lock = threading.Lock()
        self._tcp = _Tcp((ADDRESS, 0), _Connection)
        self._tcp.proxy = self
        self.address = self._tcp.server_address
        self.port = self.address[1]
        threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True).start()

    def inject(self, fault, **conditions):
        """Does `fault` to requests that meet the conditions, which are fields of `Rule`: `path` is a pattern of a
        shell's, `query` a parameter's name or parameters with values, `when` a predicate on a `Request`. The first rule
        that fires decides. Returns the rule, which tells how often it `fired`."""
        rule = Rule(fault, **conditions)
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self):
        """Forgets all rules."""
        with self._lock:
            self.rules.clear()

    def close(self):
        self._tcp.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _arrived(self, request):
        """Records a request. Returns the functions to call and the fault, if any."""
        calls = []
        with self._lock:
            self.requests.append(request)
            for rule in self.rules:
                if request.fault is None and rule.fires(request):
                    if isinstance(rule.fault, Run):
                        calls.append(rule.fault)
                    else:
                        request.fault = rule.fault
        return calls


class _Tcp(TrackedConnections, ThreadingTCPServer):
    allow_reuse_address = True


class _Connection(BaseRequestHandler):
    """A client's connection."""

    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.request.makefile("rb")
        self.open = True

    def handle(self):
        while self.open and (head := _read_head(self.reader)):
            try:
                _Exchange(self, self.server.proxy, head).serve()
            except (OSError, EOFError):
                # The client went or speaks no HTTP, or the upstream is not there.
                self.reset()

    def finish(self):
        self.reader.close()

    def reset(self):
        if self.open:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.reader.close()
            self.request.close()
        self.open = False


class _Exchange:
    """A request and its answer."""

    def __init__(self, connection, proxy, head):
        self.connection, self.proxy, self.head = connection, proxy, head
        first, self.headers = _parsed(head)
        method, _, rest = first.partition(" ")
        whole = rest.partition(" ")[0]
        authority, target = in_origin_form(whole)
        self.upstream = proxy.upstream
        if authority:
            # As servers that are no proxies take it.
            self.head = head.replace(whole.encode("latin-1"), target.encode("latin-1"), 1)
            self.headers["host"] = authority
            self.upstream = _address(authority) or proxy.upstream
        self.request = Request(method, target, self.headers)

    def serve(self):
        self.calls = self.proxy._arrived(self.request)
        self._call(before=True)
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.request.fault:
            self.request.fault.run(self)
        else:
            answer = self.forward()
            self.send(answer.head + answer.body)
            self.close_if(answer.ends)

    def _call(self, before):
        for call in self.calls:
            if call.before == before:
                call.function(self.request)

    def take(self):
        """Reads the body, which nobody will see."""
        for _ in self._body():
            pass

    def forward(self):
        """Hands the request on. Returns the upstream's answer."""
        with socket.create_connection(self.upstream) as upstream, upstream.makefile("rb") as reader:
            self._hand_on(upstream)
            while head := _read_head(reader):
                first, headers = _parsed(head)
                status = int(first.split(" ")[1])
                if status >= 200:
                    self.request.status = status
                    answer = self._read_answer(reader, head, status, headers)
                    self._call(before=False)
                    return answer
        raise EOFError

    def forward_part(self, most):
        """Hands on as much of the request."""
        left = int(self.headers.get("content-length", 0)) // 2 if most is None else most
        with socket.create_connection(self.upstream) as upstream:
            upstream.sendall(self.head)
            for piece in self._body(limit=left):
                upstream.sendall(piece)

    def _hand_on(self, upstream):
        try:
            upstream.sendall(self.head)
            for piece in self._body():
                upstream.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # It may have answered before it had read all.
            self.take()

    def _read_answer(self, reader, head, status, headers):
        bodiless = self.request.method == "HEAD" or status in (204, 304)
        framed = bodiless or "content-length" in headers or "transfer-encoding" in headers
        body = b"" if bodiless else b"".join(_framed(reader, headers)) if framed else reader.read()
        asked = self.headers.get("connection", "").lower() == "close"
        return Answer(status, head, body, asked or not framed or headers.get("connection", "").lower() == "close")

    def _body(self, limit=None):
        for piece in _framed(self.connection.reader, self.headers, limit):
            self.request.size += len(piece)
            yield piece

    def send(self, data):
        self.connection.request.sendall(data)

    def respond(self, status, kind, body, more=()):
        self.request.status = status
        body = b"" if self.request.method == "HEAD" else body
        headers = [("Content-Type", kind), ("Content-Length", len(body)), *more]
        lines = [f"HTTP/1.1 {status} {responses[status]}", *(f"{name}: {value}" for name, value in headers)]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        self.close_if(self.headers.get("connection", "").lower() == "close")

    def reset(self):
        self.connection.reset()

    def hang(self):
        while self.connection.request.recv(PIECE):
            pass
        self.close_if(True)

    def close_if(self, ends):
        self.connection.open = self.connection.open and not ends


def _address(authority):
    """Host and port, where the host is an address."""
    host, _, port = authority.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host, int(port or 80)


def _read_head(reader):
    """A head with its last empty line, or nothing where the connection ends first."""
    head = b""
    while line := reader.readline(LONGEST_LINE):
        head += line
        if line in (b"\r\n", b"\n") and head.strip():
            return head
    return b""


def _parsed(head):
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}


def _framed(reader, headers, limit=None):
    """A body as it is on the wire, piece by piece; no more than `limit` bytes of it."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = _chunks(reader)
    else:
        length = int(headers.get("content-length", 0))
        yield from _exactly(reader, length if limit is None else min(length, limit))
        return
    for piece in pieces:
        yield piece if limit is None else piece[:limit]
        if limit is not None and (limit := limit - len(piece)) <= 0:
            return


def _chunks(reader):
    size = -1
    while size:
        line = reader.readline()
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise EOFError from None
        yield line
        if size:
            yield from _exactly(reader, size + 2)
    while (line := reader.readline()).strip():
        yield line
    yield line


def _exactly(reader, size):
    while size:
        piece = reader.read1(min(size, PIECE))
        if not piece:
            raise EOFError
        size -= len(piece)
        yield piece


def _includes(query, wanted):
    if isinstance(wanted, str):
        return wanted in query
    return all(query.get(name) == str(value) for name, value in (wanted or {}).items())
