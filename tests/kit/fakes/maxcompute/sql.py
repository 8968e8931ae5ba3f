"""Statements that define tables and partitions."""

import re

from kit.fakes.maxcompute.refused import Refused
from kit.fakes.maxcompute.tables import NAME, Table, columns

IDENTIFIER = r"(?:`?\w+`?\.)*`?(\w+)`?"
CREATE = re.compile(rf"create table (if not exists )?{IDENTIFIER} ?\((.*)", re.I | re.S)
ADD = re.compile(rf"alter table {IDENTIFIER} add (if not exists )?partition ?\((.*)\)", re.I | re.S)
DROP = re.compile(rf"drop table (if exists )?{IDENTIFIER}", re.I)
TRUNCATE = re.compile(rf"truncate table {IDENTIFIER}(?: partition ?\((.*)\))?", re.I | re.S)
COLUMN = re.compile(r"`?(\w+)`?\s+(.+?)(\s+not\s+null)?(?:\s+comment\s+'(?:[^'\\]|\\.)*')?", re.I | re.S)
TAIL = re.compile(
    r"(?:\s*comment\s+'(?:[^'\\]|\\.)*')?(?:\s*partitioned\s+by\s*\((.*?)\))?"
    r"(?:\s*stored\s+as\s+\w+)?(?:\s*tblproperties\s*\(.*?\))?(?:\s*lifecycle\s+(\d+))?\s*",
    re.I | re.S,
)


class Failed(Exception):
    """A failed statement."""


def run(project, statement, rights):
    """Runs a statement on the tables of a project. Returns its result. `rights` are the caller's."""
    text = re.sub(r"\s+", " ", statement.strip().rstrip(";").strip())
    for pattern, does, right in (
        (CREATE, create, "CreateTable"),
        (ADD, add, "Alter"),
        (DROP, drop, "Drop"),
        (TRUNCATE, truncate, "Update"),
    ):
        if match := pattern.fullmatch(text):
            if right not in rights:
                raise Failed(f"ODPS-0420095: Access Denied - You have NO privilege 'odps:{right}'")
            try:
                return does(project, *match.groups()) or ""
            except (Refused, ValueError) as error:
                raise Failed(f"ODPS-0130071:[1,1] Semantic analysis exception - {error}") from None
    raise Failed(f"ODPS-0130161:[1,1] Parse exception - invalid statement {text[:80]!r}")


def find(project, name):
    if (table := project.get(name.lower())) is None:
        raise Failed(f"ODPS-0130131:[1,1] Table not found - table {name} cannot be resolved")
    return table


def create(project, tolerant, name, rest):
    own, tail = closing(rest)
    if not (match := TAIL.fullmatch(tail)):
        raise Failed(f"ODPS-0130161:[1,1] Parse exception - invalid token {tail[:40]!r}")
    if name.lower() in project:
        if tolerant:
            return
        raise Failed(f"ODPS-0110061: Table or view already exists - {name}")
    if not NAME.fullmatch(name):
        raise Failed(f"ODPS-0130071: invalid table name {name}")
    made = Table(name.lower(), parsed(own), parsed(match[1]) if match[1] else [])
    names = [column.name for column in made.columns + made.keys]
    if len(set(names)) < len(names):
        raise Failed("ODPS-0130071:[1,1] Semantic analysis exception - repeated column name")
    project[made.name] = made


def add(project, name, tolerant, spec):
    table = find(project, name)
    text = ",".join(part.strip().replace("`", "") for part in split(spec))
    existed = set(table.partitions)
    if table.partition(text, create=True) in existed and not tolerant:
        raise Failed(f"ODPS-0110061: Partition already exists - {text}")


def drop(project, tolerant, name):
    if not tolerant:
        find(project, name)
    project.pop(name.lower(), None)


def truncate(project, name, spec):
    table = find(project, name)
    text = table.partition(",".join(split(spec)) if spec else "")
    table.partitions[text].clear()


def closing(text):
    """Splits behind the parenthesis that closes a list."""
    depth = 1
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return text[:at], text[at + 1 :]
    raise Failed("ODPS-0130161:[1,1] Parse exception - missing )")


def split(text):
    """Splits at commas outside of parentheses, angle brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, character in enumerate(text):
        quoted ^= character == "'"
        if not quoted:
            depth += {"(": 1, "<": 1, ")": -1, ">": -1}.get(character, 0)
            if character == "," and not depth:
                parts.append(text[start:at].strip())
                start = at + 1
    return [*parts, text[start:].strip()]


def parsed(text):
    specs = []
    for part in split(text):
        if not (match := COLUMN.fullmatch(part)):
            raise Failed(f"ODPS-0130161:[1,1] Parse exception - invalid column {part!r}")
        specs.append(f"{match[1]} {match[2]}{' not null' if match[3] else ''}")
    return columns(specs)
