"""Paths of the program, of what is built beside it, and of the sources."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("LOGSHIP", ROOT / "target/release/logship")).resolve()
TARGET = PROGRAM.parents[1]
# The same program with the feature `failpoints`: the variable FAILPOINT aborts it at a step of a task.
FAILPOINTS_PROGRAM = Path(os.environ.get("LOGSHIP_FAILPOINTS", TARGET / "tests/logship-failpoints")).resolve()
COMPONENTS = TARGET / "components"
COMPONENTS_EXAMPLES = TARGET / "components-examples"
FUNCTIONS = TARGET / "functions"
# A folder with access.ndjson and app.ndjson, which `cargo xtask test` makes.
SAMPLE = Path(os.environ.get("LOGSHIP_SAMPLE", TARGET / "tests/sample"))
S3_SERVER = Path(os.environ.get("LOGSHIP_S3_SERVER", PROGRAM.with_name("logship-s3-server")))
# Packages of Debian, unpacked.
DEBIAN = TARGET / "debian"
# Bindings and templates of other languages, built by the tests.
LANGUAGES = TARGET / "languages"
