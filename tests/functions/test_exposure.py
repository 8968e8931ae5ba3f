"""`logship function serve` beyond this machine, and beside callers that send slowly."""

import time
import unittest
from contextlib import ExitStack, closing
from socket import create_connection

from functions.test_functions import logs
from kit.application import Application, manifest

# Seconds in which a call is answered, whatever others do.
SERVED = 5
ANYWHERE = "0.0.0.0:0"


class Exposure(unittest.TestCase):
    def test_refuses_to_listen_beyond_loopback_without_token(self):
        for options in [(), ("--token", ""), ("--variable", "call_token=")]:
            with self.subTest(options=options):
                application = Application(self, manifest({"lake": {}}), *options, listen=ANYWHERE)
                self.assertNotEqual(application.code(), 0)
                self.assertIn("anybody could call trigger-http: set a token with --token", application.problem())

    def test_listens_anywhere_with_token(self):
        for options in [("--token", "right"), ("--variable", "call_token=right")]:
            with self.subTest(options=options):
                application = Application(self, manifest({"lake": {}}), *options, listen=ANYWHERE)
                self.assertEqual(application.ship("lake", logs(1)).status, 401)
                self.assertEqual(application.ship("lake", logs(1), Authorization="Bearer wrong").status, 401)
                self.assertEqual(application.ship("lake", logs(1), Authorization="Bearer right").status, 200)
                application.kill()

    def test_checks_token_of_every_path_but_health(self):
        application = Application(self, manifest({"lake": {}}), "--token", "right")
        self.assertEqual(application.describe("lake").status, 401)
        self.assertEqual(application.describe("../../x").status, 401)
        self.assertEqual(application.describe("../../.well-known/spin/health").status, 401)
        self.assertEqual(application.describe("lake", Authorization="bearer right").status, 200)


class Slowness(unittest.TestCase):
    def test_slow_uploads_do_not_hold_up_calls(self):
        application = Application(self, manifest({"lake": {}}))
        with ExitStack() as connections:
            for _ in range(300):
                slow = connections.enter_context(closing(create_connection(application.address)))
                slow.sendall(
                    b"POST /v1/ship/lake HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
                    b"x-logship-task: slow\r\nContent-Length: 1000000\r\n\r\n{"
                )
            for _ in range(3):
                begun = time.monotonic()
                self.assertEqual(application.ship("lake", logs(5)).status, 200)
                self.assertLess(time.monotonic() - begun, SERVED)
