"""CSV objects, read by Python, DuckDB and pyarrow."""

import csv
import io
import unittest

import cramjam
import duckdb
import pyarrow
import pyarrow.csv
import snappy

from kit import columns, ndjson, ship

INPUTS = [(ship.HOSTILE, columns.HOSTILE), (ship.SAMPLE, columns.SAMPLE)]


class Csv(unittest.TestCase):
    maxDiff = 4000

    def ship(self, source, keys, compression):
        options = ("--format", "csv", "--columns", ",".join(keys), "--compression", compression)
        return ship.ship(self, source, *options)

    def check(self, rows, source, keys):
        """A missing key is nothing at all, and an empty value is two quotes: readers tell them apart."""
        expected = [log.row(keys) for log in ndjson.read(source)]
        self.assertEqual(len(rows), len(expected))
        for row, values in zip(rows, expected):
            self.assertEqual(tuple(row), values)

    def test_python_reads_all_values_with_each_compression(self):
        unpack = {
            "none": lambda data: data,
            "snappy": snappy.uncompress,
            "gzip": lambda data: bytes(cramjam.gzip.decompress(data)),
            "zstd": lambda data: bytes(cramjam.zstd.decompress(data)),
        }
        for source, keys in INPUTS:
            # Python's reader gives an empty text for both.
            expected = [[value or "" for value in log.row(keys)] for log in ndjson.read(source)]
            for compression, unpacked in unpack.items():
                with self.subTest(source=source.name, compression=compression):
                    rows = []
                    for path in self.ship(source, keys, compression):
                        text = unpacked(path.read_bytes()).decode()
                        rows += csv.reader(io.StringIO(text, newline=""), strict=True)
                    self.assertEqual(len(rows), len(expected))
                    for row, values in zip(rows, expected):
                        self.assertEqual(row, values)

    def test_duckdb_reads_all_values(self):
        for compression in "none", "gzip", "zstd":
            for source, keys in INPUTS:
                with self.subTest(source=source.name, compression=compression):
                    files = [str(path) for path in self.ship(source, keys, compression)]
                    self.check(read_by_duckdb(files, keys, compression), source, keys)

    def test_pyarrow_reads_all_values(self):
        for source, keys in INPUTS:
            with self.subTest(source=source.name):
                rows = [row for path in self.ship(source, keys, "none") for row in read_by_pyarrow(path, keys)]
                self.check(rows, source, keys)

    def test_keys_have_suffix(self):
        suffixes = {"none": ".csv", "snappy": ".snappy.csv", "gzip": ".csv.gz", "zstd": ".csv.zst"}
        for compression, suffix in suffixes.items():
            with self.subTest(compression=compression):
                objects = self.ship(ship.HOSTILE, columns.HOSTILE, compression)
                self.assertEqual({ship.suffix(path) for path in objects}, {suffix})


def read_by_duckdb(files, keys, compression):
    options = {
        "columns": dict.fromkeys(keys, "VARCHAR"),
        "compression": compression,
        "auto_detect": False,
        "header": False,
        "delim": ",",
        "quote": '"',
        "escape": '"',
        "nullstr": "",
        "allow_quoted_nulls": False,
        # Values hold line breaks, of all kinds.
        "parallel": False,
        "new_line": "\\n",
        "max_line_size": 1 << 24,
    }
    arguments = ", ".join(f"{name} = ?" for name in options)
    return duckdb.execute(f"SELECT * FROM read_csv(?, {arguments})", [files, *options.values()]).fetchall()


def read_by_pyarrow(path, keys):
    read = pyarrow.csv.ReadOptions(column_names=keys)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(keys, pyarrow.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = pyarrow.csv.read_csv(path, read, parse, convert)
    return zip(*(column.to_pylist() for column in table.columns))
