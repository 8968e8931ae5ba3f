"""Jobs whose service is killed, whose requests fail, and which are stopped: each row is there once, or not at all."""

import itertools
import time

import pytest

from kit import soak
from kit.fakes.maxcompute import FLOW_EXCEEDED, INTERNAL_ERROR, LOST_ANSWER, Refuse
from kit.jobs import GUIDE, Case, window
from kit.waiting import PATIENCE, wait_for

STEPS = ["PlanSaved", "SessionCreated", "SessionSaved", "BlockUploaded", "BlockSaved", "CommitBegun", "Committed"]
ONE_TABLE = GUIDE.replace("pt=${startTime}", "pt=all")
APPEND = ONE_TABLE.replace("true", "false")


class Crashes(Case):
    shards = 4

    def start_with(self, **environment):
        self.service.environment = environment
        self.service.start()

    def test_killed_at_each_step_each_row_is_there_once(self):
        rows = self.put_many(4000)
        end = self.end_second()
        for script, step in itertools.product((ONE_TABLE, APPEND), STEPS):
            name = f"{step}_{'append' if script is APPEND else 'replace'}"
            with self.subTest(name):
                self.create(script.replace("pt=all", f"pt={name}"), name=name)
                self.service.terminate()
                self.service.code()
                self.start_with(FAILPOINT=f"Run{step}")
                self.service.run("job", "run", name, "--no-wait", *window(self.begin, end))
                self.assertEqual(self.service.process.wait(PATIENCE), -6)
                self.start_with()
                (run,) = self.runs(name)
                run = self.wait_for_end(run["id"], name)
                self.assertEqual((run["state"], run["rows"], run["attempts"]), ("success", 4000, 2), run["message"])
                self.assertEqual(self.rows(f"pt={name}"), rows)


class Many(Case):
    """Many logs of eight shards. The service is killed at each step of one run, and each request fails once."""

    shards = 8

    @pytest.mark.soak
    def test_many_logs_of_eight_shards(self):
        count = soak.scaled(1_000_000, least=104_000, step=8_000)
        rows = self.put_many(count)
        end = self.end_second()
        self.create(APPEND)
        begun = time.monotonic()
        for number, step in enumerate(STEPS):
            if self.service.is_alive():
                self.service.terminate()
                self.service.code()
            self.service.environment = {"FAILPOINT": f"Run{step}"}
            self.service.start()
            if number == 0:
                self.service.run("job", "run", "job", "--no-wait", *window(self.begin, end))
            self.assertEqual(self.service.process.wait(PATIENCE), -6, step)
            fault = [FLOW_EXCEEDED, INTERNAL_ERROR, Refuse(500, "InternalServerError", before=False), LOST_ANSWER][number % 4]
            self.maxcompute.clear()
            for operation in {"method": "POST", "query": "uploads"}, {"method": "PUT"}, {"method": "GET", "query": "uploadid"}:
                self.maxcompute.inject(fault, **operation)
        self.service.environment = {}
        self.service.start()
        (run,) = self.runs("job")
        run = self.wait_for_end(run["id"])
        self.assertEqual((run["state"], run["rows"]), ("success", count), run["message"])
        self.assertEqual(self.rows("pt=all"), rows)
        shards = self.show(run["id"])["shards"]
        self.assertEqual(len(shards), 8)
        print(f"{count} logs, {run['attempts']} attempts, {len(self.maxcompute.requests)} requests, {time.monotonic() - begun:.0f} s")


class Faults(Case):
    shards = 4

    def check_fault(self, name, script, fault, **conditions):
        """Runs a job with a fault for one request. Returns the run."""
        self.create(script.replace("pt=all", f"pt={name}"), name=name)
        rule = self.maxcompute.inject(fault, **conditions)
        self.service.run("job", "run", name, *window(self.begin, self.end))
        run = self.wait_for_end(self.runs(name)[0]["id"], name)
        self.assertEqual(rule.fired, 1, name)
        self.maxcompute.clear()
        return run

    def test_each_fault_leaves_each_row_once(self):
        rows = self.put_many(2000)
        self.end = self.end_second()
        create = {"method": "POST", "query": "uploads"}
        block, commit = {"method": "PUT"}, {"method": "POST", "query": "uploadid"}
        read = {"method": "GET", "query": "uploadid"}
        after = Refuse(500, "InternalServerError", before=False)
        expired = Refuse(400, "StatusConflict")
        cases = {
            "schema500": (INTERNAL_ERROR, {"method": "GET", "path": "*/tables/ok"}),
            "create429": (FLOW_EXCEEDED, create),
            "create500": (INTERNAL_ERROR, create),
            "createafter": (after, create),
            "createlost": (LOST_ANSWER, create),
            "block429": (FLOW_EXCEEDED, block),
            "block500": (INTERNAL_ERROR, block),
            "blockafter": (after, block),
            "blocklost": (LOST_ANSWER, block),
            "blockexpired": (expired, block),
            "list500": (INTERNAL_ERROR, read),
            "commit500": (INTERNAL_ERROR, commit),
            "commitafter": (after, commit),
            "commitlost": (LOST_ANSWER, commit),
        }
        for name, (fault, conditions) in cases.items():
            for kind, script in (("replace", ONE_TABLE), ("append", APPEND)):
                with self.subTest(name, kind=kind):
                    run = self.check_fault(f"{name}_{kind}", script, fault, **conditions)
                    self.assertEqual(run["state"], "success", run["message"])
                    self.assertEqual(self.rows(f"pt={name}_{kind}"), rows)

    def test_key_without_rights_is_told_and_retried(self):
        self.put_many(10)
        self.end = self.end_second()
        self.maxcompute.rights[self.key.id] = frozenset({"Read", "List", "Describe"})
        self.create(ONE_TABLE)
        done, run = self.run_job(*window(self.begin, self.end))
        self.assertEqual(done.returncode, 1)
        self.assertIn("NO privilege", done.stderr)
        self.maxcompute.rights.clear()
        self.assertEqual(self.wait_for_end(run["id"])["state"], "success")


class Stops(Case):
    settings = ""

    def test_stopped_run_leaves_nothing_and_runs_again(self):
        rows = self.put_many(2000)
        end = self.end_second()
        self.create(ONE_TABLE)
        # Tunnel is busy for as long as the test likes.
        rule = self.maxcompute.inject(FLOW_EXCEEDED, method="PUT", times=None)
        self.service.command("job", "run", "job", "--no-wait", *window(self.begin, end))
        wait_for(lambda: rule.fired > 0)
        (run,) = self.runs()
        self.assertIn("has not ended", self.service.refused("job", "run", "job", *window(self.begin, end)))
        self.assertIn("has not ended", self.service.refused("job", "delete", "job"))
        self.assertIn("nothing of it is visible", self.service.command("job", "stop", "job", str(run["id"])))
        self.assertEqual(self.show(run["id"])["state"], "stopped")
        self.assertIn("has ended", self.service.refused("job", "stop", "job", str(run["id"])))
        self.maxcompute.clear()
        self.assertEqual(self.rows("pt=all"), [])
        self.service.command("job", "rerun", "job", str(run["id"]))
        self.assertEqual(self.rows("pt=all"), rows)
        self.service.command("job", "delete", "job")
        self.assertEqual(self.rows("pt=all"), rows)

    def test_rate_is_limited(self):
        # About 3 MB of logs in blocks of all shards, at 1 MB a second.
        for start in range(0, 6000, 2000):
            self.put(*({"key1": f"{number}", "key2": "x" * 100_000} for number in range(start, start + 10)))
        end = self.end_second()
        self.create(ONE_TABLE.replace('"mbps": 8', '"mbps": 1'))
        done, run = self.run_job(*window(self.begin, end))
        self.assertEqual((done.returncode, run["rows"]), (0, 30), done.stderr)
        self.assertGreater(run["finished"] - run["started"], 1.0)
