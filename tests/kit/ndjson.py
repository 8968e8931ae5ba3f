"""The logs that logship must make of an NDJSON file, by Python's JSON reader."""

import json
from dataclasses import dataclass
from json.decoder import JSONDecoder
from pathlib import Path

# Numbers are not looked at: their text counts, however large they are.
_DECODER = JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_WHITE_SPACE = " \t\r\n"


@dataclass
class Log:
    """A log: what is reserved, and its fields in their order, duplicates among them."""

    time: int
    topic: str
    source: str
    fields: list[tuple[str, str]]

    def get(self, key):
        """The value of a column; the last one where the log has the key twice, None without it."""
        reserved = {"__time__": str(self.time), "__topic__": self.topic, "__source__": self.source}
        return reserved[key] if key in reserved else dict(self.fields).get(key)

    def members(self):
        """The members of the log's JSON object, in order; of a repeated key only the last."""
        head = [("__time__", self.time), ("__topic__", self.topic), ("__source__", self.source)]
        later = [{key for key, _ in self.fields[at + 1 :]} for at in range(len(self.fields))]
        return head + [field for field, keys in zip(self.fields, later) if field[0] not in keys]

    def row(self, columns):
        """The values of columns."""
        return tuple(self.get(key) for key in columns)


def read(path):
    """The logs of a file, or of all files of a folder, by name."""
    path = Path(path)
    if path.is_dir():
        return [log for file in sorted(path.glob("*.ndjson")) for log in read(file)]
    lines = path.read_bytes().decode().split("\n")
    return [_log(line) for line in lines if line.strip()]


def _log(line):
    log = Log(0, "", "", [])
    for key, text in _members(line):
        if text is None:
            continue
        match key:
            case "__time__":
                log.time = int(text)
            case "__topic__":
                log.topic = text
            case "__source__":
                log.source = text
            # Tags are the log group's; objects do not have them unless asked for.
            case _ if not key.startswith("__tag__:"):
                log.fields.append((key, text))
    return log


def _members(line):
    """Keys and values of an object: a string as it is, null as None, anything else as its JSON text."""
    at = _expect(line, 0, "{")
    while line[at] != "}":
        key, at = _DECODER.raw_decode(line, at)
        at = _expect(line, at, ":")
        value, end = _DECODER.raw_decode(line, at)
        yield key, value if line[at] == '"' or value is None else line[at:end]
        at = _skip(line, end)
        if line[at] != "}":
            at = _expect(line, at, ",")


def _expect(line, at, char):
    at = _skip(line, at)
    if line[at] != char:
        raise json.JSONDecodeError(f"no {char!r}", line, at)
    return _skip(line, at + 1)


def _skip(line, at):
    while line[at] in _WHITE_SPACE:
        at += 1
    return at
