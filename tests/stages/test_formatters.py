"""Formatters of rules that send to SIEMs: swapped while a rule delivers, held where they fail, and tried."""

import threading
import time
from collections import Counter

from kit.fakes.hec import TOKEN, Collector
from kit.marking import BUILD, SETTINGS, Case
from kit.paths import COMPONENTS_EXAMPLES
from kit.waiting import wait_for

RECEIVER = """
[receivers.{name}]
type = "hec"
urls = ["{endpoint}"]
token = "{token}"
"""
RECEIVERS = "splunk", "other"


class Formatters(Case):
    def setUp(self):
        self.collectors = {name: Collector() for name in RECEIVERS}
        for collector in self.collectors.values():
            self.addCleanup(collector.close)
        receivers = (
            RECEIVER.format(name=name, endpoint=collector.endpoint, token=TOKEN)
            for name, collector in self.collectors.items()
        )
        self.settings = "".join([SETTINGS, *receivers])
        super().setUp()
        # The file has tokens, and the service warns if others can read them.
        self.service.settings.chmod(0o600)
        self.stage("add", self.file("0001"), "--name", "marker")

    def file(self, mark, act="work"):
        component = (COMPONENTS_EXAMPLES / "marking-formatter.wasm").read_bytes()
        self.assertEqual(component.count(BUILD), 1)
        path = self.service.folder / f"{mark}-{act}.wasm"
        path.write_bytes(component.replace(BUILD, f"marking-build {mark} {act}".ljust(len(BUILD)).encode()))
        return path

    def send(self, name, receiver, stage="marker"):
        self.service.command("rule", "send", name, "--logstore", "logs", "--receiver", receiver, "--stage", stage)

    def received(self, receiver="splunk"):
        """The marks of events, by the ids of their logs. Each comes once."""
        events = [event.event for event in self.collectors[receiver].indexed()]
        marks = {int(event["id"]): event["mark"] for event in events}
        self.assertEqual(len(marks), len(events), "some came twice")
        return marks

    def wait_until_sent(self, receiver="splunk", patience=20):
        """Until each log was delivered once. Returns the marks."""
        sent = lambda: len(self.received(receiver)) >= self.count
        wait_for(sent, patience, f"{receiver} gets too little")
        marks = self.received(receiver)
        self.assertEqual(sorted(marks), list(range(self.count)))
        return marks

    def send_on(self):
        """Puts logs, and returns the marks that they are sent with."""
        ids = self.put()
        marks = self.wait_until_sent()
        return {marks[number] for number in ids}

    def test_swap_during_delivery_loses_nothing(self):
        self.stage("add", self.file("0002"), "--name", "marker")
        self.send("mine", "splunk")
        ended = threading.Event()

        def put():
            while not ended.is_set():
                self.put(50)
                time.sleep(0.02)

        producer = threading.Thread(target=put)
        producer.start()
        for number in range(12):
            self.stage("swap", "marker", "0001" if number % 2 else "0002")
            time.sleep(0.2)
        ended.set()
        producer.join()
        marks = Counter(self.wait_until_sent(patience=60).values())
        self.assertEqual(set(marks), {"0001", "0002"})
        print(f"\n12 swaps while {self.count:,} events were sent, once each, by version: {dict(marks)}", end="")
        # From the next task on.
        self.assertEqual(self.send_on(), {"0001"})
        self.stage("swap", "marker", "0002")
        self.assertEqual(self.send_on(), {"0002"})
        self.stage("rollback", "marker")
        self.assertEqual(self.send_on(), {"0001"})
        tasks = self.service.tasks("--rule", "mine")
        self.assertEqual({task["taskStatus"] for task in tasks}, {"success"})

    def test_failing_formatter_opens_breaker_and_loses_nothing(self):
        self.send("mine", "splunk")
        self.send("other", "other", "marker@0001")
        self.assertEqual(self.send_on(), {"0001"})
        self.stage("swap", "marker", self.file("0002", "trap"))
        before = self.count
        for _ in range(3):
            self.put()
        self.check_held(before)
        # Also for who comes later.
        self.service.kill()
        self.service.start()
        self.check_held(before)
        self.stage("rollback", "marker")
        marks = self.wait_until_sent()
        self.assertEqual(set(marks.values()), {"0001"})
        wait_for(lambda: self.problem("mine") is None)
        wait_for(lambda: {task["taskStatus"] for task in self.service.tasks("--rule", "mine")} == {"success"})
        # Another version does as well.
        self.stage("swap", "marker", self.file("0003", "trap"))
        ids = self.put()
        wait_for(lambda: "failed 3 times" in (self.problem("mine") or ""), 60)
        self.stage("swap", "marker", self.file("0004"))
        marks = self.wait_until_sent()
        self.assertEqual({marks[number] for number in ids}, {"0004"})

    def check_held(self, before):
        held = lambda: "marking-formatter 0002 failed 3 times" in (self.problem("mine") or "")
        wait_for(held, 60, "the rule is not held")
        problem = self.problem("mine")
        self.assertIn("logship stage rollback", problem)
        self.assertIn("trapped", problem)
        # Others are as they were.
        self.put()
        self.assertEqual(set(self.wait_until_sent("other").values()), {"0001"})
        self.assertIsNone(self.problem("other"))
        self.assertEqual(len(self.received()), before, "nothing is sent by a stage that fails")
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        (value,) = (
            line.rpartition(" ")[2]
            for line in metrics.splitlines()
            if line.startswith("logship_rule_held{") and 'rule="mine"' in line
        )
        self.assertEqual(value, "1")

    def test_preview_sends_nothing(self):
        self.send("mine", "splunk")
        self.assertEqual(self.send_on(), {"0001"})
        done = lambda: {task["taskStatus"] for task in self.service.tasks("--rule", "mine")} == {"success"}
        wait_for(done)
        tried = lambda *arguments: self.service.run("stage", "try", *arguments, "--rule", "mine")
        done = tried(self.file("0002"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('- {"event":{"mark":"0001","id":"0"}}\n+ {"event":{"mark":"0002","id":"0"}}\n', done.stdout)
        self.assertIn("1 task: 1 different. 10 rows, ", done.stdout)
        self.assertEqual(tried("marker", "--expect", "same").returncode, 0)
        done = tried(self.file("0003", "trap"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("fails: stage marking-formatter", done.stdout)
        # Messages of another transport, and what makes none.
        self.assertIn("formats for syslog, and the receiver takes HEC", tried("siem-syslog").stderr)
        self.assertIn("it sends messages", tried("encode-json").stderr)
        self.assertIn("it has no transformers", tried("transform-fields").stderr)
        self.assertEqual(len(self.received()), self.count)
