"""An HTTP Event Collector of Splunk at a free port of loopback. It keeps the events that it accepted.

It is as strict as Splunk's documentation, and as measured where that says nothing: `hec_events` has the codes,
`hec_channels` the acknowledgements. `faults` and `hec_faults` can be injected.

Sources disagree about the events before an invalid one of the same request: Splunk's log has `events_processed=0`
for such requests (with an `invalid-event-number` of 75), and its own exporters treat the whole request as refused. One
of their authors says that a 503 accepts the events before `invalid-event-number`. So `partial` is a switch. A client
must lose nothing in either case, and must duplicate nothing where it is off.
"""

import base64
import json
import time
import zlib
from dataclasses import dataclass, replace

from kit.fakes import faults
from kit.fakes.hec_channels import NEVER, Channels, channel_of
from kit.fakes.hec_events import CODES, Event, Policy, Refused, parsed
from kit.fakes.http import Answer, Server, ServerExchange

TOKEN = "11111111-2222-4333-8444-555555555555"
EVENTS = ("/services/collector", "/services/collector/event", "/services/collector/event/1.0")
ACKS = ("/services/collector/ack", "/services/collector/ack/1.0")
HEALTH = ("/services/collector/health", "/services/collector/health/1.0")
JSON = "application/json; charset=UTF-8"
PAGE = "text/html; charset=UTF-8"


@dataclass
class Request(faults.Request):
    """A request. `body` is decompressed where that is possible, and None where it is not; `size` counts bytes on the wire.

    `code` is the code of the answer, and `accepted` the number of events.
    """

    code: int | None = None
    accepted: int = 0
    ack_id: int | None = None

    @property
    def gzip(self):
        return self.headers.get("content-encoding", "").lower() == "gzip"


class Collector(Server):
    """A collector, from its construction until `close`.

    With `acks`, requests need a channel, and are acknowledged `index_delay` seconds after they were accepted; `NEVER`
    is possible. `context` is for TLS. `most_bytes` limits bodies, as they are on the wire. More options are of a
    `Policy`.
    """

    software = "Splunkd"
    request = Request

    def __init__(self, context=None, token=TOKEN, acks=False, index_delay=0.0, partial=False, **options):
        self.token, self.acks = token, acks
        self.index_delay, self.partial = index_delay, partial
        self.most_bytes = options.pop("most_bytes", 800 << 20)
        self.policy = Policy(**options)
        self.enabled = self.healthy = True
        self.events = []
        self._channels = Channels()
        # The starts whose process was killed.
        self._dead = 0
        super().__init__(context)

    @property
    def endpoint(self):
        return self.url

    def crash(self):
        """Ends like a killed process. Events that are not indexed yet are lost, and so are the acknowledgements: their
        numbers begin at 0 after the next start."""
        self.close()
        with self.lock:
            now = time.monotonic()
            self._dead = self.starts
            self.events = [event if event.ready <= now else replace(event, lost=True) for event in self.events]
            self._channels = Channels()

    def refuse_events(self, predicate, code=6):
        """Refuses, from now on, events whose members match a predicate."""
        self.policy.refusals.append((predicate, code))

    def clear(self):
        """Removes all rules and refusals."""
        super().clear()
        with self.lock:
            self.policy.refusals.clear()

    def indexed(self):
        """The events that a search finds by now, in the order of their acceptance."""
        now = time.monotonic()
        with self.lock:
            return [event for event in self.events if event.ready <= now and not event.lost]

    def sent(self):
        """The requests with events."""
        with self.lock:
            return [request for request in self.requests if request.method == "POST" and request.path in EVENTS]

    def pending(self, channel):
        """The numbers of a channel that are not acknowledged yet."""
        with self.lock:
            return self._channels.pending(channel)

    def exchange(self, connection, request):
        return _Exchange(connection, self, request)

    def answer(self, request, **how):
        code, more = self._judge(request, **how)
        return coded(request, code, more)

    def _judge(self, request, lost=False, acknowledged=True, most=None):
        """A code and more members of the answer, or None with a status or a body that has no code."""
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
            # A killed process accepts nothing.
            lost = lost or request.start <= self._dead
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
        """The first events of a body that are valid, and the refusal of the next one."""
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


class _Exchange(ServerExchange):
    """A request and its answer."""

    def serve(self):
        if self.request.gzip:
            self.request.body = _inflated(self.request.body)
        super().serve()

    def refuse(self, code, status=None, number=None, headers=None):
        """Answers by a code."""
        more = {} if number is None else {"invalid-event-number": number}
        answer = coded(self.request, code, more, status)
        answer.headers |= headers or {}
        self.deliver(self.framed(answer))


def coded(request, code, more, status=None):
    """The answer with a code and its members. Without a code, `more` is a status or the members."""
    request.code = code
    kind, body = JSON, more
    if code is not None:
        status, body = status or CODES[code][0], {"text": CODES[code][1], "code": code, **more}
    elif isinstance(more, dict):
        status = 200
    else:
        status, body = more, {"text": "The requested URL was not found on this server.", "code": 404}
        if status not in (404, 405):
            reason = faults.responses[status]
            page = f"<!doctype html><html><head><title>{status} {reason}</title></head><body>{reason}</body></html>"
            return Answer(status, page.encode(), {"Content-Type": PAGE})
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), {"Content-Type": kind})


def _password(credentials):
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        raise Refused(3) from None


def _inflated(wire):
    """The decompressed body, or None where it is no complete gzip."""
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
