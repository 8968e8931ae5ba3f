"""Requests to `logship function serve` that are wrong on purpose: each has an answer, and the next caller too."""

import gzip
import os
import socket
import unittest
from contextlib import closing

from functions.test_reuse import head
from kit import service
from kit.application import Application, manifest
from kit.hostile_logs import logs

LINES = logs(1)
CHUNKED = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


def call(body=LINES, extra=b"", length=None, old=b"", new=b""):
    """A call with further lines in its head, or with a part of it replaced."""
    declared = b"Content-Length: %d" % len(body)
    sent = head(len(body)).replace(declared, b"Content-Length: " + length if length else declared)
    return sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n" + extra + b"\r\n").replace(old, new) + body


class Requests(unittest.TestCase):
    def answer(self, request, is_cut=False):
        """An answer; nothing if the connection is closed before."""
        with closing(socket.create_connection(self.application.address)) as connection:
            connection.settimeout(30)
            return service.exchange(connection, request, ends=is_cut)

    def test_each_is_answered_and_harms_no_other(self):
        self.application = Application(self, manifest({"lake": {}}), "--max-instance-memory", "512MiB")
        right = self.answer(call())
        self.assertTrue(right.startswith(b"HTTP/1.1 200 "), right)
        for name, request, expected in [
            ("two lengths", call(extra=b"Content-Length: 5\r\n"), b"400 "),
            ("negative length", call(length=b"-1"), b"400 "),
            ("huge length", call(length=b"9" * 30), b"400 "),
            ("cut body", call(length=b"1000"), b"503 "),
            ("wrong chunk", CHUNKED + b"zz\r\n", b"503 "),
            ("huge chunk", CHUNKED + b"f" * 17 + b"\r\n", b"503 "),
            ("no HTTP", b"\x16\x03\x01\x02\x00\x01\n\n", b"400 "),
            ("many headers", call(extra=b"".join(b"x-%d: 1\r\n" % n for n in range(5000))), b"431 "),
            ("long header", call(extra=b"x: " + b"y" * 2_000_000 + b"\r\n"), b"431 "),
            ("long path", call(old=b"/lake", new=b"/" + b"a" * 100_000), b"414 "),
            ("other path", call(old=b"/v1/ship/lake", new=b"/v1/ship/../lake"), b"404 "),
            ("encoded path", call(old=b"/lake", new=b"/a%2fb"), b"404 "),
            ("other method", call(old=b"POST", new=b"TRACE"), b"405 "),
            ("wrong task", call(old=b"1760000089123456789_4711", new=b"1760000089123456789_../../x"), b"400 "),
            ("huge task", call(old=b"1760000089123456789_4711", new=b"9" * 5000), b"400 "),
            ("deep rule", call(extra=b"x-logship-rule: " + b"[" * 20_000 + b"\r\n"), b"500 "),
            ("path in rule", call(extra=b'x-logship-rule: {"prefix":"../../x"}\r\n'), b"500 "),
            ("gzip bomb", call(gzip.compress(bytes(100 << 20)), b"Content-Encoding: gzip\r\n"), b"413 "),
            ("cut gzip", call(gzip.compress(LINES)[:-5], b"Content-Encoding: gzip\r\n"), b"400 "),
            ("huge lz4", call(bytes(100), b"x-log-compresstype: lz4\r\nx-log-bodyrawsize: 4294967295\r\n"), b"413 "),
            ("no protobuf", call(b"\xff" * 1000, old=b"x-ndjson", new=b"x-protobuf"), b"400 "),
            ("deep JSON", call(b'{"a":' + b"[" * 100_000), b"400 "),
            ("zero bytes", call(b"\0" * 1000 + b"\n"), b"400 "),
            ("other type", call(old=b"application/x-ndjson", new=b"\xff"), b"415 "),
        ]:
            with self.subTest(name):
                answer = self.answer(request, is_cut=name == "cut body")
                self.assertTrue(answer.startswith(b"HTTP/1.1 " + expected), answer[:300])
                self.assertEqual(self.answer(call()).split(b"\r\ndate")[0], right.split(b"\r\ndate")[0])
        self.assertNotIn("trapped", self.application.problem())

    def test_random_bytes_end_no_process(self):
        self.application = Application(self, manifest({"lake": {}}))
        for size in 1, 10, 1000, 100_000:
            self.answer(os.urandom(size), is_cut=True)
            self.answer(call(os.urandom(size)))
            self.answer(call(os.urandom(size), old=b"x-ndjson", new=b"x-protobuf"))
        self.assertTrue(self.answer(call()).startswith(b"HTTP/1.1 200 "))
        self.assertTrue(self.application.is_alive())


if __name__ == "__main__":
    unittest.main()
