"""A service whose rules write to the fake of MaxCompute, and checks of the rows there."""

import unittest

from aliyun.log import LogItem, PutLogsRequest
from aliyun.log.proto import LogGroup

from kit import service
from kit.fakes import maxcompute
from kit.waiting import PATIENCE, wait_for

SETTINGS = """
[shipping]
longest-wait-seconds = 1
retry-seconds = 1
"""
COLUMNS = ["number bigint", "text string", "ratio double", "topic string"]
FIELDS = ["number", "text", "ratio", "__topic__"]
# 2026-12-01 00:00:00 UTC.
MIDNIGHT = 1_796_083_200
HALF_HOUR = 1800


class Case(unittest.TestCase):
    """A test with the fake, a table with a partition column, a service and a logstore."""

    shards = 1
    settings = SETTINGS

    def setUp(self):
        self.server = maxcompute.Server()
        self.addCleanup(self.server.close)
        self.key = self.server.keys.add()
        self.table = self.server.add_table("t", COLUMNS, ["pt string"])
        self.served = service.Service(self, settings=self.settings)
        self.logstore = self.served.logstore(shards=self.shards)
        self.count = 0

    def configuration(self, **more):
        """A rule's configuration as clients of Log Service send it."""
        return {
            **{"odpsEndpoint": self.server.endpoint, "odpsProject": self.server.project, "odpsTable": "t"},
            **{"odpsAccessKeyId": self.key.id, "odpsAccessSecret": self.key.secret, "fields": FIELDS},
            **{"partitionColumn": ["__partition_time__"], "partitionTimeFormat": "%Y%m%d_%H%M"},
            **{"bufferInterval": "1800", **more},
        }

    def rule(self, name="to-t", **more):
        body = {"shipperName": name, "targetType": "odps", "targetConfiguration": self.configuration(**more)}
        self.logstore.client.create_shipper(service.PROJECT, self.logstore.name, body)
        return name

    def put(self, logs, groups=1, dirty=0, partitions=2, topic="web", shard=None):
        """Puts numbered logs, alternately of so many half hours. The last `dirty` of each group have no number."""
        for group in range(groups):
            made = LogGroup()
            made.Topic = topic
            for index in range(logs // groups):
                log = made.Logs.add()
                log.Time = MIDNIGHT + index % partitions * HALF_HOUR
                number = f"x{self.count}" if index >= logs // groups - dirty else str(self.count)
                for name, value in (("number", number), ("text", f"héllo {self.count}"), ("ratio", "1.5")):
                    content = log.Contents.add()
                    content.Key, content.Value = name, value
                self.count += 1
            if shard is None:
                self.logstore.put(made)
            else:
                request = PutLogsRequest(service.PROJECT, self.logstore.name, topic, "", items(made), hashKey=shard)
                self.logstore.client.put_logs(request)

    def numbers(self):
        """The numbers of all committed rows."""
        return sorted(row[0] for partition in self.server.partitions("t") for row in self.server.rows("t", partition))

    def tasks(self):
        return self.served.tasks("--rule", "to-t")

    def wait_for_rows(self, count, patience=PATIENCE):
        """Waits until so many rows are committed and all tasks have succeeded."""

        def done():
            if sum(self.server.partitions("t").values()) < count:
                return False
            return all(task["taskStatus"] == "success" for task in self.tasks())

        wait_for(done, patience, lambda: f"{self.server.partitions('t')} {self.tasks()} {self.served.said()}", 0.2)

    def assert_once(self, logs, dirty=()):
        """Checks that each log but the dirty ones is a committed row, once."""
        self.wait_for_rows(logs - len(dirty))
        self.assertEqual([number for number in range(logs) if number not in set(dirty)], self.numbers())
        tasks = self.tasks()
        self.assertEqual(logs - len(dirty), sum(task["rows"] for task in tasks))
        self.assertEqual(len(dirty), sum(task["lostValues"] for task in tasks))

    def letters(self):
        """The dead letters of dirty rows, by their objects."""
        place = ("--dead-letters", self.served.data / "dead-letters", "--report", "json")
        return self.served.json("deadletter", "list", *place)


def items(group):
    """The logs of a group as the SDK takes them for a shard of choice."""
    return [LogItem(log.Time, contents=[(field.Key, field.Value) for field in log.Contents]) for log in group.Logs]
