"""Consumer groups of the SDK: workers that join, leave and are killed lose no log, and share none."""

import json
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections import Counter
from pathlib import Path

from aliyun.log.proto import LogGroup

import service

SHARDS = 8
LOGS_OF_A_GROUP = 250
GROUP = "workers"
# What the SDK has if nobody says otherwise.
SAVE_SECONDS = 3
# Longer than all that happens while logs are put.
PRODUCER_SECONDS = 40


class Worker:
    """A process of consumer.py."""

    def __init__(self, test, logstore, name, save=SAVE_SECONDS):
        self.name = name
        self.output = test.service.folder / f"{name}.ndjson"
        admin = test.service.admin
        settings = {
            **{"endpoint": test.service.endpoint(), "id": admin.id, "secret": admin.secret},
            **{"project": service.PROJECT, "logstore": logstore.name, "group": GROUP, "name": name},
            **{"output": str(self.output), "save": save},
        }
        program = Path(__file__).with_name("consumer.py")
        self.process = subprocess.Popen([sys.executable, program, json.dumps(settings)])
        test.addCleanup(self.kill)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def is_alive(self):
        return self.process.poll() is None

    def leave(self):
        """Tells it to end by shutdown()."""
        self.process.send_signal(signal.SIGTERM)

    def code(self):
        """Its exit code, when it has ended."""
        return self.process.wait(service.PATIENCE)

    def pulls(self):
        """What it wrote. A line that a kill cut off is of logs that it did not finish."""
        lines = self.output.read_bytes().split(b"\n")[:-1] if self.output.exists() else []
        return [json.loads(line) for line in lines]

    def ids(self):
        """The ids of all logs that it processed."""
        return [number for pull in self.pulls() for ids in pull["ids"] for number in ids]

    def ids_since(self, checkpoints):
        """The ids of logs that it processed at or after the checkpoint of their shard."""
        found = []
        for pull in self.pulls():
            for position, ids in enumerate(pull["ids"], pull["first"]):
                if position >= checkpoints[pull["shard"]]:
                    found += ids
        return found


class Producer:
    """Puts logs with the ids from 0 on: some now, the rest bit by bit."""

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
            service.wait_for(lambda: len(worker.pulls()) > pulls, message=f"{worker.name} gets no logs")

    def wait_until_processed(self, workers, logs):
        """Until each log was processed, and the workers that still run have left. Counts how often each was."""

        def all_are():
            return len({number for worker in workers for number in worker.ids()}) == logs

        service.wait_for(all_are, 60, "logs were not processed", every=1)
        alive = [worker for worker in workers if worker.is_alive()]
        for worker in alive:
            worker.leave()
        self.assertEqual([worker.code() for worker in alive], [0] * len(alive))
        self.assertEqual(self.checkpoints(), {shard: self.end(shard) for shard in range(SHARDS)})
        # What is counted is what the consumers did: in the store each log is once.
        stored = sorted(int(dict(log.fields)["id"]) for log in self.logstore.logs())
        self.assertEqual(stored, list(range(logs)))
        return Counter(number for worker in workers for number in worker.ids())

    def end(self, shard):
        return service.position(self.logstore.client.get_end_cursor(service.PROJECT, "logs", shard).get_cursor())

    def test_a_killed_worker_costs_its_last_checkpoint_and_nothing_else(self):
        first, rest = 100_000, 100_000
        self.producer.put(first)
        workers = a, b = [Worker(self, self.logstore, name) for name in "ab"]
        self.producer.begin(rest)
        self.wait_until_at_work(a, b)
        workers.append(Worker(self, self.logstore, "c"))
        self.wait_until_at_work(*workers)

        service.wait_for(lambda: len(a.ids_since(self.checkpoints())) > 1000, message="each pull has its checkpoint")
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

    def test_workers_that_join_and_leave_cost_nothing(self):
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


if __name__ == "__main__":
    unittest.main()
