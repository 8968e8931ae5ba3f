"""An object store that only takes conditional puts, without signatures."""

from kit.fakes.http import Answer, Server


class Store(Server):
    """Keeps what is put, for one test case. `faults` are statuses with headers and the code of an
    error that the next puts are answered."""

    def __init__(self, test):
        self.objects, self.faults = {}, []
        # Whether it refuses puts before it reads them, and ends the connection.
        self.hangs_up = False
        super().__init__()
        test.addCleanup(self.close)

    def early_answer(self, request):
        return Answer(412) if self.hangs_up and request.method == "PUT" else None

    def answer(self, request):
        return getattr(self, f"_{request.method.lower()}")(request, request.target.partition("?")[0])

    def _put(self, request, path):
        if self.faults:
            status, headers, code = (*self.faults.pop(), {}, "")[:3]
            return Answer(status, f"<Error><Code>{code}</Code></Error>".encode() if code else b"", headers)
        if "if-none-match" in request.headers and path in self.objects:
            return Answer(412)
        assert "X-Amz-Signature=" in request.target or "if-none-match" not in request.headers
        self.objects[path] = (request.body, request.headers)
        return Answer(200)

    def _get(self, _request, path):
        return Answer(200, self.objects[path][0]) if path in self.objects else Answer(404)

    def _head(self, _request, path):
        if path not in self.objects:
            return Answer(404)
        body, headers = self.objects[path]
        metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        return Answer(200, body, metadata)
