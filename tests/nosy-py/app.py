"""A transformer that asks for all that a stage may not have, and says in the fields of each log what it got."""

import os
import random
import socket
import time

from wit_world import exports
from wit_world.exports.transformer import Description


class Transformer(exports.Transformer):
    def describe(self):
        return Description(name="nosy", version="0.1.0", config_schema='{"type": "object"}')


def seen():
    """What can be had, by name."""
    return {
        "time": str(time.time()),
        "monotonic": str(time.monotonic()),
        "random": os.urandom(16).hex(),
        "chosen": str(random.SystemRandom().randrange(1 << 60)),
        "environment": repr(dict(os.environ)),
        "file": told(lambda: open("/etc/passwd").read()),
        "written": told(lambda: open("/tmp/nosy", "w").write("x")),
        "folder": told(lambda: os.listdir("/")),
        "socket": told(connect),
        "name": told(lambda: socket.getaddrinfo("localhost", 80)),
    }


def connect():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.connect(("127.0.0.1", 80))


def told(act):
    try:
        return repr(act())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
