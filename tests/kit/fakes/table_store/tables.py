"""Tables and their rows, with the limits of Table Store."""

import re
import time
from dataclasses import dataclass, field

from kit.fakes.table_store.answers import Refused, invalid
from kit.fakes.table_store.plain_buffer import DELETE_ALL, DELETE_ONE

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
KEY_TYPES = {1: int, 2: str, 3: bytearray}
MOST_KEY_BYTES = 1024
MOST_VALUE_BYTES = 2 << 20
MOST_COLUMNS = 1024


@dataclass
class Table:
    """A table. `rows` has the columns of each row, by its key; `writes` counts the writes of each."""

    name: str
    meta: object
    options: object
    rows: dict = field(default_factory=dict)
    writes: dict = field(default_factory=dict)
    # The time of each cell, by key and column.
    times: dict = field(default_factory=dict)

    @property
    def key(self):
        return [(column.name, KEY_TYPES[column.type or 1]) for column in self.meta.primary_key]

    def key_of(self, cells):
        """Checks a row's key. Returns it as a tuple."""
        names = [name for name, _ in cells]
        if names != [name for name, _ in self.key]:
            raise Refused("OTSInvalidPK", f"Validate PK name fail. Input: {names}, Meta: {[n for n, _ in self.key]}.")
        for (name, value), (_, kind) in zip(cells, self.key, strict=True):
            if type(value) is not kind:
                raise Refused("OTSInvalidPK", f"Validate PK type fail. Input of {name}: {type(value).__name__}.")
            if kind is not int and len(_bytes(value)) > MOST_KEY_BYTES:
                raise invalid(f"The length of primary key column: '{name}' exceeds the MaxLength: 1024.")
        return tuple(bytes(value) if isinstance(value, bytearray) else value for _, value in cells)

    def check_columns(self, columns):
        if len(columns) > MOST_COLUMNS:
            raise Refused("OTSOutOfColumnCountLimit", "The number of attribute columns exceeds the limit: 1024.")
        names = [column[0] for column in columns]
        if len(set(names)) < len(names):
            raise invalid("Duplicated attribute column name.")
        keys = {name for name, _ in self.key}
        for name, value, _, stamp in columns:
            if name in keys:
                raise invalid(f"Duplicated attribute column name with primary key column: '{name}'.")
            if not NAME.fullmatch(name):
                raise invalid(f"Invalid column name: '{name}'.")
            if isinstance(value, (str, bytearray)) and len(_bytes(value)) > MOST_VALUE_BYTES:
                raise invalid(f"The length of attribute column: '{name}' exceeds the MaxLength: 2097152.")
            self._check_time(stamp)

    def _check_time(self, stamp):
        most = self.options.deviation_cell_version_in_sec or 86_400
        if stamp is not None and abs(stamp / 1000 - time.time()) > most:
            raise invalid("Timestamp of cell is out of range: deviation_cell_version_in_sec.")

    def put(self, key, columns):
        self._wrote(key)
        self.rows[key] = {}
        self.times[key] = {}
        self._set(key, columns)

    def update(self, key, columns):
        self._wrote(key)
        self._set(key, columns)

    def _wrote(self, key):
        self.writes[key] = self.writes.get(key, 0) + 1

    def _set(self, key, columns):
        row, times = self.rows.setdefault(key, {}), self.times.setdefault(key, {})
        for name, value, operation, stamp in columns:
            stamp = time.time() * 1000 if stamp is None else stamp
            if operation in (DELETE_ALL, DELETE_ONE):
                row.pop(name, None)
            elif stamp >= times.get(name, 0):
                row[name], times[name] = value, stamp


def check_table(meta, options):
    """Checks a new table."""
    if not NAME.fullmatch(meta.table_name):
        raise invalid(f"Invalid table name: '{meta.table_name}'.")
    names = [column.name for column in meta.primary_key]
    if not 1 <= len(names) <= 4 or len(set(names)) < len(names):
        raise invalid("The number of primary key columns must be in range: [1, 4].")
    for column in [*meta.primary_key, *meta.defined_column]:
        if not NAME.fullmatch(column.name):
            raise invalid(f"Invalid column name: '{column.name}'.")
    if options.max_versions < 1 or (options.time_to_live != -1 and options.time_to_live < 86_400):
        raise invalid("Invalid table options.")


def _bytes(value):
    return value.encode() if isinstance(value, str) else value
