"""`logship fsck` reports a damaged database, and salvages what is readable into a new data directory."""

import sqlite3
import unittest
from contextlib import closing

from aliyun.log.proto import LogGroup

from kit import service

GROUPS = 60
PAGE = 4096


class Fsck(unittest.TestCase):
    def serve(self):
        self.service = service.Service(self)
        logstore = self.service.logstore()
        for number in range(GROUPS):
            group = LogGroup(Topic="t")
            group.Logs.add(Time=1_790_000_000).Contents.add(Key="id", Value=str(number))
            logstore.put(group)
        self.service.terminate()
        self.service.code()
        self.file = self.service.data / "logstore.db"

    def smash(self):
        """Overwrites the root of the log groups' tree."""
        with closing(sqlite3.connect(self.file)) as database:
            schema = "SELECT rootpage FROM sqlite_schema WHERE name = 'log_group'"
            root = database.execute(schema).fetchone()[0]
        with self.file.open("r+b") as file:
            file.seek((root - 1) * PAGE)
            self.assertIn(file.read(1), (b"\x05", b"\x0d"))
            file.seek((root - 1) * PAGE)
            file.write(b"\xa5" * PAGE)

    def test_intact_directory_has_no_damage(self):
        self.serve()
        checked = self.service.run("fsck")
        self.assertEqual((checked.returncode, checked.stdout.splitlines()[-1]), (0, "no damage"), checked.stderr)

    def test_salvaged_directory_serves_the_logs_of_a_smashed_tree(self):
        self.serve()
        self.smash()
        checked = self.service.run("fsck")
        self.assertEqual(checked.returncode, 1)
        self.assertIn("structure:", checked.stdout)
        new = self.service.folder / "new"
        salvaged = self.service.command("fsck", "--salvage", new)
        self.assertIn("log groups to", salvaged)
        self.assertIn("logship verify --store", salvaged)
        # The same keys and cursors hold.
        self.service.data = new
        self.service.start()
        logs = service.Logstore(self.service.client(), "logs").logs()
        ids = sorted(int(dict(log.fields)["id"]) for log in logs)
        self.assertEqual(ids, list(range(GROUPS)))

    def test_refuses_a_running_service_and_an_existing_target(self):
        self.serve()
        new = self.service.folder / "new"
        self.service.start()
        self.assertIn("in use", self.service.refused("fsck", "--salvage", new))
        self.service.terminate()
        self.service.code()
        self.service.command("fsck", "--salvage", new)
        self.service.refused("fsck", "--salvage", new)


if __name__ == "__main__":
    unittest.main()
