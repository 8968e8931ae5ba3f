"""Encodes logs by pyodps, and prints a JSON list of [name, rows a second, bytes a row]."""

import datetime
import io
import json
import statistics
import sys
import time
from types import SimpleNamespace

import pyarrow as pa
from odps import options
from odps.models import Record, TableSchema
from odps.tunnel.io import writer as client
from odps.tunnel.io.types import odps_schema_to_arrow_schema
from odps.tunnel.io.writer import BaseArrowWriter, BaseRecordWriter

ROUNDS = 5
# The client asks whether it got a frame of pandas, which is not installed.
client.pd = SimpleNamespace(DataFrame=())
CONVERT = {
    "string": str,
    "int": int,
    "bigint": int,
    "double": float,
    "datetime": lambda value: datetime.datetime.fromtimestamp(int(value), datetime.timezone.utc),
}


class Discard(io.RawIOBase):
    size = 0

    def writable(self):
        return True

    def write(self, data):
        self.size += len(data)
        return len(data)


def records(schema, rows, out):
    writer = BaseRecordWriter(schema, out)
    for row in rows:
        writer.write(Record(schema=schema, values=row))
    writer.close()


def batches(schema, rows, out):
    """From Python values, which the client's users have; it takes only columns."""
    writer = BaseArrowWriter(schema, out)
    arrow = odps_schema_to_arrow_schema(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows), arrow)]
    writer.write(pa.RecordBatch.from_arrays(arrays, schema=arrow))
    writer.close()


def main():
    columns, file = json.loads(sys.argv[1]), sys.argv[2]
    options.local_timezone = False
    options.tunnel.enable_client_metrics = False
    schema = TableSchema.from_lists([name.strip("_") for name, _ in columns], [kind for _, kind in columns])
    with open(file) as lines:
        logs = [json.loads(line) for line in lines]
    rows = [[CONVERT[kind](log[name]) for name, kind in columns] for log in logs]
    found = []
    for name, encode in ("pyodps record writer", records), ("pyarrow and pyodps Arrow writer", batches):
        times, size = [], 0
        for _ in range(ROUNDS):
            out, begun = Discard(), time.process_time()
            encode(schema, rows, out)
            times.append(time.process_time() - begun)
            size = out.size
        found.append([name, len(rows) / statistics.median(times), size / len(rows)])
    print(json.dumps(found))


main()
