"""A transformer that requests everything a stage must not have, and reports the results in the fields of each log."""

import os
import random
import socket
import time

from wit_world import exports
from wit_world.exports.transformer import Description


class Transformer(exports.Transformer):
    def describe(self):
        return Description(name="nosy", version="0.1.0", config_schema='{"type": "object"}')


def attempts():
    """Returns the result of each attempt, by name."""
    return {
        "time": str(time.time()),
        "monotonic": str(time.monotonic()),
        "random": os.urandom(16).hex(),
        "chosen": str(random.SystemRandom().randrange(1 << 60)),
        "environment": repr(dict(os.environ)),
        "file": outcome(lambda: open("/etc/passwd").read()),
        "written": outcome(lambda: open("/tmp/nosy", "w").write("x")),
        "folder": outcome(lambda: os.listdir("/")),
        "socket": outcome(connect),
        "name": outcome(lambda: socket.getaddrinfo("localhost", 80)),
    }


def connect():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.connect(("127.0.0.1", 80))


def outcome(attempt):
    try:
        return repr(attempt())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
