"""Logs whose values follow from their ids, and the SQL that checks them after shipping."""

from concurrent.futures import ThreadPoolExecutor

import duckdb
from aliyun.log.proto import LogGroup

from kit import service

LOGS_OF_A_GROUP = 2500
SOURCE = "10.0.0.7"
BEGIN = 1_790_000_000
PRODUCERS = 4

# Type of a Parquet column, and its value in the log with the id `i`.
COLUMNS = {
    "__time__": ("int64", f"{BEGIN} + i // 1000"),
    "__topic__": ("string", f"'topic-' || (i // {LOGS_OF_A_GROUP} % 7)"),
    "__source__": ("string", f"'{SOURCE}'"),
    "id": ("int64", "i"),
    "small": ("int32", "i % 4001 - 2000"),
    "large": ("int64", "i * 9007199254741 - 4503599627370496"),
    "ratio": ("double", "i / 7"),
    "flag": ("boolean", "i % 3 = 0"),
    "message": ("string", """'line ' || i || chr(10) || '"no" ' || (i % 977) || ', ünï, 你好 🚢' || chr(9) || '\\'"""),
    # Some logs lack it, in some it is empty.
    "rare": ("string", "CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'r' || (i % 5) END"),
    # In some logs it is no number.
    "odd": ("int32", "CASE WHEN i % 11 > 0 THEN i % 11 END"),
}
TYPES = {"int32": "INTEGER", "int64": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "string": "VARCHAR"}
TRUE, FALSE = ("true", "TRUE", "1"), ("false", "False", "0")


def parquet_columns():
    """The columns as an option of the command line."""
    return ",".join(f"{name}:{kind}" for name, (kind, _) in COLUMNS.items())


def group(first):
    """The log group with the ids from `first` on."""
    made = LogGroup(Topic=f"topic-{first // LOGS_OF_A_GROUP % 7}", Source=SOURCE)
    for number in range(first, first + LOGS_OF_A_GROUP):
        log = made.Logs.add(Time=BEGIN + number // 1000)
        for key, value in fields(number):
            log.Contents.add(Key=key, Value=value)
    return made


def fields(number):
    yield "id", str(number)
    yield "small", str(number % 4001 - 2000)
    yield "large", str(number * 9007199254741 - 4503599627370496)
    yield "ratio", repr(number / 7)
    yield "flag", (FALSE if number % 3 else TRUE)[number // 3 % 3]
    yield "message", f'line {number}\n"no" {number % 977}, ünï, 你好 🚢\t\\'
    if number % 5:
        yield "rare", f"r{number % 5}" if number % 5 > 1 else ""
    yield "odd", str(number % 11) if number % 11 else "n/a"


def put(served, logstore, ids):
    """Puts the logs with the ids of a range by several clients at a time."""

    def put_some(firsts):
        client = served.client()
        for first in firsts:
            client.put_log_raw(service.PROJECT, logstore, group(first))

    firsts = range(ids.start, ids.stop, LOGS_OF_A_GROUP)
    with ThreadPoolExecutor(PRODUCERS) as pool:
        list(pool.map(put_some, (firsts[number::PRODUCERS] for number in range(PRODUCERS))))


def read_parquet(files):
    return duckdb.read_parquet([str(file) for file in files])


def read_json(files):
    columns = dict.fromkeys(COLUMNS, "VARCHAR")
    names = [str(file) for file in files]
    return typed(duckdb.read_json(names, format="newline_delimited", columns=columns))


def read_csv(files):
    options = {
        **{"columns": dict.fromkeys(COLUMNS, "VARCHAR"), "auto_detect": False, "header": False, "parallel": False},
        **{"delim": ",", "quote": '"', "escape": '"', "new_line": "\\n"},
        # Missing and empty are two things.
        **{"nullstr": "", "allow_quoted_nulls": False},
    }
    arguments = ", ".join(f"{name} = ?" for name in options)
    names = [str(file) for file in files]
    return typed(duckdb.sql(f"SELECT * FROM read_csv(?, {arguments})", params=[names, *options.values()]))


def typed(texts):
    """Casts columns of text to the types of the columns."""
    casts = (f'TRY_CAST("{name}" AS {TYPES[kind]}) AS "{name}"' for name, (kind, _) in COLUMNS.items())
    return texts.project(", ".join(casts))


def check(test, rows, logs):
    """Each log with an id below `logs` is in `rows` once, and each of its values is right."""
    kinds = {name: TYPES[kind] for name, (kind, _) in COLUMNS.items()}
    test.assertEqual(dict(zip(rows.columns, map(str, rows.types))), kinds)
    wrong = (f'count_if("{name}" IS DISTINCT FROM ({value}))' for name, (_, value) in COLUMNS.items())
    found = f"count(*), count(DISTINCT i), min(i), max(i), {', '.join(wrong)}"
    (counts,) = rows.project("*, id AS i").aggregate(found).fetchall()
    test.assertEqual(counts[:4], (logs, logs, 0, logs - 1), "logs, ids, least and greatest id")
    test.assertEqual(dict(zip(COLUMNS, counts[4:])), dict.fromkeys(COLUMNS, 0), "wrong values of each column")
