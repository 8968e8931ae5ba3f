"""A put that is repeated after a lost reply is stored once: by `logship put`, as protobuf and as NDJSON, across kills."""

import gzip
import json
import os
import subprocess
import threading
import time
import unittest
from collections import Counter
from dataclasses import dataclass

from aliyun.log.proto import LogGroup

from kit import service
from kit.fakes.faults import Page, Reset
from kit.fakes.proxy import FaultyProxy
from kit.names import ADDRESS
from kit.paths import PROGRAM
from kit.waiting import PATIENCE

LINES = b'{"n":1}\n{"n":2}\n'
WRITERS, KILLS, LOGS = 4, 5, 40_000
REPLY = {"accepted": 2, "malformed": 0}


class Case(unittest.TestCase):
    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore(shards=2)

    def post(self, put_id, body=LINES, key=None, query="", **headers):
        headers = {**(key or self.service.admin).basic(), "x-logship-put-id": put_id, **headers}
        return self.service.request("POST", f"/ingest/{service.PROJECT}/logs{query}", body, headers)

    def assert_conflict(self, reply):
        self.assertEqual(reply.refusal(), (409, "PutIdConflict"))

    def assert_logs(self, count):
        self.assertEqual(len(self.logstore.logs()), count)


class Ids(Case):
    def test_repeated_ndjson_gets_same_reply_and_is_stored_once(self):
        for _ in range(3):
            reply = self.post("web-1:1")
            self.assertEqual((reply.status, reply.json()), (200, REPLY))
        self.service.kill()
        self.service.start()
        self.assertEqual(self.post("web-1:1").json(), REPLY)
        self.assert_logs(2)
        self.assertEqual(self.post("web-1:2").json(), REPLY)
        self.assert_logs(4)

    def test_compression_may_differ_in_a_repetition(self):
        for time_of_compression in 1, 2:
            body = gzip.compress(LINES, mtime=time_of_compression)
            self.assertEqual(self.post("a:1", body, **{"Content-Encoding": "gzip"}).status, 200)
        self.assertEqual(self.post("a:1").status, 200)
        self.assert_logs(2)

    def test_other_logs_under_same_id_are_rejected(self):
        self.post("a:1")
        self.assert_conflict(self.post("a:1", LINES + LINES))
        self.assert_conflict(self.post("a:1", query="?time_field=n"))
        self.assert_conflict(self.post("a:1", query="?key=" + "0" * 32))
        self.assert_logs(2)

    def test_rejected_body_leaves_no_id(self):
        self.assertEqual(self.post("a:1", b"oops", query="?strict=true").status, 400)
        self.assertEqual(self.post("a:1").status, 200)
        self.assert_logs(2)

    def test_ids_belong_to_key_and_logstore(self):
        other = self.service.create_key("--allow", "write")
        self.service.restart()
        self.service.logstore("others")
        self.post("a:1")
        self.assertEqual(self.post("a:1", LINES + LINES, other).status, 200)
        headers = {**self.service.admin.basic(), "x-logship-put-id": "a:1"}
        path = f"/ingest/{service.PROJECT}/others"
        self.assertEqual(self.service.request("POST", path, b'{"n":3}', headers).status, 200)
        self.assert_logs(6)

    def test_invalid_id_is_rejected(self):
        for put_id in "", " ", "x" * 129, "é":
            with self.subTest(put_id=put_id):
                self.assertEqual(self.post(put_id.encode("latin-1")).refusal(), (400, "ParameterInvalid"))
        self.assert_logs(0)

    def test_repeated_protobuf_is_stored_once(self):
        group = LogGroup(Topic="t")
        group.Logs.add(Time=int(time.time())).Contents.add(Key="n", Value="1")
        headers = {**self.service.admin.bearer(), "x-logship-put-id": "p:1", "Content-Type": "application/x-protobuf"}
        for path in "/logstores/logs/shards/lb", "/logstores/logs/shards/lb", "/logstores/logs":
            reply = self.service.request("POST", path, group.SerializeToString(), headers)
            self.assertEqual((reply.status, reply.body), (200, b""))
        self.assert_logs(1)
        group.Topic = "other"
        reply = self.service.request("POST", "/logstores/logs", group.SerializeToString(), headers)
        self.assert_conflict(reply)

    def test_concurrent_puts_with_one_id_are_one_put(self):
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(self.post("a:1"))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([(reply.status, reply.json()) for reply in replies], [(200, REPLY)] * 16)
        self.assert_logs(2)


class LostReplies(Case):
    """`logship put` while replies are lost: behind a faulty proxy, and with a service that is killed."""

    def start_put(self, writer, endpoint):
        lines = "".join(json.dumps({"id": f"{writer}-{number}", "pad": "x" * 100}) + "\n" for number in range(LOGS))
        path = self.service.folder / f"{writer}.ndjson"
        path.write_text(lines)
        place = {"SLS_ENDPOINT": endpoint, "SLS_PROJECT": service.PROJECT, "LOGSHIP_DATA": str(self.service.data)}
        command = [PROGRAM, "put", "logs", path, "--patience", str(4 * PATIENCE)]
        put = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **place})
        self.addCleanup(put.stderr.close)
        self.addCleanup(put.wait)
        self.addCleanup(put.kill)
        return put

    def assert_stored_once(self, puts):
        for put in puts:
            self.assertEqual(put.wait(4 * PATIENCE), 0, put.stderr.read())
        found = Counter(value for log in self.logstore.logs() for key, value in log.fields if key == "id")
        expected = [f"{writer}-{number}" for writer in range(len(puts)) for number in range(LOGS)]
        twice = [name for name, count in found.items() if count > 1]
        self.assertEqual((len(twice), set(expected) - set(found), len(found)), (0, set(), len(expected)))

    def test_put_behind_faulty_proxy_stores_once(self):
        with FaultyProxy((ADDRESS, self.service.port)) as proxy:
            faults = [Reset(before=False), Page(502, before=False), Page(503, before=False), Reset()]
            rules = [proxy.inject(fault, method="POST", nth=1 + index) for index, fault in enumerate(faults)]
            self.assert_stored_once([self.start_put(0, f"http://{ADDRESS}:{proxy.port}")])
        self.assertEqual([rule.fired for rule in rules], [1] * len(faults))

    def test_kill_between_commit_and_reply_stores_once(self):
        with FaultyProxy((ADDRESS, self.service.port)) as proxy:
            kills = [proxy.inject(KillAfterCommit(self.service), method="POST", nth=1 + 5 * n) for n in range(KILLS)]
            self.assert_stored_once([self.start_put(writer, f"http://{ADDRESS}:{proxy.port}") for writer in range(WRITERS)])
        self.assertEqual([kill.fired for kill in kills], [1] * KILLS)


@dataclass(frozen=True)
class KillAfterCommit:
    """The service is killed when it has stored a put, and its reply is lost."""

    service: service.Service
    lock = threading.Lock()

    def run(self, exchange):
        exchange.forward()
        with self.lock:
            self.service.kill()
            self.service.start()
        exchange.reset()
