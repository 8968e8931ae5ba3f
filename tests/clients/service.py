"""Runs the service, as a user does, and speaks to it by the vendor's SDK and by plain HTTP."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aliyun.log import LogClient, LogException
from aliyun.log.auth import AUTH_VERSION_1, AUTH_VERSION_4

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("LOGSHIP", ROOT / "target/release/logship"))
ADDRESS = "127.0.0.1"
# TLS has no names that end with an address.
NAME = "logs.test"
PROJECT = "clients"
# Seconds after which something that has to happen has not.
PATIENCE = 20


def _resolve(host, *rest, **options):
    """The SDK puts the project before the host, also before an address: what DNS would do for such names."""
    if isinstance(host, str) and host.endswith(("." + ADDRESS, "." + NAME)):
        host = ADDRESS
    return _system_resolve(host, *rest, **options)


_system_resolve, socket.getaddrinfo = socket.getaddrinfo, _resolve
os.environ["NO_PROXY"] = "*"


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


@dataclass
class Reply:
    """What came back over plain HTTP."""

    status: int
    body: bytes

    def json(self):
        return json.loads(self.body)

    def refusal(self):
        """Status and code of a request that was refused."""
        return self.status, self.json()["errorCode"]


class Service:
    """A service with a data directory of its own, for one test case. It has one key, `admin`.

    `settings` is what its file of settings says.
    """

    def __init__(self, test, *options, settings=""):
        self.folder = temporary_folder(test)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.settings = self.folder / "settings.toml"
        self.settings.write_text(settings)
        self.options = ("--config", self.settings, *options)
        self.host = ADDRESS
        self.port = 0
        self.process = None
        test.addCleanup(self.kill)
        self.start()
        self.admin = self.create_key("--allow", "admin")
        # A running service looks for new keys once a second; its next start finds it at once.
        self.restart()

    def start(self):
        """Starts it; again, at the port that it had."""
        command = [PROGRAM, "serve", "--data", self.data, "--listen", f"{ADDRESS}:{self.port}"]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*command, "--log-format", "json", *self.options], stderr=log)
        url = wait_for(self._url)
        self.scheme, _, place = url.partition("://")
        self.port = int(place.rpartition(":")[2])

    def _url(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the service ended:\n{self.log.read_text()}")
        # The last line may be half written.
        lines = map(json.loads, self.log.read_text().split("\n")[:-1])
        return next((line["url"] for line in lines if line.get("message") == "serving"), None)

    def ask_to_end(self):
        """As a system does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """Its exit code, once it has ended."""
        return self.process.wait(2 * PATIENCE)

    def restart(self):
        self.ask_to_end()
        self.wait()
        self.start()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def create_key(self, *options):
        """A key by `logship key create`, which prints what a shell can take."""
        printed = self.command("key", "create", "--data", self.data, *options)
        values = dict(line.split("=", 1) for line in printed.splitlines() if line.startswith("SLS_"))
        return Key(values["SLS_AK_ID"], values["SLS_AK_KEY"], values.get("SLS_SECURITY_TOKEN", ""))

    def bucket(self, name):
        """Makes a bucket of the destination that rules have by default."""
        folder = self.data / "buckets" / name
        folder.mkdir(parents=True)
        return folder

    def command(self, *arguments):
        """What a command prints that has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments):
        """What a command prints as JSON."""
        return json.loads(self.command(*arguments))

    def refused(self, *arguments):
        """What a command says that has to fail."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stderr

    def run(self, *arguments):
        """Runs a command for this service, and the project of all tests."""
        place = {"LOGSHIP_DATA": str(self.data), "SLS_ENDPOINT": self.endpoint(), "SLS_PROJECT": PROJECT}
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env={**os.environ, **place})

    def tasks(self, *options):
        """The tasks of shipping, the newest first."""
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
        """A new logstore, in the project of all tests."""
        client = self.client()
        try:
            client.create_project(PROJECT, "")
        except LogException as error:
            if error.get_error_code() != "ProjectAlreadyExist":
                raise
        client.create_logstore(PROJECT, name, ttl=1, shard_count=shards)
        return Logstore(client, name)

    def request(self, method, path, body=None, headers=(), **options):
        """Sends a request over a connection of its own."""
        with closing(http.client.HTTPConnection(ADDRESS, self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, {"Host": f"{PROJECT}.{ADDRESS}", **dict(headers)}, **options)
            response = connection.getresponse()
            return Reply(response.status, response.read())

    def most_memory(self):
        """Bytes of memory that it has had at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10

    def connect(self):
        """A bare connection."""
        return socket.create_connection((ADDRESS, self.port), PATIENCE)


class Logstore:
    """A logstore, by the SDK."""

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
        """All log groups of a shard, each with its position."""
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
    """A log with all that its group says of it. Fields are in order, duplicates among them."""

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


def temporary_folder(test):
    folder = tempfile.TemporaryDirectory(prefix="logship-")
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


def read_all(connection):
    """What comes until the connection ends, in whatever way."""
    received = b""
    try:
        while piece := connection.recv(1 << 16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def position(cursor):
    """The number that a cursor stands for: groups of a shard are numbered without gaps."""
    return int(base64.b64decode(cursor, validate=True))


def wait_for(found, patience=PATIENCE, message="waited in vain", every=0.05):
    """What `found` returns once that is something."""
    end = time.monotonic() + patience
    while True:
        if result := found():
            return result
        if time.monotonic() > end:
            raise AssertionError(message)
        time.sleep(every)
