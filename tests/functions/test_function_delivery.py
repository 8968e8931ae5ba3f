"""Functions put objects to a store, and events to Splunk."""

import base64
import hashlib
import json
import signal
import threading
import unittest

from kit.application import Application, manifest
from kit.fakes import hec
from kit.fakes.faults import Reset, Say, Slow
from kit.fakes.hec_faults import Refuse
from kit.fakes.put_store import Store
from kit.hostile_logs import logs
from kit.waiting import wait_for


class Delivery(unittest.TestCase):
    def setUp(self):
        self.destination = Store(self)
        self.deliver = {"to": "s3", "endpoint": self.destination.url, "bucket": "lake", "path-style": True}
        self.text = manifest({"lake": {"deliver": self.deliver}}, [self.destination.url])

    def test_puts_object_once(self):
        application = Application(self, self.text)
        described = {"x-logship-range": "7-9", "x-logship-head-before": "ab" * 32, "x-logship-head": "cd" * 32}
        answers = [application.ship("lake", logs(50), **described) for _ in range(2)]
        self.assertEqual([answer.fact("delivered") for answer in answers], ["put", "was there"])
        [(path, (body, headers))] = self.destination.objects.items()
        self.assertEqual(path, f"/lake/{answers[0].fact('key')}")
        self.assertEqual(hashlib.sha256(body).hexdigest(), answers[0].fact("sha256"))
        self.assertEqual(headers["x-amz-meta-logship-range"], "7-9")
        self.assertEqual(headers["x-amz-meta-logship-head-before"], "ab" * 32)
        self.assertEqual(headers["x-amz-meta-logship-head"], "cd" * 32)

    def test_keeps_object_of_other_stages(self):
        whole = {"x-logship-range": "7-9", "x-logship-project": "p"}
        answer = Application(self, self.text).ship("lake", logs(50), **whole)
        ((path, (_, headers)),) = self.destination.objects.items()
        earlier = {**headers, "x-amz-meta-logship-sha256": "0" * 64, "x-amz-meta-logship-stages": "others@1"}
        self.destination.objects[path] = (b"by others", earlier)
        again = Application(self, self.text).ship("lake", logs(50), **whole)
        self.assertEqual((again.status, again.fact("delivered")), (200, "was there"))
        facts = again.fact("sha256"), again.fact("stored-bytes"), again.fact("stages"), again.fact("rows")
        self.assertEqual(facts, ("0" * 64, "9", "others@1", "50"))
        self.assertEqual(again.fact("key"), answer.fact("key"))
        # Of another range, it is not.
        other = Application(self, self.text).ship("lake", logs(50), **{**whole, "x-logship-range": "7-10"})
        self.assertEqual((other.status, *other.problem()[:2]), (409, "other-object", False))
        self.assertEqual(self.destination.objects[path][0], b"by others")

    def test_finds_object_when_store_hangs_up(self):
        application, many = Application(self, self.text), logs(20_000)
        self.assertEqual(application.ship("lake", many).fact("delivered"), "put")
        self.destination.hangs_up = True
        answer = application.ship("lake", many)
        self.assertEqual((answer.status, answer.fact("delivered")), (200, "was there"), answer.body)
        other = application.ship("lake", many, task="1760000089123456789_1")
        self.assertEqual(other.status // 100, 5, other.body)

    def test_asks_again_for_object_of_store_that_hangs_up(self):
        """The store hangs up on the put, and on the first questions for the object."""
        application = Application(self, self.text)
        self.assertEqual(application.ship("lake", logs(50)).fact("delivered"), "put")
        for before in True, False:
            asked = self.destination.inject(Reset(before), method="HEAD", times=2)
            self.destination.inject(Reset(before), method="PUT")
            answer = application.ship("lake", logs(50))
            self.assertEqual((answer.status, answer.fact("delivered"), asked.fired), (200, "was there", 2), answer.body)
        # Not for ever.
        self.destination.inject(Reset(), method="HEAD", times=None)
        self.assertEqual(application.ship("lake", logs(50)).problem()[:2], ("destination-unreachable", True))

    def test_keeps_foreign_object(self):
        Application(self, self.text).ship("lake", logs(50))
        before = dict(self.destination.objects)
        answer = Application(self, self.text).ship("lake", logs(51))
        self.assertEqual((answer.status, *answer.problem()[:2]), (409, "other-object", False))
        self.assertEqual(self.destination.objects, before)

    def test_retry_delivers_after_failure(self):
        application = Application(self, self.text)
        cases = [
            ((503, {"retry-after": "7"}), (503, "destination-busy", True)),
            ((500,), (502, "destination-failed", True)),
            ((403,), (502, "destination-refused", True)),
            ((404,), (502, "destination-missing", True)),
            ((400,), (422, "destination-rejected", False)),
            ((400, {}, "ExpiredToken"), (502, "destination-refused", True)),
            ((400, {}, "RequestTimeout"), (502, "destination-failed", True)),
            ((307, {"location": "https://far.test/lake"}), (502, "destination-failed", True)),
            ((501, {}, "NotImplemented"), (502, "destination-failed", True)),
        ]
        for number, (fault, expected) in enumerate(cases):
            with self.subTest(fault=fault):
                task = f"1760000089123456789_{number}"
                for _ in range(2):
                    self.destination.faults = [fault]
                    answer = application.ship("lake", logs(5), task=task)
                    self.assertEqual((answer.status, *answer.problem()[:2]), expected)
                    said = fault[1].get("retry-after") if len(fault) > 1 else None
                    self.assertEqual(answer.headers["retry-after"], said)
                    self.assertEqual(len(self.destination.objects), number)
                self.assertEqual(application.ship("lake", logs(5), task=task).fact("delivered"), "put")

    def test_hangup_finishes_calls_in_progress(self):
        application = Application(self, self.text)
        self.destination.inject(Slow(1.0))
        answers = []
        call = threading.Thread(target=lambda: answers.append(application.ship("lake", logs(5))))
        call.start()
        wait_for(lambda: self.destination.requests)
        application.process.send_signal(signal.SIGHUP)
        call.join()
        self.assertEqual((answers[0].status, answers[0].fact("delivered")), (200, "put"), answers[0].body)
        self.assertEqual(application.code(), 0)

    def test_problem_names_the_target_of_a_redirect(self):
        self.destination.faults = [(307, {"location": "https://far.test/lake?signature=x"})]
        problem = json.loads(Application(self, self.text).ship("lake", logs(5)).body)
        self.assertIn("redirects to https://far.test/lake:", problem["detail"])

    def test_endpoint_without_scheme_is_said(self):
        deliver = {**self.deliver, "endpoint": self.destination.url.partition("://")[2]}
        text = manifest({"lake": {"deliver": deliver}}, [self.destination.url])
        problem = json.loads(Application(self, text).ship("lake", logs(5)).body)
        self.assertIn("has no scheme", problem["detail"])

    def test_put_has_the_digest_of_its_body(self):
        for count in (1, 3000):
            self.assertEqual(Application(self, self.text).ship("lake", logs(count), task=f"1760000089123456789_{count}").status, 200)
        for body, headers in self.destination.objects.values():
            self.assertEqual(headers["content-md5"], base64.b64encode(hashlib.md5(body).digest()).decode())

    def test_rejects_unreachable_and_disallowed_destination(self):
        self.destination.close()
        forbidden = manifest({"lake": {"deliver": self.deliver}}, ["https://example.org"])
        for text, expected in [
            (self.text, (502, "destination-unreachable", True)),
            (forbidden, (500, "destination-forbidden", True)),
        ]:
            application = Application(self, text)
            for _ in range(2):
                answer = application.ship("lake", logs(5))
                self.assertEqual((answer.status, *answer.problem()[:2]), expected)
        self.assertEqual(self.destination.objects, {})

    def test_puts_to_presigned_url(self):
        application = Application(self, manifest({"lake": {"deliver": {"to": "url"}}}, [self.destination.url]))
        url = {"x-logship-put-url": f"{self.destination.url}/lake/given?signature=x"}
        answer = application.ship("lake", logs(5), **url)
        self.assertEqual(hashlib.sha256(self.destination.objects["/lake/given"][0]).hexdigest(), answer.fact("sha256"))
        self.assertEqual(application.ship("lake", logs(5)).problem()[:2], ("bad-call", False))

    def test_delivers_each_event_to_splunk(self):
        collector = hec.Collector()
        self.addCleanup(collector.close)
        deliver = {"to": "hec", "url": collector.endpoint, "batch-bytes": 20_000}
        text = manifest({"siem": {"deliver": deliver}}, [collector.endpoint])
        application = Application(self, text, "--variable", f"token={hec.TOKEN}")
        answer = application.ship("siem", logs(2000))
        self.assertEqual((answer.status, answer.fact("rows")), (200, "2000"), answer.body)
        self.assertEqual([event.members["event"]["id"] for event in collector.indexed()], [str(n) for n in range(2000)])
        self.assertGreater(int(answer.fact("requests")), 5)
        for fault, expected, warning in [
            (Say(200, b'{"text":"HEC is approaching capacity: queue","code":24}'), 200, "HEC is approaching capacity: queue (code 24)"),
            (Say(200, b"OK"), 200, None),
            (Say(204), 200, None),
            (Say(200, b"<html>Sign in</html>"), 502, None),
            (Refuse(10), 502, None),
            (Refuse(26), 503, None),
        ]:
            with self.subTest(fault=fault):
                collector.inject(fault)
                answer = application.ship("siem", logs(5))
                collector.clear()
                self.assertEqual(answer.status, expected, answer.body)
                self.assertEqual(answer.headers.get("x-logship-warning"), warning)
        wrong = Application(self, text, "--variable", "token=wrong").ship("siem", logs(5))
        self.assertEqual((wrong.status, *wrong.problem()[:2]), (502, "destination-refused", True))
