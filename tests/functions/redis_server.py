"""A real Redis server, of Debian's package."""

import os
import socket
import subprocess

import app  # noqa: F401 - it says where the other tests' modules are
import debian
from waiting import wait_for

PROGRAM = "usr/bin/redis-server"


class RedisServer:
    """For one test case."""

    def __init__(self, test):
        folder = debian.unpacked(debian.FOLDER / "redis", ("redis-server",), PROGRAM)
        libraries = ":".join(str(path) for path in (folder / "usr/lib").glob("*-linux-gnu"))
        with socket.socket() as tried:
            tried.bind(("127.0.0.1", 0))
            self.port = tried.getsockname()[1]
        command = [folder / PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        test.addCleanup(self.close)
        wait_for(self._answers)
        self.url = f"redis://127.0.0.1:{self.port}"

    def close(self):
        self.process.kill()
        self.process.wait()

    def publish(self, channel, message):
        """How many got the message."""
        parts = [b"PUBLISH", channel.encode(), message]
        request = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(request)
            answer = connection.makefile("rb").readline()
        assert answer.startswith(b":"), answer
        return int(answer[1:])

    def _answers(self):
        try:
            return self.publish("none", b"") == 0
        except OSError:
            return False
