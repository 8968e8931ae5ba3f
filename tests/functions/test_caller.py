"""Rules of a service whose objects a function makes: the bytes of a rule without one, each log once, whatever fails."""

import threading

import snappy

from kit.application import manifest
from kit.fakes.faults import Damage, Reset, ResetInBody, Respond, Run, Truncate
from kit.function_calls import PATIENCE, RULE, CallerCase, place
from kit.shipping import put
from kit.waiting import wait_for

GROUPS = 3
LOGS = 30
ABORTED = -6
# Groups of some 400 kB of bytes that nobody can guess: they stay large when they are packed.
LARGE = {"logs": 400, "groups": 4, "size": 3000}
CSV = ("--format", "csv", "--columns", "number,noise", "--set", "header=true", "--compression", "gzip")
PARQUET = ("--format", "parquet", "--columns", "number:int64,noise", "--compression", "snappy")
STOPS = "Begun", "RangeFixed", "Made", "ManifestSaved", "Published", "Settled"
BUSY = Respond(503, "ServerBusy")
BROKEN = Respond(502, "BadGateway")


class Objects(CallerCase):
    def test_makes_object_of_rule_without_function(self):
        cases = [
            (("--compression", "snappy", "--partition", "ds=%Y/%H", "--prefix", "日志/a b"), {}),
            (CSV, {"encoder": "encode-csv", "compressor": "compress-gzip"}),
            (PARQUET, {"encoder": "encode-parquet"}),
        ]
        for number, (options, stages) in enumerate(cases):
            with self.subTest(options):
                self.begin(**stages)
                self.serve()
                rule = self.rule(*options, **LARGE)
                direct = self.served.rule(rule.logstore, "lake", *options, name=f"direct-{number}")
                for each in direct, rule:
                    wait_for(lambda: each.has_shipped(LARGE["groups"]), PATIENCE, self.served.log.read_text, 0.1)
                (expected,), (task,) = direct.tasks(), rule.tasks()
                for fact in "begin", "end", "rows", "rawBytes", "storedBytes", "sha256":
                    self.assertEqual(task[fact], expected[fact], fact)
                self.assertEqual(self.store.read(task["object"]), self.store.read(expected["object"]))
                self.assertEqual(rule.replay(task), self.store.read(task["object"]))

    def test_counts_lost_values_like_rule_without_function(self):
        lines = ['{"id":"1"}', '{"id":"x","other":"no column"}', '{"id":"9223372036854775808","price":"frei é"}', '{"id":"y"}']
        (self.folder / "logs.ndjson").write_text("\n".join(lines))
        columns = ("--format", "parquet", "--columns", "id:int64,price:double", "--compression", "none")
        for number, rules in enumerate(({RULE: self.to_store()}, {RULE: {}})):
            with self.subTest(rules):
                self.begin(rules, encoder="encode-parquet")
                self.serve()
                rule = self.rule(*columns, logs=0, groups=0)
                direct = self.served.rule(rule.logstore, "lake", *columns, name=f"direct-{number}")
                self.served.command("put", rule.logstore.name, str(self.folder / "logs.ndjson"))
                succeeded = lambda: all(  # noqa: E731
                    [task["taskStatus"] for task in each.tasks()] == ["success"] for each in (direct, rule)
                )
                wait_for(succeeded, PATIENCE, self.served.log.read_text, 0.1)
                (expected,), (task,) = direct.tasks(), rule.tasks()
                self.assertEqual(expected["lostValues"], 4)
                for fact in "lostValues", "lostByColumn":
                    self.assertEqual(task[fact], expected[fact], fact)
                self.assertIn("is not a finite double", self.served.command("task", "show", task["id"]))

    def test_each_range_becomes_one_object(self):
        self.begin()
        self.serve()
        rule = self.rule("--compression", "snappy", "--prefix", "日志/a b", **LARGE)
        (task,) = self.assert_shipped(rule, LARGE["logs"], LARGE["groups"], snappy.uncompress)
        (call,) = self.calls()
        self.assertEqual((call.headers["x-logship-task"], task["attempts"]), (task["id"], 1))
        heads = call.headers["x-logship-head-before"], call.headers["x-logship-head"]
        self.assertEqual(heads, (task["headBefore"], task["head"]))
        put(rule.logstore, LOGS, 1, first=LARGE["logs"])
        self.assert_shipped(rule, LARGE["logs"] + LOGS, LARGE["groups"] + 1, snappy.uncompress)

    def test_service_puts_returned_object(self):
        self.begin({RULE: {}})
        self.serve()
        rule = self.rule(**LARGE)
        self.assert_shipped(rule, LARGE["logs"], LARGE["groups"])
        put(rule.logstore, LOGS, 1, first=LARGE["logs"])
        self.assert_shipped(rule, LARGE["logs"] + LOGS, LARGE["groups"] + 1)

    def test_retries_damaged_answer(self):
        self.begin({RULE: {}})
        self.serve()
        damaged = self.proxy.inject(Damage(), method="POST", times=2)
        self.assert_shipped(self.rule(), LOGS, GROUPS)
        self.assertEqual((damaged.fired, len(self.calls())), (2, 3))

    def test_obeys_limit_of_call(self):
        """Groups are cut, and what one call does not take is the next one's."""
        self.begin()
        self.serve(body_bytes=65_536)
        rule = self.rule(**LARGE)
        tasks = self.assert_shipped(rule, LARGE["logs"], LARGE["groups"])
        self.assertGreater(len(tasks), 16)
        self.assertTrue(any("+" in task["end"] for task in tasks), "none ends within a group")
        self.assertLessEqual(max(call.size for call in self.calls()), 65_536)

    def test_tasks_without_store_are_not_verified(self):
        self.begin()
        self.serve(store=None)
        rule = self.rule(bucket="")
        wait_for(lambda: rule.has_shipped(GROUPS), PATIENCE, self.served.log.read_text, 0.1)
        (task,) = rule.tasks()
        self.assertEqual(rule.replay(task), self.store.read(task["object"]))
        verified = self.served.run("verify")
        self.assertEqual(verified.returncode, 1)
        self.assertIn("0 of 1 objects match their tasks", verified.stdout)
        self.assertIn("Set `store`", verified.stdout)
        self.assertIn("1 objects could not be verified", verified.stderr)


class Rules(CallerCase):
    """The error of creating a rule."""

    def refusal(self, *options, bucket="lake", name=RULE):
        return self.served.refused("rule", "create", name, *place(self.logstore, bucket, "fleet"), *options)

    def test_rejects_rule_that_function_cannot_run(self):
        rules = {
            RULE: self.to_store(compression="none"),
            "splunk": {"deliver": {"to": "hec", "url": self.store.url}},
            "url": {"deliver": {"to": "url"}},
        }
        self.begin(rules)
        self.serve(store=None)
        self.logstore = self.served.logstore()
        for options, more, words in [
            (("--format", "csv", "--columns", "a"), {}, ("500", "encode-json", "spin.toml")),
            (("--compression", "gzip"), {}, ("500", "another compression", "rules")),
            ((), {"name": "other"}, ("404", "unknown-rule", "lake, splunk, url")),
            ((), {"name": "splunk"}, ("events to Splunk",)),
            ((), {"name": "url"}, ("presigned",)),
            ((), {"bucket": "lake"}, ("bucket", "store")),
            (("--role", "acs:ram::1:role/x"), {}, ("role",)),
        ]:
            with self.subTest(words):
                told = self.refusal(*options, **{"bucket": "", **more})
                for word in words:
                    self.assertIn(word, told)
        self.proxy.close()
        self.assertIn("can't reach", self.refusal(bucket=""))

    def test_accepts_valid_rule(self):
        self.begin()
        self.serve()
        logstore = self.served.logstore()
        self.served.command("rule", "create", RULE, *place(logstore, "lake", "fleet"), "--prefix", "a")
        self.assertEqual([request.method for request in self.proxy.requests], ["GET"])
        self.assertEqual(self.store.keys(), [])

    def test_returned_objects_need_store(self):
        self.begin({RULE: {}})
        self.serve(store=None)
        self.logstore = self.served.logstore()
        self.assertIn("the destination has no store for them", self.refusal(bucket=""))

    def test_rejects_invalid_settings(self):
        self.begin()
        self.serve()
        for setting, value, words in [
            ("url", "functions", "is not a URL"),
            ("store", "sea", 'no destination "sea"'),
            ("store", "fleet", "is a function"),
            ("calls", 0, "calls"),
            ("body-bytes", 1000, "body-bytes"),
            ("tokens", "x", "tokens"),
        ]:
            with self.subTest(words):
                self.served.write({**self.served.fleet, setting: value})
                told = self.served.refused("serve", "--config", self.served.settings, "--listen", "127.0.0.1:0")
                self.assertIn(words, told)


class Failures(CallerCase):
    def check(self, rule, logs=LOGS, groups=GROUPS):
        return self.assert_shipped(rule, logs, groups)

    def test_delivers_all_after_outage(self):
        self.begin()
        self.serve()
        self.function.kill()
        rule = self.rule()
        task = self.wait_for_failure(rule)
        self.assertEqual(task["taskCode"], "InternalServerError")
        self.assertIn("can't reach", task["taskMessage"])
        self.assertIn("/v1/ship/lake", task["taskMessage"])
        self.function.start()
        self.served.retry()
        (after,) = self.check(rule)
        self.assertEqual((after["id"], after["object"], after["attempts"]), (task["id"], task["object"], 2))

    def test_retries_task_without_help(self):
        self.begin()
        self.serve(retry_seconds=1)
        self.proxy.inject(BROKEN, method="POST", times=4)
        (task,) = self.check(self.rule())
        self.assertEqual((task["attempts"], len(self.calls())), (2, 5))

    def test_short_fault_is_no_failure(self):
        """Neither what the way to the function does nor what it says of where it delivers to."""
        for number, fault in enumerate([BUSY, BROKEN, Reset(), Reset(before=False), ResetInBody(), Truncate()]):
            with self.subTest(fault):
                self.setUp()
                self.begin()
                self.serve()
                self.proxy.inject(fault, method="POST", times=2)
                (task,) = self.check(self.rule())
                self.assertEqual((task["attempts"], len(self.calls())), (1, 3))

    def test_obeys_retry_after(self):
        self.begin()
        self.serve()
        self.proxy.inject(Respond(503, "Busy", headers=(("retry-after", "6"),)), method="POST")
        rule = self.rule()
        task = self.wait_for_failure(rule)
        self.assertEqual(len(self.calls()), 1, "it was called again before it wants to be")
        self.assertIn("503", task["taskMessage"])
        self.assertAlmostEqual(task["nextTry"] - task["finished"], 6, delta=1)
        (after,) = self.check(rule)
        self.assertEqual(after["attempts"], 2)

    def test_shows_refusal_and_retries_after_fix(self):
        self.begin({"other": self.to_store()}, "--variable", "call_token=secret", allowed=["http://192.0.2.1"])
        self.serve()
        rule = self.rule()
        refusals = [
            ("UnAuthorized", "401 Unauthorized (unauthorized)", self.give_token),
            ("InternalServerError", 'there is no rule "lake"', self.give_rule),
            ("UnAuthorized", "destination-forbidden", self.allow),
        ]
        for attempts, (code, words, mend) in enumerate(refusals, 1):
            with self.subTest(words):
                task = self.wait_for_failure(rule, attempts)
                self.assertEqual(task["taskCode"], code, task["taskMessage"])
                self.assertIn(words, task["taskMessage"])
                self.assertGreater(task["nextTry"], 0)
                self.assertEqual(self.store.keys(), [])
                mend()
                self.served.retry()
        self.check(rule)

    def give_token(self):
        self.served.fleet["token"] = "secret"
        self.served.restart()

    def give_rule(self):
        self.change({RULE: self.to_store()}, ["http://192.0.2.1"])

    def allow(self):
        self.change({RULE: self.to_store()}, [self.store.url])

    def change(self, rules, allowed):
        """The function begins anew, with other rules."""
        self.function.kill()
        self.function.file.write_text(manifest(rules, allowed))
        self.function.start()

    def test_permanent_refusal_is_not_retried(self):
        self.begin()
        self.serve(retry_seconds=1)
        self.proxy.inject(Respond(422, "Unprocessable"), method="POST")
        rule = self.rule()
        task = self.wait_for_failure(rule)
        self.assertIn("422", task["taskMessage"])
        self.assertIsNone(task["nextTry"])
        # Later logs are shipped meanwhile, and this task after a manual retry.
        put(rule.logstore, LOGS, 1, first=LOGS)
        wait_for(lambda: len(rule.tasks()) == 2 and rule.tasks()[1]["taskStatus"] == "success", PATIENCE)
        self.assertEqual(len(self.calls()), 2)
        self.served.retry()
        self.check(rule, 2 * LOGS, GROUPS + 1)

    def test_splits_call_too_large_for_proxy(self):
        self.begin()
        self.serve()
        most = 200_000
        is_large = lambda request: int(request.headers["content-length"]) > most  # noqa: E731
        self.proxy.inject(Respond(413, "TooLarge"), method="POST", times=None, when=is_large)
        rule = self.rule(**LARGE)
        task = self.wait_for_failure(rule)
        self.assertIn("413", task["taskMessage"])
        self.assertIsNone(task["nextTry"])
        self.served.fleet["body-bytes"] = most
        self.served.restart()
        self.served.retry()
        tasks = self.check(rule, LARGE["logs"], LARGE["groups"])
        self.assertGreater(len(tasks), 5)

    def test_keeps_foreign_object(self):
        self.begin()
        self.serve()
        self.function.kill()
        rule = self.rule()
        task = self.wait_for_failure(rule)
        self.store.client.put_object(Bucket="lake", Key=task["object"], Body=b"somebody's")
        self.function.start()
        self.served.retry()
        wait_for(lambda: rule.tasks()[0]["attempts"] == 2 and rule.tasks()[0]["taskStatus"] == "fail", PATIENCE)
        (task,) = rule.tasks()
        self.assertIn("other-object", task["taskMessage"])
        self.assertIsNone(task["nextTry"])
        self.assertEqual(self.objects(), {task["object"]: b"somebody's"})

    def test_keeps_object_of_other_stages(self):
        """The function made it, was not heard, and is another one when it is called again."""
        self.begin()
        self.serve()

        self.proxy.inject(Reset(before=False), method="POST", times=3)
        rule = self.rule("--compression", "snappy")
        task = self.wait_for_failure(rule)
        ((key, before),) = self.objects().items()
        self.assertEqual(key, task["object"])
        self.store.client.put_object(
            Bucket="lake",
            Key=key,
            Body=b"by others",
            Metadata={**self.store.metadata(key), "logship-sha256": "0" * 64, "logship-stages": "others@1"},
        )
        self.served.retry()
        wait_for(lambda: rule.has_shipped(GROUPS), PATIENCE, self.served.log.read_text, 0.1)
        (task,) = rule.tasks()
        self.assertEqual((task["sha256"], task["storedBytes"], task["rows"]), ("0" * 64, 9, LOGS))

    def test_reports_version_mismatch(self):
        """The function ignores the request and makes another object."""
        self.begin({RULE: self.to_store(prefix="elsewhere")})
        self.serve()
        rule = self.rule("--prefix", "here")
        task = self.wait_for_failure(rule)
        self.assertIn("another prefix", task["taskMessage"])
        self.assertEqual(self.store.keys(), [])


class Crashes(CallerCase):
    """Something is killed. Nobody sees a difference afterwards."""

    def test_survives_kill_of_function(self):
        for before in True, False:
            with self.subTest(before=before):
                self.setUp()
                self.begin()
                self.serve()
                self.proxy.inject(Run(lambda _: self.function.kill(), before=before), method="POST")
                self.proxy.inject(Reset(before=before), method="POST")
                rule = self.rule()
                self.wait_for_failure(rule)
                self.assertEqual(len(self.store.keys()), 0 if before else 1)
                self.function.start()
                self.served.retry()
                self.assert_shipped(rule, LOGS, GROUPS)

    def test_survives_abort_at_each_step(self):
        for rules in {RULE: self.to_store()}, {RULE: {}}:
            for step in STOPS:
                with self.subTest(step=step, rules=rules):
                    self.setUp()
                    # It is another process by now.
                    self.begin({RULE: self.to_store() if rules[RULE] else {}})
                    self.serve(environment={"FAILPOINT": step})
                    rule = self.rule()
                    self.assertEqual(self.served.process.wait(PATIENCE), ABORTED)
                    self.assertIn(f'"step":"{step}"', self.served.log.read_text())
                    self.served.environment = {}
                    self.served.start()
                    (task,) = self.assert_shipped(rule, LOGS, GROUPS)
                    tasks = {call.headers["x-logship-task"] for call in self.calls()}
                    self.assertEqual(tasks, {task["id"]})
                    put(rule.logstore, LOGS, 1, first=LOGS)
                    self.assert_shipped(rule, 2 * LOGS, GROUPS + 1)

    def test_survives_kill_of_service(self):
        for before in True, False:
            with self.subTest(before=before):
                self.setUp()
                self.begin()
                self.serve()

                def kill(_request):
                    self.served.process.kill()
                    self.served.process.wait()

                self.proxy.inject(Run(kill, before=before), method="POST")
                self.proxy.inject(Reset(before=before), method="POST")
                rule = self.rule()
                self.served.process.wait(PATIENCE)
                self.served.start()
                self.assert_shipped(rule, LOGS, GROUPS)
                self.assertEqual(len(self.store.keys()), 1)


class Scale(CallerCase):
    def test_runs_calls_in_parallel(self):
        """A function that answers nothing has all of its calls, and a rule without one ships."""
        self.begin()
        self.serve(calls=4, rule=RULE)
        gate = threading.Event()
        self.addCleanup(gate.set)
        self.proxy.inject(Run(lambda _: gate.wait(PATIENCE)), method="POST", times=None)
        rules = []
        for number in range(6):
            logstore = self.served.logstore(f"logs-{number}")
            put(logstore, LOGS, 1)
            rules.append(self.served.called(logstore, "lake", name=f"called-{number}"))
        wait_for(lambda: len(self.calls()) == 4, PATIENCE, self.served.log.read_text, 0.1)
        logstore = self.served.logstore("direct")
        put(logstore, LOGS, 1)
        direct = self.served.rule(logstore, "lake", name="direct")
        wait_for(lambda: direct.has_shipped(1), PATIENCE, self.served.log.read_text, 0.1)
        self.assertEqual(len(self.calls()), 4)
        gate.set()
        for rule in rules:
            wait_for(lambda: rule.has_shipped(1), PATIENCE, self.served.log.read_text, 0.1)
        self.assertEqual([len(rule.tasks()) for rule in rules], [1] * 6)
