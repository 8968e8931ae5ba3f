"""The operations of docs/service.md. The table is generated from those of the service, so a new one is tested as soon as it
exists."""

import re

from kit import service
from kit.names import ADDRESS
from kit.paths import ROOT

DIGEST = "0123456789abcdef" * 4
ROW = re.compile(r"^\| (\w+) \| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]*) \| [^|]+ \|$")


class Operation:
    """A row of the table."""

    def __init__(self, method, path, name, access, actions, has_project):
        self.method = "GET" if method == "any" else method
        self.name, self.access = name.strip(), access.strip()
        self.actions = re.findall(r"`([^`]+)`", actions)
        self.host = f"{service.PROJECT}.{ADDRESS}" if has_project else ADDRESS
        path = path.replace("/ingest/PROJECT", f"/ingest/{service.PROJECT}")
        path = path.replace("DIGEST", DIGEST).replace("SHARD", "0").replace("LOGSTORE", "nowhere")
        self.path = re.sub(r"\b[A-Z]{2,}\b", "nothing", path)

    def __repr__(self):
        return f"{self.method} {self.host}{self.path}"

    def allows(self, project, everywhere):
        """True if a key with these accesses may call it."""
        needed = re.match(r"`(\w+)`", self.access)
        match self.access.partition(" of ")[2]:
            case "all projects":
                return needed[1] in everywhere
            # The body names the project of the tests.
            case _:
                return self.access in ("no key", "any key") or needed[1] in project | everywhere


def operations():
    """All operations, those that delete last."""
    text = (ROOT / "docs/service.md").read_text()
    table = text[text.index("<!-- operations: begin") : text.index("<!-- operations: end")]
    found, has_project = [], False
    for line in table.splitlines():
        has_project = has_project or line.startswith("Requests to `PROJECT.HOST`")
        if row := ROW.match(line):
            if row[1] != "method":
                found.append(Operation(*row.groups(), has_project))
    assert len(found) >= 50, "the table has another form"
    return sorted(found, key=lambda operation: operation.method == "DELETE")
