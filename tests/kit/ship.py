"""Runs `logship ship` as a user does, and finds its objects."""

import subprocess
from pathlib import Path

from kit.paths import PROGRAM
from kit.paths import SAMPLE as SAMPLE
from kit.process import temporary_folder

HOSTILE = Path(__file__).with_name("hostile.ndjson")


def ship(test, source, *options):
    """Ships `source` for a test case. Returns the objects, in the order of their tasks."""
    folder = temporary_folder(test)
    command = [PROGRAM, "ship", source, "--to", folder, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    test.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
    objects = _objects(folder)
    test.assertNotEqual(objects, [], f"no object of {command}\n{done.stdout}{done.stderr}")
    return objects


def _objects(folder):
    found = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    return sorted(found, key=_task)


def _is_hidden(path, folder):
    """Whether readers of data lakes ignore the path."""
    return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def _task(path):
    """Time and number of the task, out of PARTITION_TIME_NUMBER[SUFFIX]."""
    time, number = path.name.split(".")[0].split("_")[-2:]
    return int(time), int(number)


def suffix(path):
    """The suffix of the task's number: `.snappy.csv`, or nothing."""
    return "".join(path.suffixes)
