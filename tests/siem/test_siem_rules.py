"""Rules of `logship serve` that deliver to SIEMs: each event arrives unchanged and has a task, despite failures
of the receiver, the service and the rule."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from kit import service
from kit.consume import PROJECT, hostile, plain
from kit.fakes.faults import Run, Slow
from kit.fakes.hec import TOKEN
from kit.fakes.syslog_messages import parsed
from kit.siem_rules import (
    EVENT,
    REQUESTS,
    SEPARATOR,
    TO_HEC,
    TO_SYSLOG,
    Rule,
    RulesCase,
    fields,
    is_done,
    number,
)
from kit.waiting import wait_for

# Loads of a shard that are on their way at most.
AHEAD = 4
# Logs of a group of continuous traffic.
SMALL_GROUP = 50
# Seconds of continuous traffic, of its outage, and of what was before that.
TRAFFIC, OUTAGE, BEFORE = 15, 6, 4


class Delivery(RulesCase):
    def test_send_delivers_each_log_once(self):
        logs = hostile(10000)
        rule = self.rule(self.filled(logs, shards=2, topic="audit"))
        rule.send("--format", "sourcetype=sls", "--format", "index-from=__topic__")
        tasks = self.assert_sent(rule, logs)
        self.assertEqual({task["shard"] for task in tasks}, {0, 1})
        self.assertEqual({task["object"] for task in tasks}, {rule.receiver})
        metadata = {"sourcetype": "sls", "index": "audit"}
        self.assertTrue(all(event.metadata() == metadata for event in rule.collector.indexed()))
        printed = self.service.command("task", "list", "--rule", rule.name)
        self.assertIn("success", printed.lower())
        plan = json.loads(self.service.command("task", "show", tasks[0]["id"], "--report", "json"))["plan"]
        self.assertEqual(plan["targetConfiguration"]["receiver"], rule.receiver)
        self.assertNotIn(TOKEN, json.dumps([plan, rule.shown()]))

    def test_applied_file_delivers_to_both_receivers(self):
        logs = hostile(4000)
        logstore = self.filled(logs[:-1], topic="audit")
        hec, soc = self.rule(logstore), Rule(self, logstore, "soc", "syslog", None)
        file = self.file(self.to_hec(hec), TO_SYSLOG.format(logstore=logstore.name, separator=SEPARATOR))
        self.assertEqual(self.apply(file, "--dry-run").count("would be created"), 2)
        self.assertEqual(self.apply(file).count(" created"), 2)
        for rule in hec, soc:
            self.assert_done(rule, logs[:-1])
        before = [rule.shown() for rule in (hec, soc)]
        self.assertEqual(self.apply(file).count("is up to date"), 2)
        self.assertEqual([rule.shown() for rule in (hec, soc)], before)
        # Both go on where they were.
        self.put(logstore, logs[-1:], topic="audit")
        self.assert_sent(hec, logs)
        self.assert_done(soc, logs)
        self.assert_once(self.of_syslog(), logs)
        self.assertEqual(self.syslog.problems(), [])

    def test_changed_rule_continues_at_checkpoint(self):
        logs = plain(2)
        rule = self.rule(self.filled(logs[:1]))
        self.apply(self.file(self.to_hec(rule)))
        self.assert_done(rule, logs[:1])
        changes = self.apply(self.file(self.to_hec(rule, "another")))
        self.assertIn('format.sourcetype: "sls" -> "another"', changes)
        self.put(rule.logstore, logs[1:])
        self.assert_sent(rule, logs)
        self.assertEqual([event.metadata()["sourcetype"] for event in rule.collector.indexed()], ["sls", "another"])

    def to_hec(self, rule, sourcetype="sls"):
        place = {"name": rule.name, "logstore": rule.logstore.name, "receiver": rule.receiver}
        return TO_HEC.format(**place, sourcetype=sourcetype)

    def file(self, *rules):
        file = self.folder / "rules.toml"
        file.write_text("".join(rules))
        return file

    def apply(self, file, *options):
        return self.service.command("rule", "apply", "-f", file, *options)

    def of_syslog(self):
        messages = map(parsed, self.syslog.data())
        return [(message.seconds, fields(message.msg)) for message in messages]

    def test_rejects_unknown_receiver(self):
        logstore = self.empty()
        said = self.service.refused("rule", "send", "none", "--logstore", logstore.name, "--receiver", "nowhere")
        self.assertIn("nowhere", said)
        self.assertIn("hec-0", said)

    def test_enabled_rule_continues_at_checkpoint(self):
        logs = plain(3000)
        logstore = self.filled(logs[:1000])
        rule, other = (self.rule(logstore).send() for _ in range(2))
        self.assert_sent(rule, logs[:1000])
        rule.run("disable")
        self.put(logstore, logs[1000:2000])
        self.assert_sent(other, logs[:2000])
        while_disabled = len(rule.collector.events) - 1000
        rule.run("enable")
        self.assert_sent(rule, logs[:2000])
        rule.run("delete")
        self.put(logstore, logs[2000:])
        self.assert_sent(other, logs)
        self.assert_received(logs[:2000], rule.collector)
        self.assertEqual(while_disabled, 0, "logs that were put behind the command were sent")


class DeadLetters(RulesCase):
    LOGS = hostile(3000)
    # Some alone, some side by side, the first and the last.
    BAD = (0, 7, 8, 1234, 2999)

    def setUp(self):
        self.sent = self.rule(self.filled(self.LOGS))
        self.sent.collector.refuse_events(lambda members: int(members["event"]["id"]) in self.BAD)
        self.sent.send()
        # The shard went on.
        self.assert_done(self.sent, self.LOGS)
        self.good = [log for place, log in enumerate(self.LOGS) if place not in self.BAD]
        self.assert_received(self.good, self.sent.collector)

    def letters(self, command="list", *options, run="command"):
        place = ("--dead-letters", self.service.data / "dead-letters")
        return getattr(self.service, run)("deadletter", command, *place, *options)

    def listed(self):
        """The dead letters of the rule."""
        objects = json.loads(self.letters("list", "--report", "json"))
        letters = [letter for listed in objects for letter in listed["letters"]]
        return [letter for letter in letters if letter["rule"] == self.sent.name]

    def resend(self, run="command"):
        options = ("--all", "--receiver", self.sent.receiver, "--config", self.service.settings)
        return self.letters("resend", *options, run=run)

    def assert_listed(self):
        letters, origin = self.listed(), (PROJECT, self.sent.logstore.name, 0, self.sent.receiver)
        told = {(letter["project"], letter["logstore"], letter["shard"], letter["receiver"]) for letter in letters}
        self.assertEqual(told, {origin})
        self.assertEqual({(letter["code"], letter["reason"]) for letter in letters}, {("6", "Invalid data format")})
        events = [json.loads(letter["message"]) for letter in letters]
        came = [(event["time"], tuple(event["event"].items())) for event in events]
        self.assert_once(came, [self.LOGS[place] for place in self.BAD])

    # Runs before the test of the metrics, in the order of names, which adds dead letters of its own.
    def test_dead_letters_are_listed_and_resent(self):
        self.assert_listed()
        self.assertIn(f"{len(self.BAD)} x Invalid data format", self.letters())
        self.assertIn(f"{len(self.BAD)} dead letters remain", self.resend(run="refused"))
        self.assert_listed()
        self.sent.collector.clear()
        self.assertIn(f"{len(self.BAD)} accepted, 0 rejected again", self.resend())
        self.assert_received(self.LOGS, self.sent.collector)
        self.assertIn("no dead letters", self.letters())
        self.assert_metrics()

    def assert_metrics(self):
        labels = {"project": PROJECT, "logstore": self.sent.logstore.name, "rule": self.sent.name}
        self.assertEqual(self.metric("logship_siem_events_total", **labels), len(self.good))
        self.assertEqual(self.metric("logship_siem_dead_letters_total", **labels), len(self.BAD))
        self.assertEqual(self.metric("logship_ship_lag_seconds", shard=0, **labels), 0)

    def test_metrics_count_delivered_bytes(self):
        rule = self.rule(self.sent.logstore).send()
        tasks = self.assert_sent(rule, self.LOGS)
        for counted, sent in (rule, self.LOGS), (self.sent, self.good):
            with self.subTest(events=len(sent)):
                labels = {"project": PROJECT, "logstore": rule.logstore.name, "rule": counted.name}
                self.assertEqual(self.metric("logship_siem_events_total", **labels), len(sent))
                size = sum(len(event.text.encode()) for event in counted.collector.indexed())
                self.assertEqual(self.metric("logship_siem_bytes_total", **labels), size)
        of_logs = self.metric("logship_siem_logs_bytes_total", rule=rule.name)
        self.assertEqual(of_logs, sum(task["rawBytes"] for task in tasks))
        self.assertGreater(of_logs, sum(len(value) for log in self.LOGS for _, value in log.fields))


class Disturbances(RulesCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Several loads, more than are on their way at one time.
        cls.logs = hostile(16000, large=40)
        cls.logstore = cls.filled(cls.logs)

    def disturbed(self, disturb, nth, delay=0.05):
        """A rule, where something is done when a request comes. All requests take a while."""
        rule = self.rule(self.logstore)
        rule.collector.inject(Run(disturb), path=EVENT, nth=nth)
        rule.collector.inject(Slow(delay), times=None)
        return rule.send()

    def test_delivers_all_once_after_outage(self):
        logs = hostile(4000)
        rule = self.rule(self.filled(logs))
        rule.collector.close()
        rule.send()
        failed = wait_for(lambda: rule.tasks("--status", "failed"), message="no task has failed")[0]
        self.assertIn("refused", failed["taskMessage"])
        self.assertEqual((failed["taskStatus"], failed["taskCode"]), ("fail", "InternalServerError"))
        self.assertIn(rule.collector.endpoint, rule.problem())
        self.assertIn("paused", self.service.command("rule", "list", "--logstore", rule.logstore.name))
        self.assertGreater(self.metric("logship_siem_retries_total", receiver=rule.receiver), 0)
        rule.collector.start()
        self.assert_sent(rule, logs)
        wait_for(lambda: rule.problem() is None, message="there still is a problem")

    def test_kill_repeats_only_batches_in_flight(self):
        rule = self.disturbed(lambda _: self.service.kill(), nth=150)
        wait_for(lambda: self.service.process.poll() is not None)
        connections = rule.collector.connections
        self.service.start()
        tasks = rule.wait_until_done(self.logs)
        self.assertEqual({task["taskStatus"] for task in tasks}, {"success"})
        count = self.repeated(rule.collector, self.logs, "kill of the service")
        requests = rule.collector.requests
        before = [event for event in rule.collector.events if requests[event.request].connection <= connections]
        begun_twice = [task for task in tasks if task["attempts"] > 1]
        in_flight = rule.numbers(begun_twice) & set(map(number, before))
        twice = {log for log, times in Counter(rule.ids()).items() if times > 1}
        self.assertEqual((twice, count), (in_flight, len(in_flight)))
        self.assertTrue(0 < count < len(before), f"{count} of {len(before)}")
        self.assertLessEqual(len(begun_twice), AHEAD)

    def test_restart_repeats_nothing(self):
        rule = self.disturbed(lambda _: self.service.terminate(), nth=10)
        self.assertEqual(self.service.code(), 0)
        self.assertTrue(10 <= len(rule.collector.sent()), "it ended too early")
        self.assertLess(len(rule.collector.events), len(self.logs), "it ended too late")
        self.service.start()
        self.assert_sent(rule, self.logs)

    def test_restart_sends_only_tasks_that_have_begun(self):
        # Requests of all tasks in flight would take longer than the service waits.
        rule = self.disturbed(lambda _: self.service.terminate(), nth=5, delay=0.4)
        self.assertEqual(self.service.code(), 0)
        self.assertLess(len(rule.collector.events), len(self.logs) / 2, "tasks in flight were sent")
        rule.collector.clear()
        self.service.start()
        self.assert_sent(rule, self.logs)

    def test_disabled_rule_repeats_nothing(self):
        reached = threading.Event()
        rule = self.disturbed(lambda _: reached.set(), nth=10)
        wait_for(reached.is_set)
        rule.run("disable")
        # Tasks that have begun are still sent; the others wait.
        wait_for(lambda: self.is_quiet(rule.collector), message="it sends on")
        self.assertLess(len(rule.collector.events), len(self.logs), "it was disabled too late")
        rule.run("enable")
        self.assert_sent(rule, self.logs)

    def is_quiet(self, collector):
        """True if no request came for a second."""
        before = len(collector.requests)
        time.sleep(1)
        return len(collector.requests) == before

    def test_outage_during_traffic_loses_nothing(self):
        rule, ended = self.rule(self.empty()).send(), threading.Event()
        with ThreadPoolExecutor() as pool:
            logs = pool.submit(self.produce, rule.logstore, ended)
            try:
                self.watch(rule, BEFORE)
                self.close_within_a_request(rule.collector)
                self.watch(rule, OUTAGE)
                on_their_way = sum(request.accepted for request in rule.collector.sent()[-REQUESTS:])
                arrived = len(rule.collector.events)
                rule.collector.start()
                self.watch(rule, TRAFFIC - BEFORE - OUTAGE)
            finally:
                ended.set()
            logs = logs.result()
        self.assert_done(rule, logs)
        self.assertIn(self.repeated(rule.collector, logs, "outage in traffic"), range(1, on_their_way + 1))
        self.assertTrue(0 < arrived < len(logs), f"{arrived} of {len(logs)}")

    def close_within_a_request(self, collector):
        """Closes a collector when it has accepted events, and not said so."""
        closed = threading.Event()

        def close(_):
            collector.close()
            closed.set()

        collector.inject(Run(close, before=False), path=EVENT)
        wait_for(closed.is_set)

    def produce(self, logstore, ended):
        """Puts small log groups until it has ended. Returns their logs."""
        logs = []
        while not ended.wait(0.03):
            batch = hostile(SMALL_GROUP, first=len(logs))
            self.put(logstore, batch)
            logs += batch
        return logs

    def watch(self, rule, seconds):
        """Looks for so long whether a task or the checkpoint is ahead of what was delivered."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            begin = service.position(rule.logstore.begin(0))
            told = {"begin": begin, "end": rule.shown()["shards"][0]["checkpoint"] or begin}
            done = [told, *filter(is_done, rule.tasks())]
            ahead = rule.numbers(done, SMALL_GROUP) - set(rule.ids())
            self.assertEqual(sorted(ahead)[:5], [], f"{len(ahead)} logs are not delivered, and their tasks done")
