"""Memory of a service after a burst of logs."""

import json
import unittest

from kit import service
from kit.waiting import wait_for

MIB = 1 << 20
SETTINGS = """
[shipping]
longest-wait-seconds = 2
"""


class Burst(unittest.TestCase):
    def test_idle_service_gives_memory_back(self):
        running = service.Service(self, settings=SETTINGS)
        running.logstore(shards=2)
        running.bucket("lake")
        for name, form in (("rows", ("parquet", "--columns", "__time__:int64,path")), ("lines", ("json",))):
            rule = ("--logstore", "logs", "--bucket", "lake", "--prefix", f"{name}/", "--format", *form)
            running.command("rule", "create", name, *rule, "--compression", "snappy")
        logs = running.folder / "burst.ndjson"
        with open(logs, "w") as file:
            for number in range(160_000):
                file.write(json.dumps({"path": f"/product/{number * 7919}", "agent": f"{number:0400}"}) + "\n")
        # Shipping and puts at once need more memory than either.
        for _ in range(3):
            running.command("put", "logs", logs)
        wait_for(lambda: len(running.tasks("--status", "success")) >= 4, patience=60, message="the logs were not shipped")
        self.assertGreater(running.memory("VmHWM"), 120 * MIB, "no burst")
        anonymous = lambda: running.memory("RssAnon") // MIB
        # The service looks at its CPU time every 15 seconds. What stays is code of stages and a page of each thread.
        wait_for(lambda: anonymous() < 75, patience=90, message=lambda: f"{anonymous()} MiB")


if __name__ == "__main__":
    unittest.main()
