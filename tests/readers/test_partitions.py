"""Objects that are partitioned by the time of logs, read as the tables of a data lake: each log is in its own hour."""

import json
import random
import unittest
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.dataset
import pyarrow.parquet

from kit import ship
from kit.process import temporary_folder

PARTITION = "ds=%Y%m%d/hour=%H/logs"
LOGS = 6000


class Partitions(unittest.TestCase):
    def write(self, times):
        """A file of numbered logs."""
        file = temporary_folder(self) / "logs.ndjson"
        lines = (json.dumps({"__time__": time, "n": n}) for n, time in enumerate(times))
        file.write_text("\n".join(lines) + "\n")
        return file

    def ship(self, times, zone, *options):
        """Ships logs of these times. Returns the directory of the table."""
        columns = ("--format", "parquet", "--columns", "__time__:int64,n:int64")
        by_hour = ("--partition", PARTITION, "--partition-by", "hour", "--time-zone", zone)
        objects = ship.ship(self, self.write(times), *columns, *by_hour, *options)
        self.assertEqual(len({path.name for path in objects}), len(objects), "two objects with one name")
        return objects[0].parents[2]

    def check(self, rows, times, zone):
        """Each log is there once, and in the partition of its own hour."""
        self.assertEqual(sorted(n for n, *_ in rows), list(range(len(times))))
        for n, time, ds, hour in rows:
            self.assertEqual(time, times[n])
            local = datetime.fromtimestamp(time, ZoneInfo(zone))
            self.assertEqual((f"{ds}", f"{int(hour):02}"), (f"{local:%Y%m%d}", f"{local:%H}"))

    def read(self, table, times, zone):
        files = f"{table}/**/*.parquet"
        query = "SELECT n, __time__, ds, hour FROM read_parquet(?, hive_partitioning = true)"
        self.check(duckdb.execute(query, [files]).fetchall(), times, zone)
        found = pyarrow.dataset.dataset(table, format="parquet", partitioning="hive").to_table().to_pydict()
        self.check(list(zip(found["n"], found["__time__"], found["ds"], found["hour"])), times, zone)

    def test_ships_late_logs_to_their_hours(self):
        chance = random.Random(1)
        now = int(datetime(2026, 11, 23, 17, 30, tzinfo=ZoneInfo("UTC")).timestamp())
        # Most are of the last minutes, and some are late by up to three days.
        late = lambda: chance.randrange(3 * 86400) if chance.random() < 0.2 else chance.randrange(600)  # noqa: E731
        times = [now - late() for _ in range(LOGS)]
        for zone in "UTC", "Asia/Kolkata", "America/St_Johns":
            with self.subTest(zone=zone):
                self.read(self.ship(times, zone), times, zone)

    def test_limits_open_objects(self):
        times = [1_795_450_000 + 3600 * (n % 9) for n in range(LOGS)]
        self.read(self.ship(times, "UTC", "--open-partitions", "2", "--threads", "1"), times, "UTC")

    def test_handles_end_of_daylight_saving(self):
        zone = "Europe/Berlin"
        begin = datetime(2026, 10, 25, 0, 0, tzinfo=ZoneInfo("UTC")) - timedelta(hours=2)
        times = [int(begin.timestamp()) + 5 * n for n in range(LOGS // 2)]
        table = self.ship(times, zone)
        self.read(table, times, zone)
        # Two o'clock comes twice: two objects, one for each of these hours.
        two = sorted((table / "ds=20261025/hour=02").iterdir())
        self.assertEqual(len(two), 2)
        for path in two:
            found = pyarrow.parquet.read_table(path, partitioning=None)["__time__"].to_pylist()
            self.assertLess(max(found) - min(found), 3600)

    def test_partitions_by_day(self):
        begin = int(datetime(2026, 10, 24, 22, tzinfo=ZoneInfo("UTC")).timestamp())
        times = [begin + 60 * minute for minute in range(25 * 60)]
        options = ("--partition", "%Y%m%d", "--partition-by", "day", "--time-zone", "Europe/Berlin")
        (path,) = ship.ship(self, self.write(times), *options)
        self.assertTrue(path.name.startswith("20261025_"), path.name)

    def test_default_keeps_batch_together(self):
        times = [1_795_450_000 + 3600 * n for n in range(20)]
        objects = ship.ship(self, self.write(times), "--partition", "%Y%m%d/%H")
        self.assertEqual(len(objects), 1)
