"""Events of CEF and LEEF, taken apart as strictly as their vendors write them."""

import re
from dataclasses import dataclass

SYSLOG = re.compile(
    rb"<(?P<pri>0|[1-9]\d?|1[0-8]\d|19[01])>"
    rb"(?P<time>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 123]\d \d\d:\d\d:\d\d) (?P<host>[\x21-\x7e]+) "
    rb"(?P<event>.*)",
    re.DOTALL,
)
# A part of CEF's header: a backslash stands before a pipe or a backslash only.
PART = r"((?:[^|\\\r\n]|\\[|\\])*)"
CEF = re.compile(r"CEF:0" + rf"\|{PART}" * 5 + r"\|(10|[0-9])\|(.*)", re.DOTALL)
# A value of its extension ends where the next key begins, or the event ends.
PAIR = re.compile(r"(?:^| )([A-Za-z0-9_]+)=((?:[^=\\\r\n]|\\[=\\nr])*)(?= [A-Za-z0-9_]+=|$)")
UNESCAPED = {"\\n": "\n", "\\r": "\r"}
LEEF = re.compile(r"LEEF:(?:1\.0|2\.0)" + r"\|([^|\r\n]*)" * 4 + r"\|(.*)", re.DOTALL)


@dataclass(frozen=True)
class Event:
    """An event's header, its severity if it has one, and its fields in their order."""

    pri: int
    time: str
    host: str
    device: tuple
    kind: str
    severity: int | None
    fields: tuple
    name: str = ""


def cef(message):
    """An event of ArcSight's Common Event Format behind a header of RFC 3164."""
    syslog, event = _syslog(message)
    found = CEF.fullmatch(event)
    assert found, event
    *header, severity, extension = found.groups()
    vendor, product, version, kind, name = map(_unescaped, header)
    pairs = list(PAIR.finditer(extension))
    assert "".join(pair.group() for pair in pairs) == extension, extension
    fields = tuple((pair[1], _unescaped(pair[2])) for pair in pairs)
    return Event(*syslog, (vendor, product, version), kind, int(severity), fields, name)


def leef(message):
    """An event of QRadar's Log Event Extended Format behind a header of RFC 3164."""
    syslog, event = _syslog(message)
    found = LEEF.fullmatch(event)
    assert found, event
    *device, kind, rest = found.groups()
    assert len(kind) <= 255, kind
    delimiter = "\t"
    if event.startswith("LEEF:2.0"):
        named, _, rest = rest.partition("|")
        delimiter = named if len(named) == 1 else chr(int(re.fullmatch("0?x([0-9A-Fa-f]{1,4})", named)[1], 16))
    pairs = [re.fullmatch(r"([A-Za-z0-9_]+)=([^\r\n]*)", pair) for pair in rest.split(delimiter)]
    assert all(pairs), rest
    fields = tuple((pair[1], pair[2]) for pair in pairs)
    severities = [int(value) for key, value in fields if key == "sev"]
    assert all(1 <= severity <= 10 for severity in severities), severities
    return Event(*syslog, tuple(device), kind, severities[0] if severities else None, fields)


def _syslog(message):
    found = SYSLOG.fullmatch(message)
    assert found, message
    assert b"\0" not in message, message
    return (int(found["pri"]), found["time"].decode(), found["host"].decode()), found["event"].decode()


def _unescaped(text):
    return re.sub(r"\\.", lambda escape: UNESCAPED.get(escape.group(), escape.group()[1]), text)
