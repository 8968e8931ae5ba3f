"""Writers, and rules to an S3 server, a directory and a collector, while the service ends and is killed again and
again: each acknowledged log is stored and shipped once."""

import random
import time
import unittest
from array import array

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

from kit import service, siem_rules, soak
from kit.fakes.hec import TOKEN, Collector
from kit.object_stores import S3Server
from kit.waiting import wait_for
from kit.writers import end, read_json, twice, write

ENDS, KILLS, WRITERS, SHARDS = soak.scaled(5), soak.scaled(15), 4, 2
# Logs of a put.
LOGS = soak.scaled(1000, least=200)
# Seconds from a start of the service to its end, at most.
LONGEST = soak.scaled(3)
# Seconds until everything is shipped.
PATIENCE = 600
RULES = "to-json", "to-parquet", "to-events"
SETTINGS = """
[shipping]
longest-wait-seconds = 2
retry-seconds = 1
"""


class Kills(unittest.TestCase):
    def setUp(self):
        self.collector, self.store = Collector(), S3Server(self)
        self.collector.records = False
        self.addCleanup(self.collector.close)
        receiver = siem_rules.RECEIVER.format(name="soc", collector=self.collector, token=TOKEN, requests=4)
        settings = SETTINGS + self.store.settings("s3") + receiver
        self.service = service.Service(self, settings=settings)
        # The file has tokens.
        self.service.settings.chmod(0o600)
        self.logstore = self.service.logstore(shards=SHARDS)
        self.lake = self.service.bucket("lake")
        self.rule("create", "to-json", "--bucket", self.store.bucket, "--destination", "s3", "--format", "json")
        columns = ("--columns", "id:int64,pad:string", "--compression", "snappy")
        self.rule("create", "to-parquet", "--bucket", "lake", "--format", "parquet", *columns)
        self.rule("send", "to-events", "--receiver", "soc")
        self.sent = array("q")
        self.seed = random.randrange(1 << 32)
        self.moments = random.Random(self.seed)

    def rule(self, action, name, *options):
        self.service.command("rule", action, name, "--logstore", "logs", *options)

    @pytest.mark.soak
    def test_acknowledged_logs_are_stored_and_shipped_once(self):
        begun = time.monotonic()
        writers, ended = write(self, self.service, WRITERS, logs=LOGS)
        for _ in range(ENDS):
            self.end_service(self.service.terminate)
        self.wait_a_moment()
        self.assertEqual(twice(self.sent_ids()), 0, "an orderly end repeats no event")
        # Repeated puts may meet a split shard.
        self.logstore.client.split_shard(service.PROJECT, "logs", 0, "4" + "0" * 31)
        for _ in range(KILLS):
            self.end_service(self.service.kill)
        logs, unanswered = end(writers, ended), sum(writer.unanswered for writer in writers)
        self.assertEqual([writer.refused for writer in writers], [[]] * WRITERS)
        print(f"\nSIGTERM {ENDS} times, SIGKILL {KILLS} times in {time.monotonic() - begun:.0f} s (seed {self.seed}):")
        print(f"{logs:,} logs acknowledged, {unanswered} requests without a reply")
        self.check(logs)

    def end_service(self, how):
        """Ends the service after a moment, and starts it again."""
        self.wait_a_moment()
        how()
        self.service.code()
        self.service.start()

    def wait_a_moment(self):
        time.sleep(self.moments.uniform(0.3, LONGEST))
        self.collect()

    def collect(self):
        """Moves the ids of the collector's events to `sent`, so that it does not keep millions of them."""
        with self.collector.lock:
            events, self.collector.events = self.collector.events, []
        self.sent.extend(siem_rules.number(event) for event in events)

    def check(self, logs):
        """Each log is stored once, in an object of each rule once, and in the collector at least once."""
        tasks = {rule: self.wait_until_shipped(rule, logs) for rule in RULES}
        found = {
            "stored": self.stored_ids(),
            "to-json": read_json(self.store.path(task["object"]) for task in tasks["to-json"]),
            "to-parquet": read_parquet(self.lake / task["object"] for task in tasks["to-parquet"]),
            "to-events": self.sent_ids(),
        }
        # The tasks that were in flight when the service was killed.
        again = {rule: [task for task in found if task["attempts"] > 1] for rule, found in tasks.items()}
        for place, ids in found.items():
            lost, extremes = logs - len(ids.unique()), pyarrow.compute.min_max(ids).as_py()
            print(f"{place}: {lost} lost, {twice(ids)} twice; {len(again.get(place, ()))} tasks had several attempts")
            self.assertEqual((lost, extremes), (0, {"min": 0, "max": logs - 1}), place)
            events = sum(task["rows"] * (task["attempts"] - 1) for task in again["to-events"])
            self.assertLessEqual(twice(ids), events if place == "to-events" else 0, place)
        self.check_verification(tasks)

    def check_verification(self, tasks):
        """The objects are those of the tasks, and the store and all objects have the bytes that were made."""
        self.assertEqual(self.store.keys(), sorted(task["object"] for task in tasks["to-json"]))
        files = sorted(str(path.relative_to(self.lake)) for path in self.lake.rglob("*") if path.is_file())
        self.assertEqual(files, sorted(task["object"] for task in tasks["to-parquet"]))
        self.assertEqual(list((self.service.data / "spool").iterdir()), [])
        count = len(tasks["to-json"]) + len(tasks["to-parquet"])
        self.assertIn(f"{count} of {count} objects match their tasks", self.service.command("verify"))
        print(self.service.command("verify", "--store").strip())

    def wait_until_shipped(self, rule, logs):
        """The tasks of a rule, once they have all logs."""

        def shipped():
            self.collect()
            tasks = self.service.tasks("--rule", rule)
            done = all(task["taskStatus"] == "success" for task in tasks)
            return tasks if done and sum(task["rows"] for task in tasks) >= logs else None

        return wait_for(shipped, PATIENCE, f"{rule} ships too few logs", every=0.5)

    def sent_ids(self):
        """The ids of the events that the collector has accepted."""
        self.collect()
        return pyarrow.array(self.sent, pyarrow.int64())

    def stored_ids(self):
        """The ids of the logs in the store."""
        file = self.service.folder / "stored.ndjson"
        file.write_text(self.service.command("tail", "logs", "--from", "begin", "--no-follow"))
        return read_json([file])


def read_parquet(files):
    tables = [pyarrow.parquet.read_table(file, columns=["id"]) for file in files]
    return pyarrow.concat_tables(tables).column("id")
