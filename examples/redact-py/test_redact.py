"""Tests without a component: run `python3 -m unittest` here."""

import unittest
from dataclasses import dataclass
from time import monotonic

from batch import broken_invariant
from config import parse
from redact import Redactor
from settings import InvalidSetting


@dataclass
class Batch:
    """A batch like the one that componentize-py generates from the WIT."""

    groups: list
    keys: list
    times: list
    nanos: list
    log_groups: list
    field_ends: list
    field_keys: list
    value_ends: list
    values: bytes


def batch(*logs):
    """Builds a batch of logs of one group. Each log is a list of pairs."""
    built = Batch([None], [], [], [], [], [], [], [], b"")
    for log in logs:
        for key, value in log:
            if key not in built.keys:
                built.keys.append(key)
            built.field_keys.append(built.keys.index(key))
            built.values += value
            built.value_ends.append(len(built.values))
        built.times.append(7)
        built.log_groups.append(0)
        built.field_ends.append(len(built.field_keys))
    return built


def redacted(values, config=""):
    """Returns the redacted values of one log."""
    logs = batch([(f"k{number}", value) for number, value in enumerate(values)])
    Redactor(parse(config)).redact(logs)
    assert broken_invariant(logs) is None
    starts = [0, *logs.value_ends]
    return [logs.values[start:end] for start, end in zip(starts, logs.value_ends)]


class Redaction(unittest.TestCase):
    def test_masks_addresses(self):
        for value, masked in [
            (b"ann@example.com", b"***"),
            (b"from <ann.b+c@mail.example.co.uk>, to bob@example.org.", b"from <***>, to ***."),
            (b"/unsubscribe?mail=ann%40example.com&x=1", b"/unsubscribe?mail=***&x=1"),
            (b"x" * 100 + b"@example.com", b"***"),
            (b"\xff\xfeann@example.com\x00", b"\xff\xfe***\x00"),
        ]:
            self.assertEqual(redacted([value]), [masked])

    def test_keeps_other_texts(self):
        for value in [b"", b"@", b"a@", b"@b.c", b"ann@localhost", b"git@:x", b"a @ b.c"]:
            self.assertEqual(redacted([value]), [value])

    def test_masks_cards_except_last_digits(self):
        for value, masked in [
            (b"4111111111111111", b"************1111"),
            (b"card 5500-0055 5555 5559 ok", b"card ****-**** **** 5559 ok"),
            (b"378282246310005", b"***********0005"),
            (b"4222222222222", b"*********2222"),
        ]:
            self.assertEqual(redacted([value]), [masked])
        self.assertEqual(redacted([b"4111 1111 1111 1111"], '{"keep_digits": 0}'), [b"**** **** **** ****"])

    def test_keeps_other_numbers(self):
        # An invalid checksum, times in milliseconds and nanoseconds, too long, too short.
        for value in [b"4111111111111112", b"1760000089123", b"1484913043351525351", b"4" * 30, b"411111111111"]:
            self.assertEqual(redacted([value]), [value])

    def test_matches_do_not_span_values(self):
        for values in [
            [b"ann@exam", b"ple.com"],
            [b"ann", b"@example.com"],
            [b"41111111", b"11111111"],
            [b"200", b"", b"1760000089", b"4111"],
        ]:
            self.assertEqual(redacted(values), values)
        self.assertEqual(
            redacted([b"7", b"4111111111111111", b"7", b"", b"a@b.cd", b"x", b"a@b.cd"]),
            [b"7", b"************1111", b"7", b"", b"***", b"x", b"***"],
        )

    def test_result_is_independent_of_other_values(self):
        parts = [b"", b"x", b"ann@example.com", b"4111111111111111", b"12345", b"@", b"41 11", b"see bob@b.org!"]
        values = [parts[number * number % 11 % len(parts)] for number in range(500)]
        self.assertEqual(redacted(values), [redacted([value])[0] for value in values])

    def test_applies_settings(self):
        values = [b"ann@example.com", b"4111111111111111"]
        self.assertEqual(redacted(values, '{"email": false}'), [values[0], b"************1111"])
        self.assertEqual(redacted(values, '{"card": false, "with": "\\\\1"}'), [b"\\1", values[1]])
        self.assertEqual(redacted(values, '{"except": ["k0", "k1", "other"]}'), values)

    def test_rejects_invalid_setting_by_path(self):
        for text, path in [
            ("{", ""),
            ("[]", ""),
            ('{"emial": true}', "emial"),
            ('{"email": 1}', "email"),
            ('{"with": null}', "with"),
            ('{"keep_digits": true}', "keep_digits"),
            ('{"keep_digits": 5}', "keep_digits"),
            ('{"except": "a"}', "except"),
            ('{"except": ["a", 1]}', "except[1]"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                parse(text)
            self.assertEqual(raised.exception.path, path)

    def test_takes_linear_time(self):
        for unit in [b"x", b"@", b"a@", b"1", b"1 ", b"a.", b"%40", b"a@b.c-"]:
            started = monotonic()
            redacted([unit * (1_000_000 // len(unit))])
            self.assertLess(monotonic() - started, 2, unit)


class Invariants(unittest.TestCase):
    def test_finds_broken_invariants(self):
        def problem_of(**changed):
            logs = batch([("a", b"1"), ("b", b"22")], [("a", b"3")])
            for name, value in changed.items():
                setattr(logs, name, value)
            return broken_invariant(logs)

        self.assertIsNone(problem_of())
        self.assertIsNone(problem_of(nanos=[1, 999_999_999]))
        for column, value in [
            ("log_groups", [0]),
            ("log_groups", [0, 1]),
            ("field_ends", [2]),
            ("field_ends", [3, 2]),
            ("field_ends", [2, 4]),
            ("nanos", [1]),
            ("nanos", [1, 1_000_000_000]),
            ("value_ends", [1, 3]),
            ("value_ends", [3, 1, 4]),
            ("value_ends", [1, 3, 5]),
            ("values", b"12"),
            ("field_keys", [0, 2, 0]),
        ]:
            problem = problem_of(**{column: value})
            self.assertIsNotNone(problem, (column, value))
        self.assertIsNotNone(problem_of(times=[7]))
