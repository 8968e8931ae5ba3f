"""Runs the service with an object store to ship to, and looks at what comes there."""

import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from unittest import mock

from aliyun.log.proto import LogGroup

import support
from faults import FaultyProxy

sys.path.append(str(Path(__file__).resolve().parents[1] / "clients"))
import service  # noqa: E402
from service import position, temporary_folder, wait_for  # noqa: E402

# Seconds after which a task that has to end has not. Requests are sent four times, over some seven seconds.
PATIENCE = 300
NEVER = 3600
# What is looked for when the settings have no key must not come from the machine that the tests run on.
ENVIRONMENT = {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "AWS_EC2_METADATA_DISABLED": "true"}
# Six bytes each in JSON: a log group that one request takes becomes an object of several parts.
SWELLING = "".join(map(chr, range(0x0E, 0x20)))
PART = 8 << 20


class Shipping(service.Service):
    """A service whose rules ship to the destination `lake`, with `more` settings of shipping. Its settings and its
    variables of the environment may be changed; the next start takes them."""

    def __init__(self, test, lake, environment=None, **more):
        shipping = {"longest-wait-seconds": 1, "retry-seconds": NEVER, **_dashed(more)}
        self.tables = {"shipping": shipping, "destinations.lake": lake}
        self.environment = dict(environment or {})
        self.test = test
        super().__init__(test)

    def start(self):
        self.settings.write_text(_toml(self.tables))
        with mock.patch.dict(os.environ, {**ENVIRONMENT, **self.environment}):
            super().start()

    def set(self, **settings):
        """Changes settings of the destination; None takes one out. The service starts anew."""
        lake = {**self.tables["destinations.lake"], **_dashed(settings)}
        self.tables["destinations.lake"] = {name: value for name, value in lake.items() if value is not None}
        self.restart()

    def report(self, *arguments):
        return json.loads(self.command(*arguments, "--report", "json"))

    def rule(self, logstore, bucket, *options, name=None):
        """A new rule of a logstore, whose bucket is not tried first."""
        rule = Rule(self, name or f"to-{bucket}", logstore, bucket)
        place = ["--logstore", logstore.name, "--bucket", bucket, "--destination", "lake"]
        self.command("rule", "create", rule.name, *place, "--no-probe", *options)
        return rule

    def wait_for_the_end(self):
        """Its exit code, once it has ended by itself."""
        return self.process.wait(PATIENCE)

    def retry(self):
        self.command("task", "retry", "--all-failed")

    def spool(self):
        """Files of objects that are on their way."""
        return files_below(self.data / "spool")


class Rule:
    """A rule of a service."""

    def __init__(self, served, name, logstore, bucket):
        self.served, self.name, self.logstore, self.bucket = served, name, logstore, bucket
        self.begin = position(logstore.begin(0))

    def tasks(self):
        """Its tasks, the oldest first."""
        tasks = self.served.report("task", "list", "--rule", self.name, "--limit", "500")
        return sorted(tasks, key=lambda task: task["id"])

    def shards(self):
        return self.served.report("rule", "show", self.name, "--logstore", self.logstore.name)["shards"]

    def has_shipped(self, groups):
        """Whether that many log groups of shard 0 are where they belong, and the service knows it."""
        return [shard["checkpoint"] for shard in self.shards()] == [str(self.begin + groups)]

    def wait_until_shipped(self, groups):
        wait_for(lambda: self.has_shipped(groups), PATIENCE, f"{self.name}: not shipped", 0.2)

    def wait_for_failure(self):
        """The first task, once it has failed."""

        def failed():
            return next((task for task in self.tasks() if task["taskStatus"] == "fail"), None)

        return wait_for(failed, PATIENCE, f"{self.name}: no task has failed", 0.2)

    def replay(self, task):
        """The object of a task, made once more."""
        folder = temporary_folder(self.served.test)
        self.served.command("task", "replay", task["id"], "--to", folder)
        (file,) = files_below(folder)
        assert file == task["object"], file
        return (folder / file).read_bytes()


class ShippingCase(support.StoreCase):
    """A test with a store of OSS behind a proxy, which is the only way to it: names of buckets need no DNS."""

    def setUp(self):
        super().setUp()
        self.proxy = FaultyProxy(self.server.address)
        self.addCleanup(self.proxy.close)

    def lake(self, **more):
        """The destination as settings have it; None leaves a setting out."""
        key = {"access-key-id": self.key.id, "access-key-secret": self.key.secret}
        proxy = "http://{}:{}".format(*self.proxy.address)
        lake = {"type": "oss", "endpoint": self.server.endpoint, "proxy": proxy, **key, **_dashed(more)}
        return {name: value for name, value in lake.items() if value is not None}

    def bodies(self, bucket=support.BUCKET):
        """The objects of a bucket."""
        return {key: found.body for key, found in dict(self.server.buckets[bucket]).items()}

    def assert_shipped(self, rule, logs, groups, bodies=None):
        """All logs are at their destination once, in one object for each range, and these are what they have to be."""
        rule.wait_until_shipped(groups)
        bodies = self.bodies(rule.bucket) if bodies is None else bodies()
        tasks = rule.tasks()
        self.assertEqual({task["taskStatus"] for task in tasks}, {"success"})
        self.assert_adjacent(tasks, rule.begin, rule.begin + groups)
        self.assertEqual(sorted(task["object"] for task in tasks), sorted(bodies))
        for task in tasks:
            self.assert_object(rule, task, bodies[task["object"]])
        self.assertEqual(numbers(bodies.values()), list(range(logs)))
        self.assertEqual(sum(task["rows"] for task in tasks), logs)
        self.assertEqual(rule.served.spool(), [])
        verified = rule.served.command("verify", "--rule", rule.name)
        self.assertIn(f"{len(tasks)} of {len(tasks)} objects are as their tasks say", verified)
        return tasks

    def assert_adjacent(self, tasks, begin, end):
        """Ranges are without gaps, and none is twice."""
        begins = [*(task["begin"] for task in tasks), str(end)]
        self.assertEqual(begins, [str(begin), *(task["end"] for task in tasks)])

    def assert_object(self, rule, task, body):
        said = (task["storedBytes"], task["sha256"])
        self.assertEqual((len(body), hashlib.sha256(body).hexdigest()), said)
        self.assertEqual(hashlib.sha256(rule.replay(task)).hexdigest(), task["sha256"])


def put(logstore, logs, groups=1, first=0, size=20):
    """Puts numbered logs in so many log groups. Each has `size` characters besides that nobody can guess."""
    chance = random.Random(first)
    for group in range(groups):
        made = LogGroup()
        for number in range(first + logs * group // groups, first + logs * (group + 1) // groups):
            log = made.Logs.add()
            log.Time = int(time.time())
            for name, value in ("number", str(number)), ("noise", "".join(chance.choices(SWELLING, k=size))):
                content = log.Contents.add()
                content.Key, content.Value = name, value
        logstore.put(made)


# Logs for an object of three parts, which come in one log group.
LARGE = {"logs": 3600, "size": 900}


def numbers(bodies):
    """The numbers of the logs in objects of JSON."""
    return sorted(int(json.loads(line)["number"]) for body in bodies for line in body.splitlines())


def files_below(folder):
    """All files, hidden ones too, by their paths."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def _dashed(settings):
    return {name.replace("_", "-"): value for name, value in settings.items()}


def _toml(tables):
    """Tables of texts, numbers and booleans, which are written as in JSON."""
    lines = []
    for table, settings in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"
