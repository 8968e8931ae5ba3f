"""Rules that ship to object stores: each log is in one object, whatever happens meanwhile."""

import hashlib
import math
import random
import time
import unittest

import cramjam
import duckdb
import pytest
import snappy
from aliyun.log.proto import LogGroup

from kit import service, soak, typed_logs
from kit.object_stores import Moto, S3Server
from kit.waiting import wait_for

SETTINGS = """
[shipping]
longest-wait-seconds = {wait}
retry-seconds = 2
"""
# Seconds in which everything has to be shipped that was put.
PATIENCE = 300
MB = 1_000_000
PART = 8 << 20


class Case(unittest.TestCase):
    shards = 2
    wait = 2

    def serve(self, store):
        self.store = store
        self.service = service.Service(self, settings=SETTINGS.format(wait=self.wait) + store.settings("lake"))
        self.logstore = self.service.logstore(shards=self.shards)

    def ship(self, name, *options):
        place = ("--logstore", self.logstore.name, "--bucket", self.store.bucket, "--destination", "lake")
        self.service.command("rule", "create", name, *place, "--prefix", name, *options)

    def wait_until_shipped(self, rule, logs):
        """The tasks of a rule, once they have shipped so many logs, or more."""

        def all_are():
            tasks = self.service.tasks("--rule", rule)
            are_done = all(task["taskStatus"] == "success" for task in tasks)
            return tasks if are_done and sum(task["rows"] for task in tasks) >= logs else None

        return wait_for(all_are, PATIENCE, f"{rule} ships too few logs", every=0.5)

    def check_objects(self, tasks):
        """The store has the objects of the tasks and no others, and they are what the tasks say."""
        self.assertEqual(self.store.keys(), sorted(task["object"] for task in tasks))
        count = len(tasks)
        self.assertIn(f"{count} of {count} objects match their tasks", self.service.command("verify"))

    def check_metadata(self, tasks):
        """The objects say themselves what they are."""
        for task in tasks:
            said = self.store.metadata(task["object"])
            of_task = {"task": task["id"], "sha256": task["sha256"], "rows": str(task["rows"])}
            self.assertEqual({name: said.get(f"logship-{name}") for name in of_task}, of_task)

    def download(self, tasks, unpack=bytes):
        """The objects of tasks, as files."""
        files = []
        for number, task in enumerate(tasks):
            files.append(self.service.folder / f"object-{number}")
            files[-1].write_bytes(unpack(self.store.read(task["object"])))
        return files


class ManyLogs(Case):
    shards = 8

    @pytest.mark.soak
    def test_ships_each_log_once_to_s3_as_parquet(self):
        self.serve(S3Server(self))
        # Fewer logs may miss a shard, as the service chooses shards at random.
        logs = soak.scaled(1_000_000, least=250_000)
        columns = ("--columns", typed_logs.parquet_columns())
        self.ship("to-parquet", "--format", "parquet", "--compression", "snappy", "--size", "5", *columns)
        begun = time.monotonic()
        typed_logs.put(self.service, self.logstore.name, range(logs))
        put = time.monotonic()
        tasks = self.wait_until_shipped("to-parquet", logs)
        print(f"\n{logs} logs put in {put - begun:.0f} s, in {len(tasks)} objects {time.monotonic() - put:.0f} s later")
        self.assertEqual({task["shard"] for task in tasks}, set(range(self.shards)))
        self.assertLessEqual(max(task["rawBytes"] for task in tasks), 5 * MB)
        typed_logs.check(self, typed_logs.read_parquet(self.store.path(task["object"]) for task in tasks), logs)
        self.check_objects(tasks)
        self.check_metadata(tasks)


class Formats(Case):
    def test_duckdb_reads_compressed_json_and_csv(self):
        self.serve(Moto(self))
        logs = 50_000
        self.ship("to-json", "--format", "json", "--compression", "snappy")
        self.ship("to-csv", "--format", "csv", "--columns", ",".join(typed_logs.COLUMNS))
        typed_logs.put(self.service, self.logstore.name, range(logs))
        json, csv = [self.wait_until_shipped(rule, logs) for rule in ("to-json", "to-csv")]
        for unpack in snappy.uncompress, cramjam.snappy.decompress_raw:
            with self.subTest(unpack=unpack):
                typed_logs.check(self, typed_logs.read_json(self.download(json, unpack)), logs)
        typed_logs.check(self, typed_logs.read_csv(self.download(csv)), logs)
        self.check_objects(json + csv)
        self.check_metadata(json + csv)


class Kills(Case):
    kills = 8

    def test_ships_each_log_once_despite_kills(self):
        seed = random.randrange(1 << 32)
        moments = random.Random(seed)
        self.serve(S3Server(self))
        logs = 500_000
        typed_logs.put(self.service, self.logstore.name, range(logs))
        self.ship("to-json", "--format", "json", "--compression", "gzip", "--size", "5")
        for _ in range(self.kills):
            time.sleep(moments.uniform(0.1, 0.7))
            self.service.kill()
            self.service.start()
        tasks = self.wait_until_shipped("to-json", logs)
        again = sum(task["attempts"] > 1 for task in tasks)
        print(f"\n{again} of {len(tasks)} tasks were cut off and done again (seed {seed})")
        self.assertGreater(again, 0)
        typed_logs.check(self, typed_logs.read_json(self.store.path(task["object"]) for task in tasks), logs)
        self.check_objects(tasks)
        # This server has an object before its metadata, and forgets these when its client is gone.
        self.check_metadata([task for task in tasks if task["attempts"] == 1])
        self.assertEqual(list((self.service.data / "spool").iterdir()), [])


class LargeObjects(Case):
    shards = 1
    # An object can fill.
    wait = 20

    def test_ships_large_objects(self):
        self.ship_large_logs(S3Server(self))

    def test_ships_large_objects_in_parts(self):
        largest = self.ship_large_logs(Moto(self))
        self.assertEqual(self.store.parts(largest["object"]), math.ceil(largest["storedBytes"] / PART))

    def ship_large_logs(self, store):
        """Ships logs that can't be compressed. Returns the task of the largest object."""
        self.serve(store)
        logs, most = 300, 40
        for first in range(0, logs, 20):
            self.logstore.put(large_group(range(first, first + 20)))
        self.ship("to-json", "--format", "json", "--size", str(most))
        tasks = self.wait_until_shipped("to-json", logs)
        self.check_objects(tasks)
        self.check_metadata(tasks)
        self.check_payloads(self.download(tasks), logs)
        largest = max(tasks, key=lambda task: task["storedBytes"])
        self.assertGreater(largest["storedBytes"], 2 * PART)
        self.assertLessEqual(largest["storedBytes"], most * MB)
        return largest

    def check_payloads(self, files, logs):
        columns = {"id": "BIGINT", "payload": "VARCHAR", "digest": "VARCHAR"}
        names = [str(file) for file in files]
        rows = duckdb.read_json(names, format="newline_delimited", columns=columns, maximum_object_size=MB)
        found = "count(*), count(DISTINCT id), min(id), max(id), count_if(md5(payload) IS DISTINCT FROM digest)"
        self.assertEqual(rows.aggregate(found).fetchall(), [(logs, logs, 0, logs - 1, 0)])


def large_group(ids):
    """Logs of 200 kB that can't be compressed."""
    made = LogGroup()
    for number in ids:
        payload = random.Random(number).randbytes(100_000).hex()
        digest = hashlib.md5(payload.encode()).hexdigest()
        log = made.Logs.add(Time=int(time.time()))
        for key, value in ("id", str(number)), ("payload", payload), ("digest", digest):
            log.Contents.add(Key=key, Value=value)
    return made
