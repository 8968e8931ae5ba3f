"""The checks of sls_smoke.py, from a folder beside the repository: the whole API as the SDK uses it."""

import os
import subprocess
import sys
import unittest
from itertools import product

from kit import service
from kit.paths import ROOT

SCRIPT = ROOT.parent / "shared/clients/sls_smoke.py"
# A failed task is looked for in less time than logs wait otherwise. The SDK can't confirm deletions.
SETTINGS = """
[shipping]
longest-wait-seconds = 2

[deletion]
confirm = false
"""
# The checks mostly wait for heartbeats and timeouts.
PATIENCE = 180


class Smoke(unittest.TestCase):
    def test_passes_every_smoke_check(self):
        if not SCRIPT.exists():
            message = f"{SCRIPT} is not there: it is no part of the repository"
            if os.environ.get("LOGSHIP_REQUIRE_SHARED") == "1":
                self.fail(message)
            self.skipTest(message)
        served = service.Service(self, settings=SETTINGS)
        served.bucket("smoke-bucket")
        runs = {options: self.start(served, *options) for options in product(("dns", "proxy"), ("v1", "v4"))}
        for (mode, auth), run in runs.items():
            with self.subTest(mode=mode, auth=auth):
                printed, _ = run.communicate(timeout=PATIENCE)
                # A check that is skipped shows in this line too.
                self.assertRegex(printed.splitlines()[-1], r"^[1-9]\d* passed, 0 failed$", printed)
                self.assertEqual(run.returncode, 0, printed)

    def start(self, served, mode, auth):
        key = served.admin
        options = ["--ak-id", key.id, "--ak-key", key.secret, "--mode", mode, "--auth", auth, "--expect-fail-task"]
        command = [sys.executable, SCRIPT, served.endpoint(), *options]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(run.wait)
        self.addCleanup(run.kill)
        return run
