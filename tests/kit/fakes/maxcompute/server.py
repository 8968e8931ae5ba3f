"""Both servers of MaxCompute at one port: the service below `/api`, and Tunnel."""

import json
import re
import secrets
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from xml.sax.saxutils import escape

from kit.fakes.http import Answer
from kit.fakes.http import Server as HttpServer
from kit.fakes.keys import Keyring
from kit.fakes.maxcompute import auth, blocks, sql
from kit.fakes.maxcompute.refused import Refused
from kit.fakes.maxcompute.sessions import BLOCKS, Session
from kit.fakes.maxcompute.tables import Table, columns

REGION = "cn-local"
PROJECT = "logs"
RIGHTS = frozenset({"Read", "List", "Describe", "Select", "Alter", "Update", "CreateTable", "CreateInstance", "Drop"})
TABLE = re.compile(r"/projects/(\w+)(?:/schemas/(\w+))?/tables/(\w+)")
INSTANCE = re.compile(r"/projects/(\w+)/instances(?:/(\w+))?")


class Server(HttpServer):
    """A region of MaxCompute with a project. Tests add tables, read rows, and expire sessions."""

    software = "MaxCompute-fake"

    def __init__(self, keys=None, context=None, project=PROJECT):
        self.keys = keys or Keyring()
        # Tables of a project, or of a schema of one.
        self.projects = {project: {}}
        self.project = project
        self.sessions, self.instances = {}, {}
        # The rights of keys that don't have all.
        self.rights = defaultdict(lambda: RIGHTS)
        self.refusals = []
        super().__init__(context)

    @property
    def endpoint(self):
        return f"{self.url}/api"

    @property
    def tables(self):
        return self.projects[self.project]

    def add_table(self, name, own, keys=(), partitions=()):
        """Adds a table. Columns are texts: `a bigint not null`."""
        table = self.tables[name] = Table(name, columns(own), columns(keys))
        for partition in partitions:
            table.partition(partition, create=True)
        return table

    def blocks(self, table, partition=""):
        """The committed blocks of a partition."""
        with self.lock:
            return list(self.tables[table].partitions.get(partition, ()))

    def rows(self, table, partition=""):
        """The committed rows of a partition, as tuples."""
        return [row for block in self.blocks(table, partition) for row in block.rows()]

    def partitions(self, table):
        """The partitions of a table that have rows, with their number of rows."""
        with self.lock:
            found = {text: sum(block.count for block in of) for text, of in self.tables[table].partitions.items()}
        return {text: count for text, count in found.items() if count}

    def expire(self, *sessions):
        """Expires open sessions, or all."""
        with self.lock:
            for session in sessions or self.sessions.values():
                if session.status == "normal":
                    session.status = "expired"

    def forget(self, *sessions):
        """Forgets sessions, or all, as the server does some time after their end."""
        with self.lock:
            for session in sessions or list(self.sessions.values()):
                del self.sessions[session.id]

    def answer(self, request):
        request_id = time.strftime("%Y%m%d%H%M%S") + secrets.token_hex(8)
        headers = {"x-odps-request-id": request_id}
        path, is_service = request.target.partition("?")[0], False
        if path == "/api" or path.startswith("/api/"):
            path, is_service = path.removeprefix("/api"), True
        try:
            key = auth.authenticate(request, path, self.keys, REGION)
            with self.lock:
                answer = (self.service if is_service else self.tunnel)(request, path, key)
        except Refused as refused:
            self.refusals.append((request, refused))
            body, kind = refused.json(), "application/json"
            if is_service:
                body, kind = refused.xml(request_id), "application/xml"
            return Answer(refused.status, body, headers | {"Content-Type": kind})
        answer.headers |= headers
        return answer

    # The service.

    def service(self, request, path, key):
        """Answers a request about projects, tables and statements."""
        if match := INSTANCE.fullmatch(path):
            return self.instance(request, key, *match.groups())
        if match := TABLE.fullmatch(path):
            table = self.find(key, "Describe", *match.groups())
            if "partition" not in request.query:
                return xml(table.xml())
            try:
                table.partition(request.query["partition"])
            except Refused as refused:
                raise Refused(refused.status, "NoSuchObject", refused.message) from None
            return xml("<Partition/>")
        name, _, rest = path.removeprefix("/projects/").partition("/")
        project = self.project_of(key, name)
        if rest == "tunnel" and "service" in request.query:
            return Answer(200, self.url.partition("://")[2].encode(), {"Content-Type": "text/plain"})
        if rest.rstrip("/") == "tables":
            self.expect(key, "List", name)
            tables = "".join(f"<Table><Name>{table}</Name></Table>" for table in sorted(project))
            return xml(f"<Tables><Marker/><MaxItems>1000</MaxItems>{tables}</Tables>")
        if not rest:
            return xml(f"<Project><Name>{name}</Name><State>AVAILABLE</State><Properties/></Project>")
        raise Refused(404, "NoSuchObject", f"{request.method} {path} is not known to the fake.")

    def project_of(self, key, name, schema=None):
        place = f"{name}.{schema}" if schema else name
        if place not in self.projects:
            raise Refused(404, "NoSuchProject", f"Project {place} does not exist.")
        self.expect(key, "Read", place)
        return self.projects[place]

    def expect(self, key, right, of):
        if right not in self.rights[key.id]:
            raise Refused(403, "NoPermission", f"You have NO privilege 'odps:{right}' on {{acs:odps:*:{of}}}.")

    def find(self, key, right, project, schema, name):
        tables = self.project_of(key, project, schema)
        if (table := tables.get(name.lower())) is None:
            raise Refused(404, "NoSuchObject", f"Table or view not found: {project}.{name}.")
        self.expect(key, right, f"projects/{project}/tables/{name}")
        return table

    def instance(self, request, key, project, instance):
        tables = self.project_of(key, project)
        if instance is None:
            self.expect(key, "CreateInstance", f"projects/{project}")
            if request.method != "POST" or request.headers.get("content-type") != "application/xml":
                raise Refused(400, "InvalidArgument", "An instance is posted as application/xml.")
            instance = f"2026{secrets.token_hex(10)}"
            self.instances[instance] = [2, *self.run(request, key, tables)]
            location = f"{self.endpoint}/projects/{project}/instances/{instance}"
            return Answer(201, b"", {"Location": location})
        if instance not in self.instances:
            raise Refused(404, "NoSuchObject", f"Instance {instance} does not exist.")
        state = self.instances[instance]
        if "taskstatus" in request.query:
            task = f'<Task Type="SQL"><Name>AnonymousSQLTask</Name><Status>{state[1]}</Status></Task>'
            return xml(f"<Instance><Status>Terminated</Status><Tasks>{task}</Tasks></Instance>")
        if "result" in request.query:
            result = f'<Result Format="text"><![CDATA[{state[2]}]]></Result>'
            task = f'<Task Type="SQL"><Name>AnonymousSQLTask</Name>{result}</Task>'
            return xml(f"<Instance><Tasks>{task}</Tasks></Instance>")
        # It runs for a while.
        state[0] = max(0, state[0] - 1)
        return xml(f"<Instance><Status>{'Running' if state[0] else 'Terminated'}</Status></Instance>")

    def run(self, request, key, tables):
        """Runs a statement. Returns its status and result."""
        try:
            job = ET.fromstring(request.body)
            name, query = job.find(".//SQL/Name"), job.find(".//SQL/Query")
        except ET.ParseError as error:
            raise Refused(400, "MalformedXML", str(error)) from None
        if name is None or query is None or not query.text or not query.text.rstrip().endswith(";"):
            raise Refused(400, "InvalidArgument", "The instance has no SQL task, or its statement does not end with ;.")
        try:
            return "Success", sql.run(tables, query.text, self.rights[key.id])
        except sql.Failed as failed:
            return "Failed", escape(f"FAILED: {failed}")

    # Tunnel.

    def tunnel(self, request, path, key):
        """Answers a request about upload sessions."""
        if not (match := TABLE.fullmatch(path)):
            raise Refused(404, "NoSuchObject", f"{request.method} {path} is not known to the fake.")
        query = request.query
        if query.get("curr_project") != match[1]:
            raise Refused(400, "InvalidArgument", "The parameter curr_project is missing or of another project.")
        if request.headers.get("x-odps-tunnel-version") is None:
            raise Refused(400, "InvalidArgument", "The header x-odps-tunnel-version is missing.")
        try:
            table = self.find(key, "Update", *match.groups())
        except Refused as refused:
            known = {"NoSuchObject": "NoSuchTable"}
            raise Refused(refused.status, known.get(refused.code, refused.code), refused.message) from None
        if request.method == "POST" and "uploads" in query:
            return said(self.create(key, table, query).json())
        session = self.session(table, query)
        if request.method == "GET":
            return said(session.json(query.get("getblockid") != "false"))
        if request.method == "PUT":
            return self.put(session, request)
        if request.method == "POST":
            if request.body:
                raise Refused(400, "InvalidArgument", "A commit has no body.")
            session.commit()
            return said(session.json())
        raise Refused(405, "MethodNotAllowed", request.method)

    def create(self, key, table, query):
        creates = query.get("create_partition") == "true"
        if creates:
            self.expect(key, "Alter", table.name)
        partition = table.partition(query.get("partition", ""), creates)
        session = Session(table, partition, query.get("overwrite") == "true", self.keys.now())
        self.sessions[session.id] = session
        return session

    def session(self, table, query):
        session, now = self.sessions.get(query.get("uploadid")), self.keys.now()
        if session is None or not session.is_known(now):
            raise Refused(404, "NoSuchUpload", "The upload session does not exist.")
        if session.table is not table or session.partition != table.partition(query.get("partition", "")):
            raise Refused(400, "InvalidArgument", "The upload session is of another table or partition.")
        session.expire_at(now)
        return session

    def put(self, session, request):
        session.expect_open()
        number = request.query.get("blockid", "")
        if not number.isdecimal() or int(number) >= BLOCKS:
            raise Refused(400, "InvalidBlockID", f"Block id {number!r} is not 0-{BLOCKS - 1}.")
        encoding = request.headers.get("content-encoding", "")
        session.put(int(number), blocks.decode(request.body, encoding, "arrow" in request.query, session.table))
        return Answer(200, b"", {"odps-tunnel-metrics": "{}"})


def xml(text):
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Answer(200, body, {"Content-Type": "application/xml"})


def said(what):
    return Answer(200, json.dumps(what).encode(), {"Content-Type": "application/json"})
