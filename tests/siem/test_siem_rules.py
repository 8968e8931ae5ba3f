"""Rules of `logship serve` that send to SIEMs: each event comes as it was put, with tasks that say so, whatever becomes
of the receiver, the service and the rule."""

import itertools
import json
import threading
import time
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from consume import ENDED, LOGS_OF_A_GROUP, PROJECT, hostile, plain, service
from hec import TOKEN, Collector
from hec_faults import Run, Slow
from syslog_messages import parsed
from syslog_receivers import Stream
from test_consume_hec import EVENT, HecCase
from test_consume_syslog import SEPARATOR, fields
from waiting import wait_for

# Receivers that the settings of a service name: none is used by two rules.
RECEIVERS = 8
REQUESTS = 4
RECEIVER = """
[receivers.{name}]
type = "hec"
urls = ["{collector.endpoint}"]
token = "{token}"
requests = {requests}
batch-bytes = 200000
"""
SYSLOG = """
[receivers.syslog]
type = "syslog"
host = "{}"
port = {}
"""
TO_HEC = """
[[siem]]
name = "{name}"
logstore = "{logstore}"
receiver = "{receiver}"
format = {{ sourcetype = "{sourcetype}", index-from = "__topic__" }}
"""
TO_SYSLOG = """
[[siem]]
name = "soc"
logstore = "{logstore}"
receiver = "syslog"
format = {{ separator = "{separator}", escape = "none" }}
"""
# Loads of a shard that are on their way at most.
AHEAD = 4
# Logs of a group of continuous traffic.
SMALL_GROUP = 50
# Seconds of continuous traffic, of its outage, and of what was before that.
TRAFFIC, OUTAGE, BEFORE = 15, 6, 4


class Rule:
    """A rule of a service that sends a logstore to a receiver."""

    def __init__(self, test, logstore, name, receiver, collector):
        self.service, self.logstore = test.service, logstore
        self.name, self.receiver, self.collector = name, receiver, collector

    def send(self, *options):
        """Makes it."""
        self.run("send", "--receiver", self.receiver, *options)
        return self

    def run(self, command, *options):
        """What a command about it prints."""
        return self.service.command("rule", command, self.name, "--logstore", self.logstore.name, *options)

    def shown(self):
        return json.loads(self.run("show", "--report", "json"))

    def problem(self):
        """What keeps it from sending, if anything does."""
        return self.shown().get("problem")

    def tasks(self, *options):
        """Its tasks, those of each shard one after the other."""
        tasks = self.service.tasks("--logstore", self.logstore.name, "--rule", self.name, *options)
        return sorted(tasks, key=lambda task: (task["shard"], int(task["begin"])))

    def wait_until_done(self, logs):
        """Waits until tasks say of all logs that they were sent. Returns the tasks."""
        tasks = {}

        def are_done():
            # While tasks are made, a list may have one twice.
            tasks.update({task["id"]: task for task in self.tasks()})
            return sum(task["rows"] or 0 for task in tasks.values() if is_done(task)) >= len(logs)

        wait_for(are_done, ENDED, lambda: f"{tasks}\n{self.service.log.read_text()[-4000:]}", every=0.1)
        return self.tasks()

    def ids(self):
        """The numbers of the logs whose events the collector has."""
        return [number(event) for event in self.collector.indexed()]

    def numbers(self, tasks, size=LOGS_OF_A_GROUP):
        """The numbers of the logs of tasks, where there is one shard, and so many logs in a group."""
        begin = service.position(self.logstore.begin(0))
        groups = [range(int(task["begin"]) - begin, int(task["end"]) - begin) for task in tasks]
        return {log for group in itertools.chain(*groups) for log in range(group * size, (group + 1) * size)}


def is_done(task):
    return task["taskStatus"] == "success"


def number(event):
    return int(event.event["id"])


class RulesCase(HecCase):
    """Test cases that share a service, whose settings name receivers."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.syslog, collectors = Stream(), {f"hec-{place}": Collector() for place in range(RECEIVERS)}
        for collector in collectors.values():
            cls.addClassCleanup(collector.close)
        cls.addClassCleanup(cls.syslog.stop)
        cls.unused = iter(collectors.items())
        known = {"token": TOKEN, "requests": REQUESTS}
        settings = [RECEIVER.format(name=name, collector=collector, **known) for name, collector in collectors.items()]
        cls.service.settings.write_text("".join([*settings, SYSLOG.format(*cls.syslog.address)]))
        # It has tokens.
        cls.service.settings.chmod(0o600)
        cls.service.restart()

    def rule(self, logstore):
        """A rule that there is to be, and a collector that nobody else has."""
        receiver, collector = next(self.unused)
        return Rule(self, logstore, f"to-{receiver}", receiver, collector)

    def assert_done(self, rule, logs):
        """All logs are in tasks that succeeded, which are adjacent, and have no complaints. Returns the tasks."""
        tasks = rule.wait_until_done(logs)
        self.assertEqual({task["taskStatus"] for task in tasks}, {"success"})
        self.assertEqual({(task["taskCode"], task["taskMessage"]) for task in tasks}, {("", "")})
        self.assertEqual(sum(task["rows"] for task in tasks), len(logs))
        for shard, of_shard in itertools.groupby(tasks, lambda task: task["shard"]):
            of_shard, begin = list(of_shard), service.position(rule.logstore.begin(shard))
            ends = [begin, *(int(task["end"]) for task in of_shard)]
            self.assertEqual([int(task["begin"]) for task in of_shard], ends[:-1], of_shard[:3])
        return tasks

    def assert_sent(self, rule, logs):
        """All logs are delivered once, field by field, and tasks say so."""
        tasks = self.assert_done(rule, logs)
        self.assert_received(logs, rule.collector)
        return tasks

    def metric(self, name, **labels):
        """What the service has counted."""
        reply = self.service.request("GET", "/metrics", headers=self.service.admin.basic())
        self.assertEqual(reply.status, 200, reply.body)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in reply.body.decode().splitlines() if line.startswith(name + "{")]
        (line,) = (line for line in lines if all(label in line for label in wanted))
        return float(line.rpartition(" ")[2])


class Delivery(RulesCase):
    def test_a_rule_made_by_send_delivers_each_log_once_and_tasks_say_so(self):
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

    def test_rules_of_a_file_deliver_to_both_receivers_and_a_second_apply_changes_nothing(self):
        logs = hostile(4000)
        logstore = self.filled(logs[:-1], topic="audit")
        hec, soc = self.rule(logstore), Rule(self, logstore, "soc", "syslog", None)
        file = self.file(self.to_hec(hec), TO_SYSLOG.format(logstore=logstore.name, separator=SEPARATOR))
        self.assertEqual(self.apply(file, "--dry-run").count("would be made"), 2)
        self.assertEqual(self.apply(file).count(" made"), 2)
        for rule in hec, soc:
            self.assert_done(rule, logs[:-1])
        before = [rule.shown() for rule in (hec, soc)]
        self.assertEqual(self.apply(file).count("is as it has to be"), 2)
        self.assertEqual([rule.shown() for rule in (hec, soc)], before)
        # Both go on where they were.
        self.put(logstore, logs[-1:], topic="audit")
        self.assert_sent(hec, logs)
        self.assert_done(soc, logs)
        self.assert_once(self.of_syslog(), logs)
        self.assertEqual(self.syslog.problems(), [])

    def test_a_rule_that_is_changed_by_a_file_goes_on_where_it_was(self):
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

    def test_a_receiver_that_the_settings_do_not_name_is_refused(self):
        logstore = self.empty()
        said = self.service.refused("rule", "send", "none", "--logstore", logstore.name, "--receiver", "nowhere")
        self.assertIn("nowhere", said)
        self.assertIn("hec-0", said)

    def test_a_rule_that_is_disabled_sends_nothing_and_enabled_goes_on_where_it_was(self):
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

    def test_events_that_are_refused_for_good_are_listed_and_sent_again(self):
        self.assert_listed()
        self.assertIn(f"{len(self.BAD)} x Invalid data format", self.letters())
        self.assertIn(f"{len(self.BAD)} dead letters are left", self.resend(run="refused"))
        self.assert_listed()
        self.sent.collector.clear()
        self.assertIn(f"{len(self.BAD)} received, 0 refused again", self.resend())
        self.assert_received(self.LOGS, self.sent.collector)
        self.assertIn("no dead letters", self.letters())
        self.assert_metrics()

    def assert_metrics(self):
        labels = {"project": PROJECT, "logstore": self.sent.logstore.name, "rule": self.sent.name}
        self.assertEqual(self.metric("logship_siem_events_total", **labels), len(self.good))
        self.assertEqual(self.metric("logship_siem_dead_letters_total", **labels), len(self.BAD))
        self.assertEqual(self.metric("logship_ship_lag_seconds", shard=0, **labels), 0)

    def test_metrics_count_the_bytes_of_events_that_were_received(self):
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

    def disturbed(self, disturb, nth):
        """A rule, where something is done when a request comes."""
        rule = self.rule(self.logstore)
        rule.collector.inject(Run(disturb), path=EVENT, nth=nth)
        rule.collector.inject(Slow(0.05), times=None)
        return rule.send()

    def test_a_receiver_that_is_away_is_told_and_gets_all_once_when_it_is_back(self):
        logs = hostile(4000)
        rule = self.rule(self.filled(logs))
        rule.collector.close()
        rule.send()
        failed = wait_for(lambda: rule.tasks("--status", "failed"), message="no task has failed")[0]
        self.assertIn("refused", failed["taskMessage"])
        self.assertEqual((failed["taskStatus"], failed["taskCode"]), ("fail", "InternalServerError"))
        self.assertIn(rule.collector.endpoint, rule.problem())
        self.assertIn("held", self.service.command("rule", "list", "--logstore", rule.logstore.name))
        self.assertGreater(self.metric("logship_siem_retries_total", receiver=rule.receiver), 0)
        rule.collector.start()
        self.assert_sent(rule, logs)
        wait_for(lambda: rule.problem() is None, message="there still is a problem")

    def test_a_kill_repeats_what_was_in_flight_and_loses_nothing(self):
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

    def test_a_service_that_ends_and_starts_again_sends_nothing_twice(self):
        rule = self.disturbed(lambda _: self.service.ask_to_end(), nth=10)
        self.assertEqual(self.service.wait(), 0)
        self.assertTrue(10 <= len(rule.collector.sent()), "it ended too early")
        self.assertLess(len(rule.collector.events), len(self.logs), "it ended too late")
        self.service.start()
        self.assert_sent(rule, self.logs)

    def test_a_rule_that_is_disabled_in_the_middle_sends_nothing_twice(self):
        reached = threading.Event()
        rule = self.disturbed(lambda _: reached.set(), nth=10)
        wait_for(reached.is_set)
        rule.run("disable")
        wait_for(lambda: all(map(is_done, rule.tasks())), message="tasks are not done")
        self.assertLess(len(rule.collector.events), len(self.logs), "it was disabled too late")
        rule.run("enable")
        self.assert_sent(rule, self.logs)

    def test_an_outage_in_the_middle_of_traffic_loses_nothing(self):
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


if __name__ == "__main__":
    unittest.main()
