"""Consumer groups of the SDK: joining, leaving and killed workers lose no log and share none."""

import threading
import time
import unittest
from collections import Counter

from aliyun.log.proto import LogGroup

from kit import service
from kit.sdk_worker import GROUP, Worker
from kit.waiting import wait_for

SHARDS = 8
LOGS_OF_A_GROUP = 250
# Longer than all events during the puts.
PRODUCER_SECONDS = 40


class Producer:
    """Puts numbered logs: some at once, the rest slowly."""

    def __init__(self, logstore):
        self.logstore = logstore
        self.count = 0
        self.hurry = threading.Event()
        self.thread = None

    def put(self, logs):
        for _ in range(logs // LOGS_OF_A_GROUP):
            group = LogGroup(Topic="consumers")
            for number in range(self.count, self.count + LOGS_OF_A_GROUP):
                log = group.Logs.add(Time=int(time.time()))
                log.Contents.add(Key="id", Value=str(number))
                log.Contents.add(Key="message", Value=f"request {number} took {number % 977} ms")
            self.logstore.put(group)
            self.count += LOGS_OF_A_GROUP

    def begin(self, logs):
        """Puts the logs while the test goes on."""
        self.thread = threading.Thread(target=self._put_slowly, args=(logs,), daemon=True)
        self.thread.start()

    def finish(self):
        """Puts what is left of them without a rest."""
        self.hurry.set()
        self.thread.join()

    def _put_slowly(self, logs):
        begun, groups = time.monotonic(), logs // LOGS_OF_A_GROUP
        for number in range(groups):
            self.hurry.wait(max(0, begun + number * PRODUCER_SECONDS / groups - time.monotonic()))
            self.put(LOGS_OF_A_GROUP)


class Consumers(unittest.TestCase):
    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore(shards=SHARDS)
        self.producer = Producer(self.logstore)

    def checkpoints(self):
        """The position that each shard would be read from now."""
        saved = self.logstore.client.get_check_point(service.PROJECT, self.logstore.name, GROUP)
        return {
            entry["shard"]: service.position(entry["checkpoint"] or self.logstore.begin(entry["shard"]))
            for entry in saved.get_consumer_group_check_points()
        }

    def wait_until_at_work(self, *workers):
        """Until each has processed logs from now on."""
        before = [len(worker.pulls()) for worker in workers]
        for worker, pulls in zip(workers, before):
            wait_for(lambda: len(worker.pulls()) > pulls, message=f"{worker.name} gets no logs")

    def wait_until_processed(self, workers, logs):
        """Until each log was processed and all workers have left. Counts how often each log was processed."""

        def all_are():
            return len({number for worker in workers for number in worker.ids()}) == logs

        wait_for(all_are, 60, "logs were not processed", every=1)
        alive = [worker for worker in workers if worker.is_alive()]
        for worker in alive:
            worker.leave()
        self.assertEqual([worker.code() for worker in alive], [0] * len(alive))
        self.assertEqual(self.checkpoints(), {shard: self.end(shard) for shard in range(SHARDS)})
        # Duplicates come from the consumers: the store has each log once.
        stored = sorted(int(dict(log.fields)["id"]) for log in self.logstore.logs())
        self.assertEqual(stored, list(range(logs)))
        return Counter(number for worker in workers for number in worker.ids())

    def end(self, shard):
        return service.position(self.logstore.client.get_end_cursor(service.PROJECT, "logs", shard).get_cursor())

    def test_killed_worker_repeats_only_since_checkpoint(self):
        first, rest = 100_000, 100_000
        self.producer.put(first)
        workers = a, b = [Worker(self, self.logstore, name) for name in "ab"]
        self.producer.begin(rest)
        self.wait_until_at_work(a, b)
        workers.append(Worker(self, self.logstore, "c"))
        self.wait_until_at_work(*workers)

        wait_for(lambda: len(a.ids_since(self.checkpoints())) > 1000, message="each pull has its checkpoint")
        a.kill()
        # A checkpoint that it had sent is stored by now, and nobody has its shards yet.
        time.sleep(0.5)
        unsaved = set(a.ids_since(self.checkpoints()))
        # All shards get more logs, which others can't process before they went over these again.
        self.assertGreater(first + rest - self.producer.count, 2 * SHARDS * LOGS_OF_A_GROUP)
        self.producer.finish()

        counts = self.wait_until_processed(workers, first + rest)
        twice = {number for number, count in counts.items() if count == 2}
        print(f"\n{describe(workers)}; a was killed {len(unsaved)} logs after its checkpoints,")
        print(f"{len(twice)} logs were processed twice, {len(twice - unsaved)} of them for no reason")
        self.assertEqual(max(counts.values()), 2)
        # Not a subset only: who takes over a shard goes on from its checkpoint.
        self.assertEqual(twice, unsaved)

    def test_joining_and_leaving_workers_repeat_nothing(self):
        first, rest = 60_000, 100_000
        self.producer.put(first)
        # By leaving, a worker stops its heartbeats before it saves; with a checkpoint for each pull there is
        # nothing left to save that could come too late.
        workers = a, b = [Worker(self, self.logstore, name, save=0) for name in "ab"]
        self.producer.begin(rest)
        self.wait_until_at_work(a, b)
        workers.append(Worker(self, self.logstore, "c", save=0))
        self.wait_until_at_work(*workers)
        b.leave()
        self.assertEqual(b.code(), 0)
        self.assertGreater(first + rest - self.producer.count, 2 * SHARDS * LOGS_OF_A_GROUP)
        self.producer.finish()

        counts = self.wait_until_processed(workers, first + rest)
        twice = [number for number, count in counts.items() if count > 1]
        print(f"\n{describe(workers)}; {len(twice)} logs were processed twice")
        self.assertEqual(twice, [])


def describe(workers):
    return "logs processed by " + ", ".join(f"{worker.name}: {len(worker.ids())}" for worker in workers)
