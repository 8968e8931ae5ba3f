"""`logship consume` to an HTTP Event Collector: each event comes as it was put, whatever goes wrong."""

import itertools
import json
import unittest

from certificates import Authority, server_context
from consume import ConsumeCase, hostile, plain
from hec import TOKEN, Collector

EVENT = "/services/collector/event"


def found(event):
    """The time and the fields of an event, in their order, duplicates among them."""
    members = dict(json.loads(event.text, object_pairs_hook=tuple))
    return members["time"], members["event"]


class HecCase(ConsumeCase):
    groups = map("group-{}".format, itertools.count())

    def collector(self, **options):
        collector = Collector(**options)
        self.addCleanup(collector.close)
        return collector

    def consumer(self, logstore, to, *options, **how):
        to = to if isinstance(to, str) else to.endpoint
        return super().consumer(logstore, to, *options, **{"token": TOKEN, **how})

    def received(self, *collectors):
        """What collectors have that can be found by now."""
        return [found(event) for collector in collectors for event in collector.indexed()]


class Events(HecCase):
    def test_fifty_thousand_events_come_once_field_by_field(self):
        logs = hostile(50000)
        logstore, collector = self.filled(logs, shards=2), self.collector()
        self.consume(logstore, collector)
        self.assert_once(self.received(collector), logs)
        requests = collector.sent()
        self.assertTrue(all(request.gzip for request in requests))
        self.assertTrue(all(len(request.body) <= 1_000_000 for request in requests))
        self.assertLessEqual(collector.connections, 8)


if __name__ == "__main__":
    unittest.main()
