"""Applications of functions: a spin.toml, and a process that runs it."""

import json
import os
import re
import subprocess
import sys
import tempfile
import http.client
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LOGSHIP", ROOT / "target/release/logship")
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("siem", "clients", "stores")]

IMPORTS = {
    "renderer": "logship:object-path/renderer@1.0.0",
    "encoder": "logship:encode/encoder@1.0.0",
    "compressor": "logship:compress/compressor@1.0.0",
    "formatter": "logship:siem/formatter@1.0.0",
}
BUILT_IN = {"renderer": "object-path", "encoder": "encode-json", "compressor": "compress-snappy", "formatter": "siem-hec"}
TASK = "1760000089123456789_4711"
LINES = {"content-type": "application/x-ndjson"}


def stage(name):
    return ROOT / f"target/components/{name}.wasm"


def folder(test):
    made = tempfile.TemporaryDirectory(prefix="logship-")
    test.addCleanup(made.cleanup)
    return Path(made.name)


def manifest(rules, allowed=(), triggers="", trigger="trigger-http", **stages):
    """The text of a spin.toml. A stage that is None is left out."""
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
{triggers or f'[[trigger.http]]{chr(10)}route = "/v1/ship/:rule"{chr(10)}component = "{trigger}"'}
[component.{trigger}]
source = "{ROOT}/target/functions/{trigger}.wasm"
allowed_outbound_hosts = {json.dumps(list(allowed))}
[component.{trigger}.variables]
rules = "{{{{ rules }}}}"
s3_access_key_id = "{{{{ key }}}}"
s3_secret_access_key = "{{{{ secret }}}}"
hec_token = "{{{{ token }}}}"
token = "{{{{ call_token }}}}"
[component.{trigger}.dependencies]
{dependencies}
"""


class Application:
    """A running application, for one test case."""

    def __init__(self, test, text, *options, waits=True):
        self.file = folder(test) / "spin.toml"
        self.file.write_text(text)
        self.options, self.waits, self.address, self.log = options, waits, None, None
        self.start()
        test.addCleanup(self.close)

    def start(self):
        """Starts it; again, at the port that it had."""
        listen = "{}:{}".format(*self.address) if self.address else "127.0.0.1:0"
        command = [PROGRAM, "function", "serve", self.file, "--listen", listen, *self.options]
        self.log = self.log or open(self.file.with_name("log"), "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.said = self.process.stdout.readline() if self.waits else ""
        found = re.match(r"http://([0-9.]+):(\d+)/", self.said)
        if self.waits and found is None:
            self.process.wait()
        self.address = found and (found[1], int(found[2]))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def close(self):
        self.kill()
        self.log.close()

    @property
    def url(self):
        return "http://{}:{}".format(*self.address)

    def problem(self):
        """What it ended with."""
        self.log.seek(0)
        return self.log.read()

    def ship(self, rule, body, headers=LINES, task=TASK, **more):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            headers = {**headers, **({"x-logship-task": task} if task else {}), **more}
            connection.request("POST", f"/v1/ship/{rule}", body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def describe(self, rule, **headers):
        """What the function says of a rule."""
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
        """The kind of problem, and whether trying again can help."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        told = json.loads(self.body)
        assert told["status"] == self.status
        return told["type"].rsplit(":", 1)[1], told["retry"], told["detail"]
