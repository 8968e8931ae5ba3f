"""A real OCI registry, from Debian's package, with its own storage."""

import http.client
import json
import subprocess
from contextlib import closing
from hashlib import sha256

from kit import debian
from kit.names import ADDRESS
from kit.process import Process, free_port, temporary_folder
from kit.waiting import PATIENCE, wait_for

PROGRAM = "usr/bin/docker-registry"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
USER, PASSWORD = "acme", "let me in"
# The password by bcrypt, the only kind that the registry reads.
HASHED = "$2b$04$WRtc9dNXWQ416g8Z90RmWeP5ZdajsUyJ3JKa8K0OCSUdx9WSrNHF."


class OciRegistry(Process):
    """For one test case. `wants_user` admits only `USER`; `tokens` is the token server that it trusts."""

    def __init__(self, test, wants_user=False, tokens=None):
        own = temporary_folder(test)
        super().__init__(test, own / "log")
        folder = debian.unpacked(debian.FOLDER / "docker-registry", ("docker-registry",), PROGRAM)
        self.port = free_port()
        self.host = f"{ADDRESS}:{self.port}"
        self.storage = own / "storage"
        settings = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": self.host},
        }
        if wants_user:
            (own / "users").write_text(f"{USER}:{HASHED}\n")
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(own / "users")}}
        if tokens:
            settings["auth"] = tokens.settings(own)
        # JSON is YAML.
        (own / "config.yml").write_text(json.dumps(settings))
        self.spawn([folder / PROGRAM, "serve", own / "config.yml"], stdout=subprocess.DEVNULL)
        wait_for(self._answers, message=self.said)

    def place(self, rest):
        return f"{self.host}/{rest}"

    def _answers(self):
        try:
            return self.request("GET", "/v2/")
        except ConnectionRefusedError:
            return None

    def request(self, method, path, body=None, **headers):
        """Status, headers and body of an answer."""
        with closing(http.client.HTTPConnection(self.host, timeout=PATIENCE)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def manifest(self, name, reference):
        status, headers, body = self.request("GET", f"/v2/{name}/manifests/{reference}", Accept=MANIFEST)
        assert status == 200, body
        return json.loads(body), headers["Docker-Content-Digest"]

    def blob(self, name, digest):
        status, _, body = self.request("GET", f"/v2/{name}/blobs/{digest}")
        assert status == 200, body
        return body

    def blob_file(self, digest):
        """The file of a blob."""
        digits = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"

    def put(self, name, tag, config_type, layers):
        """Pushes an artifact of any kind, as other programs do."""
        described = [self._put_blob(name, kind, data) for kind, data in layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": described}
        manifest["config"] = self._put_blob(name, config_type, b"{}")
        body = json.dumps(manifest).encode()
        status, _, said = self.request("PUT", f"/v2/{name}/manifests/{tag}", body, Content_Type=MANIFEST)
        assert status == 201, said

    def _put_blob(self, name, kind, data):
        digest = "sha256:" + sha256(data).hexdigest()
        _, headers, _ = self.request("POST", f"/v2/{name}/blobs/uploads/")
        where = headers["Location"].removeprefix(f"http://{self.host}")
        status, _, said = self.request("PUT", f"{where}&digest={digest}", data, Content_Type="application/octet-stream")
        assert status == 201, said
        return {"mediaType": kind, "digest": digest, "size": len(data)}
