"""Applications of functions: a spin.toml, and a process that runs it."""

import http.client
import json
import re
import subprocess

from kit.names import ADDRESS
from kit.paths import COMPONENTS, FUNCTIONS, PROGRAM
from kit.process import Process, temporary_folder

IMPORTS = {
    "renderer": "logship:object-path/renderer@1.0.0",
    "encoder": "logship:encode/encoder@1.0.0",
    "compressor": "logship:compress/compressor@1.0.0",
    "formatter": "logship:siem/formatter@1.0.0",
}
BUILT_IN = {
    "renderer": "object-path",
    "encoder": "encode-json",
    "compressor": "compress-snappy",
    "formatter": "siem-hec",
}
TASK = "1760000089123456789_4711"
LINES = {"content-type": "application/x-ndjson"}


def stage(name):
    return COMPONENTS / f"{name}.wasm"


def manifest(rules, allowed=(), triggers="", trigger="trigger-http", **stages):
    """The text of a spin.toml. Stages that are None are omitted."""
    served = {**{kind: stage(name) for kind, name in BUILT_IN.items()}, **stages}
    dependencies = "\n".join(
        f'"{IMPORTS[kind]}" = {{ path = "{path}" }}' for kind, path in served.items() if path is not None
    )
    return f"""
spin_manifest_version = 2
[application]
name = "test"
[variables]
rules = {{ default = '''{json.dumps(rules)}''' }}
key = {{ default = "test" }}
secret = {{ default = "test" }}
token = {{ default = "" }}
call_token = {{ default = "", secret = true }}
concurrency = {{ default = "" }}
{triggers or f'[[trigger.http]]{chr(10)}route = "/v1/ship/:rule"{chr(10)}component = "{trigger}"'}
[component.{trigger}]
source = "{FUNCTIONS}/{trigger}.wasm"
allowed_outbound_hosts = {json.dumps(list(allowed))}
[component.{trigger}.variables]
rules = "{{{{ rules }}}}"
s3_access_key_id = "{{{{ key }}}}"
s3_secret_access_key = "{{{{ secret }}}}"
hec_token = "{{{{ token }}}}"
token = "{{{{ call_token }}}}"
concurrency = "{{{{ concurrency }}}}"
[component.{trigger}.dependencies]
{dependencies}
"""


class Application(Process):
    """A running application, for one test case."""

    def __init__(self, test, text, *options, waits=True, listen=f"{ADDRESS}:0"):
        self.file = temporary_folder(test) / "spin.toml"
        super().__init__(test, self.file.with_name("log"))
        self.file.write_text(text)
        self.options, self.waits, self.listen, self.address = options, waits, listen, None
        self.start()

    def start(self):
        """Starts it, or starts it again at the same port."""
        listen = "{}:{}".format(*self.address) if self.address else self.listen
        command = [PROGRAM, "function", "serve", self.file, "--listen", listen, *self.options]
        self.spawn(command, append=True, stdout=subprocess.PIPE, text=True)
        self.printed = self.process.stdout.readline() if self.waits else ""
        found = re.match(r"http://([0-9.]+):(\d+)/", self.printed)
        if self.waits and found is None:
            self.process.wait()
        self.address = found and (found[1], int(found[2]))

    @property
    def url(self):
        return "http://{}:{}".format(*self.address)

    def problem(self):
        """The text of its errors."""
        return self.log.read_text()

    def ship(self, rule, body, headers=LINES, task=TASK, **more):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            headers = {**headers, **({"x-logship-task": task} if task else {}), **more}
            connection.request("POST", f"/v1/ship/{rule}", body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def describe(self, rule, **headers):
        """The description of a rule."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request("GET", f"/v1/ship/{rule}", headers=headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def fact(self, name):
        return self.headers[f"x-logship-{name}"]

    def problem(self):
        """The kind of a problem, whether a retry can help, and the detail."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        told = json.loads(self.body)
        assert told["status"] == self.status
        return told["type"].rsplit(":", 1)[1], told["retry"], told["detail"]
