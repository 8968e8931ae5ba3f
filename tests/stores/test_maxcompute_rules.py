"""Rules write rows to MaxCompute: each log is one committed row, whatever happens between."""

import json
import re
import sqlite3
from contextlib import closing

import pytest
from aliyun.log import LogException

from kit import service, soak
from kit.fakes import maxcompute
from kit.fakes.faults import Page, Reset, ResetInBody, Run
from kit.maxcompute_rules import COLUMNS, Case
from kit.process import temporary_folder
from kit.shipping import ABORTED
from kit.waiting import PATIENCE, wait_for

KILLED = -9
STEPS = (
    "Begun SessionOpened SessionSaved BlockUploaded BlocksUploaded ManifestSaved CommitSaved Committed PartlyPublished"
    " Published Settled"
).split()
# The requests of an upload.
CREATE = {"method": "POST", "query": "uploads"}
BLOCK = {"method": "PUT", "query": "blockid"}
STATE = {"method": "GET", "query": "uploadid"}
COMMIT = {"method": "POST", "query": "uploadid"}


class Rows(Case):
    """Rules in both forms, and their rows."""

    def test_rule_of_clients_of_log_service(self):
        self.put(20, groups=2, dirty=1)
        self.rule()
        self.assert_once(20, dirty=(9, 19))
        self.assertEqual({"pt=20261201_0000": 10, "pt=20261201_0030": 8}, self.server.partitions("t"))
        self.assertEqual((0, "héllo 0", 1.5, "web"), self.server.rows("t", "pt=20261201_0000")[0])
        (task,) = self.tasks()
        self.assertIn("number", task["lostByColumn"])
        verified = self.served.command("verify", "--rule", "to-t")
        self.assertIn("0 of 0 objects match", verified)
        self.assertIn("18 rows of 2 committed uploads not verified", verified)
        shown = self.logstore.client.get_shipper(service.PROJECT, self.logstore.name, "to-t").get_body()
        self.assertNotIn(self.key.secret, str(shown))
        self.assertEqual(["x19", "x9"], sorted(set(re.findall("x\\d+", json.dumps(self.letters())))))

    def test_rule_of_a_file_with_a_data_source(self):
        source = f"""
            [sources.warehouse]
            type = "odps"
            endpoint = "{self.server.endpoint}"
            project = "logs"
            access-key-id = "{self.key.id}"
            access-key-secret = "{self.key.secret}"
            region = "cn-local"
            protocol = "stream"
            compression = "deflate"
        """
        self.served.settings.write_text(self.settings + source)
        self.served.restart()
        self.server.add_table("u", ["n bigint", "s int", "c string"], ["day string", "level string"])
        file = temporary_folder(self) / "rules.toml"
        file.write_text(f"""
            [[odps]]
            name = "to-t"
            logstore = "{self.logstore.name}"
            source = "warehouse"
            table = "u"
            columns = [{{ column = "n", field = "number" }}, {{ column = "s", system = "shard" }},
                {{ column = "c", constant = "k" }}]
            partition = ["__partition_time__", "__topic__"]
            partition_time_format = "yyyyMMdd"
            time_format_type = "JavaSimpleDateFormat"
            time_zone = "+08:00"
        """)
        self.put(6)
        self.put(6, topic="a/b")
        self.served.command("rule", "apply", "--file", file)
        wait_for(lambda: self.server.partitions("u"), PATIENCE, self.served.said)
        wait_for(lambda: [task["taskStatus"] for task in self.tasks()] == ["success"], PATIENCE)
        self.assertEqual({"day=20261201,level=web": 6}, self.server.partitions("u"))
        self.assertEqual([(number, 0, "k") for number in range(6)], self.server.rows("u", "day=20261201,level=web"))
        (task,) = self.tasks()
        self.assertEqual((6, {"level"}), (task["lostValues"], set(task["lostByColumn"])))
        schemes = {request.headers["authorization"].split(":")[0].count("/") for request in self.server.requests}
        self.assertEqual({4}, schemes, "version 4 with a region")
        shown = self.served.command("rule", "show", "to-t", "--logstore", self.logstore.name)
        self.assertIn('source = "warehouse"', shown)
        self.served.command("rule", "apply", "--file", file)

    def test_preview_of_other_stages_makes_the_same_blocks(self):
        """A preview encodes the blocks of a task as the task did, with the columns that the table had."""
        self.put(20, groups=2, dirty=1)
        self.rule(logship={"transform": [{"type": "fields", "drop": ["unused"]}]})
        self.assert_once(20, dirty=(9, 19))
        self.table.change_columns(["other string"])
        requests, place = len(self.server.requests), ("--rule", "to-t", "--logstore", self.logstore.name, "--report", "json")
        for stage in "encode-maxcompute", "transform-fields":
            with self.subTest(stage):
                (task,) = self.served.json("stage", "try", stage, *place)["tasks"]
                self.assertEqual((task["verdict"], task["reproduced"]), ("same", True), task)
                made = task["new"]["made"]
                self.assertEqual(made["rows"], 18)
        self.assertIn("has no place for", self.served.refused("stage", "try", "encode-csv", *place))
        refused = self.served.refused("stage", "try", "rows-tablestore", *place)
        self.assertIn("rule to-t can't use stage rows-tablestore", refused)
        self.assertEqual(len(self.server.requests), requests)

    def test_rules_that_lack_something_are_refused(self):
        for name, wrong in {
            "no-such-zone": {"timeZone": "Mars"},
            "no-project": {"odpsProject": ""},
            "bad-format": {"partitionTimeFormat": "%Y/%m"},
        }.items():
            with self.subTest(name), self.assertRaises(LogException) as refused:
                self.rule(name, **wrong)
            self.assertEqual("PostBodyInvalid", refused.exception.get_error_code())

    def test_an_old_rule_that_can_not_ship_is_listed_with_the_problem(self):
        self.rule()
        self.served.terminate()
        self.served.code()
        with closing(sqlite3.connect(next(self.served.data.rglob("logstore.db")))) as store, store:
            configuration = json.dumps({"odpsTable": "t", "odpsProject": "p", "odpsEndpoint": ""})
            store.execute("UPDATE rule SET configuration = ? WHERE name = 'to-t'", [configuration])
        self.served.start()
        place = ("--logstore", self.logstore.name, "--report", "json")

        def problem():
            return self.served.json("rule", "show", "to-t", *place).get("problem")

        self.assertIn("endpoint is missing", wait_for(problem, PATIENCE))
        self.assertIn("to-t", self.served.command("rule", "list", "--logstore", self.logstore.name))

    def test_a_wrong_table_is_said_and_mended(self):
        self.put(4)
        self.rule(partitionColumn=[])
        task = wait_for(lambda: next((task for task in self.tasks() if task["taskStatus"] == "fail"), None))
        self.assertIn("1 partition columns (pt)", task["taskMessage"])
        self.assertEqual({}, self.server.partitions("t"))

    def test_a_task_that_must_have_no_dirty_rows_fails(self):
        self.put(4, dirty=1)
        self.rule(filterInvalid=False)
        task = wait_for(lambda: next((task for task in self.tasks() if task["taskStatus"] == "fail"), None))
        self.assertIn("1 logs have no row", task["taskMessage"])
        self.assertEqual({}, self.server.partitions("t"))


class Faults(Case):
    """Faults of the servers."""

    def check(self, fault, rows=20, **conditions):
        injected = self.server.inject(fault, **conditions)
        self.put(rows, dirty=2)
        self.rule()
        self.assert_once(rows, dirty=(rows - 2, rows - 1))
        self.assertGreaterEqual(injected.fired, 1)

    def test_create_fails_before_and_after(self):
        self.check(maxcompute.INTERNAL_ERROR, **CREATE)

    def test_answer_of_create_is_lost(self):
        self.check(maxcompute.LOST_ANSWER, **CREATE)

    def test_block_fails(self):
        self.check(maxcompute.INTERNAL_ERROR, **BLOCK)

    def test_block_is_stored_and_its_answer_lost(self):
        self.check(maxcompute.Refuse(500, "InternalServerError", before=False), **BLOCK)

    def test_block_is_cut(self):
        self.check(ResetInBody(), **BLOCK)

    def test_a_gateway_fails(self):
        self.check(Page(502), **BLOCK)
        states = sum(request.method == "GET" and "uploadid" in request.query for request in self.server.requests)
        self.assertGreaterEqual(states, 3, "the session is read before the retry")

    def test_quota_is_exceeded_for_long(self):
        fault = maxcompute.FLOW_EXCEEDED
        self.check(fault, times=30, **BLOCK)

    def test_commit_fails_and_its_answer_is_lost(self):
        for number, fault in enumerate(
            (
                maxcompute.INTERNAL_ERROR,
                maxcompute.LOST_ANSWER,
                maxcompute.Refuse(500, "InternalServerError", before=False),
                maxcompute.FLOW_EXCEEDED,
                Page(504, before=False),
            )
        ):
            self.server.inject(fault, nth=number + 1, **COMMIT)
        for _ in range(4):
            self.put(6)
        self.rule()
        self.assert_once(24)

    def test_sessions_expire_before_the_commit(self):
        first = self.server.inject(Run(lambda _: self.server.expire()), nth=2, **BLOCK)
        self.put(8)
        self.rule()
        self.assert_once(8)
        self.assertEqual(1, first.fired)

    def test_a_changed_table_is_written_with_its_new_columns(self):
        def change(_):
            self.server.tables["t"].change_columns([*COLUMNS, "more string"])

        self.server.inject(Run(change), **COMMIT)
        self.put(8)
        self.rule()
        self.assert_once(8)

    def test_an_unclear_commit_fails_loudly_and_a_retry_writes_again(self):
        def lose(request):
            # The commit was done, its answer was lost, and the server has forgotten the session.
            self.server.forget(self.server.sessions[request.query["uploadid"]])

        self.server.inject(Run(lose, before=False), **COMMIT)
        self.server.inject(maxcompute.LOST_ANSWER, **COMMIT)
        self.put(5, partitions=1)
        self.rule()
        task = wait_for(lambda: next((task for task in self.tasks() if task["taskStatus"] == "fail"), None), PATIENCE)
        for said in "it is not known", "table t, partition pt=20261201_0000", "Count the task's rows":
            self.assertIn(said, task["taskMessage"])
        self.assertEqual({"pt=20261201_0000": 5}, self.server.partitions("t"), "nothing is written twice")
        self.put(5, partitions=1)
        wait_for(lambda: sum(self.server.partitions("t").values()) == 10, PATIENCE)
        self.server.tables["t"].partitions["pt=20261201_0000"].pop(0)
        self.served.command("task", "retry", "--all-failed")
        wait_for(lambda: sum(self.server.partitions("t").values()) == 10, PATIENCE)
        self.assertEqual(list(range(10)), self.numbers())


class Kills(Case):
    """The service is killed."""

    def kill_at(self, before, **conditions):
        def kill(_request):
            self.served.process.kill()
            self.served.process.wait()

        self.server.inject(Run(kill, before=before), **conditions)
        self.server.inject(Reset(before=before), **conditions)

    def test_kill_before_and_after_each_request(self):
        self.rule()
        expected = 0
        for name, operation in {"create": CREATE, "block": BLOCK, "state": STATE, "commit": COMMIT}.items():
            for nth in 1, 2:
                for before in True, False:
                    with self.subTest(name, nth=nth, before=before):
                        self.server.clear()
                        self.kill_at(before, nth=nth, **operation)
                        self.put(12)
                        expected += 12
                        self.assertEqual(KILLED, self.served.process.wait(PATIENCE))
                        self.served.start()
                        self.logstore.client = self.served.client()
                        self.assert_once(expected)

    def test_abort_at_each_step(self):
        for number, step in enumerate(STEPS):
            with self.subTest(step=step):
                self.served.environment = {"FAILPOINT": step}
                self.served.restart()
                self.logstore.client = self.served.client()
                if number == 0:
                    self.rule()
                self.put(12)
                self.assertEqual(ABORTED, self.served.process.wait(PATIENCE))
                self.assertIn(f'"step":"{step}"', self.served.log.read_text())
                self.served.environment = {}
                self.served.start()
                self.logstore.client = self.served.client()
                self.assert_once(12 * (number + 1))


class Many(Case):
    """Many logs of eight shards, killed again and again."""

    shards = 8

    @pytest.mark.soak
    def test_many_logs_of_eight_shards(self):
        logs = soak.scaled(1_000_000, least=104_000, step=8_000)
        shards = self.logstore.client.list_shards(service.PROJECT, self.logstore.name).get_shards_info()
        dirty = []
        for shard in shards:
            groups = logs // 8 // 1000
            first = self.count
            self.put(logs // 8, groups=groups, dirty=1, partitions=3, shard=shard["inclusiveBeginKey"])
            dirty += [first + 1000 * (group + 1) - 1 for group in range(groups)]
        self.rule()
        for operation in CREATE, BLOCK, COMMIT, COMMIT:
            killed = self.kill_once(**operation)
            if killed:
                self.assertEqual(KILLED, self.served.process.wait(PATIENCE))
                self.served.start()
        self.logstore.client = self.served.client()
        self.wait_for_rows(logs - len(dirty), patience=600)
        self.assert_once(logs, dirty=dirty)

    def kill_once(self, **operation):
        """Kills the service at the next such request. Returns false if none comes."""

        def kill(_request):
            self.served.process.kill()
            self.served.process.wait()

        rule = self.server.inject(Run(kill, before=False), **operation)
        try:
            wait_for(lambda: rule.fired, 30)
        except AssertionError:
            return False
        finally:
            self.server.clear()
        return True
