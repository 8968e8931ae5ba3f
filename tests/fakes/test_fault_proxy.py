"""The proxy does what it is told to, and nothing to other requests."""

import http.client
import socket
import time
from contextlib import closing

from kit import oss_client
from kit.fakes import oss
from kit.fakes.faults import (
    ACCESS_DENIED,
    INTERNAL_ERROR,
    SERVER_BUSY,
    SLOW_DOWN,
    Reset,
    ResetInBody,
    Respond,
    Run,
    Silence,
    Trickle,
    Truncate,
)
from kit.fakes.proxy import FaultyProxy
from kit.oss_client import BUCKET, StoreCase
from kit.waiting import PATIENCE, wait_for

LARGE = bytes(range(256)) * (1 << 14)


class Case(StoreCase):
    def setUp(self):
        super().setUp()
        self.proxy = FaultyProxy(self.server.address)
        self.addCleanup(self.proxy.close)
        self.client = oss_client.Client(self.key, self.proxy.port)

    def assert_reset(self, body=b"body"):
        with self.assertRaises((ConnectionResetError, BrokenPipeError)) as reset:
            self.client.put("a", body)
        # This is one too, by its class, but comes of an orderly end.
        self.assertNotIsInstance(reset.exception, http.client.RemoteDisconnected)


class Faults(Case):
    def test_passes_requests_without_rules(self):
        with closing(self.client.connect()) as connection:
            self.assertEqual(self.client.send("PUT", "/a", LARGE, connection=connection).status, 200)
            self.assertEqual(self.client.send("GET", "/a", connection=connection).body, LARGE)
            self.assertEqual(self.client.send("HEAD", "/a", connection=connection).status, 200)
            self.assertEqual(self.client.send("GET", "/b", connection=connection).refusal(), (404, "NoSuchKey"))
            self.assertEqual(self.client.send("DELETE", "/a", connection=connection).status, 204)
        self.assertEqual(
            [(request.method, request.path, request.size, request.status) for request in self.proxy.requests],
            [
                *(("PUT", "/a", len(LARGE), 200), ("GET", "/a", 0, 200), ("HEAD", "/a", 0, 200)),
                *(("GET", "/b", 0, 404), ("DELETE", "/a", 0, 204)),
            ],
        )

    def test_passes_chunked_bodies(self):
        headers = {**self.client.headers("PUT", "/a"), "transfer-encoding": "chunked"}
        with closing(self.client.connect()) as connection:
            connection.request("PUT", "/a", iter([b"1", LARGE, b"3"]), headers, encode_chunked=True)
            self.assertEqual(oss_client.received(connection).status, 200)
            self.assertEqual(self.client.send("GET", "/a", connection=connection).body, b"1" + LARGE + b"3")

    def test_answers_expect_continue(self):
        headers = {**self.client.headers("PUT", "/a"), "expect": "100-continue", "content-length": "1"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(self.proxy.address, PATIENCE) as connection:
            connection.sendall(f"PUT /a HTTP/1.1\r\n{lines}\r\n".encode())
            self.assertEqual(connection.recv(1 << 16), b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(b"1")
            self.assertIn(b" 200 ", connection.recv(1 << 16))
        self.assertEqual(self.bucket["a"].body, b"1")

    def test_reset_before_upstream(self):
        self.proxy.inject(Reset())
        self.assert_reset(LARGE)
        self.assertEqual((self.bucket, self.server.calls), ({}, []))
        self.assertEqual(self.client.put("a").status, 200)

    def test_reset_after_upstream(self):
        self.proxy.inject(Reset(before=False))
        self.assert_reset(LARGE)
        self.assertEqual(self.bucket["a"].body, LARGE)
        self.assertEqual(self.proxy.requests[0].status, 200)

    def test_reset_in_body(self):
        for fault, size in (ResetInBody(), len(LARGE) // 2), (ResetInBody(after=100), 100):
            with self.subTest(fault=fault):
                self.proxy.inject(fault)
                self.assert_reset(LARGE)
                self.assertEqual(self.proxy.requests[-1].size, size)
                self.assertEqual((self.bucket, self.server.calls), ({}, []))

    def test_respond_replaces_answer(self):
        for fault, refusal in [
            (INTERNAL_ERROR, (500, "InternalError")),
            (SLOW_DOWN, (503, "SlowDown")),
            (SERVER_BUSY, (503, "ServerBusy")),
            (ACCESS_DENIED, (403, "AccessDenied")),
        ]:
            with self.subTest(fault=fault), closing(self.client.connect()) as connection:
                self.proxy.inject(fault)
                self.assertEqual(self.client.send("PUT", "/a", LARGE, connection=connection).refusal(), refusal)
                self.assertEqual(self.bucket, {})
                self.proxy.inject(Respond(*refusal, before=False))
                self.assertEqual(self.client.send("PUT", "/a", LARGE, connection=connection).refusal(), refusal)
                self.assertEqual(self.bucket.pop("a").body, LARGE)
                self.proxy.inject(fault)
                reply = self.client.send("HEAD", "/a", connection=connection)
                self.assertEqual((reply.status, reply.body), (refusal[0], b""))

    def test_silence_gives_no_answer(self):
        self.client.timeout = 0.3
        for before, keys in (True, []), (False, ["a"]):
            with self.subTest(before=before):
                self.proxy.inject(Silence(before))
                with self.assertRaises(TimeoutError):
                    self.client.put("a")
                self.assertEqual(list(self.bucket), keys)
        self.assertEqual(self.client.put("a").status, 200)

    def test_trickle_slows_answer(self):
        self.client.put("a", b"0123456789")
        self.proxy.inject(Trickle(pause=0.01, size=10))
        start = time.monotonic()
        reply = self.client.get("a")
        self.assertEqual(reply.body, b"0123456789")
        self.assertGreater(time.monotonic() - start, 0.1)

    def test_truncate_cuts_answer(self):
        self.client.put("a", b"0123456789")
        self.proxy.inject(Truncate(), method="GET")
        with self.assertRaises(http.client.IncompleteRead) as cut:
            self.client.get("a")
        self.assertEqual(cut.exception.partial, b"01234")

    def test_truncate_cuts_head(self):
        self.proxy.inject(Truncate())
        with closing(self.client.connect()) as connection:
            connection.request("PUT", "/a", b"1", self.client.headers("PUT", "/a"))
            with connection.sock.makefile("rb") as reader:
                head = reader.read()
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertNotIn(b"\r\n\r\n", head)
        self.assertIn("a", self.bucket)

    def test_missing_upstream_is_reset(self):
        self.server.close()
        self.assert_reset()

    def test_invalid_http_is_reset(self):
        for text in b"\x16\x03\x01\r\n\r\n", b"PUT /a HTTP/1.1\r\nContent-Length: 10\r\n\r\n1", b"GET":
            with socket.create_connection(self.proxy.address, PATIENCE) as connection:
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                try:
                    self.assertNotIn(b" 200 ", connection.recv(1 << 16))
                except ConnectionResetError:
                    pass
        self.assertEqual(self.client.put("a").status, 200)

    def test_close_ends_connections(self):
        self.proxy.inject(Silence())
        with closing(self.client.connect()) as connection:
            connection.request("GET", "/a", headers=self.client.headers("GET", "/a"))
            wait_for(lambda: self.proxy.requests)
            self.proxy.close()
            with self.assertRaises((http.client.RemoteDisconnected, ConnectionResetError)):
                connection.getresponse()


class Proxied(Case):
    """Clients that know it for a proxy."""

    def send(self, method, host, target):
        headers = self.client.headers(method, target, {"host": host})
        with closing(self.client.connect()) as connection:
            connection.request(method, f"http://{host}{target}", headers=headers)
            return oss_client.received(connection)

    def test_names_go_to_upstream(self):
        host = f"{BUCKET}.oss-local.test"
        self.assertEqual(self.send("PUT", host, "/a?").status, 200)
        self.assertEqual(list(self.bucket), ["a"])
        request = self.proxy.requests[-1]
        self.assertEqual((request.host, request.target, request.path), (host, "/a?", "/a"))
        self.proxy.inject(SLOW_DOWN, path="/a", when=lambda request: request.host == host)
        self.assertEqual(self.send("GET", host, "/a").status, 503)
        self.assertEqual(self.send("GET", host, "/a").status, 200)

    def test_addresses_go_to_themselves(self):
        other = oss.Server(self.keys)
        self.addCleanup(other.close)
        place = "{}:{}".format(*other.address)
        self.assertEqual(self.send("GET", place, "/a").refusal(), (403, "SecondLevelDomainForbidden"))
        self.assertEqual((len(other.calls), self.server.calls), (1, []))

    def test_url_in_parameter_is_no_target(self):
        reply = self.client.send("GET", "/a?x=http://127.0.0.1:1/")
        self.assertEqual((reply.status, self.proxy.requests[0].path), (501, "/a"))


class Rules(Case):
    def statuses(self, *targets, method="GET"):
        return [self.client.send(method, target).status for target in targets]

    def test_rule_obeys_nth_and_times(self):
        rule = self.proxy.inject(SLOW_DOWN, nth=2, times=2)
        self.assertEqual(self.statuses(*["/a"] * 5), [404, 503, 503, 404, 404])
        self.assertEqual((rule.matched, rule.fired), (5, 2))
        self.proxy.inject(SLOW_DOWN, times=None)
        self.assertEqual(self.statuses(*["/a"] * 3), [503] * 3)
        self.proxy.clear()
        self.assertEqual(self.statuses("/a"), [404])

    def test_rule_needs_all_conditions(self):
        for conditions, hit, missed in [
            ({"path": "/a b"}, "/a%20b", "/a"),
            ({"path": "/logs/*"}, "/logs/x/y", "/log/x"),
            ({"query": "uploadId"}, "/a?uploadId=1", "/a"),
            ({"query": {"partNumber": 2}}, "/a?partNumber=2&uploadId=1", "/a?partNumber=1&uploadId=1"),
            ({"when": lambda request: "x" in request.query}, "/a?x", "/a"),
            ({"method": "GET", "path": "/b", "query": "x"}, "/b?x", "/b"),
        ]:
            with self.subTest(conditions=conditions):
                rule = self.proxy.inject(SLOW_DOWN, **conditions)
                self.assertNotEqual(self.statuses(missed), [503])
                self.assertEqual((self.statuses(hit), rule.fired), ([503], 1))
        self.proxy.inject(SLOW_DOWN, method="PUT")
        self.assertEqual(self.statuses("/a"), [404])
        self.assertEqual(self.statuses("/a", method="PUT"), [503])

    def test_first_firing_rule_decides(self):
        self.proxy.inject(SLOW_DOWN)
        second = self.proxy.inject(INTERNAL_ERROR)
        self.assertEqual(self.statuses("/a", "/a", "/a"), [503, 500, 404])
        self.assertEqual((second.matched, second.fired), (2, 1))
        self.assertEqual([request.fault for request in self.proxy.requests], [SLOW_DOWN, INTERNAL_ERROR, None])

    def test_run_calls_function(self):
        self.proxy.inject(Run(lambda _: self.server.buckets.pop(BUCKET)), method="PUT", nth=3)
        replies = [self.client.put(name) for name in "abc"]
        self.assertEqual([reply.status for reply in replies], [200, 200, 404])
        self.assertEqual(replies[2].refusal(), (404, "NoSuchBucket"))

    def test_run_calls_function_after_answer_or_before_fault(self):
        seen = []
        self.proxy.inject(Run(lambda request: seen.append((request.status, list(self.bucket))), before=False))
        self.assertEqual(self.client.put("a").status, 200)
        self.assertEqual(seen, [(200, ["a"])])
        self.proxy.inject(Run(lambda request: seen.append(request.status), before=False))
        self.proxy.inject(Reset(before=False))
        self.assert_reset()
        self.assertEqual(seen.pop(), 200)
        self.proxy.inject(Run(lambda request: seen.append(request.path)))
        self.proxy.inject(SLOW_DOWN)
        self.assertEqual(self.client.put("b").status, 503)
        self.assertEqual(seen[1:], ["/b"])
