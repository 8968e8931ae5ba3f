"""What the service runs and trusts: compiled code, components and the data directory."""

import os
import subprocess
import unittest

from kit import service
from kit.paths import PROGRAM
from kit.process import temporary_folder
from kit.waiting import PATIENCE


class CodeCache(unittest.TestCase):
    """The cache of compiled code."""

    def setUp(self):
        self.cache = temporary_folder(self) / "cache"
        self.service = service.Service(self, "--cache", self.cache)
        self.service.logstore()
        self.service.bucket("lake")
        self.service.command("rule", "create", "all", "--logstore", "logs", "--bucket", "lake", "--format", "csv", "--columns", "a")

    def entries(self):
        return sorted(self.cache.rglob("*.code"))

    def warnings(self):
        return [line for line in self.service.lines() if "compiled-code cache" in line.get("message", "")]

    def check_restart(self, damaged):
        """The service starts and works, reports the damaged entries that it needs, and replaces them."""
        self.service.terminate()
        self.service.code()
        self.service.start()
        self.compile_all()
        self.assertEqual(len(self.warnings()), damaged)

    def compile_all(self):
        for name in ("encode-csv", "encode-json", "compress-snappy", "siem-hec", "object-path"):
            self.service.command("stage", "show", name)

    def test_damaged_entries_never_run(self):
        self.compile_all()
        self.check_restart(0)
        entries = self.entries()
        self.assertGreaterEqual(len(entries), 5)
        for number, entry in enumerate(entries):
            content = bytearray(entry.read_bytes())
            if number % 5 == 0:
                content[len(content) // 2] ^= 1
            elif number % 5 == 1:
                content[40] ^= 0x80
            elif number % 5 == 2:
                content = content[:5000]
            elif number % 5 == 3:
                content = b""
            else:
                entry.rename(self.cache / "elsewhere")
                entry.symlink_to(self.cache / "elsewhere")
                continue
            entry.write_bytes(content)
        self.check_restart(len(entries))
        self.assertTrue((self.cache / "elsewhere").exists(), "only the link is deleted")
        self.check_restart(0)

    def test_code_of_another_stage_never_runs(self):
        self.compile_all()
        entries = self.entries()
        contents = [entry.read_bytes() for entry in entries]
        for entry, content in zip(entries, contents[1:] + contents[:1]):
            entry.write_bytes(content)
        self.check_restart(len(entries))


class Folders(unittest.TestCase):
    """Folders that others may write to."""

    def setUp(self):
        self.folder = temporary_folder(self)
        self.data = self.folder / "data"

    def refusal(self, *options):
        command = [PROGRAM, "serve", "--data", self.data, "--listen", "127.0.0.1:0", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_refuses_folders_that_others_may_write_to(self):
        running = service.Service(self)
        running.terminate()
        running.code()
        self.data = running.data
        components = self.folder / "components"
        components.mkdir()
        settings = self.folder / "settings.toml"
        settings.write_text(f'[stages]\nfolder = "{components}"\n')
        cache = self.folder / "cache"
        cache.mkdir()
        for folder, options in (
            (self.data, ()),
            (self.data / "stages", ()),
            (components, ("--config", settings)),
            (cache, ("--cache", cache)),
        ):
            for mode in (0o777, 0o770, 0o702):
                folder.chmod(mode)
                error = self.refusal(*options)
                self.assertIn(f"others may write to {folder}", error)
                self.assertIn(f"chmod go-w {folder}", error)
                folder.chmod(0o700)
        running.start()

    def test_first_start_makes_private_folders(self):
        self.addCleanup(os.umask, os.umask(0))
        running = service.Service(self)
        for folder in (running.data, running.data / "stages"):
            self.assertEqual(folder.stat().st_mode & 0o777, 0o700, folder)

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a folder away")
    def test_refuses_data_of_another_user(self):
        self.data.mkdir()
        os.chown(self.data, 12345, -1)
        error = self.refusal()
        self.assertIn("belongs to user 12345", error)
        self.assertIn(f"chown -R 0 {self.data}", error)


if __name__ == "__main__":
    unittest.main()
