"""Answers of Splunk and of compatible receivers: which events are accepted, and sent once only."""

import gzip
import http.server
import json
import threading

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
