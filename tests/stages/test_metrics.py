"""Stage metrics: calls, bytes, failures and memory."""

import re

from kit.marking import Case
from kit.waiting import wait_for

LABELS = r'\{([^}]*)\} (\S+)'


class Metrics(Case):
    def metric(self, name, **labels):
        """The value of a metric with these labels; none if there is none."""
        text = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        found = [float(value) for known, value in re.findall(name + LABELS, text) if wanted <= set(known.split(","))]
        self.assertLessEqual(len(found), 1, text)
        return found[0] if found else None

    def test_counts_calls_bytes_memory_and_failures(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.ship("mine")
        good = {"stage": "marking-encoder", "version": "0001", "kind": "encoder"}
        calls = self.metric("logship_stage_call_seconds_count", **good)
        self.assertGreater(calls, 3)
        self.assertGreater(self.metric("logship_stage_call_seconds_sum", **good), 0)
        self.assertEqual(self.metric("logship_stage_bytes_total", direction="out", **good), self.bytes_of("mine"))
        self.assertGreater(self.metric("logship_stage_bytes_total", direction="in", **good), 0)
        self.assertGreaterEqual(self.metric("logship_stage_memory_bytes", **good), 1 << 16)
        self.assertEqual(self.metric("logship_stage_failures_total", reason="trap", **good), 0)
        self.ship("mine")
        self.assertGreater(self.metric("logship_stage_call_seconds_count", **good), calls)
        renderer = {"stage": "object-path", "kind": "renderer"}
        self.assertGreater(self.metric("logship_stage_call_seconds_count", **renderer), 0)

        self.stage("swap", "marker", self.file("0002", "trap"))
        self.put()
        wait_for(lambda: self.service.tasks("--rule", "mine", "--status", "failed"))
        bad = {**good, "version": "0002"}
        traps = self.metric("logship_stage_failures_total", reason="trap", **bad)
        attempts = sum(task["attempts"] for task in self.service.tasks("--rule", "mine", "--status", "failed"))
        self.assertIn(traps, (attempts, attempts + 1))
        self.assertEqual(self.metric("logship_stage_failures_total", reason="deadline", **bad), 0)
        # The version is shown with the name.
        use = self.service.json("stage", "show", "marker", "--report", "json")["use"]
        self.assertGreater(use["calls"], 0)
        self.assertGreaterEqual(use["failures"]["trap"], 1)
        self.assertRegex(self.stage("show", "marker"), r"calls +\d+ in \d+\.\d+ s, up to \d+(\.\d+)? [KM]iB of memory; \d+ trap")

    def bytes_of(self, rule):
        return sum(path.stat().st_size for path in self.lake.glob(f"{rule}/**/*") if path.is_file())
