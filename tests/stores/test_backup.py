"""Backups, restores, copies and lost files of data directories: nothing is shipped twice or skipped, and cursors of
another life are refused."""

import base64
import json
import shutil
import threading
import unittest

from aliyun.log import LogException

from kit.process import temporary_folder
from kit.service import PROJECT, Service, position
from kit.shipping import files_below
from kit.waiting import wait_for

LAKE = """
[shipping]
longest-wait-seconds = {}
[destinations.lake]
type = "directory"
path = "{}"
"""


class Case(unittest.TestCase):
    def serve(self, shards=2, wait=1):
        self.folder = temporary_folder(self)
        self.lake = self.folder / "lake"
        (self.lake / "bucket").mkdir(parents=True)
        self.served = Service(self, settings=LAKE.format(wait, self.lake))
        self.logs = self.served.logstore(shards=shards)

    def set_wait(self, seconds):
        """Sets how long logs wait for an object to fill, from the next start on."""
        self.served.settings.write_text(LAKE.format(seconds, self.lake))

    def put(self, letter, count=10):
        lines = "".join(json.dumps({"n": f"{letter}{number}"}) + "\n" for number in range(count))
        path = self.folder / f"{letter}.ndjson"
        path.write_text(lines)
        self.served.command("put", "logs", str(path))

    def rule(self, *options):
        place = ["--logstore", "logs", "--bucket", "bucket", "--destination", "lake"]
        self.served.command("rule", "create", "to-lake", *place, "--no-probe", *options)

    def shipped(self):
        """All shipped logs."""
        objects = [self.lake / path for path in files_below(self.lake)]
        return sorted(json.loads(line)["n"] for path in objects for line in path.read_text().splitlines())

    def wait_for_shipped(self, *letters, count=10):
        expected = sorted(f"{letter}{number}" for letter in letters for number in range(count))
        wait_for(lambda: len(self.shipped()) >= len(expected), 60, lambda: str(self.shipped()), 0.2)
        self.assertEqual(self.shipped(), expected)

    def stop(self):
        self.served.terminate()
        self.served.code()

    def restore(self, backup):
        """Stops the service and starts it anew with a restored data directory."""
        self.stop()
        data = self.folder / "restored"
        self.served.command("restore", str(backup), "--data", str(data))
        self.served.data = data
        self.served.start()

    def reasons(self):
        shown = self.served.json("store", "show", "--report", "json")
        return [generation["reason"] for generation in shown["generations"]]

    def refusal(self, cursor):
        with self.assertRaises(LogException) as refused:
            self.served.client().pull_logs(PROJECT, "logs", 0, cursor)
        return refused.exception.get_error_code(), refused.exception.get_error_message()


class Restores(Case):
    def test_nothing_twice_and_nothing_skipped(self):
        self.serve()
        self.rule()
        self.put("A")
        backup = self.folder / "backup"
        self.served.command("backup", str(backup))
        self.put("B")
        self.wait_for_shipped("A", "B")
        self.restore(backup)
        self.put("C")
        self.wait_for_shipped("A", "B", "C")
        tasks = self.served.tasks()
        self.assertEqual({task["taskStatus"] for task in tasks}, {"success"})
        self.assertEqual(self.reasons(), ["created", "restored"])

    def test_cursors_of_the_other_life_are_refused(self):
        self.serve(shards=1)
        client = self.served.client()
        self.put("A")
        both = client.get_end_cursor(PROJECT, "logs", 0).get_cursor()
        backup = self.folder / "backup"
        self.served.command("backup", str(backup))
        self.put("B", 1)
        self.put("D", 1)
        used = client.get_end_cursor(PROJECT, "logs", 0).get_cursor()
        self.restore(backup)
        client = self.served.client()
        self.assertIn("another life", self.refusal(used)[1])
        # The SDKs' consumers skip to the end after this code.
        self.assertNotEqual(self.refusal(used)[0], "InvalidCursor")
        self.put("C", 1)
        self.assertEqual(self.refusal(used)[0], "ParameterInvalid")
        client.create_consumer_group(PROJECT, "logs", "group", 30, False)
        with self.assertRaises(LogException) as refused:
            client.update_check_point(PROJECT, "logs", "group", 0, used, "consumer", True)
        self.assertEqual(refused.exception.get_error_code(), "InvalidShardCheckPoint")
        pulled = client.pull_logs(PROJECT, "logs", 0, both)
        (group,) = pulled.get_loggroup_list().LogGroups
        self.assertEqual([content.Value for content in group.Logs[0].Contents], ["C0"])
        after = position(pulled.get_next_cursor())
        self.assertGreater(after, position(used))
        # The SDK subtracts one to find the time of the group before a cursor.
        first = base64.b64encode(str(after - 1).encode()).decode()
        self.assertGreater(client.get_previous_cursor_time(PROJECT, "logs", 0, first).get_cursor_time(), 0)

    def test_backup_during_puts_is_a_prefix(self):
        self.serve(shards=1)
        stop, count = threading.Event(), []

        def write():
            while not stop.is_set():
                self.put("A", 50)
                count.append(50)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_for(lambda: sum(count) >= 200)
            before = sum(count)
            backup = self.folder / "backup"
            self.served.command("backup", str(backup))
        finally:
            stop.set()
            writer.join()
        everything = self.logs.logs()
        self.restore(backup)
        kept = self.read()
        self.assertGreaterEqual(len(kept), before)
        self.assertEqual(everything[: len(kept)], kept)
        self.served.command("verify", "--store", "--data", str(self.served.data))

    def read(self):
        self.logs.client = self.served.client()
        return self.logs.logs()

    def test_stopped_service_is_backed_up(self):
        self.serve(wait=600)
        self.rule()
        self.put("A")
        self.stop()
        backup = self.folder / "backup"
        self.served.command("backup", str(backup))
        manifest = json.loads((backup / "backup.json").read_text())
        self.assertIn("logstore.db", [file["path"] for file in manifest["files"]])
        data = self.folder / "restored"
        printed = self.served.command("restore", str(backup), "--data", str(data))
        self.assertIn("rule clients/logs/to-lake waits", printed)
        self.served.data = data
        self.set_wait(1)
        self.served.start()
        rule = self.served.json("rule", "show", "to-lake", "--logstore", "logs", "--report", "json")
        self.assertIn("store confirm", rule["problem"])
        self.put("C")
        self.assertEqual(self.shipped(), [])
        self.served.command("store", "confirm", "--unshipped", "skip")
        self.wait_for_shipped("C")

    def test_unusable_places_and_backups_are_refused(self):
        self.serve()
        self.put("A")
        backup = self.folder / "backup"
        self.served.command("backup", str(backup))
        self.assertIn("is not empty", self.served.refused("backup", str(backup)))
        self.assertEqual((backup / "backup.json").exists(), True)
        # The data directory is in use.
        self.assertIn("is not empty", self.served.refused("restore", str(backup), "--data", str(self.served.data)))
        new = self.folder / "new"
        self.assertIn("no complete backup", self.served.refused("restore", str(self.lake), "--data", str(new)))
        self.assertFalse(new.exists())
        with open(backup / "logstore.db", "r+b") as file:
            file.seek(5000)
            file.write(b"damage")
        self.assertIn("digest", self.served.refused("restore", str(backup), "--data", str(new)))
        self.assertIn("No such file", self.served.refused("backup", "/proc/nothing/here"))

    def test_killed_restore_is_repeated(self):
        self.serve()
        self.put("A")
        backup, data = self.folder / "backup", self.folder / "restored"
        self.served.command("backup", str(backup))
        self.stop()
        # As a killed restore leaves it.
        (data / "restoring").mkdir(parents=True)
        (data / "restoring" / "logstore.db").write_text("half")
        (data / "keys.toml").write_text("")
        self.assertIn("interrupted", self.served.refused("serve", "--data", str(data)))
        self.served.command("restore", str(backup), "--data", str(data))
        self.served.data = data
        self.served.start()
        self.assertEqual(len(self.read()), 10)


class Losses(Case):
    def kill(self):
        self.served.kill()

    def test_deleted_write_ahead_log_is_told(self):
        self.serve()
        self.rule()
        self.put("A")
        self.kill()
        (self.served.data / "logstore.db-wal").unlink()
        self.served.start()
        errors = [line["message"] for line in self.served.lines() if line["level"] == "ERROR"]
        self.assertTrue(any("acknowledged logs are gone" in message for message in errors), errors)
        self.assertEqual(self.reasons()[-1], "rolled-back")

    def test_deleted_shared_memory_is_no_loss(self):
        self.serve()
        self.put("A")
        self.kill()
        (self.served.data / "logstore.db-shm").unlink()
        self.served.start()
        self.assertEqual(self.reasons(), ["created"])
        self.logs.client = self.served.client()
        self.assertEqual(len(self.logs.logs()), 10)

    def test_copied_data_directory_is_told(self):
        self.serve()
        self.rule()
        self.put("A")
        self.wait_for_shipped("A")
        self.set_wait(600)
        self.served.restart()
        self.put("B")
        self.stop()
        self.set_wait(1)
        copy = self.folder / "copy"
        shutil.copytree(self.served.data, copy)
        self.served.start()
        self.wait_for_shipped("A", "B")
        self.assertEqual(self.reasons(), ["created"])
        self.stop()
        self.served.data = copy
        self.served.start()
        self.assertEqual(self.reasons(), ["created", "copied"])
        self.put("C")
        shown = self.served.json("store", "show", "--report", "json")
        self.assertEqual([rule["rule"] for rule in shown["waitingRules"]], ["to-lake"])
        self.served.command("store", "confirm", "--unshipped", "skip")
        self.wait_for_shipped("A", "B", "C")
