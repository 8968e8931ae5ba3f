"""Rules write each log as one row of Table Store, whatever happens on the way."""

import random

import pytest

from kit import service, soak
from kit.fakes.faults import INTERNAL_ERROR, Damage, Page, Reset, Run, Truncate
from kit.fakes.keys import role_arn
from kit.fakes.table_store import Refuse
from kit.table_store import (
    DEFAULT_KEY,
    PATIENCE,
    TABLE,
    TableCase,
    VendorRows,
    dead_letters,
    numbered,
    partition_key,
    put,
)

BUSY = "OTSServerBusy", "OTSNotEnoughCapacityUnit", "OTSTableNotReady", "OTSPartitionUnavailable"
UNCLEAR = "OTSTimeout", "OTSInternalServerError", "OTSServerUnavailable"
WRITES = "/BatchWriteRow"
KILLED, ABORTED = -9, -6


class Rows(TableCase):
    def test_rows_have_the_values_of_logs(self):
        table, logstore = self.create_table(), self.served.logstore(shards=3)
        judge = VendorRows(self.server)
        for number in range(12):
            logs = [*numbered(number * 50, 50), {}, {"user-agent": "x", "1st": "y", "é": "ü", "empty": ""}]
            put(logstore, logs, tags=[("host", "a"), ("__path__", "/b")], topic="" if number % 2 else "topic")
        rule = self.rule(logstore)
        tasks = rule.wait()
        self.assert_rows(logstore, table.rows)
        self.assertEqual(set(table.writes.values()), {1})
        self.assertEqual(sum(task["rows"] for task in tasks), 12 * 52)
        self.assertEqual({task["object"] for task in tasks}, {f"inst/{TABLE}"})
        self.assertEqual((judge.count, judge.problems), (12 * 52, []))
        put(logstore, numbered(0, 5))
        rule.wait()
        self.assert_rows(logstore, table.rows)

    def test_types_are_those_of_the_vendor(self):
        """Random values of all types: the bytes of each row are those of the vendor's client."""
        key = ("id", 1), ("name", 2), ("raw", 3)
        table, logstore = self.create_table(key=key), self.served.logstore()
        judge, chance = VendorRows(self.server), random.Random(7)

        def text(most):
            return "".join(chr(chance.choice([chance.randrange(32, 127), chance.randrange(0xA0, 0xD7FF)])) for _ in range(chance.randrange(most)))

        logs, expected = [], {}
        for number in range(400):
            whole = chance.choice([0, -1, (1 << 63) - 1, -(1 << 63), chance.getrandbits(62), -chance.getrandbits(31)])
            real, truth, free = chance.uniform(-1e12, 1e12), chance.random() < 0.5, text(60)
            name = f"{number} {text(20)}"
            log = {"id": str(number), "name": name, "raw": text(9), "n": str(whole), "hex": f"{number:x}"}
            logs.append({**log, "d": repr(real), "ok": str(truth), "s": free, "blob": free, "left": "over"})
            row = {"n2": whole, "h": number, "d2": real, "yes": truth, "s": free, "b": bytearray(free.encode())}
            expected[number, name, logs[-1]["raw"].encode()] = {**row, "kind": "web", "at": 1_790_000_000 + number}
        put(logstore, logs)
        columns = """columns = { id = "(->int 10 id)", raw = "(->blob raw)", n2 = "(->int 10 n)", h = "(->int 16 hex)",
            d2 = "(->double d)", yes = "(->bool ok)", s = "s", b = "(->blob blob)", kind = "'web'", at = "__time__" }
            """.replace("\n", "")
        self.rule(logstore, f'key = ["id", "name", "raw"]\nothers = false\n{columns}').wait()
        self.assertEqual(table.rows, expected)
        self.assertEqual((judge.count, judge.problems), (400, []))

    def test_last_row_of_a_key_stays(self):
        table, logstore = self.create_table(key=[("device", 2), ("trans_pkey", 1)]), self.served.logstore()
        text = 'key = ["device", "trans_pkey"]\nexclude = ["__time__", "__topic__", "__source__"]\n'
        text += 'columns = { trans_pkey = "(->int 10 original)" }'
        for round_ in range(4):
            put(logstore, [{"device": f"d{number % 7}", "original": str(number % 3), "value": f"{round_}/{number}"} for number in range(900)])
        self.rule(logstore, text).wait()
        last = {(f"d{number % 7}", number % 3): {"value": f"3/{number}"} for number in range(900)}
        self.assertEqual(table.rows, last)

    def test_updates_keep_columns_of_others(self):
        table, logstore = self.create_table(key=[("id", 2)]), self.served.logstore()
        table.put(("a",), [("theirs", 1, None, None)])
        put(logstore, [{"id": "a", "x": "1"}, {"id": "a", "y": "2"}, {"id": "b", "x": "3"}])
        text = 'key = ["id"]\nwrite = "update"\nexclude = ["__time__", "__topic__", "__source__"]'
        self.rule(logstore, text).wait()
        self.assertEqual(table.rows, {("a",): {"theirs": 1, "x": "1", "y": "2"}, ("b",): {"x": "3"}})

    def test_table_is_created(self):
        logstore = self.served.logstore()
        put(logstore, numbered(0, 10))
        self.rule(logstore, "create_table = true").wait()
        table = self.server.tables[TABLE]
        self.assertEqual([(column.name, column.type) for column in table.meta.primary_key], list(DEFAULT_KEY))
        self.assert_rows(logstore, table.rows)

    def test_versions_are_times_of_logs(self):
        logstore = self.served.logstore()
        put(logstore, [{"id": "a", "x": "new"}], topic="")
        put(logstore, [{"id": "b", "x": "old"}], topic="")
        text = 'key = ["id"]\ncreate_table = true\nversion = "log-time"'
        self.rule(logstore, text).wait()
        times = self.server.tables[TABLE].times
        self.assertEqual({key: cells["x"] for key, cells in times.items()}, dict.fromkeys([("a",), ("b",)], 1_790_000_000_000))

    def test_dirty_rows_become_dead_letters(self):
        table, logstore = self.create_table(), self.served.logstore()
        logs = numbered(0, 6)
        logs[1]["number"], logs[3]["user-agent"], logs[3]["user_agent"] = "x", "1", "2"
        put(logstore, logs)
        rule = self.rule(logstore, 'columns = { number = "(->int 10 number)" }')
        (task,) = rule.wait()
        shard, begin = 0, service.position(logstore.begin(0))
        key = partition_key(logstore.name, shard), shard, begin
        self.assertEqual(sorted(row[-1] for row in table.rows), [0, 2, 4, 5])
        self.assertEqual(table.rows[*key, 0]["number"], 0)
        self.assertEqual((task["rows"], task["lostValues"]), (4, 2))
        self.assertEqual(sorted(task["lostByColumn"]), ["number", "user_agent"])
        letters = {letter["log"]: letter for letter in dead_letters(self.served)}
        self.assertEqual(sorted(letters), [1, 3])
        self.assertIn('column number: "x" is no integer', letters[1]["reason"])
        self.assertIn("several keys", letters[3]["reason"])
        self.assertEqual((letters[1]["cursor"], letters[1]["fields"]["text"]), (begin, "log é 1"))
        listed = self.served.command("deadletter", "list", "--dead-letters", self.served.data / "dead-letters")
        self.assertIn("to-table", listed)


class Faults(TableCase):
    def check(self, logs=450):
        """Each log becomes a row, without a failed task."""
        table, logstore = self.create_table(), self.served.logstore()
        for number in range(3):
            put(logstore, numbered(number * logs, logs // 3))
        tasks = self.rule(logstore).wait()
        self.assert_rows(logstore, table.rows)
        return tasks

    def test_busy_and_unclear_requests(self):
        for code in BUSY + UNCLEAR:
            self.server.inject(Refuse(code), path=WRITES)
            self.server.inject(Refuse(code, before=False), path=WRITES)
        tasks = self.check()
        self.assertEqual({task["attempts"] for task in tasks}, {1})

    def test_busy_and_unclear_rows(self):
        faults = [self.server.fail_rows(code, times=20, stored=code in UNCLEAR) for code in BUSY + UNCLEAR]
        tasks = self.check()
        self.assertEqual({task["attempts"] for task in tasks}, {1})
        self.assertEqual({fault.fired for fault in faults}, {20})

    def test_only_failed_rows_are_sent_again(self):
        table, logstore = self.create_table(), self.served.logstore()
        self.server.fail_rows("OTSRowOperationConflict", when=lambda _, key: key[-1] in (3, 5), times=6)
        put(logstore, numbered(0, 10))
        self.rule(logstore).wait()
        self.assertEqual(set(table.writes.values()), {1})

    def test_networks(self):
        for fault in Reset(), Reset(before=False), Truncate(), Damage(), Page(502), Page(503, before=False), INTERNAL_ERROR:
            self.server.inject(fault, path=WRITES)
        self.check()

    def test_rows_that_the_service_refuses(self):
        """A row that makes the service refuse the whole request is found, and the others are written."""
        table, logstore = self.create_table(), self.served.logstore()
        original = table.check_columns

        def strict(columns):
            if any(column[:2] == ("number", "77") for column in columns):
                raise Refuse("OTSParameterInvalid", "Not this one.").refused()
            original(columns)

        table.check_columns = strict
        put(logstore, numbered(0, 200))
        (task,) = self.rule(logstore).wait()
        self.assertEqual((task["rows"], task["lostValues"]), (199, 1))
        (letter,) = dead_letters(self.served)
        self.assertEqual((letter["code"], letter["reason"], letter["fields"]["number"]), ("OTSParameterInvalid", "Not this one.", "77"))
        self.assertEqual(len(table.rows), 199)


class Failures(TableCase):
    retry = 3600

    def test_missing_permission(self):
        table, logstore = self.create_table(), self.served.logstore()
        self.server.deny(self.key.id)
        put(logstore, numbered(0, 10))
        rule = self.rule(logstore, probe=False)
        task = rule.wait_for_failure()
        self.assertEqual(task["taskCode"], "UnAuthorized")
        self.assertIn("OTSNoPermissionAccess", task["taskMessage"])
        self.server.allow(self.key.id)
        self.served.command("task", "retry", "--all-failed")
        rule.wait()
        self.assert_rows(logstore, table.rows)

    def test_wrong_secret_is_corrected(self):
        table, logstore = self.create_table(), self.served.logstore()
        wrong = type(self.key)(self.key.id, "wrong", self.key.principal)
        self.set(key=wrong)
        put(logstore, numbered(0, 10))
        rule = self.rule(logstore, probe=False)
        task = rule.wait_for_failure()
        self.assertEqual(task["taskCode"], "UnAuthorized")
        self.assertIn("OTSAuthFailed", task["taskMessage"])
        self.set()
        self.served.command("task", "retry", "--all-failed")
        rule.wait()
        self.assert_rows(logstore, table.rows)

    def test_missing_table(self):
        logstore = self.served.logstore()
        put(logstore, numbered(0, 10))
        rule = self.rule(logstore, probe=False)
        task = rule.wait_for_failure()
        self.assertEqual(task["taskCode"], "ConfigNotExist")
        self.assertIn("create_table", task["taskMessage"])
        table = self.create_table()
        self.served.command("task", "retry", "--all-failed")
        rule.wait()
        self.assert_rows(logstore, table.rows)

    def test_table_with_another_key(self):
        logstore = self.served.logstore()
        self.create_table(key=[("id", 2)])
        put(logstore, numbered(0, 10))
        task = self.rule(logstore, probe=False).wait_for_failure()
        self.assertEqual(task["taskCode"], "ParameterInvalid")
        self.assertIn("(id string), and the rule writes (_logstore string", task["taskMessage"])
        self.assertEqual(self.server.count(WRITES[1:]), 0)

    def test_probe_tells_before_the_first_task(self):
        self.served.logstore()
        self.assertIn("ConfigNotExist", self.refused('source = "tables"'))
        self.create_table()
        self.server.deny(self.key.id, ["BatchWriteRow"])
        self.assertIn("UnAuthorized", self.refused('source = "tables"'))

    def test_rules_are_refused(self):
        self.served.logstore()
        for text, problem in [
            ("", "source: is missing"),
            ('source = "none"', 'has no data source "none"'),
            ('source = "tables"\nkey = ["a", "a"]', 'has "a" twice'),
            ('source = "tables"\nkey = ["user-agent"]', '"user-agent" is no name'),
            ('source = "tables"\ncolumns = { a = "(->long b)" }', "(->int BASE FIELD)"),
            ('source = "tables"\ntime_seconds = 0', "out of range: 1-900"),
            ('source = "tables"\nstage = "encode-json"', "encode-json"),
            ('source = "tables"\nwrite = "update"', "needs a `key`"),
            ('source = "tables"\ncolour = 1', "colour"),
        ]:
            with self.subTest(text=text):
                self.assertIn(problem, self.refused(text))
        self.assertIn('"a-b" is no name', self.refused('source = "tables"', table="a-b"))


class Connections(TableCase):
    signature = 2

    def test_rule_with_a_connection_of_its_own(self):
        """Secrets are shown masked; temporary keys and signatures of version 2 work."""
        table, logstore = self.create_table(), self.served.logstore()
        key = self.keys.issue(role_arn(self.key.account, "writer"), "session", 900)
        text = f"""[ots.connection]
            endpoint = "{self.server.url}"
            instance = "inst"
            access-key-id = "{key.id}"
            access-key-secret = "{key.secret}"
            security-token = "{key.token}"
            """
        put(logstore, numbered(0, 10))
        rule = self.rule(logstore, text)
        rule.wait()
        self.assert_rows(logstore, table.rows)
        shown = self.served.command("rule", "show", rule.name, "--logstore", logstore.name)
        self.assertNotIn(key.secret, shown)
        self.assertNotIn(key.token, shown)
        self.assertIn("is up to date", self.served.command("rule", "apply", "--file", self.served.folder / "to-table.toml"))

    def test_signature_of_version_2(self):
        table, logstore = self.create_table(), self.served.logstore()
        put(logstore, numbered(0, 10))
        self.rule(logstore).wait()
        self.assert_rows(logstore, table.rows)


class Kills(TableCase):
    def test_killed_at_requests(self):
        """kill -9 before and after each of the first requests reaches the table."""
        table, logstore = self.create_table(), self.served.logstore()
        for number in range(4):
            put(logstore, numbered(number * 300, 300))
        cuts = [(nth, before) for nth in (1, 3, 5) for before in (True, False)]
        self.kill_at(*cuts[0])
        rule = self.rule(logstore, probe=False)
        for cut in [*cuts[1:], None]:
            self.assertEqual(self.served.process.wait(60), -9)
            self.server.clear()
            if cut:
                self.kill_at(*cut)
            self.served.start()
        rule.wait()
        self.assert_rows(logstore, table.rows)

    def kill_at(self, nth, before):
        def kill(_request):
            self.served.process.kill()
            self.served.process.wait()

        self.server.inject(Run(kill, before=before), path=WRITES, nth=nth)


class Steps(TableCase):
    def test_aborted_at_each_step(self):
        for step in "Begun", "PartlyPublished", "Published", "ManifestSaved", "Settled":
            with self.subTest(step=step):
                table, logstore = self.create_table(step), self.served.logstore(step.lower())
                for number in range(3):
                    put(logstore, numbered(number * 100, 100))
                self.restart({"FAILPOINT": step})
                rule = self.rule(logstore, name=f"to-{step.lower()}", table=step, probe=False)
                self.assertEqual(self.served.process.wait(60), -6)
                self.restart({})
                rule.wait()
                self.assert_rows(logstore, table.rows)

    def restart(self, environment):
        if self.served.is_alive():
            self.served.terminate()
            self.served.code()
        self.served.environment = environment
        self.served.start()


class Many(TableCase):
    """Many logs of eight shards. The service is killed at each step and around requests, and each fault occurs."""

    @pytest.mark.soak
    def test_many_logs_of_eight_shards(self):
        logs = soak.scaled(1_000_000, least=104_000, step=8_000)
        table, logstore = self.create_table(), self.served.logstore(shards=8)
        for first in range(0, logs, 1000):
            put(logstore, numbered(first, 1000))
        rule = None
        for number, step in enumerate(["Begun", "PartlyPublished", "Published", "ManifestSaved", "Settled"]):
            self.served.environment = {"FAILPOINT": step}
            self.served.restart()
            rule = rule or self.rule(logstore, probe=False)
            self.assertEqual(self.served.process.wait(PATIENCE), ABORTED, step)
            self.inject_faults(number)
            self.served.environment = {}
            self.kill_once(nth=5 + number, before=number % 2 == 0)
        self.served.start()
        rule.wait()
        self.assertEqual(sorted(int(row["number"]) for row in table.rows.values()), list(range(logs)))
        tasks = rule.tasks()
        self.assertEqual(sum(task["rows"] for task in tasks), logs)
        self.assertEqual({task["shard"] for task in tasks}, set(range(8)))
        print(f"{logs} logs in {len(tasks)} tasks, {self.server.count(WRITES[1:])} requests, {max(table.writes.values())} writes of a row at most")

    def inject_faults(self, number):
        """Half of the faults have an effect on the table before they are seen."""
        for code in BUSY + UNCLEAR:
            self.server.inject(Refuse(code, before=number % 2 == 0), path=WRITES)
            self.server.fail_rows(code, when=lambda _, key: key[-1] % 97 == 5, times=50, stored=code in UNCLEAR)
        for fault in Reset(), Reset(before=False), Truncate(), Damage(), Page(502), Page(503, before=False), INTERNAL_ERROR:
            self.server.inject(fault, path=WRITES)

    def kill_once(self, **when):
        def kill(_request):
            self.served.process.kill()
            self.served.process.wait()

        self.served.start()
        self.server.inject(Run(kill, before=when.pop("before")), path=WRITES, **when)
        self.assertEqual(self.served.process.wait(PATIENCE), KILLED)
