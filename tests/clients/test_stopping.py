"""The end of the service by SIGTERM: what was acknowledged is there afterwards, where it was."""

import threading
import time
import unittest
from contextlib import closing

from aliyun.log import LogException
from aliyun.log.proto import LogGroup

from kit import service
from kit.waiting import wait_for

SHARDS = 4
PRODUCERS = 4
LOGS_OF_A_GROUP = 20
# The service itself gives requests on their way longer, but these take no time.
SECONDS_TO_END = 5


class Producer(threading.Thread):
    """Puts log groups one after another, by a client of its own, until it is told to end."""

    def __init__(self, served, number):
        super().__init__(daemon=True)
        self.logstore = service.Logstore(served.client(), "logs")
        self.number = number
        self.ended = False
        # Ids of groups: those that the service has taken, and those of which the client can't know.
        self.acknowledged = set()
        self.unknown = set()

    def run(self):
        count = 0
        while not self.ended:
            count += 1
            name = f"{self.number}-{count}"
            group = LogGroup(Topic=name)
            for number in range(LOGS_OF_A_GROUP):
                group.Logs.add(Time=int(time.time())).Contents.add(Key="number", Value=str(number))
            try:
                # A refused connection is retried, but not one that ends during a request.
                self.logstore.put(group)
                self.acknowledged.add(name)
            except LogException:
                self.unknown.add(name)

    def wait_for_more(self):
        count = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= count + 3, message="nothing is acknowledged")


class Stopping(unittest.TestCase):
    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore(shards=SHARDS)

    def stop(self):
        begun = time.monotonic()
        self.service.terminate()
        self.assertEqual(self.service.code(), 0)
        self.assertLess(time.monotonic() - begun, SECONDS_TO_END)

    def groups(self):
        """Position, name and size of all log groups, by shard."""
        return {
            shard: [(position, group.Topic, len(group.Logs)) for position, group in self.logstore.groups(shard)]
            for shard in range(SHARDS)
        }

    def test_restart_keeps_acknowledged_logs(self):
        client, cursor = self.logstore.client, self.logstore.begin(0)
        client.create_consumer_group(service.PROJECT, "logs", "group", 60, False)
        client.update_check_point(service.PROJECT, "logs", "group", 0, cursor, "consumer")
        producers = [Producer(self.service, number) for number in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.wait_for_more()
        before = self.groups()
        begin = [self.logstore.begin(shard) for shard in range(SHARDS)]

        self.stop()
        self.service.start()
        for producer in producers:
            producer.wait_for_more()
        for producer in producers:
            producer.ended = True
        for producer in producers:
            producer.join()

        after = self.groups()
        self.assertEqual([self.logstore.begin(shard) for shard in range(SHARDS)], begin)
        for shard, groups in before.items():
            self.assertEqual(after[shard][: len(groups)], groups)
        stored = [name for groups in after.values() for _, name, _ in groups]
        self.assertEqual(len(stored), len(set(stored)))
        acknowledged = set().union(*(producer.acknowledged for producer in producers))
        unknown = set().union(*(producer.unknown for producer in producers))
        print(f"\n{len(acknowledged)} puts acknowledged, {len(unknown)} without an answer, {len(stored)} stored")
        self.assertEqual(acknowledged - set(stored), set())
        self.assertEqual(set(stored) - acknowledged - unknown, set())
        self.assertEqual({logs for groups in after.values() for _, _, logs in groups}, {LOGS_OF_A_GROUP})
        (saved,) = client.get_check_point(service.PROJECT, "logs", "group", 0).get_consumer_group_check_points()
        self.assertEqual((saved["checkpoint"], saved["consumer"]), (cursor, "consumer"))

    def test_shutdown_finishes_request(self):
        body = b'{"a":"1"}'
        authorization = self.service.admin.basic()["Authorization"]
        head = (
            f"POST /ingest/{service.PROJECT}/logs HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with closing(self.service.connect()) as connection:
            connection.sendall(head.encode() + body[:4])
            time.sleep(0.3)
            self.service.terminate()
            time.sleep(0.3)
            connection.sendall(body[4:])
            self.assertTrue(service.read_all(connection).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.service.code(), 0)
        self.service.start()
        self.assertEqual([log.fields for log in self.logstore.logs()], [(("a", "1"),)])

    def test_idle_connections_do_not_delay_shutdown(self):
        with closing(self.service.connect()) as silent:
            # The SDK keeps its own, on which there was one.
            self.logstore.shards()
            self.stop()
            self.assertEqual(service.read_all(silent), b"")

    def test_incomplete_head_does_not_delay_shutdown(self):
        with closing(self.service.connect()) as connection:
            connection.sendall(b"GET /logstores HTTP/1.1\r\nHost: a")
            self.logstore.shards()
            self.stop()
