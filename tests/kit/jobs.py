"""A test case with a service, a Logstore and a fake MaxCompute that jobs write to."""

import json
import time
import unittest

from aliyun.log import LogItem, PutLogsRequest

from kit import service
from kit.fakes import maxcompute
from kit.waiting import wait_for

# The script of the guide; the rest of the documents' "…" is filled in by tests.
GUIDE = """{ "type": "job", "version": "1.0",
  "configuration": {
    "reader": { "plugin": "loghub", "parameter": {
      "datasource": "my_loghub", "logstore": "logs", // the Logstore
      "beginDateTime": "${startTime}", "endDateTime": "${endTime}",
      "batchSize": 256, "splitPk": "",
      "column": ["key1", "key2"] } },
    "writer": { "plugin": "odps", "parameter": {
      "datasource": "odps_first", "table": "ok", "truncate": true, "partition": "pt=${startTime}",
      "column": ["key1", "key2"] } },
    "setting": { "speed": { "mbps": 8, "concurrent": 7 }, "errorLimit": { "record": "5" } } } }"""


def timestamp(seconds):
    """A time as jobs write it, in UTC."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))


def window(begin, end):
    """The parameters of a run."""
    return "--param", f"startTime={timestamp(begin)}", "--param", f"endTime={timestamp(end)}"


class Case(unittest.TestCase):
    shards = 2
    settings = ""

    def setUp(self):
        self.maxcompute = maxcompute.Server()
        self.addCleanup(self.maxcompute.close)
        self.key = self.maxcompute.keys.add()
        self.maxcompute.add_table("ok", ["key1 string", "key2 string"], ["pt string"])
        self.service = service.Service(self, settings=self.settings_text())
        self.logstore = self.service.logstore(shards=self.shards)
        self.begin = int(time.time())

    def settings_text(self):
        return f"""
[shipping]
retry-seconds = 1
[sources.my_loghub]
type = "loghub"
[sources.odps_first]
type = "odps"
endpoint = "{self.maxcompute.endpoint}"
project = "logs"
access-key-id = "{self.key.id}"
access-key-secret = "{self.key.secret}"
{self.settings}"""

    def put(self, *logs):
        """Puts logs, one log group each, to the shards in turn."""
        client = self.logstore.client
        shards = client.list_shards(service.PROJECT, "logs").get_shards_info()
        for number, log in enumerate(logs):
            item = LogItem(contents=list(log.items()))
            key = shards[number % len(shards)]["inclusiveBeginKey"]
            client.put_logs(PutLogsRequest(service.PROJECT, "logs", "", "", [item], hashKey=key))

    def put_many(self, count, start=0):
        """Puts logs with rising numbers, and returns their rows."""
        rows = [(f"a{number}", f"b{number}") for number in range(start, start + count)]
        client = self.logstore.client
        shards = client.list_shards(service.PROJECT, "logs").get_shards_info()
        for number, shard in enumerate(shards):
            items = [LogItem(contents=[("key1", one), ("key2", two)]) for one, two in rows[number :: len(shards)]]
            for first in range(0, len(items), 500):
                part = items[first : first + 500]
                key = shard["inclusiveBeginKey"]
                client.put_logs(PutLogsRequest(service.PROJECT, "logs", "", "", part, hashKey=key))
        return sorted(rows)

    def script(self, script=GUIDE, name="job.json"):
        file = self.service.folder / name
        file.write_text(script)
        return file

    def create(self, script=GUIDE, *options, name="job"):
        return self.service.command("job", "create", "-f", self.script(script, f"{name}.json"), *options)

    def end_second(self):
        """Waits until logs that arrive now are in another second. Returns the second."""
        now = int(time.time())
        wait_for(lambda: time.time() >= now + 1.05)
        return now + 1

    def run_job(self, *options, name="job"):
        """Runs a job to its end. Returns the run."""
        done = self.service.run("job", "run", name, *options)
        run = self.runs(name)[0]
        return done, run

    def runs(self, name="job"):
        return self.service.json("job", "runs", name, "--report", "json")

    def show(self, run, name="job"):
        return self.service.json("job", "show", name, str(run), "--report", "json")

    def rows(self, partition, table="ok"):
        return sorted(self.maxcompute.rows(table, partition))

    def all_rows(self, table="ok"):
        return sorted(
            (row for partition in self.maxcompute.partitions(table) for row in self.maxcompute.rows(table, partition)),
            key=json.dumps,
        )

    def wait_for_end(self, run, name="job"):
        def ended():
            shown = self.show(run, name)
            return shown if shown["state"] not in ("waiting", "running") else None

        return wait_for(ended, message="the run does not end", every=0.1)
