"""Distributes tests to workers, and runs the tests of the fakes only if the kit changed since they passed last."""

import hashlib
import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from kit.paths import TARGET

TESTS = Path(__file__).parent
FAKES = TESTS / "fakes"
# The digest of the kit with which all tests of the fakes passed last.
PASSED = Path(os.environ.get("LOGSHIP_FAKES_PASSED", TARGET / "tests/fakes-passed"))

# The longest classes and files. They start first, so that no worker ends late.
LONG = (
    "test_languages.py",
    "test_shipping_faults.py",
    "test_functions.py",
    "test_failing_functions.py",
    "test_consume_syslog.py",
    "test_caller.py",
    "test_job_crashes.py",
    "test_circuit_breaker.py",
    "test_shipping_crashes.py",
    "test_consumers.py",
    "test_shipping_s3.py",
    "test_shipping_partitions.py",
    "test_smoke.py",
    "test_traffic.py",
    "test_siem_rules.py",
    "test_consume_group.py",
    "test_consume_hec.py",
    "test_table_store.py",
    "test_kills.py",
    "test_maxcompute_rules.py",
)
# Files that build components for all of their classes.
WHOLE = ("test_languages.py",)

DIGEST = pytest.StashKey[str]()
RESULTS = {"passed": set(), "failed": set()}


def pytest_addoption(parser):
    choices = ("auto", "always", "never")
    text = "Run the tests of the fakes: if the kit changed since they passed (auto, the default), always or never."
    parser.addoption("--fakes", choices=choices, default="auto", help=text)


def pytest_configure(config):
    config.stash[DIGEST] = digest()


def pytest_itemcollected(item):
    if item.path.is_relative_to(FAKES):
        item.add_marker("fakes")


def pytest_xdist_make_scheduler(config, log):
    """Gives each test class to one worker, as its tests share a service."""

    class ByClass(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, rest = nodeid.partition("::")
            return file if file.endswith(WHOLE) else f"{file}::{rest.partition('::')[0]}"

    return ByClass(config, log)


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    wanted, found = config.getoption("--fakes"), config.stash[DIGEST]
    if wanted == "always" or (wanted == "auto" and found != passed()):
        return
    dropped = [item for item in items if item.get_closest_marker("fakes")]
    # Somebody who names nothing but them wants them to run.
    if dropped and (wanted == "never" or len(dropped) < len(items)):
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def pytest_runtest_logreport(report):
    # With xdist, the controller gets the reports of all workers.
    if "fakes" in report.keywords and report.when == "call":
        RESULTS["failed" if report.failed else "passed"].add(report.nodeid)


def pytest_sessionfinish(session):
    """Records the digest if every test of the fakes passed."""
    config = session.config
    if hasattr(config, "workerinput") or RESULTS["failed"]:
        return
    if len(RESULTS["passed"]) >= count_of_fakes():
        PASSED.parent.mkdir(parents=True, exist_ok=True)
        PASSED.write_text(config.stash[DIGEST])


def passed():
    return PASSED.read_text() if PASSED.exists() else None


def count_of_fakes():
    """The number of tests of the fakes, by their names in the files."""
    return sum(file.read_text().count("\n    def test_") for file in FAKES.glob("test_*.py"))


def digest():
    """The digest of all files that the tests of the fakes depend on."""
    files = [*TESTS.glob("kit/**/*.py"), *FAKES.glob("*.py"), TESTS / "requirements.txt", TESTS / "conftest.py"]
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(f"{file.relative_to(TESTS)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
