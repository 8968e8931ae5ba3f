"""Tasks with several objects, one for each hour of their logs: the second one fails, or the service ends beside it."""

import hashlib
import json
import random

from aliyun.log.proto import LogGroup

from kit.fakes.faults import INTERNAL_ERROR
from kit.oss_client import BUCKET
from kit.process import temporary_folder
from kit.shipping import ABORTED, PATIENCE, Shipping, ShippingCase, files_below, numbers, read_all

STEPS = "Begun", "Made", "ManifestSaved", "PartlyPublished", "Published", "Settled"
# 2026-11-23 17:00 UTC, and how many hours there are.
BEGIN, HOURS = 1_795_453_200, 3
LOGS = 300
OPTIONS = "--partition-by", "hour", "--partition", "ds=%Y%m%d/%H"


class Partitions(ShippingCase):
    def serve(self, lake, environment=None):
        served = Shipping(self, lake)
        logstore = served.logstore()
        logstore.put(hourly())
        if environment:
            served.environment = environment
            served.restart()
        return served, logstore

    def check(self, rule, bodies=None):
        """Each log is in the object of its own hour, once, and the task knows of all of them."""
        rule.wait_until_shipped(1)
        found = self.bodies(rule.bucket) if bodies is None else bodies()
        (task,) = rule.tasks()
        objects = task["objects"]
        self.assertEqual([task["taskStatus"], len(objects), task["rows"]], ["success", HOURS, LOGS])
        self.assertEqual(sorted(each["object"] for each in objects), sorted(found))
        self.assertEqual(task["object"], objects[0]["object"])
        for each in objects:
            body = found[each["object"]]
            self.assertEqual([each["storedBytes"], each["sha256"]], [len(body), hashlib.sha256(body).hexdigest()])
            self.assertIn(task["id"], each["object"])
            hours = {(json.loads(line)["__time__"] - BEGIN) // 3600 for line in body.splitlines()}
            self.assertEqual([f"ds=20261123/{17 + hour}" for hour in hours], [each["object"].split("_")[0]])
        self.assertEqual(numbers(found.values()), list(range(LOGS)))
        self.assertEqual(rule.served.spool(), [])
        verified = rule.served.command("verify", "--rule", rule.name)
        self.assertIn(f"{HOURS} of {HOURS} objects match their tasks: {LOGS} logs", verified)
        return task

    def test_retry_sends_only_missing_object(self):
        served, logstore = self.serve(self.lake())
        second = lambda request: request.method == "PUT" and "/18_" in request.path.replace("%2F", "/")  # noqa: E731
        self.proxy.inject(INTERNAL_ERROR, when=second, times=None)
        rule = served.rule(logstore, BUCKET, *OPTIONS)
        failed = rule.wait_for_failure()
        self.assertIn("InternalError: Injected.", failed["taskMessage"])
        first = self.bodies()
        self.assertEqual([key.split("_")[0] for key in first], ["ds=20261123/17"])
        # The manifest of all objects stays, and the objects match it.
        self.assertEqual(len(failed["objects"]), HOURS)
        self.proxy.clear()
        served.retry()
        task = self.check(rule)
        self.assertEqual(task["objects"], failed["objects"])
        sent = [call.key for call in self.server.calls if call.operation == "PutObject" and call.status == 200]
        self.assertEqual(len(sent), len(set(sent)), "one was sent twice")

    def test_survives_abort_at_each_step(self):
        for step in STEPS:
            with self.subTest(step=step):
                bucket = step.lower()
                self.server.create_bucket(bucket)
                self.check(self.crash(step, self.lake(), bucket))

    def test_survives_abort_at_each_step_with_directory(self):
        for step in STEPS:
            with self.subTest(step=step):
                folder = temporary_folder(self)
                (folder / BUCKET).mkdir()
                rule = self.crash(step, {"type": "directory", "path": str(folder)}, BUCKET)
                self.check(rule, lambda: read_all(folder / BUCKET))

    def crash(self, step, lake, bucket):
        """A rule whose task ended the service at a step. The service runs again, without that."""
        served, logstore = self.serve(lake, {"FAILPOINT": step})
        rule = served.rule(logstore, bucket, *OPTIONS)
        self.assertEqual(served.process.wait(PATIENCE), ABORTED)
        served.environment = {}
        served.start()
        return rule

    def test_replays_all_objects_of_task(self):
        served, logstore = self.serve(self.lake())
        rule = served.rule(logstore, BUCKET, *OPTIONS)
        task = self.check(rule)
        folder = temporary_folder(self)
        made = served.command("task", "replay", task["id"], "--to", folder)
        self.assertEqual(made.count("identical to the task's object"), HOURS)
        self.assertEqual({file: (folder / file).read_bytes() for file in files_below(folder)}, self.bodies())
        shown = served.command("task", "show", task["id"])
        listed = served.command("task", "list", "--rule", rule.name)
        self.assertIn(f"{task['object']} and {HOURS - 1} more", listed)
        for each in task["objects"]:
            self.assertIn(each["object"], shown)
            stored = self.server.buckets[BUCKET][each["object"]]
            self.assertEqual(stored.headers["x-oss-meta-logship-task"], task["id"])

    def test_verify_finds_changed_and_deleted_objects(self):
        served, logstore = self.serve(self.lake())
        rule = served.rule(logstore, BUCKET, *OPTIONS)
        task = self.check(rule)
        gone = task["objects"][1]["object"]
        del self.server.buckets[BUCKET][gone]
        verified = served.run("verify", "--rule", rule.name)
        self.assertNotEqual(verified.returncode, 0)
        self.assertIn(f"{gone}: the object is missing", verified.stdout)
        self.assertIn(f"{HOURS - 1} of {HOURS} objects match their tasks", verified.stdout)


def hourly():
    """Logs of the hours, in no order."""
    times = [BEGIN + 3600 * (number % HOURS) for number in range(LOGS)]
    # The first decides which object is the first.
    times[1:] = random.Random(3).sample(times[1:], LOGS - 1)
    made = LogGroup()
    for number, time in enumerate(times):
        log = made.Logs.add()
        log.Time = time
        content = log.Contents.add()
        content.Key, content.Value = "number", str(number)
    return made
