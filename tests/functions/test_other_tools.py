"""The files of this repository with tools of others: `wac plug`, `wkg build`, `wasmtime serve`.

`cargo xtask soak` builds the tools and sets LOGSHIP_TOOLS to their folder, as their builds take too long for each commit.
"""

import hashlib
import http.client
import os
import pathlib
import shutil
import socket
import subprocess
import unittest

import pytest

from kit.application import BUILT_IN, LINES, TASK, Application, manifest, stage
from kit.paths import FUNCTIONS, PROGRAM, ROOT
from kit.process import Process, temporary_folder
from kit.waiting import wait_for

TOOLS = pathlib.Path(os.environ.get("LOGSHIP_TOOLS", "/nonexistent"))
BATCH = b"".join(b'{"__time__":%d,"id":"%d"}\n' % (1_760_000_000 + n, n) for n in range(5000))
IMPORTS, EXPORTS = 10, 11


def tool(name):
    if not (TOOLS / name).exists():
        pytest.skip(f"LOGSHIP_TOOLS has no {name}: run `cargo xtask soak`")
    return TOOLS / name


def number(data, at):
    """An unsigned LEB128 number, and the place behind it."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def sections(component):
    at = 8
    while at < len(component):
        kind, (size, start) = component[at], number(component, at + 1)
        yield kind, component[start : start + size]
        at = start + size


def world(file):
    """The instances that a component imports and exports."""
    names = set()
    for kind, data in sections(file.read_bytes()):
        if kind not in (IMPORTS, EXPORTS):
            continue
        count, at = number(data, 0)
        for _ in range(count):
            length, start = number(data, at + 1)
            at = start + length
            assert data[at] == 5, f"{file} has something else than instances: {data[start:at]}"
            names.add((kind, data[start:at].decode()))
            _, at = number(data, at + 1)
            # An export may have a type.
            at += kind == EXPORTS
    return names


def composed(test, *options):
    folder = temporary_folder(test)
    (folder / "spin.toml").write_text(manifest({"lake": {}}))
    command = [PROGRAM, "function", "compose", folder / "spin.toml", "-o", folder / "whole.wasm", *options]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "whole.wasm"


def served(test, whole):
    text = manifest({"lake": {}}, renderer=None, encoder=None, compressor=None, formatter=None)
    return Application(test, text.replace(str(FUNCTIONS / "trigger-http.wasm"), str(whole))).ship("lake", BATCH)


@pytest.mark.soak
class OtherTools(unittest.TestCase):
    def test_wac_plugs_the_same_function(self):
        plugged = temporary_folder(self) / "plugged.wasm"
        plugs = [part for name in BUILT_IN.values() for part in ("--plug", stage(name))]
        command = [tool("wac"), "plug", FUNCTIONS / "trigger-http.wasm", *plugs, "-o", plugged]
        subprocess.run(command, check=True, capture_output=True)
        self.assertIn((EXPORTS, "wasi:http/handler@0.3.0"), world(plugged))
        whole = composed(self)
        self.assertEqual(world(plugged), world(whole))
        answers = [served(self, file) for file in (plugged, whole)]
        self.assertEqual([answer.status for answer in answers], [200, 200])
        self.assertEqual(*(hashlib.sha256(answer.body).hexdigest() for answer in answers))

    def test_wkg_builds_the_interfaces(self):
        wkg, place = tool("wkg"), temporary_folder(self)
        shutil.copytree(ROOT / "wit", place, dirs_exist_ok=True)
        packages = {folder: f"logship:{folder.name}/" for folder in (place / "deps").iterdir()}
        self.assertEqual(len(packages), 9)
        # The package of the worlds has all interfaces.
        for folder, name in {**packages, place: "logship:encode/encoder@1.0.0"}.items():
            with self.subTest(folder.name):
                command = [wkg, "build", "--wit-dir", ".", "-o", place / "package.wasm"]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(name.encode(), (place / "package.wasm").read_bytes())

    def test_wasmtime_serves_the_composed_function(self):
        wasmtime, whole = tool("wasmtime"), composed(self, "--variables-from-environment")
        self.assertFalse([name for _, name in world(whole) if not name.startswith(("wasi:", "logship:batch/"))])
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = Process(self, whole.with_name("log"))
        options = ["-Scli,p3", "-Wcomponent-model-async", "--addr", f"127.0.0.1:{port}"]
        server.spawn([wasmtime, "serve", *options, "--env", 'SPIN_VARIABLE_RULES={"lake": {}}', whole])

        def call():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/v1/ship/lake", BATCH, {**LINES, "x-logship-task": TASK})
            answer = connection.getresponse()
            return answer.status, answer.read()

        def is_listening():
            self.assertTrue(server.is_alive(), server.said())
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_for(is_listening, 120)
        status, body = call()
        self.assertEqual(status, 200, body[:500])
        self.assertEqual(hashlib.sha256(body).hexdigest(), hashlib.sha256(served(self, composed(self)).body).hexdigest())


if __name__ == "__main__":
    unittest.main()
