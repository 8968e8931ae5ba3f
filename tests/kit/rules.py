"""A test case with a service, a logstore and rules that ship it to a directory."""

import json
import unittest

from aliyun.log import LogException, LogItem, PutLogsRequest

from kit import service
from kit.waiting import wait_for

SETTINGS = """
[shipping]
longest-wait-seconds = 1
"""
# Seconds in which a task is made, with a large margin.
WHILE = 4
JSON = {"format": "json", "detail": {}}
OSS = {"bufferInterval": 300, "bufferSize": 5, "compressType": "none", "pathFormat": "%Y/%m", "enable": True}


def detail(name, bucket, **configuration):
    """A rule as the SDK sends it."""
    configuration = {"ossBucket": bucket, "ossPrefix": name, "storage": JSON, **OSS, **configuration}
    return {"shipperName": name, "targetType": "oss", "targetConfiguration": configuration}


class Case(unittest.TestCase):
    shards = 1
    settings = SETTINGS

    def setUp(self):
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore(shards=self.shards)
        self.client = self.logstore.client
        self.lake = self.service.bucket("lake")
        self.count = 0

    def sdk(self, call, *arguments):
        """Calls the SDK about rules of the logstore."""
        return getattr(self.client, call)(service.PROJECT, self.logstore.name, *arguments)

    def refusal(self, call, *arguments):
        """Status, code and message of a rejected call."""
        with self.assertRaises(LogException) as refused:
            self.sdk(call, *arguments)
        error = refused.exception
        return error.get_resp_status(), error.get_error_code(), error.get_error_message()

    def rule(self, action, *arguments):
        return "rule", action, "--logstore", self.logstore.name, *arguments

    def configuration(self, name):
        return self.sdk("get_shipper", name).get_entity()["targetConfiguration"]

    def put(self, logs=10):
        """Puts so many more logs to each shard."""
        shards = self.client.list_shards(service.PROJECT, self.logstore.name).get_shards_info()
        for shard in shards:
            ids = range(self.count, self.count + logs)
            self.count += logs
            items = [LogItem(contents=[("id", str(number))]) for number in ids]
            key = shard["inclusiveBeginKey"]
            self.client.put_logs(PutLogsRequest(service.PROJECT, self.logstore.name, "", "", items, hashKey=key))

    def objects(self, prefix):
        """The files of the objects below a prefix."""
        folder = self.lake.parent
        return sorted(path for path in folder.glob(f"*/{prefix}/**/*") if path.is_file())

    def ids(self, prefix):
        """The ids of all logs in JSON objects."""
        lines = [line for path in self.objects(prefix) for line in path.read_text().splitlines()]
        return sorted(int(json.loads(line)["id"]) for line in lines)

    def wait_until_shipped(self, prefix):
        """Until all logs are in JSON objects, once each."""
        wait_for(lambda: len(self.ids(prefix)) >= self.count, message=f"{prefix} ships too little")
        self.assertEqual(self.ids(prefix), list(range(self.count)))

    def wait_for_tasks(self, rule, count, status):
        """The tasks of a rule with a status, once there are so many."""

        def found():
            tasks = self.service.tasks("--rule", rule, "--status", status)
            return tasks if len(tasks) >= count else None

        tasks = wait_for(found, message=f"{rule} has no {count} tasks with status {status}")
        self.assertEqual(len(tasks), count)
        return tasks
