"""Drops the fields with some keys."""

from config import parse
from settings import InvalidSetting


class Stage:
    def __init__(self, config):
        self.drop = parse(config).get("drop", ["password"])
        if not isinstance(self.drop, list) or not all(isinstance(key, str) for key in self.drop):
            raise InvalidSetting("drop", "must be a list of keys")

    def push(self, batch):
        from wit_world.exports.transformer import Transformed

        self.drop_fields(batch)
        # An empty list: output log i is from input log i.
        return Transformed(batch, [])

    def drop_fields(self, batch):
        dropped = {index for index, key in enumerate(batch.keys) if key in self.drop}
        if not dropped:
            return
        field_ends, field_keys, value_ends, values = [], [], [], []
        field = start = length = 0
        for last in batch.field_ends:
            for field in range(field, last):
                end = batch.value_ends[field]
                if batch.field_keys[field] not in dropped:
                    length += end - start
                    field_keys.append(batch.field_keys[field])
                    value_ends.append(length)
                    values.append(batch.values[start:end])
                start = end
            field = last
            field_ends.append(len(field_keys))
        batch.field_ends, batch.field_keys, batch.value_ends = field_ends, field_keys, value_ends
        batch.values = b"".join(values)
