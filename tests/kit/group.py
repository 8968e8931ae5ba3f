"""A consumer group of `logship consume`: its members, their collectors, the service that they read, and checkpoints."""

import threading
import time
import unittest
from collections import Counter

from aliyun.log.proto import LogGroup

from kit import service
from kit.consume import ConsumeProcess, of_service
from kit.fakes.hec import TOKEN, Collector
from kit.process import of_class, temporary_folder
from kit.service import PROJECT
from kit.waiting import wait_for

GROUP = "workers"
SHARDS = 8
LOGS_OF_A_GROUP = 10
# Seconds in which all is delivered, on a busy machine.
DELIVERED = 30


class Producer:
    """Puts numbered logs in groups of ten: some at once, or all the time until `stop`."""

    def __init__(self, *logstores):
        self.logstores = logstores
        self.count = 0
        self.ended = threading.Event()
        self.thread = None

    def put(self, groups):
        for _ in range(groups):
            self.put_group(self.logstores[self.count // LOGS_OF_A_GROUP % len(self.logstores)])

    def put_group(self, logstore):
        group = LogGroup(Topic="traffic")
        for number in range(self.count, self.count + LOGS_OF_A_GROUP):
            log = group.Logs.add(Time=int(time.time()))
            log.Contents.add(Key="id", Value=str(number))
            log.Contents.add(Key="message", Value=f"request {number} took {number % 977} ms")
        logstore.put(group)
        self.count += LOGS_OF_A_GROUP

    def begin(self, pause=0.02):
        """Puts a group after each pause while the test goes on."""
        self.thread = threading.Thread(target=self._put_on, args=(pause,), daemon=True)
        self.thread.start()

    def stop(self):
        self.ended.set()
        self.thread.join()

    def _put_on(self, pause):
        while not self.ended.wait(pause):
            self.put(1)


class Member(ConsumeProcess):
    """A member of a group, for one test case. It has its own collector unless it is given one."""

    def __init__(
        self, test, logstores, name, *options, group=GROUP, beat=1, fetch=0.05, collector=None, place=None, start=True
    ):
        self.collector = collector or collector_for(test)
        self.folder = temporary_folder(test)
        environment = {"SPLUNK_HEC_TOKEN": TOKEN, **(place or of_service(test.service))}
        places = {"letters": self.folder / "letters", "environment": environment}
        log, to = self.folder / "log", self.collector.endpoint
        log.touch()
        super().__init__(test, log, name, logstores, to, *options, group=group, beat=beat, fetch=fetch, **places)
        if start:
            self.start()

    def wait(self, patience=DELIVERED):
        return super().wait(patience)

    def reads(self):
        """The shards that it started to read, in order."""
        return [(line["logstore"], line["shard"]) for line in self.lines() if line.get("message") == "reading"]

    def ids(self):
        """The ids of the logs of its collector, in order of arrival."""
        return ids(self.collector.indexed())


def collector_for(test, **options):
    collector = Collector(**options)
    test.addCleanup(collector.close)
    return collector


def ids(events):
    return [int(event.members["event"]["id"]) for event in events]


class GroupCase(unittest.TestCase):
    """Test cases that share a service."""

    maxDiff = 2000
    settings = ""
    number = 0

    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(of_class(cls), settings=cls.settings)

    def logstore(self, shards=SHARDS):
        """A new logstore and its producer."""
        GroupCase.number += 1
        logstore = self.service.logstore(f"logs-{GroupCase.number}", shards=shards)
        return logstore, Producer(logstore)

    def member(self, logstore, name, *options, **how):
        return Member(self, [logstore], name, *options, **how)

    def saved(self, logstore, group=GROUP):
        """The consumer and the checkpoint that a group has saved of each shard."""
        answer = logstore.client.get_check_point(PROJECT, logstore.name, group)
        entries = answer.get_consumer_group_check_points()
        return {entry["shard"]: (entry["consumer"], entry["checkpoint"]) for entry in entries}

    def checkpoints(self, logstore, group=GROUP):
        """The position from which each shard is read next."""
        return {
            shard: service.position(checkpoint or logstore.begin(shard))
            for shard, (_, checkpoint) in self.saved(logstore, group).items()
        }

    def owners(self, logstore, group=GROUP):
        """The consumer that saved each shard last."""
        return {shard: consumer for shard, (consumer, _) in self.saved(logstore, group).items()}

    def ends(self, logstore):
        cursor = logstore.client.get_end_cursor
        return {
            shard: service.position(cursor(PROJECT, logstore.name, shard).get_cursor()) for shard in logstore.shards()
        }

    def wait_until_at_work(self, *members):
        """Until each has delivered logs from now on."""
        before = [len(member.ids()) for member in members]
        for member, count in zip(members, before):
            wait_for(lambda: len(member.ids()) > count, DELIVERED, lambda: f"{member.name} gets no logs", every=0.05)

    def wait_until_delivered(self, members, count):
        """Until each log was delivered by any of them."""

        def missing():
            return set(range(count)).difference(*(member.ids() for member in members))

        def message():
            lost = sorted(missing())
            return f"{len(lost)} of {count} logs are missing, among them {lost[:5]}"

        wait_for(lambda: not missing(), DELIVERED, message, every=0.1)

    def wait_until_saved(self, logstore, group=GROUP):
        """Until the checkpoints are at the end of all shards."""
        wanted = self.ends(logstore)
        wait_for(lambda: self.checkpoints(logstore, group) == wanted, DELIVERED, "not all is saved", every=0.1)

    def assert_once(self, members, count):
        """Each log was delivered once, by one of them."""
        counts = Counter(number for member in members for number in member.ids())
        self.assertEqual(set(range(count)) - counts.keys(), set(), "logs are missing")
        self.assertEqual(sorted(counts.keys() - set(range(count))), [])
        self.assertEqual(twice(members), set(), describe(members))

    def unsaved(self, logstore, group=GROUP):
        """The ids of the logs ahead of the checkpoints."""
        return {
            int(dict(map(pair, log.Contents))["id"])
            for shard, checkpoint in self.checkpoints(logstore, group).items()
            for position, found in logstore.groups(shard)
            if position >= checkpoint
            for log in found.Logs
        }


def pair(content):
    return content.Key, content.Value


def twice(members):
    """The ids of logs that were delivered more than once."""
    counts = Counter(number for member in members for number in member.ids())
    return {number for number, count in counts.items() if count > 1}


def describe(members):
    return "logs delivered by " + ", ".join(f"{member.name}: {len(member.ids())}" for member in members)
