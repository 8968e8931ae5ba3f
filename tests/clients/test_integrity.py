"""Damage of the stored logs is refused, counted and named, and costs nothing but the damaged logs."""

import json
import shutil
import sqlite3
import unittest
from contextlib import closing

from aliyun.log.proto import LogGroup

from kit import service
from kit.object_stores import S3Server
from kit.waiting import wait_for

SETTINGS = """
[shipping]
longest-wait-seconds = 1
"""


# The row id of the first log group; the audit log has log groups too.
FIRST = "((SELECT shard.id FROM shard JOIN logstore ON logstore.id = shard.logstore WHERE logstore.name = 'logs') << 40)"


def group(number):
    made = LogGroup(Topic="t")
    made.Logs.add(Time=1_790_000_000).Contents.add(Key="id", Value=str(number) * 100)
    return made


class Integrity(unittest.TestCase):
    def serve(self, settings=SETTINGS):
        self.service = service.Service(self, settings=settings)
        self.logstore = self.service.logstore()
        for number in range(10):
            self.logstore.put(group(number))

    def change(self, *statements):
        """Changes the database while the service is stopped."""
        self.service.terminate()
        self.service.code()
        with closing(sqlite3.connect(self.service.data / "logstore.db")) as database, database:
            for statement in statements:
                database.execute(statement)
        self.service.start()

    def flip(self, cursor):
        """Changes one byte of a log group."""
        piece = "substr(body, 1, 30) || x'21' || substr(body, 32)"
        self.change(f"UPDATE log_group SET body = cast({piece} AS BLOB) WHERE id = {FIRST} + {cursor}")

    def verify(self, *options):
        return self.service.run("verify", "--store", *options)

    def test_changed_byte_is_refused_counted_and_named(self):
        self.serve()
        begin = self.logstore.begin(0)
        first = service.position(begin)
        self.flip(4)
        pulled = self.logstore.client.pull_logs(service.PROJECT, "logs", 0, begin)
        self.assertEqual(pulled.get_loggroup_count(), 4)
        with self.assertRaisesRegex(Exception, f"the log group at cursor {first + 4} of shard 0 is damaged"):
            self.logstore.client.pull_logs(service.PROJECT, "logs", 0, pulled.get_next_cursor())
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        counted = [line for line in metrics.splitlines() if line.startswith("logship_damaged_groups_total{")]
        self.assertEqual(len(counted), 1, metrics)
        self.assertIn('shard="0"', counted[0])
        self.assertGreaterEqual(int(counted[0].split()[-1]), 1)
        verified = self.verify()
        self.assertEqual(verified.returncode, 1)
        self.assertIn(f"clients/logs: the log group at cursor {first + 4} of shard 0 is damaged", verified.stdout)

    def test_task_of_damaged_group_fails_and_the_others_ship(self):
        self.serve()
        self.service.bucket("lake")
        self.flip(4)
        self.service.command("rule", "create", "ship", "--logstore", "logs", "--bucket", "lake")

        def finished():
            tasks = self.service.tasks()
            done = sum(task["rows"] or 0 for task in tasks if task["taskStatus"] == "success")
            return tasks if done == 9 else None

        tasks = wait_for(finished)
        failed = [task for task in tasks if task["taskStatus"] == "fail"]
        self.assertEqual(len(failed), 1, tasks)
        self.assertIn("is damaged", failed[0]["taskMessage"])
        self.assertEqual(failed[0]["end"], str(int(failed[0]["begin"]) + 1))
        # The chain of heads leads from task to task.
        shipped = sorted((task for task in tasks if task["taskStatus"] == "success"), key=lambda task: task["begin"])
        self.assertEqual(failed[0]["headBefore"] or shipped[0]["head"], shipped[0]["head"])

    def test_objects_carry_the_heads_of_their_range(self):
        store = S3Server(self)
        self.serve(SETTINGS + store.settings("lake"))
        place = ("--logstore", "logs", "--bucket", store.bucket, "--destination", "lake")
        self.service.command("rule", "create", "ship", *place)

        def shipped(rows):
            return lambda: (tasks := self.service.tasks()) and sum(task["rows"] or 0 for task in tasks) == rows and tasks

        wait_for(shipped(10))
        self.logstore.put(group(10))
        tasks = sorted(wait_for(shipped(11)), key=lambda task: task["begin"])
        for task in tasks:
            said = store.metadata(task["object"])
            self.assertEqual((said["logship-head-before"], said["logship-head"]), (task["headBefore"], task["head"]))
        for one, other in zip(tasks, tasks[1:]):
            self.assertEqual(one["head"], other["headBefore"])
        heads = self.service.folder / "heads"
        self.assertEqual(self.verify("--heads", heads).returncode, 0)
        heads = [json.loads(line) for line in heads.read_text().splitlines()]
        self.assertEqual([head["head"] for head in heads if head["logstore"] == "logs"], [tasks[-1]["head"]])
        # The heads are read back and compared.
        self.assertEqual(self.service.run("verify").returncode, 0)
        for column, name in ("head_before", "headBefore"), ("head_after", "head"):
            self.change(f"UPDATE task SET {column} = zeroblob(32) WHERE created = {tasks[0]['id'].split('_')[0]}")
            verified = self.service.run("verify")
            self.assertNotEqual(verified.returncode, 0)
            self.assertIn(f"its metadata has the {name} {tasks[0][name]}, its task", verified.stdout)
            self.assertIn("1 objects don't match", verified.stderr)
            self.change(f"UPDATE task SET {column} = x'{tasks[0][name]}' WHERE created = {tasks[0]['id'].split('_')[0]}")

    def test_kept_heads_tell_an_old_backup_and_a_removed_group(self):
        self.serve()
        self.service.terminate()
        self.service.code()
        old = self.service.folder / "old"
        shutil.copytree(self.service.data, old)
        self.service.start()
        self.logstore.put(group(10))
        heads = self.service.folder / "heads"
        written = self.verify("--heads", heads)
        self.assertEqual(written.returncode, 0, written.stderr)
        self.assertRegex(written.stdout, r"\d\d log groups in \d shards match their checksums")
        self.logstore.put(group(11))
        same = self.verify("--against-heads", heads)
        self.assertEqual(same.returncode, 0, same.stdout)
        self.assertRegex(same.stdout, r"(\d) of \1 kept heads match")
        replayed = self.service.run("verify", "--data", old, "--against-heads", heads)
        self.assertEqual(replayed.returncode, 1)
        self.assertIn("later log groups are gone", replayed.stdout)
        self.change(f"DELETE FROM log_group WHERE id = {FIRST} + 3")
        missing = self.verify("--heads", heads)
        self.assertEqual(missing.returncode, 1)
        self.assertRegex(missing.stdout, r"clients/logs: the log groups from cursor \d+ to \d+ of shard 0 are missing")
        self.assertIn("no heads were written", missing.stderr)


if __name__ == "__main__":
    unittest.main()
