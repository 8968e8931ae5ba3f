"""Runs the fake alone, until it is killed: `python -m kit.fakes.table_store KEY-ID SECRET`."""

import sys
import threading

from kit.fakes.keys import Keyring
from kit.fakes.table_store import INSTANCE, REGION, Server

keys = Keyring()
keys.add(key_id=sys.argv[1], secret=sys.argv[2])
server = Server(keys)
print(f"{server.url} instance {INSTANCE} region {REGION}", flush=True)
threading.Event().wait()
