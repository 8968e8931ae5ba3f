"""The invariants of `log-batch`, which every stage that takes logs checks."""

from itertools import islice
from operator import le

NANOS = 1_000_000_000


def broken(batch):
    """What is wrong with a batch, in words; none where nothing is."""
    logs, fields = len(batch.times), len(batch.field_keys)
    if len(batch.log_groups) != logs:
        return "log-groups has not one element a log"
    if len(batch.field_ends) != logs:
        return "field-ends has not one element a log"
    if batch.nanos and (len(batch.nanos) != logs or max(batch.nanos) >= NANOS):
        return "nanos has not one element below 1,000,000,000 a log"
    if len(batch.value_ends) != fields:
        return "value-ends has not one element a field"
    if not covers(batch.field_ends, fields):
        return "field-ends falls, or does not end at the count of fields"
    if not covers(batch.value_ends, len(batch.values)):
        return "value-ends falls, or does not end at the length of values"
    if max(batch.log_groups, default=-1) >= len(batch.groups):
        return "log-groups has an index outside groups"
    if max(batch.field_keys, default=-1) >= len(batch.keys):
        return "field-keys has an index outside keys"
    return None


def covers(ends, total):
    """Whether the ends never fall, and the last one is the total."""
    # `le` by `map` stays in C: a loop in Python would take ten times as long.
    return (ends[-1] if ends else 0) == total and all(map(le, ends, islice(ends, 1, None)))
