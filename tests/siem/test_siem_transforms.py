"""Transforms before formatting: filtered logs count as delivered, and rejected logs become dead letters."""

import json

from kit import service
from kit.consume import LOGS_OF_A_GROUP, hostile, plain
from kit.paths import COMPONENTS_EXAMPLES
from kit.siem_rules import HecCase, RulesCase

# A transformer that refuses logs, for tests only.
REFUSING = COMPONENTS_EXAMPLES / "misbehaving-transform.wasm"


def fields(**settings):
    """An option for a built-in transform."""
    return f"--transform=fields={json.dumps(settings)}"


def kept(logs, digit):
    """The logs whose number ends with a digit."""
    return [log for log in logs if log.fields[0][1].endswith(digit)]


class Consume(HecCase):
    def test_filtered_logs_count_as_delivered(self):
        logs = hostile(5000)
        logstore, collector = self.filled(logs), self.collector()
        few = fields(where={"id": {"matches": "7$"}})
        self.consume(logstore, collector, few, group="few")
        self.assert_received(kept(logs, b"7"), collector)
        self.assertEqual(self.checkpoint(logstore, "few"), len(logs) // LOGS_OF_A_GROUP)

    def test_sends_nothing_if_all_logs_are_filtered(self):
        logstore, collector = self.filled(plain(2000)), self.collector()
        consumer = self.consume(logstore, collector, fields(where={"id": "none"}), group="none")
        self.assertEqual(collector.requests, [])
        self.assertEqual(self.checkpoint(logstore, "none"), 2000 // LOGS_OF_A_GROUP)
        self.assertIn("delivered 0 events", consumer.said())

    def test_transforms_run_in_order(self):
        logstore, collector = self.filled(plain(1000), source="10.0.0.1"), self.collector()
        options = (fields(rename={"method": "verb"}, set={"from": {"from": "__source__"}}), fields(drop=["path"]))
        self.consume(logstore, collector, *options, group="chain")
        events = [event.event for event in collector.indexed()]
        self.assertEqual(len(events), 1000)
        self.assertTrue(all(list(event) == ["id", "verb", "from"] for event in events), events[0])
        self.assertEqual({event["from"] for event in events}, {"10.0.0.1"})

    def test_keeps_log_rejected_by_transformer(self):
        logs = plain(1200)
        bad = {3, 4, 499, 500, 1199}
        refused = [log._replace(fields=(*log.fields, ("refuse", b"yes"))) if n in bad else log for n, log in enumerate(logs)]
        logstore, collector = self.filled(refused), self.collector()
        # The first transform drops a secret before the second one sees the log.
        options = (fields(drop=["path"]), f'--transform={REFUSING}={{"act":"refuse"}}', fields(where={"id": {"matches": "[^5]$"}}))
        consumer = self.consume(logstore, collector, *options, group="refused")
        found = sorted(int(event.event["id"]) for event in collector.indexed())
        self.assertEqual(found, [number for number in range(1200) if number not in bad and number % 10 != 5])
        letters = [json.loads(line) for file in consumer.letters.rglob("*.jsonl") for line in file.read_text().splitlines()]
        self.assertEqual({int(letter["fields"]["id"]) for letter in letters}, bad)
        begin = service.position(logstore.begin(0))
        for letter in letters:
            number = int(letter["fields"]["id"])
            place = (letter["cursor"] - begin + letter["group"]) * LOGS_OF_A_GROUP + letter["log"]
            self.assertEqual((place, letter["code"], letter["reason"]), (number, "rejected", "as configured"))
            self.assertNotIn("path", letter["fields"])
        self.assertEqual(self.checkpoint(logstore, "refused"), 3)

    def test_reports_invalid_transform_at_start(self):
        logstore, collector = self.filled(plain(1)), self.collector()
        consumer = self.consumer(logstore, collector, fields(mask={"a": "["}), group="wrong")
        self.assertNotEqual(consumer.process.wait(60), 0)


class Rules(RulesCase):
    def test_tasks_count_delivered_logs(self):
        logs = hostile(3000)
        rule = self.rule(self.filled(logs, shards=2, source="10.0.0.1"))
        rule.send(fields(where={"id": {"matches": "3$"}}, drop=["__source__"]), "--format", "host-from=__source__")
        tasks = self.assert_done(rule, kept(logs, b"3"))
        self.assert_received(kept(logs, b"3"), rule.collector)
        self.assertTrue(all("host" not in event.metadata() for event in rule.collector.indexed()))
        plan = json.loads(self.service.command("task", "show", tasks[0]["id"], "--report", "json"))["plan"]
        self.assertEqual([stage.split()[0] for stage in plan["stages"]], ["transform-fields", "siem-hec"])
        self.assertIn('drop = ["__source__"]', rule.run("show"))

    def test_errors_name_transform(self):
        logstore = self.filled(plain(1))
        rule = self.rule(logstore)
        send = ("rule", "send", rule.name, "--logstore", logstore.name, "--receiver", rule.receiver)
        said = self.service.refused(*send, fields(), fields(mask={"a": "["}))
        self.assertIn("transform[1]: stage transform-fields", said)
        self.assertIn("mask.a", said)
