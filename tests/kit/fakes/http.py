"""The HTTP/1.1 server of all fakes: a free port of loopback, a thread for each connection, and faults.

Servers take requests as proxies do, too. Then the names of hosts need no DNS.
"""

import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kit.fakes.faults import Exchange, Framed, Request, Rules
from kit.names import ADDRESS


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


class Server(Rules):
    """A server from its construction until `close`. A kind of server defines `answer`. `context` is for TLS."""

    software = "logship-fake"
    # The kind of recorded requests.
    request = Request

    def __init__(self, context=None):
        super().__init__()
        self.context = context
        self.port = self.starts = self.connections = 0
        self.start()

    @property
    def address(self):
        return ADDRESS, self.port

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://{ADDRESS}:{self.port}"

    def start(self):
        """Listens, after `close` at the same port again."""
        self._http = _Http((ADDRESS, self.port), _Connection)
        self.starts += 1
        self._http.service, self._http.number = self, self.starts
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Ends all connections and refuses others."""
        self._http.close()

    def answer(self, request):
        """Answers a complete request. Names of its headers are in lower case."""
        raise NotImplementedError

    def early_answer(self, request):
        """An answer that is sent before the body is read and ends the connection, or None."""

    def exchange(self, connection, request):
        return ServerExchange(connection, self, request)

    def connected(self):
        """Counts a connection. Returns its number."""
        with self.lock:
            self.connections += 1
            return self.connections

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class ServerExchange(Exchange):
    """A request to a fake and its answer."""

    def take(self):
        """The body has been read."""

    def forward(self, **how):
        answer = self.rules.answer(self.request, **how)
        self.request.status = answer.status
        self.call(before=False)
        return self.framed(answer)

    def framed(self, answer):
        headers = {"Server": self.rules.software, "Date": formatdate(usegmt=True), **answer.headers}
        return Framed.of(answer.status, headers, answer.body, self.connection.ends, self.request.method == "HEAD")


def in_origin_form(target):
    """Authority and path of a target that a proxy got. Servers get no authority."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() != "http":
        return "", target
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    return authority, path if path.startswith("/") else f"/{path}"


class TrackedConnections:
    """A socketserver that ends its connections when it is closed."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments):
        self._open = set()
        super().__init__(*arguments)

    def get_request(self):
        connection, peer = super().get_request()
        self._open.add(connection)
        return connection, peer

    def shutdown_request(self, connection):
        self._open.discard(connection)
        super().shutdown_request(connection)

    def handle_error(self, connection, peer):
        """Clients may go at any time."""
        if not isinstance(sys.exc_info()[1], (OSError, EOFError)):
            super().handle_error(connection, peer)

    def close(self):
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Http(TrackedConnections, ThreadingHTTPServer):
    def get_request(self):
        connection, peer = super().get_request()
        if self.service.context:
            # The thread of the connection does the handshake.
            self._open.discard(connection)
            connection = self.service.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._open.add(connection)
        return connection, peer


class _Connection(BaseHTTPRequestHandler):
    """A client's connection."""

    protocol_version = "HTTP/1.1"
    # Head and body may be two writes.
    disable_nagle_algorithm = True

    def setup(self):
        self.number = self.server.service.connected()
        super().setup()
        if self.server.service.context:
            self.request.do_handshake()

    @property
    def ends(self):
        return self.close_connection

    @ends.setter
    def ends(self, value):
        self.close_connection = value

    def _serve(self):
        headers, service = {}, self.server.service
        for name, value in self.headers.items():
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        # `path` lacks repeated slashes at its begin.
        authority, target = in_origin_form(self.requestline.split()[1])
        if authority:
            headers["host"] = authority
        request = service.request(self.command, target, headers, connection=self.number)
        request.start = self.server.number
        exchange = service.exchange(self, request)
        if early := service.early_answer(request):
            answer, self.ends = exchange.framed(early), True
            return exchange.deliver(answer)
        try:
            request.body = self._body(headers)
        except EOFError:
            self.ends = True
            return None
        except ValueError:
            self.ends = True
            return exchange.deliver(exchange.framed(Answer(400)))
        request.size = len(request.body)
        exchange.serve()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _serve

    def _body(self, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        length = headers.get("content-length") or "0"
        if not length.isdecimal():
            raise ValueError(length)
        return self._exactly(int(length))

    def _chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self._exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _exactly(self, size):
        body = self.rfile.read(size)
        if len(body) < size:
            raise EOFError
        return body

    def reset(self):
        self.ends = True
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.request.close()

    def log_message(self, *_):
        pass
