"""Requests of an HTTP Event Collector: bodies, their events, and the codes of errors.

The codes, their texts and statuses are those of Splunk's documentation («Troubleshoot HTTP Event Collector», possible
error codes). What it leaves open is as others have measured it on Splunk 10.4:

- Bodies are read event by event: of two faults, the one of the earlier event is reported.
- `invalid-event-number` counts from 0, but for code 7 from 1. It is there where an event is at fault.
- A body may be an array of events.
- A `time` that is no number, or one with an exponent, is code 15, and an empty object is a blank event.
"""

import json
from dataclasses import dataclass, field

# The meaning of each code: its status and text.
CODES = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    16: (400, "Query string authorization is not enabled"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
    19: (503, "HEC is unhealthy, ack service unavailable"),
    20: (503, "HEC is unhealthy, queues are full, ack service unavailable"),
    23: (503, "Server is shutting down"),
    26: (429, "HEC queue at capacity"),
    27: (429, "HEC ACK channel at capacity"),
}
INCORRECT_INDEX = 7
# Other members would be dropped without a word.
MEMBERS = {"time", "host", "source", "sourcetype", "index", "fields", "event"}
TEXTS = ("host", "source", "sourcetype", "index")
SPACE = " \t\r\n"


class Refused(Exception):
    """The error of a request, or of the event at a position in it."""

    def __init__(self, code, position=None):
        super().__init__(*CODES[code])
        self.code, self.position = code, position

    @property
    def number(self):
        """The `invalid-event-number`."""
        return None if self.position is None else self.position + (self.code == INCORRECT_INDEX)


class Number(float):
    """A number with a fraction or an exponent, and how it was written."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class Event:
    """An event as it was accepted, and where: `position` is its place in the request of that number. `text` is what was
    sent, to the byte. It is in the index from `ready` on, by the monotonic clock."""

    members: dict
    text: str
    request: int = 0
    position: int = 0
    endpoint: str = ""
    channel: str | None = None
    ready: float = 0.0
    lost: bool = field(default=False, compare=False)

    @property
    def event(self):
        return self.members["event"]

    @property
    def time(self):
        return self.members.get("time")

    def metadata(self):
        """Its other members."""
        return {name: value for name, value in self.members.items() if name not in ("time", "event")}


@dataclass
class Policy:
    """What events a collector takes: into which indexes (any where it is None), how long ones, and whether members that
    there are not are refused. `refusals` are pairs of a predicate on an event's members and a code."""

    indexes: tuple | None = None
    most_event_bytes: int = 5 << 20
    strict: bool = True
    refusals: list = field(default_factory=list)

    def check(self, members, text, position):
        """Raises `Refused` for an invalid event."""
        for code in self._complaints(members, text):
            raise Refused(code, position)

    def _complaints(self, members, text):
        if not isinstance(members, dict) or len(text.encode()) > self.most_event_bytes:
            yield 6
            return
        if self.strict and not members.keys() <= MEMBERS:
            yield 6
        if members.get("event") is None:
            yield 12
        elif members["event"] in ("", {}, []) or (isinstance(members["event"], str) and not members["event"].strip()):
            yield 13
        if not _is_time(members.get("time", 0)):
            yield 15
        yield from _field_complaints(members.get("fields", {}))
        if any(not isinstance(members.get(name, ""), str) for name in TEXTS):
            yield 6
        if self.indexes is not None and members.get("index", self.indexes[0]) not in self.indexes:
            yield 7
        for predicate, code in self.refusals:
            if predicate(members):
                yield code


def parsed(body):
    """The events of a body, one after the other, as pairs of members and text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused(6, 0) from None
    position, at, count = 0, 0, len(text)
    while (at := _past_space(text, at)) < count:
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise Refused(6, position) from None
        batch = value if isinstance(value, list) else [value]
        for members in batch:
            yield members, json.dumps(members, ensure_ascii=False) if batch is value else text[at:end]
        position, at = position + len(batch), end
    if not position:
        raise Refused(5)


def _past_space(text, at):
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _no_constant(name):
    raise ValueError(name)


DECODER = json.JSONDecoder(parse_float=Number, parse_constant=_no_constant)


def _is_time(value):
    if isinstance(value, str):
        try:
            return _is_time(Number(value))
        except ValueError:
            return False
    if isinstance(value, Number):
        return value.text.replace(".", "", 1).isdecimal()
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _field_complaints(fields):
    if not isinstance(fields, dict):
        yield 6
    elif any(isinstance(value, dict) for value in fields.values()):
        yield 15
