"""Hostile bodies and signatures of puts that would otherwise be valid: each is refused, or stored so that it can be
read, and the service stays up."""

import random
import re
import time
import zlib

import cramjam
import lz4.block
import pytest
from aliyun.log import auth
from aliyun.log.credentials import StaticCredentialsProvider
from aliyun.log.proto import LogGroup

from kit import service, soak
from kit.names import ADDRESS
from kit.survival import INGEST, SurvivalCase

MIB = 1 << 20
SEED = 1
PUT = "/logstores/logs/shards/lb"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
MUTATIONS = soak.scaled(3000)


def varint(number):
    encoded = b""
    while number > 127:
        encoded, number = encoded + bytes([number & 127 | 128]), number >> 7
    return encoded + bytes([number])


def group(logs=3):
    made = LogGroup(Topic="t", Source="s")
    for number in range(logs):
        made.Logs.add(Time=int(time.time())).Contents.add(Key=f"k{number}", Value="v" * number)
    return made.SerializeToString()


def nested(depth):
    """A log group with messages within messages of an unknown field."""
    body = b""
    for _ in range(depth):
        body = b"\x7a" + varint(len(body)) + body
    return body


PLAIN = group()
PROTOBUFS = {
    "nothing but zeroes": bytes(1000),
    "a length beyond the end": b"\x0a" + varint(1 << 30),
    "a length beyond 64 bits": b"\x0a" + b"\xff" * 10 + b"\x01",
    "an endless varint": b"\x08" + b"\x80" * 5000,
    "groups that never end": b"\x0b" * 50_000,
    "the end of no group": b"\x0c" * 10,
    "field 0": b"\x02\x01x",
    "the largest field": varint((1 << 32) - 1) + b"\x01",
    "messages within messages": nested(3000),
    "a log without a time": b"\x0a\x04\x12\x02\x0a\x00",
    "a time of 64 bits": b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01",
    "a key that is no UTF-8": b"\x0a\x0c\x08\x01\x12\x08\x0a\x02\xff\xfe\x12\x02\xc3\x28",
    "many empty logs": b"\x0a\x02\x08\x01" * soak.scaled(1_000_000),
    "many empty tags": PLAIN + b"\x32\x00" * soak.scaled(1_000_000),
    "two topics": PLAIN + b"\x1a\x01u\x1a\x01w",
    "nothing": b"",
}
LINES = {
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and open": b'{"a":' * 100_000,
    "wide": b"{" + b",".join(b'"k%d":%d' % (number, number) for number in range(100_000)) + b"}",
    "one key, many times": b"{" + b",".join([b'"k":1'] * 100_000) + b"}",
    "no UTF-8": b'{"a":"\xff\xfe\xc0\xaf","\xed\xa0\x80":1}',
    "half a pair": rb'{"a":"\ud800","b":"\udfff\ud800"}',
    "large numbers": b'{"a":1e99999,"b":-0.0,"__time__":1e400,"c":' + b"9" * 100_000 + b"}",
    "odd times": b'{"__time__":-1}\n{"__time__":"9999999999999999999"}\n{"__time__":[]}\n{"__time__":"0000-00-00"}',
    "forged members": b'{"__topic__":{"a":1},"__source__":null,"__tag__:":"x","__tag__:\\u0000":"","":""}',
    "NUL": b"\0" * 100_000,
    "escapes": b'{"a\\u0000\\n":"\\u001b[2J\\r\\n"}',
    "half of UTF-16": b"\xff\xfe{\0\"\0a",
    "brackets": b"]" * 100_000,
    "an endless array": b"[" + b"{}," * 100_000,
    "many lines": b"\n" * 1_000_000,
    "a line of 8 MiB": b'{"a":"' + b"x" * 8 * MIB + b'"}',
}
QUERIES = "", "?input=text", "?input=csv", "?input=auto", "?strict=true", "?time_field=a&text_field=__time__"
BOMB = bytes(soak.scaled(256, least=32) * MIB)
COMPRESSIONS = {
    "lz4": lambda body: lz4.block.compress(body, store_size=False),
    "deflate": zlib.compress,
    "zstd": lambda body: bytes(cramjam.zstd.compress(body)),
}


def mutations(chance, body, count):
    """Copies of a body with flipped bits, and with parts that are cut out, repeated or replaced."""
    for _ in range(count):
        changed = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            begin = chance.randrange(len(changed) or 1)
            end = min(len(changed), begin + chance.choice((1, 2, 8, 100)))
            part = bytes(changed[begin:end])
            changed[begin:end] = chance.choice((b"", part * 2, chance.randbytes(len(part)), b"\xff" * len(part)))
        yield bytes(changed)


class Bodies(SurvivalCase):
    @pytest.mark.soak
    def test_hostile_log_groups(self):
        for name, body in PROTOBUFS.items():
            with self.subTest(name):
                self.send(PUT, body, PROTOBUF)
                for kind, compress in COMPRESSIONS.items():
                    packed = compress(body)
                    for size in len(body), len(body) + 1, 0, 1 << 62:
                        headers = {**PROTOBUF, "x-log-compresstype": kind, "x-log-bodyrawsize": str(size)}
                        self.send(PUT, packed, headers)

    @pytest.mark.soak
    def test_mutated_log_groups(self):
        chance = random.Random(SEED)
        for body in mutations(chance, PLAIN, MUTATIONS):
            self.send(PUT, body, PROTOBUF)
        for kind, compress in COMPRESSIONS.items():
            for body in mutations(chance, compress(PLAIN), MUTATIONS // 4):
                headers = {**PROTOBUF, "x-log-compresstype": kind, "x-log-bodyrawsize": str(len(PLAIN))}
                self.send(PUT, body, headers)
                self.send(PUT, body, {**headers, "x-log-mode": "batch_group"})

    def test_bombs(self):
        for kind, compress in COMPRESSIONS.items():
            bomb = compress(BOMB)
            for size in len(BOMB), 10 * MIB, 100, 0:
                with self.subTest(kind, size=size):
                    headers = {**PROTOBUF, "x-log-compresstype": kind, "x-log-bodyrawsize": str(size)}
                    self.assertIn(self.send(PUT, bomb, headers).status, (400, 413))
        gzip = zlib.compressobj(wbits=31)
        encodings = {kind: COMPRESSIONS[kind](BOMB) for kind in ("zstd", "deflate")}
        encodings["gzip"] = gzip.compress(BOMB) + gzip.flush()
        for encoding, bomb in encodings.items():
            with self.subTest(encoding):
                self.assertIn(self.send(INGEST, bomb, {"Content-Encoding": encoding}).status, (400, 413))
                self.send(INGEST, bomb[:-9], {"Content-Encoding": encoding})
                self.send(INGEST, b"junk" + bomb[:100], {"Content-Encoding": encoding})

    def test_hostile_lines(self):
        for name, body in LINES.items():
            for query in QUERIES:
                with self.subTest(name, query=query):
                    begun = time.monotonic()
                    self.send(INGEST + query, body)
                    self.assertLess(time.monotonic() - begun, 20)


class Signatures(SurvivalCase):
    @pytest.mark.soak
    def test_changed_signatures_are_refused(self):
        """No changed request is taken for the signed one."""
        chance = random.Random(SEED)
        for sign in auth.AuthV1, lambda keys: auth.AuthV4(keys, "local"):
            signed = self.signed(sign)
            self.assertEqual(self.service.request("POST", PUT, PLAIN, signed).status, 200)
            for authorization in mutations(chance, signed["Authorization"].encode(), MUTATIONS // 3):
                # What no client can send, as it would end the head.
                authorization = re.sub(rb"[\r\n]", b"?", authorization)
                if authorization != signed["Authorization"].encode():
                    reply = self.send(PUT, PLAIN, {**signed, "Authorization": authorization})
                    self.assertIn(reply.status, (400, 401), authorization)
            for path, body, more in (
                (PUT + "?a=b", PLAIN, {}),
                (PUT, PLAIN + b"\x1a\x01u", {}),
                (PUT, PLAIN, {"x-log-bodyrawsize": "1"}),
            ):
                self.assertIn(self.send(path, body, {**signed, **more}).status, (400, 401), (path, more))
        self.assertEqual(len(self.logstore.logs()), 7)

    def signed(self, sign):
        headers = {**PROTOBUF, "Host": f"{service.PROJECT}.{ADDRESS}", "x-log-apiversion": "0.6.0"}
        headers["x-log-bodyrawsize"] = str(len(PLAIN))
        keys = StaticCredentialsProvider(self.service.admin.id, self.service.admin.secret)
        sign(keys).sign_request("POST", PUT, {}, headers, PLAIN)
        return headers
