"""A test case of hostile clients of the service."""

import time
import unittest

from kit import service

INGEST = f"/ingest/{service.PROJECT}/logs"
# Peak memory of the service, whatever is sent.
MEMORY = 700 << 20
# Seconds within which a valid put is answered.
SERVED = 2


class SurvivalCase(unittest.TestCase):
    """The service stays up, answers no error of its own, and stores nothing that can't be read."""

    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore()
        # A Logstore with logs is not deleted by chance.
        self.service.request("POST", INGEST, b'{"first":"1"}', self.service.admin.basic())
        self.count = 0

    def send(self, path, body, headers=(), method="POST"):
        """Sends a request of the admin. The service answers, and says that the request is at fault, or takes it."""
        headers = {**self.service.admin.basic(), **dict(headers)}
        reply = self.service.request(method, path, body, headers)
        self.count += 1
        self.assertLess(reply.status, 500, (path, headers, (body or b"")[:100], reply.body[:300]))
        # The HTTP library itself refuses what is no HTTP, with an empty body.
        if reply.status >= 400 and reply.body:
            self.assertRegex(reply.json()["errorCode"], r"^[A-Z]\w+$")
        return reply

    def tearDown(self):
        """The service serves as before, its memory is small, and what it took can be read and verified."""
        begun = time.monotonic()
        reply = self.service.request("POST", INGEST, b'{"last":"1"}', self.service.admin.basic())
        self.assertEqual((reply.status, reply.json()), (200, {"accepted": 1, "malformed": 0}))
        self.assertLess(time.monotonic() - begun, SERVED)
        self.assertEqual(self.service.request("GET", "/readyz").status, 200)
        log = self.service.log.read_text()
        self.assertNotIn("panicked", log)
        self.assertEqual([line for line in self.service.lines() if line["level"] == "ERROR"], [])
        self.assertLess(self.service.memory("VmHWM"), MEMORY)
        self.assertIn(("last", "1"), [field for log in self.logstore.logs() for field in log.fields])
        self.service.command("verify", "--store")
        print(f"\n{self.id().rpartition('.')[2]}: {self.count} requests")
