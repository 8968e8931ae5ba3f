"""Jobs: the guide's script, its mapping and its limits, as users run them."""

import json
import os
import subprocess
import time

from kit.jobs import GUIDE, Case, timestamp, window
from kit.paths import PROGRAM
from kit.service import PROJECT, set_options

ONE_TABLE = GUIDE.replace("pt=${startTime}", "pt=all")


class Scripts(Case):
    def test_script_of_the_guide_runs(self):
        before = [{"key1": f"a{number}", "key2": f"b{number}", "other": "x"} for number in range(10)]
        self.put(*before)
        middle = self.end_second()
        after = [{"key1": "later"}]
        self.put(*after)
        end = self.end_second()
        created = self.create()
        self.assertIn("logs to table ok, partition pt=${startTime} of odps_first", created)
        done, run = self.run_job(*window(self.begin, middle))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("10 rows, 0 dirty", done.stdout)
        # Closed at the left, open at the right.
        rows = [(f"a{number}", f"b{number}") for number in range(10)]
        self.assertEqual(self.rows(f"pt={timestamp(self.begin)}"), rows)
        done, run = self.run_job(*window(middle, end))
        self.assertEqual(self.rows(f"pt={timestamp(middle)}"), [("later", None)])
        self.assertEqual((run["state"], run["rows"], run["blocks"]), ("success", 1, 1))
        # A run without logs replaces the partition by nothing.
        done, run = self.run_job(*window(self.begin - 100, self.begin))
        self.assertEqual((done.returncode, run["rows"], run["blocks"]), (0, 0, 0))

    def test_maps_constants_parameters_and_reserved_fields(self):
        self.maxcompute.add_table(
            "t", ["a string", "b string", "c string", "t bigint", "s string", "n bigint"], ["pt string", "hh string"]
        )
        script = json.loads(GUIDE.replace("// the Logstore", ""))
        reader, writer = (script["configuration"][side]["parameter"] for side in ("reader", "writer"))
        reader["column"] = ["key1", "'it''s'", "${bdp.system.bizdate}", "__time__", "__source__", {"name": "f(x)"}]
        writer |= {"table": "t", "column": ["a", "b", "c", "t", "s", "n"], "partition": "pt=${bizdate},hh=$[hh24]"}
        script["timeZone"] = "Asia/Shanghai"
        now = int(time.time())
        self.put({"key1": "x", "f(x)": "7"}, {"key2": "y"})
        end = self.end_second()
        self.create(json.dumps(script))
        done, run = self.run_job(*self.local_window(self.begin, end), "--at", "20261201013000")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = sorted(self.maxcompute.rows("t", "pt=20261130,hh=01"), key=str)
        self.assertEqual([row[:3] for row in rows], [("x", "it's", "20261130"), (None, "it's", "20261130")])
        self.assertEqual([row[5] for row in rows], [7, None])
        self.assertTrue(all(abs(row[3] - now) < 30 for row in rows), rows)

    def local_window(self, begin, end):
        return window(begin + 8 * 3600, end + 8 * 3600)

    def test_star_maps_by_name(self):
        self.put({"key2": "two", "key1": "one", "more": "x"})
        end = self.end_second()
        self.create(ONE_TABLE.replace('["key1", "key2"]', '["*"]'))
        self.assertEqual(self.run_job(*window(self.begin, end))[0].returncode, 0)
        self.assertEqual(self.rows("pt=all"), [("one", "two")])

    def test_refuses_scripts_that_do_not_fit(self):
        def refused(old, new, *options):
            script = self.script(GUIDE.replace(old, new))
            return self.service.refused("job", "create", "-f", script, *options)

        for old, new, parts in [
            ('"key1"', '"now()"', ("line 7", "now(): Not identified")),
            ('"key1"', '"count(1)"', ("count(1): Not identified",)),
            ('"splitPk"', '"split"', ("line 6", "unknown field `split`")),
            ('"logstore": "logs"', '"logstore": "none"', ("none",)),
            ("my_loghub", "unknown", ("unknown", "logship source list")),
            ("odps_first", "my_loghub", ("type loghub", "odps")),
            ('"mbps": 8', '"mbps": 0', ("setting.speed.mbps",)),
        ]:
            shown = refused(old, new)
            self.assertTrue(all(part in shown for part in parts), shown)
        self.assertEqual(self.service.json("job", "list", "--report", "json"), [])
        self.create()
        for options, part in [
            ((), "${startTime} has no value"),
            (window(self.begin, self.begin), "the window is empty"),
            (window(self.begin, self.begin - 1), "ends before it begins"),
            (window(self.begin, self.begin + 9999), "ends in the future"),
            (("--param", "startTime=2026", "--param", "endTime=2027"), "is no time"),
        ]:
            self.assertIn(part, self.service.refused("job", "run", "job", *options))
        self.assertIn("already exists", self.service.refused("job", "create", "-f", self.script()))
        self.assertIn("replaced job", self.service.command("job", "create", "-f", self.script(), "--replace"))

    def test_table_that_does_not_fit_is_named(self):
        self.put({"key1": "x"})
        end = self.end_second()
        for number, (old, new, part) in enumerate([
            ('"table": "ok"', '"table": "none"', "none"),
            ('"column": ["key1", "key2"] } },\n    "setting"', '"column": ["key1", "key3"] } },\n    "setting"', "no column \"key3\""),
            ('"pt=${startTime}"', '""', "write pt="),
            ('"pt=${startTime}"', '"ds=1"', "the table has pt="),
        ]):
            name = f"job{number}"
            self.assertIn(old, GUIDE)
            self.create(GUIDE.replace(old, new), name=name)
            done, run = self.run_job(*window(self.begin, end), name=name)
            self.assertEqual((done.returncode, run["state"]), (1, "failed"))
            self.assertIn(part, done.stderr)


class Rows(Case):
    def test_truncate_replaces_and_append_adds(self):
        self.put({"key1": "one"})
        end = self.end_second()
        for name, truncate in (("replace", "true"), ("append", "false")):
            self.create(ONE_TABLE.replace("true", truncate).replace("pt=all", f"pt={name}"), name=name)
            self.assertEqual(self.run_job(*window(self.begin, end), name=name)[0].returncode, 0)
        self.assertEqual(self.run_job(*window(self.begin, end), name="replace")[0].returncode, 0)
        self.assertEqual(self.rows("pt=replace"), [("one", None)])
        refused = self.service.refused("job", "run", "append", *window(self.begin, end))
        self.assertIn("has appended rows", refused)
        run = self.runs("append")[0]["id"]
        self.assertIn("--allow-duplicates", self.service.refused("job", "rerun", "append", str(run)))
        self.service.command("job", "rerun", "append", str(run), "--allow-duplicates")
        self.assertEqual(self.rows("pt=append"), [("one", None), ("one", None)])

    def test_rerun_makes_the_same_rows(self):
        self.put({"key1": "one"}, {"key1": "two"})
        end = self.end_second()
        self.create(ONE_TABLE)
        _, run = self.run_job(*window(self.begin, end))
        # The job is another one now, but the run keeps its plan.
        self.create(ONE_TABLE.replace('["key1", "key2"] } },\n    "writer"', '["key2", "key1"] } },\n    "writer"'), "--replace")
        self.service.command("job", "rerun", "job", str(run["id"]))
        self.assertEqual(self.rows("pt=all"), [("one", None), ("two", None)])
        self.run_job(*window(self.begin, end))
        self.assertEqual(self.rows("pt=all"), [(None, "one"), (None, "two")])

    def test_dirty_rows_are_counted_kept_and_limited(self):
        self.maxcompute.add_table("n", ["key1 bigint", "key2 string"], ["pt string"])
        self.put(*({"key1": text} for text in ("1", "x1", "2", "x2", "3")))
        end = self.end_second()
        script = ONE_TABLE.replace('"ok"', '"n"')
        self.create(script.replace('"5"', '"1"'), name="strict")
        done, run = self.run_job(*window(self.begin, end), name="strict")
        self.assertEqual((run["state"], run["code"]), ("failed", "TooManyDirtyRows"))
        self.assertIn("2 dirty rows of 5", done.stderr)
        self.assertEqual(self.rows("pt=all", "n"), [])
        self.create(script.replace('"5"', '"2"'), name="lenient")
        done, run = self.run_job(*window(self.begin, end), name="lenient")
        self.assertEqual((run["state"], run["rows"], run["dirtyRows"]), ("success", 3, 2))
        self.assertEqual(sorted(row[0] for row in self.maxcompute.rows("n", "pt=all")), [1, 2, 3])
        letters = self.service.json(
            "deadletter", "list", "--dead-letters", self.service.data / "dead-letters", "--report", "json"
        )
        kept = [(letter["rule"], letter["fields"]["key1"]) for of in letters for letter in of["letters"]]
        self.assertEqual(sorted(kept), [(job, text) for job in ("lenient", "strict") for text in ("x1", "x2")])
        self.assertTrue(all("key1" in letter["reason"] for of in letters for letter in of["letters"]))
        fraction = script.replace('"record": "5"', '"percentage": 0.3')
        self.create(fraction, name="fraction")
        self.assertEqual(self.run_job(*window(self.begin, end), name="fraction")[1]["code"], "TooManyDirtyRows")
        self.create(fraction.replace("0.3", "0.4"), name="half")
        self.assertEqual(self.run_job(*window(self.begin, end), name="half")[1]["state"], "success")

    def test_preview_writes_nothing(self):
        self.maxcompute.add_table("n", ["key1 bigint", "key2 string"], ["pt string"])
        self.put({"key1": "1", "key2": "a"}, {"key1": "x", "key2": "b"})
        end = self.end_second()
        script = self.script(ONE_TABLE.replace('"ok"', '"n"'))
        shown = self.service.command("job", "preview", "-f", script, *window(self.begin, end))
        for part in "replaces the rows of n, partition pt=all", '"key1":"x"', "1 row of the sample, 1 dirty":
            self.assertIn(part, shown)
        preview = self.service.json("job", "preview", "-f", script, *window(self.begin, end), "--report", "json")
        self.assertEqual(sorted(log["row"]["key1"] for log in preview["logs"]), ["1", "x"])
        self.assertEqual((preview["rows"], len(preview["dirty"])), (1, 1))
        self.assertEqual(self.maxcompute.sessions, {})
        self.assertEqual(self.service.json("job", "list", "--report", "json"), [])

    def test_creates_the_table(self):
        self.put({"key1": "1", "key2": "a"})
        end = self.end_second()
        script = GUIDE.replace('"ok"', '"fresh"')
        shown = self.create(script, "--create-table")
        self.assertIn("CREATE TABLE IF NOT EXISTS `fresh`", shown)
        self.assertIn("PARTITIONED BY (`pt` STRING)", shown)
        self.assertIn("was not run", shown)
        self.assertNotIn("fresh", self.maxcompute.tables)
        self.create(script, "--create-table", "--yes", "--replace")
        self.assertEqual(self.run_job(*window(self.begin, end))[0].returncode, 0)
        self.assertEqual(self.rows(f"pt={timestamp(self.begin)}", "fresh"), [("1", "a")])

    def test_new_asks_and_creates(self):
        answers = ["asked", "", "logs", "", "", "odps_first", "ok", "pt=all", "n", "key1,now()", "key1,'c'", "key1,key2"]
        answers += ["", "2", "", "5", "Asia/Shanghai", "", "", "y"]
        place = {"LOGSHIP_DATA": str(self.service.data), "SLS_ENDPOINT": self.service.endpoint(), "SLS_PROJECT": PROJECT}
        done = subprocess.run(
            [PROGRAM, "job", "new"], input="\n".join(answers) + "\n", capture_output=True, text=True, env={**os.environ, **place}
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("now(): Not identified", done.stdout)
        job = self.service.json("job", "show", "asked", "--report", "json")
        self.assertEqual((job["schedule"], job["timeZone"], job["truncate"]), ("every 5 minutes", "Asia/Shanghai", False))
        self.assertEqual(job["script"]["parameters"]["startTime"], "$[yyyymmddhh24miss-10/24/60]")
        self.assertGreater(job["nextRun"], time.time())

    def test_schedule_is_shown_and_backfilled(self):
        script = GUIDE.replace("${startTime}\", \"endDateTime\": \"${endTime}", "$[yyyymmddhh24miss-10/24/60]\", \"endDateTime\": \"$[yyyymmddhh24miss-5/24/60]")
        script = script.replace("pt=${startTime}", "pt=all")
        file = self.script(script)
        done = self.service.run("job", "create", "-f", file, "--every", "5", "--time-zone", "Asia/Shanghai", "--start", "next-day")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("each run replaces the rows of the run before", done.stderr)
        self.assertIn("runs every 5 minutes, first at", done.stdout)
        self.assertIn("Asia/Shanghai", done.stdout)
        begin = (self.begin + 8 * 3600) // 300 * 300 - 3600
        done = self.service.run("job", "backfill", "job", "--from", timestamp(begin), "--to", timestamp(begin + 900))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        runs = [(run["trigger"], run["state"], run["beginDateTime"], run["endDateTime"]) for run in reversed(self.runs())]
        expected = [
            ("backfill", "success", timestamp(begin + number * 300 - 600), timestamp(begin + number * 300 - 300))
            for number in range(3)
        ]
        self.assertEqual(runs, expected)
        self.assertIn("interval", self.service.refused("job", "create", "-f", file, "--every", "7", "--replace"))


class OtherServices(Case):
    def test_reads_a_logstore_at_another_endpoint(self):
        rows = self.put_many(3000)
        end = self.end_second()
        self.put({"key1": "later"})
        key = self.service.admin
        members = {
            "endpoint": self.service.endpoint(), "project": PROJECT, "access-key-id": key.id,
            "access-key-secret": key.secret,
        }
        self.service.command("source", "create", "far", "--type", "loghub", *set_options(members))
        self.create(ONE_TABLE.replace("my_loghub", "far"))
        shown = self.service.json("job", "preview", "job", *window(self.begin, end), "--report", "json")
        self.assertEqual(len(shown["logs"]), 10)
        done, run = self.run_job(*window(self.begin, end))
        self.assertEqual((done.returncode, run["rows"]), (0, 3000), done.stderr)
        self.assertEqual(self.rows("pt=all"), rows)
