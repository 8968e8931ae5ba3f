"""Child processes, temporary folders and free ports of test cases."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from kit.paths import FAILPOINTS_PROGRAM, PROGRAM
from kit.names import ADDRESS
from kit.waiting import PATIENCE

# Bytes of a log that a failed assertion shows.
SHOWN = 4000


class Process:
    """A process of one test case. Standard error goes to the file `log`. The process is killed when the test ends."""

    def __init__(self, test, log, name=None):
        self.log = Path(log)
        self.label = name or type(self).__name__
        self.process = None
        test.addCleanup(self.kill)

    def spawn(self, command, environment=None, append=False, **streams):
        """Starts the command. `environment` extends the one of the tests."""
        environment = {**os.environ, **{name: str(value) for name, value in (environment or {}).items()}}
        # Only a program that is built for it aborts at a step.
        if "FAILPOINT" in environment and command[0] == PROGRAM:
            command = [FAILPOINTS_PROGRAM, *command[1:]]
        with open(self.log, "ab" if append else "wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment, **streams)

    def is_alive(self):
        return self.process.poll() is None

    def terminate(self):
        """Sends SIGTERM, as a supervisor does."""
        self.process.send_signal(signal.SIGTERM)

    def code(self, patience=2 * PATIENCE):
        """Waits for the end. Returns the exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.label} did not end within {patience} seconds:\n{self.said()}") from None

    def kill(self):
        """Kills it, if it was started."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()

    def said(self):
        """The end of its log."""
        return self.log.read_text(errors="replace")[-SHOWN:] if self.log.exists() else ""

    def lines(self):
        """The complete JSON lines of its log."""
        # The last line may be incomplete.
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1] if line.startswith("{")]

    def memory(self, what="VmRSS"):
        """Bytes of memory: resident now, or at most with VmHWM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{what}:"))
        return int(line.split()[1]) << 10


def of_class(cls):
    """Stands in for a test: what it starts lives until all tests of the class have ended."""
    return SimpleNamespace(addCleanup=cls.addClassCleanup)


def temporary_folder(test):
    """A folder that is removed when the test ends."""
    folder = tempfile.TemporaryDirectory(prefix="logship-", ignore_cleanup_errors=True)
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


def free_port(kind=socket.SOCK_STREAM):
    """A port of loopback that is free now."""
    with socket.socket(type=kind) as tried:
        tried.bind((ADDRESS, 0))
        return tried.getsockname()[1]
