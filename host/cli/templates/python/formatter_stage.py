"""Formats each log as an RFC 5424 syslog message with its fields as JSON."""

import json
from datetime import datetime, timezone

from config import parse
from settings import InvalidSetting


RESERVED = {"__time__", "__time_ns_part__", "__topic__", "__source__"}


def field_name(key):
    """Returns the name under which a field may be shown.

    Reserved names belong to the log's own time, topic, source and tags: a field called so is renamed, or whoever writes a
    log could forge them.
    """
    return f"__field__:{key}" if key in RESERVED or key.startswith("__tag__:") else key


class Stage:
    def __init__(self, config):
        self.app = parse(config).get("app", "logship")
        if not isinstance(self.app, str) or not 1 <= len(self.app) <= 48 or not self.app.isalnum() or not self.app.isascii():
            raise InvalidSetting("app", "must be a name of 1 to 48 letters and digits")

    def push(self, batch):
        from wit_world.exports.formatter import Messages

        messages = list(self.messages(batch))
        ends, end = [], 0
        for message in messages:
            end += len(message)
            ends.append(end)
        # An empty list: message i is from log i.
        return Messages(b"".join(messages), ends, [])

    def messages(self, batch):
        field = start = 0
        for log, last in enumerate(batch.field_ends):
            fields = {}
            for field in range(field, last):
                end = batch.value_ends[field]
                fields[field_name(batch.keys[batch.field_keys[field]])] = batch.values[start:end].decode(errors="replace")
                start = end
            field = last
            time = datetime.fromtimestamp(batch.times[log], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            # ASCII JSON contains no line breaks or control characters.
            yield f"<134>1 {time} - {self.app} - - - {json.dumps(fields)}".encode()
