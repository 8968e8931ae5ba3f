"""`logship ship` and `logship put` read files and directories as they are found on disks: each log once. What can't be read
is skipped and reported."""

import bz2
import gzip
import json
import lzma
import os
import socket
import subprocess
import threading
import time
import unittest
import zipfile

import cramjam

from kit import service
from kit.paths import PROGRAM
from kit.process import temporary_folder

MIB = 1 << 20


def log(number, **fields):
    return json.dumps({"__time__": 1700000000 + number, "n": str(number), **fields}).encode() + b"\n"


class Shipping(unittest.TestCase):
    def setUp(self):
        self.folder = temporary_folder(self)
        self.input = self.folder / "in"
        self.input.mkdir()
        self.objects = self.folder / "out"

    def ship(self, *sources, status=0, options=(), to=None, prefix=(), **streams):
        """Ships sources, or the folder. Keeps the texts, the report and the rejects. Returns the values of `n`."""
        to = to or self.objects
        self.logs = []
        command = [*prefix, PROGRAM, "ship", *(sources or [self.input]), "--to", to, "--report", "json", *options]
        done = subprocess.run(command, capture_output=True, timeout=120, **streams)
        self.told = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, status, self.told)
        self.report = json.loads(done.stdout) if done.stdout else {}
        self.unread = {os.path.basename(unread["path"]): unread["reason"] for unread in self.report.get("unread", [])}
        self.passed_over = {
            os.path.basename(passed["path"]): passed["reason"] for passed in self.report.get("passed_over", [])
        }
        if status != 0:
            return []
        logs = []
        for path in sorted(to.rglob("*")):
            if path.is_file() and "_rejects" not in path.parts:
                logs += [json.loads(line) for line in path.read_bytes().splitlines()]
        self.logs = logs
        return sorted(int(log["n"]) for log in logs if "n" in log)

    def rejects(self):
        return b"".join(path.read_bytes() for path in sorted(self.objects.glob("_rejects/*.ndjson")))

    def write(self, name, *parts):
        path = self.input / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(parts))
        return path


class Directories(Shipping):
    def test_rotated_and_dated_names_are_read(self):
        names = ["access.log", "access.log.1", "access.log-20260101", "App.LOG", "messages", "sub/x.out", "b.txt"]
        packed = ["access.log.2.gz", "access.log-20251231.gz", "x.ndjson.GZ", "old.log.gz.1"]
        for number, name in enumerate(names):
            self.write(name, log(number))
        for number, name in enumerate(packed, len(names)):
            self.write(name, gzip.compress(log(number)))
        self.assertEqual(self.ship(), list(range(len(names) + len(packed))))
        self.assertEqual((self.unread, self.passed_over), ({}, {}))

    def test_links_to_one_file_are_read_once(self):
        first = self.write("a.log", log(1))
        os.link(first, self.input / "b.log")
        (self.input / "c.log").symlink_to("a.log")
        folder = self.folder / "linked"
        folder.symlink_to(self.input)
        self.assertEqual(self.ship(folder, first, first), [1])
        self.assertEqual(set(self.passed_over), {"a.log", "b.log", "c.log"})
        self.assertIn("the same file as", self.passed_over["b.log"])

    def test_unreadable_entries_cost_themselves_alone(self):
        self.write("good.log", log(1))
        (self.input / "dangling.log").symlink_to("gone")
        (self.input / "loop").symlink_to(self.input)
        os.mkfifo(self.input / "pipe.log")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.input / "socket.log"))
        bad = os.path.join(os.fsencode(self.input), b"\xff\xfe.log")
        with open(bad, "wb") as file:
            file.write(log(2))
        with open(os.path.join(os.fsencode(self.input), b"\xffbroken.log"), "wb") as file:
            file.write(b"no log\n")
        self.assertEqual(self.ship(), [1, 2])
        self.assertEqual(set(self.unread), {"dangling.log", "loop"})
        self.assertEqual(self.passed_over, {"pipe.log": "a pipe", "socket.log": "a socket"})
        self.assertIn(b"no log", self.rejects())

    def test_folder_without_permission_is_reported(self):
        # Root reads everything, unless it has lost these capabilities.
        without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
        self.write("good.log", log(1))
        self.write("closed/x.log", log(2))
        self.write("secret.log", log(3)).chmod(0)
        (self.input / "closed").chmod(0)
        self.addCleanup((self.input / "closed").chmod, 0o700)
        self.assertEqual(self.ship(prefix=without), [1])
        self.assertEqual(set(self.unread), {"closed", "secret.log"})

    def test_output_and_rejects_of_earlier_runs_are_not_read(self):
        self.write("a.log", log(1), b"no log\n")
        inside = self.input / "out"
        for _ in range(2):
            self.ship(to=inside, options=["--rejects", inside / "_rejects" / f"{time.time_ns()}.ndjson"])
        self.assertEqual(len(self.logs), 2)
        self.assertIn("output directory", self.passed_over["out"])
        self.assertIn("also the output directory", self.fails(to=self.input))

    def fails(self, *sources, **options):
        self.ship(*sources, status=1, **options)
        return self.told

    def test_strict_stops_at_unreadable_file(self):
        self.write("a.log", log(1))
        (self.input / "dangling.log").symlink_to("gone")
        self.assertIn("dangling.log", self.fails(options=["--strict"]))
        (self.input / "dangling.log").unlink()
        self.write("b.gz", gzip.compress(log(2) * 1000)[:-20])
        self.assertIn("cut short", self.fails(options=["--strict"]))

    def test_growing_file_is_read_to_its_size_at_the_start(self):
        path = self.write("a.log", log(1))
        stop = threading.Event()

        def grow():
            with open(path, "ab", buffering=0) as file:
                while not stop.is_set():
                    file.write(log(2) * 1000)

        writer = threading.Thread(target=grow)
        writer.start()
        self.addCleanup(writer.join)
        self.addCleanup(stop.set)
        self.ship()
        self.assertEqual((self.report["rejected"], self.unread), (0, {}))


class Files(Shipping):
    def test_compressed_files_are_recognized_by_content(self):
        self.write("gzip.log", gzip.compress(log(1)))
        self.write("zstd.1", bytes(cramjam.zstd.compress(log(2))))
        self.write("plain.gz", log(3))
        self.write("members.gz", gzip.compress(log(4)), gzip.compress(b""), gzip.compress(log(5)))
        self.write("padded.gz", gzip.compress(log(6)), bytes(5000))
        self.write("empty.gz")
        self.write("nothing.gz", gzip.compress(b""))
        self.assertEqual(self.ship(), [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.unread, {})

    def test_gzipped_standard_input_is_read(self):
        self.assertEqual(self.ship("-", input=gzip.compress(log(1) + log(2))), [1, 2])

    def test_other_archives_are_told_with_the_command_that_reads_them(self):
        self.write("good.log", log(1))
        self.write("a.log.bz2", bz2.compress(log(2)))
        self.write("b.log.xz", lzma.compress(log(3)))
        with zipfile.ZipFile(self.input / "c.zip", "w") as archive:
            archive.writestr("c.log", log(4))
        self.write("wtmp", b"\x07\0\0\0\x05\x02\0\0tty1\0\0" * 20)
        self.assertEqual(self.ship(), [1])
        for name, expected in {"a.log.bz2": "bzcat", "b.log.xz": "xzcat", "c.zip": "unzip", "wtmp": "binary"}.items():
            self.assertIn(expected, self.unread[name])
        self.ship(self.input / "b.log.xz", status=1)
        self.assertIn("no logs were read", self.told)

    def test_damaged_gzip_costs_its_end(self):
        self.write("a.log", log(0))
        lines = b"".join(log(number, noise=os.urandom(30).hex()) for number in range(1, 2001))
        whole = gzip.compress(lines)
        self.write("cut.gz", whole[: len(whole) // 2])
        self.write("z.log", log(3000))
        found = self.ship()
        self.assertEqual((found[0], found[-1]), (0, 3000))
        self.assertTrue(500 < len(found) < 1900, len(found))
        self.assertEqual(found[:-1], list(range(len(found) - 1)))
        self.assertIn("cut short", self.unread["cut.gz"])
        self.write("cut.gz", whole, b"garbage")
        self.ship(to=self.folder / "again")
        self.assertEqual(len(self.logs), 2002)
        self.assertIn("is not gzip", self.unread["cut.gz"])

    def test_byte_order_marks_and_line_ends_of_windows(self):
        mark = b"\xef\xbb\xbf"
        self.write("a.log", mark, log(1), mark, log(2))
        self.write("b.log", mark)
        self.write("c.log", log(3).replace(b"\n", b"\r\n"), b"\r\n")
        self.write("d.gz", gzip.compress(mark + log(4)), gzip.compress(mark + log(5).rstrip()), gzip.compress(mark + log(6)))
        self.assertEqual(self.ship(), [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.report["rejected"], 0)

    def test_utf_16_with_and_without_mark(self):
        text = (log(1) + log(2, user="é😀")).decode()
        for name, encoding in {"a": "utf-16", "b": "utf-16-le", "c": "utf-16-be"}.items():
            self.write(name, text.encode(encoding))
        self.write("d.gz", gzip.compress(text.encode("utf-16")))
        self.assertEqual(self.ship(), [1] * 4 + [2] * 4)
        self.assertEqual({log["user"] for log in self.logs if log["n"] == "2"}, {"é😀"})

    def test_zero_bytes_of_a_crash_are_told(self):
        self.write("a.log", log(1), log(2), bytes(4096))
        self.write("b.log", bytes(100), log(3))
        self.write("c.log", bytes(1000))
        self.assertEqual(self.ship(), [1, 2, 3])
        self.assertEqual(self.report["rejected"], 3)
        self.assertIn("zero bytes, as a crash leaves them: 4096", self.reasons())

    def reasons(self):
        return "".join(path.read_text() for path in self.objects.glob("_rejects/*.reasons.txt"))

    def test_long_lines_cost_themselves_alone(self):
        long = b'{"a":"' + b"x" * (70 * MIB) + b'"}'
        for name, parts in {
            "middle": [log(1), long, b"\n", log(2)],
            "end": [log(1), log(2), long, b"\n"],
            "no line break": [log(1), log(2), long],
            "first": [long, b"\n", log(1), log(2)],
        }.items():
            with self.subTest(name=name):
                path = self.write("a.log", *parts)
                self.assertEqual(self.ship(path, to=self.folder / name), [1, 2])
                self.assertEqual(self.report["rejected"], 1)

    def test_json_that_is_not_lines(self):
        first, second = (json.loads(log(number, o={"k": [1, {}]})) for number in (1, 2))
        for form in (
            json.dumps([first, second]),
            json.dumps([first, second], indent=2),
            json.dumps(first, indent=2) + "\n" + json.dumps(second, indent=2),
            json.dumps(first) + json.dumps(second),
            json.dumps(first) + " " + json.dumps(second) + "\n",
            json.dumps(first) + ",\n" + json.dumps(second) + ",\n",
            "\x1e" + json.dumps(first) + "\n\x1e" + json.dumps(second) + "\n",
            "\ufeff[" + json.dumps(first) + ",\r\n" + json.dumps(second) + "]\r\n",
        ):
            with self.subTest(form=form):
                path = self.write("a.json", form.encode())
                self.assertEqual(self.ship(path, to=self.folder / str(time.time_ns())), [1, 2])
                self.assertEqual(self.report["rejected"], 0)

    def test_large_array_on_one_line(self):
        path = self.write("a.json", b"[", b",".join(log(number).rstrip() for number in range(50000)), b"]")
        self.assertEqual(self.ship(path), list(range(50000)))

    def test_broken_object_of_an_array_costs_itself_alone(self):
        path = self.write("a.json", b"[\n", log(1), b",\n{\"n\": tru},\n", log(2), b", 5]")
        self.assertEqual(self.ship(path), [1, 2])
        self.assertEqual(self.rejects(), b'{"n": tru}\n5\n')
        self.assertIn("a.json:4: ", self.reasons())

    def test_broken_object_among_objects_on_one_line_costs_itself_alone(self):
        path = self.write("a.json", log(1).rstrip(), b'{"n": tru}', log(2))
        self.assertEqual(self.ship(path), [1, 2])
        self.assertEqual(self.rejects(), b'{"n": tru}\n')

    def test_array_without_its_end_is_told(self):
        self.write("a.json", b"[", log(1), b",", log(2))
        self.write("b.json", b"[", log(3), b",", log(4)[:-9])
        self.write("c.json", b"[", log(5), b"]\n[\n]\n")
        self.assertEqual(self.ship(), [1, 2, 3, 5])
        self.assertEqual(set(self.unread), {"a.json", "b.json"})
        self.assertIn("array", self.unread["a.json"])

    def test_input_without_a_log_fails_and_tells_what_helps(self):
        for text, expected in {
            b"Nov 30 10:00:00 host sshd[1]: accepted\n": "--input text",
            b"time,host\n1,a\n2,b\n": "--input csv",
            b"<log><a/></log>\n": "XML",
            b"[1,2]\n[3]\n": "arrays of values",
            b'{"a":\n': "rejected: 1",
        }.items():
            for form in (text, gzip.compress(text)):
                with self.subTest(text=text):
                    path = self.write("a.log", form)
                    self.ship(path, status=1)
                    self.assertIn("no line of the input is a log", self.told)
                    self.assertIn(expected, self.told)

    def test_input_without_lines_is_no_failure(self):
        self.write("a.log", b"\n \r\n")
        self.write("b.log")
        for options in [], ["--format", "parquet"], ["--format", "csv"]:
            with self.subTest(options=options):
                self.assertEqual(self.ship(options=options), [])

    def test_rejected_text_names_the_option(self):
        path = self.write("a.log", log(1), b"Nov 30 host x\n")
        done = subprocess.run([PROGRAM, "ship", path, "--to", self.objects], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--input text", done.stderr)


class Formats(Shipping):
    def test_text_is_one_field(self):
        path = self.write("a.log", b"\xef\xbb\xbf10:00 {\"a\":1}\r\n\n  indented\nlast")
        self.ship(path, options=["--input", "text"])
        self.assertEqual([log["message"] for log in self.logs], ['10:00 {"a":1}', "  indented", "last"])
        self.ship(path, options=["--input", "text", "--text-field", "line"], to=self.folder / "named")
        self.assertEqual([log["line"] for log in self.logs][1], "  indented")

    def test_csv_takes_names_from_its_header(self):
        text = b'__time__;n;note;"a b"\r\n1700000000;1;"x;\n""y""";\n1700000001;2;;""\n1700000002;3\n'
        path = self.write("a.csv", text)
        self.assertEqual(self.ship(path, options=["--input", "csv"]), [1, 2])
        members = [{key: value for key, value in log.items() if not key.startswith("__")} for log in self.logs]
        self.assertEqual(members, [{"n": "1", "note": 'x;\n"y"'}, {"n": "2", "a b": ""}])
        self.assertIn("a.csv:5: the row has 2 fields, the header has 4", self.report_reasons())

    def report_reasons(self):
        return "".join(path.read_text() for path in self.objects.glob("_rejects/*.reasons.txt"))

    def test_large_csv_is_cut_between_rows(self):
        rows = [b'%d,"%d\n%s"\n' % (1700000000 + number, number, b"x" * 300) for number in range(10000)]
        path = self.write("a.csv", b"__time__,text\n", *rows)
        self.ship(path, options=["--input", "csv"])
        self.assertEqual(sorted(int(log["text"].split("\n")[0]) for log in self.logs), list(range(10000)))
        self.assertEqual(self.report["rejected"], 0)

    def test_auto_tells_each_file_by_its_beginning(self):
        self.write("a", log(1))
        self.write("b", json.dumps([json.loads(log(2))], indent=1).encode())
        self.write("c", b"n,host\n3,h\n")
        self.write("d.gz", gzip.compress(b"Nov 30 10:00 started\n"))
        self.assertEqual(self.ship(options=["--input", "auto"]), [1, 2, 3])
        self.assertEqual([log["message"] for log in self.logs if "message" in log], ["Nov 30 10:00 started"])

    def test_formats_infer_columns(self):
        self.write("a.csv", b"n,host\n1,h\n")
        done = subprocess.run(
            [PROGRAM, "ship", self.input, "--to", self.objects, "--input", "auto", "--format", "csv"],
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--columns '__time__,__topic__,__source__,n,host'", done.stdout)

    def test_time_field_needs_fields(self):
        path = self.write("a.log", b"x\n")
        self.ship(path, options=["--input", "text", "--time-field", "t"], status=1)
        self.assertIn("--time-field needs fields", self.told)


class Output(Shipping):
    """Nobody may read what a command prints; what it did stays done."""

    def run_with(self, redirection, *command):
        line = " ".join(f"'{part}'" for part in command) + f" {redirection}"
        return subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=60)

    def test_ship_does_not_fail_when_nobody_reads(self):
        path = self.write("a.log", log(1), b"no log\n")
        redirections = [">/dev/full", "2>/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", ">&- 2>&-", "| true", "2>&1 | true"]
        for number, redirection in enumerate(redirections):
            with self.subTest(redirection=redirection):
                to = self.folder / str(number)
                done = self.run_with(redirection, PROGRAM, "ship", path, "--to", to)
                self.assertEqual(done.returncode, 0, done)
                self.assertNotIn("panicked", done.stderr)
                self.assertEqual(len([path for path in to.rglob("*") if path.is_file()]), 3)

    def test_commands_that_print_fail_without_panic(self):
        for command in ["stage", "list"], ["stage", "inspect", "encode-json"], ["config", "--schema"]:
            if subprocess.run([PROGRAM, *command], capture_output=True).returncode != 0:
                continue
            with self.subTest(command=command):
                done = self.run_with(">/dev/full", PROGRAM, *command)
                self.assertEqual(done.returncode, 1, done)
                self.assertIn("error: can't write to standard output", done.stderr)
                done = self.run_with("| true", PROGRAM, *command)
                self.assertNotIn("panicked", done.stderr)


class Putting(unittest.TestCase):
    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore()
        self.folder = temporary_folder(self)

    def put(self, *arguments, status=0, shell=""):
        endpoint = {"SLS_ENDPOINT": self.service.endpoint(), "SLS_PROJECT": service.PROJECT}
        environment = {**os.environ, **self.service.admin.environment(), **endpoint}
        command = [str(part) for part in (PROGRAM, "put", self.logstore.name, *arguments)]
        if shell:
            command = ["bash", "-c", "set -o pipefail; " + " ".join(command) + " " + shell]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder, timeout=60)
        self.assertEqual(done.returncode, status, done)
        return done

    def values(self, field="n"):
        return sorted(dict(log.fields)[field] for log in self.logstore.logs())

    def test_large_log_costs_itself_alone(self):
        path = self.folder / "a.ndjson"
        path.write_bytes(log(1) + log(2, a="x" * (11 * MIB)) + log(3, a="x" * (9 * MIB)) + log(4) * 1000)
        done = self.put(path)
        self.assertIn("a.ndjson:2: ", done.stderr)
        self.assertEqual(self.values(), ["1", "3"] + ["4"] * 1000)

    def test_log_that_service_refuses_costs_itself_alone(self):
        path = self.folder / "a.ndjson"
        # The encoding of a log group takes more bytes than the JSON of many short fields.
        many = json.dumps({f"{number}": 1 for number in range(900_000)}, separators=(",", ":")).encode()
        self.assertLess(len(many), 10 * MIB)
        path.write_bytes(log(1) + many + b"\n" + log(2))
        done = self.put(path)
        self.assertIn("Put 2 logs", done.stdout)
        self.assertIn("a.ndjson: logs that the service refuses as too large: 1", done.stderr)
        self.assertEqual(self.values(), ["1", "2"])

    def test_directory_and_formats(self):
        folder = self.folder / "logs"
        folder.mkdir()
        (folder / "a.log.1").write_bytes(b"started\n")
        (folder / "b.gz").write_bytes(gzip.compress(b"stopped\n" * 1000)[:-12])
        done = self.put(folder, "--input", "text")
        self.assertIn("cut short", done.stderr)
        self.assertEqual(set(self.values("message")), {"started", "stopped"})
        done = self.put(folder / "a.log.1", status=1)
        self.assertIn("--input text", done.stderr)

    def test_closed_output_is_no_failure(self):
        path = self.folder / "a.ndjson"
        path.write_bytes(log(1) + b"no log\n")
        for shell in "| true", ">/dev/full", "2>/dev/full", ">&- 2>&-":
            self.put(path, shell=shell)
            time.sleep(0.01)
        self.assertEqual(self.values(), ["1"] * 4)

    def test_ingest_reads_the_same_forms(self):
        for query, body in {
            "": b"\xef\xbb\xbf" + json.dumps(json.loads(log(1)), indent=1).encode() + log(2),
            "?input=csv": b"n,host\n3,h\n4,\n",
            "?input=auto": b"n;host\n5;h\n",
        }.items():
            path = f"/ingest/{service.PROJECT}/{self.logstore.name}{query}"
            reply = self.service.request("POST", path, body, self.service.admin.basic())
            self.assertEqual(reply.status, 200, reply.body)
            self.assertEqual(reply.json()["malformed"], 0)
        self.assertEqual(self.values(), ["1", "2", "3", "4", "5"])
        refused = self.service.request("POST", path + "x", b"", self.service.admin.basic())
        self.assertEqual(refused.refusal(), (400, "ParameterInvalid"))
