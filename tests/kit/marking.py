"""A service with builds of `tests/marking-encoder`, each of which marks its objects."""

import re
import unittest

from aliyun.log import LogItem, PutLogsRequest

from kit import service
from kit.paths import COMPONENTS_EXAMPLES
from kit.waiting import wait_for

# The marker in the component: its mark and its behaviour.
BUILD = b"marking-build 0000 work         "
SETTINGS = """
[shipping]
longest-wait-seconds = 1
retry-seconds = 2
[stages]
watch-seconds = 1
"""
# Anything of an object but a mark and an id is a defect.
LINE = re.compile(r"(\d{4}) (\d+|begin|end)")


def build(mark, act="work"):
    """The bytes of a build with this mark."""
    component = (COMPONENTS_EXAMPLES / "marking-encoder.wasm").read_bytes()
    assert component.count(BUILD) == 1
    return component.replace(BUILD, f"marking-build {mark} {act}".ljust(len(BUILD)).encode())


class Case(unittest.TestCase):
    shards = 1
    settings = SETTINGS

    def setUp(self):
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore(shards=self.shards)
        self.lake = self.service.bucket("lake")
        self.count = 0

    def file(self, mark, act="work"):
        """A build, as a file."""
        path = self.service.folder / f"{mark}-{act}.wasm"
        path.write_bytes(build(mark, act))
        return path

    def stage(self, *arguments):
        return self.service.command("stage", *arguments)

    def stage_refused(self, *arguments):
        return self.service.refused("stage", *arguments)

    def show(self, name):
        """The description of a name, without the metrics of its calls."""
        shown = self.service.json("stage", "show", name, "--report", "json")
        del shown["use"]
        return shown

    def rule(self, name, *options):
        arguments = ("--logstore", self.logstore.name, "--bucket", "lake", "--prefix", name)
        self.service.command("rule", "create", name, *arguments, *options)

    def problem(self, rule):
        """Why the circuit breaker of a rule is open, if it is."""
        shown = ("rule", "show", rule, "--logstore", self.logstore.name, "--report", "json")
        return self.service.json(*shown)["problem"]

    def put(self, logs=10):
        """Puts so many more logs. Returns their ids."""
        ids = range(self.count, self.count + logs)
        self.count += logs
        items = [LogItem(contents=[("id", str(number))]) for number in ids]
        self.logstore.client.put_logs(PutLogsRequest(service.PROJECT, self.logstore.name, "", "", items))
        return list(ids)

    def objects(self, rule):
        """The objects of a rule, as a list of (mark, ids). Each must be complete and made by one version."""
        found = []
        for path in sorted(self.lake.glob(f"{rule}/**/*")):
            if path.is_file():
                found.append(self.read(path))
        return found

    def read(self, path):
        lines = [LINE.fullmatch(line) for line in path.read_text().splitlines()]
        self.assertTrue(all(lines), path.read_text()[:200])
        marks, words = {line[1] for line in lines}, [line[2] for line in lines]
        self.assertEqual((len(marks), words[0], words[-1]), (1, "begin", "end"), path)
        (mark,) = marks
        # The key says by which version it was made, too.
        self.assertEqual(path.suffix, f".{mark}")
        return mark, [int(word) for word in words[1:-1]]

    def ids(self, rule):
        return sorted(number for _, ids in self.objects(rule) for number in ids)

    def wait_until_shipped(self, rule):
        """Until each log is in objects once."""
        wait_for(lambda: len(self.ids(rule)) >= self.count, message=f"{rule} ships too little")
        self.assertEqual(self.ids(rule), list(range(self.count)))

    def marks(self, rule, ids):
        """The marks of the objects that have these logs."""
        return {mark for mark, found in self.objects(rule) if set(found) & set(ids)}

    def ship(self, rule, logs=10):
        """Puts logs. Returns the marks of their objects."""
        ids = self.put(logs)
        self.wait_until_shipped(rule)
        return self.marks(rule, ids)
