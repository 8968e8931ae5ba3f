"""The fake of MaxCompute takes what the vendor's unmodified client sends, and refuses what the service refuses."""

import datetime
import decimal
import unittest
from types import SimpleNamespace
from unittest import mock
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa
import requests
from odps import ODPS, errors
from odps.accounts import StsAccount
from odps.tunnel import CompressOption, TableTunnel
from odps.tunnel.checksum import Checksum
from odps.tunnel.errors import TunnelError

from kit.fakes import maxcompute
from kit.fakes.maxcompute import auth
from kit.fakes.maxcompute.refused import Refused
from kit.fakes.maxcompute.server import REGION

KINDS = "bigint double boolean datetime string decimal(10,2) array<string> timestamp date".split()
COLUMNS = [f"c{number} {kind}" for number, kind in enumerate(KINDS)]
# The vector of the wire facts: three rows, the last of nulls.
VECTOR = bytes.fromhex(
    "080211000000000000f83f180120f6c1b5eec5682a0668c3a96c6c6f320531322e33303a0300017801000048e8c40280c0ff7fe9c9e3dc0208"
    "0118002a003a0080c0ff7fcaf0963b80c0ff7f00f0ffff7f06f8ffff7fc588f1b702"
)
PATH = "/projects/logs/tables/t"
MALFORMED = ("IncompleteBody", "MalformedDataStream", "CorruptedDataStream")


class Case(unittest.TestCase):
    def setUp(self):
        self.server = maxcompute.Server()
        self.addCleanup(self.server.close)
        self.key = self.server.keys.add()

    def client(self, key=None, **more):
        key = key or self.key
        if key.token:
            account = StsAccount(key.id, key.secret, key.token)
            return ODPS(account=account, project="logs", endpoint=self.server.endpoint, **more)
        return ODPS(key.id, key.secret, project="logs", endpoint=self.server.endpoint, **more)

    def upload(self, table="t", partition=None, client=None, **more):
        client = client or self.client()
        return TableTunnel(client).create_upload_session(client.get_table(table), partition_spec=partition, **more)

    def write(self, session, block, rows, **more):
        with session.open_record_writer(block, **more) as writer:
            for row in rows:
                writer.write(session.new_record(list(row)))


class Uploads(Case):
    """Uploads of the vendor's client."""

    def test_all_types_in_blocks_of_records(self):
        self.server.add_table("t", COLUMNS)
        session = self.upload()
        moment = datetime.datetime(2026, 12, 1, 0, 0, 0, 123000)
        row = (1, 1.5, True, moment, "héllo", decimal.Decimal("12.30"), ["x", None, ""], None, moment.date())
        self.write(session, 0, [row])
        self.write(session, 3, [(None,) * 9], compress=True)
        self.assertEqual([0, 3], sorted(session.get_block_list()))
        self.assertEqual([], self.server.rows("t"))
        session.commit([0, 3])
        rows = self.server.rows("t")
        self.assertEqual([row, (None,) * 9], rows)
        methods = {(request.method, *sorted(request.query)[:2]) for request in self.server.requests}
        self.assertIn(("GET", "curr_project", "service"), methods, "it asks for the Tunnel server")

    def test_arrow_blocks(self):
        table = self.server.add_table("t", COLUMNS)
        # Pandas is not installed. The client asks for its type only.
        pandas = mock.patch("odps.tunnel.io.writer.pd", SimpleNamespace(DataFrame=type(None)))
        pandas.start()
        self.addCleanup(pandas.stop)
        session = self.upload()
        rows = [{f"c{number}": None for number in range(9)} | {"c0": number, "c4": "é" * 50} for number in range(5000)]
        batch = pa.RecordBatch.from_pylist(rows, schema=table.arrow_schema)
        with session.open_arrow_writer(0) as writer:
            writer.write(batch.slice(0, 4000))
            writer.write(batch.slice(4000))
        with session.open_arrow_writer(1, compress=True) as writer:
            writer.write(batch.slice(0, 1))
        session.commit([0, 1])
        got = self.server.rows("t")
        self.assertEqual([*range(5000), 0], [row[0] for row in got])
        self.assertEqual((0, None, None, None, "é" * 50), got[0][:5])

    def test_compressions(self):
        self.server.add_table("t", ["a string"])
        for algorithm in (CompressOption.CompressAlgorithm.ODPS_SNAPPY, CompressOption.CompressAlgorithm.ODPS_ZLIB):
            session = self.upload(compress_option=CompressOption(algorithm))
            self.write(session, 0, [("a" * 1000,)], compress=True)
            session.commit([0])
        self.assertEqual([("a" * 1000,)] * 2, self.server.rows("t"))

    def test_partitions_are_expected_created_and_overwritten(self):
        table = self.server.add_table("t", ["a bigint"], ["pt string", "hh string"], ["pt=1,hh=00"])
        wrong = {None: "MissingPartitionSpec", "pt=1": "InvalidPartitionSpec", "pt=2,hh=00": "NoSuchPartition"}
        for partition, code in wrong.items():
            with self.subTest(code), self.assertRaises((TunnelError, errors.ODPSError)) as raised:
                self.upload(partition=partition)
            self.assertIn(code, f"{raised.exception.code} {raised.exception}")
        for number, more in enumerate(({}, {}, {"overwrite": True})):
            session = self.upload(partition="pt='1',hh='00'", **more)
            self.write(session, 0, [(number,)])
            session.commit([0])
        self.assertEqual([(2,)], self.server.rows("t", "pt=1,hh=00"))
        self.upload(partition="pt=2,hh=00", create_partition=True)
        self.assertEqual({"pt=1,hh=00", "pt=2,hh=00"}, set(table.partitions))

    def test_a_rewritten_block_is_replaced(self):
        self.server.add_table("t", ["a bigint"])
        session = self.upload()
        for number in range(3):
            self.write(session, 7, [(number,)])
        session.commit([7])
        self.assertEqual([(2,)], self.server.rows("t"))
        with self.assertRaises(Exception) as raised:
            self.write(session, 8, [(1,)])
        self.assertIn("StatusConflict", str(raised.exception))

    def test_version_4_and_tokens(self):
        self.server.add_table("t", ["a bigint"])
        temporary = self.server.keys.issue("acs:ram::1000000000000001:role/r", "s", 900)
        for key, more in ((None, {"region_name": REGION}), (temporary, {}), (temporary, {"region_name": REGION})):
            client = self.client(key, **more)
            session = self.upload(client=client)
            self.write(session, 0, [(5,)])
            session.commit([0])
        self.assertEqual([(5,)] * 3, self.server.rows("t"))
        schemes = {request.headers["authorization"].count("/") >= 4 for request in self.server.requests}
        self.assertEqual({True, False}, schemes)

    def test_statements(self):
        client = self.client()
        ddl = "CREATE TABLE IF NOT EXISTS n (a BIGINT NOT NULL COMMENT 'its', `b` DECIMAL(10,2), c MAP<STRING,ARRAY<INT>>)"
        ddl += " COMMENT 'x' PARTITIONED BY (pt STRING) LIFECYCLE 7"
        client.execute_sql(ddl)
        client.execute_sql(ddl)
        table = client.get_table("n")
        kinds = [str(column.type).lower() for column in table.table_schema.simple_columns]
        self.assertEqual(["bigint", "decimal(10,2)", "map<string,array<int>>"], kinds)
        client.execute_sql("ALTER TABLE n ADD IF NOT EXISTS PARTITION (pt='a')")
        self.assertEqual(["pt=a"], list(self.server.tables["n"].partitions))
        again, kind, missing = "CREATE TABLE n (a BIGINT)", "CREATE TABLE x (a NOTYPE)", "ALTER TABLE m ADD PARTITION (pt='a')"
        for wrong in ("SELECT 1", again, kind, missing):
            with self.subTest(wrong), self.assertRaises(errors.ODPSError):
                client.execute_sql(wrong)

    def test_faults_before_and_after(self):
        self.server.add_table("t", ["a bigint"])
        session = self.upload()
        self.write(session, 0, [(1,)])
        self.server.inject(maxcompute.Refuse(500, "InternalServerError", before=False), method="POST")
        with self.subTest("the vendor's client retries, though the rows are committed"):
            try:
                session.commit([0])
            except (TunnelError, errors.ODPSError) as error:
                self.assertIn("StatusConflict", f"{error.code} {error}")
        self.assertEqual([(1,)], self.server.rows("t"))


class Refusals(Case):
    """Refusals of requests that the vendor's client never sends."""

    def setUp(self):
        super().setUp()
        self.server.add_table("t", COLUMNS)
        self.id = self.upload().id

    def send(self, method="PUT", body=b"", key=None, changes=(), date=None, headers=(), path=PATH, **query):
        key = key or self.key
        query = {"curr_project": "logs", "uploadid": self.id, **query}
        target = f"{path}?{urlencode({name: value for name, value in query.items() if value is not None})}"
        headers = {"x-odps-tunnel-version": "6", "date": date or now(), **dict(headers)}
        request = requests.Request(method, self.server.url + target, headers, data=body).prepare()
        names = {name.lower(): value for name, value in request.headers.items()}
        text = auth.string_to_sign(_Plain(method, target, names), path)
        request.headers["Authorization"] = f"ODPS {key.id}:{auth.sign(text, key.secret)}"
        request.headers.update(dict(changes))
        with requests.Session() as session:
            return session.send(request)

    def code(self, *arguments, **more):
        answer = self.send(*arguments, **more)
        self.assertIn("x-odps-request-id", answer.headers)
        return answer.json()["Code"] if answer.status_code != 200 else 200

    def test_signatures(self):
        self.assertEqual(200, self.code("GET"))
        unauthorized = [
            {"changes": {"date": now(5)}},
            {"date": "never"},
            {"date": now(16 * 60)},
            {"date": now(-16 * 60)},
            {"changes": {"Authorization": "ODPS x"}},
            {"changes": {"Authorization": f"ODPS {self.key.id}/20261130/other/odps/aliyun_v4_request:x"}},
            {"changes": {"x-odps-tunnel-version": "7"}},
            {"changes": {"authorization-sts-token": "x"}},
        ]
        for case in unauthorized:
            with self.subTest(case):
                self.assertEqual("Unauthorized", self.code("GET", **case))
        stranger = type(self.key)("nobody", "x", self.key.principal)
        self.assertEqual("InvalidAccessKeyId", self.code("GET", key=stranger))
        self.server.rights[self.key.id] = frozenset({"Read", "Describe"})
        self.assertEqual("NoPermission", self.code("GET"))

    def test_vector_of_the_vendor(self):
        self.assertEqual(200, self.code(body=VECTOR, blockid=0))
        self.assertEqual(200, self.code("POST"))
        rows = self.server.rows("t")
        self.assertEqual((3, 1, "héllo", (None,) * 9), (len(rows), rows[0][0], rows[0][4], rows[2]))
        self.assertEqual("StatusConflict", self.code(body=VECTOR, blockid=0))
        self.assertEqual("StatusConflict", self.code("POST"))

    def test_blocks_without_end_or_with_wrong_types(self):
        footer = VECTOR.index(bytes.fromhex("f0ffff7f"))
        checksum = VECTOR.index(bytes.fromhex("f8ffff7f"))
        cases = {
            "empty": b"",
            "no footer": VECTOR[:footer],
            "no checksum": VECTOR[:checksum],
            "cut": VECTOR[:-1],
            "more": VECTOR + b"\0",
            "count": VECTOR[: footer + 4] + b"\x04" + VECTOR[footer + 5 :],
            "record's checksum": VECTOR.replace(bytes.fromhex("caf0963b"), bytes.fromhex("cbf0963b")),
            "wire type": b"\x0a" + VECTOR[1:],
            "column 10": b"\x50" + VECTOR[1:],
            "null flag": VECTOR.replace(bytes.fromhex("000178"), bytes.fromhex("000278")),
        }
        for name, body in cases.items():
            with self.subTest(name):
                self.assertIn(self.code(body=body, blockid=0), MALFORMED)
        for encoding, code in {"deflate": "CorruptedDataStream", "br": "InvalidArgument"}.items():
            self.assertEqual(code, self.code(body=VECTOR, blockid=0, headers={"content-encoding": encoding}))

    def test_most_flipped_bits_are_refused(self):
        taken = 0
        for bit in range(0, len(VECTOR) * 8, 3):
            body = bytearray(VECTOR)
            body[bit // 8] ^= 1 << bit % 8
            taken += self.code(body=bytes(body), blockid=0) == 200
        # Null flags and counts of elements are in no checksum.
        self.assertLessEqual(taken, 4)

    def test_malformed_arrow_blocks(self):
        schema = self.server.tables["t"].arrow_schema
        batch = pa.RecordBatch.from_pylist([{"c0": 1}], schema=schema)
        good = framed(batch.serialize().to_pybytes())
        self.assertEqual(200, self.code(body=good, blockid=0, arrow=""))
        other = pa.RecordBatch.from_pydict({"c0": ["x"]})
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, schema) as writer:
            writer.write_batch(batch)
        cases = {
            "cut": good[:-1],
            "checksum": good[:-1] + bytes([good[-1] ^ 1]),
            "other columns": framed(other.serialize().to_pybytes()),
            "schema message": framed(stream.getvalue().to_pybytes()),
            "not arrow": framed(b"x" * 100),
            "records": VECTOR,
        }
        for name, body in cases.items():
            with self.subTest(name):
                self.assertNotEqual(200, self.code(body=body, blockid=0, arrow=""))

    def test_sessions(self):
        self.assertEqual("InvalidBlockID", self.code(body=VECTOR, blockid=20000))
        self.assertEqual("InvalidBlockID", self.code(body=VECTOR, blockid=-1))
        self.assertEqual("InvalidBlockID", self.code(body=VECTOR))
        self.assertEqual("NoSuchUpload", self.code("GET", uploadid="x"))
        self.assertEqual("NoSuchTable", self.code("GET", path="/projects/logs/tables/u"))
        self.assertEqual("NoSuchProject", self.code("GET", path="/projects/other/tables/u", curr_project="other"))
        self.assertEqual("InvalidArgument", self.code("GET", curr_project=None))
        self.server.keys.ahead = 24 * 3600 + 1
        self.assertEqual("expired", self.send("GET", date=now(self.server.keys.ahead)).json()["Status"])
        self.assertEqual("StatusConflict", self.code("POST", date=now(self.server.keys.ahead)))
        self.server.keys.ahead = 49 * 3600
        self.assertEqual("NoSuchUpload", self.code("GET", date=now(self.server.keys.ahead)))

    def test_changed_table(self):
        self.server.tables["t"].change_columns(["a bigint"])
        self.assertEqual("TableModified", self.code("POST"))

    def test_refusals_of_both_servers_have_their_own_form(self):
        refused = Refused(400, "A<b", "c<d", 7)
        self.assertEqual(b'{"Code": "A<b", "Message": "c<d", "HoldClientMillis": 7}', refused.json())
        self.assertIn(b"<Message>c&lt;d</Message>", refused.xml("1"))


class _Plain:
    def __init__(self, method, target, headers):
        self.method, self.target, self.headers = method, target, headers
        self.query = dict(parse_qsl(target.partition("?")[2]))


def now(ahead=0):
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead)
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def framed(payload, size=65536):
    """An Arrow body of one short chunk."""
    crc = Checksum()
    crc.update(payload)
    return size.to_bytes(4, "big") + payload + int(crc.getvalue()).to_bytes(4, "big")
