"""Blocks of the stage encode-maxcompute, compared with those of the vendor's client for the same rows."""

import datetime
import decimal
import io
import json
import random
import subprocess
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
from kit.paths import PROGRAM
from odps import options
from odps.models import Record, TableSchema
from odps.tunnel.io import writer
from odps.tunnel.io.reader import ArrowStreamReader
from odps.tunnel.io.types import odps_schema_to_arrow_schema
from odps.tunnel.io.writer import BaseArrowWriter, BaseRecordWriter

options.local_timezone = False
# The client asks whether it got a frame of pandas, which is not installed.
writer.pd = SimpleNamespace(DataFrame=())


class Timestamp(datetime.datetime):
    """A time with nanoseconds, as far as the client uses that of pandas."""

    nanosecond = 0

    def to_pydatetime(self, warn=True):
        return datetime.datetime(*self.timetuple()[:6], self.microsecond)


class Interval:
    """An interval, as far as the client uses that of pandas."""

    def __init__(self, seconds, nanos):
        self.days, self.seconds = divmod(seconds, 86_400)
        self.microseconds, self.nanoseconds = divmod(nanos, 1_000)

    def __str__(self):
        return f"{self.days * 86_400 + self.seconds}.{self.microseconds * 1_000 + self.nanoseconds:09}"


def text_value(random, most=12):
    return "".join(random.choice('aé漢🙂 "\\,\n[]{}') for _ in range(random.randrange(most)))


def integer(bits):
    return lambda random: random.choice(
        [0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), random.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1))]
    )


def number(random):
    return random.choice([0.0, -1.5, 1e300, 5e-324, random.uniform(-1e9, 1e9), 0.1])


def single(random):
    return random.choice([0.0, -1.5, 0.25, random.randrange(-9999, 9999) / 64])


def fixed(precision, scale):
    # Of the sign of zero there is only one, as in decimals of Arrow.
    def value(random):
        digits = random.randrange(1, 10 ** random.randrange(1, precision + 1))
        with decimal.localcontext(prec=60):
            number = decimal.Decimal(random.choice([-1, 1]) * digits).scaleb(-scale)
        # The client writes small numbers with an exponent, against the protocol.
        return value(random) if "E" in str(number) else number

    return value


def day(random):
    return datetime.date(1, 1, 1) + datetime.timedelta(days=random.randrange(3_652_058))


def millis(random):
    # The client computes milliseconds with a float of seconds, so years are near.
    return datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=random.randrange(4_000_000_000_000))


def at(random):
    value = Timestamp(1970, 1, 1) + datetime.timedelta(seconds=random.randrange(4_000_000_000), microseconds=random.randrange(10**6))
    value.nanosecond = random.randrange(1_000)
    return value


def shown_time(value):
    return value.strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond:06}" + f"{getattr(value, 'nanosecond', 0):03}"


def as_json(value):
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value


def nested(value):
    return json.dumps(value, ensure_ascii=False, default=as_json)


def interval(random):
    return Interval(random.randrange(10**9), random.randrange(10**9))


def list_of(item):
    return lambda random: [None if random.random() < 0.2 else item(random) for _ in range(random.randrange(4))]


def map_of(key, value):
    return lambda random: {
        key(random): None if random.random() < 0.2 else value(random) for _ in range(random.randrange(4))
    }


def struct(random):
    return {"a": integer(64)(random), "b": list_of(text_value)(random)}


# For each type: its name, a generator of values, and the value as text of a log.
TYPES = [
    ("tinyint", integer(8), str),
    ("smallint", integer(16), str),
    ("int", integer(32), str),
    ("bigint", integer(64), str),
    ("boolean", lambda random: random.random() < 0.5, lambda value: random.choice([str(value), str(int(value))])),
    ("float", single, repr),
    ("double", number, repr),
    ("string", text_value, str),
    ("char(3)", lambda random: text_value(random, 4), str),
    ("varchar(40)", text_value, str),
    ("binary", lambda random: text_value(random).encode(), bytes.decode),
    ("decimal(10,2)", fixed(10, 2), str),
    ("decimal(38,18)", fixed(38, 18), lambda value: f"{value:f}"),
    ("date", day, datetime.date.isoformat),
    ("datetime", millis, shown_time),
    ("timestamp", at, shown_time),
    ("timestamp_ntz", at, shown_time),
    ("array<string>", list_of(text_value), nested),
    ("array<array<bigint>>", list_of(list_of(integer(64))), nested),
    ("map<string,bigint>", map_of(text_value, integer(64)), nested),
    ("map<bigint,double>", map_of(integer(64), number), nested),
    ("struct<a:bigint,b:array<string>>", struct, nested),
    ("interval_day_time", interval, str),
]
# The vendor's client has no writer of Arrow for these values.
NOT_IN_ARROW = {"interval_day_time"}


def schema_of(columns):
    names = [f"c{index}" for index in range(len(columns))]
    return TableSchema.from_lists(names, [name for name, *_ in columns])


class MaxComputeBlocks(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        # A failure names its seed.
        self.seed = random.randrange(2**32)
        self.random = random.Random(self.seed)

    def block(self, protocol, columns, rows):
        """The block that logship makes of logs with the values of rows as texts."""
        table = {"columns": [{"name": f"c{index}", "type": name} for index, (name, *_) in enumerate(columns)]}
        mapped = [{"column": f"c{index}", "field": f"f{index}"} for index in range(len(columns))]
        logs = (
            {f"f{index}": columns[index][2](value) for index, value in enumerate(row) if value is not None} for row in rows
        )
        (self.folder / "logs").write_text("".join(json.dumps({"__time__": 1, **log}) + "\n" for log in logs))
        config = json.dumps({"columns": mapped, "protocol": protocol})
        command = [PROGRAM, "stage", "rows", "encode-maxcompute", self.folder / "logs", "--to", self.folder / "block"]
        done = subprocess.run(
            [*command, "--table", json.dumps(table), "--config", config], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"{len(rows):,} logs: {len(rows):,} rows, 0 dirty rows", done.stdout, done.stderr)
        return (self.folder / "block").read_bytes()

    def rows(self, columns, count, nulls=0.2):
        value = lambda generate: None if self.random.random() < nulls else generate(self.random)
        return [[value(generate) for _, generate, _ in columns] for _ in range(count)]

    def streamed(self, schema, rows):
        out = io.BytesIO()
        writer = BaseRecordWriter(schema, out)
        for row in rows:
            record = Record(schema=schema)
            # Without the checks of types, which need pandas.
            record._values[:] = row
            writer.write(record)
        writer.close()
        return out.getvalue()

    def test_record_stream_is_byte_equal_for_each_type_and_all_together(self):
        for columns in [*([column] for column in TYPES), TYPES]:
            for nulls in 0, 0.3:
                with self.subTest(types=[name for name, *_ in columns], seed=self.seed, nulls=nulls):
                    rows = self.rows(columns, 40, nulls)
                    schema = schema_of(columns)
                    ours, theirs = self.block("maxcompute-stream", columns, rows), self.streamed(schema, rows)
                    self.assertEqual(ours.hex(), theirs.hex())

    def test_record_batches_are_byte_equal_for_each_type_and_all_together(self):
        known = [column for column in TYPES if column[0] not in NOT_IN_ARROW]
        for columns in [*([column] for column in known), known]:
            for nulls in 0, 0.3:
                with self.subTest(types=[name for name, *_ in columns], seed=self.seed, nulls=nulls):
                    rows = self.rows(columns, 40, nulls)
                    ours = self.block("maxcompute-arrow", columns, rows)
                    schema = odps_schema_to_arrow_schema(schema_of(columns))
                    arrays = [
                        pa.array([self.arrow_value(row[index]) for row in rows], field.type)
                        for index, field in enumerate(schema)
                    ]
                    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
                    read = pa.ipc.open_stream(ArrowStreamReader(io.BytesIO(ours), schema)).read_all()
                    read.validate(full=True)
                    self.assertTrue(read.equals(pa.Table.from_batches([batch])))
                    out = io.BytesIO()
                    writer = BaseArrowWriter(schema_of(columns), out)
                    writer.write(batch)
                    writer.close()
                    self.assertEqual(ours.hex(), out.getvalue().hex())

    def arrow_value(self, value):
        if isinstance(value, Timestamp):
            return (value - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1) * 1_000 + value.nanosecond
        return list(value.items()) if isinstance(value, dict) and "b" not in value else value

    def test_large_blocks_have_chunks_and_checksums_that_the_client_accepts(self):
        columns = [column for column in TYPES if column[0] in ("string", "bigint")]
        rows = [[index, f"{index} " * 40] for index in range(40_000)]
        ours = self.block("maxcompute-arrow", columns, rows)
        schema = odps_schema_to_arrow_schema(schema_of(columns))
        read = pa.ipc.open_stream(ArrowStreamReader(io.BytesIO(ours), schema)).read_all()
        self.assertEqual(read.column(0).to_pylist(), [row[0] for row in rows])
        self.assertEqual(read.column(1).to_pylist(), [row[1] for row in rows])
        self.assertEqual(self.streamed(schema_of(columns), rows[:999]), self.block("maxcompute-stream", columns, rows[:999]))


if __name__ == "__main__":
    unittest.main()
