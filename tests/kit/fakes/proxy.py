"""A proxy that passes HTTP/1.1 on unchanged, and does faults to single requests.

It stands in place of the upstream, or works as a forward proxy: requests with a whole URL go to its address, or to the
upstream if the URL has a name. That needs no DNS.
"""

import ipaddress
import socket
import struct
import threading
from socketserver import BaseRequestHandler, ThreadingTCPServer

from kit.fakes.faults import PIECE, Exchange, Framed, Request, Rules
from kit.fakes.http import TrackedConnections, in_origin_form
from kit.names import ADDRESS

LONGEST_LINE = 1 << 16


class FaultyProxy(Rules):
    """Stands before an upstream, a pair of host and port, until `close`."""

    def __init__(self, upstream):
        super().__init__()
        self.upstream = upstream
        self._tcp = _Tcp((ADDRESS, 0), _Connection)
        self._tcp.proxy = self
        self.address = self._tcp.server_address
        self.port = self.address[1]
        threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self._tcp.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Tcp(TrackedConnections, ThreadingTCPServer):
    allow_reuse_address = True


class _Connection(BaseRequestHandler):
    """A client's connection."""

    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.request.makefile("rb")
        self.ends = False

    def handle(self):
        while not self.ends and (head := _read_head(self.reader)):
            try:
                _Exchange(self, self.server.proxy, head).serve()
            except (OSError, EOFError):
                # The client went or speaks no HTTP, or the upstream is not there.
                self.reset()

    def finish(self):
        self.reader.close()

    def reset(self):
        if not self.ends:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.reader.close()
            self.request.close()
        self.ends = True


class _Exchange(Exchange):
    """A request and its answer, passed on."""

    def __init__(self, connection, proxy, head):
        self.head = head
        first, self.headers = _parsed(head)
        method, _, rest = first.partition(" ")
        whole = rest.partition(" ")[0]
        authority, target = in_origin_form(whole)
        self.upstream = proxy.upstream
        if authority:
            # Servers that are no proxies take the path only.
            self.head = head.replace(whole.encode("latin-1"), target.encode("latin-1"), 1)
            self.headers["host"] = authority
            self.upstream = _address(authority) or proxy.upstream
        super().__init__(connection, proxy, Request(method, target, self.headers))

    def begin(self):
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def take(self):
        """Reads the body and drops it."""
        for _ in self._body():
            pass

    def forward(self):
        """Passes the request on. Returns the upstream's answer."""
        with socket.create_connection(self.upstream) as upstream, upstream.makefile("rb") as reader:
            self._hand_on(upstream)
            while head := _read_head(reader):
                first, headers = _parsed(head)
                status = int(first.split(" ")[1])
                if status >= 200:
                    self.request.status = status
                    answer = self._read_answer(reader, head, status, headers)
                    self.call(before=False)
                    return answer
        raise EOFError

    def forward_part(self, most):
        """Passes on so many bytes of the body, or half of it."""
        left = int(self.headers.get("content-length", 0)) // 2 if most is None else most
        with socket.create_connection(self.upstream) as upstream:
            upstream.sendall(self.head)
            for piece in self._body(limit=left):
                upstream.sendall(piece)

    def _hand_on(self, upstream):
        pieces = self._body()
        try:
            upstream.sendall(self.head)
            for piece in pieces:
                upstream.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # The upstream may have answered before it read all. Only the rest of the body is still to come.
            for _ in pieces:
                pass

    def _read_answer(self, reader, head, status, headers):
        bodiless = self.request.method == "HEAD" or status in (204, 304)
        framed = bodiless or "content-length" in headers or "transfer-encoding" in headers
        body = b"" if bodiless else b"".join(_framed(reader, headers)) if framed else reader.read()
        asked = self.headers.get("connection", "").lower() == "close"
        return Framed(status, head, body, asked or not framed or headers.get("connection", "").lower() == "close")

    def _body(self, limit=None):
        for piece in _framed(self.connection.reader, self.headers, limit):
            self.request.size += len(piece)
            yield piece


def _address(authority):
    """Host and port, where the host is an address."""
    host, _, port = authority.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host, int(port or 80)


def _read_head(reader):
    """A head with its last empty line, or nothing where the connection ends first."""
    head = b""
    while line := reader.readline(LONGEST_LINE):
        head += line
        if line in (b"\r\n", b"\n") and head.strip():
            return head
    return b""


def _parsed(head):
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}


def _framed(reader, headers, limit=None):
    """A body as it is on the wire, piece by piece; no more than `limit` bytes of it."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = _chunks(reader)
    else:
        length = int(headers.get("content-length", 0))
        yield from _exactly(reader, length if limit is None else min(length, limit))
        return
    for piece in pieces:
        yield piece if limit is None else piece[:limit]
        if limit is not None and (limit := limit - len(piece)) <= 0:
            return


def _chunks(reader):
    size = -1
    while size:
        line = reader.readline()
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise EOFError from None
        yield line
        if size:
            yield from _exactly(reader, size + 2)
    while (line := reader.readline()).strip():
        yield line
    yield line


def _exactly(reader, size):
    while size:
        piece = reader.read1(min(size, PIECE))
        if not piece:
            raise EOFError
        size -= len(piece)
        yield piece
