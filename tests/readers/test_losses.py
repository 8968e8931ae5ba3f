"""Values that an object can't hold: counted, told, kept on request, and never forged."""

import json
import subprocess
import unittest

import duckdb

from kit.paths import PROGRAM
from kit.process import temporary_folder

# More than the first block, from which columns are inferred.
ORDINARY = [{"__time__": 1700000000 + log, "latency": 1, "code": 200, "pad": "x" * 60} for log in range(9000)]


class Losses(unittest.TestCase):
    def ship(self, logs, *options, lines=None):
        """Ships logs. Returns what the command printed, and the folder."""
        folder = temporary_folder(self)
        source = folder / "in.ndjson"
        source.write_text("".join(line + "\n" for line in lines or map(json.dumps, logs)))
        command = [PROGRAM, "ship", source, "--to", folder / "out", *options]
        return subprocess.run(command, capture_output=True, text=True), folder / "out"

    def report(self, logs, *options, lines=None):
        done, folder = self.ship(logs, "--report", "json", *options, lines=lines)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout), folder

    def table(self, folder):
        (path,) = folder.rglob("*.parquet")
        return duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)])

    def counts(self, report):
        return {column: lost["count"] for column, lost in report["lost"]["columns"].items()}

    def test_later_values_that_do_not_fit_inferred_types_are_counted(self):
        late = [
            {"__time__": 1700020000, "latency": 0.25, "code": "ERR"},
            {"__time__": 1700020001, "latency": 9007199254740993, "code": True},
            {"__time__": 1700020002, "latency": 2**63, "code": {"nested": 1}, "late": "field", "__tag__:host": "h"},
        ]
        report, folder = self.report(ORDINARY + late, "--format", "parquet")
        self.assertEqual(self.counts(report), {"latency": 2, "code": 3, "late": 1, "__tag__:host": 1})
        self.assertEqual(report["lost"]["total"], 7)
        self.assertEqual(report["lost"]["columns"]["latency"]["example"], "0.25")
        self.assertEqual(report["left_out"], ["__tag__:host", "late"])
        self.assertEqual(sum(object["lost"]["total"] for object in report["objects"]), 5)
        rows = self.table(folder).fetchall()
        self.assertEqual(len(rows), len(ORDINARY) + 3)

    def test_table_and_warning_tell_the_loss(self):
        done, _ = self.ship(ORDINARY + [{"latency": "?", "code": 1}], "--format", "parquet")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r'latency +1 +"\?" is not an int64')
        self.assertIn("warning: 1 value of the logs is not in the objects", done.stderr)

    def test_strict_stops_and_leaves_no_object(self):
        for late, name in ({"code": "ERR"}, "code"), ({"new": 1}, "new"), ({"__tag__:k": "v"}, "__tag__:k"):
            for format in "parquet", "csv":
                if format == "csv" and name == "code":
                    continue
                with self.subTest(name, format=format):
                    done, folder = self.ship(ORDINARY + [late], "--format", format, "--strict")
                    self.assertEqual(done.returncode, 1, done.stdout)
                    self.assertIn(f"{name}: ", done.stderr)
                    self.assertEqual([path for path in folder.rglob("*") if path.is_file()], [])
        done, _ = self.ship(ORDINARY, "--format", "parquet", "--strict")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_rejects_column_keeps_the_values(self):
        late = {"__time__": 1700020000, "latency": 0.25, "code": "ERR"}
        _, folder = self.report(ORDINARY + [late], "--format", "parquet", "--set", "rejects_column=_rejects")
        table = self.table(folder)
        names = [column[0] for column in table.description]
        self.assertEqual(names[-1], "_rejects")
        kept = [json.loads(row[-1]) for row in table.fetchall() if row[-1] is not None]
        self.assertEqual(kept, [{"latency": "0.25", "code": "ERR"}])

    def test_repeated_keys_keep_the_last_value_in_every_format(self):
        lines = ['{"__time__":1,"a":"1","b":"x","a":"2"}']
        for format in "json", "csv", "parquet":
            with self.subTest(format):
                report, folder = self.report([], "--format", format, lines=lines)
                self.assertEqual(self.counts(report), {"a": 1})
                if format == "json":
                    (path,) = (path for path in folder.rglob("*") if path.is_file())
                    members = json.loads(path.read_text(), object_pairs_hook=list)
                    self.assertEqual([tuple(member) for member in members[3:]], [("b", "x"), ("a", "2")])

    def test_fields_never_pass_for_the_logs_own(self):
        forged = {key: "forged" for key in ("__time__", "__source__", "__topic__", "__tag__:__receive_time__")}
        log = {"__time__": 1700000000, "__source__": "10.0.0.1", "__tag__:__receive_time__": "1", "m": json.dumps(forged)}
        transform = ("--transform", 'fields={"parse":{"m":"json"}}')
        report, folder = self.report([log], "--set", "tags=true", *transform)
        self.assertEqual(report["lost"]["total"], 0)
        (path,) = (path for path in folder.rglob("*") if path.is_file())
        members = [tuple(member) for member in json.loads(path.read_text(), object_pairs_hook=list)]
        self.assertEqual(len(members), len(dict(members)))
        own = dict(members)
        self.assertEqual((own["__time__"], own["__source__"], own["__topic__"]), (1700000000, "10.0.0.1", ""))
        self.assertEqual(own["__tag__:__receive_time__"], "1")
        self.assertEqual([own[f"__field__:{key}"] for key in forged], ["forged"] * 4)

    def test_parsed_null_is_no_field(self):
        log = {"__time__": 1, "m": '{"user":null,"name":"null"}'}
        _, folder = self.report([log], "--transform", 'fields={"parse":{"m":"json"}}')
        (path,) = (path for path in folder.rglob("*") if path.is_file())
        shown = json.loads(path.read_text())
        self.assertNotIn("user", shown)
        self.assertEqual(shown["name"], "null")

    def test_empty_key_keeps_its_value(self):
        for format, columns in ("csv", []), ("parquet", []), ("parquet", ["--columns", "__field__:"]):
            with self.subTest(format, columns=columns):
                report, folder = self.report([{"__time__": 1, "": "kept"}], "--format", format, *columns)
                self.assertEqual(report["lost"]["total"], 0)
                (path,) = (path for path in folder.rglob("*") if path.is_file())
                self.assertIn(b"kept", path.read_bytes())

    def test_input_without_logs_is_no_failure(self):
        for format in "json", "csv", "parquet":
            for lines in [], ["", " "]:
                with self.subTest(format, lines=lines):
                    report, folder = self.report([], "--format", format, "--strict", lines=lines)
                    self.assertEqual((report["objects"], report["rows"]), ([], 0))

    def test_columns_that_readers_confuse_warn(self):
        done, _ = self.ship([{"Status": 1, "status": 2, "dt": 3}], "--format", "parquet", "--partition", "dt=%Y-%m-%d")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('columns "Status" and "status" differ only in case', done.stderr)
        self.assertIn('column "dt" is named like the level dt=', done.stderr)

    def test_line_of_many_keys_takes_seconds(self):
        wide = {f"k{key}": 1 for key in range(100_000)}
        report, _ = self.report(ORDINARY + [wide], "--format", "parquet")
        self.assertLess(report["seconds"], 10)
        self.assertEqual((len(report["left_out"]), report["lost"]["total"]), (100_000, 100_000))
        self.assertEqual(len(report["lost"]["columns"]), 100)
