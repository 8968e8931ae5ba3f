"""A server that objects are put to."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Store(ThreadingHTTPServer):
    """Keeps what is put, on condition, and may answer otherwise some times."""

    daemon_threads = True

    def __init__(self, test):
        self.objects, self.faults = {}, []
        # Whether it hangs up on who puts what is there, before it has read it.
        self.hangs_up = False
        super().__init__(("127.0.0.1", 0), _Put)
        threading.Thread(target=self.serve_forever).start()
        test.addCleanup(self.close)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()


class _Put(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        if self.server.hangs_up:
            self.close_connection = True
            return self.answer(412)
        body = self.rfile.read(int(self.headers["content-length"] or 0)) if "content-length" in self.headers else chunks(self.rfile)
        if self.server.faults:
            return self.answer(*self.server.faults.pop())
        path = self.path.partition("?")[0]
        if "if-none-match" in self.headers and path in self.server.objects:
            return self.answer(412)
        assert "X-Amz-Signature=" in self.path or "if-none-match" not in self.headers
        self.server.objects[path] = (body, {name.lower(): value for name, value in self.headers.items()})
        return self.answer(200)

    def do_GET(self):
        body, _ = self.server.objects[self.path]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        found = self.server.objects.get(self.path.partition("?")[0])
        if found is None:
            return self.answer(404)
        body, headers = found
        metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        self.answer(200, {"content-length": str(len(body)), **metadata})

    def answer(self, status, headers=None):
        self.send_response(status)
        for name, value in {"content-length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def chunks(stream):
    body = b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    stream.readline()
    return body
