"""The service ends at each point of a task. The next one continues, with the same objects."""

import threading

from kit.fakes.faults import Reset, Run
from kit.oss_client import BUCKET
from kit.process import temporary_folder
from kit.shipping import ABORTED, LARGE, OPERATIONS, PATIENCE, SMALL, Shipping, ShippingCase, put, read_all

STEPS = "Begun", "Made", "ManifestSaved", "Published", "Settled"
GROUPS = 3
KILLED = -9


class Steps(ShippingCase):
    """The service aborts between two writes to disk."""

    def test_abort_with_store(self):
        for step in STEPS:
            with self.subTest(step=step):
                bucket = step.lower()
                self.server.create_bucket(bucket)
                rule = self.crash(step, self.lake(), bucket, "small")
                self.assert_shipped(rule, SMALL["logs"], GROUPS)
                self.assert_goes_on(rule)

    def test_abort_with_multipart_objects(self):
        for step in STEPS:
            with self.subTest(step=step):
                bucket = step.lower()
                self.server.create_bucket(bucket)
                rule = self.crash(step, self.lake(), bucket, "large")
                self.assert_shipped(rule, LARGE["logs"], 1)
        self.assertEqual(self.server.uploads, {})

    def test_abort_with_directory(self):
        for step in STEPS:
            with self.subTest(step=step):
                folder = temporary_folder(self)
                (folder / BUCKET).mkdir()
                rule = self.crash(step, {"type": "directory", "path": str(folder)}, BUCKET, "small")
                self.assert_shipped(rule, SMALL["logs"], GROUPS, lambda: read_all(folder / BUCKET))
                self.assert_goes_on(rule, lambda: read_all(folder / BUCKET))

    def crash(self, step, lake, bucket, logs):
        """A rule whose first task aborted the service at a step. The service runs again."""
        served, logstore = serve(self, lake, logs)
        served.environment = {"FAILPOINT": step}
        served.restart()
        rule = served.rule(logstore, bucket)
        self.assertEqual(served.process.wait(PATIENCE), ABORTED)
        self.assertIn(f'"step":"{step}"', served.log.read_text())
        served.environment = {}
        served.start()
        return rule

    def assert_goes_on(self, rule, bodies=None):
        """Checks that later logs are shipped too."""
        put(rule.logstore, SMALL["logs"], 1, first=SMALL["logs"])
        self.assert_shipped(rule, 2 * SMALL["logs"], GROUPS + 1, bodies)


class Requests(ShippingCase):
    """The service is killed while it sends an object."""

    def test_kill_before_put(self):
        self.check("small", before=True, **OPERATIONS["PutObject"])

    def test_kill_after_put(self):
        rule = self.check("small", before=False, **OPERATIONS["PutObject"])
        # An object that is there is not sent again.
        self.assertEqual([task["attempts"] for task in rule.tasks()], [2])
        sent = [call for call in self.server.calls if call.operation == "PutObject" and "probe" not in call.key]
        self.assertEqual([call.status for call in sent], [200])

    def test_kill_at_begin_of_upload(self):
        for before in True, False:
            with self.subTest(before=before):
                self.check("large", before, **OPERATIONS["InitiateMultipartUpload"])

    def test_kill_at_first_part(self):
        self.check_part(1)

    def test_kill_at_second_part(self):
        self.check_part(2)

    def test_kill_at_last_part(self):
        self.check_part(3)

    def check_part(self, number):
        for before in True, False:
            with self.subTest(before=before):
                self.check("large", before, method="PUT", query={"partNumber": number})

    def test_kill_before_completion(self):
        self.check("large", before=True, **OPERATIONS["CompleteMultipartUpload"])

    def test_kill_after_completion(self):
        self.check("large", before=False, **OPERATIONS["CompleteMultipartUpload"])
        self.assertEqual(self.server.count("InitiateMultipartUpload"), 1)

    def test_repeated_kills(self):
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
        """Kills the service at such a request. The next one finishes the task."""
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
        """Kills the service before or after a request reaches the store, and only after `is_up`."""

        def kill(_request):
            if is_up:
                is_up.wait(PATIENCE)
            served.process.kill()
            served.process.wait()

        self.proxy.inject(Run(kill, before=before), **conditions)
        self.proxy.inject(Reset(before=before), **conditions)


def serve(test, lake, logs):
    """A service with few or many logs that are not shipped yet."""
    served = Shipping(test, lake)
    logstore = served.logstore()
    put(logstore, groups=groups_of(logs), **(SMALL if logs == "small" else LARGE))
    return served, logstore


def groups_of(logs):
    return GROUPS if logs == "small" else 1
