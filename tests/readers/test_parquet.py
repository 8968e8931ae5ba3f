"""Parquet objects, read by pyarrow and DuckDB."""

import struct
import unittest

import duckdb
import pyarrow
import pyarrow.parquet

from kit import columns, ndjson, ship

INPUTS = [(ship.HOSTILE, columns.HOSTILE), (ship.SAMPLE, columns.SAMPLE)]
CODECS = {"none": "UNCOMPRESSED", "snappy": "SNAPPY"}
SUFFIXES = {"none": ".parquet", "snappy": ".snappy.parquet"}


class Parquet(unittest.TestCase):
    maxDiff = 4000

    def ship(self, source, keys, compression="none"):
        options = ("--format", "parquet", "--columns", ",".join(keys), "--compression", compression)
        return ship.ship(self, source, *options)

    def check(self, rows, source, keys):
        expected = [log.row(keys) for log in ndjson.read(source)]
        self.assertEqual(len(rows), len(expected))
        for row, values in zip(rows, expected):
            # __time__ is a number if its column has that type.
            self.assertEqual(tuple(None if value is None else str(value) for value in row), values)

    def test_pyarrow_reads_all_values(self):
        for source, keys in INPUTS:
            for compression, codec in CODECS.items():
                with self.subTest(source=source.name, compression=compression):
                    rows = []
                    for path in self.ship(source, keys, compression):
                        self.assertEqual(ship.suffix(path), SUFFIXES[compression])
                        file = pyarrow.parquet.ParquetFile(path)
                        self.assertEqual(file.schema_arrow.names, keys)
                        self.assertEqual(codecs(file), {codec})
                        rows += zip(*(column.to_pylist() for column in file.read().columns))
                    self.check(rows, source, keys)

    def test_duckdb_reads_all_values(self):
        for source, keys in INPUTS:
            for compression in CODECS:
                with self.subTest(source=source.name, compression=compression):
                    files = [str(path) for path in self.ship(source, keys, compression)]
                    rows = duckdb.execute("SELECT * FROM read_parquet(?)", [files]).fetchall()
                    self.check(rows, source, keys)

    def test_unconvertible_values_become_null(self):
        source = ship.SAMPLE / "access.ndjson"
        keys = ["__time__:int64", "status:int32", "bytes:int64", "latency:double", "host:int32", "path:string"]
        (path,) = self.ship(source, keys, "snappy")
        table = pyarrow.parquet.read_table(path)
        int32, int64, double, string = pyarrow.int32(), pyarrow.int64(), pyarrow.float64(), pyarrow.string()
        self.assertEqual(table.schema.types, [int64, int32, int64, double, int32, string])
        self.assertTrue(all(field.nullable for field in table.schema))
        rows = zip(*(column.to_pylist() for column in table.columns))
        for row, log in zip(rows, ndjson.read(source), strict=True):
            status, size, latency, path = (log.get(key) for key in ("status", "bytes", "latency", "path"))
            self.assertEqual(row, (log.time, int(status), int(size), float(latency), None, path))

    def test_reads_booleans_and_floats(self):
        (path,) = self.ship(ship.HOSTILE, ["flag:boolean", "number:float"])
        table = pyarrow.parquet.read_table(path)
        self.assertEqual(table.schema.types, [pyarrow.bool_(), pyarrow.float32()])
        logs = ndjson.read(ship.HOSTILE)
        flags = [{"true": True, "false": False}.get(log.get("flag")) for log in logs]
        self.assertEqual(table.column("flag").to_pylist(), flags)
        for value, log in zip(table.column("number").to_pylist(), logs, strict=True):
            text = log.get("number")
            if text in (None, "", "null"):
                self.assertIsNone(value)
            # Values too large for a float are not tested.
            elif len(text) < 8 and text != "1e999":
                self.assertEqual(value, single(float(text)))


def codecs(file):
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    return {group.column(index).compression for group in groups for index in range(group.num_columns)}


def single(value):
    """The nearest number of single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]
