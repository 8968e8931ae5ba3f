"""Parses settings: a JSON object with the keys of a schema."""

import json


class InvalidSetting(Exception):
    """An invalid setting: its path and the problem."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path, self.reason = path, reason


def parse(text, schema):
    """Parses JSON text into settings; the empty text means `{}`."""
    try:
        settings = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidSetting("", f"invalid JSON: {error}") from None
    if not isinstance(settings, dict):
        raise InvalidSetting("", "must be a JSON object")
    for name in settings:
        if name not in schema["properties"]:
            known = ", ".join(schema["properties"])
            raise InvalidSetting(name, f"unknown setting {name}; use one of {known}")
    return settings
