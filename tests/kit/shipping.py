"""Runs the service with an object store as the destination, and checks the objects there."""

import hashlib
import json
import random
import time

from aliyun.log.proto import LogGroup

from kit import oss_client, service
from kit.fakes.proxy import FaultyProxy
from kit.process import temporary_folder
from kit.service import position
from kit.waiting import wait_for

# Seconds until a wait for a task fails. Requests are sent four times, over some seven seconds.
PATIENCE = 300
NEVER = 3600
# Six bytes each in JSON: a log group that one request takes becomes an object of several parts.
SWELLING = "".join(map(chr, range(0x0E, 0x20)))
PART = 8 << 20
# The exit code of abort().
ABORTED = -6
# The requests of an upload. The probe of a bucket is none of them.
OPERATIONS = {
    "PutObject": {"method": "PUT", "when": lambda request: not request.query and "probe" not in request.path},
    "InitiateMultipartUpload": {"method": "POST", "query": "uploads"},
    "UploadPart": {"method": "PUT", "query": "partNumber"},
    "CompleteMultipartUpload": {"method": "POST", "query": "uploadId"},
}


class Shipping(service.Service):
    """A service whose rules ship to the destination `lake`, with `more` settings of shipping. Its settings may be
    changed; the next start takes them."""

    def __init__(self, test, lake, environment=None, **more):
        shipping = {"longest-wait-seconds": 1, "retry-seconds": NEVER, **_dashed(more)}
        self.tables = {"shipping": shipping, "destinations.lake": lake}
        self.environment = dict(environment or {})
        self.test = test
        super().__init__(test)

    def start(self):
        self.settings.write_text(_toml(self.tables))
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
        """The staged files."""
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
        """Whether the checkpoint of shard 0 is behind so many log groups."""
        return [shard["checkpoint"] for shard in self.shards()] == [str(self.begin + groups)]

    def wait_until_shipped(self, groups):
        wait_for(lambda: self.has_shipped(groups), PATIENCE, f"{self.name}: not shipped", 0.2)

    def wait_for_failure(self):
        """The first task, once it has failed."""

        def failed():
            return next((task for task in self.tasks() if task["taskStatus"] == "fail"), None)

        return wait_for(failed, PATIENCE, f"{self.name}: no task has failed", 0.2)

    def replay(self, task):
        """Replays a task. Returns its object."""
        folder = temporary_folder(self.served.test)
        self.served.command("task", "replay", task["id"], "--to", folder)
        (file,) = files_below(folder)
        assert file == task["object"], file
        return (folder / file).read_bytes()


class ShippingCase(oss_client.StoreCase):
    """A test with the fake of OSS behind a proxy. The proxy is the only way to it, so that names of buckets need no DNS."""

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

    def bodies(self, bucket=oss_client.BUCKET):
        """The objects of a bucket."""
        return {key: found.body for key, found in dict(self.server.buckets[bucket]).items()}

    def assert_shipped(self, rule, logs, groups, bodies=None):
        """Checks that each log is in one object, and that objects, tasks and replays agree."""
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
        self.assertIn(f"{len(tasks)} of {len(tasks)} objects match their tasks", verified)
        return tasks

    def assert_adjacent(self, tasks, begin, end):
        """Checks that ranges have no gaps and no overlaps."""
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


# Logs for small objects.
SMALL = {"logs": 30, "size": 20}
# Logs of one log group that become an object of three parts.
LARGE = {"logs": 3600, "size": 900}


def numbers(bodies):
    """The numbers of the logs in objects of JSON."""
    return sorted(int(json.loads(line)["number"]) for body in bodies for line in body.splitlines())


def files_below(folder):
    """All files, hidden ones too, by their paths."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def read_all(folder):
    """The contents of all files, with hidden ones, by path."""
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def _dashed(settings):
    return {name.replace("_", "-"): value for name, value in settings.items()}


def _toml(tables):
    """The TOML of tables of texts, numbers and booleans."""
    lines = []
    for table, settings in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"
