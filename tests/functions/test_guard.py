"""Stages that `logship function compose` and `logship stage guard` guard: loops and allocations end in any host."""

import hashlib
import subprocess
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from kit.application import Application, manifest, stage
from kit.fakes.faults import Slow
from kit.fakes.put_store import Store
from kit.paths import COMPONENTS_EXAMPLES, PROGRAM, ROOT
from kit.process import temporary_folder
from kit.waiting import wait_for

MISBEHAVING = COMPONENTS_EXAMPLES / "misbehaving-stage.wasm"
ACTS = ["behave", "trap", "loop", "loop-of-fills", "loop-of-calls", "allocate", "grow", "recurse"]
RULES = {act: {"format": {"type": "none", "act": act}, "compression": "none"} for act in ACTS}
LINE = b'{"id":"1"}\n'
# Less than a second of computation, so that the tests are quick.
BUDGET = ("--budget", "500000000")


def run(*command):
    return subprocess.run([PROGRAM, *command], capture_output=True, text=True)


def compose(test, text, *options):
    """The file of an application's component with its stages."""
    folder = temporary_folder(test)
    (folder / "spin.toml").write_text(text)
    done = run("function", "compose", folder / "spin.toml", "-o", folder / "whole.wasm", *options)
    test.assertEqual(done.returncode, 0, done.stderr)
    return folder / "whole.wasm"


def serve(test, rules, whole, *options, allowed=()):
    """An application of one component that has its stages inside."""
    alone = manifest(rules, allowed, renderer=None, encoder=None, compressor=None, formatter=None)
    source = next(line for line in alone.splitlines() if line.startswith("source = "))
    return Application(test, alone.replace(source, f'source = "{whole}"'), *options)


class Composed(unittest.TestCase):
    def application(self, *options):
        whole = compose(self, manifest(RULES, encoder=MISBEHAVING), *BUDGET, *options)
        return serve(self, RULES, whole, "--timeout", "20")

    def test_each_misbehaviour_ends_in_its_own_call(self):
        application = self.application("--guarded")
        budget = "logship_guard::the_call_exceeded_its_budget_of_instructions"
        for act, words in [
            ("trap", "wasm `unreachable`"),
            ("loop", budget),
            ("loop-of-fills", budget),
            ("loop-of-calls", budget),
            ("allocate", "wasm `unreachable`"),
            ("grow", ""),
            ("recurse", ""),
        ]:
            with self.subTest(act=act):
                begun = time.monotonic()
                answer = application.ship(act, LINE * 5)
                self.assertEqual(answer.status, 500, answer.body)
                self.assertLess(time.monotonic() - begun, 15, "it ended by the timeout, not by the guard")
                self.assertIn(words, answer.body.decode() + application.problem())
                self.assertEqual(application.ship("behave", LINE * 5).body, b"misbehaving-stage\n" * 5)

    def test_loop_without_guard_ends_by_the_timeout(self):
        whole = compose(self, manifest(RULES, encoder=MISBEHAVING), "--unguarded")
        answer = serve(self, RULES, whole, "--timeout", "2").ship("loop", LINE)
        self.assertEqual(answer.status, 500)
        self.assertIn("timeout", answer.body.decode())

    def answers(self, *options):
        """Sixteen calls at once: thirteen wait for a store, one traps, one loops, one allocates."""
        store = Store(self)
        deliver = {"to": "s3", "endpoint": store.url, "bucket": "lake", "path-style": True}
        rules = {**RULES, "put": {**RULES["behave"], "deliver": deliver}}
        whole = compose(self, manifest(rules, [store.url], encoder=MISBEHAVING), *BUDGET)
        application = serve(self, rules, whole, *options, allowed=[store.url])
        application.ship("behave", LINE)
        store.inject(Slow(8.0), method="PUT", times=13)
        with ThreadPoolExecutor(16) as pool:
            put = lambda number: application.ship("put", LINE * 5, task=f"1760000089123456789_{number}")
            neighbours = []
            for number in range(13):
                neighbours.append(pool.submit(put, number))
                wait_for(lambda: len(store.requests) == number + 1)
            failures = [pool.submit(application.ship, act, LINE) for act in ("trap", "loop", "allocate")]
            self.assertEqual({call.result().status for call in failures}, {500})
            answers = [call.result().status for call in neighbours]
            # As the caller does: alone. An object that was put before is found.
            again = [put(number).status for number, status in enumerate(answers) if status == 500]
        self.assertEqual(set(again), {200} if again else set())
        return answers

    def test_neighbours_are_answered(self):
        # All in one instance, or with one call of an instance at a time.
        self.assertLessEqual(set(self.answers()), {200, 500})
        self.assertEqual(self.answers("--max-instance-concurrent-reuse-count", "1"), [200] * 13)

    def test_guarded_stages_make_the_same_object(self):
        lines = b"".join(b'{"id":"%d","text":"\xc3\xa9 %s"}\n' % (n, b"x" * (n % 300)) for n in range(3000))
        rules = {"lake": {"compression": "snappy"}}
        stages = {"encoder": COMPONENTS_EXAMPLES / "encode-logfmt.wasm"}
        digests = set()
        for options in (), ("--unguarded",), ("--trigger-memory", "512", "--stage-memory", "64"):
            whole = compose(self, manifest(rules, **stages), *options)
            answer = serve(self, rules, whole).ship("lake", lines)
            self.assertEqual(answer.status, 200, answer.body)
            digests.add(hashlib.sha256(answer.body).hexdigest())
        separate = Application(self, manifest(rules, **stages)).ship("lake", lines)
        digests.add(hashlib.sha256(separate.body).hexdigest())
        self.assertEqual(len(digests), 1)

    def test_built_in_stages_are_left_without_a_budget(self):
        sizes = [
            compose(self, manifest({}), *options).stat().st_size
            for options in ((), ("--unguarded",), ("--guarded", *BUDGET))
        ]
        # A maximum of memory takes some bytes.
        self.assertLess(max(sizes) - min(sizes), 100)
        custom = [
            compose(self, manifest({}, encoder=MISBEHAVING), *options).stat().st_size
            for options in ((), ("--unguarded",))
        ]
        self.assertGreater(custom[0] - custom[1], 10_000)


class Guard(unittest.TestCase):
    """`logship stage guard`, for applications that Spin composes itself."""

    def test_guarded_file_ends_loops_in_a_function(self):
        file = temporary_folder(self) / "guarded.wasm"
        done = run("stage", "guard", MISBEHAVING, "-o", file, *BUDGET)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("KiB, misbehaving-stage 0.1.0, encoder", done.stdout)
        # Its own deadline is far away.
        application = Application(self, manifest(RULES, encoder=file), "--stage-deadline", "50")
        answer = application.ship("loop", LINE)
        self.assertEqual(answer.status, 500)
        self.assertIn("logship_guard::the_call_exceeded_its_budget_of_instructions", answer.body.decode())
        self.assertEqual(application.ship("behave", LINE).body, b"misbehaving-stage\n")

    def test_tells_what_it_can_not_guard(self):
        folder = temporary_folder(self)
        for path, options, words in [
            (ROOT / "README.md", (), "README.md: it can't be guarded: it is not a WebAssembly component"),
            (folder / "none.wasm", (), "none.wasm: No such file"),
            (stage("encode-json"), ("--stage-memory", "1"), "raise the maximum"),
            (MISBEHAVING, ("--budget", "10"), "--budget"),
        ]:
            done = run("stage", "guard", path, "-o", folder / "out.wasm", *options)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(words, done.stderr)
            self.assertFalse((folder / "out.wasm").exists())


if __name__ == "__main__":
    unittest.main()
