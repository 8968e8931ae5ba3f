"""Networks and stores have bad days while the service ships: in the end each range is one object, as it has to be."""

from kit.fakes import oss
from kit.fakes.faults import (
    ACCESS_DENIED,
    INTERNAL_ERROR,
    SLOW_DOWN,
    Reset,
    ResetInBody,
    Respond,
    Run,
    Silence,
    Trickle,
    Truncate,
)
from kit.shipping import LARGE, OPERATIONS, SMALL, Shipping, ShippingCase, put

# Seconds without an answer after which a request is sent anew. Twelve at a time are busy with large objects.
SILENCE = 15
# The faults, with the code and the message of the task meanwhile.
UNREACHED = ("InternalServerError", "send")
FAULTS = {
    "reset": (Reset(), *UNREACHED),
    "reset-in-body": (ResetInBody(), *UNREACHED),
    "error": (INTERNAL_ERROR, "InternalServerError", "InternalError: Injected."),
    "slow-down": (SLOW_DOWN, "InternalServerError", "SlowDown: Injected."),
    "denied": (ACCESS_DENIED, "UnAuthorized", "AccessDenied: Injected."),
}
# The store does its work, and the client does not know.
UNKNOWN = {
    "reset-after": Reset(before=False),
    "error-after": Respond(500, "InternalError", before=False),
    "truncated": Truncate(),
}


class Case(ShippingCase):
    def serve(self, **shipping):
        self.served = Shipping(self, self.lake(timeout_seconds=SILENCE), **shipping)
        self.logstores = {}
        for name, logs in ("small", SMALL), ("large", LARGE):
            self.logstores[name] = self.served.logstore(name)
            put(self.logstores[name], **logs)

    def rule(self, operation, bucket):
        """A rule whose task needs the operation, with a new bucket."""
        self.server.create_bucket(bucket)
        return self.served.rule(self.logstores["small" if operation == "PutObject" else "large"], bucket)

    def inject(self, fault, operation, bucket, **more):
        """Does something to requests for an operation in a bucket."""
        conditions = {"when": lambda _: True, **OPERATIONS[operation], **more}
        there = conditions.pop("when")
        host = f"{bucket}.{oss.DOMAIN}"
        return self.proxy.inject(fault, when=lambda request: request.host == host and there(request), **conditions)

    def spoil(self, faults, operations=tuple(OPERATIONS), **more):
        """A rule for each operation and fault. All of them ship at the same time."""
        rules = {}
        for number, operation in enumerate(operations):
            for name, fault in faults.items():
                bucket = f"{name}-{number}"
                self.inject(fault, operation, bucket, **more)
                rules[name, operation] = self.rule(operation, bucket)
        return rules

    def each(self, rules, check):
        for (name, operation), rule in rules.items():
            with self.subTest(fault=name, operation=operation):
                check(name, operation, rule)

    def assert_all_shipped(self, rules, attempts=None):
        """Everything is where it has to be, after so many attempts or however many."""

        def check(_name, _operation, rule):
            logs = SMALL if rule.logstore.name == "small" else LARGE
            (task,) = self.assert_shipped(rule, logs["logs"], 1)
            self.assertEqual((task["taskCode"], task["taskMessage"]), ("", ""))
            self.assertIn(task["attempts"], attempts or [task["attempts"]])

        self.each(rules, check)


class OnceOnly(Case):
    def test_short_faults_are_no_failure(self):
        faults = {name: fault for name, (fault, *_) in FAULTS.items() if name != "denied"}
        faults |= {"trickle": Trickle(pause=0.01, size=20)}
        self.serve()
        self.assert_all_shipped(self.spoil(faults), [1])

    def test_lost_answer_is_no_failure(self):
        self.serve()
        self.assert_all_shipped(self.spoil({**UNKNOWN, "silence-after": Silence(before=False)}), [1])

    def test_finds_object_without_answers(self):
        self.serve()
        ends = "PutObject", "CompleteMultipartUpload"
        self.assert_all_shipped(self.spoil(UNKNOWN, ends, times=None), [1])

    def test_retries_silent_store(self):
        self.serve()
        self.assert_all_shipped(self.spoil({"silence": Silence()}), [1])


class UntilMended(Case):
    def test_long_faults_are_reported_and_retry_succeeds(self):
        self.serve()
        rules = self.spoil({name: fault for name, (fault, *_) in FAULTS.items()}, times=None)
        self.each(rules, lambda name, _, rule: self.assert_failure(rule, *FAULTS[name][1:]))
        self.mend()
        self.assert_all_shipped(rules, [2])

    def mend(self):
        self.proxy.clear()
        self.served.command("task", "retry", "--all-failed")

    def test_retry_finds_object_after_lost_answers(self):
        self.serve()
        rules = self.spoil(UNKNOWN, times=None)
        for rule in rules.values():
            # The check for the object fails too.
            self.inject(Reset(), "PutObject", rule.bucket, method="HEAD", times=None)
        self.each(rules, lambda *each: self.assertEqual(each[2].wait_for_failure()["taskCode"], "InternalServerError"))
        self.mend()
        self.assert_all_shipped(rules, [2])

    def test_retries_long_faults_without_help(self):
        self.serve(retry_seconds=1)
        rules = self.spoil({name: fault for name, (fault, *_) in FAULTS.items()}, times=5)
        self.assert_all_shipped(rules, range(2, 8))

    def test_reports_bucket_deleted_during_upload(self):
        self.serve()
        rules = {}
        for operation, before in ("UploadPart", True), ("UploadPart", False), ("CompleteMultipartUpload", True):
            bucket = f"{operation.lower()}-{'before' if before else 'after'}"
            self.inject(Run(self.delete(bucket), before=before), operation, bucket)
            rules[f"{before=}", operation] = self.rule(operation, bucket)
        self.each(rules, self.assert_no_bucket)
        self.mend()
        self.assert_all_shipped(rules, [2])

    def assert_no_bucket(self, _name, _operation, rule):
        self.assert_failure(rule, "InvalidOssBucket", "NoSuchBucket: The specified bucket does not exist.")
        self.server.create_bucket(rule.bucket)

    def test_verify_finds_deleted_bucket(self):
        self.serve()
        rule = self.rule("PutObject", "lost")
        rule.wait_until_shipped(1)
        self.delete("lost")()
        self.assertIn("0 of 1 objects", self.served.run("verify").stdout)

    def delete(self, bucket):
        return lambda *_: self.server.buckets.pop(bucket)

    def assert_failure(self, rule, code, words):
        task = rule.wait_for_failure()
        self.assertEqual((task["taskCode"], task["attempts"]), (code, 1), task)
        self.assertIn(words, task["taskMessage"])
        self.assertFalse(rule.has_shipped(1))
        self.assertEqual(dict(self.server.buckets.get(rule.bucket, {})), {})
