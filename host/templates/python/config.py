"""The configuration: JSON, checked where a session begins."""

import settings

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        {{setting}}
    },
}


def parse(text):
    """The members of JSON text; the empty text stands for `{}`."""
    return settings.parse(text, SCHEMA)
