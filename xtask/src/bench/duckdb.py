"""Converts an NDJSON file (first argument) to a Parquet file (second argument)."""

import sys

import duckdb

source, target = sys.argv[1:]
connection = duckdb.connect(config={"threads": 1})
logs = "SELECT * FROM read_json(?, format = 'newline_delimited')"
connection.execute(f"COPY ({logs}) TO '{target}' (FORMAT parquet, COMPRESSION snappy)", [source])
