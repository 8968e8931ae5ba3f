"""Rules on a disk that gets full while logs are put: nothing that was acknowledged is lost, and once there is space,
everything is shipped once."""

import random
import subprocess
import time
import unittest

import pytest

from kit import service, soak
from kit.object_stores import S3Server
from kit.waiting import wait_for
from kit.writers import end, read_json, twice, write

SMALL, LARGE = 48 << 20, 2 << 30
WRITERS, LOGS, PATIENCE = 4, 500, 120
SETTINGS = """
[shipping]
longest-wait-seconds = 1
retry-seconds = 1
"""


class SmallDisk(service.Service):
    """A service whose data directory is a small disk of its own."""

    def __init__(self, test, **options):
        self.test = test
        super().__init__(test, **options)

    def start(self):
        if not self.data.exists():
            self.data.mkdir()
            if self.mount(f"mode=0700,size={SMALL}").returncode:
                raise unittest.SkipTest("only root can mount a small disk")
            # The service still runs when this is called.
            self.test.addCleanup(subprocess.run, ["umount", "--lazy", self.data])
        super().start()

    def mount(self, options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.data], capture_output=True)

    def grow(self):
        """Gives the disk more space."""
        assert self.mount(f"remount,size={LARGE}").returncode == 0


class FullDisk(unittest.TestCase):
    @pytest.mark.soak
    def test_rules_ship_each_log_once_after_a_full_disk(self):
        store = S3Server(self)
        self.service = SmallDisk(self, settings=SETTINGS + store.settings("s3"))
        self.service.logstore(shards=2)
        lake = self.service.bucket("lake")
        rule = ("--logstore", "logs", "--format", "json", "--bucket")
        self.service.command("rule", "create", "to-s3", *rule, store.bucket, "--destination", "s3")
        self.service.command("rule", "create", "to-directory", *rule, "lake")
        chance = random.Random(1)
        # What can't be compressed well.
        writers, ended = write(self, self.service, WRITERS, logs=LOGS, pad=lambda: chance.randbytes(300).hex())
        wait_for(lambda: all(writer.refused for writer in writers), PATIENCE, "the disk never gets full")
        before = sum(writer.acknowledged for writer in writers)
        self.assertGreater(before, 0)
        # Tasks meet the full disk too.
        time.sleep(2)
        self.assertEqual(self.service.request("GET", "/readyz").status, 503)
        self.assertEqual(self.service.request("GET", "/healthz").status, 200)
        self.service.grow()
        logs = end(writers, ended)
        wait_for(lambda: self.service.request("GET", "/readyz").status == 200, message="it is not ready again")
        # A rule that could make no task tries again after half a minute, or when the service starts.
        if soak.SCALE < 1:
            self.service.restart()
        self.service.command("task", "retry", "--all-failed")
        refused = {refusal for writer in writers for refusal in writer.refused}
        self.assertEqual(refused, {(500, "InternalServerError")})
        count = sum(len(writer.refused) for writer in writers)
        print(f"\n{before:,} logs acknowledged, {count} puts refused, {logs - before:,} logs acknowledged with more space")
        found = {
            "to-s3": [store.path(task["object"]) for task in self.wait_until_shipped("to-s3", logs)],
            "to-directory": [lake / task["object"] for task in self.wait_until_shipped("to-directory", logs)],
        }
        for name, objects in found.items():
            ids = read_json(objects)
            self.assertEqual((len(ids.unique()), twice(ids), max(ids.to_pylist())), (logs, 0, logs - 1), name)
        objects = sum(map(len, found.values()))
        self.assertIn(f"{objects} of {objects} objects match their tasks", self.service.command("verify"))
        self.service.command("verify", "--store")
        self.assertNotIn("panicked", self.service.log.read_text())

    def wait_until_shipped(self, rule, logs):
        """The tasks of a rule, once they have all logs."""

        def shipped():
            tasks = [task for task in self.service.tasks("--rule", rule) if task["taskStatus"] == "success"]
            return tasks if sum(task["rows"] for task in tasks) >= logs else None

        return wait_for(shipped, PATIENCE, lambda: f"{rule}: {self.service.tasks('--rule', rule)[0]}", every=0.5)
