"""JSON objects, read by Python, DuckDB and pyarrow."""

import gzip
import json
import unittest

import cramjam
import duckdb
import pyarrow
import pyarrow.json
import snappy

from kit import columns, ndjson, ship

UNPACK = {
    "none": lambda data: data,
    "snappy": snappy.uncompress,
    "gzip": gzip.decompress,
    "zstd": lambda data: bytes(cramjam.zstd.decompress(data)),
}


class Json(unittest.TestCase):
    maxDiff = 4000

    def read(self, source, compression, *options):
        """The members of each log, in order."""
        objects = ship.ship(self, source, "--format", "json", "--compression", compression, *options)
        logs = []
        for path in objects:
            text = UNPACK[compression](path.read_bytes()).decode()
            self.assertTrue(text.endswith("\n"))
            # By "\n" alone: a value may hold other line breaks, as U+2028.
            logs += [json.loads(line, object_pairs_hook=list) for line in text[:-1].split("\n")]
        return logs

    def test_keeps_members_in_order_with_each_compression(self):
        for source in ship.HOSTILE, ship.SAMPLE:
            expected = [[list(member) for member in log.members()] for log in ndjson.read(source)]
            for compression in UNPACK:
                with self.subTest(source=source.name, compression=compression):
                    logs = self.read(source, compression)
                    self.assertEqual(len(logs), len(expected))
                    for log, members in zip(logs, expected):
                        self.assertEqual([list(member) for member in log], members)

    def test_shards_lose_nothing(self):
        source = ship.SAMPLE / "access.ndjson"
        options = ("--shards", "8", "--shard-by", "request_id")
        logs = self.read(source, "none", *options)
        expected = [log.members() for log in ndjson.read(source)]
        self.assertEqual(sorted(map(repr, logs)), sorted(map(repr, expected)))
        objects = ship.ship(self, source, "--format", "json", *options)
        self.assertEqual(len(objects), 8)

    def test_keys_have_suffix(self):
        for compression, suffix in {"none": "", "snappy": ".snappy"}.items():
            objects = ship.ship(self, ship.HOSTILE, "--format", "json", "--compression", compression)
            self.assertEqual({ship.suffix(path) for path in objects}, {suffix})

    def test_duckdb_and_pyarrow_read_all_values(self):
        objects = ship.ship(self, ship.SAMPLE, "--format", "json")
        keys = columns.SAMPLE
        expected = [log.row(keys) for log in ndjson.read(ship.SAMPLE)]
        with self.subTest(reader="DuckDB"):
            types = dict.fromkeys(keys, "VARCHAR")
            files = [str(path) for path in objects]
            logs = "read_json(?, format = 'newline_delimited', columns = ?)"
            rows = duckdb.execute(f"SELECT * FROM {logs}", [files, types]).fetchall()
            self.assertEqual(rows, expected)
        with self.subTest(reader="pyarrow"):
            types = pyarrow.schema([(key, pyarrow.int64() if key == "__time__" else pyarrow.string()) for key in keys])
            options = pyarrow.json.ParseOptions(explicit_schema=types, newlines_in_values=False)
            rows = []
            for path in objects:
                table = pyarrow.json.read_json(path, parse_options=options)
                values = [table.column(key).to_pylist() for key in keys]
                rows += [(str(time), *rest) for time, *rest in zip(*values)]
            self.assertEqual(rows, expected)
