"""Test cases of deliveries to SIEMs: collectors, and a service whose rules deliver to receivers."""

import itertools
import json

from kit import service
from kit.consume import ENDED, LOGS_OF_A_GROUP, ConsumeCase
from kit.fakes.hec import TOKEN, Collector
from kit.fakes.syslog_receivers import Stream
from kit.waiting import wait_for

EVENT = "/services/collector/event"
# The separator of fields, which no value has.
SEPARATOR = "\u241f"
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


def fields(text):
    """The fields of a text."""
    return tuple((key, value) for key, _, value in (member.partition("=") for member in text.split(SEPARATOR)))


def found(event):
    """The time and the fields of an event, in their order, duplicates among them."""
    members = dict(json.loads(event.text, object_pairs_hook=tuple))
    return members["time"], members["event"]


class HecCase(ConsumeCase):
    def collector(self, **options):
        collector = Collector(**options)
        self.addCleanup(collector.close)
        return collector

    def consumer(self, logstore, to, *options, **how):
        to = to if isinstance(to, str) else to.endpoint
        return super().consumer(logstore, to, *options, **{"token": TOKEN, **how})

    def received(self, *collectors):
        """The events that a search in the collectors finds by now."""
        return [found(event) for collector in collectors for event in collector.indexed()]

    def assert_received(self, logs, *collectors):
        self.assert_once(self.received(*collectors), logs)

    def repeated(self, collector, logs, what):
        """Counts and prints duplicate events."""
        count = self.duplicates(self.received(collector), logs)
        print(f"{what}: {count} duplicates of {len(logs)} events")
        return count


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
        """Runs a command about the rule. Returns its output."""
        return self.service.command("rule", command, self.name, "--logstore", self.logstore.name, *options)

    def shown(self):
        return json.loads(self.run("show", "--report", "json"))

    def problem(self):
        """The error that stops delivery, if there is one."""
        return self.shown().get("problem")

    def tasks(self, *options):
        """Its tasks, in order within each shard."""
        tasks = self.service.tasks("--logstore", self.logstore.name, "--rule", self.name, *options)
        return sorted(tasks, key=lambda task: (task["shard"], int(task["begin"])))

    def wait_until_done(self, logs):
        """Waits until the tasks have delivered all logs. Returns the tasks."""
        tasks = {}

        def are_done():
            # While tasks are made, a list may have one twice.
            tasks.update({task["id"]: task for task in self.tasks()})
            return sum(task["rows"] or 0 for task in tasks.values() if is_done(task)) >= len(logs)

        wait_for(are_done, ENDED, lambda: f"{tasks}\n{self.service.log.read_text()[-4000:]}", every=0.1)
        return self.tasks()

    def ids(self):
        """The numbers of the logs in the collector."""
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
        # The file has tokens.
        cls.service.settings.chmod(0o600)
        cls.service.restart()

    def rule(self, logstore):
        """A rule that there is to be, and a collector that nobody else has."""
        receiver, collector = next(self.unused)
        return Rule(self, logstore, f"to-{receiver}", receiver, collector)

    def assert_done(self, rule, logs):
        """Checks that adjacent and successful tasks have all logs. Returns the tasks."""
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
        """The metrics of the service."""
        reply = self.service.request("GET", "/metrics", headers=self.service.admin.basic())
        self.assertEqual(reply.status, 200, reply.body)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in reply.body.decode().splitlines() if line.startswith(name + "{")]
        (line,) = (line for line in lines if all(label in line for label in wanted))
        return float(line.rpartition(" ")[2])
