"""Runs consumers of the SDK, and reads what they recorded."""

import json
import sys
from pathlib import Path

from kit import service
from kit.process import Process

GROUP = "workers"
# The default of the SDK, in seconds.
SAVE_SECONDS = 3
FOLDER = Path(__file__).resolve().parents[1]


class Worker(Process):
    """A process of `kit.sdk_consumer`."""

    def __init__(self, test, logstore, name, save=SAVE_SECONDS, key=None):
        folder = test.service.folder
        super().__init__(test, folder / f"{name}.log", name)
        self.name = name
        self.output = folder / f"{name}.ndjson"
        key = key or test.service.admin
        settings = {
            **{"endpoint": test.service.endpoint(), "id": key.id, "secret": key.secret},
            **{"project": service.PROJECT, "logstore": logstore.name, "group": GROUP, "name": name},
            **{"output": str(self.output), "save": save},
        }
        self.spawn([sys.executable, "-m", "kit.sdk_consumer", json.dumps(settings)], cwd=FOLDER)

    def leave(self):
        """Tells it to end by shutdown()."""
        self.terminate()

    def pulls(self):
        """The recorded pulls. A line that a kill cut off is of logs that it did not finish."""
        lines = self.output.read_bytes().split(b"\n")[:-1] if self.output.exists() else []
        return [json.loads(line) for line in lines]

    def ids(self):
        """The ids of all logs that it processed."""
        return [number for pull in self.pulls() for ids in pull["ids"] for number in ids]

    def ids_since(self, checkpoints):
        """The ids of logs that it processed at or after the checkpoint of their shard."""
        found = []
        for pull in self.pulls():
            for position, ids in enumerate(pull["ids"], pull["first"]):
                if position >= checkpoints[pull["shard"]]:
                    found += ids
        return found
