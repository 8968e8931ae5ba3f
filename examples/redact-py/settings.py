"""Settings: JSON, with the names that a schema has."""

import json


class Wrong(Exception):
    """Settings that do not serve: the path of the offending member, and why."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path, self.reason = path, reason


def parse(text, schema):
    """The members of JSON text; the empty text stands for `{}`."""
    try:
        members = json.loads(text or "{}")
    except ValueError as error:
        raise Wrong("", f"no JSON: {error}") from None
    if not isinstance(members, dict):
        raise Wrong("", "a JSON object is wanted")
    for name in members:
        if name not in schema["properties"]:
            known = ", ".join(schema["properties"])
            raise Wrong(name, f"there is no setting {name}; there are {known}")
    return members
