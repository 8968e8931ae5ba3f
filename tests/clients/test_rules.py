"""Rules and tasks of shipping, by the vendor's SDK and by the commands."""

import json
import time
import unittest

from aliyun.log import LogException, LogItem, PutLogsRequest

import service
import shipped
from object_stores import ID, SECRET, Moto, S3Server

SETTINGS = """
[shipping]
longest-wait-seconds = 1
"""
# Seconds in which a task is made that can be made, with much to spare.
WHILE = 4
JSON = {"format": "json", "detail": {}}
OSS = {"bufferInterval": 300, "bufferSize": 5, "compressType": "none", "pathFormat": "%Y/%m", "enable": True}


def detail(name, bucket, **configuration):
    """A rule as the SDK sends it."""
    configuration = {"ossBucket": bucket, "ossPrefix": name, "storage": JSON, **OSS, **configuration}
    return {"shipperName": name, "targetType": "oss", "targetConfiguration": configuration}


class Case(unittest.TestCase):
    shards = 1
    settings = SETTINGS

    def setUp(self):
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore(shards=self.shards)
        self.client = self.logstore.client
        self.lake = self.service.bucket("lake")
        self.count = 0

    def sdk(self, call, *arguments):
        """What the SDK says to a call about rules of the logstore."""
        return getattr(self.client, call)(service.PROJECT, self.logstore.name, *arguments)

    def refusal(self, call, *arguments):
        """Status, code and message of a call that is refused."""
        with self.assertRaises(LogException) as refused:
            self.sdk(call, *arguments)
        error = refused.exception
        return error.get_resp_status(), error.get_error_code(), error.get_error_message()

    def rule(self, action, *arguments):
        return "rule", action, "--logstore", self.logstore.name, *arguments

    def configuration(self, name):
        return self.sdk("get_shipper", name).get_entity()["targetConfiguration"]

    def put(self, logs=10):
        """Puts so many more logs to each shard."""
        shards = self.client.list_shards(service.PROJECT, self.logstore.name).get_shards_info()
        for shard in shards:
            ids = range(self.count, self.count + logs)
            self.count += logs
            items = [LogItem(contents=[("id", str(number))]) for number in ids]
            key = shard["inclusiveBeginKey"]
            self.client.put_logs(PutLogsRequest(service.PROJECT, self.logstore.name, "", "", items, hashKey=key))

    def objects(self, prefix):
        """The files of the objects below a prefix."""
        folder = self.lake.parent
        return sorted(path for path in folder.glob(f"*/{prefix}/**/*") if path.is_file())

    def ids(self, prefix):
        """The ids of all logs in JSON objects."""
        lines = [line for path in self.objects(prefix) for line in path.read_text().splitlines()]
        return sorted(int(json.loads(line)["id"]) for line in lines)

    def wait_until_shipped(self, prefix):
        """Until all logs are in JSON objects, once each."""
        service.wait_for(lambda: len(self.ids(prefix)) >= self.count, message=f"{prefix} ships too little")
        self.assertEqual(self.ids(prefix), list(range(self.count)))

    def wait_for_tasks(self, rule, count, status):
        """The tasks of a rule with a status, once there are so many."""

        def found():
            tasks = self.service.tasks("--rule", rule, "--status", status)
            return tasks if len(tasks) >= count else None

        tasks = service.wait_for(found, message=f"{rule} has no {count} tasks with status {status}")
        self.assertEqual(len(tasks), count)
        return tasks


class Refusals(Case):
    def wrong_configurations(self):
        """Members that are wrong, each with the word that has to be in the message."""
        wrong = {
            "bufferSize": (0, 4, 257, -1, "big"),
            "bufferInterval": (0, 299, 901),
            "storage": ({"format": "xml", "detail": {}},),
            "compressType": ("lzo",),
            "pathFormat": ("%Q", "/%Y"),
            "ossPrefix": ("/smoke",),
            "ossBucket": ("", "..", "a/b"),
            "timeZone": ("Mars", "+2500"),
        }
        yield from (({member: value}, member) for member, values in wrong.items() for value in values)
        yield {"storage": {"format": "csv", "detail": {}}}, "columns"
        yield {"storage": {"format": "parquet"}}, "columns"
        yield {"logship": {"destination": "nowhere"}}, "logship.destination"
        yield {"logship": {"stages": {"encoder": "nothing"}}}, "encoder"
        yield {"logship": {"unknown": 1}}, "unknown"

    def test_what_is_wrong_is_named_as_the_sdk_names_it(self):
        self.sdk("create_shipper", detail("other", "lake"))
        before = self.configuration("other")
        for configuration, member in self.wrong_configurations():
            with self.subTest(configuration):
                status, code, message = self.refusal("create_shipper", detail("rule", "lake", **configuration))
                self.assertEqual(status, 400, message)
                self.assertIn(code, ("PostBodyInvalid", "ParameterInvalid"))
                self.assertIn(member, message)
                update = self.refusal("update_shipper", detail("other", "lake", **configuration))
                self.assertEqual(update, (status, code, message))
        self.assertEqual(self.configuration("other"), before)
        self.assertEqual(self.sdk("list_shipper").get_entities(), ["other"])

    def test_ranges_end_where_they_end(self):
        ends = [{"bufferSize": 5}, {"bufferSize": 256}, {"bufferInterval": 300}, {"bufferInterval": 900}]
        for number, configuration in enumerate(ends):
            with self.subTest(configuration):
                self.sdk("create_shipper", detail(f"rule-{number}", "lake", **configuration))

    def test_names_are_refused_by_their_law(self):
        for name in "", "ab", "a" * 64, "Abc", "-abc", "abc-", "a b", "a.b", "äbc", "bad-$@#":
            with self.subTest(name=name):
                status, code, message = self.refusal("create_shipper", detail(name, "lake"))
                self.assertEqual((status, code), (400, "PostBodyInvalid"))
                self.assertRegex(message, "shipper ?[nN]ame")
                self.assertIn("name", self.service.refused(*self.rule("create", "--bucket", "lake", "--", name)))

    def test_the_command_names_what_is_wrong_too(self):
        wrong = {"--size": "4", "--time": "901", "--format": "xml", "--compression": "lzo", "--partition": "%Q"}
        wrong |= {"--destination": "nowhere", "--bucket": "a/b", "--time-zone": "Mars", "--prefix": "/smoke"}
        for option, value in wrong.items():
            with self.subTest(option=option):
                options = {"--bucket": "lake", option: value}
                arguments = [part for pair in options.items() for part in pair]
                said = self.service.refused(*self.rule("create", "rule", *arguments))
                self.assertIn(option.strip("-").split("-")[0], said)
        self.assertEqual(self.sdk("list_shipper").get_total(), 0)

    def test_a_deleted_rules_name_stays_taken(self):
        self.sdk("create_shipper", detail("rule", "lake"))
        self.assertIn("already exists", self.refusal("create_shipper", detail("rule", "lake"))[2])
        self.service.command(*self.rule("delete", "rule"))
        self.assertIn("no rules", self.service.command("rule", "list"))
        for _ in range(2):
            status, code, message = self.refusal("create_shipper", detail("rule", "lake"))
            self.assertEqual((status, code), (400, "ParameterInvalid"))
            self.assertIn("rule was deleted", message)
            self.assertIn("rule was deleted", self.service.refused(*self.rule("create", "rule", "--bucket", "lake")))
            self.service.restart()
        # Another logstore has names of its own.
        self.logstore = self.service.logstore("others")
        self.sdk("create_shipper", detail("rule", "lake"))


class MissingBuckets(Case):
    def setUp(self):
        self.store = Moto(self)
        self.settings = SETTINGS + self.store.settings("s3")
        super().setUp()

    def test_the_command_refuses_them_with_the_words_of_the_store(self):
        for destination, words in ("default", "there is no folder"), ("s3", "NoSuchBucket"):
            with self.subTest(destination=destination):
                options = ("--bucket", "nothing", "--destination", destination)
                said = self.service.refused(*self.rule("create", "rule", *options))
                self.assertIn("InvalidOssBucket", said)
                self.assertIn(words, said)
                self.assertEqual(self.sdk("list_shipper").get_total(), 0)

    def test_without_a_probe_the_rule_is_made_all_the_same(self):
        done = self.service.run(*self.rule("create", "rule", "--bucket", "nothing", "--no-probe"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.sdk("list_shipper").get_total(), 1)

    def test_the_sdk_gets_a_warning_and_the_rule_ships_once_the_bucket_is_there(self):
        for destination in "default", "s3":
            with self.subTest(destination=destination):
                rule = detail(f"to-{destination}", "later", logship={"destination": destination})
                warning = self.sdk("create_shipper", rule).get_body()["warning"]
                self.assertEqual(warning["code"], "InvalidOssBucket")
                self.assertIn("bucket", warning["message"])
        self.put()
        for rule in "to-default", "to-s3":
            (task,) = self.wait_for_tasks(rule, 1, "failed")
            self.assertEqual(task["taskCode"], "InvalidOssBucket")
            self.assertTrue(task["taskMessage"])
        self.service.bucket("later")
        self.store.client.create_bucket(Bucket="later")
        self.assertIn("2 tasks are tried now", self.service.command("task", "retry", "--all-failed"))
        for rule in "to-default", "to-s3":
            (task,) = self.wait_for_tasks(rule, 1, "success")
            self.assertEqual((task["taskCode"], task["taskMessage"], task["attempts"]), ("", "", 2))
        self.wait_until_shipped("to-default")


class Apply(Case):
    def setUp(self):
        super().setUp()
        self.file = self.service.folder / "rules.toml"

    def apply(self, rules, *options):
        """Applies rules, each a name with a table of what it sets. Returns what was printed."""
        lines = []
        for name, members in rules.items():
            members = {"name": name, "logstore": self.logstore.name, "bucket": "lake", **members}
            # A value is written in TOML as in JSON.
            lines += ["[[rule]]", *(f"{member} = {json.dumps(value)}" for member, value in members.items())]
        self.file.write_text("\n".join(lines))
        return self.service.command("rule", "apply", "-f", self.file, *options).splitlines()

    def times(self, name):
        entity = self.sdk("get_shipper", name).get_entity()
        return entity["createTime"], entity["lastModifyTime"]

    def test_the_same_file_twice_changes_nothing(self):
        rules = {"one": {"size_mb": 5, "time_zone": "Asia/Shanghai"}, "two": {"from": "now", "prefix": "two"}}
        self.assertEqual(self.apply(rules), ["+ logs/one made", "+ logs/two made"])
        times = self.times("one")
        # Times are in seconds.
        time.sleep(1.1)
        self.assertEqual(self.apply(rules), ["  logs/one is as it has to be", "  logs/two is as it has to be"])
        self.assertEqual(self.times("one"), times)

    def test_what_differs_is_shown_and_changed(self):
        self.apply({"one": {"size_mb": 5, "prefix": "a"}})
        changed = {"one": {"size_mb": 6, "prefix": "a", "compression": "zstd"}}
        before = self.configuration("one")
        difference = ["    bufferSize: 5 -> 6", '    compressType: "none" -> "zstd"']
        dry = self.apply(changed, "--dry-run")
        self.assertEqual(dry, ["~ logs/one would be changed", *difference, "nothing was changed: --dry-run"])
        self.assertEqual(self.configuration("one"), before)
        self.assertEqual(self.apply(changed), ["~ logs/one changed", *difference])
        self.assertEqual(self.configuration("one"), {**before, "bufferSize": 6, "compressType": "zstd"})

    def test_rules_that_the_file_lacks_are_deleted_when_asked_for_only(self):
        self.apply({"one": {}, "two": {}})
        self.assertEqual(self.apply({"one": {}}), ["  logs/one is as it has to be"])
        dry = self.apply({"one": {}}, "--prune", "--dry-run")
        self.assertEqual(dry[1:], ["- logs/two would be deleted", "nothing was changed: --dry-run"])
        self.assertEqual(sorted(self.sdk("list_shipper").get_entities()), ["one", "two"])
        self.assertEqual(self.apply({"one": {}}, "--prune")[1:], ["- logs/two deleted"])
        self.assertEqual(self.sdk("list_shipper").get_entities(), ["one"])

    def test_a_file_with_a_mistake_changes_nothing(self):
        for mistake in {"size_mb": 4}, {"sizes": 5}, {"logstore": ""}:
            with self.subTest(mistake), self.assertRaisesRegex(AssertionError, next(iter(mistake))):
                self.apply({"one": {}, "two": mistake})
            self.assertEqual(self.sdk("list_shipper").get_total(), 0)


class Changes(Case):
    shards = 2

    def test_a_rule_that_is_disabled_stops_and_goes_on_where_it_was(self):
        self.sdk("create_shipper", detail("rule", "lake"))
        self.put()
        self.wait_until_shipped("rule")
        self.service.command(*self.rule("disable", "rule"))
        self.assertIn("disabled", self.service.command("rule", "list"))
        before = self.service.tasks()
        self.put()
        time.sleep(WHILE)
        self.service.restart()
        self.put()
        time.sleep(WHILE)
        self.assertEqual(self.service.tasks(), before)
        self.service.command(*self.rule("enable", "rule"))
        self.wait_until_shipped("rule")
        self.put()
        self.wait_until_shipped("rule")

    def test_a_rule_can_begin_with_what_comes_from_now_on(self):
        self.put()
        self.service.command(*self.rule("create", "rule", "--bucket", "lake", "--prefix", "rule", "--from-now"))
        first = self.count
        self.put()
        service.wait_for(lambda: len(self.ids("rule")) >= self.count - first, message="nothing is shipped")
        self.assertEqual(self.ids("rule"), list(range(first, self.count)))

    def test_a_failed_task_keeps_what_it_was_made_with(self):
        old = {"ossPrefix": "old", "storage": {"format": "json", "detail": {}}}
        columns = {"columns": ["id"], "delimiter": ",", "quote": '"', "header": True}
        new = {"ossPrefix": "new", "storage": {"format": "csv", "detail": columns}, "compressType": "gzip"}
        self.sdk("create_shipper", detail("rule", "later", **old))
        self.put()
        self.wait_for_tasks("rule", self.shards, "failed")
        self.sdk("update_shipper", detail("rule", "later", **new))
        self.service.bucket("later")
        self.service.command("task", "retry", "--all-failed", "--rule", "rule")
        self.wait_until_shipped("old")
        self.put()
        self.wait_for_tasks("rule", 2 * self.shards, "success")
        self.assertEqual(self.ids("old"), list(range(self.count // 2)))
        files = self.objects("new")
        self.assertEqual([path.name.partition(".")[2] for path in files], ["csv.gz"] * self.shards)
        rows = shipped.duckdb.read_csv([str(path) for path in files], header=True, compression="gzip")
        ids = sorted(row[0] for row in rows.fetchall())
        self.assertEqual((rows.columns, ids), (["id"], list(range(self.count // 2, self.count))))

    def test_open_tasks_of_a_deleted_rule_fail_for_good(self):
        self.sdk("create_shipper", detail("rule", "later"))
        self.put()
        self.wait_for_tasks("rule", self.shards, "failed")
        self.sdk("delete_shipper", "rule")
        self.service.bucket("later")
        tasks = self.service.tasks("--rule", "rule")
        self.assertEqual([task["taskCode"] for task in tasks], ["ConfigNotExist"] * self.shards)
        self.assertEqual({task["nextTry"] for task in tasks}, {None})
        self.assertIn("0 tasks are tried", self.service.command("task", "retry", "--all-failed"))
        self.assertIn("deleted", self.service.refused("task", "retry", tasks[0]["id"]))
        self.assertEqual(self.refusal("get_shipper_tasks", "rule", 0, int(time.time()))[1], "ShipperNotExist")
        self.assertEqual(self.refusal("retry_shipper_tasks", "rule", [tasks[0]["id"]])[1], "ShipperNotExist")
        self.put()
        time.sleep(WHILE)
        self.assertEqual(self.service.tasks("--rule", "rule"), tasks)
        self.assertEqual(self.objects("rule"), [])


class Tasks(Case):
    shards = 2

    def listed(self, rule, *arguments):
        """The ids of tasks that the SDK lists."""
        return [task.task_id for task in self.sdk("get_shipper_tasks", rule, *arguments).get_tasks()]

    def test_lists_of_tasks_are_of_what_is_asked_for(self):
        self.sdk("create_shipper", detail("good", "lake"))
        self.sdk("create_shipper", detail("bad", "nothing"))
        self.put()
        good, bad = self.wait_for_tasks("good", 2, "success"), self.wait_for_tasks("bad", 2, "failed")
        ids = {"good": {task["id"] for task in good}, "bad": {task["id"] for task in bad}}
        now = int(time.time())
        hour = (now - 3600, now + 60)
        for rule, status, other in ("good", "success", "fail"), ("bad", "fail", "success"):
            with self.subTest(rule=rule):
                self.assertEqual(set(self.listed(rule, *hour)), ids[rule])
                self.assertEqual(set(self.listed(rule, *hour, status)), ids[rule])
                self.assertEqual(self.listed(rule, *hour, other), [])
                self.assertEqual(self.listed(rule, *hour, "running"), [])
                self.assertEqual(self.listed(rule, now - 7200, now - 3600), [])
                pages = [self.listed(rule, *hour, "", offset, 1) for offset in range(3)]
                self.assertEqual(sum(pages, []), [task["id"] for task in self.service.tasks("--rule", rule)])
                self.assertEqual(set(self.listed(rule, *hour, "", 0, -1)), ids[rule])
        self.check_options(good, bad)

    def check_options(self, good, bad):
        """The same by the command."""
        all_of = {task["id"] for task in good + bad}
        first = {task["id"] for task in good + bad if task["shard"] == 0}
        self.assertEqual(len(first), 2)
        time.sleep(2.1)
        for options, expected in (
            ((), all_of),
            (("--logstore", "logs"), all_of),
            (("--logstore", "others"), set()),
            (("--shard", "0"), first),
            (("--shard", "2"), set()),
            (("--status", "failed"), {task["id"] for task in bad}),
            (("--status", "failed", "--rule", "good"), set()),
            (("--since", "1h"), all_of),
            (("--since", "1s"), set()),
        ):
            with self.subTest(options=options):
                self.assertEqual({task["id"] for task in self.service.tasks(*options)}, expected)

    def test_tasks_say_what_they_made(self):
        self.sdk("create_shipper", detail("rule", "lake"))
        self.put(25)
        tasks = self.wait_for_tasks("rule", 2, "success")
        for task in tasks:
            (path,) = (path for path in self.objects("rule") if str(path).endswith(task["object"]))
            self.assertEqual((task["rows"], task["storedBytes"]), (25, path.stat().st_size))
            self.assertTrue(task["object"].endswith(task["id"]))
            shown = json.loads(self.service.command("task", "show", task["id"], "--report", "json"))
            self.assertEqual({name: shown[name] for name in task}, task)
            self.assertEqual(shown["plan"]["shipperName"], "rule")

    def test_an_object_that_was_changed_or_deleted_is_found(self):
        self.sdk("create_shipper", detail("rule", "lake"))
        self.put()
        self.wait_for_tasks("rule", 2, "success")
        one, other = self.objects("rule")
        one.write_bytes(one.read_bytes()[:-1])
        other.unlink()
        done = self.service.run("verify")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, f"{one.name}: it has .* bytes")
        self.assertIn(f"{other.name}: it is not there", done.stdout)
        self.assertIn("0 of 2 objects", done.stdout)


class Retries(Case):
    shards = 12

    def test_failed_tasks_are_tried_again_one_by_one_ten_at_a_time_or_all(self):
        self.sdk("create_shipper", detail("rule", "later"))
        self.put()
        self.wait_for_tasks("rule", self.shards, "failed")
        now = int(time.time())
        ids = self.sdk("get_shipper_tasks", "rule", now - 3600, now + 60, "fail").get_fail_task_ids()
        self.assertEqual(len(ids), self.shards)
        self.service.bucket("later")
        status, code, message = self.refusal("retry_shipper_tasks", "rule", ids[:11])
        self.assertEqual((status, code), (400, "ParameterInvalid"))
        self.assertIn("10 task retries only", message)
        self.assertEqual(self.objects("rule"), [])
        self.sdk("retry_shipper_tasks", "rule", ids[:1])
        self.assertEqual([task["id"] for task in self.wait_for_tasks("rule", 1, "success")], ids[:1])
        # One of them needs it no more.
        self.sdk("retry_shipper_tasks", "rule", ids[:10])
        self.wait_for_tasks("rule", 10, "success")
        self.assertIn("1 task is tried now", self.service.command("task", "retry", ids[10]))
        self.wait_for_tasks("rule", 11, "success")
        self.assertIn("have not failed", self.service.refused("task", "retry", ids[0]))
        self.assertIn("1 task is tried now", self.service.command("task", "retry", "--all-failed"))
        self.wait_for_tasks("rule", 12, "success")
        self.wait_until_shipped("rule")

    def test_a_retry_of_all_can_be_narrowed(self):
        for rule in "one", "two":
            self.sdk("create_shipper", detail(rule, "later"))
        self.put()
        for rule in "one", "two":
            self.wait_for_tasks(rule, self.shards, "failed")
        self.service.bucket("later")
        narrow = ("--rule", "one", "--shard", "3")
        self.assertIn("1 task is tried now", self.service.command("task", "retry", "--all-failed", *narrow))
        (task,) = self.wait_for_tasks("one", 1, "success")
        self.assertEqual(task["shard"], 3)
        self.assertEqual(len(self.service.tasks("--status", "failed")), 2 * self.shards - 1)


class Secrets(Case):
    def setUp(self):
        self.store = S3Server(self)
        super().setUp()

    def own(self, secret):
        """A rule with a destination of its own."""
        place = {"type": "s3", "endpoint": self.store.url, "region": "us-east-1"}
        key = {"access-key-id": ID, "access-key-secret": secret}
        return detail("rule", self.store.bucket, logship={"destination": {**place, **key}})

    def test_they_are_never_shown_and_stay_as_they_were(self):
        self.sdk("create_shipper", self.own(SECRET))
        self.put()
        (task,) = self.wait_for_tasks("rule", 1, "success")
        shown = self.configuration("rule")
        self.assertTrue(shown["logship"]["destination"]["access-key-secret"].startswith("***"))
        said = [json.dumps(shown), json.dumps(self.service.tasks()), self.service.log.read_text()]
        for command in self.rule("show", "rule"), ("task", "show", task["id"]), ("rule", "list"), ("task", "list"):
            said.append(self.service.command(*command))
        for command in self.rule("show", "rule"), ("task", "show", task["id"]):
            said.append(self.service.command(*command, "--report", "json"))
        said.append(self.service.command("task", "replay", task["id"], "--to", self.service.folder / "again"))
        for text in said:
            self.assertNotIn(SECRET, text)
        # As it is shown it can be set.
        shown["bufferSize"] = 7
        self.sdk("update_shipper", {"shipperName": "rule", "targetType": "oss", "targetConfiguration": shown})
        for action in "disable", "enable":
            self.service.command(*self.rule(action, "rule"))
        self.put()
        self.assertEqual([task["attempts"] for task in self.wait_for_tasks("rule", 2, "success")], [1, 1])

    def test_a_wrong_one_can_be_put_right(self):
        warning = self.sdk("create_shipper", self.own("a-wrong-one")).get_body()["warning"]
        self.assertEqual(warning["code"], "UnAuthorized")
        self.put()
        (task,) = self.wait_for_tasks("rule", 1, "failed")
        self.assertEqual(task["taskCode"], "UnAuthorized")
        self.sdk("update_shipper", self.own(SECRET))
        self.service.command("task", "retry", task["id"])
        (done,) = self.wait_for_tasks("rule", 1, "success")
        self.assertEqual((done["id"], done["object"]), (task["id"], task["object"]))
        for text in json.dumps(task), self.service.log.read_text():
            self.assertNotIn("a-wrong-one", text)


class Replays(Case):
    def test_the_bytes_are_the_same(self):
        columns = ("--columns", shipped.parquet_columns())
        formats = {
            "json": ("--format", "json", "--compression", "snappy"),
            "csv": ("--format", "csv", "--columns", ",".join(shipped.COLUMNS), "--compression", "gzip"),
            "parquet": ("--format", "parquet", *columns, "--compression", "snappy"),
        }
        # Larger than objects, which end within a log group then.
        shipped.put(self.service, self.logstore.name, range(50_000))
        for name, options in formats.items():
            self.service.command(*self.rule("create", name, "--bucket", "lake", "--size", "5", *options))
        for name in formats:
            with self.subTest(format=name):
                for task in self.wait_until_all_shipped(name, 50_000):
                    again = self.service.folder / "again"
                    said = self.service.command("task", "replay", task["id"], "--to", again)
                    self.assertIn("the same bytes as the task made", said)
                    made, here = self.lake / task["object"], again / task["object"]
                    self.assertEqual(here.read_bytes(), made.read_bytes())
        self.assertTrue(any("+" in task["begin"] for task in self.service.tasks()), "none begins within a log group")

    def wait_until_all_shipped(self, rule, logs):
        def found():
            tasks = self.service.tasks("--rule", rule)
            return tasks if sum(task["rows"] or 0 for task in tasks) >= logs else None

        return service.wait_for(found, message=f"{rule} ships too little")


if __name__ == "__main__":
    unittest.main()
