"""A Log Service written from the description of its API alone, and as strict as that.

It keeps one logstore with its shards and consumer groups, checks the signature (v1) of each request with its own code,
refuses requests that the description does not have, and records each exchange.
"""

import base64
import hashlib
import hmac
import json
import struct
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import lz4.block

from kit.fakes.faults import Reset
from kit.fakes.http import Answer, Server

ID, SECRET = "stub-id", "stub-secret"
PROJECT, LOGSTORE = "foreign", "logs"
# The parameters of each operation.
QUERIES = {
    "cursor": {"type", "from"},
    "log": {"type", "cursor", "count", "end_cursor"},
    "heartbeat": {"type", "consumer"},
    "checkpoint": {"type", "consumer", "forceSuccess"},
}
FIRST = 1_447_329_401_102_130_904


class Refused(Exception):
    def __init__(self, status, code, message="refused by the stub"):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


@dataclass
class Group:
    timeout: int
    order: bool
    checkpoints: dict = field(default_factory=dict)
    heard: dict = field(default_factory=dict)
    given: dict = field(default_factory=dict)


@dataclass
class Exchange:
    operation: str
    query: dict
    body: bytes
    status: int = 0
    answer: bytes = b""


@dataclass(frozen=True)
class Refuse:
    """An error of the service, in place of the true answer."""

    refused: Refused

    def run(self, exchange):
        exchange.deliver(exchange.framed(exchange.rules.answer(exchange.request, self.refused)))


class LogService(Server):
    """For one test case."""

    def __init__(self, test, shards=4):
        self.shards = {shard: [] for shard in range(shards)}
        self.groups, self.exchanges, self.elsewhere = {}, [], set()
        self.on_checkpoint = lambda shard, position: None
        super().__init__()
        test.addCleanup(self.close)
        self.endpoint = self.url

    def put(self, shard, group):
        with self.lock:
            self.shards[shard].append(group.SerializeToString())

    def end(self, shard):
        return FIRST + len(self.shards[shard])

    def fail(self, operation, *answers):
        """Answers the next requests of an operation with errors; None resets the connection."""
        for answer in answers:
            self.inject(Refuse(answer) if answer else Reset(), when=lambda request: asked(request)[0] == operation)

    def pending_faults(self):
        """The faults that were not done yet."""
        return [rule.fault for rule in self.rules if not rule.fired]

    def of(self, operation):
        with self.lock:
            return [exchange for exchange in self.exchanges if exchange.operation == operation]

    def answer(self, request, refused=None):
        operation, path, query = asked(request)
        exchange = Exchange(operation, query, request.body)
        try:
            _check(request, unquote(path), query)
            if refused:
                raise refused
            with self.lock:
                said, headers = self._do(operation, path, query, request.body)
            exchange.status = 200
        except Refused as error:
            exchange.status, headers = error.status, {}
            said = {"errorCode": error.code, "errorMessage": error.message}
        exchange.answer = b"" if said is None else said if isinstance(said, bytes) else json.dumps(said).encode()
        with self.lock:
            self.exchanges.append(exchange)
        return Answer(exchange.status, exchange.answer, {"x-log-requestid": "5F" * 12, **headers})

    def _do(self, operation, path, query, body):
        unknown = set(query) - QUERIES.get(operation, {"shard"})
        if unknown:
            raise Refused(400, "ParameterInvalid", f"unknown: {unknown}")
        return getattr(self, f"_{operation}")(path, query, body)

    def _shards(self, *_):
        return [{"shardID": shard, "status": "readwrite"} for shard in self.shards], {}

    def _groups(self, *_):
        return [
            {"name": name, "timeout": group.timeout, "order": group.order} for name, group in self.groups.items()
        ], {}

    def _create(self, _path, _query, body):
        asked = json.loads(body)
        if asked["consumerGroup"] in self.groups:
            raise Refused(400, "ConsumerGroupAlreadyExist", "consumer group already exist")
        self.groups[asked["consumerGroup"]] = Group(int(asked["timeout"]), bool(asked["order"]))
        return None, {}

    def _update(self, path, _query, body):
        group, asked = self._group(path), json.loads(body)
        assert asked.keys() <= {"timeout", "order"} and asked
        group.timeout, group.order = asked.get("timeout", group.timeout), asked.get("order", group.order)
        return None, {}

    def _heartbeat(self, path, query, body):
        group, consumer, now = self._group(path), query["consumer"], time.monotonic()
        reported = json.loads(body)
        assert isinstance(reported, list)
        group.heard[consumer] = now
        gone = [name for name, heard in group.heard.items() if now - heard > group.timeout]
        for name in gone:
            del group.heard[name]
            group.given.pop(name, None)
        # A shard stays with its consumer until that no longer reports it.
        others = set().union(*(shards for name, shards in group.given.items() if name != consumer))
        mine = [shard for shard in self.shards if shard not in others | self.elsewhere]
        group.given[consumer] = set(mine) | set(reported)
        return mine, {}

    def _checkpoints(self, path, query, _body):
        group = self._group(path)
        asked = [int(query["shard"])] if "shard" in query else list(self.shards)
        saved = [(shard, *group.checkpoints.get(shard, ("", 0, ""))) for shard in asked if shard in self.shards]
        names = ("shard", "checkpoint", "updateTime", "consumer")
        return [dict(zip(names, entry)) for entry in saved], {}

    def _checkpoint(self, path, query, body):
        group, asked = self._group(path), json.loads(body)
        shard, cursor, consumer = asked["shard"], asked["checkpoint"], query.get("consumer", "")
        forced = query["forceSuccess"].lower() == "true"
        if shard not in self.shards:
            raise Refused(404, "ShardNotExist")
        if not consumer and not forced:
            raise Refused(400, "ParameterInvalid")
        if not forced and consumer not in group.heard:
            raise Refused(404, "ConsumerNotExist")
        if not forced and shard not in group.given.get(consumer, ()):
            raise Refused(404, "ConsumerNotMatch")
        self.on_checkpoint(shard, self._position(shard, cursor))
        group.checkpoints[shard] = (cursor, time.time_ns() // 1000, consumer)
        return None, {}

    def _cursor(self, path, query, _body):
        shard, place = self._shard(path), query["from"]
        position = {"begin": FIRST, "end": self.end(shard)}.get(place)
        if position is None:
            raise Refused(400, "ParameterInvalid", "the stub knows begin and end")
        return {"cursor": cursor_of(position)}, {}

    def _log(self, path, query, _body):
        shard = self._shard(path)
        position, count = self._position(shard, query["cursor"]), int(query["count"])
        if not 1 <= count <= 1000:
            raise Refused(400, "ParameterInvalid")
        # Fewer than are asked for: a reply may be smaller.
        groups = self.shards[shard][position - FIRST :][: min(count, 7)]
        raw = b"".join(b"\x0a" + varint(len(group)) + group for group in groups)
        headers = {
            "x-log-count": len(groups),
            "x-log-bodyrawsize": len(raw),
            "x-log-cursor": cursor_of(position + len(groups)),
        }
        if raw:
            headers["x-log-compresstype"] = "lz4"
        return lz4.block.compress(raw, store_size=False) if raw else b"", headers

    def _group(self, path):
        name = path.rsplit("/", 1)[1]
        if name not in self.groups:
            raise Refused(404, "ConsumerGroupNotExist", "consumer group not exist")
        return self.groups[name]

    def _shard(self, path):
        shard = int(path.rsplit("/", 1)[1])
        if shard not in self.shards:
            raise Refused(404, "ShardNotExist")
        return shard

    def _position(self, shard, cursor):
        try:
            position = int(base64.b64decode(cursor, validate=True))
        except ValueError:
            raise Refused(400, "InvalidCursor") from None
        if position > self.end(shard):
            raise Refused(400, "InvalidCursor")
        return max(position, FIRST)


def _check(request, path, query):
    """Checks host, version, digest and signature."""
    headers, body = request.headers, request.body
    if headers["host"].split(".")[0] != PROJECT:
        raise Refused(404, "ProjectNotExist", f"the host is {headers['host']}")
    if headers.get("x-log-apiversion") != "0.6.0" or headers.get("x-log-signaturemethod") != "hmac-sha1":
        raise Refused(400, "InvalidAPIVersion")
    digest = hashlib.md5(body).hexdigest().upper() if body else ""
    if headers.get("content-md5", "") != digest:
        raise Refused(400, "PostBodyInvalid", "Content-MD5")
    signed = {
        name: value for name, value in headers.items() if name.startswith(("x-log-", "x-acs-")) and name != "x-log-date"
    }
    resource = path + ("?" + "&".join(f"{key}={query[key]}" for key in sorted(query)) if query else "")
    lines = [request.method, digest, headers.get("content-type", ""), headers["date"]]
    lines += [f"{name}:{value}" for name, value in sorted(signed.items())] + [resource]
    signature = base64.b64encode(hmac.digest(SECRET.encode(), "\n".join(lines).encode(), "sha1")).decode()
    if headers.get("authorization") != f"LOG {ID}:{signature}":
        raise Refused(401, "SignatureNotMatch", "signature not match")


def asked(request):
    """The operation of a request, its path and its parameters."""
    path, _, query = request.target.partition("?")
    query = dict(parse_qsl(query, keep_blank_values=True))
    return operation_of(request.method, path, query), path, query


def operation_of(method, path, query):
    """The operation, by the method, the path and the parameter `type`."""
    parts = path.strip("/").split("/")
    assert parts[:2] == ["logstores", LOGSTORE], path
    match method, parts[2:], query.get("type"):
        case "GET", ["shards"], None:
            return "shards"
        case "GET", ["shards", _], "cursor" | "log" as kind:
            return kind
        case "GET", ["consumergroups"], None:
            return "groups"
        case "POST", ["consumergroups"], None:
            return "create"
        case "PUT", ["consumergroups", _], None:
            return "update"
        case "GET", ["consumergroups", _], None:
            return "checkpoints"
        case "POST", ["consumergroups", _], "heartbeat" | "checkpoint" as kind:
            return kind
    raise AssertionError(f"{method} {path} {query}")


def cursor_of(position):
    return base64.b64encode(str(position).encode()).decode()


def varint(number):
    written = b""
    while number > 127:
        written, number = written + struct.pack("B", number & 127 | 128), number >> 7
    return written + struct.pack("B", number)
