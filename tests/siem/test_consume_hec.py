"""`logship consume` to an HTTP Event Collector: each event arrives unchanged, despite faults."""

import json
import time
from dataclasses import dataclass

from kit.certificates import Authority, server_context
from kit.consume import BEGIN, LOGS_OF_A_GROUP, Log, hostile, plain
from kit.fakes import hec_faults
from kit.fakes.faults import Page, Reset, Run, Silence, Slow, Trickle, Truncate
from kit.fakes.hec import ACKS, TOKEN
from kit.fakes.hec_faults import Refuse
from kit.siem_rules import EVENT, HecCase
from kit.waiting import wait_for

ACK = ACKS[0]
# Small requests, so that faults hit some of many.
SMALL = ("--set", "batch-bytes=60000")


@dataclass(frozen=True)
class Answer:
    """A 200 of a server that is no collector."""

    body: bytes

    def run(self, exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.body), self.body))


# Faults before and after events are accepted.
BEFORE = {
    "busy": Refuse(9),
    "busy, and says how long": Refuse(9, retry_after=1),
    "busy until a date": Refuse(9, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "queue full": Refuse(26),
    "shutting down": Refuse(23),
    "internal error": Refuse(8),
    "token disabled": Refuse(1),
    "page of a load balancer": Page(),
    "page that is fine": Answer(b"<!doctype html><html></html>"),
    "answer of something else": Answer(b'{"text": "The requested URL was not found on this server.", "code": 404}'),
    "JSON of something else": Answer(b'{"status": "ok"}'),
    "page of too many requests": Page(429, retry_after=1),
    "reset": Reset(),
    "silence": Silence(),
    "slow": Slow(0.5),
    "slow at last": Slow(0.5, before=False),
    "trickle": Trickle(0.002, 5),
}
AFTER = {
    "internal error": Refuse(8, before=False),
    "page of a load balancer": Page(504, before=False),
    "reset": Reset(before=False),
    "silence": Silence(before=False),
    "truncated": Truncate(),
    "slower than the timeout": Slow(2.5, before=False),
    "busy after some": hec_faults.BusyAfter(7),
}


def timeout(fault):
    """The timeout of requests: short only for faults that last as long, as busy machines answer late."""
    is_late = isinstance(fault, Silence) or fault == AFTER["slower than the timeout"]
    return "--set", f"timeout-seconds={2 if is_late else 20}"


class Events(HecCase):
    def test_delivers_each_event_once(self):
        logs = hostile(50000)
        logstore, collector = self.filled(logs, shards=2), self.collector()
        self.consume(logstore, collector)
        self.assert_received(logs, collector)
        requests = collector.sent()
        self.assertTrue(all(request.gzip for request in requests))
        self.assertTrue(all(len(request.body) <= 1_000_000 for request in requests))
        self.assertLessEqual(collector.connections, 8)

    def test_metadata_are_constants_or_fields(self):
        log = Log(BEGIN, (("app", b'a "b"\n\xff'), ("empty", b"")))
        group = {"topic": "audit", "source": "10.0.0.1", "tags": [("host", "web-1")]}
        logstore = self.filled([log], **group)
        for options, expected in {
            (): {},
            ("sourcetype=sls", "index=main", "source=s", "host=h"): dict(sourcetype="sls", index="main", source="s", host="h"),
            ("source-from=__source__", "host-from=__tag__:host"): dict(source="10.0.0.1", host="web-1"),
            ("sourcetype-from=app", "index-from=__topic__"): dict(sourcetype='a "b"\n\ufffd', index="audit"),
            ("sourcetype=sls", "sourcetype-from=none", "host=h", "host-from=empty"): dict(sourcetype="sls", host="h"),
        }.items():
            with self.subTest(options=options):
                self.assertEqual(self.only(logstore, *options).metadata(), expected)
        event = self.only(logstore, "reserved=true", "tags=true").event
        group = {"__topic__": "audit", "__source__": "10.0.0.1", "__tag__:host": "web-1"}
        self.assertEqual(event, {**group, **dict(log.texts())})
        self.assertEqual(self.only(logstore, "format=text").event, 'app=a "b"\n\ufffd||empty=')
        self.assertEqual(self.only(logstore, "format=text", "separator=\t").event, 'app=a "b"\n\ufffd\tempty=')

    def test_parses_json_fields_by_topic(self):
        values = {"event": b'{"a": [1.50, null, {"b": "\\n"}], "c": 2}', "other": b"[1]", "broken": b'{"a":'}
        log = Log(BEGIN, tuple(values.items()))
        asked = json.dumps({"audit": ["event", "broken", "none"]})
        for topic, expected in {"audit": '{"a":[1.50,null,{"b":"\\n"}],"c":2}', "x": json.dumps(values["event"].decode())}.items():
            event = self.only(self.filled([log], topic=topic), f"json-fields={asked}")
            text = f'{{"event":{expected},"other":"[1]","broken":"{{\\"a\\":"}}'
            self.assertEqual(event.text, f'{{"time":{BEGIN},"event":{text}}}')
        event = self.only(self.filled([log]), 'json-fields={"*":["other"]}')
        self.assertEqual(event.event["other"], [1])

    def only(self, logstore, *formats):
        """The event that a logstore's only log becomes."""
        collector = self.collector()
        options = [option for value in formats for option in ("--format", value)]
        self.consume(logstore, collector, *options, group=self.next_group(logstore))
        (event,) = collector.indexed()
        return event

    def test_delivers_logs_without_and_with_many_fields(self):
        logs = [Log(7, ()), Log(BEGIN, tuple((f"key {number}", b"%d" % number) for number in range(2000)))]
        collector = self.collector()
        self.consume(self.filled(logs), collector)
        empty, many = self.received(collector)
        self.assertEqual((empty, many), ((7, (("__time__", 7),)), (BEGIN, logs[1].texts())))


class Connections(HecCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logs = hostile(5000)
        cls.logstore = cls.filled(cls.logs)
        cls.authority = Authority(cls.folder)

    def test_delivers_over_https(self):
        collector = self.collector(context=server_context(self.authority.issue()))
        stranger = self.consumer(self.logstore, collector, group="stranger")
        stranger.wait_for_problem("certificate")
        stranger.kill()
        self.assertEqual(collector.requests, [])
        for number, setting in enumerate((f"ca={self.authority.file}", "verify=false")):
            self.consume(self.logstore, collector, "--set", setting, group=f"tls-{number}")
            self.assert_received(self.logs, collector)
            collector.events.clear()

    def test_rejects_certificate_of_other_name(self):
        collector = self.collector(context=server_context(self.authority.issue("far", hosts=["far.test"])))
        consumer = self.consumer(self.logstore, collector, "--set", f"ca={self.authority.file}", group="far")
        consumer.wait_for_problem("certificate")
        self.assertEqual(collector.requests, [])

    def test_reports_wrong_token_until_fixed(self):
        collector = self.collector(token="another")
        consumer = self.consumer(self.logstore, collector, group="token")
        consumer.wait_for_problem("Invalid token (code 4)")
        self.assertTrue(consumer.is_alive())
        self.assertEqual(self.checkpoint(self.logstore, "token"), 0)
        self.assertNotIn(TOKEN, consumer.said())
        collector.token = TOKEN
        consumer.wait()
        self.assert_received(self.logs, collector)
        self.assertFalse(consumer.letters.exists())

    def test_endpoints_share_requests_and_one_may_die(self):
        one, other = self.collector(), self.collector()
        for collector in one, other:
            collector.inject(Slow(0.05), times=None)
        to = f"{one.endpoint},{other.endpoint}"
        options = (*SMALL, "--set", "requests=2")
        consumer = self.consumer(self.logstore, to, *options, group="several")
        wait_for(lambda: min(len(one.sent()), len(other.sent())) >= 3)
        other.close()
        consumer.wait()
        # The events that were accepted without an answer when the connections ended.
        self.assertLessEqual(self.duplicates(self.received(one, other), self.logs), 2 * 1000)
        self.assertGreater(len(one.sent()), len(other.sent()))
        other.start()
        share = [len(one.sent()), len(other.sent())]
        self.consume(self.logstore, to, *options, group="again")
        share = [len(one.sent()) - share[0], len(other.sent()) - share[1]]
        self.assertGreater(min(share), sum(share) // 3, share)


class Faults(HecCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logs = hostile(4000)
        cls.logstore = cls.filled(cls.logs)

    def consume_with(self, fault, *options):
        """Sends all to a collector that has a fault three times. Returns the collector."""
        collector = self.collector()
        rule = collector.inject(fault, path=EVENT, nth=2, times=3)
        options = (*SMALL, *timeout(fault), *options)
        self.consume(self.logstore, collector, *options, group=self.next_group(self.logstore))
        self.assertEqual(rule.fired, 3)
        return collector

    def test_faults_before_acceptance_repeat_nothing(self):
        for name, fault in BEFORE.items():
            with self.subTest(fault=name):
                self.assertEqual(self.repeated(self.consume_with(fault), self.logs, f"before: {name}"), 0)

    def test_faults_after_acceptance_repeat_accepted_events(self):
        for name, fault in AFTER.items():
            with self.subTest(fault=name):
                collector = self.consume_with(fault)
                accepted = sum(request.accepted for request in collector.sent() if request.fault)
                self.assertGreater(accepted, 0)
                self.assertEqual(self.repeated(collector, self.logs, f"after: {name}"), accepted)

    def test_delivers_all_after_outage(self):
        collector = self.collector()
        collector.close()
        consumer = self.consumer(self.logstore, collector, group="away")
        consumer.wait_for_problem("refused")
        collector.start()
        consumer.wait()
        self.assert_received(self.logs, collector)

    def test_obeys_retry_after(self):
        collector, times = self.collector(), []
        collector.inject(Run(lambda request: times.append(time.monotonic())), times=None)
        collector.inject(Refuse(9, retry_after=2), nth=2)
        self.consume(self.logstore, collector, *SMALL, "--set", "requests=1", group="patient")
        self.assertEqual(self.duplicates(self.received(collector), self.logs), 0)
        self.assertGreaterEqual(times[2] - times[1], 2)
        self.assertLess(times[2] - times[1], 4)


class Acknowledgements(HecCase):
    ASKED = ("--set", "acknowledge=true", "--set", "acknowledge-seconds=4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logs = hostile(4000)
        cls.logstore = cls.filled(cls.logs)

    def acknowledging(self, *, fault=None, path=EVENT, delay=0.2, nth=2, times=3):
        """Sends all to a collector that acknowledges, and may have a fault some times. Returns the collector."""
        collector = self.collector(acks=True, index_delay=delay)
        rule = fault and collector.inject(fault, path=path, nth=nth, times=times)
        options = (*SMALL, *self.ASKED, *timeout(fault))
        self.consume(self.logstore, collector, *options, group=self.next_group(self.logstore))
        self.assertTrue(rule is None or rule.fired == times, rule)
        return collector

    def test_checkpoint_waits_for_indexing(self):
        collector = self.collector(acks=True, index_delay=1.5)
        consumer = self.consumer(self.logstore, collector, *SMALL, *self.ASKED, group="late")
        wait_for(lambda: len(collector.events) == len(self.logs))
        self.assertEqual(collector.indexed(), [])
        self.assertEqual(self.checkpoint(self.logstore, "late"), 0)
        consumer.wait()
        self.assert_received(self.logs, collector)
        self.assertEqual(self.checkpoint(self.logstore, "late"), len(self.logs) // LOGS_OF_A_GROUP)

    def test_faults_before_acceptance_repeat_nothing(self):
        for name in "busy", "internal error", "page of a load balancer", "reset", "silence", "slow":
            with self.subTest(fault=name):
                collector = self.acknowledging(fault=BEFORE[name])
                self.assertEqual(self.repeated(collector, self.logs, f"acknowledged, before: {name}"), 0)

    def test_faults_after_acceptance_repeat_accepted_events(self):
        for name in "internal error", "reset", "silence", "truncated":
            with self.subTest(fault=name):
                collector = self.acknowledging(fault=AFTER[name])
                accepted = sum(request.accepted for request in collector.sent() if request.fault)
                repeated = self.repeated(collector, self.logs, f"acknowledged, after: {name}")
                self.assertEqual(repeated, accepted)

    def test_resends_lost_events(self):
        collector = self.acknowledging(fault=hec_faults.Lose())
        self.assertEqual(self.repeated(collector, self.logs, "lost, never acknowledged"), 0)

    def test_resends_unacknowledged_events(self):
        collector = self.acknowledging(fault=hec_faults.Unacknowledged())
        accepted = sum(request.accepted for request in collector.sent() if request.fault)
        self.assertEqual(self.repeated(collector, self.logs, "indexed, never acknowledged"), accepted)

    def test_retries_failed_ack_queries(self):
        for fault in Refuse(9), Refuse(19), Page(502), Reset(), Silence():
            with self.subTest(fault=fault):
                collector = self.acknowledging(fault=fault, path=ACK, nth=1, times=6)
                self.assertEqual(self.repeated(collector, self.logs, f"question: {fault}"), 0)

    def test_lost_acknowledgements_repeat_events(self):
        collector = self.acknowledging(fault=Reset(before=False), path=ACK, nth=1, times=6, delay=0)
        self.assertLessEqual(self.repeated(collector, self.logs, "acknowledgements lost"), 6 * 1500)

    def test_reports_token_without_acknowledgements(self):
        collector = self.collector()
        consumer = self.consumer(self.logstore, collector, *self.ASKED, group="off")
        consumer.wait_for_problem("indexer acknowledgement is off")
        # It would accept them, and get them again and again.
        self.assertEqual(collector.sent(), [])

    def test_crash_repeats_no_indexed_events(self):
        collector = self.collector(acks=True, index_delay=3)
        # Well above what indexing takes on a busy machine.
        options = (*SMALL, *self.ASKED[:3], "acknowledge-seconds=8", "--set", "requests=2")
        consumer = self.consumer(self.logstore, collector, *options, group="crash")
        wait_for(lambda: len(collector.events) > len(self.logs) // 3)
        collector.crash()
        self.assertEqual(collector.indexed(), [])
        time.sleep(0.3)
        collector.start()
        consumer.wait()
        self.assertEqual(self.repeated(collector, self.logs, "crash"), 0)

    def test_crash_invalidates_ack_ids(self):
        """Numbers begin anew on the same channel, while that of a lost event is still asked for: the question falls in
        the time when the next event, which now has that number, is indexed, and has not asked yet itself."""
        logstore, logs = self.empty(), plain(2)
        collector = self.collector(acks=True, index_delay=0.9)
        options = (*self.ASKED[:3], "acknowledge-seconds=4")
        consumer = self.consumer(logstore, collector, *options, until_end=False, group="anew")
        wait_for(lambda: "reading" in consumer.said())
        self.put(logstore, logs[:1])
        wait_for(lambda: collector.events)
        accepted = time.monotonic()
        collector.crash()
        collector.start()
        # The consumer asks 0.1, 0.3, 0.7, 1.5 and 3.1 seconds after acceptance.
        time.sleep(accepted + 1.85 - time.monotonic())
        self.put(logstore, logs[1:])
        wait_for(lambda: self.checkpoint(logstore, "anew") == 2, message=consumer.said)
        consumer.stop()
        self.assert_received(logs, collector)
