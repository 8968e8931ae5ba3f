"""The configuration: JSON, validated when a session is opened."""

from dataclasses import dataclass

import settings
from settings import InvalidSetting

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "email": {"type": "boolean", "default": True, "description": "Mask e-mail addresses."},
        "card": {"type": "boolean", "default": True, "description": "Mask card numbers."},
        "with": {"type": "string", "default": "***", "description": "The replacement of an address."},
        "keep_digits": {
            "type": "integer",
            "minimum": 0,
            "maximum": 4,
            "default": 4,
            "description": "The number of a card's last digits to keep.",
        },
        "except": {
            "type": "array",
            "items": {"type": "string"},
            "default": [],
            "description": "Keys of fields to leave unchanged.",
        },
    },
}


@dataclass(frozen=True)
class Config:
    email: bool = True
    card: bool = True
    text: str = "***"
    keep_digits: int = 4
    excepted: frozenset = frozenset()


def parse(text):
    """Parses a configuration from JSON text; the empty text means `{}`."""
    values = settings.parse(text, SCHEMA)
    excepted = values.get("except", [])
    if not isinstance(excepted, list):
        raise InvalidSetting("except", "must be a list of keys")
    for index, key in enumerate(excepted):
        if not isinstance(key, str):
            raise InvalidSetting(f"except[{index}]", "must be a string")
    keep_digits = values.get("keep_digits", 4)
    # In Python, but not in JSON, a boolean is an integer.
    if type(keep_digits) is not int or not 0 <= keep_digits <= 4:
        raise InvalidSetting("keep_digits", "must be an integer from 0 to 4")
    return Config(
        email=setting(values, "email", bool, True, "must be true or false"),
        card=setting(values, "card", bool, True, "must be true or false"),
        text=setting(values, "with", str, "***", "must be a string"),
        keep_digits=keep_digits,
        excepted=frozenset(excepted),
    )


def setting(values, name, kind, default, problem):
    value = values.get(name, default)
    if not isinstance(value, kind):
        raise InvalidSetting(name, problem)
    return value
