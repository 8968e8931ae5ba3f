"""Trials of stages: what a stage would change is told by tasks that are done, and nothing is changed by it."""

import hashlib
import json
import threading

from kit import service
from kit.marking import SETTINGS, Case, build
from kit.paths import COMPONENTS_EXAMPLES
from kit.waiting import wait_for

MISBEHAVING = "misbehaving-{}.wasm"
# Nobody is there.
FUNCTION = """
[destinations.away]
type = "function"
url = "http://127.0.0.1:9/"
"""


class Tries(Case):
    def tried(self, stage, rule="mine", *options):
        """The outcome of a preview."""
        return self.service.json("stage", "try", stage, "--rule", rule, "--report", "json", *options)

    def task(self, *arguments):
        """The outcome of a preview's only task."""
        (task,) = self.tried(*arguments)["tasks"]
        return task

    def verdicts(self, *arguments):
        return [task["verdict"] for task in self.tried(*arguments)["tasks"]]

    def run_try(self, *arguments):
        """Exit code, and what is printed."""
        done = self.service.run("stage", "try", *arguments)
        return done.returncode, done.stdout + done.stderr

    def made(self, task, member):
        return task["old"]["made"][member], task["new"]["made"][member]

    def shipped(self, rule, logs=10):
        """Puts logs, and waits until they are in an object."""
        before = len(self.service.tasks("--rule", rule, "--status", "success"))
        self.put(logs)
        done = lambda: self.service.tasks("--rule", rule, "--status", "success")
        wait_for(lambda: len(done()) > before, message=f"{rule} ships nothing")


class Encoders(Tries):
    def setUp(self):
        super().setUp()
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        for _ in range(2):
            self.ship("mine")

    def everything(self):
        """All that a trial must not change."""
        files = [path for path in sorted(self.service.data.rglob("*")) if path.is_file() and "logstore.db" not in path.name]
        return [(path, path.read_bytes()) for path in files], self.show("marker"), self.service.tasks()

    def test_preview_of_encoder_changes_nothing(self):
        before = self.everything()
        code, said = self.run_try(self.file("0002"), "--rule", "mine")
        self.assertEqual(code, 0, said)
        self.assertIn("marking-encoder 0002 (encoder, sha256 ", said)
        self.assertIn("line 1 of ", said)
        self.assertIn("- 0001 begin\n+ 0002 begin\n", said)
        self.assertIn("key: ….0001 -> ….0002", said)
        self.assertIn("2 tasks: 2 different. 20 rows, 190 B raw, 190 B stored, ", said)
        tried = self.tried(self.file("0002"))
        for task in tried["tasks"]:
            self.assertEqual(task["verdict"], "different")
            self.assertEqual(self.made(task, "rows"), (10, 10))
            self.assertEqual(self.made(task, "rawBytes"), self.made(task, "storedBytes"))
            self.assertEqual(task["reproduced"], True)
            object = (self.lake / task["old"]["object"]).read_bytes()
            olds, news = self.made(task, "sha256")
            self.assertEqual(olds, hashlib.sha256(object).hexdigest())
            self.assertEqual(news, hashlib.sha256(object.replace(b"0001 ", b"0002 ")).hexdigest())
        self.assertEqual(self.everything(), before)

    def test_preview_reports_same_output(self):
        for stage in self.file("0001"), "marker@0001", "marker", "sha256:" + hashlib.sha256(build("0001")).hexdigest():
            code, said = self.run_try(stage, "--rule", "mine", "--expect", "same")
            self.assertEqual(code, 0, said)
            self.assertIn("2 tasks: 2 same.", said)
        code, said = self.run_try(self.file("0002"), "--rule", "mine", "--expect", "same")
        self.assertEqual(code, 1)
        self.assertIn("2 of 2 tasks would change", said)
        self.assertEqual(len(self.tried(self.file("0002"), "mine", "--last", "1")["tasks"]), 1)

    def test_preview_of_failing_stage_fails(self):
        for act, word in ("trap", "trapped"), ("grow", "asked for"):
            code, said = self.run_try(self.file("0002", act), "--rule", "mine")
            self.assertEqual(code, 1)
            self.assertRegex(said, rf"fails: stage marking-encoder .*{word}")
            self.assertIn("2 tasks: 2 would fail.", said)
            self.assertIn("the stage fails 2 of 2 tasks", said)
        self.assertIsNone(self.problem("mine"))
        # More than its object takes.
        task = self.tried(self.file("0002", "giant"))["tasks"][0]
        self.assertEqual(task["verdict"], "different")
        self.assertEqual(self.made(task, "rawBytes")[1], (40 << 20) + len("0002 begin\n") + len("0002 end\n"))
        self.assertEqual(self.ship("mine"), {"0001"})

    def test_preview_reports_fixing_stage(self):
        self.stage("swap", "marker", self.file("0002", "trap"))
        self.put()
        wait_for(lambda: self.service.tasks("--rule", "mine", "--status", "failed"))
        task = self.tried(self.file("0003"), "mine", "--last", "1")["tasks"][0]
        self.assertEqual((task["verdict"], task["new"]["made"]["rows"]), ("mends", 10))
        code, said = self.run_try(self.file("0003"), "--rule", "mine")
        self.assertEqual(code, 0, said)
        self.assertIn("succeeds; the old stage fails: ", said)
        self.assertIn("1 fixed", said)
        code, said = self.run_try(self.file("0004", "trap"), "--rule", "mine")
        self.assertIn("still fails", said)

    def test_preview_rejects_unused_stage(self):
        text = self.service.folder / "text.wasm"
        text.write_text("no component")
        nothing = self.service.folder / "nothing.wasm"
        nothing.touch()
        mine = ("--rule", "mine")
        for arguments, word in (
            (("siem-hec", *mine), "has no place for a formatter (siem-hec): it writes objects"),
            (("compress-zstd", *mine), "it compresses nothing"),
            (("transform-fields", *mine), "it has no transformers"),
            (("marker", *mine, "--transform", "0"), "only a transformer can replace a transformer by its number"),
            ((COMPONENTS_EXAMPLES / "constant-path.wasm", *mine), "can't use stage constant-path"),
            ((text, *mine), "not WebAssembly"),
            ((nothing, *mine), "the file is empty"),
            (("./missing.wasm", *mine), "No such file"),
            (("marker@0009", *mine), "no version"),
            (("nothing", *mine), 'no stage is called "nothing"'),
            (("marker", "--rule", "none"), "no logstore of project clients has a rule none"),
            (("marker", "--rule", "none", "--logstore", "logs"), "none"),
            (("marker", *mine, "--logstore", "none"), "none"),
            (("marker", *mine, "--last", "0"), "0 is not in 1..=100"),
            (("marker", *mine, "--last", "101"), "101 is not in 1..=100"),
            (("marker", *mine, "--within", "1000"), "1000 is not in 1..=100"),
        ):
            with self.subTest(arguments):
                code, said = self.run_try(*arguments)
                self.assertNotEqual(code, 0)
                self.assertIn(word, said)

    def test_preview_needs_tasks(self):
        self.rule("late", "--encoder", "marker")
        wait_for(lambda: self.service.tasks("--rule", "late"))
        self.service.command("rule", "delete", "late", "--logstore", "logs")
        # Tasks of a previous rule with this name do not count.
        self.service.logstore("empty")
        arguments = ("--logstore", "empty", "--bucket", "lake", "--prefix", "late")
        self.service.command("rule", "create", "late", *arguments)
        code, said = self.run_try("encode-json", "--rule", "late", "--logstore", "empty")
        self.assertEqual(code, 1)
        self.assertIn("rule late has no tasks yet", said)

    def test_preview_rejects_invalid_and_unauthorized_requests(self):
        path = "/logstores/logs/shipper/mine/trials"

        def ask(key, query, body):
            kind = "application/json" if body.startswith(b"{") else "application/wasm"
            return self.service.request("POST", path + query, body, {**key.basic(), "Content-Type": kind})

        admin, component = self.service.admin, build("0002")
        for query, body in (
            ("", b""),
            ("", b'{"stage":'),
            ("", b'{"stage":"marker","other":1}'),
            ("", b'{"stage":"../../marker"}'),
            ("?last=0", component),
            ("?last=101", component),
            ("?last=many", component),
            ("?seconds=101", component),
            ("?transform=-1", component),
            ("", component[:-100]),
        ):
            reply = ask(admin, query, body)
            self.assertEqual(reply.status, 400, (query, reply.body))
        self.assertEqual(ask(admin, "?last=1", component).json()["tasks"][0]["verdict"], "different")
        reads, one = self.service.create_key("--allow", "read"), self.service.create_key("--allow", f"admin={service.PROJECT}")
        self.service.restart()
        for key in reads, one:
            self.assertEqual(ask(key, "", b'{"stage":"marker"}').refusal(), (401, "Unauthorized"))


class Others(Tries):
    def test_preview_of_renderer_shows_keys(self):
        self.rule("mine")
        self.shipped("mine")
        task = self.task(COMPONENTS_EXAMPLES / MISBEHAVING.format("renderer"))
        self.assertEqual(task["verdict"], "different")
        self.assertEqual((task["old"]["made"], task["new"]["made"]), (None, None))
        self.assertTrue((self.lake / task["old"]["object"]).exists())
        self.assertNotEqual(task["old"]["object"], task["new"]["object"])
        _, said = self.run_try(COMPONENTS_EXAMPLES / MISBEHAVING.format("renderer"), "--rule", "mine")
        self.assertIn(f"key: {task['old']['object']} -> {task['new']['object']}", said)
        self.assertEqual(self.task("object-path")["verdict"], "same")

    def test_preview_of_compressor_changes_only_stored_bytes(self):
        self.rule("mine", "--compression", "snappy")
        self.shipped("mine", 2000)
        task = self.task("compress-zstd")
        self.assertEqual((task["verdict"], task["difference"]), ("different", None))
        olds, news = self.made(task, "rawBytes")
        self.assertEqual(olds, news)
        olds, news = self.made(task, "storedBytes")
        self.assertLess(news, olds)
        self.assertTrue(task["new"]["object"].endswith(".zst"))
        self.assertEqual(self.task("compress-snappy")["verdict"], "same")
        # Inside the format there is none.
        self.rule("table", "--format", "parquet", "--columns", "id", "--compression", "snappy")
        wait_for(lambda: self.service.tasks("--rule", "table", "--status", "success"))
        code, said = self.run_try("compress-zstd", "--rule", "table")
        self.assertEqual(code, 1)
        self.assertIn("parquet is compressed inside its format, by the encoder", said)

    def test_preview_of_encoder_keeps_compressor(self):
        self.rule("mine", "--compression", "gzip")
        self.shipped("mine", 100)
        task = self.task(COMPONENTS_EXAMPLES / "encode-logfmt.wasm")
        self.assertEqual(task["verdict"], "different")
        # Differences are found before compression.
        self.assertTrue(task["difference"]["old"].startswith('{"__time__":'), task["difference"])
        self.assertTrue(task["difference"]["new"].startswith("ts="), task["difference"])
        self.assertTrue(task["new"]["object"].endswith(".logfmt.gz"))

    def test_preview_counts_filtered_logs(self):
        few = "fields=" + json.dumps({"where": {"id": {"matches": "7$"}}})
        self.rule("mine", "--transform", few)
        self.shipped("mine", 100)
        task = self.task("transform-fields")
        self.assertEqual((task["verdict"], self.made(task, "rows"), self.made(task, "leftOut")), ("same", (10, 10), (90, 90)))
        code, said = self.run_try(COMPONENTS_EXAMPLES / MISBEHAVING.format("transform"), "--rule", "mine")
        self.assertEqual(code, 1)
        self.assertIn("can't use stage misbehaving-transform", said)
        # One task of several.
        self.rule("two", "--transform", "fields", "--transform", few)
        wait_for(lambda: self.service.tasks("--rule", "two", "--status", "success"))
        behaving = COMPONENTS_EXAMPLES / MISBEHAVING.format("transform")
        code, said = self.run_try(behaving, "--rule", "two")
        self.assertIn("several transformers, 0 (fields), 1 (fields)", said)
        _, said = self.run_try(behaving, "--rule", "two", "--transform", "2")
        self.assertIn("it has no transformer 2", said)


class Functions(Tries):
    settings = SETTINGS + FUNCTION

    def test_preview_rejects_rule_of_function(self):
        self.rule("mine", "--no-probe")
        self.shipped("mine")
        self.service.command("rule", "create", "called", "--logstore", "logs", "--destination", "away", "--no-probe")
        code, said = self.run_try("encode-json", "--rule", "called")
        self.assertEqual(code, 1)
        self.assertIn("rule called ships through a function with its own stages", said)
        self.assertEqual(self.verdicts("encode-json"), ["same"])


class Loops(Tries):
    def setUp(self):
        super().setUp()
        self.service.options += ("--stage-deadline", "6")
        self.service.restart()

    def test_endless_preview_is_stopped(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        for _ in range(4):
            self.ship("mine")
        said = []
        is_busy = lambda text: "another preview is running" in text

        def trial():
            code, text = self.run_try(self.file("0002", "loop"), "--rule", "mine", "--within", "3")
            while is_busy(text):
                code, text = self.run_try(self.file("0002", "loop"), "--rule", "mine", "--within", "3")
            said.append((code, text))

        thread = threading.Thread(target=trial)
        thread.start()
        wait_for(lambda: is_busy(self.run_try("marker", "--rule", "mine", "--last", "1")[1]), every=0.2)
        self.assertEqual(self.ship("mine"), {"0001"})
        self.assertEqual(said, [], "shipping does not wait for it")
        thread.join()
        ((code, text),) = said
        self.assertEqual(code, 1)
        self.assertIn("did not answer within 6 s", text)
        self.assertIn("not previewed: the time limit was reached before it", text)
        self.assertIn("1 would fail, 3 not previewed", text)
