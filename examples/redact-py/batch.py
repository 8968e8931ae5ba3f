"""Checks the invariants of `log-batch`, as every stage that takes logs must."""

from itertools import islice
from operator import le

NANOS = 1_000_000_000


def broken_invariant(batch):
    """Returns a description of the broken invariant, or None if the batch is valid."""
    logs, fields = len(batch.times), len(batch.field_keys)
    if len(batch.log_groups) != logs:
        return "log-groups must have one element per log"
    if len(batch.field_ends) != logs:
        return "field-ends must have one element per log"
    if batch.nanos and (len(batch.nanos) != logs or max(batch.nanos) >= NANOS):
        return "nanos must have one element below 1,000,000,000 per log"
    if len(batch.value_ends) != fields:
        return "value-ends must have one element per field"
    if not covers(batch.field_ends, fields):
        return "field-ends must be sorted and end with the number of fields"
    if not covers(batch.value_ends, len(batch.values)):
        return "value-ends must be sorted and end with the length of values"
    if max(batch.log_groups, default=-1) >= len(batch.groups):
        return "log-groups has an index outside groups"
    if max(batch.field_keys, default=-1) >= len(batch.keys):
        return "field-keys has an index outside keys"
    return None


def covers(ends, total):
    """Returns True if the ends are sorted and the last one is the total."""
    # `map` with `le` runs in C; a Python loop would take ten times as long.
    return (ends[-1] if ends else 0) == total and all(map(le, ends, islice(ends, 1, None)))
