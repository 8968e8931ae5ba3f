"""Reads rows in PlainBuffer, and checks every length and checksum.

The vendor's reader can't read operations of cells, and ignores lengths. `tests/fakes` compares both.
"""

import struct

HEADER = b"\x75\x00\x00\x00"
ROW_KEY, ROW_DATA, CELL, NAME, VALUE, OPERATION, TIMESTAMP, DELETE, ROW_CHECKSUM, CELL_CHECKSUM = range(1, 11)
INTEGER, DOUBLE, BOOLEAN, STRING, BLOB = 0, 1, 2, 3, 7
DELETE_ALL, DELETE_ONE, INCREMENT = 1, 3, 4


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1) ^ 7 if value & 0x80 else value << 1
        table.append(value & 0xFF)
    return table


TABLE = _table()


def crc8(data, crc=0, table=TABLE):
    for byte in data:
        crc = table[crc ^ byte]
    return crc


class Invalid(ValueError):
    """Bytes that are no row."""


class Reader:
    """Reads the parts of a row."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        part = self.data[self.at : self.at + size]
        if len(part) < size:
            raise Invalid(f"the row ends in the middle, at byte {self.at}")
        self.at += size
        return part

    def number(self):
        return struct.unpack("<I", self.take(4))[0]

    def peek(self):
        return self.data[self.at] if self.at < len(self.data) else None

    def is_next(self, tag):
        """Takes a tag, if it is the next byte."""
        found = self.peek() == tag
        self.at += found
        return found

    def expect(self, tag):
        if not self.is_next(tag):
            raise Invalid(f"no tag {tag} at byte {self.at} but {self.peek()}")


def read_row(data):
    """Reads one row. Returns its key and its columns: names and values, for columns with operation and time."""
    reader = Reader(bytes(data))
    if reader.take(4) != HEADER:
        raise Invalid("no header")
    reader.expect(ROW_KEY)
    key, columns, crc = [], [], 0
    while reader.is_next(CELL):
        (name, value, operation, time), crc = _cell(reader, crc)
        if operation is not None or time is not None or value is None:
            raise Invalid(f"key column {name} has an operation, a time or no value")
        key.append((name, value))
    if reader.is_next(ROW_DATA):
        while reader.is_next(CELL):
            column, crc = _cell(reader, crc)
            columns.append(column)
        if not columns:
            raise Invalid("a row's data is empty")
    deleted = reader.is_next(DELETE)
    reader.expect(ROW_CHECKSUM)
    if reader.take(1)[0] != crc8(bytes([deleted]), crc):
        raise Invalid("the checksum of the row is wrong")
    if reader.peek() is not None:
        raise Invalid("bytes after the row")
    return key, columns


def _cell(reader, row_crc):
    reader.expect(NAME)
    name = reader.take(reader.number())
    crc, value, operation, time = crc8(name), None, None, None
    if reader.is_next(VALUE):
        part = reader.take(reader.number())
        crc, value = crc8(part, crc), _value(part)
    if reader.is_next(OPERATION):
        operation = reader.take(1)
    if reader.is_next(TIMESTAMP):
        time = reader.take(8)
        crc = crc8(time, crc)
    if operation is not None:
        crc = crc8(operation, crc)
    reader.expect(CELL_CHECKSUM)
    if reader.take(1)[0] != crc:
        raise Invalid(f"the checksum of cell {name!r} is wrong")
    time = None if time is None else struct.unpack("<q", time)[0]
    column = name.decode(), value, None if operation is None else operation[0], time
    return column, crc8(bytes([crc]), row_crc)


def _value(part):
    kind, payload = part[0], part[1:]
    if kind == INTEGER and len(payload) == 8:
        return struct.unpack("<q", payload)[0]
    if kind == DOUBLE and len(payload) == 8:
        return struct.unpack("<d", payload)[0]
    if kind == BOOLEAN and payload in (b"\0", b"\1"):
        return payload == b"\1"
    if kind in (STRING, BLOB) and len(payload) >= 4 and struct.unpack("<I", payload[:4])[0] == len(payload) - 4:
        return payload[4:].decode() if kind == STRING else bytearray(payload[4:])
    raise Invalid(f"no value: {part[:16].hex()}")
