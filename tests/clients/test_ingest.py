"""Logs as JSON over plain HTTP, as curl, Fluent Bit and Vector send them, read back by the SDK."""

import gzip
import time
import unittest

import cramjam
from aliyun.log import LogException

from kit import service
from kit.names import ADDRESS
from kit.service import Log
from kit.waiting import wait_for

LINES = rb"""
{"__time__":1700000000,"__time_ns_part__":123456789,"__topic__":"t","__source__":"s","__tag__:host":"h","a":"1"}
{"__time__":1700000001.5,"text":"line\nbreak \"quoted\" \u00e9\ud83d\ude00 \\ /","empty":"","twice":"1","twice":"2"}

{"__time__":"2023-11-14T22:13:22.25Z","n":1.50,"big":123456789012345678901,"o":{"k" : [1, null]},"z":null,"b":true}
""".strip()
LOGS = [
    Log(1700000000, 123456789, "t", "s", (("host", "h"),), (("a", "1"),)),
    Log(
        time=1700000001,
        nanos=500000000,
        # The sender's address.
        source=ADDRESS,
        fields=(("text", 'line\nbreak "quoted" é😀 \\ /'), ("empty", ""), ("twice", "1"), ("twice", "2")),
    ),
    Log(
        time=1700000002,
        nanos=250000000,
        source=ADDRESS,
        fields=(
            *(("n", "1.50"), ("big", "123456789012345678901"), ("o", '{"k" : [1, null]}')),
            ("b", "true"),
        ),
    ),
]
ARRAY = b"[" + b",\n ".join(line for line in LINES.split(b"\n") if line) + b"]\n"

BODIES = {"lines": LINES, "lines of Windows": LINES.replace(b"\n", b"\r\n") + b"\r\n", "array": ARRAY}
ENCODINGS = {
    None: lambda body: body,
    "gzip": gzip.compress,
    "zstd": lambda body: bytes(cramjam.zstd.compress(body)),
    "deflate": lambda body: bytes(cramjam.zlib.compress(body)),
}
REFUSED = (401, "Unauthorized")


class Case(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore()

    def post(self, body, headers=None, query="", logstore=None, **options):
        path = f"/ingest/{service.PROJECT}/{(logstore or self.logstore).name}{query}"
        headers = self.service.admin.basic() if headers is None else headers
        return self.service.request("POST", path, body, headers, **options)

    def check(self, reply, accepted, malformed=0):
        self.assertEqual((reply.status, reply.json()), (200, {"accepted": accepted, "malformed": malformed}))


class Bodies(Case):
    def test_every_encoding_keeps_all_fields(self):
        key = self.service.admin
        number = 0
        for form, body in BODIES.items():
            for encoding, encode in ENCODINGS.items():
                for authorization in key.basic(), key.bearer():
                    number += 1
                    logstore = self.service.logstore(f"forms-{number}")
                    headers = {**authorization, "Content-Type": "application/x-ndjson"}
                    if encoding:
                        headers["Content-Encoding"] = encoding
                    with self.subTest(form=form, encoding=encoding, authorization=authorization):
                        self.check(self.post(encode(body), headers, logstore=logstore), len(LOGS))
                        self.assertEqual(logstore.logs(), LOGS)

    def test_accepts_chunked_body(self):
        pieces = (LINES[at : at + 7] for at in range(0, len(LINES), 7))
        headers = {**self.service.admin.basic(), "Transfer-Encoding": "chunked"}
        self.check(self.post(pieces, headers, encode_chunked=True), len(LOGS))
        self.assertEqual(self.logstore.logs(), LOGS)

    def test_default_time_is_arrival_time(self):
        before = int(time.time())
        self.check(self.post(b'{"a":"1"}'), 1)
        (log,) = self.logstore.logs()
        self.assertTrue(before <= log.time <= time.time(), log)
        self.assertEqual((log.source, log.fields), (ADDRESS, (("a", "1"),)))

    def test_time_field_sets_time_and_keeps_field(self):
        body = b"""
            {"at":"2023-11-14T22:13:20.5+00:00","a":"1"}
            {"at":1700000001250,"__time__":7}
            {"a":"no time"}"""
        self.check(self.post(body, query="?time_field=at"), 3, malformed=1)
        first, second, third = self.logstore.logs()
        self.assertEqual((first.time, first.nanos), (1700000000, 500000000))
        self.assertEqual(first.fields, (("at", "2023-11-14T22:13:20.5+00:00"), ("a", "1")))
        self.assertEqual((second.time, second.nanos), (1700000001, 250000000))
        self.assertEqual(second.fields, (("at", "1700000001250"),))
        self.assertEqual(third.fields[0], ("__raw_log__", '            {"a":"no time"}'))

    def test_keeps_malformed_line_unchanged(self):
        lines = [b'{"a":"1"}', b"oops", b'{"a":"2"', b'{"a":"\xff"}', b'{"a":"3"}']
        self.check(self.post(b"\n".join(lines)), 5, malformed=3)
        logs = self.logstore.logs()
        self.assertEqual([dict(log.fields).get("a") for log in logs], ["1", "3", None, None, None])
        for log, line in zip(logs[2:], lines[1:4]):
            (raw, text), (error, reason) = log.fields
            # The SDK gives bytes where something is not UTF-8, for all of the reply.
            self.assertEqual((raw, as_bytes(text), error), ("__raw_log__", line, "__parse_error__"))
            self.assertNotEqual(reason, "")

    def test_strict_rejects_all_and_names_line(self):
        reply = self.post(b'{"a":"1"}\n\noops\n{"a":"2"}', query="?strict=true")
        self.assertEqual(reply.refusal(), (400, "PostBodyInvalid"))
        self.assertRegex(reply.json()["errorMessage"], "^line 3: ")
        self.assertEqual(self.logstore.logs(), [])

    def test_rejects_invalid_compression(self):
        bomb = gzip.compress(bytes(50 << 20))
        for encoding, body, code in [
            ("gzip", bomb, "PostBodyTooLarge"),
            ("gzip", b"no gzip", "PostBodyUncompressError"),
            ("gzip", gzip.compress(LINES)[:-9], "PostBodyUncompressError"),
            ("zstd", b"no zstd", "PostBodyUncompressError"),
            ("br", LINES, "InvalidCompressType"),
        ]:
            headers = {**self.service.admin.basic(), **({"Content-Encoding": encoding} if encoding else {})}
            with self.subTest(encoding=encoding, body=body[:20]):
                self.assertEqual(self.post(body, headers).refusal(), (400, code))
        self.assertEqual(self.logstore.logs(), [])

    def test_rejects_missing_logstore_and_project(self):
        headers = self.service.admin.basic()
        for path, code in [("clients/nowhere", "LogStoreNotExist"), ("nobody/logs", "ProjectNotExist")]:
            with self.subTest(path=path):
                reply = self.service.request("POST", f"/ingest/{path}", LINES, headers)
                self.assertEqual(reply.refusal(), (404, code))


class Keys(Case):
    def create_key(self, *options):
        """A key that the service knows."""
        key = self.service.create_key(*options)
        headers = {**key.basic(), "x-acs-security-token": key.token}
        wait_for(lambda: b"not found" not in self.post(b"", headers).body)
        return key

    def assert_refused(self, call, *arguments):
        with self.assertRaises(LogException) as refused:
            call(*arguments)
        error = refused.exception
        self.assertEqual((error.get_resp_status(), error.get_error_code()), REFUSED, error)

    def test_rejects_wrong_secret(self):
        key = self.service.admin
        wrong, unknown = service.Key(key.id, key.secret[:-1]), service.Key("nobody", key.secret)
        texts = ["", "Basic", "Basic !", "Basic bm9jb2xvbg==", "Digest x", "Bearer x"]
        others = [{}, *({"Authorization": text} for text in texts)]
        for headers in [wrong.basic(), wrong.bearer(), unknown.basic(), unknown.bearer(), *others]:
            with self.subTest(headers=headers):
                self.assertEqual(self.post(LINES, headers).refusal(), REFUSED)
        self.assertEqual(self.logstore.logs(), [])

    def test_key_grants_only_its_permissions(self):
        name = self.logstore.name
        write = self.create_key("--allow", "write")
        read = self.create_key("--allow", f"read={service.PROJECT}")
        elsewhere = self.create_key("--allow", "readwrite=elsewhere")
        self.check(self.post(LINES, write.basic()), len(LOGS))
        self.assertEqual(self.post(LINES, read.basic()).refusal(), REFUSED)
        self.assertEqual(self.post(LINES, elsewhere.basic()).refusal(), REFUSED)

        (_, group), *_ = self.logstore.groups(0)
        put = service.Logstore(self.service.client(write), name)
        put.put(group)
        self.assert_refused(put.groups, 0)
        self.assert_refused(put.client.pull_logs, service.PROJECT, name, 0, self.logstore.begin(0))
        pull = service.Logstore(self.service.client(read), name)
        self.assertEqual(len(pull.logs()), len(LOGS) + 1)
        self.assert_refused(pull.put, group)
        self.assert_refused(pull.client.delete_logstore, service.PROJECT, name)
        other = service.Logstore(self.service.client(elsewhere), name)
        self.assert_refused(other.put, group)
        self.assert_refused(other.groups, 0)

    def test_rejects_revoked_key_within_two_seconds(self):
        key = self.create_key("--allow", "write")
        self.check(self.post(LINES, key.basic()), len(LOGS))
        self.service.command("key", "revoke", "--data", self.service.data, key.id)
        wait_for(lambda: self.post(LINES, key.basic()).status != 200, patience=2)
        self.assertEqual(self.post(LINES, key.basic()).refusal(), REFUSED)

    def test_temporary_key_needs_token(self):
        key = self.create_key("--allow", "readwrite", "--hours", "1")
        header = "x-acs-security-token"
        self.check(self.post(LINES, {**key.basic(), header: key.token}), len(LOGS))
        self.assertEqual(self.post(LINES, key.basic()).refusal(), REFUSED)
        self.assertEqual(self.post(LINES, {**key.basic(), header: key.token[:-1]}).refusal(), REFUSED)
        for version in "v1", "v4":
            with self.subTest(version=version):
                with_token = service.Logstore(self.service.client(key, version), self.logstore.name)
                self.assertEqual(with_token.logs(), LOGS)
                bare = service.Key(key.id, key.secret)
                without = service.Logstore(self.service.client(bare, version), self.logstore.name)
                self.assert_refused(without.logs)


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()
