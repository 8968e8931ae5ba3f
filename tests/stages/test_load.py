"""Swaps under load: each log is shipped once, each object is made by one version, and swaps block nothing."""

import multiprocessing
import random
import re
import threading
import time
from collections import Counter

import pytest
from aliyun.log.proto import LogGroup

from kit import service, soak
from kit.marking import Case
from kit.waiting import wait_for

# A full soak has 1,000,000 logs and 200 swaps in 24 seconds.
LOGS = soak.scaled(1_000_000, step=50_000)
SHARDS = 8
LOGS_OF_A_GROUP = 2500
SWAPS = soak.scaled(200, least=10)
PRODUCERS = 2
# Seconds of puts, and those of them before the first swap.
LOAD, BEFORE = soak.scaled(24, least=6), soak.scaled(4, least=3)
# Seconds until all is shipped after the last put.
REST = 60
SECONDS = re.compile(r'logship_swap_wait_seconds_(?:bucket\{le="([^"]+)"\}|(sum|count)) (\S+)')


def group(ids):
    made = LogGroup(Topic="load", Source="10.0.0.7")
    for number in ids:
        made.Logs.add(Time=1_790_000_000).Contents.add(Key="id", Value=str(number))
    return made


def produce(client, logstore, firsts, seconds):
    """Puts log groups at equal intervals."""
    groups = [group(range(first, first + LOGS_OF_A_GROUP)) for first in firsts]
    begun = time.monotonic()
    for number, made in enumerate(groups):
        time.sleep(max(0, begun + seconds * number / len(groups) - time.monotonic()))
        client.put_log_raw(service.PROJECT, logstore, made)


class Probe(threading.Thread):
    """Puts logs one by one, and records the duration of each put."""

    def __init__(self, test):
        super().__init__()
        self.send = lambda: test.service.request(
            "POST", f"/ingest/{service.PROJECT}/probe", b'{"id":1}\n', headers=test.service.admin.basic()
        )
        self.puts = []
        self.ended = False

    def run(self):
        while not self.ended:
            begun = time.monotonic()
            assert self.send().status == 200
            self.puts.append((begun, time.monotonic()))

    def longest(self, begin, end):
        return max(done - begun for begun, done in self.puts if begun >= begin and done <= end)


class Load(Case):
    shards = SHARDS

    def swap(self, mark):
        """Swaps by the API, as a command takes longer. Returns the seconds."""
        begun = time.monotonic()
        path, body = "/stages/marker?action=swap", f'{{"to":"{mark}"}}'
        reply = self.service.request("PUT", path, body, headers=self.service.admin.basic())
        self.assertEqual(reply.status, 200, reply.body)
        return time.monotonic() - begun

    def waits(self):
        """The waits of tasks for swaps: their number, their sum in seconds, and an upper bound."""
        text = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        found = [(bound, kind, float(value)) for bound, kind, value in SECONDS.findall(text)]
        totals = {kind: value for _, kind, value in found if kind}
        bounds = [bound for bound, kind, value in found if bound and value == totals["count"]]
        return int(totals["count"]), totals["sum"], bounds[0]

    @pytest.mark.soak
    def test_swaps_under_load_lose_nothing(self):
        self.service.logstore("probe")
        self.stage("add", self.file("0001"), "--name", "marker")
        self.stage("add", self.file("0002"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.rule("pinned", "--encoder", "marker@0001")
        # The first objects are of one version and the last ones of the other, however few there are.
        self.swap("0001")
        firsts = range(0, LOGS, LOGS_OF_A_GROUP)
        client, name = self.service.client(), self.logstore.name
        fork = multiprocessing.get_context("fork")
        producers = [
            fork.Process(target=produce, args=(client, name, firsts[number::PRODUCERS], LOAD))
            for number in range(PRODUCERS)
        ]
        for producer in producers:
            producer.start()
        probe = Probe(self)
        probe.start()
        begun = time.monotonic()
        moments = sorted(random.uniform(BEFORE, LOAD) for _ in range(SWAPS + 1))
        swaps = []
        for number, moment in enumerate(moments):
            time.sleep(max(0, begun + moment - time.monotonic()))
            swaps.append(self.swap("0001" if number % 2 else "0002"))
        ended = time.monotonic()
        for producer in producers:
            producer.join()
            self.assertEqual(producer.exitcode, 0)
        probe.ended = True
        probe.join()

        for rule in "mine", "pinned":
            shipped = lambda: sum(task["rows"] or 0 for task in self.service.tasks("--rule", rule, "--status", "success"))
            wait_for(lambda: shipped() >= LOGS, patience=REST, every=1, message=f"{rule} ships too little")
            objects = self.objects(rule)
            ids = Counter(number for _, found in objects for number in found)
            self.assertEqual((len(ids), min(ids), max(ids), max(ids.values())), (LOGS, 0, LOGS - 1, 1))
            marks = Counter(mark for mark, _ in objects)
            print(f"\n{rule}: {LOGS:,} logs once each in {len(objects)} objects, by version: {dict(marks)}", end="")
            self.assertEqual(set(marks), {"0001"} if rule == "pinned" else {"0001", "0002"})
        before, while_swapping = probe.longest(begun, begun + BEFORE), probe.longest(begun + BEFORE, ended)
        count, seconds, bound = self.waits()
        print(
            f"\n{len(swaps)} swaps in {ended - begun - BEFORE:.1f} s, the longest answered after {1000 * max(swaps):.0f} ms"
            f"\nthe longest put of {len(probe.puts):,}: {1000 * before:.0f} ms before, {1000 * while_swapping:.0f} ms while swapping"
            f"\n{count} tasks waited for a swap: {1000 * seconds / count:.1f} ms each, none more than {1000 * float(bound):.0f} ms"
        )
