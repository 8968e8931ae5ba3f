"""A real Redis server, from Debian's package."""

import socket
import subprocess

from kit import debian
from kit.names import ADDRESS
from kit.process import Process, free_port, temporary_folder
from kit.waiting import wait_for

PROGRAM = "usr/bin/redis-server"


class RedisServer(Process):
    """For one test case."""

    def __init__(self, test):
        own = temporary_folder(test)
        super().__init__(test, own / "log")
        folder = debian.unpacked(debian.FOLDER / "redis", ("redis-server",), PROGRAM)
        libraries = ":".join(str(path) for path in (folder / "usr/lib").glob("*-linux-gnu"))
        self.port = free_port()
        self.url = f"redis://{ADDRESS}:{self.port}"
        command = [folder / PROGRAM, "--port", str(self.port), "--bind", ADDRESS, "--save", "", "--dir", own]
        self.spawn(command, {"LD_LIBRARY_PATH": libraries}, stdout=subprocess.DEVNULL)
        wait_for(self._answers, message=self.said)

    def publish(self, channel, message):
        """Publishes a message. Returns the number of its receivers."""
        parts = [b"PUBLISH", channel.encode(), message]
        request = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection((ADDRESS, self.port)) as connection:
            connection.sendall(request)
            answer = connection.makefile("rb").readline()
        assert answer.startswith(b":"), answer
        return int(answer[1:])

    def _answers(self):
        try:
            return self.publish("none", b"") == 0
        except OSError:
            return False
