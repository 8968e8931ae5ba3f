"""`logship deadletter resend --to table` puts dirty rows back into their table, once, as the rule or the job is now."""

import json

from kit import jobs, maxcompute_rules, service
from kit.fakes.faults import Run
from kit.fakes.maxcompute import INTERNAL_ERROR, LOST_ANSWER, Refuse
from kit.jobs import GUIDE, window
from kit.maxcompute_rules import COLUMNS
from kit.process import temporary_folder
from kit.table_store import TableCase, dead_letters, numbered, put
from kit.waiting import PATIENCE, wait_for

CREATE = {"method": "POST", "query": "uploads"}
BLOCK = {"method": "PUT", "query": "blockid"}
COMMIT = {"method": "POST", "query": "uploadid"}
STEPS = "SessionSaved", "BlockUploaded", "CommitBegun", "Committed", "CommitSaved", "RestSaved", "LettersReplaced"
TEXTS = ["number string", *COLUMNS[1:]]
TO_TABLE = "deadletter", "resend", "--all", "--to", "table"
KILLED, ABORTED = -9, -6


class TableStoreRules(TableCase):
    def test_mended_rows_have_their_own_keys(self):
        table, logstore = self.create_table(), self.served.logstore()
        logs = numbered(0, 6)
        logs[1]["number"], logs[3]["number"], logs[4]["size"] = "1x", "y", "z"
        put(logstore, logs, tags=[("host", "a")])
        rule = self.rule(logstore, 'columns = { number = "(->int 10 number)", size = "(->int 10 size)" }')
        rule.wait()
        self.assertEqual(len(table.rows), 3)
        self.assertIn("3 dirty again", self.served.run(*TO_TABLE).stdout)
        self.assertEqual(len(dead_letters(self.served)), 3)
        self.rule(logstore, 'columns = { size = "(->int 10 size)" }')
        done = self.served.run(*TO_TABLE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("2 rows written, 1 dirty again (column size", done.stdout)
        self.assertEqual(len(table.rows), 5)
        (letter,) = dead_letters(self.served)
        self.assertEqual((letter["log"], letter["columns"]), (4, ["size"]))
        self.rule(logstore, "")
        self.assertIn("1 rows written", self.served.command(*TO_TABLE))
        self.assertEqual(dead_letters(self.served), [])
        self.assertIn("no dead letters", self.served.command(*TO_TABLE))
        # Rows of the rule before have integers.
        rows = {key: {**row, "number": str(row["number"])} for key, row in table.rows.items()}
        self.assert_rows(logstore, rows)

    def test_transformer_mends_a_log(self):
        table, logstore = self.create_table(), self.served.logstore()
        put(logstore, [{"number": "1x", "size": "5"}])
        columns = 'columns = { number = "(->int 10 number)" }\n'
        self.rule(logstore, columns).wait()
        self.served.run(*TO_TABLE)
        self.rule(logstore, columns + 'transform = [{ type = "fields", drop = ["number"] }]')
        self.served.command(*TO_TABLE)
        (row,) = table.rows.values()
        self.assertEqual((row["size"], "number" in row), ("5", False))
        self.assertEqual(dead_letters(self.served), [])

    def test_filtered_logs_are_no_dead_letters(self):
        table, logstore = self.create_table(), self.served.logstore()
        put(logstore, [{"number": "1x"}])
        columns = 'columns = { number = "(->int 10 number)" }\n'
        self.rule(logstore, columns).wait()
        self.rule(logstore, columns + 'transform = [{ type = "fields", where = { number = { matches = "^[0-9]*$" } } }]')
        self.assertIn("1 filtered", self.served.command(*TO_TABLE))
        self.assertEqual((table.rows, dead_letters(self.served)), ({}, []))

    def test_copies_replace_expired_logs(self):
        """The dead letter has the log when the Logstore has none."""
        table, logstore = self.create_table(), self.served.logstore()
        put(logstore, [{"number": "1x", "text": "é"}], tags=[("host", "a")])
        self.rule(logstore, 'columns = { number = "(->int 10 number)" }\n').wait()
        (letter,) = dead_letters(self.served)
        (file,) = (self.served.data / "dead-letters").rglob("*.jsonl")
        # As if its log group had expired.
        letter["cursor"] -= 1
        file.write_text(json.dumps(letter) + "\n")
        self.rule(logstore, "")
        self.served.command(*TO_TABLE)
        ((key, row),) = table.rows.items()
        self.assertEqual(key[2], letter["cursor"])
        self.assertEqual((row["number"], row["text"], row["__tag___host"], row["__topic__"]), ("1x", "é", "a", "topic"))

    def test_other_projects_and_paths_are_refused(self):
        logstore = self.served.logstore()
        self.create_table()
        put(logstore, [{"number": "x"}])
        self.rule(logstore, 'columns = { number = "(->int 10 number)" }').wait()
        (file,) = (self.served.data / "dead-letters").rglob("*.jsonl")
        key = str(file.relative_to(self.served.data / "dead-letters"))
        for wrong in "../keys.toml", f"{service.PROJECT}/../{key}", key.replace(service.PROJECT, "other", 1), "":
            done = self.served.run("deadletter", "resend", wrong, "--to", "table")
            self.assertEqual(done.returncode, 1, wrong)
            self.assertIn("is no object of dead letters", done.stdout)
        self.served.command("rule", "delete", "to-table", "--logstore", logstore.name)
        done = self.served.run("deadletter", "resend", key, "--to", "table")
        self.assertIn("no rule and no job to-table writes rows", done.stdout)
        self.assertEqual(len(dead_letters(self.served)), 1)


class Rules(maxcompute_rules.Case):
    """Rules of MaxCompute. Dirty rows are in two partitions."""

    def dirty(self):
        self.put(12, dirty=4)
        self.rule()
        self.wait_for_rows(8)
        self.assertEqual(self.numbers(), list(range(8)))

    def mend(self):
        self.table.change_columns(TEXTS)

    def assert_all(self):
        rows = [row[0] for partition in self.server.partitions("t") for row in self.server.rows("t", partition)]
        self.assertEqual(sorted(map(str, rows)), sorted([*map(str, range(8)), "x8", "x9", "x10", "x11"]))
        self.assertEqual({"pt=20261201_0000": 6, "pt=20261201_0030": 6}, self.server.partitions("t"))
        self.assertEqual(self.letters(), [])

    def test_rows_go_to_their_partitions(self):
        self.dirty()
        done = self.served.run(*TO_TABLE)
        self.assertEqual((done.returncode, done.stdout.count("4 dirty again")), (1, 1))
        self.assertEqual(sum(len(of["letters"]) for of in self.letters()), 4)
        self.mend()
        self.assertIn("4 rows written", self.served.command(*TO_TABLE))
        self.assert_all()

    def test_killed_at_each_step_each_row_is_there_once(self):
        for step in STEPS:
            with self.subTest(step):
                self.begin_anew(step.lower())
                self.dirty()
                self.mend()
                self.restart({"FAILPOINT": f"Resend{step}"})
                self.served.run(*TO_TABLE)
                self.assertEqual(self.served.process.wait(PATIENCE), ABORTED)
                self.restart({})
                self.served.run(*TO_TABLE)
                self.assert_all()

    def begin_anew(self, name):
        """An empty table, and another Logstore with a rule."""
        self.table.change_columns(COLUMNS)
        self.table.partitions.clear()
        self.logstore, self.count = self.served.logstore(name), 0

    def restart(self, environment):
        if self.served.is_alive():
            self.served.terminate()
            self.served.code()
        self.served.environment = environment
        self.served.start()
        self.logstore.client = self.served.client()

    def test_killed_around_requests_each_row_is_there_once(self):
        self.dirty()
        self.mend()
        for operation in CREATE, BLOCK, COMMIT:
            for before in True, False:

                def kill(_request):
                    self.served.process.kill()
                    self.served.process.wait()

                rule = self.server.inject(Run(kill, before=before), **operation)
                self.served.run(*TO_TABLE)
                self.server.clear()
                if rule.fired:
                    self.assertEqual(self.served.process.wait(PATIENCE), KILLED)
                    self.served.start()
        self.logstore.client = self.served.client()
        self.served.run(*TO_TABLE)
        self.assert_all()

    def test_each_fault_leaves_each_row_once(self):
        self.dirty()
        self.mend()
        self.server.inject(INTERNAL_ERROR, **CREATE)
        self.server.inject(Refuse(500, "InternalServerError", before=False), **BLOCK)
        self.server.inject(LOST_ANSWER, **COMMIT)
        self.served.command(*TO_TABLE)
        self.assert_all()

    def test_unclear_commit_is_said_and_not_repeated(self):
        self.dirty()
        self.mend()

        def kill(_request):
            self.served.process.kill()
            self.served.process.wait()

        self.server.inject(Run(kill, before=False), **COMMIT)
        self.served.run(*TO_TABLE)
        self.server.clear()
        self.server.forget()
        self.served.start()
        self.logstore.client = self.served.client()
        done = self.served.run(*TO_TABLE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("it is not known whether 2 rows are in", done.stdout)
        self.assertEqual(len(self.letters()), 1)
        self.assertEqual(sum(self.server.partitions("t").values()), 10)

    def test_letters_of_unfinished_tasks_and_older_versions_are_kept(self):
        self.put(12, dirty=4)
        self.server.inject(Refuse(403, "NoPermission"), times=None, **COMMIT)
        self.rule()
        wait_for(lambda: [task for task in self.tasks() if task["taskStatus"] == "fail"], PATIENCE)
        self.assertIn("has not written its other rows yet", self.served.run(*TO_TABLE).stdout)
        self.server.clear()
        self.wait_for_rows(8)
        (file,) = (self.served.data / "dead-letters").rglob("*.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({k: v for k, v in line.items() if k not in ("task", "plan")}) + "\n" for line in lines))
        self.mend()
        self.assertIn("without their task", self.served.run(*TO_TABLE).stdout)
        file.write_text("".join(json.dumps({**line, "plan": 999}) + "\n" for line in lines))
        self.assertIn("4 deleted, as their logs were encoded again since", self.served.command(*TO_TABLE))
        self.assertEqual((self.numbers(), self.letters()), (list(range(8)), []))


ONE_TABLE = GUIDE.replace("pt=${startTime}", "pt=all").replace('"ok"', '"n"')


class Jobs(jobs.Case):
    def setUp(self):
        super().setUp()
        self.table = self.maxcompute.add_table("n", ["key1 bigint", "key2 string"], ["pt string"])
        self.put(*({"key1": text, "key2": "a"} for text in ("1", "x1", "2", "x2", "3")))
        self.end = self.end_second()

    def run_once(self, script, name="job"):
        self.create(script, name=name)
        return self.run_job(*window(self.begin, self.end), name=name)[1]

    def values(self):
        return sorted(str(row[0]) for row in self.maxcompute.rows("n", "pt=all"))

    def letters(self):
        folder = self.service.data / "dead-letters"
        return [line for file in folder.rglob("*.jsonl") for line in file.read_text().splitlines()]

    def test_rows_of_a_run_go_to_its_partition(self):
        for truncate in "true", "false":
            with self.subTest(truncate=truncate):
                self.maxcompute.add_table("n", ["key1 bigint", "key2 string"], ["pt string"])
                name = f"job_{truncate}"
                run = self.run_once(ONE_TABLE.replace("true", truncate), name)
                self.assertEqual((run["state"], run["dirtyRows"]), ("success", 2))
                self.maxcompute.tables["n"].change_columns(["key1 string", "key2 string"])
                self.service.command(*TO_TABLE)
                self.assertEqual((self.values(), self.letters()), (["1", "2", "3", "x1", "x2"], []))

    def test_mapping_of_the_job_is_the_present_one(self):
        self.run_once(ONE_TABLE)
        mended = ONE_TABLE.replace('"column": ["key1", "key2"] } },\n    "writer"', '"column": ["\'9\'", "key2"] } },\n    "writer"')
        self.assertNotEqual(mended, ONE_TABLE)
        self.create(mended, "--replace", name="job")
        self.service.command(*TO_TABLE)
        self.assertEqual((self.values(), self.letters()), (["1", "2", "3", "9", "9"], []))

    def test_failed_run_is_rerun_and_its_letters_are_superseded(self):
        strict = ONE_TABLE.replace('"5"', '"0"')
        self.assertEqual(self.run_once(strict)["state"], "failed")
        self.assertIn("`logship job rerun` writes them", self.service.run(*TO_TABLE).stdout)
        self.assertEqual(len(self.letters()), 2)
        self.maxcompute.tables["n"].change_columns(["key1 string", "key2 string"])
        self.service.command("job", "rerun", "job", "1")
        self.assertIn("deleted, as their logs were encoded again since", self.service.command(*TO_TABLE))
        self.assertEqual((self.values(), self.letters()), (["1", "2", "3", "x1", "x2"], []))

    def test_policy_must_allow_it(self):
        self.run_once(ONE_TABLE)
        file = temporary_folder(self) / "policy.json"
        statement = {"Effect": "Allow", "Action": ["logship:ListDeadLetters"], "Resource": "*"}
        file.write_text(json.dumps({"Version": "1", "Statement": [statement]}))
        key = self.service.create_key("--policy", file)
        said = ""

        def is_denied():
            nonlocal said
            done = self.service.run(*TO_TABLE, "--ak-id", key.id, "--ak-key", key.secret)
            said = done.stdout + done.stderr
            # The service reads new keys after a while.
            return "AccessKeyId not found" not in said

        wait_for(is_denied, PATIENCE)
        self.assertIn("no statement allows logship:ResendDeadLetters", said)
