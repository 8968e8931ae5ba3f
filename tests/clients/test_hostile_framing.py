"""Requests of a valid key, in frames and by methods and paths that few clients use: each is refused or served, none is
smuggled past another, and the service stays up."""

import re
from contextlib import closing

from kit import service
from kit.names import ADDRESS
from kit.survival import INGEST, SurvivalCase

# Headers on whose meaning servers have differed.
SMUGGLING = (
    ("Content-Length: 9", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 9"),
    ("Content-Length: 9", "Content-Length: 0"),
    ("Content-Length: 9, 0",),
    ("Content-Length: +9",),
    ("Content-Length: 0x9",),
    ("Transfer-Encoding: xchunked",),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding : chunked",),
    ("Transfer-Encoding: \x0bchunked",),
    ("X: y\r\n Transfer-Encoding: chunked",),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: x"),
)
METHODS = "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "X" * 300
SHARDS = "/logstores/logs/shards"
ODD_PATHS = (
    *("*", "//", "/%", "/%zz", "/%00", "?", "/;/", "/?%=%&=&&a=%zz", "http://other/logstores"),
    *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/logstores/../../keys.toml", "/stages/..%2f..%2fkeys.toml"),
    *("/logstores/%F0%9F%9A%A2", "/logstores?offset=%31%"),
    *(f"{SHARDS}/-1?type=log", f"{SHARDS}/4294967296?type=cursor&from=begin"),
    *(f"{SHARDS}/0?type=log&cursor=%3D", f"{SHARDS}/0?type=log&count=0&cursor={'A' * 4000}"),
    f"{SHARDS}/0?type=log&count=99999999999999&cursor=MA==",
)


class Framing(SurvivalCase):
    def exchange(self, sent, ends=True):
        """Sends bytes, and ends. Without `ends`, the service does. Returns the statuses of all answers."""
        with closing(self.service.connect()) as connection:
            connection.settimeout(10)
            received = service.exchange(connection, sent, ends)
        self.count += 1
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+)", received)]
        self.assertFalse([status for status in statuses if status >= 500], received[:300])
        return statuses

    def head(self, first, *more):
        authorization = f"Authorization: {self.service.admin.basic()['Authorization']}"
        return "\r\n".join([first, f"Host: {service.PROJECT}.{ADDRESS}", authorization, *more, "", ""]).encode()

    def puts(self, *headers, body):
        return self.head(f"POST {INGEST} HTTP/1.1", *headers) + body

    def test_chunks(self):
        line, headers = b'{"a":"1"}', ("Transfer-Encoding: chunked", "Connection: close")
        for body in (
            b"9;ext=1\r\n" + line + b"\r\n0\r\n\r\n",
            b"1\r\n{\r\n" + b"8\r\n" + line[1:] + b"\r\n0\r\nTrailer: x\r\n\r\n",
            b"1\r\n\n\r\n" * 20_000 + b"0\r\n\r\n",
        ):
            with self.subTest(body[:40]):
                self.assertEqual(self.exchange(self.puts(*headers, body=body), ends=False), [200])
        for body in (
            b"9\r\n" + line,
            b"a\r\n" + line + b"\r\n0\r\n\r\n",
            b"-1\r\n" + line,
            b"0x9\r\n" + line + b"\r\n0\r\n\r\n",
            b"9 \r\n" + line + b"0\r\n\r\n",
            b"\r\n",
            b"ffffffffffffffff\r\n" + line,
            b"9" * 1000 + b"\r\n",
            b"9;" + b"e" * 100_000 + b"\r\n" + line + b"\r\n0\r\n\r\n",
            b"0\r\n" + b"T: x\r\n" * 20_000 + b"\r\n",
        ):
            with self.subTest(body[:40]):
                self.assertNotIn(200, self.exchange(self.puts(*headers, body=body)))

    def test_smuggled_requests(self):
        """No request is read from what another server would take for a body, and the reverse."""
        inner = self.puts("Content-Length: 9", body=b'{"b":"2"}')
        line = b'{"a":"1"}'
        for headers in SMUGGLING:
            for body in line + inner, b"0\r\n\r\n" + inner, b"9\r\n" + line + b"\r\n0\r\n\r\n" + inner:
                with self.subTest(headers=headers, body=body[:20]):
                    self.assertLessEqual(len(self.exchange(self.puts(*headers, body=body))), 1)
        fields = {key for log in self.logstore.logs() for key, _ in log.fields}
        self.assertNotIn("b", fields, "a smuggled request was served")

    def test_pipelines_and_old_versions(self):
        put = lambda *headers: self.puts("Content-Length: 9", *headers, body=b'{"a":"1"}')
        last = put("Connection: close")
        self.assertEqual(self.exchange(put() * 199 + last, ends=False), [200] * 200)
        self.assertEqual(self.exchange(last + put(), ends=False), [200])
        self.assertEqual(self.exchange(put() * 3 + b"garbage\r\n\r\n" + put(), ends=False), [200] * 3 + [400])
        self.assertEqual(self.exchange(put().replace(b"HTTP/1.1", b"HTTP/1.0") * 2, ends=False), [200])
        for expected in "100-continue", "nonsense":
            self.assertEqual(self.exchange(put(f"Expect: {expected}", "Connection: close"), ends=False)[-1], 200)
        self.assertEqual(len(self.logstore.logs()), 1 + 200 + 1 + 3 + 1 + 2)

    def test_paths(self):
        for path in ODD_PATHS:
            for method in METHODS:
                with self.subTest(path=path, method=method):
                    statuses = self.exchange(self.head(f"{method} {path} HTTP/1.1", "Content-Length: 0"))
                    self.assertTrue(statuses == [] or statuses[-1] < 500)
        self.assertEqual(self.service.request("GET", "/logstores/logs", headers=self.service.admin.basic()).status, 200)
