"""Messages of syslog, taken apart as strictly as RFC 5424 writes them, or as senders have those of RFC 3164."""

import re
from dataclasses import dataclass, field
from datetime import datetime

PRINTABLE = rb"[\x21-\x7e]"
NAME = rb'[^\x00-\x20"=\]\x7f-\xff]{1,32}'
VALUE = rb'(?:\\["\\\]]|\\(?!["\\\]])|[^"\\\]])*'
ELEMENT = rb"\[" + NAME + rb"(?: " + NAME + rb'="' + VALUE + rb'")*\]'
PRI = rb"<(?P<pri>0|[1-9]\d?|1[0-8]\d|19[01])>"
NEW = re.compile(
    PRI
    + rb"1 (?P<time>-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))"
    + rb" (?P<hostname>%b{1,255}) (?P<app_name>%b{1,48}) (?P<procid>%b{1,128}) (?P<msgid>%b{1,32})" % ((PRINTABLE,) * 4)
    + rb" (?P<structured_data>-|(?:"
    + ELEMENT
    + rb")+)(?: (?P<msg>.*))?",
    re.DOTALL,
)
OLD = re.compile(
    PRI
    + rb"(?P<time>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 123]\d \d\d:\d\d:\d\d)"
    + rb" (?P<hostname>%b+) (?P<tag>[\x21-\x39\x3b-\x5a\x5c\x5e-\x7e]{1,32})" % PRINTABLE
    + rb"(?:\[(?P<procid>[^\]]*)\])?: ?(?P<msg>.*)",
    re.DOTALL,
)
BOM = "\ufeff"


@dataclass(frozen=True)
class Parsed:
    """The parts of a message. `msg` has no byte order mark; `bom` says whether the message had one."""

    pri: int
    time: str
    hostname: str
    msg: str
    app_name: str = ""
    procid: str = "-"
    msgid: str = "-"
    structured_data: str = "-"
    bom: bool = field(default=False, compare=False)

    @property
    def facility(self):
        return self.pri >> 3

    @property
    def severity(self):
        return self.pri & 7

    @property
    def seconds(self):
        """The time of RFC 5424 as seconds since 1970."""
        return datetime.fromisoformat(self.time.replace("Z", "+00:00")).timestamp()


def parsed(message):
    """The parts of a message of RFC 5424."""
    parts = _parts(NEW, message)
    text = parts.pop("msg") or ""
    return Parsed(**parts, msg=text.removeprefix(BOM), bom=text.startswith(BOM))


def parsed_3164(message):
    """The parts of a message of RFC 3164. Its tag is the name of the application."""
    parts = _parts(OLD, message)
    tag, procid = parts.pop("tag"), parts.pop("procid") or "-"
    return Parsed(**parts, app_name=tag, procid=procid)


def _parts(pattern, message):
    found = pattern.fullmatch(message)
    assert found, f"not as the RFC has it: {message[:200]!r}"
    parts = {name: value and value.decode("utf-8", "surrogateescape") for name, value in found.groupdict().items()}
    return {**parts, "pri": int(parts["pri"])}
