"""The HTTP Event Collector that others are tested by: what it takes, what it refuses, and what goes wrong with it."""

import gzip
import http.client
import json
import tempfile
import time
import unittest
from contextlib import closing

from kit.certificates import Authority, server_context
from kit.fakes import faults, hec_faults
from kit.fakes.hec import TOKEN, Collector
from kit.fakes.hec_channels import NEVER
from kit.fakes.hec_faults import Refuse
from kit.fakes.proxy import FaultyProxy
from kit.names import ADDRESS
from kit.waiting import wait_for

PATH = "/services/collector/event"
ACK = "/services/collector/ack"
CHANNEL = "fe0ecfad-13d5-401b-847d-77833bd77131"
SUCCESS = 200, {"text": "Success", "code": 0}
PATIENCE = 10
# The errors of a client whose connection ended before the answer.
GONE = (ConnectionError, http.client.HTTPException)


class Client:
    """Sends requests over one connection for as long as that lives."""

    def __init__(self, port, context=None, timeout=PATIENCE):
        kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
        options = {"context": context} if context else {}
        self.connection = kind(ADDRESS, port, timeout=timeout, **options)

    def send(self, body=b"", path=PATH, method="POST", **headers):
        """Status and body of the answer. Headers that are None are omitted."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": f"Splunk {TOKEN}", **headers}
        headers = {name: value for name, value in headers.items() if value is not None}
        try:
            self.connection.request(method, path, body, headers)
            self.answer = self.connection.getresponse()
            body = self.answer.read()
        except Exception:
            self.connection.close()
            raise
        is_json = "json" in self.answer.headers["Content-Type"]
        return self.answer.status, json.loads(body) if is_json else body.decode()

    def events(self, *events, **headers):
        return self.send(b"".join(json.dumps({"event": event}).encode() for event in events), **headers)

    def acks(self, *numbers, channel=CHANNEL):
        status, body = self.send(json.dumps({"acks": numbers}), f"{ACK}?channel={channel}")
        assert status == 200, body
        return [body["acks"][str(number)] for number in numbers]

    def close(self):
        self.connection.close()


def refusal(code, status, text, number=None):
    body = {"text": text, "code": code}
    return status, body if number is None else {**body, "invalid-event-number": number}


class CollectorCase(unittest.TestCase):
    def collector(self, **options):
        collector = Collector(**options)
        self.addCleanup(collector.close)
        return collector

    def client(self, collector, **options):
        client = Client(collector.port, **options)
        self.addCleanup(client.close)
        return client

    def both(self, **options):
        collector = self.collector(**options)
        return collector, self.client(collector)


class Requests(CollectorCase):
    def test_keeps_events_unchanged(self):
        collector, client = self.both()
        first = '{"time": 1700000000.123, "event": {"b": "1", "a": "ü", "b": "2"}, "index": "main", "sourcetype": "x"}'
        bodies = first + ' \r\n{"event":"text"}{"event":7,"time":"1700000001"}', '[{"event": "8"}, {"event": "9"}]'
        for body, path in zip(bodies, (PATH, "/services/collector")):
            self.assertEqual(client.send(body.encode(), path), SUCCESS)
        self.assertEqual([event.event for event in collector.events], [{"b": "2", "a": "ü"}, "text", 7, "8", "9"])
        whole = collector.events[0]
        self.assertEqual((whole.text, whole.time, whole.time.text), (first, 1700000000.123, "1700000000.123"))
        self.assertEqual(whole.metadata(), {"index": "main", "sourcetype": "x"})
        places = [(event.request, event.position, event.endpoint) for event in collector.events]
        self.assertEqual(places[2:4], [(0, 2, PATH), (1, 0, "/services/collector")])
        self.assertEqual(collector.indexed(), collector.events)

    def test_counts_requests_and_connections(self):
        collector, client = self.both()
        parts = [gzip.compress(b'{"event": 1}'), gzip.compress(b'{"event": 2}')]
        self.assertEqual(client.send(b"".join(parts), Content_Encoding="gzip"), SUCCESS)
        self.assertEqual(client.events(3), SUCCESS)
        self.assertEqual(self.client(collector).events(4), SUCCESS)
        self.assertEqual([event.event for event in collector.events], [1, 2, 3, 4])
        seen = [(request.gzip, request.accepted, request.connection) for request in collector.sent()]
        self.assertEqual(seen, [(True, 2, 1), (False, 1, 1), (False, 1, 2)])
        self.assertEqual(collector.sent()[0].size, sum(map(len, parts)))
        self.assertEqual(collector.connections, 2)

    def test_rejects_invalid_gzip(self):
        collector, client = self.both()
        for body in b'{"event": 1}', gzip.compress(b'{"event": 1}')[:-9]:
            self.assertEqual(client.send(body, Content_Encoding="gzip")[1]["code"], 6)
        self.assertEqual(client.send(b"", Content_Encoding="br")[0], 415)
        self.assertEqual(collector.events, [])

    def test_checks_tokens(self):
        collector, client = self.both()
        for header, expected in {
            None: refusal(2, 401, "Token is required"),
            "Bearer " + TOKEN: refusal(3, 401, "Invalid authorization"),
            "Splunk": refusal(3, 401, "Invalid authorization"),
            "Splunk " + TOKEN[1:]: refusal(4, 403, "Invalid token"),
        }.items():
            self.assertEqual(client.events(1, Authorization=header), expected, header)
        status, body = client.send(b"", f"{PATH}?token={TOKEN}", Authorization=None)
        self.assertEqual((status, body["code"]), (400, 16))
        collector.enabled = False
        self.assertEqual(client.events(1), refusal(1, 403, "Token disabled"))
        self.assertEqual(collector.events, [])

    def test_rejects_other_paths_and_methods(self):
        collector, client = self.both()
        health = {"path": "/services/collector/health", "method": "GET", "Authorization": None}
        self.assertEqual(client.send(**health), (200, {"text": "HEC is healthy", "code": 17}))
        collector.healthy = False
        self.assertEqual(client.send(**health)[0], 503)
        self.assertEqual(client.send(path="/services/collectors")[0], 404)
        self.assertEqual(client.send(method="GET")[0], 405)

    def test_rejects_long_body(self):
        collector, client = self.both(most_bytes=20, most_event_bytes=15)
        self.assertEqual(client.send(b" " * 21)[0], 413)
        self.assertEqual(client.events("1234"), refusal(6, 400, "Invalid data format", 0))
        self.assertEqual(client.events(1), SUCCESS)

    def test_serves_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(folder)
            collector = self.collector(context=server_context(authority.issue()))
            client = self.client(collector, context=authority.client_context())
            # A silent client does not block others.
            with closing(http.client.HTTPConnection(ADDRESS, collector.port)) as silent:
                silent.connect()
                self.assertEqual(client.events(1), SUCCESS)
            collector.inject(faults.Reset())
            with self.assertRaises(GONE):
                client.events(2)
            self.assertEqual(client.events(3), SUCCESS)
        self.assertTrue(collector.endpoint.startswith("https:"))
        self.assertEqual([event.event for event in collector.events], [1, 3])


class InvalidEvents(CollectorCase):
    # An event, the code, and what its number is more than its position.
    WRONG = (
        ('{"event": 1', 6, 0),
        ('{"event": NaN}', 6, 0),
        ('{"event": "\\ud8"}', 6, 0),
        ('"event"', 6, 0),
        ('{"event": 1, "sourceType": "x"}', 6, 0),
        ('{"event": 1, "source": 1}', 6, 0),
        ('{"event": 1, "fields": []}', 6, 0),
        ('{"event": 1, "index": "other"}', 7, 1),
        ("{}", 12, 0),
        ('{"event": null}', 12, 0),
        ('{"event": ""}', 13, 0),
        ('{"event": {}}', 13, 0),
        ('{"event": 1, "time": "noon"}', 15, 0),
        ('{"event": 1, "time": 1.7e9}', 15, 0),
        ('{"event": 1, "time": true}', 15, 0),
        ('{"event": 1, "fields": {"a": {"b": 1}}}', 15, 0),
    )

    def test_rejects_invalid_events_by_code_and_number(self):
        collector, client = self.both(indexes=("main",))
        for wrong, code, more in self.WRONG:
            body = '{"event": 1}{"event": 2}' + wrong + '{"event": 3}' * wrong.endswith("}")
            status, reply = client.send(body.encode())
            self.assertEqual((status, reply["code"], reply["invalid-event-number"]), (400, code, 2 + more), wrong)
        self.assertEqual(collector.events, [])

    def test_rejects_empty_body(self):
        client = self.both()[1]
        for body in b"", b" \n", b"[]":
            self.assertEqual(client.send(body), refusal(5, 400, "No data"))

    def test_reports_first_error(self):
        client = self.both()[1]
        self.assertEqual(client.send(b'{"event": ""}{'), refusal(13, 400, "Event field cannot be blank", 0))

    def test_partial_accepts_events_before_error(self):
        collector, client = self.both(partial=True)
        self.assertEqual(client.send(b'{"event": 1}{"event": 2}{}{"event": 3}')[1]["invalid-event-number"], 2)
        self.assertEqual([event.event for event in collector.events], [1, 2])
        self.assertEqual(collector.requests[0].accepted, 2)

    def test_refuses_events_by_predicate(self):
        collector, client = self.both()
        collector.refuse_events(lambda members: members["event"] == 2)
        self.assertEqual(client.events(1, 2, 3), refusal(6, 400, "Invalid data format", 1))
        self.assertEqual(client.events(1, 3), SUCCESS)
        collector.clear()
        self.assertEqual(client.events(2), SUCCESS)

    def test_lenient_policy_accepts_unknown_members(self):
        self.assertEqual(self.both(strict=False)[1].send(b'{"event": 1, "other": 2}'), SUCCESS)


class Acknowledgements(CollectorCase):
    def send(self, client, *events, channel=CHANNEL):
        status, body = client.events(*events, X_Splunk_Request_Channel=channel)
        self.assertEqual(status, 200, body)
        return body["ackId"]

    def test_acknowledges_once_after_delay(self):
        collector, client = self.both(acks=True, index_delay=0.2)
        other = CHANNEL.replace("f", "e")
        self.assertEqual([self.send(client, 1), self.send(client, 2), self.send(client, 3, channel=other)], [0, 1, 0])
        self.assertEqual(client.acks(0, 1, 2), [False, False, False])
        self.assertEqual(collector.indexed(), [])
        time.sleep(0.25)
        self.assertEqual(client.acks(0), [True])
        self.assertEqual(client.acks(0, 1), [False, True])
        self.assertEqual(client.acks(0, 1, channel=other), [True, False])
        self.assertEqual(len(collector.indexed()), 3)
        self.assertEqual(collector.pending(CHANNEL), [])
        self.assertEqual(collector.events[2].channel, other)

    def test_channels_must_be_guids(self):
        collector, client = self.both(acks=True)
        self.assertEqual(client.events(1), refusal(10, 400, "Data channel is missing"))
        self.assertEqual(client.events(1, X_Splunk_Request_Channel="one"), refusal(11, 400, "Invalid data channel"))
        self.assertEqual(client.send(b'{"event": 1}', f"{PATH}?channel={CHANNEL}")[1]["ackId"], 0)
        self.assertEqual(client.send(b'{"acks": [0]}', ACK)[1]["code"], 10)
        for body in b"", b"{}", b'{"acks": 0}', b'{"acks": ["0"]}':
            self.assertEqual(client.send(body, f"{ACK}?channel={CHANNEL}")[1]["code"], 6)

    def test_acknowledgements_can_be_disabled(self):
        client = self.both()[1]
        self.assertEqual(client.events(1, X_Splunk_Request_Channel=CHANNEL), SUCCESS)
        self.assertEqual(client.send(b'{"acks": [0]}', ACK), refusal(14, 400, "ACK is disabled"))

    def test_lost_events_are_never_acknowledged(self):
        collector, client = self.both(acks=True)
        collector.inject(hec_faults.Lose())
        collector.inject(hec_faults.Unacknowledged())
        numbers = [self.send(client, event) for event in (1, 2, 3)]
        self.assertEqual(client.acks(*numbers), [False, False, True])
        self.assertEqual(self.send(client, 4), 3)
        self.assertEqual([event.event for event in collector.indexed()], [2, 3, 4])
        self.assertEqual([event.lost for event in collector.events], [True, False, False, False])

    def test_never_delay_acknowledges_nothing(self):
        collector, client = self.both(acks=True, index_delay=NEVER)
        self.assertEqual(client.acks(self.send(client, 1)), [False])
        self.assertEqual((len(collector.events), collector.indexed()), (1, []))

    def test_crash_loses_unindexed_events(self):
        collector, client = self.both(acks=True)
        self.send(client, 1)
        collector.index_delay = NEVER
        self.send(client, 2)
        collector.crash()
        with self.assertRaises(OSError):
            client.events(3)
        collector.start()
        collector.index_delay = 0
        self.assertEqual(self.send(client, 2), 0)
        self.assertEqual([event.event for event in collector.indexed()], [1, 2])


class Faults(CollectorCase):
    def test_injects_refusals(self):
        collector, client = self.both()
        collector.inject(Refuse(9, retry_after=3, number=0))
        collector.inject(hec_faults.QUEUE_FULL, times=2)
        collector.inject(hec_faults.INVALID_TOKEN)
        collector.inject(faults.Page(502, retry_after=1))
        collector.inject(Refuse(8, before=False))
        self.assertEqual(client.events(1), refusal(9, 503, "Server is busy", 0))
        self.assertEqual(client.answer.headers["Retry-After"], "3")
        self.assertEqual([client.events(1)[0] for _ in range(5)], [429, 429, 403, 502, 500])
        self.assertEqual(len(collector.events), 1)
        self.assertEqual(client.events(2), SUCCESS)
        self.assertEqual([request.status for request in collector.requests], [503, 429, 429, 403, 502, 500, 200])

    def test_rules_obey_conditions(self):
        collector, client = self.both()
        poisoned = {"when": lambda request: b"poison" in request.body}
        rule = collector.inject(hec_faults.INTERNAL_ERROR, **poisoned, nth=2, times=None)
        self.assertEqual([client.events(e)[0] for e in ("poison", "x", "poison", "poison")], [200, 200, 500, 500])
        self.assertEqual((rule.matched, rule.fired), (3, 2))
        collector.clear()
        self.assertEqual(client.events("poison"), SUCCESS)

    def test_busy_after_accepts_first_events(self):
        collector, client = self.both()
        collector.inject(hec_faults.BusyAfter(2))
        self.assertEqual(client.events(1, 2, 3), refusal(9, 503, "Server is busy", 2))
        self.assertEqual([event.event for event in collector.events], [1, 2])

    def test_resets_before_and_after_acceptance(self):
        collector, client = self.both()
        injected = faults.Reset(), faults.Reset(before=False), faults.Truncate()
        for accepted, fault in zip((0, 1, 2), injected):
            collector.inject(fault)
            with self.assertRaises(GONE):
                client.events(accepted)
            self.assertEqual(len(collector.events), accepted)
        self.assertEqual(client.events(3), SUCCESS)
        self.assertEqual(collector.connections, 4)

    def test_works_behind_proxy(self):
        collector = self.collector()
        with FaultyProxy(collector.address) as proxy, closing(Client(proxy.port)) as client:
            proxy.inject(faults.ResetInBody())
            with self.assertRaises(GONE):
                client.events("long" * 1000)
            self.assertEqual(client.events(1), SUCCESS)
        self.assertEqual([event.event for event in collector.events], [1])

    def test_silence_before_and_after_acceptance(self):
        collector = self.collector()
        client = self.client(collector, timeout=0.2)
        for accepted, before in enumerate((True, False)):
            collector.inject(faults.Silence(before=before))
            with self.assertRaises(TimeoutError):
                client.events(1)
            wait_for(lambda: len(collector.events) == accepted)

    def test_slow_delays_answers(self):
        collector, client = self.both()
        collector.inject(faults.Slow(0.1))
        collector.inject(faults.Trickle(pause=0.001, size=20))
        started = time.monotonic()
        self.assertEqual([client.events(1), client.events(2)], [SUCCESS, SUCCESS])
        self.assertGreater(time.monotonic() - started, 0.1)

    def test_restarts_at_same_port(self):
        collector, client = self.both()
        client.events(1)
        collector.close()
        with self.assertRaises(OSError):
            client.events(2)
        collector.start()
        self.assertEqual(client.events(3), SUCCESS)
        self.assertEqual([event.event for event in collector.events], [1, 3])
