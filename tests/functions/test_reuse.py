"""Instances of functions serve several calls, as on Spin: nothing leaks from one to another, and failures show."""

import http.client
import json
import os
import re
import socket
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from functions.test_functions import literals, logs
from kit.application import LINES, TASK, Application, manifest
from kit.fakes.faults import Slow
from kit.fakes.put_store import Store
from kit.paths import COMPONENTS_EXAMPLES
from kit.waiting import wait_for

MISBEHAVING = COMPONENTS_EXAMPLES / "misbehaving-stage.wasm"
# An instance serves all calls of a test.
ONE_INSTANCE = ("--max-instance-reuse-count", "1000000", "--idle-instance-timeout", "600s")
SINGLE_USE = ("--max-instance-reuse-count", "1")
SMALL_MEMORY = ("--max-instance-memory", "64MiB")


def head(length, rule="lake", task=TASK):
    return (
        f"POST /v1/ship/{rule} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
        f"x-logship-task: {task}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def misbehaving(test, *options):
    """An application whose rules misbehave or deliver to a store."""
    store = Store(test)
    deliver = {"deliver": {"to": "s3", "endpoint": store.url, "bucket": "lake", "path-style": True}}
    acts = {act: {"format": {"type": "none", "act": act}, "compression": "none"} for act in ("behave", "trap", "loop", "allocate")}
    text = manifest({**acts, "put": {**acts["behave"], **deliver}}, [store.url], encoder=MISBEHAVING)
    return Application(test, text, "--stage-deadline", "2", *options), store


class Neighbors(unittest.TestCase):
    """Concurrent calls of an instance."""

    def failures(self, act, *options, calls=5):
        """Calls that wait for a store while another call misbehaves. Returns the answers of both."""
        application, store = misbehaving(self, *options)
        # Beforehand, so that compilation takes no time.
        application.ship("behave", logs(1))
        store.inject(Slow(6.0), method="PUT", times=calls)
        with ThreadPoolExecutor(calls) as pool:
            waiting = []
            # One after another, so that the instance of the first takes them all.
            for number in range(calls):
                waiting.append(pool.submit(application.ship, "put", logs(2), task=f"1760000089123456789_{number}"))
                wait_for(lambda: len(store.requests) == number + 1)
            failed = application.ship(act, logs(2))
            answers = [call.result() for call in waiting]
        # The retries succeed.
        again = [application.ship("put", logs(2), task=f"1760000089123456789_{n}") for n in range(calls)]
        self.assertEqual({answer.status for answer in again}, {200})
        return failed, answers

    def test_failure_ends_all_calls_of_its_instance(self):
        for act in "trap", "allocate":
            with self.subTest(act):
                failed, answers = self.failures(act)
                ended = [failed, *(answer for answer in answers if answer.status == 500)]
                # On a busy machine, some calls may have got another instance.
                self.assertGreater(len(ended), 2)
                for answer in ended:
                    self.assertTrue(answer.body.startswith(b"the function trapped: stage misbehaving-stage"), answer.body)
                    self.assertIn(b"ended all %d calls of the instance" % len(ended), answer.body)

    def test_limit_of_concurrent_calls_saves_neighbors(self):
        for act in "trap", "allocate", "loop":
            with self.subTest(act):
                failed, answers = self.failures(act, "--max-instance-concurrent-reuse-count", "1")
                self.assertEqual(failed.status, 500)
                self.assertNotIn(b"all", failed.body)
                self.assertEqual([answer.status for answer in answers], [200] * 5)

    def test_limit_of_concurrent_calls_bounds_the_damage(self):
        for limit in ("--max-instance-concurrent-reuse-count", "3"), ("--variable", "concurrency=3"):
            failed, answers = self.failures("trap", *limit)
            self.assertEqual(failed.status, 500)
            self.assertLessEqual(sum(answer.status == 500 for answer in answers), 2)

    def test_variable_saves_neighbors(self):
        """Where the host has no option for it, such as on SpinKube."""
        for act in "trap", "allocate":
            with self.subTest(act):
                failed, answers = self.failures(act, "--variable", "concurrency=1")
                self.assertEqual(failed.status, 500)
                self.assertNotIn(b"all", failed.body)
                self.assertEqual([answer.status for answer in answers], [200] * 5)

    def test_rejects_invalid_variable(self):
        for value in "0", "-1", "many", "1.5":
            application, _ = misbehaving(self, "--variable", f"concurrency={value}")
            for answer in application.ship("behave", logs(1)), application.describe("behave"):
                kind, _, detail = answer.problem()
                self.assertEqual((answer.status, kind), (500, "settings"))
                self.assertIn(f'the variable concurrency is "{value}": use a number of calls from 1', detail)

    def test_call_times_out_alone(self):
        application, store = misbehaving(self, "--request-timeout", "1500ms")
        application.ship("behave", logs(1))
        store.inject(Slow(4.0), method="PUT")
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(application.ship, "put", logs(1))
            wait_for(lambda: store.requests)
            others = [application.ship("behave", logs(3)) for _ in range(20)]
            answer = slow.result()
        self.assertLess(time.monotonic() - begun, 3.9)
        self.assertEqual((answer.status, answer.body), (500, b"the function exceeded its timeout of 1.5 s\n"))
        self.assertEqual({other.body for other in others}, {b"misbehaving-stage\n" * 3})


class State(unittest.TestCase):
    """Calls leave nothing behind in their instance."""

    RULES = {
        "json": {},
        "csv": {"format": "csv"},
        "gzip": {"compression": "gzip"},
        "plain": {"prefix": "p", "compression": "none", "format": {"type": "json", "tags": True}},
        "odd": {"prefixx": 1},
    }

    def calls(self):
        """Calls whose answers differ, by the rule, the body, the headers and their errors."""
        raw = logs(3)
        spec = {"x-logship-rule": json.dumps({"prefix": "q", "partition": "%Y", "path": {}})}
        packed = {**LINES, "x-log-compresstype": "lz4", "x-log-bodyrawsize": str(len(raw))}
        calls = [dict(rule=rule, body=logs(count)) for rule in self.RULES for count in (1, 40)]
        calls += [
            dict(rule="json", body=logs(7), **spec),
            dict(rule="json", body=logs(7), **{"x-logship-digest": "xxh3"}),
            dict(rule="json", body=logs(7), **{"x-logship-key": "another"}),
            dict(rule="json", body=literals(raw), headers=packed),
            dict(rule="json", body=literals(raw), headers={**packed, "x-log-bodyrawsize": "9"}),
            dict(rule="json", body=b'{"a":"1"}\nno\n'),
            dict(rule="json", body=b"", task=None),
            dict(rule="none", body=logs(1)),
        ]
        return [{**call, "task": call.get("task", f"1760000089123456789_{n}")} for n, call in enumerate(calls)]

    def answer(self, application, call):
        answer = application.ship(**call)
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        return answer.status, headers, answer.body

    def test_answers_are_those_of_new_instances(self):
        text = manifest(self.RULES)
        calls = self.calls()
        new = Application(self, text, *SINGLE_USE)
        expected = [self.answer(new, call) for call in calls]
        self.assertGreater(len({(status, body) for status, _, body in expected}), 10)
        reused = Application(self, text, *ONE_INSTANCE)
        for _ in range(2):
            self.assertEqual([self.answer(reused, call) for call in calls], expected)
        with ThreadPoolExecutor(16) as pool:
            concurrent = list(pool.map(lambda call: self.answer(reused, call), calls * 6))
        self.assertEqual(concurrent, expected * 6)

    def test_token_of_one_call_is_not_that_of_another(self):
        application = Application(self, manifest({"lake": {}}), "--variable", "call_token=right", *ONE_INSTANCE)

        def status(number):
            token = {"authorization": "Bearer right"} if number % 2 else {}
            return application.ship("lake", logs(3), **token).status

        with ThreadPoolExecutor(16) as pool:
            self.assertEqual(list(pool.map(status, range(100))), [401, 200] * 50)

    def test_memory_is_flat_over_a_thousand_calls(self):
        """A leak of a tenth of a call would exceed the memory of the instance."""
        application = Application(self, manifest({"lake": {"compression": "none"}}), *ONE_INSTANCE, *SMALL_MEMORY)
        body = b'{"a":"%s"}\n' % (b"x" * 300_000)
        connection = http.client.HTTPConnection(*application.address, timeout=60)
        self.addCleanup(connection.close)
        for number in range(1000):
            task = {"x-logship-task": f"1760000089123456789_{number}"}
            connection.request("POST", "/v1/ship/lake", body if number % 3 else b"{", {**LINES, **task})
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, 200 if number % 3 else 400)

    def test_broken_off_calls_leave_nothing_open(self):
        application = Application(self, manifest({"lake": {}}), *ONE_INSTANCE, *SMALL_MEMORY)
        folder = f"/proc/{application.process.pid}/fd"
        self.assertEqual(application.ship("lake", logs(5)).status, 200)
        before = len(os.listdir(folder))
        for number in range(300):
            with closing(socket.create_connection(application.address)) as connection:
                # More than is received before the call, and less than the body.
                connection.sendall(head(8 << 20) + b"{" * (300_000 if number % 2 else 10))
        wait_for(lambda: len(os.listdir(folder)) <= before + 1, message=lambda: str(os.listdir(folder)))
        self.assertEqual(application.ship("lake", logs(5)).status, 200)

    def test_unread_answers_leave_nothing_open(self):
        application = Application(self, manifest({"lake": {"compression": "none"}}), *ONE_INSTANCE, *SMALL_MEMORY)
        folder = f"/proc/{application.process.pid}/fd"
        self.assertEqual(application.ship("lake", logs(5)).status, 200)
        before, body = len(os.listdir(folder)), logs(3000)
        for number in range(100):
            with closing(socket.create_connection(application.address)) as connection:
                connection.sendall(head(len(body), task=f"1760000089123456789_{number}") + body)
                connection.recv(1)
        wait_for(lambda: len(os.listdir(folder)) <= before + 1, message=lambda: str(os.listdir(folder)))
        self.assertEqual(application.ship("lake", logs(5)).status, 200)

    def test_large_calls_get_instances_of_their_own(self):
        """Sixteen of them in one instance would exceed its memory."""
        application = Application(self, manifest({"lake": {}}), "--max-instance-memory", "256MiB")
        body = (b'{"a":"%s"}\n' % (b"x" * 1000)) * 12_000
        gate = threading.Barrier(16)

        def call(number):
            with closing(socket.create_connection(application.address)) as connection:
                connection.settimeout(60)
                half = len(body) // 2
                connection.sendall(head(len(body), task=f"1760000089123456789_{number}") + body[:half])
                gate.wait()
                connection.sendall(body[half:])
                return connection.recv(15)

        with ThreadPoolExecutor(16) as pool:
            self.assertEqual(set(pool.map(call, range(16))), {b"HTTP/1.1 200 OK"})


class Answers(unittest.TestCase):
    """The form of answers, which decides their latency on hosts without TCP_NODELAY."""

    def test_every_answer_has_its_length(self):
        store = Store(self)
        deliver = {"to": "s3", "endpoint": store.url, "bucket": "lake", "path-style": True}
        rules = {"lake": {}, "put": {"deliver": deliver}, "odd": {"prefixx": 1}}
        application = Application(self, manifest(rules, [store.url]), "--variable", "call_token=right")
        right = {**LINES, "authorization": "Bearer right", "x-logship-task": TASK}
        for method, rule, body, headers, status in [
            ("POST", "lake", logs(3), right, 200),
            ("POST", "lake", logs(3000), right, 200),
            ("POST", "put", logs(3), right, 200),
            ("POST", "put", logs(3), right, 200),
            ("GET", "lake", None, right, 200),
            ("POST", "lake", logs(3), LINES, 401),
            ("POST", "none", logs(3), right, 404),
            ("POST", "odd", logs(3), right, 500),
            ("POST", "lake", b"no", right, 400),
            ("PUT", "lake", b"no", right, 405),
            ("POST", "lake", b"x" * (17 << 20), right, 413),
            ("POST", "lake", b"x", {**right, "content-type": "text/plain"}, 415),
        ]:
            with self.subTest(status=status, rule=rule):
                with closing(http.client.HTTPConnection(*application.address, timeout=60)) as connection:
                    connection.request(method, f"/v1/ship/{rule}", body, headers)
                    answer = connection.getresponse()
                    received = answer.read()
                self.assertEqual(answer.status, status, received)
                self.assertEqual(answer.headers["content-length"], str(len(received)))
                self.assertIsNone(answer.headers["transfer-encoding"])

    def test_head_and_body_leave_together_without_nodelay(self):
        """In two segments, the second waits 40 ms for the acknowledgement of the first."""
        application = Application(self, manifest({"lake": {}}), "--send-like-spin")
        body, split = logs(5), 0
        with closing(socket.create_connection(application.address)) as connection:
            connection.settimeout(60)
            for number in range(200):
                connection.sendall(head(len(body), task=f"1760000089123456789_{number}") + body)
                received = connection.recv(1 << 16)
                answer, _, first = received.partition(b"\r\n\r\n")
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
                left = int(re.search(rb"(?i)content-length: (\d+)", answer)[1]) - len(first)
                split += left > 0
                while left:
                    left -= len(connection.recv(left))
        self.assertLess(split, 20)

    def test_puts_have_their_length(self):
        store = Store(self)
        deliver = {"to": "s3", "endpoint": store.url, "bucket": "lake", "path-style": True}
        answer = Application(self, manifest({"lake": {"deliver": deliver}}, [store.url])).ship("lake", logs(50))
        [(body, headers)] = store.objects.values()
        self.assertEqual((answer.status, headers["content-length"]), (200, str(len(body))))
        self.assertNotIn("transfer-encoding", headers)

    def test_declared_size_is_rejected_before_the_body(self):
        application = Application(self, manifest({"lake": {}}))
        with closing(socket.create_connection(application.address)) as connection:
            connection.settimeout(10)
            # Nothing is said about the rest of the call.
            connection.sendall(head(17 << 20, task="none") + b"{" * 300_000)
            self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 413 "))

    def test_rejected_body_is_read_on(self):
        """A client that reads after it has sent sees the problem, and its connection remains usable."""
        application = Application(self, manifest({"lake": {}}))
        with closing(http.client.HTTPConnection(*application.address, timeout=60)) as connection:
            for size in 17 << 20, 48 << 20:
                connection.request("POST", "/v1/ship/lake", b"x" * size, {**LINES, "x-logship-task": TASK})
                answer = connection.getresponse()
                self.assertEqual((answer.status, json.loads(answer.read())["retry"]), (413, False))
            socket_before = connection.sock
            connection.request("POST", "/v1/ship/lake", logs(2), {**LINES, "x-logship-task": TASK})
            answer = connection.getresponse()
            answer.read()
            self.assertEqual((answer.status, connection.sock), (200, socket_before))

    def test_description_has_the_limits_of_calls(self):
        described = Application(self, manifest({"lake": {}})).describe("lake")
        self.assertEqual((described.fact("max-body-bytes"), described.fact("max-raw-bytes")), ("16777216", "67108864"))
