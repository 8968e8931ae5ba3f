"""The fake of Table Store takes what the vendor's client sends, and refuses what the service refuses."""

import base64
import hashlib
import unittest
from http.client import HTTPConnection

import tablestore
from tablestore import (
    BatchWriteRowRequest,
    Condition,
    OTSClient,
    OTSServiceError,
    PutRowItem,
    Row,
    RowExistenceExpectation,
    TableInBatchWriteRowItem,
    UpdateRowItem,
)
from tablestore.plainbuffer.plain_buffer_builder import PlainBufferBuilder
from tablestore.protobuf import table_store_pb2 as pb2

from kit.fakes.http import Answer
from kit.fakes.keys import Keyring, role_arn
from kit.fakes.table_store import INSTANCE, REGION, Refuse, Server, plain_buffer

TABLE = "logs"
KEY = ("source", 2), ("shard", 1), ("cursor", 1), ("n", 1)
IGNORE = Condition(RowExistenceExpectation.IGNORE)
NEW = Condition(RowExistenceExpectation.EXPECT_NOT_EXIST)
VALUES = {"s": "héllo", "empty": "", "i": -(1 << 63), "d": 1.5, "yes": True, "no": False, "x": bytearray(b"\1\2\xff")}
VECTOR = (
    "7500000001030405000000736861726405090000000000000000000000000a2e030406000000637572736f72050d00000003080000"
    "004d5463354e513d3d0aa20304010000006e05090000000000000000000000000a5b0203040100000073050b000000030600000068"
    "c3a96c6c6f0a5003040100000069050900000000fbffffffffffffff0adf03040100000064050900000001000000000000f83f0aba"
    "03040100000062050200000002010a3e030401000000780507000000070200000001020a47097c"
)


def key(n=0, source="a/b", shard=0, cursor=7):
    return [("source", source), ("shard", shard), ("cursor", cursor), ("n", n)]


def put(n=0, values=VALUES, condition=IGNORE):
    return PutRowItem(Row(key(n), list(values.items())), condition)


class Case(unittest.TestCase):
    def setUp(self):
        self.keys = Keyring()
        self.key = self.keys.add()
        self.server = Server(self.keys)
        self.addCleanup(self.server.close)
        self.table = self.server.create(TABLE, *KEY)
        self.client = self.open()

    def open(self, key=None, **options):
        key = key or self.key
        options = {"sts_token": key.token or None, "retry_policy": tablestore.NoRetryPolicy(), **options}
        return OTSClient(self.server.url, key.id, key.secret, INSTANCE, **options)

    def write(self, *rows, client=None, table=TABLE):
        """Writes rows. Returns the error code of each, empty for success."""
        request = BatchWriteRowRequest()
        request.add(TableInBatchWriteRowItem(table, list(rows)))
        answer = (client or self.client).batch_write_row(request)
        items = [*answer.get_put_by_table(table), *answer.get_update_by_table(table)]
        return [item.error_code or "" for item in sorted(items, key=lambda item: item.index)]

    def refusal(self, *rows, **options):
        with self.assertRaises(OTSServiceError) as caught:
            self.write(*rows, **options)
        return caught.exception.code


class Vendor(Case):
    def test_stores_values_of_all_types(self):
        self.assertEqual(self.write(put(0), put(1)), ["", ""])
        self.assertEqual(self.table.rows, {("a/b", 0, 7, n): VALUES for n in (0, 1)})
        self.client.put_row(TABLE, Row(key(2), [("a", 1), ("b", 2)]))
        self.client.update_row(TABLE, Row(key(2), {"PUT": [("a", "new")], "DELETE_ALL": ["b"]}), IGNORE)
        self.assertEqual(self.table.rows["a/b", 0, 7, 2], {"a": "new"})
        self.assertEqual(self.write(UpdateRowItem(Row(key(2), {"PUT": [("c", 1)]}), IGNORE)), [""])
        self.assertEqual(self.table.rows["a/b", 0, 7, 2], {"a": "new", "c": 1})

    def test_signatures_and_tokens(self):
        temporary = self.keys.issue(role_arn(self.key.account, "writer"), "session", 900)
        for key in self.key, temporary:
            for options in {}, {"region": REGION}:
                with self.subTest(key=key, options=options):
                    self.assertEqual(self.write(put(), client=self.open(key, **options)), [""])
        stranger = Keyring().add()
        wrong = type(self.key)(self.key.id, "wrong", self.key.principal)
        tokenless = type(self.key)(temporary.id, temporary.secret, temporary.principal)
        for refused in stranger, wrong, tokenless:
            for options in {}, {"region": REGION}:
                self.assertEqual(self.refusal(put(), client=self.open(refused, **options)), "OTSAuthFailed")
        self.assertEqual(self.refusal(put(), client=self.open(region="elsewhere")), "OTSAuthFailed")
        self.keys.expire(temporary)
        self.assertEqual(self.refusal(put(), client=self.open(temporary)), "OTSAuthFailed")
        self.server.deny(self.key.id)
        self.assertEqual(self.refusal(put()), "OTSNoPermissionAccess")

    def test_client_checks_answers(self):
        self.server.answer = lambda request: Answer(200, b"")
        with self.assertRaises(tablestore.OTSClientError):
            self.write(put())

    def test_creates_and_describes_tables(self):
        meta = tablestore.TableMeta("new", [("k", "STRING"), ("b", "BINARY")], [("c", "INTEGER")])
        options = tablestore.TableOptions(-1, 1, 86_400)
        capacity = tablestore.ReservedThroughput(tablestore.CapacityUnit(0, 0))
        self.client.create_table(meta, options, capacity)
        self.assertEqual(sorted(self.client.list_table()), [TABLE, "new"])
        described = self.client.describe_table("new")
        self.assertEqual(described.table_meta.schema_of_primary_key, [("k", "STRING"), ("b", "BINARY")])
        self.assertEqual(described.table_options.max_version, 1)
        with self.assertRaises(OTSServiceError) as caught:
            self.client.create_table(meta, options, capacity)
        self.assertEqual(caught.exception.code, "OTSObjectAlreadyExist")
        self.client.delete_table("new")
        with self.assertRaises(OTSServiceError) as caught:
            self.client.describe_table("new")
        self.assertEqual(caught.exception.code, "OTSObjectNotExist")

    def test_conditions_fail_single_rows(self):
        self.assertEqual(self.write(put(0, condition=NEW)), [""])
        codes = self.write(put(0, condition=NEW), put(1, condition=NEW))
        self.assertEqual(codes, ["OTSConditionCheckFail", ""])
        self.assertEqual(self.table.writes, {("a/b", 0, 7, 0): 1, ("a/b", 0, 7, 1): 1})


class Limits(Case):
    def test_refuses_whole_requests(self):
        long = PutRowItem(Row(key(source="x" * 1025), []), IGNORE)
        for code, rows in [
            ("OTSParameterInvalid", [put(0), put(0)]),
            ("OTSParameterInvalid", [put(n) for n in range(201)]),
            ("OTSParameterInvalid", [put(n, {"a": "x" * (2 << 20)}) for n in range(2)]),
            ("OTSParameterInvalid", [put(0, {"a": "x" * (2 << 20) + "y"})]),
            ("OTSParameterInvalid", [put(0, {"user-agent": "x"})]),
            ("OTSParameterInvalid", [put(0, {"n": 1})]),
            ("OTSParameterInvalid", [long]),
            ("OTSOutOfColumnCountLimit", [put(0, {f"c{n}": n for n in range(1025)})]),
            ("OTSInvalidPK", [PutRowItem(Row(key()[:3], []), IGNORE)]),
            ("OTSInvalidPK", [PutRowItem(Row(key(shard="0"), []), IGNORE)]),
            ("OTSRequestBodyTooLarge", [put(n, {"a": "x" * (2 << 20)}) for n in range(3)]),
        ]:
            with self.subTest(code=code, rows=len(rows)):
                self.assertEqual(self.refusal(*rows), code)
        self.assertEqual(self.refusal(put(), table="absent"), "OTSObjectNotExist")
        self.assertEqual(self.table.rows, {})
        self.assertEqual(self.write(*(put(n) for n in range(200))), [""] * 200)

    def test_refuses_damaged_rows(self):
        whole = bytes(PlainBufferBuilder.serialize_for_put_row(key(), list(VALUES.items())))
        for at in range(len(whole)):
            with self.assertRaises((plain_buffer.Invalid, UnicodeDecodeError)):
                plain_buffer.read_row(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for other in whole[:-1], whole + b"\0", whole[4:], b"":
            with self.assertRaises(plain_buffer.Invalid):
                plain_buffer.read_row(other)

    def test_reads_known_row(self):
        key, columns = plain_buffer.read_row(bytes.fromhex(VECTOR))
        self.assertEqual(key, [("shard", 0), ("cursor", "MTc5NQ=="), ("n", 0)])
        found = {name: value for name, value, _, _ in columns}
        self.assertEqual(found, {"s": "héllo", "i": -5, "d": 1.5, "b": True, "x": bytearray(b"\1\2")})


class Faults(Case):
    def test_whole_requests_and_single_rows(self):
        self.server.inject(Refuse("OTSServerBusy"), path="/BatchWriteRow")
        self.assertEqual(self.refusal(put()), "OTSServerBusy")
        self.assertEqual(self.table.rows, {})
        self.server.inject(Refuse("OTSTimeout", before=False), path="/BatchWriteRow")
        self.assertEqual(self.refusal(put(0)), "OTSTimeout")
        self.assertEqual(len(self.table.rows), 1)
        self.server.fail_rows("OTSNotEnoughCapacityUnit", when=lambda _, key: key[-1] == 1)
        self.server.fail_rows("OTSTimeout", when=lambda _, key: key[-1] == 2, stored=True)
        codes = self.write(*(put(n) for n in range(4)))
        self.assertEqual(codes, ["", "OTSNotEnoughCapacityUnit", "OTSTimeout", ""])
        self.assertEqual(sorted(row[-1] for row in self.table.rows), [0, 2, 3])

    def test_control_interface(self):
        connection = HTTPConnection(*self.server.address)
        self.addCleanup(connection.close)
        connection.request("POST", "/_control/faults", b'{"code": "OTSServerBusy", "times": 2}')
        reply = connection.getresponse()
        self.assertEqual((reply.status, reply.read()), (204, b""))
        self.assertEqual([self.refusal(put()) for _ in range(2)], ["OTSServerBusy"] * 2)
        self.assertEqual(self.write(put(3, {"a": bytearray(b"\1")})), [""])
        connection.request("GET", f"/_control/rows/{TABLE}")
        rows = connection.getresponse().read()
        self.assertEqual(rows, b'[{"key": ["a/b", 0, 7, 3], "columns": {"a": "01"}}]')

    def test_unsigned_body(self):
        """A body that is not the one of its digest is refused."""
        request = pb2.ListTableRequest().SerializeToString()
        md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        client = self.open(region=None)
        original = self.server.answer

        def changed(received):
            received.headers["x-ots-contentmd5"] = md5
            return original(received)

        self.server.answer = changed
        with self.assertRaises(OTSServiceError) as caught:
            client.list_table()
        self.assertEqual((caught.exception.code, request), ("OTSAuthFailed", b""))
