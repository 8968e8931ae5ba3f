"""Runs the program, as a user does, and finds what it wrote."""

import os
import subprocess
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("LOGSHIP", _ROOT / "target/release/logship"))
# A folder with access.ndjson and app.ndjson; `cargo xtask test` makes it.
SAMPLE = Path(os.environ.get("LOGSHIP_SAMPLE", _ROOT / "target/tests/sample"))
HOSTILE = Path(__file__).with_name("hostile.ndjson")


def ship(test, source, *options):
    """Ships `source` for a test case. Returns the objects, in the order of their tasks."""
    folder = tempfile.TemporaryDirectory(prefix="logship-")
    test.addCleanup(folder.cleanup)
    command = [PROGRAM, "ship", source, "--to", folder.name, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    test.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
    objects = _objects(Path(folder.name))
    test.assertNotEqual(objects, [], f"no object of {command}\n{done.stdout}{done.stderr}")
    return objects


def _objects(folder):
    found = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    return sorted(found, key=_task)


def _is_hidden(path, folder):
    """Whether readers of data lakes pass over the path, as they do over our own notes."""
    return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def _task(path):
    """Time and number of the task, out of PARTITION_TIME_NUMBER[SUFFIX]."""
    time, number = path.name.split(".")[0].split("_")[-2:]
    return int(time), int(number)


def suffix(path):
    """What stands behind the task's number: `.snappy.csv`, or nothing."""
    return "".join(path.suffixes)
