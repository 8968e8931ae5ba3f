"""Names of stages: added, swapped, rolled back, pinned and removed in a running service."""

import hashlib
import json

from kit import service
from kit.marking import Case, build
from kit.paths import COMPONENTS_EXAMPLES
from kit.waiting import wait_for


class Names(Case):
    def test_swap_and_rollback_act_at_next_task(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.assertEqual(self.ship("mine"), {"0001"})
        said = self.stage("add", self.file("0002"), "--name", "marker")
        self.assertIn("points to 0001", said)
        self.assertEqual(self.ship("mine"), {"0001"}, "another version changes nothing")
        said = self.stage("swap", "marker", "0002")
        self.assertIn("1 rule uses it", said)
        self.assertEqual(self.ship("mine"), {"0002"})
        # A file is added first.
        self.stage("swap", "marker", self.file("0003"))
        self.assertEqual(self.ship("mine"), {"0003"})
        for mark in "0002", "0001":
            self.stage("rollback", "marker")
            self.assertEqual(self.ship("mine"), {mark})
        self.assertIn("has no previous version", self.stage_refused("rollback", "marker"))

        shown = self.show("marker")
        self.assertEqual([version["version"] for version in shown["all"]], ["0001", "0002", "0003"])
        self.assertEqual((shown["version"], shown["builtIn"], shown["pinned"]), ("0001", False, False))
        self.assertEqual([rule["shipperName"] for rule in shown["rules"]], ["mine"])
        done = [(event["action"], event["version"]) for event in shown["events"]]
        self.assertEqual(
            done,
            [
                ("rollback", "0001"),
                ("rollback", "0002"),
                ("swap", "0003"),
                ("swap", "0002"),
                ("add", "0002"),
                ("add", "0001"),
            ],
        )
        listed = self.stage("list")
        self.assertRegex(listed, r"marker +encoder +0001 +[0-9a-f]{12} +added +3 +1")
        self.assertRegex(listed, r"encode-json +encoder +\S+ +[0-9a-f]{12} +built in")

    def test_swaps_built_in_stage_for_all_rules(self):
        self.rule("default")
        self.rule("named", "--encoder", "encode-json")
        self.stage("swap", "encode-json", self.file("0007"))
        self.put()
        for rule in "default", "named":
            self.wait_until_shipped(rule)
            self.assertEqual([mark for mark, _ in self.objects(rule)], ["0007"])
        self.assertEqual(self.show("encode-json")["builtIn"], False)
        self.stage("rollback", "encode-json")
        self.assertEqual(self.show("encode-json")["builtIn"], True)
        self.put()
        is_json = lambda path: path.is_file() and path.read_text().startswith("{")
        for rule in "default", "named":
            wait_for(lambda: any(map(is_json, self.lake.glob(f"{rule}/**/*"))))
        # Another built-in stage can stand for it too, and then it goes with the name.
        self.stage("swap", "encode-json", "0007")
        self.stage("swap", "encode-json", "built-in")
        self.stage("remove", "encode-json")
        self.assertEqual((self.show("encode-json")["versions"], self.show("encode-json")["builtIn"]), (0, True))

    def test_swapped_compressor_applies_to_retry(self):
        self.rule("mine", "--compression", "snappy")
        self.stage("swap", "compress-snappy", "compress-zstd")
        hidden = self.lake.rename(self.lake.with_name("hidden"))
        self.put()
        failed = lambda: self.service.tasks("--rule", "mine", "--status", "failed")
        wait_for(failed)
        # Nothing is known any more but what is on disk.
        self.service.kill()
        self.service.start()
        hidden.rename(self.lake)
        done = lambda: self.service.tasks("--rule", "mine", "--status", "success")
        wait_for(done, message="it is not done when it is tried again")
        self.assertTrue(done()[0]["object"].endswith(".zst"), done())

    def test_rule_can_pin_version(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("pinned", "--encoder", "marker@0001")
        self.rule("moves", "--encoder", "marker")
        self.stage("swap", "marker", self.file("0002"))
        self.put()
        for rule, mark in ("pinned", "0001"), ("moves", "0002"):
            self.wait_until_shipped(rule)
            self.assertEqual([mark for mark, _ in self.objects(rule)], [mark])
        said = self.stage_refused("remove", "marker@0001")
        self.assertIn("pinned of clients/logs", said)
        self.assertIn("moves of clients/logs", self.stage_refused("remove", "marker"))
        said = self.service.refused("rule", "create", "late", "--logstore", "logs", "--bucket", "lake", "--encoder", "marker@3")
        self.assertIn('no version "3"; its versions are 0001, 0002', said)

    def test_deletes_unused_component(self):
        kept = lambda mark: self.service.data / "stages" / "sha256" / f"{hashlib.sha256(build(mark)).hexdigest()}.wasm"
        for mark in "0001", "0002", "0003":
            self.stage("add", self.file(mark), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.rule("pinned", "--encoder", "sha256:" + kept("0003").stem)
        self.assertEqual(self.ship("mine"), {"0001"})
        self.stage("swap", "marker", "0002")
        for mark in "0001", "0003":
            self.stage("remove", f"marker@{mark}")
        self.assertTrue(kept("0001").exists(), "a task was made by it")
        self.assertTrue(kept("0003").exists(), "a rule names it")
        # Nothing was made by it, and what it was is history.
        self.stage("add", self.file("0004"), "--name", "marker")
        self.assertTrue(kept("0004").exists())
        self.stage("remove", "marker@0004")
        self.assertFalse(kept("0004").exists())
        self.assertIn("no version", self.stage_refused("swap", "marker", "0004"))

    def test_keeps_pinned_version(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.stage("add", self.file("0002"), "--name", "marker")
        self.stage("pin", "marker")
        for arguments in ("swap", "marker", "0002"), ("rollback", "marker"), ("remove", "marker"):
            self.assertIn("marker is pinned to 0001", self.stage_refused(*arguments))
        self.stage("pin", "marker", "0002")
        self.assertEqual((self.show("marker")["version"], self.show("marker")["pinned"]), ("0002", True))
        self.stage("pin", "marker", "--off")
        self.stage("rollback", "marker")
        self.assertEqual((self.show("marker")["version"], self.show("marker")["pinned"]), ("0001", False))

    def test_rejects_incompatible_swap(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.rule("table", "--format", "csv", "--columns", "id")
        before = self.show("marker"), self.show("encode-csv")
        text = self.service.folder / "text.wasm"
        text.write_text("no component")
        core = self.service.folder / "core.wasm"
        core.write_bytes(b"\0asm\1\0\0\0")
        path = COMPONENTS_EXAMPLES / "constant-path.wasm"
        for arguments, word in (
            (("swap", "marker", path), "a renderer"),
            (("add", path, "--name", "marker"), "a renderer"),
            (("swap", "marker", text), "not WebAssembly"),
            (("swap", "marker", core), "core module"),
            (("swap", "marker", "object-path"), "a renderer"),
            (("swap", "marker", "nothing"), "no version"),
            (("swap", "nothing", "marker"), "no stage is called nothing"),
            (("rollback", "nothing"), "no stage is called nothing"),
            (("rollback", "encode-csv"), "has no previous version"),
            (("remove", "encode-csv"), "is a built-in stage"),
            (("remove", "marker@0001"), "is the current version of marker"),
            (("remove", "marker@0009"), "no version"),
            (("add", self.file("0002"), "--name", "No Name"), "is invalid: use 1-63 characters"),
            # Its settings come from a member that CSV does not have.
            (("swap", "encode-csv", COMPONENTS_EXAMPLES / "encode-logfmt.wasm"), "table of clients/logs"),
        ):
            with self.subTest(arguments):
                self.assertIn(word, self.stage_refused(*arguments))
        self.assertEqual((self.show("marker"), self.show("encode-csv")), before)
        self.assertEqual(self.ship("mine"), {"0001"})

    def test_changes_need_permission(self):
        reads = self.service.create_key("--allow", "read")
        manages_one = self.service.create_key("--allow", f"admin={service.PROJECT}")
        self.service.restart()
        as_key = lambda key, method, path: self.service.request(method, path, headers=key.basic(), body=b"")
        self.assertEqual(as_key(reads, "GET", "/stages").status, 200)
        self.assertEqual(as_key(manages_one, "GET", "/stages").status, 401)
        for key in reads, manages_one:
            for method, path in (
                ("POST", "/stages"),
                ("PUT", "/stages/encode-json?action=rollback"),
                ("DELETE", "/stages/encode-json"),
            ):
                self.assertEqual(as_key(key, method, path).refusal(), (401, "Unauthorized"), (method, path))
        admin = self.service.admin
        for method, path, body in (
            ("PUT", "/stages/encode-json", b""),
            ("PUT", "/stages/encode-json?action=swop", b""),
            ("PUT", "/stages/encode-json?action=swap", b""),
            ("PUT", "/stages/encode-json?action=swap", b"{"),
            ("PUT", "/stages/encode-json?action=rollback", json.dumps({"to": "x"}).encode()),
            ("POST", "/stages?swap=perhaps", build("0001")),
            ("POST", "/stages", b""),
            ("GET", "/stages/nothing", b""),
        ):
            reply = self.service.request(method, path, headers=admin.basic(), body=body)
            self.assertEqual(reply.status, 400, (method, path, reply.body))

    def test_acknowledged_changes_survive_kill(self):
        self.stage("add", self.file("0001"), "--name", "marker")
        self.stage("add", self.file("0002"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        for mark in "0002", "0001", "0002":
            self.put()
            self.stage("swap", "marker", mark)
            self.service.kill()
            self.service.start()
            self.assertEqual(self.show("marker")["version"], mark)
            self.assertEqual(self.ship("mine"), {mark})
        self.assertEqual(len(self.show("marker")["events"]), 5)


class Folder(Case):
    def put_file(self, name, component):
        folder = self.service.data / "stages"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.wasm").write_bytes(component)

    def wait_for_version(self, name, version):
        wait_for(lambda: f" {version} " in self.stage("list") and self.show(name)["version"] == version)

    def test_changed_file_becomes_version(self):
        self.put_file("marker", build("0001"))
        # The name works at once.
        self.rule("mine", "--encoder", "marker")
        self.assertEqual(self.ship("mine"), {"0001"})
        self.put_file("marker", build("0002"))
        self.wait_for_version("marker", "0002")
        self.assertEqual(self.ship("mine"), {"0002"})
        # An invalid component changes nothing, and is reported.
        self.put_file("marker", build("0003")[:-100])
        said = lambda: self.service.run("stage", "list").stderr
        wait_for(lambda: "marker.wasm was not added" in said())
        self.assertEqual(self.ship("mine"), {"0002"})
        self.put_file("marker", build("0003"))
        self.wait_for_version("marker", "0003")
        self.assertNotIn("not added", said())
        # A rollback or a removal survives a restart, as the file did not change.
        self.stage("rollback", "marker")
        self.stage("remove", "marker@0003")
        self.service.restart()
        self.assertEqual(self.ship("mine"), {"0002"})
        self.assertEqual(len(self.show("marker")["all"]), 2)
        # A pinned name keeps its version, and the new one is stored.
        self.stage("pin", "marker")
        self.put_file("marker", build("0004"))
        wait_for(lambda: len(self.show("marker")["all"]) == 3)
        self.assertEqual(self.show("marker")["version"], "0002")
