"""An HTTP Event Collector as Splunk has it, at a free port of loopback, that keeps what it accepted.

It is as strict as the documentation, and where that says nothing as what others have measured: `hec_events` has the
codes, `hec_channels` the acknowledgements. `hec_faults` are to be injected, as those of the proxy of stores are.

What becomes of the events before an invalid one of the same request, sources do not agree on: Splunk's log says
`events_processed=0` of such requests (with an `invalid-event-number` of 75), and its own exporters take the whole
request for refused; one of their authors says of a 503 that what comes before `invalid-event-number` was taken. So
`partial` is a switch. A client has to lose nothing in either case, and nothing may arrive twice where it is off.
"""

import base64
import json
import socket
import struct
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hec_faults
from hec_channels import NEVER, Channels, channel_of
from hec_events import CODES, Event, Policy, Refused, parsed

sys.path.append(str(Path(__file__).resolve().parents[1] / "stores"))
import faults  # noqa: E402
from local_server import ADDRESS, TrackedConnections  # noqa: E402

TOKEN = "11111111-2222-4333-8444-555555555555"
EVENTS = ("/services/collector", "/services/collector/event", "/services/collector/event/1.0")
ACKS = ("/services/collector/ack", "/services/collector/ack/1.0")
HEALTH = ("/services/collector/health", "/services/collector/health/1.0")
PIECE = 1 << 16


@dataclass
class Request(faults.Request):
    """A request as it came. `body` is what was sent, decompressed where that was possible, and `size` counts its bytes
    on the wire. `code` is what it was answered and `accepted` how many events were; `crashes` counts those before the
    process that read it."""

    number: int = 0
    connection: int = 0
    crashes: int = 0
    body: bytes = field(default=b"", repr=False)
    code: int | None = None
    accepted: int = 0
    ack_id: int | None = None

    @property
    def gzip(self):
        return self.headers.get("content-encoding", "").lower() == "gzip"


class Collector:
    """A collector, from its construction until `close`.

    With `acks`, requests need a channel, and are acknowledged `index_delay` seconds after they were accepted; `NEVER`
    is possible. `context` is for TLS. `most_bytes` is how long bodies are at most, as they are on the wire. More
    options are of a `Policy`.
    """

    def __init__(self, context=None, token=TOKEN, acks=False, index_delay=0.0, partial=False, **options):
        self.context, self.token, self.acks = context, token, acks
        self.index_delay, self.partial = index_delay, partial
        self.most_bytes = options.pop("most_bytes", 800 << 20)
        self.policy = Policy(**options)
        self.enabled = self.healthy = True
        self.requests, self.events, self.rules = [], [], []
        self.connections = 0
        self.lock = threading.RLock()
        self._channels = Channels()
        self._crashes = 0
        self.port = 0
        self.start()

    @property
    def address(self):
        return ADDRESS, self.port

    @property
    def endpoint(self):
        return f"{'https' if self.context else 'http'}://{ADDRESS}:{self.port}"

    def start(self):
        """Listens; again, at the port that it had."""
        self._http = _Http((ADDRESS, self.port), _Connection)
        self._http.collector, self._http.crashes = self, self._crashes
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Ends all connections, and refuses others."""
        self._http.close()

    def crash(self):
        """Ends like a process that is killed. What was not yet indexed is lost, and the acknowledgements are forgotten:
        their numbers begin anew at the next start."""
        self.close()
        with self.lock:
            now = time.monotonic()
            self._crashes += 1
            self.events = [event if event.ready <= now else replace(event, lost=True) for event in self.events]
            self._channels = Channels()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def inject(self, fault, **conditions):
        """Does `fault` to requests that meet the conditions, which are fields of `faults.Rule`: `path` is a pattern of
        a shell's, `when` a predicate on a `Request`, `nth` the first of those to do it to and `times` how many (all,
        where it is None). The first rule that fires decides. Returns the rule, which tells how often it `fired`."""
        rule = faults.Rule(fault, **conditions)
        with self.lock:
            self.rules.append(rule)
        return rule

    def refuse_events(self, predicate, code=6):
        """Refuses, from now on, events whose members a predicate is true of."""
        self.policy.refusals.append((predicate, code))

    def clear(self):
        """Forgets all rules and refusals."""
        with self.lock:
            self.rules.clear()
            self.policy.refusals.clear()

    def indexed(self):
        """The events that can be found by now, in the order of their acceptance."""
        now = time.monotonic()
        with self.lock:
            return [event for event in self.events if event.ready <= now and not event.lost]

    def sent(self):
        """The requests with events."""
        with self.lock:
            return [request for request in self.requests if request.method == "POST" and request.path in EVENTS]

    def pending(self, channel):
        """The numbers of a channel that nobody has been told of."""
        with self.lock:
            return self._channels.pending(channel)

    def connected(self):
        """Counts a connection. Returns its number."""
        with self.lock:
            self.connections += 1
            return self.connections

    def arrived(self, request):
        """Records a request. Returns the functions to call and the fault, if any."""
        calls = []
        with self.lock:
            request.number = len(self.requests)
            self.requests.append(request)
            for rule in self.rules:
                if request.fault is None and rule.fires(request):
                    if isinstance(rule.fault, hec_faults.Run):
                        calls.append(rule.fault)
                    else:
                        request.fault = rule.fault
        return calls

    def answer(self, request, lost=False, acknowledged=True, most=None):
        """What a request is answered: a code, members of the answer besides, or a status that has no code."""
        if request.path in HEALTH:
            return (17 if self.healthy else 18), {}
        if request.path not in EVENTS + ACKS:
            return None, 404
        if request.method != "POST":
            return None, 405
        try:
            self._authorize(request)
            if request.path in ACKS:
                return None, self._told(request)
            if request.size > self.most_bytes:
                return None, 413
            if request.headers.get("content-encoding", "").lower() not in ("", "identity", "gzip"):
                return None, 415
            return 0, self._accept(request, lost, acknowledged, most)
        except Refused as refused:
            return refused.code, {} if refused.number is None else {"invalid-event-number": refused.number}

    def _authorize(self, request):
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme and "token" in request.query:
            raise Refused(16 if request.query["token"] == self.token else 4)
        if not scheme:
            raise Refused(2)
        if scheme == "Basic":
            token = _password(token)
        elif scheme != "Splunk" or not token.strip():
            raise Refused(3)
        if token.strip() != self.token:
            raise Refused(4)
        if not self.enabled:
            raise Refused(1)

    def _accept(self, request, lost, acknowledged, most):
        channel = channel_of(request, required=self.acks)
        if request.gzip and request.body is None:
            raise Refused(6)
        with self.lock:
            ready = time.monotonic() + self.index_delay
            # A process that was killed takes nothing any more.
            lost = lost or request.crashes < self._crashes
            events, refused = self._checked(request, most)
            if refused is None or self.partial:
                place = {"endpoint": request.path, "channel": channel, "request": request.number}
                self.events += [replace(event, ready=ready, lost=lost, **place) for event in events]
                request.accepted = len(events)
            if refused:
                raise refused
            if not self.acks or most is not None:
                return {}
            request.ack_id = self._channels.take(channel, NEVER if lost or not acknowledged else ready)
            return {"ackId": request.ack_id}

    def _checked(self, request, most):
        """The first events of a body that may be taken, and why others are refused."""
        events = []
        try:
            for position, (members, text) in enumerate(parsed(request.body)):
                self.policy.check(members, text, position)
                events.append(Event(members, text, position=position))
        except Refused as refused:
            return events[:most], refused
        return events[:most], None

    def _told(self, request):
        if not self.acks:
            raise Refused(14)
        channel = channel_of(request, required=True)
        try:
            numbers = json.loads(request.body)["acks"]
        except (ValueError, KeyError, TypeError):
            raise Refused(6) from None
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise Refused(6)
        with self.lock:
            return {"acks": self._channels.told(channel, numbers)}


class _Http(TrackedConnections, ThreadingHTTPServer):
    def get_request(self):
        connection, peer = super().get_request()
        if self.collector.context:
            # The handshake is the business of the connection's thread.
            self._open.discard(connection)
            connection = self.collector.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._open.add(connection)
        return connection, peer

    def handle_error(self, connection, peer):
        pass


class _Connection(BaseHTTPRequestHandler):
    """A client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version, sys_version = "Splunkd", ""

    def setup(self):
        self.number = self.server.collector.connected()
        super().setup()
        if self.server.collector.context:
            self.request.do_handshake()

    def _serve(self):
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        wire = self._body(headers)
        request = Request(self.command, self.path, headers, size=len(wire), connection=self.number)
        request.crashes = self.server.crashes
        request.body = _inflated(wire) if request.gzip else wire
        _Exchange(self, self.server.collector, request).serve()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _serve

    def _body(self, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self._exactly(int(headers.get("content-length", 0)))

    def _chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self._exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _exactly(self, size):
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionError("the body ended early")
        return body

    def reset(self):
        self.close_connection = True
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.request.close()

    def log_message(self, *_):
        pass


class _Exchange:
    """A request and its answer, as the faults of a proxy have it."""

    def __init__(self, connection, collector, request):
        self.connection, self.collector, self.request = connection, collector, request

    def serve(self):
        self.calls = self.collector.arrived(self.request)
        self._call(before=True)
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
        """The body has been read."""

    def forward(self, **how):
        """Lets the collector have it. Returns its answer."""
        answer = self._answer(*self.collector.answer(self.request, **how))
        self._call(before=False)
        return answer

    def respond(self, code, status=None, number=None, headers=None):
        """Answers by a code."""
        more = {} if number is None else {"invalid-event-number": number}
        answer = self._answer(code, more, status, headers)
        self.send(answer.head + answer.body)
        self.close_if(answer.ends)

    def send_page(self, status, headers=None):
        """Answers by a page that has no code."""
        answer = self._answer(None, status, headers=headers)
        self.send(answer.head + answer.body)
        self.close_if(answer.ends)

    def _answer(self, code, more, status=None, headers=None):
        kind, body = "application/json; charset=UTF-8", more
        self.request.code = code
        if code is not None:
            status, body = status or CODES[code][0], {"text": CODES[code][1], "code": code, **more}
        elif isinstance(more, dict):
            status = 200
        else:
            status, body = more, {"text": "The requested URL was not found on this server.", "code": 404}
        if code is None and status not in (200, 404, 405):
            kind, body = "text/html; charset=UTF-8", hec_faults.page(status)
        self.request.status = status
        body = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        return self._framed(status, kind, body, headers or {})

    def _framed(self, status, kind, body, headers):
        ends = self.connection.close_connection
        headers = {"Content-Type": kind, "Content-Length": len(body), "Server": "Splunkd", **headers}
        if ends:
            headers["Connection"] = "close"
        reason = hec_faults.responses[status]
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        body = b"" if self.request.method == "HEAD" else body
        return faults.Answer(status, ("\r\n".join(lines) + "\r\n\r\n").encode(), body, ends)

    def send(self, data):
        self.connection.request.sendall(data)

    def reset(self):
        self.connection.reset()

    def hang(self):
        while self.connection.request.recv(PIECE):
            pass
        self.close_if(True)

    def close_if(self, ends):
        self.connection.close_connection = self.connection.close_connection or ends


def _password(credentials):
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        raise Refused(3) from None


def _inflated(wire):
    """What gzip made smaller, or None where that was not gzip, or not whole."""
    body = b""
    while wire:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            body += member.decompress(wire)
        except zlib.error:
            return None
        if not member.eof:
            return None
        wire = member.unused_data
    return body
