"""Rules of the service: values that an object can't hold are counted by task, and fields forge nothing."""

import json

from aliyun.log import LogItem, PutLogsRequest
from kit import service
from kit.rules import Case

COLUMNS = "__time__:int64,id:int64,price:double,ok:boolean"


class LostValues(Case):
    def put_contents(self, *logs, tags=()):
        items = [LogItem(timestamp=1700000000, contents=list(contents)) for contents in logs]
        request = PutLogsRequest(service.PROJECT, self.logstore.name, "topic", "10.0.0.1", items, logtags=list(tags))
        self.client.put_logs(request)

    def create(self, name, *options):
        return self.service.run(*self.rule("create", name, "--bucket", "lake", "--prefix", name, *options))

    def task(self, rule):
        (task,) = self.wait_for_tasks(rule, 1, "success")
        return task

    def test_task_counts_lost_values_by_column(self):
        self.create("typed", "--format", "parquet", "--columns", COLUMNS)
        good = [("id", "1"), ("price", "0.5"), ("ok", "true")]
        bad = [("id", "9223372036854775808"), ("price", "free"), ("ok", "maybe"), ("other", "no column was asked for")]
        self.put_contents(good, bad, [("id", "x")], good + [("id", "2")])
        task = self.task("typed")
        self.assertEqual(task["lostValues"], 5)
        counts = {column: lost["count"] for column, lost in task["lostByColumn"].items()}
        self.assertEqual(counts, {"id": 3, "price": 1, "ok": 1})
        shown = self.service.command("task", "show", task["id"])
        self.assertRegex(shown, r'price +1 +"free" is not a finite double')
        header, *_ = self.service.command("task", "list").splitlines()
        self.assertIn("lost values", header)
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        (line,) = [line for line in metrics.splitlines() if line.startswith("logship_lost_values_total{")]
        self.assertEqual(float(line.rpartition(" ")[2]), 5)

    def test_task_without_loss_counts_none(self):
        self.create("plain", "--format", "parquet", "--columns", COLUMNS)
        self.put_contents([("id", "1")], [("price", "2")])
        task = self.task("plain")
        self.assertEqual((task["lostValues"], task["lostByColumn"]), (0, {}))

    def test_counts_lost_values_of_partitioned_objects(self):
        self.create("hours", "--format", "parquet", "--columns", COLUMNS, "--partition-by", "hour")
        self.put_contents([("id", "x")], [("id", "1")])
        self.assertEqual(self.task("hours")["lostValues"], 1)

    def test_sdk_fields_forge_nothing_in_json(self):
        self.create("forged", "--set", "tags=true")
        forged = [(key, "forged") for key in ("__time__", "__source__", "__topic__", "__tag__:host", "__time_ns_part__")]
        self.put_contents([*forged, ("a", "1"), ("a", "2")], tags=[("host", "web-1"), ("host", "web-2")])
        self.assertEqual(self.task("forged")["lostValues"], 2)
        (path,) = self.objects("forged")
        members = json.loads(path.read_text(), object_pairs_hook=list)
        names = [name for name, _ in members]
        self.assertEqual(len(names), len(set(names)))
        log = dict(map(tuple, members))
        own = {"__time__": 1700000000, "__source__": "10.0.0.1", "__topic__": "topic", "__tag__:host": "web-2", "a": "2"}
        self.assertEqual({name: log[name] for name in own}, own)
        self.assertEqual({name for name in names if name not in own and not name.startswith("__tag__:")}, {f"__field__:{key}" for key, _ in forged})

    def test_rule_warns_about_columns_that_readers_confuse(self):
        done = self.create("warned", "--format", "csv", "--columns", "Status,status,dt", "--partition", "dt=%Y%m%d")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('warned: columns "Status" and "status" differ only in case', done.stderr)
        self.assertIn('warned: column "dt" is named like the level dt=', done.stderr)
