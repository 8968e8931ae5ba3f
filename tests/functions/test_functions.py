"""Functions under `logship function serve`: the objects that `logship ship` makes, delivered once, problems told."""

import gzip
import hashlib
import json
import os
import subprocess
import threading
import time
import unittest

import xxhash
from aliyun.log.log_logs_pb2 import LogGroup, LogGroupList

from kit.application import LINES, TASK, Application, manifest, stage
from kit.paths import COMPONENTS_EXAMPLES, PROGRAM, ROOT
from kit.process import temporary_folder
from kit.hostile_logs import logs
from kit.waiting import wait_for

COLUMNS = {
    "json": {},
    "csv": {"columns": ["__time__", "id", "text"]},
    "parquet": {"columns": [{"key": "__time__", "type": "int64"}, {"key": "size", "type": "int32"}, {"key": "text"}]},
}
PAIRS = [(format, compression) for format in ("json", "csv") for compression in ("none", "snappy", "gzip", "zstd")]
PAIRS += [("parquet", "none"), ("parquet", "snappy")]


class Objects(unittest.TestCase):
    def shipped(self, format, compression, lines, pipeline=None, transform=None):
        """The bytes and the suffix of the object that the program makes, by stages or by a pipeline of them."""
        place = temporary_folder(self)
        (place / "lines.ndjson").write_bytes(lines)
        rule = {"type": format, **COLUMNS[format]}
        members = ", ".join(f"{name} = {toml(value)}" for name, value in rule.items())
        (place / "rule.toml").write_text(f'name = "lake"\nformat = {{ {members} }}\ncompression = "{compression}"\n')
        command = [PROGRAM, "ship", place / "lines.ndjson", "--to", place / "out", "--rule", place / "rule.toml"]
        command += ["--pipeline", pipeline] if pipeline else []
        command += ["--transform", f"fields={json.dumps(transform)}"] if transform else []
        subprocess.run(command, check=True, capture_output=True)
        [object] = [path for path in (place / "out").rglob("*") if path.is_file()]
        return object.read_bytes(), object.name.partition(".")[2]

    def fused(self, format, compression):
        """A pipeline of the stages that a rule would have."""
        file = temporary_folder(self) / "fused.wasm"
        command = [PROGRAM, "compose", "--encoder", f"encode-{format}", "--output", file]
        is_outer = format != "parquet" and compression != "none"
        command += ["--compressor", stage(f"compress-{compression}")] if is_outer else []
        subprocess.run(command, check=True, capture_output=True)
        return file

    def test_makes_object_of_fused_pipeline(self):
        lines = logs()
        for format, compression in PAIRS:
            with self.subTest(format=format, compression=compression):
                fused = self.shipped(format, compression, lines, self.fused(format, compression))
                self.assertEqual(fused, self.shipped(format, compression, lines))

    def test_makes_object_of_program(self):
        lines = logs()
        for format, compression in PAIRS:
            with self.subTest(format=format, compression=compression):
                rules = {"lake": {"format": {"type": format, **COLUMNS[format]}, "compression": compression}}
                compressor = stage(f"compress-{'snappy' if compression == 'none' else compression}")
                application = Application(
                    self, manifest(rules, encoder=stage(f"encode-{format}"), compressor=compressor)
                )
                answer = application.ship("lake", lines)
                self.assertEqual(answer.status, 200, answer.body[:500])
                expected, suffix = self.shipped(format, compression, lines)
                digest = hashlib.sha256(answer.body).hexdigest()
                self.assertEqual(digest, hashlib.sha256(expected).hexdigest())
                self.assertEqual((answer.fact("sha256"), answer.fact("rows")), (digest, "3000"))
                self.assertEqual(answer.fact("key").partition(".")[2], suffix)

    def assert_tells_lost_values(self, application):
        """It tells the values that this call lost, and none of an earlier call in the same instance."""
        lossy = json.dumps({"a": "é\n", "z": "1"})[:-1].encode() + b', "a": "2"}\n'
        refused = application.ship("lake", lossy + b"no log\n")
        self.assertEqual(refused.status, 400)
        for number in range(3):
            clean = application.ship("lake", b'{"a":"1"}\n', task=f"1760000089123456789_{number}")
            self.assertEqual((clean.status, clean.fact("lost")), (200, None), clean.body[:500])
            answer = application.ship("lake", lossy * 2)
            self.assertEqual(answer.status, 200, answer.body[:500])
            lost = {"count": 2, "example": "é\n", "reason": "is not the last value of its key"}
            self.assertEqual(json.loads(answer.fact("lost")), {"total": 2, "columns": {"a": lost}})

    def test_tells_lost_values(self):
        self.assert_tells_lost_values(Application(self, manifest({"lake": {}})))

    def test_composed_function_tells_lost_values(self):
        """The encoder itself answers, as on Spin: this program only runs the composed component."""
        folder = temporary_folder(self)
        text = manifest({"lake": {}})
        (folder / "spin.toml").write_text(text)
        whole = folder / "whole.wasm"
        command = [PROGRAM, "function", "compose", folder / "spin.toml", "-o", whole]
        subprocess.run(command, check=True, capture_output=True)
        head, _, _ = text.partition("[component.trigger-http.dependencies]")
        source = next(line for line in head.splitlines() if line.startswith("source = "))
        self.assert_tells_lost_values(Application(self, head.replace(source, f'source = "{whole}"')))

    def test_runs_transformer_fused_with_encoder(self):
        lines, file = logs(), temporary_folder(self) / "fused.wasm"
        fuse = [PROGRAM, "compose", "--transform", "transform-fields", "--encoder", "encode-json", "-o", file]
        subprocess.run(fuse, check=True, capture_output=True)
        settings = {"mask": {"text": "plain"}, "drop": ["size"]}
        rules = {"lake": {"format": {"type": "json", "transform": [settings]}, "compression": "none"}}
        answer = Application(self, manifest(rules, encoder=file, renderer=file)).ship("lake", lines)
        self.assertEqual(answer.status, 200, answer.body[:500])
        expected, _ = self.shipped("json", "none", lines, transform=settings)
        self.assertEqual(answer.body, expected)
        self.assertIn(b'"text":"***"', expected)
        wrong = {"lake": {"format": {"type": "json", "transform": [{"where": {"id": "1"}}]}, "compression": "none"}}
        refused = Application(self, manifest(wrong, encoder=file)).ship("lake", lines)
        self.assertEqual(refused.status, 422)
        self.assertIn("log 0: the transformer filters or splits this log", refused.problem()[2])

    def test_one_line_swaps_stage(self):
        lines, rules = logs(20), {"lake": {"prefix": "p"}}
        text = manifest(rules)
        gzipped = text.replace("compress-snappy", "compress-gzip")
        logfmt = gzipped.replace("components/encode-json", "components-examples/encode-logfmt")
        answers = [Application(self, text).ship("lake", lines) for text in (text, gzipped, logfmt)]
        keys = [answer.fact("key").partition(".")[2] for answer in answers]
        self.assertEqual(keys, ["snappy", "gz", "logfmt.gz"])
        json_lines, logfmt_lines = (gzip.decompress(answer.body) for answer in answers[1:])
        self.assertEqual((json_lines.count(b"\n"), logfmt_lines.count(b"\n")), (20, 20))
        self.assertTrue(json_lines.startswith(b"{") and b" id=0" in logfmt_lines)

    def test_repeated_call_makes_same_object(self):
        application = Application(self, manifest({"lake": {}}))
        first, second = (application.ship("lake", logs(50)) for _ in range(2))
        other = application.ship("lake", logs(50), task="1760000089123456789_4712")
        self.assertEqual((first.fact("key"), first.body), (second.fact("key"), second.body))
        self.assertNotEqual(first.fact("key"), other.fact("key"))

    def test_caller_can_choose_other_digest(self):
        application = Application(self, manifest({"lake": {}}))
        answer = application.ship("lake", logs(50), **{"x-logship-digest": "xxh3"})
        self.assertEqual(answer.fact("xxh3"), xxhash.xxh3_128_hexdigest(answer.body))
        self.assertIsNone(answer.fact("sha256"))
        self.assertEqual(application.ship("lake", logs(50), **{"x-logship-digest": "sha256"}).body, answer.body)
        refused = application.ship("lake", logs(50), **{"x-logship-digest": "md5"})
        self.assertEqual(refused.status, 400)
        self.assertIn("use sha256 or xxh3", refused.problem()[2])

    def test_every_input_format_gives_same_object(self):
        group = LogGroup(Topic="t", Source="s")
        group.LogTags.add(Key="host", Value="h")
        lines = []
        for number in range(100):
            log = group.Logs.add(Time=1_760_000_000 + number)
            log.Contents.add(Key="id", Value=str(number))
            lines.append({"__time__": log.Time, "__topic__": "t", "__source__": "s", "__tag__:host": "h", "id": str(number)})
        lines = "".join(json.dumps(line) + "\n" for line in lines).encode()
        message = group.SerializeToString()
        [field] = LogGroupList.DESCRIPTOR.fields
        listed = LogGroupList(**{field.name: [group]}).SerializeToString()
        protobuf = {"content-type": "application/x-protobuf"}
        forms = [
            (lines, LINES),
            (gzip.compress(lines), {**LINES, "content-encoding": "gzip"}),
            (message, protobuf),
            (gzip.compress(message), {**protobuf, "content-encoding": "gzip"}),
            (literals(message), {**protobuf, "x-log-compresstype": "lz4", "x-log-bodyrawsize": str(len(message))}),
            (listed, {"content-type": "application/x-protobuf; message=LogGroupList"}),
        ]
        rules = {"lake": {"format": {"type": "json", "tags": True}}}
        application = Application(self, manifest(rules))
        answers = [application.ship("lake", body, headers) for body, headers in forms]
        self.assertEqual([answer.status for answer in answers], [200] * len(forms))
        self.assertEqual(len({answer.body for answer in answers}), 1)


class Problems(unittest.TestCase):
    def test_reports_errors_with_position(self):
        rules = {"lake": {}, "csv": {"format": "csv"}, "odd": {"prefixx": 1}}
        application = Application(self, manifest(rules))
        protobuf = {"content-type": "application/x-protobuf"}
        big = b"x" * (17 << 20)
        cases = [
            (dict(rule="lake", body=big), 413, "too-large", False, "16777216"),
            (dict(rule="lake", body=iter([big[: (16 << 20) + 1]])), 413, "too-large", False, "16777216"),
            (dict(rule="lake", body=b"\x0a\xff", headers=protobuf), 400, "bad-batch", False, "log group 1"),
            (dict(rule="lake", body=b"{}\nno\n"), 400, "bad-batch", False, "line 2"),
            (dict(rule="lake", body=b""), 400, "bad-batch", False, "no logs"),
            (dict(rule="lake", body=b"{}", headers={**LINES, "content-encoding": "gzip"}), 400, "bad-batch", False, "gzip"),
            (dict(rule="lake", body=b"{}", headers={"content-type": "text/plain"}), 415, "unknown-type", False, "text/plain"),
            (dict(rule="lake", body=b"{}", task=None), 400, "bad-call", False, "x-logship-task"),
            (dict(rule="lake", body=b"{}", task="1_x"), 400, "bad-call", False, "1_x"),
            (dict(rule="none", body=b"{}"), 404, "unknown-rule", True, "lake"),
            (dict(rule="odd", body=b"{}"), 500, "settings", True, "prefixx"),
            (dict(rule="csv", body=b"{}"), 500, "settings", True, "encode-json"),
        ]
        for call, status, kind, retry, words in cases:
            with self.subTest(kind=kind, words=words):
                answer = application.ship(**call)
                self.assertEqual((answer.status, *answer.problem()[:2]), (status, kind, retry))
                self.assertIn(words, answer.problem()[2])
                # A body that is not told to be too large before it comes is sent once.
                if isinstance(call["body"], bytes):
                    again = application.ship(**call)
                    self.assertEqual((again.status, again.body), (answer.status, answer.body))
        self.assertEqual(application.ship("lake", b"{}").status, 200)

    def test_names_incompatible_components(self):
        cases = [
            (manifest({}, compressor=stage("encode-csv")), ["encode-csv.wasm", "logship:compress/compressor@1.0.0"]),
            (manifest({}, encoder=temporary_folder(self) / "none.wasm"), ["none.wasm", "No such file"]),
            (manifest({}, encoder=ROOT / "README.md"), ["README.md", "it is not WebAssembly"]),
            (manifest({}, encoder=None), ["trigger-http.wasm", "logship:encode/encoder@1.0.0", "no dependency provides it"]),
            (manifest({}).replace("logship:encode/encoder@", "logship:encode/other@"), ["logship:encode/other", "doesn't import"]),
            (manifest({}, allowed=["example.org"]), ["allowed_outbound_hosts", "example.org"]),
        ]
        for text, words in cases:
            application = Application(self, text)
            self.assertIsNone(application.address)
            self.assertNotEqual(application.process.returncode, 0)
            for word in words:
                self.assertIn(word, application.problem())

    def test_repository_application_is_consistent(self):
        made = temporary_folder(self) / "whole.wasm"
        for file, component in ("spin.toml", "trigger-http"), ("deploy/spin-redis.toml", "trigger-redis"):
            command = [PROGRAM, "function", "compose", ROOT / file, "--component", component, "-o", made]
            subprocess.run(command, check=True, capture_output=True)
            self.assertGreater(made.stat().st_size, 1 << 20)

    def test_application_with_both_triggers_runs_without_redis(self):
        trigger = '[[trigger.redis]]\naddress = "{{ redis_address }}"\nchannel = "a"\ncomponent = "trigger-redis"\n'
        redis = (ROOT / "deploy/spin-redis.toml").read_text()
        redis = redis[redis.index("[component.trigger-redis]") :].replace("{{ batches_from }}", "{{ deliver_to }}")
        text = (ROOT / "spin.toml").read_text().replace("[variables]", '[variables]\nredis_address = { required = true }')
        text = (text + trigger + redis.replace('"../target/', '"target/')).replace('"target/', f'"{ROOT}/target/')
        nowhere = ("--variable", "redis_address=redis://:secret@127.0.0.1:1", "--log", "info")
        application = Application(self, text, *nowhere)
        wait_for(lambda: "not subscribed to Redis" in application.problem())
        answer = application.ship("lake", logs(5))
        self.assertEqual((answer.status, answer.fact("rows")), (200, "5"), answer.body)
        # It is retried after one second, and after two more.
        time.sleep(3.5)
        told = [line for line in application.problem().splitlines() if "edis" in line]
        self.assertEqual(len(told), 1, told)
        self.assertNotIn("secret", told[0])


class Callers(unittest.TestCase):
    """The headers that describe the wanted object."""

    def test_caller_completes_rule(self):
        application = Application(self, manifest({"lake": {"prefix": "p"}}))
        wanted = {"prefix": "p", "partition": "ds=%Y", "time_zone": "+08:00", "compression": "none", "path": {}}
        wanted["format"] = {"type": "json", "tags": True}
        answer = application.ship("lake", logs(5), **{"x-logship-rule": json.dumps(wanted)})
        self.assertEqual((answer.status, answer.fact("key")), (200, f"p/ds=2025_{TASK}"), answer.body)
        self.assertIn(b"__tag__:host", answer.body)
        key = {"x-logship-rule": json.dumps(wanted), "x-logship-key": answer.fact("key")}
        self.assertEqual(application.ship("lake", logs(5), **key).body, answer.body)

    def test_rejects_call_for_different_object(self):
        application = Application(self, manifest({"lake": {"prefix": "p", "compression": "snappy"}}))
        cases = [
            ({"x-logship-rule": '{"prefix": "q"}'}, "another prefix"),
            ({"x-logship-rule": '{"compression": "none"}'}, "another compression"),
            ({"x-logship-rule": '{"format": "csv"}'}, "encode-json"),
            ({"x-logship-rule": '{"size": 1}'}, "unknown field `size`"),
            ({"x-logship-key": "p/elsewhere"}, "p/elsewhere"),
        ]
        for headers, words in cases:
            for _ in range(2):
                answer = application.ship("lake", logs(5), **headers)
                self.assertEqual((answer.status, *answer.problem()[:2]), (500, "settings", True))
                self.assertIn(words, answer.problem()[2])

    def test_describes_rule(self):
        rules = {"lake": {}, "splunk": {"deliver": {"to": "hec", "url": "http://127.0.0.1:1"}}, "csv": {"format": "csv"}}
        application = Application(self, manifest(rules))
        said = application.describe("lake")
        self.assertEqual((said.status, said.fact("delivers"), said.body), (200, "caller", b""))
        self.assertEqual(said.fact("stages").count("@"), 3)
        self.assertEqual(application.describe("splunk").fact("delivers"), "hec")
        self.assertEqual(application.describe("csv").problem()[:2], ("settings", True))
        self.assertEqual(application.describe("none").problem()[:2], ("unknown-rule", True))
        wrong = application.describe("lake", **{"x-logship-rule": '{"format": {"type": "json", "tagz": 1}}'})
        self.assertIn("tagz", wrong.problem()[2])
        # Events are no objects.
        answer = application.ship("splunk", logs(5), **{"x-logship-key": "a"})
        self.assertEqual(answer.problem()[:2], ("settings", True))

    def test_rejects_calls_without_token(self):
        application = Application(self, manifest({"lake": {}}), "--variable", "call_token=right")
        for headers in {}, {"authorization": "Bearer wrong"}, {"authorization": "right"}, {"authorization": "Bearer "}:
            answer = application.ship("lake", logs(5), **headers)
            self.assertEqual((answer.status, *answer.problem()[:2]), (401, "unauthorized", True))
            self.assertEqual(application.describe("lake", **headers).status, 401)
        self.assertEqual(application.ship("lake", logs(5), authorization="Bearer right").status, 200)


class Misbehaviour(unittest.TestCase):
    """Stages that misbehave."""

    def application(self, deadline):
        acts = ["behave", "trap", "loop", "allocate", "recurse", "reject", "too-large", "trap-at-end"]
        rules = {act: {"format": {"type": "none", "act": act}, "compression": "none"} for act in acts}
        text = manifest(rules, encoder=COMPONENTS_EXAMPLES / "misbehaving-stage.wasm")
        return Application(self, text, "--stage-deadline", str(deadline))

    def test_failing_stage_ends_only_its_call(self):
        application = self.application(2)
        cases = [
            ("trap", 500, "trapped: wasm `unreachable`"),
            ("trap-at-end", 500, "trapped: wasm `unreachable`"),
            ("loop", 500, "did not answer within 2 s"),
            ("allocate", 500, "MiB of memory and may have 256"),
            ("recurse", 500, "trapped: out of bounds memory access in misbehaving_stage::recurse"),
            ("reject", 422, "log 0: as configured"),
            ("too-large", 413, "as configured"),
        ]
        for act, status, words in cases:
            with self.subTest(act=act):
                answer = application.ship(act, logs(5))
                self.assertEqual(answer.status, status, answer.body)
                self.assertIn(words, answer.body.decode())
                if status == 500:
                    self.assertTrue(answer.body.startswith(b"the function trapped: stage misbehaving-stage (sha256:"))
                self.assertEqual(application.ship("behave", logs(5)).body, b"misbehaving-stage\n" * 5)

    def test_busy_stage_does_not_block_others(self):
        application = self.application(5)
        # More than there are threads for calls.
        busy = [threading.Thread(target=application.ship, args=("loop", logs(5))) for _ in range(os.cpu_count() + 1)]
        for thread in busy:
            thread.start()
        time.sleep(1)
        answers = [application.ship("behave", logs(5)) for _ in range(3)]
        self.assertTrue(all(thread.is_alive() for thread in busy))
        self.assertEqual({answer.body for answer in answers}, {b"misbehaving-stage\n" * 5})
        for thread in busy:
            thread.join()


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(member)}" for name, member in value.items()) + " }"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def literals(raw):
    """An LZ4 block that has nothing but literals."""
    left, lengths = len(raw) - 15, b""
    while left >= 255:
        left, lengths = left - 255, lengths + b"\xff"
    return b"\xf0" + lengths + bytes([left]) + raw
