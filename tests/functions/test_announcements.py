"""Batches that are announced on a channel of a real Redis."""

import base64
import json
import unittest

from kit import debian
from kit.application import TASK, Application, manifest
from kit.fakes.put_store import Store
from kit.redis_server import RedisServer
from kit.waiting import wait_for

LINES = b'{"__time__":1760000000,"id":"1"}\n' * 5
CALL = {"rule": "lake", "x-logship-task": TASK, "content-type": "application/x-ndjson"}


@unittest.skipUnless(debian.AVAILABLE, debian.UNAVAILABLE)
class Announcements(unittest.TestCase):
    def setUp(self):
        self.redis, self.store = RedisServer(self), Store(self)
        trigger = f'[[trigger.redis]]\naddress = "{self.redis.url}"\nchannel = "batches"\ncomponent = "trigger-redis"'
        rules = {
            "lake": {"deliver": {"to": "s3", "endpoint": self.store.url, "bucket": "lake", "path-style": True}},
            "back": {},
        }
        text = manifest(rules, [self.store.url], triggers=trigger, trigger="trigger-redis")
        self.application = Application(self, text, waits=False)
        wait_for(lambda: "subscribed" in self.application.problem(), message=self.application.problem)

    def announce(self, **members):
        self.assertEqual(self.redis.publish("batches", json.dumps({**CALL, **members}).encode()), 1)

    def test_ships_batch_of_message(self):
        self.announce(body=base64.b64encode(LINES).decode())
        wait_for(lambda: self.store.objects, message=self.application.problem)
        [(path, (_, headers))] = self.store.objects.items()
        self.assertIn(TASK, path)
        self.assertEqual(headers["x-amz-meta-logship-rows"], "5")

    def test_fetches_batch_from_url(self):
        self.store.objects["/batches/1"] = (LINES, {})
        self.announce(url=f"{self.store.url}/batches/1")
        wait_for(lambda: len(self.store.objects) == 2, message=self.application.problem)

    def test_failed_message_does_not_block_next(self):
        self.redis.publish("batches", b"nonsense")
        self.announce(rule="none", body="")
        self.announce(rule="back", body="")
        self.announce()
        self.announce(url="http://192.0.2.1/")
        self.announce(body=base64.b64encode(LINES).decode())
        wait_for(lambda: self.store.objects, message=self.application.problem)
        for words in "not a JSON object", "unknown-rule", "delivers to the caller", "one of `url` and `body`", "forbidden":
            self.assertIn(words, self.application.problem())
