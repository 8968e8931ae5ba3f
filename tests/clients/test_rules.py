"""Rules and tasks of shipping, by the vendor's SDK and by the commands."""

import json
import time

from kit import typed_logs
from kit.object_stores import ID, SECRET, Moto, S3Server
from kit.rules import SETTINGS, WHILE, Case, detail
from kit.waiting import wait_for


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

    def test_sdk_errors_name_wrong_member(self):
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

    def test_accepts_limits_of_ranges(self):
        ends = [{"bufferSize": 5}, {"bufferSize": 256}, {"bufferInterval": 300}, {"bufferInterval": 900}]
        for number, configuration in enumerate(ends):
            with self.subTest(configuration):
                self.sdk("create_shipper", detail(f"rule-{number}", "lake", **configuration))

    def test_rejects_invalid_names(self):
        for name in "", "ab", "a" * 64, "Abc", "-abc", "abc-", "a b", "a.b", "äbc", "bad-$@#":
            with self.subTest(name=name):
                status, code, message = self.refusal("create_shipper", detail(name, "lake"))
                self.assertEqual((status, code), (400, "PostBodyInvalid"))
                self.assertRegex(message, "shipper ?[nN]ame")
                self.assertIn("name", self.service.refused(*self.rule("create", "--bucket", "lake", "--", name)))

    def test_command_errors_name_wrong_option(self):
        wrong = {"--size": "4", "--time": "901", "--format": "xml", "--compression": "lzo", "--partition": "%Q"}
        wrong |= {"--destination": "nowhere", "--bucket": "a/b", "--time-zone": "Mars", "--prefix": "/smoke"}
        for option, value in wrong.items():
            with self.subTest(option=option):
                options = {"--bucket": "lake", option: value}
                arguments = [part for pair in options.items() for part in pair]
                said = self.service.refused(*self.rule("create", "rule", *arguments))
                self.assertIn(option.strip("-").split("-")[0], said)
        self.assertEqual(self.sdk("list_shipper").get_total(), 0)

    def test_deleted_rule_name_stays_taken(self):
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

    def test_command_rejects_missing_bucket(self):
        for destination, words in ("default", "does not exist"), ("s3", "NoSuchBucket"):
            with self.subTest(destination=destination):
                options = ("--bucket", "nothing", "--destination", destination)
                said = self.service.refused(*self.rule("create", "rule", *options))
                self.assertIn("InvalidOssBucket", said)
                self.assertIn(words, said)
                self.assertEqual(self.sdk("list_shipper").get_total(), 0)

    def test_no_probe_accepts_missing_bucket(self):
        done = self.service.run(*self.rule("create", "rule", "--bucket", "nothing", "--no-probe"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.sdk("list_shipper").get_total(), 1)

    def test_sdk_gets_warning_for_missing_bucket(self):
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
        self.assertIn("retrying 2 tasks now", self.service.command("task", "retry", "--all-failed"))
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

    def test_second_apply_changes_nothing(self):
        rules = {"one": {"size_mb": 5, "time_zone": "Asia/Shanghai"}, "two": {"from": "now", "prefix": "two"}}
        self.assertEqual(self.apply(rules), ["+ logs/one created", "+ logs/two created"])
        times = self.times("one")
        # Times are in seconds.
        time.sleep(1.1)
        self.assertEqual(self.apply(rules), ["  logs/one is up to date", "  logs/two is up to date"])
        self.assertEqual(self.times("one"), times)

    def test_apply_shows_and_makes_changes(self):
        self.apply({"one": {"size_mb": 5, "prefix": "a"}})
        changed = {"one": {"size_mb": 6, "prefix": "a", "compression": "zstd"}}
        before = self.configuration("one")
        difference = ["    bufferSize: 5 -> 6", '    compressType: "none" -> "zstd"']
        dry = self.apply(changed, "--dry-run")
        self.assertEqual(dry, ["~ logs/one would be changed", *difference, "nothing was changed: --dry-run"])
        self.assertEqual(self.configuration("one"), before)
        self.assertEqual(self.apply(changed), ["~ logs/one changed", *difference])
        self.assertEqual(self.configuration("one"), {**before, "bufferSize": 6, "compressType": "zstd"})

    def test_apply_deletes_rules_only_with_prune(self):
        self.apply({"one": {}, "two": {}})
        self.assertEqual(self.apply({"one": {}}), ["  logs/one is up to date"])
        dry = self.apply({"one": {}}, "--prune", "--dry-run")
        self.assertEqual(dry[1:], ["- logs/two would be deleted", "nothing was changed: --dry-run"])
        self.assertEqual(sorted(self.sdk("list_shipper").get_entities()), ["one", "two"])
        self.assertEqual(self.apply({"one": {}}, "--prune")[1:], ["- logs/two deleted"])
        self.assertEqual(self.sdk("list_shipper").get_entities(), ["one"])

    def test_invalid_file_changes_nothing(self):
        for mistake in {"size_mb": 4}, {"sizes": 5}, {"logstore": ""}:
            with self.subTest(mistake), self.assertRaisesRegex(AssertionError, next(iter(mistake))):
                self.apply({"one": {}, "two": mistake})
            self.assertEqual(self.sdk("list_shipper").get_total(), 0)


class Changes(Case):
    shards = 2

    def test_enabled_rule_continues_at_checkpoint(self):
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

    def test_rule_can_start_at_end(self):
        self.put()
        self.service.command(*self.rule("create", "rule", "--bucket", "lake", "--prefix", "rule", "--from-now"))
        first = self.count
        self.put()
        wait_for(lambda: len(self.ids("rule")) >= self.count - first, message="nothing is shipped")
        self.assertEqual(self.ids("rule"), list(range(first, self.count)))

    def test_failed_task_keeps_configuration(self):
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
        rows = typed_logs.duckdb.read_csv([str(path) for path in files], header=True, compression="gzip")
        ids = sorted(row[0] for row in rows.fetchall())
        self.assertEqual((rows.columns, ids), (["id"], list(range(self.count // 2, self.count))))

    def test_deleted_rule_fails_open_tasks(self):
        self.sdk("create_shipper", detail("rule", "later"))
        self.put()
        self.wait_for_tasks("rule", self.shards, "failed")
        self.sdk("delete_shipper", "rule")
        self.service.bucket("later")
        tasks = self.service.tasks("--rule", "rule")
        self.assertEqual([task["taskCode"] for task in tasks], ["ConfigNotExist"] * self.shards)
        self.assertEqual({task["nextTry"] for task in tasks}, {None})
        self.assertIn("retrying 0 tasks", self.service.command("task", "retry", "--all-failed"))
        self.assertIn("deleted", self.service.refused("task", "retry", tasks[0]["id"]))
        self.assertEqual(self.refusal("get_shipper_tasks", "rule", 0, int(time.time()))[1], "ShipperNotExist")
        self.assertEqual(self.refusal("retry_shipper_tasks", "rule", [tasks[0]["id"]])[1], "ShipperNotExist")
        self.put()
        time.sleep(WHILE)
        self.assertEqual(self.service.tasks("--rule", "rule"), tasks)
        self.assertEqual(self.objects("rule"), [])


class Secrets(Case):
    def setUp(self):
        self.store = S3Server(self)
        super().setUp()

    def own(self, secret):
        """A rule with a destination of its own."""
        place = {"type": "s3", "endpoint": self.store.url, "region": "us-east-1"}
        key = {"access-key-id": ID, "access-key-secret": secret}
        return detail("rule", self.store.bucket, logship={"destination": {**place, **key}})

    def test_secrets_are_hidden_and_kept(self):
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
        # The shown configuration can be set.
        shown["bufferSize"] = 7
        self.sdk("update_shipper", {"shipperName": "rule", "targetType": "oss", "targetConfiguration": shown})
        for action in "disable", "enable":
            self.service.command(*self.rule(action, "rule"))
        self.put()
        self.assertEqual([task["attempts"] for task in self.wait_for_tasks("rule", 2, "success")], [1, 1])

    def test_wrong_secret_can_be_replaced(self):
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
