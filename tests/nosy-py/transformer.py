"""Sessions of the stage."""

import sys

from app import attempts
from wit_world import exports
from wit_world.exports.transformer import Transformed


class Session(exports.transformer.Session):
    @classmethod
    def open(cls, config):
        if "exit" in config:
            sys.exit("as configured")
        return cls()

    def push(self, batch):
        print("a stage that prints")
        results = attempts()
        values = [value.encode() for value in results.values()]
        logs = len(batch.times)
        batch.keys = list(results)
        batch.field_keys = list(range(len(values))) * logs
        batch.field_ends = [len(values) * (log + 1) for log in range(logs)]
        batch.value_ends, end = [], 0
        for value in values * logs:
            end += len(value)
            batch.value_ends.append(end)
        batch.values = b"".join(values * logs)
        return Transformed(batch, [])
