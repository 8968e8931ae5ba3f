"""The wire types of a record stream. Pyodps' reader ignores them, and takes a stream without its end."""

from odps import types

from kit.fakes.maxcompute.refused import Refused

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
END_RECORD, META_COUNT, META_CHECKSUM = 33553408, 33554430, 33554431
WIRE_TYPES = {
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint", "boolean", "datetime", "date"), VARINT),
    **{"interval_year_month": VARINT, "double": FIXED64, "float": FIXED32},
}
SECONDS = ("timestamp", "timestamp_ntz", "interval_day_time")


def malformed(reason):
    return Refused(400, "MalformedDataStream", reason)


class Walk:
    """A cursor in a record stream."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        value = shift = 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise malformed("A varint has more than ten bytes.")

    def bytes(self, size):
        if self.at + size > len(self.data):
            raise Refused(400, "IncompleteBody", "The block ends within a value.")
        self.at += size
        return self.data[self.at - size : self.at]

    def value(self, kind):
        """Skips a value."""
        if isinstance(kind, types.Array):
            self.elements(kind.value_type)
        elif isinstance(kind, types.Map):
            self.elements(kind.key_type)
            self.elements(kind.value_type)
        elif isinstance(kind, types.Struct):
            for field in kind.field_types.values():
                self.element(field)
        elif kind.name in SECONDS:
            self.varint()
            self.varint()
        else:
            wire_type = wire_type_of(kind)
            size = {VARINT: 0, FIXED64: 8, FIXED32: 4, BYTES: 0}[wire_type]
            if wire_type == VARINT:
                self.varint()
            else:
                self.bytes(size or self.varint())

    def elements(self, kind):
        for _ in range(self.varint()):
            self.element(kind)

    def element(self, kind):
        flag = self.bytes(1)[0]
        if flag > 1:
            raise malformed(f"The null flag {flag} is neither 0 nor 1.")
        if not flag:
            self.value(kind)


def wire_type_of(kind):
    return WIRE_TYPES.get(kind.name.lower().partition("(")[0], BYTES)


def check_records(data, schema):
    """Checks wire types, the order of columns, and the end of a record stream. Returns the number of records."""
    walk, kinds, records, last = Walk(data), [column.type for column in schema.simple_columns], 0, 0
    while True:
        if walk.at == len(data):
            raise Refused(400, "IncompleteBody", "The block has no META_COUNT.")
        tag = walk.varint()
        number, wire_type = tag >> 3, tag & 7
        if number in (END_RECORD, META_COUNT, META_CHECKSUM):
            if wire_type != VARINT:
                raise malformed(f"Tag {number} has wire type {wire_type}.")
        if number == END_RECORD:
            walk.varint()
            records, last = records + 1, 0
        elif number == META_COUNT:
            break
        elif not last < number <= len(kinds):
            raise malformed(f"Column {number} is unknown, repeated or out of order.")
        elif wire_type != wire_type_of(kinds[number - 1]):
            raise malformed(f"Column {number} of type {kinds[number - 1]} has wire type {wire_type}.")
        else:
            walk.value(kinds[number - 1])
            last = number
    count = walk.varint()
    if last or (count >> 1) ^ -(count & 1) != records:
        raise malformed(f"META_COUNT does not count {records} records.")
    if walk.at == len(data) or walk.varint() != META_CHECKSUM << 3:
        raise Refused(400, "IncompleteBody", "The block has no META_CHECKSUM.")
    walk.varint()
    if walk.at != len(data):
        raise malformed("Bytes follow the end of the block.")
    return records
