"""Stages that fail: their rules are held, nothing is lost, others go on; another version goes on where they were."""

from kit.marking import SETTINGS, Case
from kit.waiting import wait_for

MEMORY = 64 << 20


class Held(Case):
    settings = SETTINGS.replace("retry-seconds = 2", "retry-seconds = 600")

    def fail(self, act):
        """Lets a stage that did its work be replaced by one that does not, until its rule is held."""
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.rule("other", "--encoder", "marker@0001")
        self.assertEqual(self.ship("mine"), {"0001"})
        self.stage("swap", "marker", self.file("0002", act))
        for _ in range(3):
            before = len(self.service.tasks("--rule", "mine", "--status", "failed"))
            self.put()
            failed = lambda: len(self.service.tasks("--rule", "mine", "--status", "failed")) > before
            wait_for(failed, patience=60, message="no task fails")
        wait_for(lambda: self.problem("mine"), message="the rule is not held")

    def check_held(self, word):
        problem = self.problem("mine")
        self.assertIn("marking-encoder 0002 failed the last 3 tasks", problem)
        self.assertIn(word, problem)
        tasks = len(self.service.tasks("--rule", "mine"))
        # Others are as they were.
        self.put()
        self.wait_until_shipped("other")
        self.assertEqual(self.marks("other", range(self.count)), {"0001"})
        self.assertIsNone(self.problem("other"))
        self.assertEqual(len(self.service.tasks("--rule", "mine")), tasks, "no more tasks are made")
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        held = [line for line in metrics.splitlines() if line.startswith("logship_rule_held{") and 'rule="mine"' in line]
        self.assertEqual([line.split()[-1] for line in held], ["1"])

    def check_goes_on(self):
        self.wait_until_shipped("mine")
        self.assertIsNone(self.problem("mine"))
        self.assertEqual(self.service.tasks("--rule", "mine", "--status", "failed"), [])
        self.assertEqual(self.service.command("verify", "--rule", "mine").count("match their tasks"), 1)

    def test_rollback_closes_breaker_after_trap(self):
        self.fail("trap")
        self.check_held("trapped")
        # Also for who comes later.
        self.service.kill()
        self.service.start()
        self.check_held("trapped")
        self.stage("rollback", "marker")
        self.check_goes_on()
        self.assertEqual({mark for mark, _ in self.objects("mine")}, {"0001"})

    def test_new_version_closes_breaker_after_memory_limit(self):
        before = self.service.memory("VmHWM")
        self.fail("grow")
        self.check_held("asked for")
        grown = self.service.memory("VmHWM") - before
        self.assertLess(grown, 96 * 2 * (1 << 20) + MEMORY, "two workers have 96 MiB each")
        self.stage("swap", "marker", self.file("0003"))
        self.check_goes_on()
        self.assertEqual({mark for mark, _ in self.objects("mine")}, {"0001", "0003"})


class Giant(Case):
    def test_oversized_output_takes_no_memory(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker", "--size", "5")
        self.rule("other", "--encoder", "marker@0001")
        self.ship("mine")
        self.wait_until_shipped("other")
        self.stage("swap", "marker", self.file("0002", "giant"))
        before = self.service.memory("VmHWM")
        for count in range(2, 6):
            self.put()
            done = lambda: self.service.tasks("--rule", "mine", "--status", "success")
            wait_for(lambda: len(done()) >= count, message="no task is done")
            self.wait_until_shipped("other")
        # One answer of 40 MiB in the stage, and one on its way to the disk, in each of two workers.
        self.assertLess(self.service.memory("VmHWM") - before, 4 * 40 * (1 << 20) + MEMORY)
        self.assertEqual(self.marks("other", range(self.count)), {"0001"})
        self.stage("rollback", "marker")
        ids = self.put()
        marked = lambda: {mark for path in self.lake.glob("mine/**/*.0001") for mark, found in [self.read(path)] if set(found) & set(ids)}
        wait_for(marked)


class Loops(Held):
    """An endless stage is stopped at the deadline of a call."""

    def setUp(self):
        super().setUp()
        self.service.options += ("--stage-deadline", "0.5")
        self.service.restart()

    def test_endless_stage_opens_breaker(self):
        self.fail("loop")
        self.check_held("did not answer within")
        self.stage("rollback", "marker")
        self.check_goes_on()

    # The tests of the base class run there.
    test_rollback_closes_breaker_after_trap = None
    test_new_version_closes_breaker_after_memory_limit = None


class Again(Case):
    """A failing stage leaves nothing behind in the service."""

    settings = SETTINGS.replace("retry-seconds = 2", "retry-seconds = 600")
    ACTS = {"trap": "trapped", "grow": "asked for", "lie": "out of bounds", "loop": "did not answer within"}
    ROUNDS = 4

    def setUp(self):
        super().setUp()
        self.service.options += ("--stage-deadline", "0.5")
        self.service.restart()
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.rule("other", "--encoder", "marker@0001")

    def fail(self, version, word):
        """A task of a stage that does not do its work, and the same task by one that does."""
        self.stage("swap", "marker", version)
        self.put()
        failed = lambda: self.service.tasks("--rule", "mine", "--status", "failed")
        wait_for(failed, patience=60, message="no task fails")
        (task,) = failed()
        self.assertIn(word, task["taskMessage"])
        self.wait_until_shipped("other")
        self.stage("rollback", "marker")
        self.service.command("task", "retry", "--all-failed", "--rule", "mine")
        self.wait_until_shipped("mine")

    def test_failing_stages_leak_no_memory(self):
        for number, act in enumerate(self.ACTS, 2):
            self.stage("add", self.file(f"{number:04}", act), "--name", "marker")
        most = []
        for _ in range(self.ROUNDS):
            for number, word in enumerate(self.ACTS.values(), 2):
                self.fail(f"{number:04}", word)
            most.append(self.service.memory("VmHWM"))
        print("most memory after each round, MiB:", *(bytes >> 20 for bytes in most))
        # All instances that there can be have been there by then.
        self.assertLess(most[-1] - most[1], 16 << 20, most)
        self.assertEqual(self.marks("mine", range(self.count)), {"0001"})
        self.assertEqual(self.marks("other", range(self.count)), {"0001"})
