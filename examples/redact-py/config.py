"""The configuration: JSON, checked where a session begins."""

from dataclasses import dataclass

import settings
from settings import Wrong

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "email": {"type": "boolean", "default": True, "description": "Whether e-mail addresses are masked."},
        "card": {"type": "boolean", "default": True, "description": "Whether card numbers are masked."},
        "with": {"type": "string", "default": "***", "description": "What takes the place of an address."},
        "keep_digits": {
            "type": "integer",
            "minimum": 0,
            "maximum": 4,
            "default": 4,
            "description": "How many of a card's last digits stay.",
        },
        "except": {
            "type": "array",
            "items": {"type": "string"},
            "default": [],
            "description": "Keys of fields that stay as they are.",
        },
    },
}


@dataclass(frozen=True)
class Config:
    email: bool = True
    card: bool = True
    text: str = "***"
    keep_digits: int = 4
    spared: frozenset = frozenset()


def parse(text):
    """The configuration that JSON text has; the empty text stands for `{}`."""
    members = settings.parse(text, SCHEMA)
    spared = members.get("except", [])
    if not isinstance(spared, list):
        raise Wrong("except", "a list of keys is wanted")
    for index, key in enumerate(spared):
        if not isinstance(key, str):
            raise Wrong(f"except[{index}]", "a text is wanted")
    keep_digits = members.get("keep_digits", 4)
    # A truth value is an int to Python, and none to JSON.
    if type(keep_digits) is not int or not 0 <= keep_digits <= 4:
        raise Wrong("keep_digits", "a number from 0 to 4 is wanted")
    return Config(
        email=of(members, "email", bool, True, "true or false is wanted"),
        card=of(members, "card", bool, True, "true or false is wanted"),
        text=of(members, "with", str, "***", "a text is wanted"),
        keep_digits=keep_digits,
        spared=frozenset(spared),
    )


def of(members, name, kind, default, wanted):
    value = members.get(name, default)
    if not isinstance(value, kind):
        raise Wrong(name, wanted)
    return value
