"""Functions whose stages fail as on Spin: an empty 500, or a cut connection. The service finds out alone, and pauses."""

import threading
import time

from functions.test_guard import BUDGET, MISBEHAVING, compose, serve
from kit.application import manifest
from kit.fakes.faults import Reset, Respond, Run, Say, Slow
from kit.fakes.proxy import FaultyProxy
from kit.function_calls import KEYS, PATIENCE, RULE, CallerCase
from kit.shipping import put
from kit.waiting import wait_for

LOGS, GROUPS = 30, 3
LARGE = {"logs": 400, "groups": 4, "size": 3000}
EMPTY = Say(500)


class Failures(CallerCase):
    def problem(self, rule):
        shown = ("rule", "show", rule.name, "--logstore", rule.logstore.name, "--report", "json")
        return self.served.json(*shown)["problem"]

    def test_empty_500_is_retried(self):
        self.begin()
        self.serve()
        self.proxy.inject(EMPTY, method="POST", times=2)
        (task,) = self.assert_shipped(self.rule(), LOGS, GROUPS)
        self.assertEqual((task["attempts"], len(self.calls())), (1, 3))

    def test_retry_is_alone(self):
        """Calls of other rules wait until it is answered, and it waits for theirs."""
        self.begin()
        self.serve(calls=4, rule=RULE)
        running, most, failed = set(), [], []
        lock = threading.Lock()

        def begin(request):
            with lock:
                running.add(request.number)
                if request.headers["x-logship-task"] in failed:
                    most.append(len(running))
                elif not failed:
                    failed.append(request.headers["x-logship-task"])

        ended = Run(lambda request: running.discard(request.number), before=False)
        self.proxy.inject(Run(begin), method="POST", times=None)
        self.proxy.inject(EMPTY, method="POST", times=1)
        self.proxy.inject(ended, method="POST", times=None)
        self.proxy.inject(Slow(0.5), method="POST", times=None)
        logstores = [self.served.logstore(f"logs-{number}") for number in range(4)]
        for logstore in logstores:
            put(logstore, LOGS, 1)
        rules = [self.served.called(logstore, "lake", name=f"called-{n}") for n, logstore in enumerate(logstores)]
        for rule in rules:
            wait_for(lambda: rule.has_shipped(1), PATIENCE, self.served.log.read_text, 0.1)
        self.assertTrue(failed and most)
        # The failed call itself is never discarded from the running ones.
        self.assertLessEqual(max(most), 2, "others ran beside the retry")

    def test_failing_stage_opens_circuit_breaker(self):
        for fault in EMPTY, Reset(before=False):
            with self.subTest(fault):
                self.setUp()
                self.begin()
                self.serve(retry_seconds=1, shipping={"hold_after_tasks": 1})
                failing = self.proxy.inject(fault, method="POST", times=None)
                rule = self.rule()
                put(rule.logstore, LOGS, 1, first=LOGS)
                problem = wait_for(lambda: self.problem(rule), PATIENCE, lambda: str(rule.tasks()))
                for words in "a stage of the function", "/v1/ship/lake", "no logs are lost", "spin.toml":
                    self.assertIn(words, problem)
                self.assertIn("a stage of this function", rule.tasks()[0]["taskMessage"])
                failing.times = failing.fired
                self.served.retry()
                wait_for(lambda: rule.has_shipped(GROUPS + 1), PATIENCE, self.served.log.read_text, 0.1)
                wait_for(lambda: not self.problem(rule), PATIENCE)

    def test_unreachable_function_is_no_failing_stage(self):
        self.begin()
        self.serve(retry_seconds=1)
        self.proxy.close()
        rule = self.rule()
        self.wait_for_failure(rule, attempts=4)
        self.assertIsNone(self.problem(rule))


class Neighbors(CallerCase):
    """Sixteen calls at a time in one instance, with a guarded stage: one traps, one loops, one allocates."""

    ACTS = ["trap", "loop", "allocate", *("behave",) * 13]

    def test_others_are_shipped_once(self):
        slow = FaultyProxy(("127.0.0.1", int(self.store.url.rsplit(":", 1)[1])))
        self.addCleanup(slow.close)
        url = "http://{}:{}".format(*slow.address)
        deliver = {**self.to_store()["deliver"], "endpoint": url}
        rules = {name: {"deliver": deliver} for name in self.names()}
        whole = compose(self, manifest(rules, [url], encoder=MISBEHAVING), *BUDGET)
        self.function = serve(self, rules, whole, *KEYS, allowed=[url])
        self.proxy = FaultyProxy(self.function.address)
        self.addCleanup(self.proxy.close)
        self.serve(calls=16, retry_seconds=1, shipping={"hold_after_tasks": 1})
        self.served.command("stage", "add", MISBEHAVING)
        # So many wait for the store when the others fail.
        slow.inject(Slow(12.0), method="PUT", times=13)
        called = {name: self.called(name, act) for name, act in zip(self.names(), self.ACTS, strict=True)}
        good = {name: rule for name, rule in called.items() if "behave" in name}
        # One after another, so that the instance of the first takes them all.
        for number, rule in enumerate(good.values(), 1):
            put(rule.logstore, LOGS, 1)
            puts = lambda: [each for each in slow.requests if each.method == "PUT"]
            wait_for(lambda: len(puts()) >= number, message=self.served.log.read_text)
        for name in called.keys() - good.keys():
            put(called[name].logstore, LOGS, 1)
        for rule in good.values():
            wait_for(lambda: rule.has_shipped(1), PATIENCE, self.served.log.read_text, 0.1)
        self.assertIn("calls of the instance", self.function.problem(), "no neighbor failed, so that nothing was tested")
        # Each object is there once, and is right.
        objects = self.objects()
        self.assertEqual(sorted(objects), sorted(rule.tasks()[0]["object"] for rule in good.values()))
        self.assertEqual(set(objects.values()), {b"misbehaving-stage\n" * LOGS})
        for rule in good.values():
            (task,) = rule.tasks()
            self.assertEqual((task["taskStatus"], task["rows"]), ("success", LOGS))
        for name in called.keys() - good.keys():
            wait_for(lambda: self.problem(called[name]), PATIENCE, lambda: str(called[name].tasks()))

    def names(self):
        return [f"{act}-{number}" for number, act in enumerate(self.ACTS)]

    def called(self, name, act):
        logstore = self.served.logstore(name)
        return self.served.called(logstore, "lake", "--encoder", "misbehaving-stage", "--set", f"act={act}", name=name)

    def problem(self, rule):
        shown = ("rule", "show", rule.name, "--logstore", rule.logstore.name, "--report", "json")
        return self.served.json(*shown)["problem"]


class Sizes(CallerCase):
    DESCRIBED = (
        ("x-logship-stages", "object-path@0.1.0"),
        ("x-logship-delivers", "s3"),
        ("x-logship-max-body-bytes", "100000"),
        ("x-logship-max-raw-bytes", "1000000"),
    )

    def test_obeys_limit_of_description(self):
        self.begin()
        self.serve()
        self.proxy.inject(Respond(200, "", headers=self.DESCRIBED), method="GET", times=None)
        tasks = self.assert_shipped(self.rule(**LARGE), LARGE["logs"], LARGE["groups"])
        self.assertGreater(len(tasks), 10)
        self.assertLessEqual(max(call.size for call in self.calls()), 100_000)

    def test_function_without_description_is_called(self):
        self.begin()
        self.serve()
        self.proxy.inject(Respond(404, "NotFound"), method="GET", times=None)
        self.assert_shipped(self.rule(**LARGE), LARGE["logs"], LARGE["groups"])
        self.assertEqual(len(self.calls()), 1)


class Stalls(CallerCase):
    def warnings(self):
        return self.served.log.read_text().count("answers of the function stall")

    def ship(self, rule, count):
        for number in range(count):
            put(rule.logstore, 1, 1, first=LOGS + number)
            wait_for(lambda: rule.has_shipped(GROUPS + 1 + number), PATIENCE, self.served.log.read_text, 0.02)

    def test_warns_once_of_answers_that_stall(self):
        self.begin()
        self.serve()
        rule = self.rule()
        self.ship(rule, 20)
        self.assertEqual(self.warnings(), 0)
        self.proxy.inject(Pause(), method="POST", times=None)
        for number in range(30):
            put(rule.logstore, 1, 1, first=LOGS + 20 + number)
            wait_for(lambda: rule.has_shipped(GROUPS + 21 + number), PATIENCE, self.served.log.read_text, 0.02)
        self.assertEqual(self.warnings(), 1)


class Pause:
    """The answer's body, or the last chunk of an empty one, comes 40 ms after its head."""

    before = True

    def run(self, exchange):
        answer = exchange.forward()
        head = answer.head.replace(b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n")
        exchange.send(head)
        time.sleep(0.04)
        exchange.send(answer.body if answer.body else b"0\r\n\r\n")
        exchange.close_if(answer.ends)
