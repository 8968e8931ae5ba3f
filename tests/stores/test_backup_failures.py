"""A full disk, a killed backup and a killed restore: nothing half-made counts as whole, the original stays, and a
repetition works."""

import os
import resource
import shutil
import signal
import subprocess
import unittest

from kit import paths
from kit.process import temporary_folder
from kit.service import Service

LOGS = 400


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = temporary_folder(self)
        served = Service(self)
        served.logstore()
        # Random values, so that the database has about a megabyte.
        lines = "".join(f'{{"n":"{os.urandom(1500).hex()}"}}\n' for _ in range(LOGS))
        file = self.folder / "logs.ndjson"
        file.write_text(lines)
        served.command("put", "logs", str(file))
        served.terminate()
        served.code()
        self.data = served.data
        self.size = (self.data / "logstore.db").stat().st_size
        self.assertGreater(self.size, 900_000)

    def run_limited(self, *command, limit=None, kills=False):
        """Runs the program with files of at most `limit` bytes. A larger write fails, or kills the program."""

        def limit_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kills else signal.SIG_IGN)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        environment = {**os.environ, "LOGSHIP_DATA": str(self.data)}
        command = [str(paths.PROGRAM), *map(str, command)]
        return subprocess.run(command, preexec_fn=limit_files, env=environment, capture_output=True, text=True, timeout=60)

    def succeed(self, *command):
        done = self.run_limited(*command)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def check_data(self, data):
        verified = self.succeed("verify", "--store", "--data", data)
        self.assertIn("match their checksums", verified)

    def limits(self):
        return [0, 4096, 100_000, self.size // 2, self.size - 4096]

    def check_backup(self, backup):
        restored = self.folder / "checked"
        self.succeed("restore", backup, "--data", restored)
        self.check_data(restored)
        shutil.rmtree(restored)


class Backups(Case):
    def test_full_disk_leaves_no_backup(self):
        for number, limit in enumerate(self.limits()):
            with self.subTest(limit=limit):
                backup = self.folder / f"backup-{number}"
                failed = self.run_limited("backup", backup, limit=limit)
                self.assertNotEqual(failed.returncode, 0)
                self.assertRegex(failed.stderr, "(?i)too large|full|I/O")
                self.assertFalse(backup.exists(), "what was made is removed")
                self.succeed("backup", backup)
                self.check_backup(backup)
        self.check_data(self.data)

    def test_killed_backup_is_no_backup_and_is_repeated(self):
        for number, limit in enumerate(self.limits()):
            with self.subTest(limit=limit):
                backup = self.folder / f"backup-{number}"
                killed = self.run_limited("backup", backup, limit=limit, kills=True)
                self.assertEqual(killed.returncode, -signal.SIGXFSZ)
                if backup.exists():
                    refused = self.run_limited("restore", backup, "--data", self.folder / "none")
                    self.assertIn("no complete backup", refused.stderr)
                self.assertFalse((self.folder / "none").exists())
                self.succeed("backup", backup)
                self.assertFalse((backup / "backup.unfinished").exists())
                self.check_backup(backup)
        self.check_data(self.data)

    def test_directory_with_other_files_is_refused(self):
        backup = self.folder / "mine"
        backup.mkdir()
        (backup / "file").write_text("mine")
        self.assertIn("is not empty", self.run_limited("backup", backup).stderr)
        complete = self.folder / "complete"
        self.succeed("backup", complete)
        self.assertIn("is not empty", self.run_limited("backup", complete).stderr)
        self.assertEqual((backup / "file").read_text(), "mine")
        self.check_backup(complete)


class Restores(Case):
    def test_full_disk_leaves_no_data_directory(self):
        backup = self.folder / "backup"
        self.succeed("backup", backup)
        for number, limit in enumerate(self.limits()):
            with self.subTest(limit=limit):
                data = self.folder / f"data-{number}"
                failed = self.run_limited("restore", backup, "--data", data, limit=limit)
                self.assertNotEqual(failed.returncode, 0)
                self.assertFalse(data.exists(), "what was made is removed")
                self.succeed("restore", backup, "--data", data)
                self.check_data(data)

    def test_killed_restore_is_no_store_and_is_repeated(self):
        backup = self.folder / "backup"
        self.succeed("backup", backup)
        for number, limit in enumerate(self.limits()):
            with self.subTest(limit=limit):
                data = self.folder / f"data-{number}"
                killed = self.run_limited("restore", backup, "--data", data, limit=limit, kills=True)
                self.assertEqual(killed.returncode, -signal.SIGXFSZ)
                served = self.run_limited("serve", "--data", data, "--listen", "127.0.0.1:0")
                self.assertNotEqual(served.returncode, 0)
                self.assertIn("logship restore", served.stderr)
                self.succeed("restore", backup, "--data", data)
                self.check_data(data)
