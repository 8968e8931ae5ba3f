"""The configuration: JSON, checked where a session begins."""

import json

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        {{setting}}
    },
}


class Wrong(Exception):
    """A configuration that does not serve: the path of the offending member, and why."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path, self.reason = path, reason


def parse(text):
    """The members of JSON text; the empty text stands for `{}`."""
    try:
        members = json.loads(text or "{}")
    except ValueError as error:
        raise Wrong("", f"no JSON: {error}") from None
    if not isinstance(members, dict):
        raise Wrong("", "a JSON object is wanted")
    for name in members:
        if name not in SCHEMA["properties"]:
            raise Wrong(name, f"there is no setting {name}; there are {', '.join(SCHEMA['properties'])}")
    return members
