"""Answers of Splunk and of compatible receivers: which events are accepted, and sent once only."""

import gzip
import http.server
import json
import re
import socket
import threading
import time
import zlib

from kit.consume import ConsumeCase, plain
from kit.names import ADDRESS

JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}


class Receiver:
    """A receiver with given answers: status, body and headers. The last one repeats."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.requests.append(body.count(b'"event"'))
                answers = receiver.answers
                status, text, headers = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = http.server.ThreadingHTTPServer((ADDRESS, 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://{ADDRESS}:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class RawReceiver:
    """A receiver that answers with given bytes. An answer is a list of bytes to send, seconds to wait, and CLOSE or RESET
    to end the connection without a word. The last answer repeats."""

    CLOSE, RESET = "close", "reset"

    def __init__(self, *answers):
        self.answers, self.requests, self.connections = list(answers), [], 0
        self.events, self.lock = [], threading.Lock()
        self.server = socket.create_server((ADDRESS, 0))
        self.url = f"http://{ADDRESS}:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            while self.read(stream):
                with self.lock:
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for step in answer:
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    elif step == self.RESET:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                        return
                    elif step == self.CLOSE:
                        return
                    else:
                        time.sleep(step)

    def read(self, stream):
        """Reads a request. Returns false at the end of the connection."""
        length = None
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        if length is None:
            return False
        body = stream.read(length)
        events = re.findall(rb'"id":"(\d+)"', gzip.decompress(body) if body[:1] == b"\x1f" else body)
        with self.lock:
            self.requests.append(len(events))
            self.events.extend(events)
        return True

    def close(self):
        self.server.close()


SUCCESS = b'{"text":"Success","code":0}'


def head(*headers, status="HTTP/1.1 200 OK"):
    return "\r\n".join([status, *headers, "", ""]).encode()


def sized(body=SUCCESS, *headers):
    return head(f"Content-Length: {len(body)}", *headers) + body


CHUNKED = head("Transfer-Encoding: chunked")


def hec(status, code, text="text"):
    return status, json.dumps({"text": text, "code": code}).encode(), JSON


class Answers(ConsumeCase):
    LOGS = 20

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logstore = cls.filled(plain(cls.LOGS))

    def deliver(self, *answers):
        """Consumes all logs with these answers. Returns the number of events in each request, and the log."""
        receiver = Receiver(*answers)
        self.addCleanup(receiver.close)
        consumer = self.consume(self.logstore, receiver.url, token="t", group=self.next_group(self.logstore))
        return receiver.requests, consumer.said()

    def test_accepted_answers_end_a_delivery(self):
        for answer in [
            hec(200, 0),
            (200, b'{"code":0}', JSON),
            (200, b'{"text":"Success","code":"0"}', JSON),
            (200, gzip.compress(b'{"text":"Success","code":0}'), {"Content-Encoding": "gzip"}),
            (200, b"OK", {}),
            (200, b'"OK"', JSON),
            (200, b"", {}),
            (201, b"", {}),
            (204, b"", {}),
        ]:
            with self.subTest(answer=answer):
                requests, _ = self.deliver(answer)
                self.assertEqual(requests, [self.LOGS])

    def test_approaching_capacity_is_accepted_with_a_warning(self):
        for code in (24, 25, 99):
            with self.subTest(code=code):
                requests, said = self.deliver(hec(200, code, "HEC is approaching capacity"))
                self.assertEqual(requests, [self.LOGS])
                self.assertIn(f"HEC is approaching capacity (code {code})", said)
                self.assertIn("WARN", said)

    def test_other_answers_are_sent_again(self):
        for answer in [
            (200, b"<html>Sign in</html>", HTML),
            (200, b'{"error":"no route"}', JSON),
            (200, gzip.compress(b"<html>Sign in</html>"), {"Content-Encoding": "gzip", **HTML}),
            hec(200, 9, "Server is busy"),
            hec(503, 24),
            hec(429, 26),
            hec(503, 23),
            hec(403, 4),
            (502, b"OK", {}),
        ]:
            with self.subTest(answer=answer):
                requests, _ = self.deliver(answer, hec(200, 0))
                self.assertEqual(requests, [self.LOGS] * 2)

    def test_receiver_without_acknowledgements_gets_nothing(self):
        """It would get the same events again and again."""
        receiver = Receiver((200, b"OK", {}))
        self.addCleanup(receiver.close)
        group = self.next_group(self.logstore)
        settings = ("--set", "acknowledge=true")
        consumer = self.consumer(self.logstore, receiver.url, *settings, token="t", group=group, until_end=False)
        consumer.wait_for_problem("no acknowledgements")
        consumer.leave()
        self.assertEqual(set(receiver.requests), {0})

    def test_redirect_is_not_followed_and_names_its_target(self):
        moved = (307, b"", {"Location": "https://splunk.example.org:8088/x"})
        requests, said = self.deliver(moved, hec(200, 0))
        self.assertEqual(requests, [self.LOGS] * 2)
        self.assertIn("https://splunk.example.org:8088/x", said)


class RawAnswers(ConsumeCase):
    """Answers whose bytes come in odd ways: what is accepted is not sent again, and what is not, is."""

    LOGS = 20

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logstore = cls.filled(plain(cls.LOGS))

    def deliver(self, *answers, settings=()):
        receiver = RawReceiver(*answers)
        self.addCleanup(receiver.close)
        consumer = self.consume(self.logstore, receiver.url, *settings, token="t", group=self.next_group(self.logstore))
        consumer.said()
        return receiver

    def test_complete_answers_are_accepted_once(self):
        chunks = [b"%x;name=value\r\n%c\r\n" % (1, byte) for byte in SUCCESS]
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        hints = head("Link: </x>; rel=preload", status="HTTP/1.1 103 Early Hints")
        for name, answer in {
            "chunked, byte by byte": [CHUNKED, *chunks, b"0\r\nTrailer: x\r\n\r\n"],
            "100": [interim, sized()],
            "103 and 102, then a pause": [hints, hints, b"HTTP/1.1 102 Processing\r\n\r\n", 0.3, sized()],
            "HTTP/1.0 to the end": [head(status="HTTP/1.0 200 OK") + SUCCESS, RawReceiver.CLOSE],
            "to the end": [head("Connection: close") + SUCCESS, RawReceiver.CLOSE],
            "slow": [step for byte in sized() for step in (bytes([byte]), 0.002)],
            "late body": [head(f"Content-Length: {len(SUCCESS)}"), 0.5, SUCCESS],
            "no reason": [sized().replace(b" OK", b"")],
            "GZIP": [sized(gzip.compress(SUCCESS), "Content-Encoding: GZIP")],
            "x-gzip of two members": [sized(gzip.compress(SUCCESS[:9]) + gzip.compress(SUCCESS[9:]), "Content-Encoding: x-gzip")],
            "deflate": [sized(zlib.compress(SUCCESS), "Content-Encoding: deflate")],
            "large": [sized(SUCCESS + b" " * 500_000)],
            "many members": [sized(b'{"text":"Success","code":0,"x":"' + b"x" * 200_000 + b'"}')],
        }.items():
            with self.subTest(answer=name):
                receiver = self.deliver(answer)
                self.assertEqual(receiver.requests, [self.LOGS])

    def test_cut_answers_are_sent_again(self):
        for name, answer in {
            "nothing": [RawReceiver.CLOSE],
            "reset": [RawReceiver.RESET],
            "half of a head": [b"HTTP/1.1 200 OK\r\nContent-", RawReceiver.CLOSE],
            "only 100": [b"HTTP/1.1 100 Continue\r\n\r\n", RawReceiver.CLOSE],
            "half of a body": [head("Content-Length: 99") + SUCCESS, RawReceiver.CLOSE],
            "half of the chunks": [CHUNKED + b"5\r\n" + SUCCESS[:5] + b"\r\n", RawReceiver.CLOSE],
            "half of gzip": [sized(gzip.compress(SUCCESS)[:-9], "Content-Encoding: gzip")],
            "a bomb": [sized(gzip.compress(b"x" * 50_000_000), "Content-Encoding: gzip")],
            "without end": [head("Connection: close"), *[b"x" * 100_000] * 12, RawReceiver.CLOSE],
            "no HTTP": [b"220 mail.example.org ESMTP\r\n", RawReceiver.CLOSE],
        }.items():
            with self.subTest(answer=name):
                receiver = self.deliver(answer, [sized()])
                self.assertEqual(receiver.requests, [self.LOGS] * 2)

    def test_connections_that_end_between_requests_lose_and_repeat_nothing(self):
        """The receiver ends each connection after its answer, and does not say so before."""
        for close in (RawReceiver.CLOSE, RawReceiver.RESET):
            with self.subTest(close=close):
                settings = ("--set", "batch-bytes=1000", "--set", "requests=1", "--set", "gzip=false")
                receiver = self.deliver([sized(), 0.02, close], settings=settings)
                self.assertEqual(sorted(map(int, receiver.events)), list(range(self.LOGS)))
                self.assertGreater(len(receiver.requests), 1)
