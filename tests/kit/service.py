"""Runs the service as a user does, and speaks to it by the vendor's SDK and by plain HTTP."""

import base64
import http.client
import json
import os
import socket
import subprocess
from contextlib import closing
from dataclasses import dataclass

from aliyun.log import LogClient, LogException
from aliyun.log.auth import AUTH_VERSION_1, AUTH_VERSION_4

from kit import names
from kit.names import ADDRESS
from kit.paths import PROGRAM
from kit.process import Process, temporary_folder
from kit.waiting import PATIENCE, wait_for

# The name of the service for TLS.
NAME = names.SERVICE
PROJECT = "clients"
# Settings without a key must not find a key of the machine.
KEYLESS = {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass
class Key:
    """An access key."""

    id: str
    secret: str
    token: str = ""

    def basic(self):
        return {"Authorization": "Basic " + base64.b64encode(f"{self.id}:{self.secret}".encode()).decode()}

    def bearer(self):
        return {"Authorization": f"Bearer {self.id}:{self.secret}"}

    def environment(self):
        """The variables by which `logship` takes the key."""
        return {"SLS_AK_ID": self.id, "SLS_AK_KEY": self.secret}


@dataclass
class Reply:
    """An answer over plain HTTP."""

    status: int
    body: bytes

    def json(self):
        return json.loads(self.body)

    def refusal(self):
        """Status and code of a rejected request."""
        return self.status, self.json()["errorCode"]


class Service(Process):
    """A service with its own data directory, for one test case. It has one key, `admin`.

    `settings` is the text of its settings file.
    """

    # Variables of its environment. They may be changed; the next start takes them.
    environment = {}

    def __init__(self, test, *options, settings=""):
        self.folder = temporary_folder(test)
        super().__init__(test, self.folder / "log")
        self.data = self.folder / "data"
        self.settings = self.folder / "settings.toml"
        self.settings.write_text(settings)
        self.options = ("--config", self.settings, *options)
        self.host = ADDRESS
        self.port = 0
        self.start()
        self.admin = self.create_key("--allow", "admin")
        # A running service looks for new keys once a second; the next start finds it at once.
        self.restart()

    def start(self):
        """Starts it, or starts it again at the same port."""
        command = [PROGRAM, "serve", "--data", self.data, "--listen", f"{ADDRESS}:{self.port}"]
        self.spawn([*command, "--log-format", "json", *self.options])
        url = wait_for(self._url)
        self.scheme, _, place = url.partition("://")
        self.port = int(place.rpartition(":")[2])

    def spawn(self, command, environment=None, append=False, **streams):
        super().spawn(command, {**KEYLESS, **self.environment, **(environment or {})}, append, **streams)

    def _url(self):
        if not self.is_alive():
            raise AssertionError(f"the service ended:\n{self.log.read_text()}")
        return next((line["url"] for line in self.lines() if line.get("message") == "serving"), None)

    def restart(self):
        self.terminate()
        self.code()
        self.start()

    def create_key(self, *options):
        """Creates a key with `logship key create`."""
        printed = self.command("key", "create", "--data", self.data, *options)
        values = dict(line.split("=", 1) for line in printed.splitlines() if line.startswith("SLS_"))
        return Key(values["SLS_AK_ID"], values["SLS_AK_KEY"], values.get("SLS_SECURITY_TOKEN", ""))

    def bucket(self, name):
        """Makes a bucket in the default destination of rules."""
        folder = self.data / "buckets" / name
        folder.mkdir(parents=True)
        return folder

    def command(self, *arguments):
        """Runs a command that must succeed. Returns its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments):
        """Runs a command that prints JSON. Returns the value."""
        return json.loads(self.command(*arguments))

    def refused(self, *arguments):
        """Runs a command that must fail. Returns its error text."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stderr

    def run(self, *arguments):
        """Runs a command with this service and the project of the tests."""
        place = {"LOGSHIP_DATA": str(self.data), "SLS_ENDPOINT": self.endpoint(), "SLS_PROJECT": PROJECT}
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env={**os.environ, **place})

    def tasks(self, *options):
        """The tasks, newest first."""
        return self.json("task", "list", "--report", "json", "--limit", "1000000", *options)

    def endpoint(self):
        return f"{self.scheme}://{self.host}:{self.port}"

    def client(self, key=None, version=AUTH_VERSION_1):
        """The SDK's client."""
        key = key or self.admin
        token = key.token or None
        region = "local" if version == AUTH_VERSION_4 else ""
        client = LogClient(
            self.endpoint(), key.id, key.secret, token, source="10.0.0.1", auth_version=version, region=region
        )
        client.timeout = PATIENCE
        return client

    def logstore(self, name="logs", shards=1):
        """A new logstore in the project of the tests."""
        client = self.client()
        try:
            client.create_project(PROJECT, "")
        except LogException as error:
            if error.get_error_code() != "ProjectAlreadyExist":
                raise
        client.create_logstore(PROJECT, name, ttl=1, shard_count=shards)
        return Logstore(client, name)

    def request(self, method, path, body=None, headers=(), **options):
        """Sends a request over a new connection."""
        with closing(http.client.HTTPConnection(ADDRESS, self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, {"Host": f"{PROJECT}.{ADDRESS}", **dict(headers)}, **options)
            response = connection.getresponse()
            return Reply(response.status, response.read())

    def connect(self):
        """A bare connection."""
        return socket.create_connection((ADDRESS, self.port), PATIENCE)


class Logstore:
    """A logstore, read and written by the SDK."""

    def __init__(self, client, name):
        self.client = client
        self.name = name

    def put(self, group):
        self.client.put_log_raw(PROJECT, self.name, group)

    def shards(self):
        return sorted(shard["shardID"] for shard in self.client.list_shards(PROJECT, self.name).get_shards_info())

    def begin(self, shard):
        return self.client.get_begin_cursor(PROJECT, self.name, shard).get_cursor()

    def groups(self, shard):
        """All log groups of a shard, with their positions."""
        cursor, found = self.begin(shard), []
        while True:
            pulled = self.client.pull_logs(PROJECT, self.name, shard, cursor)
            if pulled.get_loggroup_count() == 0:
                return found
            found += enumerate(pulled.get_loggroup_list().LogGroups, position(cursor))
            cursor = pulled.get_next_cursor()

    def logs(self):
        """All logs."""
        groups = [group for shard in self.shards() for _, group in self.groups(shard)]
        return [Log.of(group, log) for group in groups for log in group.Logs]


@dataclass(frozen=True)
class Log:
    """A log with the metadata of its group. Fields keep their order and their duplicates."""

    time: int
    nanos: int = 0
    topic: str = ""
    source: str = ""
    tags: tuple = ()
    fields: tuple = ()

    @classmethod
    def of(cls, group, log):
        tags = tuple((tag.Key, tag.Value) for tag in group.LogTags)
        fields = tuple((content.Key, content.Value) for content in log.Contents)
        return cls(log.Time, log.Time_ns, group.Topic, group.Source, tags, fields)


def read_all(connection):
    """Reads until the connection ends or is reset."""
    received = b""
    try:
        while piece := connection.recv(1 << 16):
            received += piece
    except ConnectionError:
        pass
    return received


def exchange(connection, sent, ends=True):
    """Sends bytes, and ends. Without `ends`, the other side does. Returns the bytes of all answers."""
    try:
        connection.sendall(sent)
        if ends:
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return read_all(connection)


def position(cursor):
    """The position that a cursor points to. Positions of a shard have no gaps."""
    return int(base64.b64decode(cursor, validate=True))


def set_options(members):
    """The options of `logship source` that set members of a data source."""
    return [word for pair in members.items() for word in ("--set", "=".join(pair))]
