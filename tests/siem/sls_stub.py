"""A Log Service that logship did not come with: written from the description of its API alone, as strict as that.

It keeps one logstore with its shards and consumer groups, checks the signature (v1) of each request with code of its own,
refuses what the description does not know, and records each exchange."""

import base64
import hashlib
import hmac
import json
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote

import lz4.block

ID, SECRET = "stub-id", "stub-secret"
PROJECT, LOGSTORE = "foreign", "logs"
# What the API knows of, by operation.
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


class LogService(ThreadingHTTPServer):
    """For one test case."""

    daemon_threads = True

    def __init__(self, test, shards=4):
        self.lock = threading.RLock()
        self.shards = {shard: [] for shard in range(shards)}
        self.groups, self.exchanges, self.faults, self.elsewhere = {}, [], [], set()
        self.on_checkpoint = lambda shard, position: None
        super().__init__(("127.0.0.1", 0), _Connection)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        test.addCleanup(self.close)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()

    def put(self, shard, group):
        with self.lock:
            self.shards[shard].append(group.SerializeToString())

    def end(self, shard):
        return FIRST + len(self.shards[shard])

    def fail(self, operation, *answers):
        """The next requests of a kind are answered so: an error, or None for a connection that breaks."""
        with self.lock:
            self.faults += [(operation, answer) for answer in answers]

    def of(self, operation):
        with self.lock:
            return [exchange for exchange in self.exchanges if exchange.operation == operation]

    # What is asked.

    def answer(self, operation, path, query, body):
        with self.lock:
            for number, (kind, answer) in enumerate(self.faults):
                if kind == operation:
                    del self.faults[number]
                    raise answer or ConnectionAbortedError
            unknown = set(query) - QUERIES.get(operation, {"shard"})
            if unknown:
                raise Refused(400, "ParameterInvalid", f"unknown: {unknown}")
            return getattr(self, f"_{operation}")(path, query, body)

    def _shards(self, *_):
        return [{"shardID": shard, "status": "readwrite"} for shard in self.shards], {}

    def _groups(self, *_):
        return [{"name": name, "timeout": group.timeout, "order": group.order} for name, group in self.groups.items()], {}

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
        # What another one still works on, by its last report or the answer to it, is its own.
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


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        query = dict(parse_qsl(query, keep_blank_values=True))
        exchange = Exchange(operation_of(self.command, path, query), query, body)
        service = self.server
        try:
            self._check(unquote(path), query, body)
            answer, headers = service.answer(exchange.operation, path, query, body)
            status = 200
        except Refused as refused:
            status, headers = refused.status, {}
            answer = {"errorCode": refused.code, "errorMessage": refused.message}
        except ConnectionAbortedError:
            self.close_connection = True
            self.connection.close()
            return
        exchange.status = status
        exchange.answer = b"" if answer is None else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        with service.lock:
            service.exchanges.append(exchange)
        self.send_response(status)
        for name, value in {"content-length": len(exchange.answer), "x-log-requestid": "5F" * 12, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(exchange.answer)

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def _check(self, path, query, body):
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers["host"].split(".")[0] != PROJECT:
            raise Refused(404, "ProjectNotExist", f"the host is {headers['host']}")
        if headers.get("x-log-apiversion") != "0.6.0" or headers.get("x-log-signaturemethod") != "hmac-sha1":
            raise Refused(400, "InvalidAPIVersion")
        digest = hashlib.md5(body).hexdigest().upper() if body else ""
        if headers.get("content-md5", "") != digest:
            raise Refused(400, "PostBodyInvalid", "Content-MD5")
        signed = {name: value for name, value in headers.items() if name.startswith(("x-log-", "x-acs-")) and name != "x-log-date"}
        resource = path + ("?" + "&".join(f"{key}={query[key]}" for key in sorted(query)) if query else "")
        lines = [self.command, digest, headers.get("content-type", ""), headers["date"]]
        lines += [f"{name}:{value}" for name, value in sorted(signed.items())] + [resource]
        signature = base64.b64encode(hmac.digest(SECRET.encode(), "\n".join(lines).encode(), "sha1")).decode()
        if headers.get("authorization") != f"LOG {ID}:{signature}":
            raise Refused(401, "SignatureNotMatch", "signature not match")

    def log_message(self, *_):
        pass


def operation_of(method, path, query):
    """The name of what is asked, of the method, the path and `type`."""
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
