"""The configuration: JSON, validated when a session is opened."""

import settings

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        {{setting}}
    },
}


def parse(text):
    """Parses JSON text into settings; the empty text means `{}`."""
    return settings.parse(text, SCHEMA)
