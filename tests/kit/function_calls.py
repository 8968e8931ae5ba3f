"""A service whose rules are shipped by a function, with a proxy between them."""

import hashlib
import unittest

from kit import shipping
from kit.application import Application, manifest, stage
from kit.fakes.proxy import FaultyProxy
from kit.object_stores import ID, REGION, SECRET, S3Server
from kit.process import temporary_folder
from kit.shipping import NEVER, numbers, put
from kit.waiting import wait_for

PATIENCE = 120
KEYS = ("--variable", f"key={ID}", "--variable", f"secret={SECRET}")
# The name of the rule, here and there.
RULE = "lake"


class Served(shipping.Shipping):
    """A service with the destination `fleet`, which is a function, and the store `lake`. The next start takes what was
    changed."""

    def __init__(self, test, fleet, lake, **more):
        self.fleet = fleet
        super().__init__(test, lake, **more)

    def start(self):
        self.tables["destinations.fleet"] = self.fleet
        super().start()

    def write(self, fleet):
        """Writes settings with another function. They act at the next start."""
        self.settings.write_text(shipping._toml({**self.tables, "destinations.fleet": fleet}))

    def called(self, logstore, bucket, *options, name=RULE):
        """A new rule that the function ships. Creating it sends no probe."""
        self.command("rule", "create", name, *place(logstore, bucket, "fleet"), "--no-probe", *options)
        return shipping.Rule(self, name, logstore, bucket)


def place(logstore, bucket, destination):
    return ["--logstore", logstore.name, "--destination", destination, *(["--bucket", bucket] if bucket else [])]


class CallerCase(unittest.TestCase):
    """A test with an S3 server, a function that delivers there or gives back, a proxy before it, and a service."""

    def setUp(self):
        self.store = S3Server(self)
        self.folder = temporary_folder(self)

    def to_store(self, **more):
        """A rule of the function that delivers to the store."""
        place = {"endpoint": self.store.url, "bucket": "lake", "region": REGION, "path-style": True}
        return {"deliver": {"to": "s3", **place}, **more}

    def begin(self, rules=None, *options, allowed=None, **stages):
        """The function, and the proxy before it. Without rules it has one that delivers to the store."""
        rules = {RULE: self.to_store()} if rules is None else rules
        stages = {kind: stage(name) for kind, name in stages.items()}
        text = manifest(rules, [self.store.url] if allowed is None else allowed, **stages)
        self.function = Application(self, text, *KEYS, *options)
        self.proxy = FaultyProxy(self.function.address)
        self.addCleanup(self.proxy.close)

    def serve(self, environment=None, retry_seconds=NEVER, shipping=None, **fleet):
        """The service. `fleet` has more settings of the function; None takes one out."""
        url = "http://{}:{}".format(*self.proxy.address)
        fleet = {"type": "function", "url": url, "store": "lake", **fleet}
        fleet = {name.replace("_", "-"): value for name, value in fleet.items() if value is not None}
        key = {"access-key-id": ID, "access-key-secret": SECRET}
        lake = {"type": "s3", "endpoint": self.store.url, "region": REGION, **key}
        more = {"retry_seconds": retry_seconds, **(shipping or {})}
        self.served = Served(self, fleet, lake, environment=environment, **more)
        return self.served

    def rule(self, *options, logs=30, groups=3, bucket="lake", **more):
        """A rule of a logstore that has so many logs."""
        logstore = self.served.logstore()
        put(logstore, logs, groups, **more)
        return self.served.called(logstore, bucket, *options)

    def objects(self):
        return {key: self.store.read(key) for key in self.store.keys()}

    def calls(self):
        """The batches that the function was called with."""
        return [request for request in self.proxy.requests if request.method == "POST"]

    def wait_for_failure(self, rule, attempts=1):
        """The task that has failed so many times, as it is now."""

        def failed():
            ended = (task for task in rule.tasks() if task["taskStatus"] == "fail")
            return next((task for task in ended if task["attempts"] == attempts), None)

        return wait_for(failed, PATIENCE, self.served.log.read_text, 0.1)

    def assert_shipped(self, rule, logs, groups, unpack=bytes):
        """All logs are in the bucket once, in one object for each range of a task, which is what the pipeline of the
        service makes of it, byte by byte."""
        told = lambda: f"{rule.tasks()}\n{self.served.log.read_text()}"  # noqa: E731
        wait_for(lambda: rule.has_shipped(groups), PATIENCE, told, 0.1)
        tasks, objects = rule.tasks(), self.objects()
        self.assertEqual({task["taskStatus"] for task in tasks}, {"success"})
        begins = [*(task["begin"] for task in tasks), str(rule.begin + groups)]
        self.assertEqual(begins, [str(rule.begin), *(task["end"] for task in tasks)])
        self.assertEqual(sorted(task["object"] for task in tasks), sorted(objects))
        for task in tasks:
            body = objects[task["object"]]
            self.assertEqual((len(body), hashlib.sha256(body).hexdigest()), (task["storedBytes"], task["sha256"]))
            self.assertEqual(rule.replay(task), body)
            said = self.store.metadata(task["object"])
            whole = {"task": task["id"], "range": f"{task['begin']}-{task['end']}", "rows": str(task["rows"])}
            self.assertEqual({name: said.get(f"logship-{name}") for name in whole}, whole)
        self.assertEqual(numbers(map(unpack, objects.values())), list(range(logs)))
        self.assertEqual(sum(task["rows"] for task in tasks), logs)
        self.assertEqual(self.served.spool(), [])
        verified = self.served.command("verify", "--rule", rule.name)
        self.assertIn(f"{len(tasks)} of {len(tasks)} objects match their tasks", verified)
        return tasks
