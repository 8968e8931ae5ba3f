"""The operations of Table Store."""

import secrets
import time

from tablestore.protobuf import table_store_pb2 as pb2

from kit.fakes.http import Answer
from kit.fakes.http import Server as HttpServer
from kit.fakes.table_store import auth, control
from kit.fakes.table_store.answers import Refused, invalid
from kit.fakes.table_store.faults import RowFault
from kit.fakes.table_store.plain_buffer import Invalid, read_row
from kit.fakes.table_store.tables import Table, check_table

INSTANCE = "inst"
REGION = "cn-local"
MOST_BODY = 5 << 20
MOST_DATA = 4 << 20
MOST_ROWS = 200
WRITES = frozenset(["PutRow", "UpdateRow", "BatchWriteRow", "CreateTable", "DeleteTable"])


class Server(HttpServer):
    """The service of an instance. Tests may read and change `tables` at any time."""

    software = "Tablestore"
    # Requests are large.
    records = False

    def __init__(self, keys, instance=INSTANCE, region=REGION, context=None):
        self.keys, self.instance, self.region = keys, instance, region
        self.tables, self.calls, self.row_faults = {}, [], []
        self._denied = set()
        super().__init__(context)

    def create(self, name, *key, deviation=0):
        """A new table. `key` has names and types: 1 integer, 2 string, 3 binary."""
        meta = pb2.TableMeta(table_name=name)
        for column, kind in key:
            meta.primary_key.add(name=column, type=kind)
        options = pb2.TableOptions(time_to_live=-1, max_versions=1, deviation_cell_version_in_sec=deviation or 86_400)
        table = self.tables[name] = Table(name, meta, options)
        return table

    def fail_rows(self, code, **conditions):
        """Fails rows within a successful answer. Conditions are fields of `RowFault`."""
        fault = RowFault(code, **conditions)
        self.row_faults.append(fault)
        return fault

    def deny(self, key_id, operations=WRITES):
        """Denies operations to a key."""
        self._denied |= {(key_id, operation) for operation in operations}

    def allow(self, key_id):
        self._denied = {denied for denied in self._denied if denied[0] != key_id}

    def count(self, operation, code=None):
        """Counts the requests of an operation; with a code, those refused with it, or granted for the empty one."""
        return sum(name == operation and code in (None, found) for name, found in list(self.calls))

    def answer(self, request):
        if request.path.startswith(control.PREFIX):
            return control.answer(self, request)
        operation, code, signing = request.path.lstrip("/"), "", None
        try:
            if request.method != "POST":
                raise Refused("OTSMethodNotAllowed", "Only POST method for requests is supported.")
            if len(request.body) > MOST_BODY:
                raise Refused("OTSRequestBodyTooLarge", "The size of POST data is too large.")
            signing = auth.authenticate(request, self.keys, self.instance, self.region)
            handler = OPERATIONS.get(operation)
            if handler is None:
                raise Refused("OTSUnsupportOperation", f"Unsupported operation: '{operation}'.")
            if (signing[1].id, operation) in self._denied:
                raise Refused("OTSNoPermissionAccess", "You have no permission to access the requested resource.")
            with self.lock:
                answer = Answer(200, handler(self, request.body).SerializeToString())
        except Refused as refused:
            code, answer = refused.code, Answer(refused.status, refused.body())
        self.calls.append((operation, code))
        return self._signed(request, answer, signing)

    def _signed(self, request, answer, signing):
        headers = {
            "x-ots-contentmd5": auth.digest(answer.body),
            "x-ots-requestid": secrets.token_hex(16),
            "x-ots-date": auth.now(),
            "x-ots-contenttype": "protocol buffer",
        }
        if signing:
            key, access = signing
            answer.headers["Authorization"] = auth.sign_answer(request.path, headers, access.id, key)
        answer.headers.update(headers)
        return answer

    def table(self, name):
        if name not in self.tables:
            raise Refused("OTSObjectNotExist", f"Requested table does not exist: '{name}'.")
        return self.tables[name]

    def create_table(self, body):
        request = _parsed(pb2.CreateTableRequest, body)
        meta = request.table_meta
        check_table(meta, request.table_options)
        if meta.table_name in self.tables:
            raise Refused("OTSObjectAlreadyExist", "Requested table already exists.")
        self.tables[meta.table_name] = Table(meta.table_name, meta, request.table_options)
        return pb2.CreateTableResponse()

    def describe_table(self, body):
        table = self.table(_parsed(pb2.DescribeTableRequest, body).table_name)
        answer = pb2.DescribeTableResponse(table_meta=table.meta, table_options=table.options)
        details = answer.reserved_throughput_details
        details.capacity_unit.read = details.capacity_unit.write = 0
        details.last_increase_time = int(time.time())
        return answer

    def delete_table(self, body):
        del self.tables[self.table(_parsed(pb2.DeleteTableRequest, body).table_name).name]
        return pb2.DeleteTableResponse()

    def list_table(self, body):
        _parsed(pb2.ListTableRequest, body)
        return pb2.ListTableResponse(table_names=sorted(self.tables))

    def put_row(self, body):
        request = _parsed(pb2.PutRowRequest, body)
        return self._write_one(request, pb2.PUT, request.row, pb2.PutRowResponse())

    def update_row(self, body):
        request = _parsed(pb2.UpdateRowRequest, body)
        return self._write_one(request, pb2.UPDATE, request.row_change, pb2.UpdateRowResponse())

    def _write_one(self, request, kind, row, answer):
        table = self.table(request.table_name)
        key, columns = _checked(table, row)
        self._write(table, kind, key, columns, request.condition)
        answer.consumed.capacity_unit.write = 1
        return answer

    def batch_write_row(self, body):
        """Checks the whole request before it writes any row."""
        request = _parsed(pb2.BatchWriteRowRequest, body)
        names = [tables.table_name for tables in request.tables]
        if not names or len(set(names)) < len(names):
            raise invalid("No table, or duplicated table name.")
        rows = [row for tables in request.tables for row in tables.rows]
        if len(rows) > MOST_ROWS:
            raise invalid(f"Rows count exceeds the upper limit: {MOST_ROWS}.")
        if sum(len(row.row_change) for row in rows) > MOST_DATA:
            raise invalid(f"The total data size of BatchWriteRow request exceeds the limit: {MOST_DATA}.")
        checked = [self._checked_table(tables) for tables in request.tables]
        answer = pb2.BatchWriteRowResponse()
        for tables, keys in zip(request.tables, checked, strict=True):
            results = answer.tables.add(table_name=tables.table_name)
            for row, (key, columns) in zip(tables.rows, keys, strict=True):
                self._write_row(self.tables[tables.table_name], row, key, columns, results.rows.add())
        return answer

    def _checked_table(self, tables):
        table = self.table(tables.table_name)
        if not tables.rows:
            raise invalid(f"No operation is specified for table: '{tables.table_name}'.")
        checked = [_checked(table, row.row_change) for row in tables.rows]
        if len({key for key, _ in checked}) < len(checked):
            raise invalid("Duplicated primary key in a table.")
        return checked

    def _write_row(self, table, row, key, columns, result):
        fault = next((fault for fault in self.row_faults if fault.fires(table.name, key)), None)
        try:
            if fault and not fault.stored:
                raise Refused(fault.code, "Injected.")
            self._write(table, row.type, key, columns, row.condition)
            if fault:
                raise Refused(fault.code, "Injected.")
        except Refused as refused:
            result.is_ok = False
            result.error.code, result.error.message = refused.code, refused.message
        else:
            result.is_ok = True
            result.consumed.capacity_unit.write = 1

    def _write(self, table, kind, key, columns, condition):
        expected = condition.row_existence
        if expected != pb2.IGNORE and (key in table.rows) != (expected == pb2.EXPECT_EXIST):
            raise Refused("OTSConditionCheckFail", "Condition check failed.")
        if kind == pb2.PUT:
            table.put(key, columns)
        elif kind == pb2.UPDATE:
            table.update(key, columns)
        else:
            table.rows.pop(key, None)


def _checked(table, row):
    try:
        key, columns = read_row(row)
    except (Invalid, UnicodeDecodeError) as error:
        raise invalid(f"Invalid row: {error}.") from None
    key = table.key_of(key)
    table.check_columns(columns)
    return key, columns


def _parsed(kind, body):
    message = kind()
    try:
        message.ParseFromString(body)
    except Exception:
        raise invalid("Failed to parse the ProtoBuf message.") from None
    if not message.IsInitialized():
        raise invalid("Failed to parse the ProtoBuf message: a required field is missing.")
    return message


OPERATIONS = {
    "CreateTable": Server.create_table,
    "DescribeTable": Server.describe_table,
    "DeleteTable": Server.delete_table,
    "ListTable": Server.list_table,
    "PutRow": Server.put_row,
    "UpdateRow": Server.update_row,
    "BatchWriteRow": Server.batch_write_row,
}
