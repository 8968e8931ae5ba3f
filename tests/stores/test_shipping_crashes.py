"""The service ends in the middle of a task, at every place. The next one goes on, and nobody sees a difference."""

import threading
import unittest

from faults import Reset, Run
from shipping import LARGE, PATIENCE, Shipping, ShippingCase, files_below, put, temporary_folder
from support import BUCKET
from test_shipping_faults import OPERATIONS, SMALL

STEPS = "Begun", "Made", "Sealed", "Published", "Settled"
GROUPS = 3
ABORTED, KILLED = -6, -9


class Steps(ShippingCase):
    """It ends by itself, between two writes to disk."""

    def test_objects_for_a_store(self):
        for step in STEPS:
            with self.subTest(step=step):
                bucket = step.lower()
                self.server.create_bucket(bucket)
                rule = self.crash(step, self.lake(), bucket, "small")
                self.assert_shipped(rule, SMALL["logs"], GROUPS)
                self.assert_goes_on(rule)

    def test_objects_of_several_parts_for_a_store(self):
        for step in STEPS:
            with self.subTest(step=step):
                bucket = step.lower()
                self.server.create_bucket(bucket)
                rule = self.crash(step, self.lake(), bucket, "large")
                self.assert_shipped(rule, LARGE["logs"], 1)
        self.assertEqual(self.server.uploads, {})

    def test_objects_for_a_directory(self):
        for step in STEPS:
            with self.subTest(step=step):
                folder = temporary_folder(self)
                (folder / BUCKET).mkdir()
                rule = self.crash(step, {"type": "directory", "path": str(folder)}, BUCKET, "small")
                self.assert_shipped(rule, SMALL["logs"], GROUPS, lambda: read_all(folder / BUCKET))
                self.assert_goes_on(rule, lambda: read_all(folder / BUCKET))

    def crash(self, step, lake, bucket, logs):
        """A rule whose first task ended the service at a step. The service runs again, without that."""
        served, logstore = serve(self, lake, logs)
        served.environment = {"LOGSHIP_TEST_STOP_AT": step}
        served.restart()
        rule = served.rule(logstore, bucket)
        self.assertEqual(served.process.wait(PATIENCE), ABORTED)
        self.assertIn(f'"step":"{step}"', served.log.read_text())
        served.environment = {}
        served.start()
        return rule

    def assert_goes_on(self, rule, bodies=None):
        """What comes later is shipped too."""
        put(rule.logstore, SMALL["logs"], 1, first=SMALL["logs"])
        self.assert_shipped(rule, 2 * SMALL["logs"], GROUPS + 1, bodies)


class Requests(ShippingCase):
    """It is killed while it sends an object."""

    def test_when_a_small_object_has_come_but_not_to_the_store(self):
        self.check("small", before=True, **OPERATIONS["PutObject"])

    def test_when_a_small_object_is_there_but_the_answer_is_not(self):
        rule = self.check("small", before=False, **OPERATIONS["PutObject"])
        # What is there already is not sent again.
        self.assertEqual([task["attempts"] for task in rule.tasks()], [2])
        sent = [call for call in self.server.calls if call.operation == "PutObject" and "probe" not in call.key]
        self.assertEqual([call.status for call in sent], [200])

    def test_when_an_upload_begins(self):
        for before in True, False:
            with self.subTest(before=before):
                self.check("large", before, **OPERATIONS["InitiateMultipartUpload"])

    def test_at_the_first_part(self):
        self.check_part(1)

    def test_at_the_second_part(self):
        self.check_part(2)

    def test_at_the_last_part(self):
        self.check_part(3)

    def check_part(self, number):
        for before in True, False:
            with self.subTest(before=before):
                self.check("large", before, method="PUT", query={"partNumber": number})

    def test_when_all_parts_are_there_but_not_the_object(self):
        self.check("large", before=True, **OPERATIONS["CompleteMultipartUpload"])

    def test_when_a_large_object_is_there_but_the_answer_is_not(self):
        self.check("large", before=False, **OPERATIONS["CompleteMultipartUpload"])
        self.assertEqual(self.server.count("InitiateMultipartUpload"), 1)

    def test_again_and_again(self):
        served, logstore = serve(self, self.lake(), "large")
        self.kill_at(served, before=True, method="PUT", query={"partNumber": 1})
        rule = served.rule(logstore, BUCKET)
        for number in 2, 3:
            self.assert_killed(served)
            is_up = threading.Event()
            self.kill_at(served, True, is_up, method="PUT", query={"partNumber": number})
            served.start()
            is_up.set()
        self.assert_killed(served)
        served.start()
        self.assert_shipped(rule, LARGE["logs"], 1)

    def assert_killed(self, served):
        self.assertEqual(served.process.wait(PATIENCE), KILLED)
        self.proxy.clear()
        self.assertEqual(self.bodies(), {})

    def check(self, logs, before, **conditions):
        """Kills the service at such a request. The next one does what was left."""
        self.bucket.clear()
        served, logstore = serve(self, self.lake(), logs)
        self.kill_at(served, before, **conditions)
        rule = served.rule(logstore, BUCKET)
        self.assertEqual(served.process.wait(PATIENCE), KILLED)
        self.proxy.clear()
        served.start()
        self.assert_shipped(rule, SMALL["logs"] if logs == "small" else LARGE["logs"], groups_of(logs))
        return rule

    def kill_at(self, served, before, is_up=None, **conditions):
        """Kills it at a request, which comes to the store, or does not; not before it is up, if that is told."""

        def kill(_request):
            if is_up:
                is_up.wait(PATIENCE)
            served.process.kill()
            served.process.wait()

        self.proxy.inject(Run(kill, before=before), **conditions)
        self.proxy.inject(Reset(before=before), **conditions)


def serve(test, lake, logs):
    """A service with logs, few or many, that are not shipped yet."""
    served = Shipping(test, lake)
    logstore = served.logstore()
    put(logstore, groups=groups_of(logs), **(SMALL if logs == "small" else LARGE))
    return served, logstore


def groups_of(logs):
    return GROUPS if logs == "small" else 1


def read_all(folder):
    """All files, hidden ones too."""
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


if __name__ == "__main__":
    unittest.main()
