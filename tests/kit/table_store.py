"""Test cases of rules that write rows to the fake of Table Store."""

import hashlib
import itertools
import json
import unittest

from aliyun.log.proto import LogGroup
from tablestore.plainbuffer.plain_buffer_builder import PlainBufferBuilder
from tablestore.plainbuffer.plain_buffer_coded_stream import PlainBufferCodedInputStream
from tablestore.plainbuffer.plain_buffer_stream import PlainBufferInputStream
from tablestore.protobuf import table_store_pb2 as pb2

from kit import service
from kit.fakes.keys import Keyring
from kit.fakes.table_store import INSTANCE, REGION, Server
from kit.waiting import wait_for

# Seconds until a wait for tasks fails. A request is retried for up to a minute.
PATIENCE = 120
TABLE = "logs"
# The key of a rule that names none: names, and the types of Table Store.
DEFAULT_KEY = ("_logstore", 2), ("_shard", 1), ("_cursor", 1), ("_n", 1)
SETTINGS = """
[shipping]
longest-wait-seconds = 1
retry-seconds = {retry}
[sources.tables]
type = "ots"
endpoint = "{endpoint}"
instance = "{instance}"
access-key-id = "{key.id}"
access-key-secret = "{key.secret}"
{more}
"""


class TableCase(unittest.TestCase):
    """A test with an instance, and a service with the data source `tables`."""

    retry = 1
    signature = 4

    def setUp(self):
        self.keys = Keyring()
        self.key = self.keys.add()
        self.server = Server(self.keys)
        self.addCleanup(self.server.close)
        self.served = service.Service(self, settings=self.settings())

    def settings(self, **changes):
        more = [f'region = "{REGION}"'] if self.signature == 4 else []
        more += [f'security-token = "{self.key.token}"'] if self.key.token else []
        known = {"endpoint": self.server.url, "instance": INSTANCE, "key": self.key, "retry": self.retry, **changes}
        return SETTINGS.format(more="\n".join(more), **known)

    def set(self, **changes):
        """Changes the settings. The service starts anew."""
        self.served.settings.write_text(self.settings(**changes))
        self.served.restart()

    def create_table(self, name=TABLE, key=DEFAULT_KEY, **options):
        return self.server.create(name, *key, **options)

    def rule(self, logstore, text="", name="to-table", table=TABLE, probe=True):
        """A new rule."""
        file = self.served.folder / f"{name}.toml"
        head = f'[[ots]]\nname = "{name}"\nlogstore = "{logstore.name}"\ntable = "{table}"\n'
        head += "" if "connection" in text else 'source = "tables"\n'
        file.write_text(head + text)
        self.served.command("rule", "apply", "--file", file, *([] if probe else ["--no-probe"]))
        return Rule(self, name, logstore)

    def refused(self, text, table=TABLE, logstore="logs"):
        """The error of a rule that is refused."""
        file = self.served.folder / "refused.toml"
        file.write_text(f'[[ots]]\nname = "refused"\nlogstore = "{logstore}"\ntable = "{table}"\n{text}')
        return self.served.refused("rule", "apply", "--file", file)

    def assert_rows(self, logstore, rows, skip=()):
        """Checks that the table has the row of each log, value by value, and no other."""
        expected = {}
        for shard in logstore.shards():
            for position, group in logstore.groups(shard):
                for index, log in enumerate(group.Logs):
                    key = partition_key(logstore.name, shard), shard, position, index
                    expected[key] = columns_of(group, log)
        expected = {key: row for key, row in expected.items() if key not in set(skip)}
        self.assertEqual(len(rows), len(expected))
        for key, row in expected.items():
            self.assertEqual(rows.get(key), row, key)


class Rule:
    """A rule of a service."""

    def __init__(self, test, name, logstore):
        self.served, self.name, self.logstore = test.served, name, logstore

    def tasks(self):
        tasks = self.served.tasks("--rule", self.name)
        return sorted(tasks, key=lambda task: (task["shard"], int(task["begin"])))

    def shown(self):
        return self.served.json("rule", "show", self.name, "--logstore", self.logstore.name, "--report", "json")

    def is_done(self):
        """Whether all logs are behind the checkpoints."""
        tasks, shown = self.tasks(), self.shown()
        ends = {shard: service.position(self.logstore.client.get_end_cursor(service.PROJECT, self.logstore.name, shard).get_cursor()) for shard in self.logstore.shards()}
        checkpoints = {shard["shardID"]: int(shard["checkpoint"]) for shard in shown["shards"]}
        return checkpoints == ends and all(task["taskStatus"] == "success" for task in tasks)

    def wait(self):
        """Waits until all logs are rows. Returns the tasks."""
        wait_for(self.is_done, PATIENCE, lambda: f"{self.tasks()}\n{self.served.log.read_text()[-3000:]}", every=0.1)
        tasks = self.tasks()
        for _, of_shard in itertools.groupby(tasks, lambda task: task["shard"]):
            of_shard = list(of_shard)
            assert [task["begin"] for task in of_shard[1:]] == [task["end"] for task in of_shard[:-1]], of_shard
        return tasks

    def wait_for_failure(self):
        """The first task, once it has failed."""

        def failed():
            return next((task for task in self.tasks() if task["taskStatus"] == "fail"), None)

        return wait_for(failed, PATIENCE, f"{self.name}: no task has failed", 0.1)


def partition_key(logstore, shard):
    """The partition key of the default key."""
    name = f"{service.PROJECT}/{logstore}"
    return f"{hashlib.sha256(f'{name}/{shard}'.encode()).hexdigest()[:4]}/{name}"


def columns_of(group, log):
    """The columns of a log without a mapping."""
    columns = {"__time__": log.Time}
    if group.Topic:
        columns["__topic__"] = group.Topic
    if group.Source:
        columns["__source__"] = group.Source
    columns |= {column_name(f"__tag__:{tag.Key}"): tag.Value for tag in group.LogTags}
    return columns | {column_name(content.Key): content.Value for content in log.Contents}


def column_name(key):
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in key)
    return name if name and not name[0].isdigit() else f"_{name}"


def put(logstore, logs, topic="topic", tags=(), **options):
    """Puts logs, each a dictionary of texts or bytes, as one log group."""
    group = LogGroup(Topic=topic, Source="10.0.0.1")
    for key, value in tags:
        group.LogTags.add(Key=key, Value=value)
    for number, fields in enumerate(logs):
        log = group.Logs.add(Time=1_790_000_000 + number)
        for key, value in fields.items():
            log.Contents.add(Key=key, Value=value)
    logstore.put(group, **options)


def numbered(first, count, **more):
    """Logs with numbers, and some text."""
    return [{"number": str(number), "text": f"log é {number}", **more} for number in range(first, first + count)]


class VendorRows:
    """Checks each row that a server gets: the vendor's reader reads it, and the vendor's writer makes the same bytes."""

    def __init__(self, server):
        self.count, self.problems, self._answer = 0, [], server.answer
        server.answer = self.answer

    def answer(self, request):
        if request.path == "/BatchWriteRow":
            for table in pb2.BatchWriteRowRequest.FromString(request.body).tables:
                for row in table.rows:
                    self.check(bytes(row.row_change))
        return self._answer(request)

    def check(self, row):
        key, columns = PlainBufferCodedInputStream(PlainBufferInputStream(row)).read_row()
        columns = [column if column[2] is not None else column[:2] for column in columns]
        # The vendor's writer takes names as bytes.
        key = [(name.encode(), value) for name, value in key]
        columns = [(name.encode(), *rest) for name, *rest in columns]
        made = bytes(PlainBufferBuilder.serialize_for_put_row(key, columns))
        self.count += 1
        if made != row:
            self.problems.append((row.hex(), made.hex()))


def dead_letters(served):
    """All dead letters."""
    folder = served.data / "dead-letters"
    lines = [line for file in sorted(folder.rglob("*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]
