"""Tests of what needs no component: `python3 -m unittest` here."""

import unittest
from dataclasses import dataclass
from time import monotonic

from batch import broken
from config import parse
from redact import Redactor
from settings import Wrong


@dataclass
class Batch:
    """As componentize-py makes it of the WIT."""

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
    """Logs of one group, each a list of pairs."""
    made = Batch([None], [], [], [], [], [], [], [], b"")
    for log in logs:
        for key, value in log:
            if key not in made.keys:
                made.keys.append(key)
            made.field_keys.append(made.keys.index(key))
            made.values += value
            made.value_ends.append(len(made.values))
        made.times.append(7)
        made.log_groups.append(0)
        made.field_ends.append(len(made.field_keys))
    return made


def redacted(values, config=""):
    """The values of one log, redacted."""
    logs = batch([(f"k{number}", value) for number, value in enumerate(values)])
    Redactor(parse(config)).redact(logs)
    assert broken(logs) is None
    starts = [0, *logs.value_ends]
    return [logs.values[start:end] for start, end in zip(starts, logs.value_ends)]


class Redaction(unittest.TestCase):
    def test_addresses_are_masked_wherever_they_stand(self):
        for value, masked in [
            (b"ann@example.com", b"***"),
            (b"from <ann.b+c@mail.example.co.uk>, to bob@example.org.", b"from <***>, to ***."),
            (b"/unsubscribe?mail=ann%40example.com&x=1", b"/unsubscribe?mail=***&x=1"),
            (b"x" * 100 + b"@example.com", b"***"),
            (b"\xff\xfeann@example.com\x00", b"\xff\xfe***\x00"),
        ]:
            self.assertEqual(redacted([value]), [masked])

    def test_what_is_no_address_stays(self):
        for value in [b"", b"@", b"a@", b"@b.c", b"ann@localhost", b"git@:x", b"a @ b.c"]:
            self.assertEqual(redacted([value]), [value])

    def test_cards_are_masked_but_for_their_last_digits(self):
        for value, masked in [
            (b"4111111111111111", b"************1111"),
            (b"card 5500-0055 5555 5559 ok", b"card ****-**** **** 5559 ok"),
            (b"378282246310005", b"***********0005"),
            (b"4222222222222", b"*********2222"),
        ]:
            self.assertEqual(redacted([value]), [masked])
        self.assertEqual(redacted([b"4111 1111 1111 1111"], '{"keep_digits": 0}'), [b"**** **** **** ****"])

    def test_other_numbers_stay(self):
        # A wrong checksum, times in milli- and nanoseconds, too long, too short.
        for value in [b"4111111111111112", b"1760000089123", b"1484913043351525351", b"4" * 30, b"411111111111"]:
            self.assertEqual(redacted([value]), [value])

    def test_values_are_looked_at_one_by_one(self):
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

    def test_the_same_as_each_value_alone(self):
        parts = [b"", b"x", b"ann@example.com", b"4111111111111111", b"12345", b"@", b"41 11", b"see bob@b.org!"]
        values = [parts[number * number % 11 % len(parts)] for number in range(500)]
        self.assertEqual(redacted(values), [redacted([value])[0] for value in values])

    def test_a_configuration_chooses(self):
        values = [b"ann@example.com", b"4111111111111111"]
        self.assertEqual(redacted(values, '{"email": false}'), [values[0], b"************1111"])
        self.assertEqual(redacted(values, '{"card": false, "with": "\\\\1"}'), [b"\\1", values[1]])
        self.assertEqual(redacted(values, '{"except": ["k0", "k1", "other"]}'), values)

    def test_a_wrong_setting_is_named(self):
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
            with self.assertRaises(Wrong) as raised:
                parse(text)
            self.assertEqual(raised.exception.path, path)

    def test_a_large_value_takes_time_in_proportion(self):
        for unit in [b"x", b"@", b"a@", b"1", b"1 ", b"a.", b"%40", b"a@b.c-"]:
            begun = monotonic()
            redacted([unit * (1_000_000 // len(unit))])
            self.assertLess(monotonic() - begun, 2, unit)


class Invariants(unittest.TestCase):
    def test_a_broken_batch_is_told_by_its_column(self):
        def harmed(**changed):
            logs = batch([("a", b"1"), ("b", b"22")], [("a", b"3")])
            for name, value in changed.items():
                setattr(logs, name, value)
            return broken(logs)

        self.assertIsNone(harmed())
        self.assertIsNone(harmed(nanos=[1, 999_999_999]))
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
            problem = harmed(**{column: value})
            self.assertIsNotNone(problem, (column, value))
        self.assertIsNotNone(harmed(times=[7]))
