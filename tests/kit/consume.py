"""Processes of `logship consume`, the service that they read, and numbered logs with values that are hard on formats."""

import functools
import http.client
import itertools
import unittest
from collections import Counter
from typing import NamedTuple

from aliyun.log import LogException

from kit import service
from kit.names import ADDRESS
from kit.paths import PROGRAM
from kit.process import Process, of_class
from kit.service import PROJECT
from kit.waiting import PATIENCE, wait_for

MIB = 1 << 20
BEGIN = 1_700_000_000
LOGS_OF_A_GROUP = 500
GROUP = "siem"
# Seconds in which a consumer without problems delivers all, on a busy machine.
ENDED = 60
LARGE = 64 << 10
# Values that break formats, frames and files.
HOSTILE = (
    b"line\nbreak\r\nand another\n",
    b"one||two||key=value||",
    b"nul\0in the middle\0",
    b"\xff\xfe no \xc3( UTF-8 \xed\xa0\x80 \xf0\x9f\x98",
    b'"quotes" \\" \\\\ \' \\n \\u0000',
    b'] [a@1 b="c"] \\]',
    b"",
    b" blanks around ",
    "ü 键 \U0001f600 \ufeff \u2028 \u0085".encode(),
    b"<14>1 2024-05-06T07:08:09Z web-1 - - - - text",
    b"12 <3>x",
    b"\x01\x02\t\x0b\x1b[0m\x7f",
    b'{"a":[1,{"b":null}]}',
    b"#012 %d %s ${x} $(x)",
)


class Log(NamedTuple):
    """A log: its time, and pairs of a key and the bytes of a value."""

    time: int
    fields: tuple

    def texts(self):
        """Its fields as text, with replacements for invalid UTF-8."""
        return tuple((key, value.decode("utf-8", "replace")) for key, value in self.fields)


def plain(count, first=0):
    """Numbered logs of small values."""
    return [_plain(number) for number in range(first, first + count)]


def hostile(count, first=0, large=1000):
    """Numbered logs with hostile values, one of 64 KB in so many."""
    return [_hostile(number, large) for number in range(first, first + count)]


def mixed(count, every=500, large=0):
    """Numbered logs of small values; one in so many has a hostile one."""
    return [_plain(number) if number % every else _hostile(number, large) for number in range(count)]


def _plain(number):
    return Log(BEGIN + number % 10000, (("id", b"%d" % number), ("method", b"GET"), ("path", b"/a?b=%d" % number)))


def _hostile(number, large):
    value = HOSTILE[number // 7 % len(HOSTILE)]
    if large and number % large == 0:
        piece = value + b"%d " % number
        value = piece * (LARGE // len(piece))
    return Log(BEGIN + number % 10000, (("id", b"%d" % number), ("text", value), ("last key", b"end")))


def batches(logs, size=LOGS_OF_A_GROUP):
    """The logs, divided into groups."""
    logs = iter(logs)
    while batch := list(itertools.islice(logs, size)):
        yield batch


class ConsumeCase(unittest.TestCase):
    """Test cases that share a service."""

    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(of_class(cls))
        cls.folder = cls.service.folder
        cls.names = map("logs-{}".format, itertools.count())
        cls.groups = map("group-{}".format, itertools.count())
        cls.last_groups = {}

    @classmethod
    def filled(cls, logs, shards=1, size=LOGS_OF_A_GROUP, **of_groups):
        """A new logstore with logs in it."""
        logstore = cls.empty(shards)
        cls.put(logstore, logs, size, **of_groups)
        return logstore

    @classmethod
    def empty(cls, shards=1):
        return cls.service.logstore(next(cls.names), shards=shards)

    @classmethod
    def put(cls, logstore, logs, size=LOGS_OF_A_GROUP, **of_groups):
        """Puts logs in groups of so many."""
        cls.put_groups(logstore, (encoded(batch, **of_groups) for batch in batches(logs, size)))

    @classmethod
    def put_groups(cls, logstore, groups):
        connection = http.client.HTTPConnection(ADDRESS, cls.service.port, timeout=PATIENCE)
        headers = {"Host": f"{PROJECT}.{ADDRESS}", "Content-Type": "application/x-protobuf"}
        headers |= cls.service.admin.basic()
        for body in groups:
            headers["x-log-bodyrawsize"] = str(len(body))
            connection.request("POST", f"/logstores/{logstore.name}/shards/lb", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
        connection.close()

    def next_group(self, logstore):
        """A new group. It replaces the previous one, as a logstore may have ten."""
        last, group = self.last_groups.get(logstore.name), next(self.groups)
        if last:
            logstore.client.delete_consumer_group(PROJECT, logstore.name, last)
        self.last_groups[logstore.name] = group
        return group

    def consumer(self, logstore, to, *options, **how):
        return Consumer(self, logstore, to, *options, **how)

    def consume(self, logstore, to, *options, patience=ENDED, **how):
        """Runs a consumer until it has delivered all."""
        consumer = self.consumer(logstore, to, *options, **how)
        consumer.wait(patience)
        return consumer

    def checkpoint(self, logstore, group=GROUP, shard=0):
        """The log groups of a shard that are behind the checkpoint."""
        try:
            saved = logstore.client.get_check_point(PROJECT, logstore.name, group, shard)
        except LogException as error:
            self.assertEqual(error.get_error_code(), "ConsumerGroupNotExist")
            return 0
        found = [point["checkpoint"] for point in saved.get_consumer_group_check_points() if point["shard"] == shard]
        begin = service.position(logstore.begin(shard))
        return service.position(found[0]) - begin if found and found[0] else 0

    def assert_once(self, found, logs):
        """Checks that each log is there once. `found` is a list of pairs of time and fields."""
        self.assertEqual(self.duplicates(found, logs), 0)

    def duplicates(self, found, logs):
        """Counts duplicates. Each log must be there, and unchanged."""
        counts = Counter(found)
        expected = [(log.time, log.texts()) for log in logs]
        missing = [pair for pair in expected if pair not in counts]
        self.assertEqual(_shown(missing), [], f"{len(missing)} of {len(logs)} are missing; {len(found)} came")
        strange = counts.keys() - set(expected)
        self.assertEqual(_shown(strange), [], f"{len(strange)} are strange")
        return len(found) - len(expected)


def _shown(pairs):
    return [repr(pair)[:300] for pair in itertools.islice(pairs, 3)]


class ConsumeProcess(Process):
    """A process of `logship consume`, for one test case."""

    def __init__(self, test, log, name, logstores, to, *options, environment, group, beat, fetch, letters):
        super().__init__(test, log, name)
        self.name, self.group, self.letters = name, group, letters
        names = ",".join(logstore if isinstance(logstore, str) else logstore.name for logstore in logstores)
        self.command = [PROGRAM, "consume", "--logstore", names, "--to", to, "--group", group]
        self.command += ["--heartbeat", str(beat), "--fetch-interval", str(fetch), "--log-format", "json"]
        self.command += ["--dead-letters", letters, *options]
        self.command += ["--consumer", name] if name else []
        self.environment = environment

    def start(self):
        """Starts it, or starts it again with the same name."""
        self.spawn(self.command, self.environment, append=True)

    def wait(self, patience):
        """Waits for its end, which must be a success."""
        assert self.code(patience) == 0, self.said()
        return self

    def leave(self):
        """Ends it as a supervisor does."""
        self.terminate()
        return self.wait(PATIENCE)

    def problems(self):
        """The errors of delivery that it logged."""
        return [line["problem"] for line in self.lines() if "problem" in line]

    def wait_for_problem(self, words, patience=PATIENCE):
        """Waits until it logs such a problem."""
        wait_for(lambda: any(words in problem for problem in self.problems()), patience, self.said)


class Consumer(ConsumeProcess):
    """A consumer of the service of its test class. It runs until it has delivered all, or until it is stopped."""

    def __init__(self, test, logstore, to, *options, group=GROUP, name="consumer", token="", until_end=True, beat=1):
        folder = test.service.folder
        options = (*options, *["--until-end"] * until_end)
        environment = {**of_service(test.service), "SPLUNK_HEC_TOKEN": token}
        places = {"letters": folder / f"letters-{logstore.name}-{group}", "environment": environment}
        log = folder / f"{logstore.name}-{group}-{name}.log"
        super().__init__(test, log, name, [logstore], to, *options, group=group, beat=beat, fetch=0.05, **places)
        self.start()

    def wait(self, patience=ENDED):
        return super().wait(patience)

    stop = ConsumeProcess.leave


def of_service(served):
    """The variables that name a service, with its key."""
    return {"SLS_ENDPOINT": served.endpoint(), "SLS_PROJECT": PROJECT, **served.admin.environment()}


def encoded(logs, topic="", source="", tags=()):
    """A log group. Its values are any bytes, where the SDK has text."""
    members = [_member(1, _log(log)) for log in logs]
    members += [_member(3, topic.encode()), _member(4, source.encode())]
    members += [_member(6, _member(1, key.encode()) + _member(2, value.encode())) for key, value in tags]
    return b"".join(members)


def _log(log):
    contents = [_member(2, _key(key) + _member(2, value)) for key, value in log.fields]
    return b"\x08" + _varint(log.time) + b"".join(contents)


def _member(number, data):
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


@functools.cache
def _key(key):
    return _member(1, key.encode())


@functools.cache
def _varint(value):
    found = b""
    while value > 0x7F:
        found += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return found + bytes((value,))
