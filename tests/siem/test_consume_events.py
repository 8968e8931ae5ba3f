"""The formatters of examples/ for ArcSight (CEF) and QRadar (LEEF): each log is one event, as its vendor's rules have it,
and is read back as it was put."""

import json
import os
import socket
from pathlib import Path

from kit.consume import BEGIN, ConsumeCase, Log, hostile
from kit.fakes.siem_events import cef, leef
from kit.fakes.syslog_receivers import ADDRESS, Stream

TARGET = Path(os.environ.get("LOGSHIP", "target/release/logship")).resolve().parents[1]
CONFIG = {
    "vendor": "ac|me",
    "product": "ga\\te",
    "version": "2.1",
    "severity-from": "level",
    "severities": {"blocked": 9},
    "fields": {"id": "externalId", "level": "", "event": ""},
}
LEVELS = (("ERROR", 7), ("blocked", 9), ("10", 10), ("nothing known", None), ("", None))
# Severities of syslog for those of events.
SYSLOG = {7: 3, 9: 1, 10: 0, 3: 6, None: 6}


def audit(count):
    """Logs with hostile values, an event, and a level."""
    logs = hostile(count, large=200)
    level = lambda number: LEVELS[number % len(LEVELS)][0].encode()  # noqa: E731
    kinds = (b"login", b"log|out\\", "ü\nnext".encode())
    return [
        Log(log.time, (*log.fields, ("event", kinds[number % 3]), ("level", level(number))))
        for number, log in enumerate(logs)
    ]


class Events(ConsumeCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logs = audit(3000)
        cls.logstore = cls.filled(cls.logs)

    def events(self, stage, parse, **config):
        """The parsed events that a receiver got from a stage of examples/."""
        component = TARGET / "components-examples" / f"{stage}.wasm"
        self.assertTrue(component.exists(), f"{component} is missing: run `cargo xtask build --examples`")
        file = self.folder / f"{stage}.json"
        file.write_text(json.dumps(CONFIG | config))
        receiver = Stream()
        self.addCleanup(receiver.stop)
        to = f"tcp://{ADDRESS}:{receiver.address[1]}"
        group = self.next_group(self.logstore)
        self.consume(self.logstore, to, "--stage", component, "--format-file", file, group=group)
        self.assertEqual(receiver.problems(), [])
        return [parse(data) for data in receiver.data()]

    def assert_header(self, event, log, severity):
        self.assertEqual(event.host, socket.gethostname())
        self.assertEqual(event.pri, 8 + SYSLOG[severity])
        # All are of one day.
        self.assertEqual(event.time[:7], "Nov 14 " if log.time < BEGIN + 6400 else "Nov 15 ")

    def assert_each(self, found, expected):
        found, expected = sorted(found, key=repr), sorted(expected, key=repr)
        for one, other in zip(found, expected):
            self.assertEqual(one, other)
        self.assertEqual(len(found), len(expected))

    def test_delivers_cef(self):
        events = self.events("siem-cef", cef, **{"event-class-from": "event", "name-from": "event"})
        by_id = {dict(event.fields)["externalId"]: event for event in events}
        for number, log in enumerate(self.logs):
            event, level = by_id[str(number)], LEVELS[number % len(LEVELS)][1]
            severity = 3 if level is None else level
            self.assert_header(event, log, severity)
            self.assertEqual((event.device, event.severity), (("ac|me", "ga\\te", "2.1"), severity))
            self.assertEqual((event.kind, event.name), (header(dict(log.texts())["event"]),) * 2)
        expected = [
            (("rt", f"{log.time}000"), ("externalId", str(number)), ("text", text(log)), ("last_key", "end"))
            for number, log in enumerate(self.logs)
        ]
        self.assert_each([event.fields for event in events], expected)

    def test_delivers_leef(self):
        for delimiter in "\t", "^", "\u00a6":
            with self.subTest(delimiter=delimiter):
                events = self.events("siem-leef", leef, **{"event-id-from": "event", "delimiter": delimiter})
                self.assert_leef(events, delimiter)

    def assert_leef(self, events, delimiter):
        by_id = {dict(event.fields)["externalId"]: event for event in events}
        expected = []
        for number, log in enumerate(self.logs):
            event, severity = by_id[str(number)], LEVELS[number % len(LEVELS)][1]
            self.assert_header(event, log, severity)
            self.assertEqual((event.device, event.severity), (("ac me", "ga\\te", "2.1"), severity))
            self.assertEqual(event.kind, blank(dict(log.texts())["event"], "|"))
            said = (("sev", str(severity)),) if severity else ()
            value = blank(text(log), delimiter)
            fields = ("externalId", str(number)), ("text", value), ("last_key", "end")
            expected.append((("devTime", f"{log.time}000"), *said, *fields))
        self.assert_each([event.fields for event in events], expected)


def text(log):
    """The hostile value, as receivers have it."""
    return dict(log.texts())["text"].replace("\0", "\ufffd")


def header(value):
    """The text without line breaks, as in the header of CEF."""
    return value.replace("\n", " ")


def blank(value, end):
    """The text without breaks, as LEEF has no escapes."""
    return value.replace("\n", " ").replace("\r", " ").replace(end, " ")
