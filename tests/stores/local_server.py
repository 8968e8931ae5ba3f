"""What the local services have in common: HTTP/1.1 at a free port of loopback, a thread a connection. They take
requests as proxies do, too: names of hosts need no DNS then."""

import re
import socket
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = "127.0.0.1"


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


class LocalServer:
    """A service, from its construction until `close`. A kind of service defines `answer`."""

    def __init__(self):
        self._http = _Http((ADDRESS, 0), _Handler)
        self._http.service = self
        self.address = self._http.server_address
        self.port = self.address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, method, target, headers, body):
        """The answer to a request that came whole. Names of headers are in lower case."""
        raise NotImplementedError

    def close(self):
        self._http.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def in_origin_form(target):
    """Authority and path of a target as proxies are sent it; no authority, where it is as servers are."""
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
        """Clients may go when they like."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
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
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes.
    disable_nagle_algorithm = True

    def _serve(self):
        headers = {}
        for name, value in self.headers.items():
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        try:
            body = self._body(headers)
        except EOFError:
            self.close_connection = True
            return
        except ValueError:
            self.close_connection = True
            self._send(Answer(400))
            return
        # `path` has had leading slashes removed.
        authority, target = in_origin_form(self.requestline.split()[1])
        if authority:
            headers["host"] = authority
        self._send(self.server.service.answer(self.command, target, headers, body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _body(self, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        length = headers.get("content-length", "0")
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

    def _send(self, answer):
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        if answer.status == 204:
            del headers["Content-Length"]
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self):
        return "AliyunOSS"

    def log_message(self, *_):
        pass
