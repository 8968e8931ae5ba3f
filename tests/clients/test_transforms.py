"""Rules that transform logs before they are shipped: what is left out, what is redacted, and what tasks say of it."""

import hashlib
import hmac
import json
import tomllib

from kit.process import temporary_folder
from kit.rules import Case, detail
from kit.waiting import PATIENCE

STEPS = "Begun", "Made", "ManifestSaved", "Settled"
SAME = "identical to the task's object"
NONE = "none: all logs were filtered out"


def fields(**settings):
    """An option for a built-in transform."""
    return f"--transform=fields={json.dumps(settings)}"


class Transforms(Case):
    def create(self, name, *options):
        create = self.rule("create", "--bucket", "lake", "--prefix", name, "--partition", "p", *options)
        self.service.command(*create, name)

    def logs(self, name):
        return [json.loads(line) for path in self.objects(name) for line in path.read_text().splitlines()]

    def test_ships_and_replays_transformed_logs(self):
        where = {"id": {"matches": "[05]$"}}
        keyed = ("--transform", self.settings_file(hash=["id"], hash_key="key"))
        self.create("few", fields(where=where), fields(set={"env": "prod"}, rename={"id": "number"}))
        self.create("hashed", fields(where=where), *keyed)
        self.put(20)
        tasks = {rule: self.wait_for_tasks(rule, 1, "success")[0] for rule in ("few", "hashed")}
        self.assertEqual([(log["number"], log["env"]) for log in self.logs("few")], [(n, "prod") for n in "0 5 10 15".split()])
        digests = [hmac.new(b"key", number, hashlib.sha256).hexdigest() for number in (b"0", b"5", b"10", b"15")]
        self.assertEqual([log["id"] for log in self.logs("hashed")], digests)
        self.assertEqual({task["rows"] for task in tasks.values()}, {4})
        self.assertIn("2 of 2 objects match their tasks: 8 logs", self.service.command("verify"))
        again = temporary_folder(self)
        for rule, task in tasks.items():
            self.assertIn(SAME, self.service.command("task", "replay", task["id"], "--to", again))
            plan = json.loads(self.service.command("task", "show", task["id"], "--report", "json"))["plan"]
            self.assertEqual(sum(stage.startswith("transform-fields ") for stage in plan["stages"]), 2)
            pinned = [transform["type"] for transform in plan["targetConfiguration"]["logship"]["transform"]]
            self.assertTrue(all(name.startswith("sha256:") for name in pinned), pinned)

    def settings_file(self, **settings):
        file = self.service.folder / "settings.json"
        file.write_text(json.dumps(settings))
        return f"fields=@{file}"

    def test_task_without_logs_has_no_object_despite_aborts(self):
        self.create("none", fields(where={"id": "none"}))
        self.put()
        (task,) = self.wait_for_tasks("none", 1, "success")
        self.assertEqual((task["rows"], task["storedBytes"], task["sha256"]), (0, 0, ""))
        self.assertEqual(self.objects("none"), [])
        self.assertIn(NONE, self.service.command("task", "list"))
        self.assertIn(NONE, self.service.command("task", "show", task["id"]))
        self.assertIn("0 of 0 objects", self.service.command("verify"))
        again = temporary_folder(self)
        self.assertIn("filtered out all 10 logs", self.service.command("task", "replay", task["id"], "--to", again))
        for count, step in enumerate(STEPS, 2):
            with self.subTest(step=step):
                self.service.terminate()
                self.service.code()
                self.start_with(FAILPOINT=step)
                self.put()
                self.assertEqual(self.service.process.wait(PATIENCE), -6)
                self.start_with()
                tasks = self.wait_for_tasks("none", count, "success")
                self.assertEqual({(task["rows"], task["sha256"]) for task in tasks}, {(0, "")})
                ranges = sorted((int(task["begin"]), int(task["end"])) for task in tasks)
                self.assertEqual([end for _, end in ranges[:-1]], [begin for begin, _ in ranges[1:]])
        self.assertEqual(self.objects("none"), [])

    def start_with(self, **environment):
        self.service.environment = environment
        self.service.start()

    def test_shown_rule_can_be_applied(self):
        self.create("shown", fields(drop=["a"], mask={"b": "\\d+"}), "--transform", "fields")
        text = self.service.command(*self.rule("show", "shown")).split("\n\nshard")[0]
        rule = tomllib.loads(text)
        self.assertEqual(rule["transform"], [{"type": "fields", "drop": ["a"], "mask": {"b": "\\d+"}}, "fields"])
        file = self.service.folder / "rules.toml"
        file.write_text(text)
        self.assertIn("is up to date", self.service.command("rule", "apply", "-f", file))
        file.write_text(text.replace("\\\\d+", "\\\\w+").replace("\\d+", "\\w+"))
        self.assertIn("transform", self.service.command("rule", "apply", "-f", file))
        changed = self.configuration("shown")["logship"]["transform"]
        self.assertEqual(changed[0]["mask"], {"b": "\\w+"})

    def test_errors_name_position_of_transform(self):
        for transform, words in {
            ("fields", "nothing"): ("logship.transform[1]", "nothing"),
            ("fields", json.dumps({"mask": {"a": "("}})): ("logship.transform[1]", "mask.a", "unclosed group"),
            ("encode-json",): ("logship.transform[0]", "is an encoder"),
            ("fields",) * 9: ("logship.transform", "8 at most"),
        }.items():
            with self.subTest(transform):
                chosen = [{"type": "fields", **json.loads(name)} if name.startswith("{") else name for name in transform]
                rule = detail("wrong", "lake", logship={"transform": chosen})
                status, code, message = self.refusal("create_shipper", rule)
                self.assertEqual((status, code), (400, "PostBodyInvalid"))
                for word in words:
                    self.assertIn(word, message)

    def test_counts_filtered_logs(self):
        self.create("counted", fields(where={"id": ["1", "2"]}))
        self.put()
        self.wait_for_tasks("counted", 1, "success")
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        for name, count in ("shipped_logs", 2), ("left_out_logs", 8):
            (line,) = [line for line in metrics.splitlines() if line.startswith(f"logship_{name}_total{{")]
            self.assertEqual(float(line.rpartition(" ")[2]), count)
