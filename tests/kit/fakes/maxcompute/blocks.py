"""The two formats of blocks, and their compressions. A malformed block raises `Refused`."""

import struct
import zlib
from io import BytesIO
from itertools import islice

import cramjam
import pyarrow as pa
from odps.tunnel.checksum import Checksum
from odps.tunnel.io.reader import TunnelRecordReader

from kit.fakes.maxcompute.records import check_records, malformed
from kit.fakes.maxcompute.refused import Refused


def inflate(body):
    inflater = zlib.decompressobj()
    plain = inflater.decompress(body)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("the zlib stream is cut or has bytes behind it")
    return plain


DECODERS = {
    "": bytes,
    "deflate": inflate,
    "x-snappy-framed": lambda body: bytes(cramjam.snappy.decompress(body)),
    "zstd": lambda body: bytes(cramjam.zstd.decompress(body)),
    "x-lz4-frame": lambda body: bytes(cramjam.lz4.decompress(body)),
    "x-odps-lz4-frame": lambda body: bytes(cramjam.lz4.decompress(body)),
}


def decode(body, encoding, is_arrow, table):
    """Returns a block. Wide tables and large blocks stay Arrow's: `rows` makes tuples."""
    if encoding not in DECODERS:
        raise Refused(400, "InvalidArgument", f"Content-Encoding {encoding} is not supported.")
    try:
        plain = DECODERS[encoding](body)
    except Exception as error:
        raise Refused(400, "CorruptedDataStream", f"The block can't be decompressed: {error}") from None
    if not plain:
        raise Refused(400, "IncompleteBody", "The block is empty.")
    return ArrowBlock(plain, table) if is_arrow else RecordBlock(plain, table)


class RecordBlock:
    """A block of protobuf records."""

    def __init__(self, data, table):
        self.data = data
        self.count = check_records(data, table.schema)
        streams = [BytesIO(data)]
        try:
            # Its rows are of the vendor's own reader, which checks all checksums. After a wrong one it opens the stream
            # again, and finds none.
            reader = TunnelRecordReader(table.schema, lambda *_, **__: streams.pop())
            records = islice(iter(reader.read, None), self.count + 1)
            # The client adds the columns of partitions.
            self._rows = [tuple(record.values[: len(table.columns)]) for record in records]
        except Exception as error:
            raise Refused(400, "CorruptedDataStream", f"{type(error).__name__}: {error}") from None
        if len(self._rows) != self.count:
            raise malformed(f"The block has {len(self._rows)} records, not {self.count}.")

    def rows(self):
        return self._rows


class ArrowBlock:
    """A block of Arrow record batches."""

    def __init__(self, data, table):
        self.data = data
        self.batches = list(batches(payload(data), table.arrow_schema))
        self.count = sum(batch.num_rows for batch in self.batches)
        for column, field in zip(table.columns, table.arrow_schema, strict=True):
            if not column.nullable and any(batch.column(field.name).null_count for batch in self.batches):
                raise malformed(f"Column {column.name} must not be null.")

    def rows(self):
        rows = []
        for batch in self.batches:
            rows.extend(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        return rows


def payload(data):
    """The payload of an Arrow body. Checks the checksum of each chunk, and of all."""
    if len(data) < 8:
        raise Refused(400, "IncompleteBody", "The block has no chunk.")
    (size,) = struct.unpack_from(">I", data)
    if not 0 < size <= 64 << 20:
        raise malformed(f"The chunk size {size} is out of range.")
    whole, payload, at = Checksum(), bytearray(), 4
    while len(data) - at >= size + 4:
        chunk = data[at : at + size]
        expect_checksum(chunk, data[at + size : at + size + 4])
        whole.update(chunk)
        payload += chunk
        at += size + 4
    last, checksum = data[at:-4], data[-4:]
    if len(data) - at < 4:
        raise Refused(400, "IncompleteBody", "The block has no checksum of all chunks.")
    whole.update(last)
    if int(whole.getvalue()) != struct.unpack(">I", checksum)[0]:
        raise Refused(400, "CorruptedDataStream", "The checksum of all chunks differs.")
    return bytes(payload + last)


def expect_checksum(chunk, checksum):
    crc = Checksum()
    crc.update(chunk)
    if int(crc.getvalue()) != struct.unpack(">I", checksum)[0]:
        raise Refused(400, "CorruptedDataStream", "The checksum of a chunk differs.")


def batches(payload, schema):
    """The record batches of a payload, and nothing else."""
    stream = pa.BufferReader(payload)
    while stream.tell() < len(payload):
        try:
            message = pa.ipc.read_message(stream)
            if message.type != "record batch":
                raise malformed(f"A message is a {message.type}, not a record batch.")
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
        except (pa.ArrowException, EOFError, OSError) as error:
            raise malformed(f"{type(error).__name__}: {error}") from None
        yield batch
