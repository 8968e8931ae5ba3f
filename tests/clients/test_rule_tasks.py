"""Tasks of rules: lists, verification, retries and replays."""

import json
import time

from kit import typed_logs
from kit.rules import Case, detail
from kit.waiting import wait_for


class Tasks(Case):
    shards = 2

    def listed(self, rule, *arguments):
        """The ids of tasks that the SDK lists."""
        return [task.task_id for task in self.sdk("get_shipper_tasks", rule, *arguments).get_tasks()]

    def test_task_lists_obey_filters(self):
        self.sdk("create_shipper", detail("good", "lake"))
        self.sdk("create_shipper", detail("bad", "nothing"))
        self.put()
        good, bad = self.wait_for_tasks("good", 2, "success"), self.wait_for_tasks("bad", 2, "failed")
        ids = {"good": {task["id"] for task in good}, "bad": {task["id"] for task in bad}}
        now = int(time.time())
        hour = (now - 3600, now + 60)
        for rule, status, other in ("good", "success", "fail"), ("bad", "fail", "success"):
            with self.subTest(rule=rule):
                self.assertEqual(set(self.listed(rule, *hour)), ids[rule])
                self.assertEqual(set(self.listed(rule, *hour, status)), ids[rule])
                self.assertEqual(self.listed(rule, *hour, other), [])
                self.assertEqual(self.listed(rule, *hour, "running"), [])
                self.assertEqual(self.listed(rule, now - 7200, now - 3600), [])
                pages = [self.listed(rule, *hour, "", offset, 1) for offset in range(3)]
                self.assertEqual(sum(pages, []), [task["id"] for task in self.service.tasks("--rule", rule)])
                self.assertEqual(set(self.listed(rule, *hour, "", 0, -1)), ids[rule])
        self.check_options(good, bad)

    def check_options(self, good, bad):
        """The same by the command."""
        all_of = {task["id"] for task in good + bad}
        first = {task["id"] for task in good + bad if task["shard"] == 0}
        self.assertEqual(len(first), 2)
        time.sleep(2.1)
        for options, expected in (
            ((), all_of),
            (("--logstore", "logs"), all_of),
            (("--logstore", "others"), set()),
            (("--shard", "0"), first),
            (("--shard", "2"), set()),
            (("--status", "failed"), {task["id"] for task in bad}),
            (("--status", "failed", "--rule", "good"), set()),
            (("--since", "1h"), all_of),
            (("--since", "1s"), set()),
        ):
            with self.subTest(options=options):
                self.assertEqual({task["id"] for task in self.service.tasks(*options)}, expected)

    def test_tasks_describe_objects(self):
        self.sdk("create_shipper", detail("rule", "lake"))
        self.put(25)
        tasks = self.wait_for_tasks("rule", 2, "success")
        for task in tasks:
            (path,) = (path for path in self.objects("rule") if str(path).endswith(task["object"]))
            self.assertEqual((task["rows"], task["storedBytes"]), (25, path.stat().st_size))
            self.assertTrue(task["object"].endswith(task["id"]))
            shown = json.loads(self.service.command("task", "show", task["id"], "--report", "json"))
            self.assertEqual({name: shown[name] for name in task}, task)
            self.assertEqual(shown["plan"]["shipperName"], "rule")

    def test_verify_finds_changed_and_deleted_objects(self):
        self.sdk("create_shipper", detail("rule", "lake"))
        self.put()
        self.wait_for_tasks("rule", 2, "success")
        one, other = self.objects("rule")
        one.write_bytes(one.read_bytes()[:-1])
        other.unlink()
        done = self.service.run("verify")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, f"{one.name}: found .* bytes")
        self.assertIn(f"{other.name}: the object is missing", done.stdout)
        self.assertIn("0 of 2 objects", done.stdout)


class Retries(Case):
    shards = 12

    def test_retries_one_ten_or_all_failed_tasks(self):
        self.sdk("create_shipper", detail("rule", "later"))
        self.put()
        self.wait_for_tasks("rule", self.shards, "failed")
        now = int(time.time())
        ids = self.sdk("get_shipper_tasks", "rule", now - 3600, now + 60, "fail").get_fail_task_ids()
        self.assertEqual(len(ids), self.shards)
        self.service.bucket("later")
        status, code, message = self.refusal("retry_shipper_tasks", "rule", ids[:11])
        self.assertEqual((status, code), (400, "ParameterInvalid"))
        self.assertIn("10 task retries only", message)
        self.assertEqual(self.objects("rule"), [])
        self.sdk("retry_shipper_tasks", "rule", ids[:1])
        self.assertEqual([task["id"] for task in self.wait_for_tasks("rule", 1, "success")], ids[:1])
        # One of the rules no longer needs it.
        self.sdk("retry_shipper_tasks", "rule", ids[:10])
        self.wait_for_tasks("rule", 10, "success")
        self.assertIn("retrying 1 task now", self.service.command("task", "retry", ids[10]))
        self.wait_for_tasks("rule", 11, "success")
        self.assertIn("have not failed", self.service.refused("task", "retry", ids[0]))
        self.assertIn("retrying 1 task now", self.service.command("task", "retry", "--all-failed"))
        self.wait_for_tasks("rule", 12, "success")
        self.wait_until_shipped("rule")

    def test_retry_of_all_obeys_filters(self):
        for rule in "one", "two":
            self.sdk("create_shipper", detail(rule, "later"))
        self.put()
        for rule in "one", "two":
            self.wait_for_tasks(rule, self.shards, "failed")
        self.service.bucket("later")
        narrow = ("--rule", "one", "--shard", "3")
        self.assertIn("retrying 1 task now", self.service.command("task", "retry", "--all-failed", *narrow))
        (task,) = self.wait_for_tasks("one", 1, "success")
        self.assertEqual(task["shard"], 3)
        self.assertEqual(len(self.service.tasks("--status", "failed")), 2 * self.shards - 1)


class Replays(Case):
    def test_replay_makes_same_bytes(self):
        columns = ("--columns", typed_logs.parquet_columns())
        formats = {
            "json": ("--format", "json", "--compression", "snappy"),
            "csv": ("--format", "csv", "--columns", ",".join(typed_logs.COLUMNS), "--compression", "gzip"),
            "parquet": ("--format", "parquet", *columns, "--compression", "snappy"),
        }
        # Larger than objects, which end within a log group then.
        typed_logs.put(self.service, self.logstore.name, range(50_000))
        for name, options in formats.items():
            self.service.command(*self.rule("create", name, "--bucket", "lake", "--size", "5", *options))
        for name in formats:
            with self.subTest(format=name):
                for task in self.wait_until_all_shipped(name, 50_000):
                    again = self.service.folder / "again"
                    said = self.service.command("task", "replay", task["id"], "--to", again)
                    self.assertIn("identical to the task's object", said)
                    made, here = self.lake / task["object"], again / task["object"]
                    self.assertEqual(here.read_bytes(), made.read_bytes())
        self.assertTrue(any("+" in task["begin"] for task in self.service.tasks()), "none begins within a log group")

    def wait_until_all_shipped(self, rule, logs):
        def found():
            tasks = self.service.tasks("--rule", rule)
            return tasks if sum(task["rows"] or 0 for task in tasks) >= logs else None

        return wait_for(found, message=f"{rule} ships too little")
