"""Hostile variants of every operation of docs/service.md: no error of the server, no panic, and others are served.

The table is generated from the operations of the service, so a new operation is tested as soon as it exists.
"""

import re
import unittest
from contextlib import closing

from clients.test_permissions import operations
from kit import service
from kit.names import ADDRESS
from kit.paths import PROGRAM
from kit.waiting import wait_for

DEEP = b"[" * 100_000
BODIES = {
    "empty": b"",
    "garbage": bytes(range(256)) * 4,
    "not JSON": b"{",
    "deep JSON": DEEP,
    "another type": b'"text"',
    "huge numbers": b'{"ttl":1e999,"shardCount":-1,"timeout":18446744073709551616,"shard":99999999999,"checkpoint":1}',
    "wrong types": b'{"logstoreName":[],"ttl":"x","shipperName":{},"targetType":1,"targetConfiguration":[],"ids":{}}',
    "hostile names": b'{"projectName":"../\\u0000\\n\\u001b[2J","logstoreName":"a/../b","consumerGroup":"\\n","timeout":1}',
}
PATHS = {
    "control characters": lambda path: path.replace("nothing", "%00%0A%1B%5B2J").replace("nowhere", "%0D%0Ax"),
    "traversal": lambda path: path.replace("nothing", "..%2F..%2Fetc%2Fpasswd").replace("nowhere", ".."),
    "not UTF-8": lambda path: path.replace("nothing", "%ff%fe").replace("nowhere", "%C0%AF"),
    "long": lambda path: path.replace("nothing", "x" * 8000).replace("nowhere", "y" * 8000),
}
QUERIES = {
    "odd parameters": "count=-1&shard=x&from=%00&to=9999999999999999999&offset=-5&size=999999999999&cursor=%F0&type=%0A",
    "many parameters": "&".join(f"a{number}=b" for number in range(500)),
}
HEADERS = {
    "wrong sizes": {"x-log-bodyrawsize": "-1", "x-log-compresstype": "lz4", "Content-Type": "application/x-protobuf"},
    "a bomb": {"x-log-bodyrawsize": "4294967295", "x-log-compresstype": "zstd", "Content-Encoding": "gzip"},
    "another version": {"x-log-apiversion": "9" * 100},
    "a forged signature": {"Authorization": "LOG " + "a" * 5000 + ":" + "=" * 100},
    "a forged scope": {"Authorization": "SLS4-HMAC-SHA256 Credential=////////,Signature=" + "f" * 64},
    "odd basic": {"Authorization": "Basic " + "!" * 100},
}
# Requests that are no HTTP, or only almost.
RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    b"\x00" * 5000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n x: folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\nx: \x00\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
]


class TextService(service.Service):
    """A service with a log for people."""

    def start(self):
        self.spawn([PROGRAM, "serve", "--data", self.data, "--listen", f"{ADDRESS}:{self.port}"])
        self.scheme = "http"
        self.port = int(wait_for(lambda: re.search(r'url="http://[^"]*:(\d+)"', self.log.read_text()))[1])


class Hostile(unittest.TestCase):
    def setUp(self):
        self.service = TextService(self)

    def variants(self, operation):
        """The hostile requests of an operation: a name, path, headers and body."""
        has_body = operation.method in ("POST", "PUT")
        for name, body in BODIES.items() if has_body else ():
            yield name, operation.path, {}, body
        for name, change in PATHS.items():
            yield name, change(operation.path), {}, b"{}" if has_body else None
        for name, query in QUERIES.items():
            yield name, operation.path + ("&" if "?" in operation.path else "?") + query, {}, b"{}" if has_body else None
        for name, headers in HEADERS.items():
            yield name, operation.path, headers, b"x" * 100 if has_body else None

    def test_hostile_requests_get_refusals(self):
        count = 0
        basic = self.service.admin.basic()
        for operation in operations():
            for name, path, headers, body in self.variants(operation):
                with self.subTest(operation=operation, variant=name):
                    count += 1
                    headers = {**basic, **headers, "Host": operation.host}
                    reply = self.service.request(operation.method, path, body, headers)
                    self.assertLess(reply.status, 500, reply.body)
        print(f"\n{count} hostile requests of {len(operations())} operations")
        self.assertGreaterEqual(count, 330)
        self.check_alive()

    def test_bytes_that_are_no_requests_end_their_connection_only(self):
        for sent in RAW:
            with self.subTest(sent=sent[:60]), closing(self.service.connect()) as connection:
                connection.settimeout(5)
                try:
                    connection.sendall(sent)
                    connection.shutdown(1)
                except OSError:
                    pass
                self.assertNotIn(b"HTTP/1.1 5", service.read_all(connection))
        self.check_alive()

    def check_alive(self):
        self.assertEqual(self.service.request("GET", "/healthz").status, 200)
        log = self.service.said()
        self.assertNotIn("panicked", self.service.log.read_text())
        # What clients sent ends no line, and controls no terminal.
        self.assertNotRegex(log, r"[\x00-\x08\x0b-\x1f\x7f]")
        for line in log.splitlines()[1:]:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT")

    def test_names_do_not_forge_log_lines(self):
        forged = "x%0A2026-01-01T00:00:00Z%20ERROR%20forged%1B%5B2J"
        headers = {**self.service.admin.basic(), "Host": f"{service.PROJECT}.{ADDRESS}"}
        body = b'{"projectName":"x\\n2026-01-01T00:00:00Z ERROR forged\\u001b[2J"}'
        self.service.request("POST", "/", body, headers)
        self.service.request("GET", f"/logstores/{forged}", headers=headers)
        lines = self.service.log.read_text().splitlines()
        self.assertFalse([line for line in lines if line.startswith("2026-01-01T00:00:00Z ERROR forged")], lines)
        self.assertTrue([line for line in lines if r"\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J" in line], lines)
