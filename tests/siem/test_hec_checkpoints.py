"""`logship consume` to an HTTP Event Collector: dead letters, and checkpoints that are never ahead of delivery."""

import json
import threading
import time

from kit import service
from kit.consume import BEGIN, LOGS_OF_A_GROUP, MIB, PROJECT, Log, hostile
from kit.fakes.faults import Run, Slow
from kit.fakes.hec import TOKEN
from kit.siem_rules import HecCase
from kit.waiting import wait_for

# Small requests, so that faults hit some of many.
SMALL = ("--set", "batch-bytes=60000")


class Poison(HecCase):
    LOGS = hostile(3000)
    # Some alone, some side by side, the first and the last.
    BAD = (0, 7, 8, 9, 500, 1234, 1235, 2999)

    def setUp(self):
        self.logstore = self.filled(self.LOGS)

    @classmethod
    def is_bad(cls, members):
        return int(members["event"]["id"]) in cls.BAD

    def poisoned(self, code=6, **options):
        """A collector that refuses some events, and a consumer that has sent all others there."""
        collector = self.collector(**options)
        collector.refuse_events(self.is_bad, code)
        return collector, self.consume(self.logstore, collector, group=self.next_group(self.logstore))

    def good(self):
        return [log for number, log in enumerate(self.LOGS) if number not in self.BAD]

    def bad(self):
        return [self.LOGS[number] for number in self.BAD]

    def letters(self, consumer):
        """The objects of dead letters, as they are listed."""
        options = ("--report", "json", "--dead-letters", consumer.letters)
        return json.loads(self.service.command("deadletter", "list", *options))

    def resend(self, consumer, collector, *keys, run="command"):
        options = ("--to", collector.endpoint, "--token", TOKEN, "--dead-letters", consumer.letters)
        return getattr(self.service, run)("deadletter", "resend", *(keys or ("--all",)), *options)

    def check_letters(self, consumer, code, reason):
        (listed,) = self.letters(consumer)
        letters = listed["letters"]
        self.assertEqual({(letter["code"], letter["reason"]) for letter in letters}, {(code, reason)})
        told = [(event["time"], tuple(event["event"].items())) for event in map(json.loads, (letter["message"] for letter in letters))]
        self.assert_once(told, self.bad())
        places = sorted(letter["group"] * LOGS_OF_A_GROUP + letter["log"] for letter in letters)
        self.assertEqual(places, list(self.BAD))
        begin = service.position(self.logstore.begin(0))
        self.assertEqual({letter["cursor"] for letter in letters}, {begin})
        origin = {(letter["project"], letter["logstore"], letter["shard"], letter["rule"]) for letter in letters}
        self.assertEqual(origin, {(PROJECT, self.logstore.name, 0, consumer.group)})
        table = self.service.command("deadletter", "list", "--dead-letters", consumer.letters)
        self.assertIn(listed["key"], table)
        self.assertIn(f"{len(self.BAD)} x {reason}", table)
        whole = self.service.command("deadletter", "list", listed["key"], "--dead-letters", consumer.letters)
        self.assertEqual(whole.count(reason), len(self.BAD))

    def test_rejected_events_become_dead_letters(self):
        for code, reason in {6: "Invalid data format", 7: "Incorrect index", 13: "Event field cannot be blank"}.items():
            with self.subTest(code=code):
                collector, consumer = self.poisoned(code)
                self.assert_received(self.good(), collector)
                self.assertEqual(self.checkpoint(self.logstore, consumer.group), len(self.LOGS) // LOGS_OF_A_GROUP)
                self.check_letters(consumer, str(code), reason)

    def test_partial_acceptance_may_repeat_but_loses_nothing(self):
        collector, consumer = self.poisoned(partial=True)
        repeated = self.repeated(collector, self.good(), "poison, partial")
        self.assertEqual(repeated, sum(request.accepted for request in collector.sent() if request.code == 6))
        self.check_letters(consumer, "6", "Invalid data format")

    def test_dead_letters_can_be_resent(self):
        collector, consumer = self.poisoned()
        self.assertIn(f"{len(self.BAD)} dead letters remain", self.resend(consumer, collector, run="refused"))
        self.check_letters(consumer, "6", "Invalid data format")
        collector.clear()
        collector.refuse_events(lambda members: members["event"]["id"] == "8", 12)
        (listed,) = self.letters(consumer)
        self.assertIn("1 dead letters remain", self.resend(consumer, collector, listed["key"], run="refused"))
        self.assert_received([log for number, log in enumerate(self.LOGS) if number != 8], collector)
        (left,) = self.letters(consumer)
        self.assertEqual([(letter["code"], letter["log"]) for letter in left["letters"]], [("12", 8)])
        collector.clear()
        self.assertIn("1 accepted, 0 rejected again", self.resend(consumer, collector))
        self.assert_received(self.LOGS, collector)
        self.assertEqual(self.letters(consumer), [])
        self.assertIn("no dead letters", self.resend(consumer, collector))

    def test_oversized_event_becomes_dead_letter(self):
        collector = self.collector(most_bytes=60000)
        options = ("--set", "batch-bytes=200000", "--set", "gzip=false")
        consumer = self.consume(self.logstore, collector, *options, group="large")
        large = [log for log in self.LOGS if sum(len(value) for _, value in log.fields) > 60000]
        self.assertGreater(len(large), 0)
        self.assert_received([log for log in self.LOGS if log not in large], collector)
        (listed,) = self.letters(consumer)
        self.assertEqual([letter["code"] for letter in listed["letters"]], ["413"] * len(large))

    def test_wrong_index_makes_no_dead_letters(self):
        collector = self.collector(indexes=("main",))
        consumer = self.consumer(self.logstore, collector, "--format", "index=other", group="index")
        consumer.wait_for_problem("allow their index for the token")
        self.assertEqual(self.checkpoint(self.logstore, "index"), 0)
        collector.policy.indexes = None
        consumer.wait()
        letters = [letter for listed in self.letters(consumer) for letter in listed["letters"]] if consumer.letters.exists() else []
        self.assertLessEqual(len(letters), 200)
        told = [json.loads(letter["message"]) for letter in letters]
        told = [(event["time"], tuple(event["event"].items())) for event in told]
        self.assert_once(self.received(collector) + told, self.LOGS)


class Checkpoints(HecCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Several loads.
        cls.logs = hostile(16000, large=60)
        cls.logstore = cls.filled(cls.logs)

    def before(self, position):
        """The logs that a checkpoint says are delivered."""
        return self.logs[: position * LOGS_OF_A_GROUP]

    def missing(self, collector, logs):
        ids = {event.event["id"] for event in collector.indexed()}
        return [log.texts()[0] for log in logs if log.texts()[0][1] not in ids]

    def test_checkpoint_waits_for_answers(self):
        collector, gate = self.collector(), threading.Event()
        self.addCleanup(gate.set)
        collector.inject(Run(lambda request: gate.wait()), nth=1, times=None)
        consumer = self.consumer(self.logstore, collector, group="held")
        wait_for(lambda: collector.requests)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            self.assertEqual(self.checkpoint(self.logstore, "held"), 0)
            time.sleep(0.1)
        self.assertEqual(collector.events, [])
        gate.set()
        consumer.wait()
        self.assert_received(self.logs, collector)
        self.assertEqual(self.checkpoint(self.logstore, "held"), len(self.logs) // LOGS_OF_A_GROUP)

    def test_checkpoints_are_never_ahead_of_delivery(self):
        collector, seen = self.collector(), set()
        # Slow enough for several checkpoints, also on a busy machine.
        collector.inject(Slow(0.3), times=None)
        consumer = self.consumer(self.logstore, collector, "--set", "requests=2", group="slow")
        while consumer.is_alive():
            position = self.checkpoint(self.logstore, "slow")
            self.assertEqual(self.missing(collector, self.before(position)), [])
            seen.add(position)
            time.sleep(0.05)
        consumer.wait()
        self.assertGreater(len(seen), 3)
        self.assert_received(self.logs, collector)

    def test_kill_repeats_only_batches_in_flight(self):
        collector = self.collector()
        collector.inject(Slow(0.1), times=None)
        consumer = self.consumer(self.logstore, collector, "--set", "requests=2", group="kill", beat=2)
        wait_for(lambda: len(collector.events) > len(self.logs) // 2)
        consumer.kill()
        # The collector still accepts requests that it has received.
        time.sleep(0.5)
        position = self.checkpoint(self.logstore, "kill")
        self.assertGreater(position, 0)
        self.assertEqual(self.missing(collector, self.before(position)), [])
        in_flight = len(collector.events) - len(self.before(position))
        collector.clear()
        consumer.start()
        begun = time.monotonic()
        consumer.wait()
        self.assertLess(time.monotonic() - begun, 4, "it gets its shards at once under its old name")
        repeated = self.repeated(collector, self.logs, "kill")
        self.assertEqual(repeated, in_flight)

    def test_shutdown_saves_delivered_events(self):
        collector = self.collector()
        collector.inject(Slow(0.1), times=None)
        consumer = self.consumer(self.logstore, collector, "--set", "requests=2", group="end")
        wait_for(lambda: len(collector.events) > len(self.logs) // 3)
        consumer.stop()
        position = self.checkpoint(self.logstore, "end")
        self.assertEqual(len(self.before(position)), len(collector.events))
        consumer.start()
        consumer.wait()
        self.assert_received(self.logs, collector)

    def test_memory_is_bounded_during_outage(self):
        logs = [Log(BEGIN, (("id", b"%d" % number), ("text", b"x" * (60 << 10)))) for number in range(2000)]
        logstore, collector = self.filled(logs, size=64), self.collector()
        collector.close()
        consumer = self.consumer(logstore, collector, group="down")
        consumer.wait_for_problem("refused")
        time.sleep(3)
        waiting = consumer.memory("VmHWM")
        collector.start()
        most = waiting
        while consumer.is_alive():
            most = max(most, consumer.memory() if consumer.is_alive() else 0)
            time.sleep(0.1)
        consumer.wait()
        print(f"memory: {waiting // MIB} MiB while {len(logs) * 60 // 1024} MB wait, {most // MIB} MiB at most")
        self.assert_received(logs, collector)
        self.assertLess(most, 400 * MIB)


class Groups(HecCase):
    def test_consumers_share_shards_and_one_may_die(self):
        logs, collector = hostile(8000), self.collector()
        logstore = self.filled(logs[:4000], 4, 50)
        to = (logstore, collector, *SMALL)
        consumers = [self.consumer(*to, name=name, until_end=False) for name in ("one", "two")]
        wait_for(lambda: all("reading" in consumer.said() for consumer in consumers))
        self.put(logstore, logs[4000:6000], 50)
        self.wait_for_all(collector, logs[:6000])
        consumers[0].kill()
        self.put(logstore, logs[6000:], 50)
        self.wait_for_all(collector, logs)
        consumers[1].stop()
        self.assertEqual(self.repeated(collector, logs[:4000] + logs[4000:], "handed over"), 0)

    def wait_for_all(self, collector, logs):
        wait_for(lambda: len({event.event["id"] for event in collector.indexed()}) >= len(logs), every=0.2)
        # The last checkpoints.
        time.sleep(0.5)
