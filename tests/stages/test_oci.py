"""Stages that are pushed to a real OCI registry and added from there."""

import base64
import json
import os
import unittest
from hashlib import sha256
from unittest import mock

from kit import debian
from kit.fakes.token_server import TokenServer
from kit.marking import Case, build
from kit.oci_registry import PASSWORD, USER, OciRegistry
from kit.paths import ROOT
from kit.process import temporary_folder

WIT = ROOT / "wit"
CONFIG = "application/vnd.wasm.config.v0+json"
LAYER = "application/wasm"


@unittest.skipUnless(debian.AVAILABLE, debian.UNAVAILABLE)
class Oci(Case):
    def setUp(self):
        super().setUp()
        # Nobody is logged in.
        self.docker = temporary_folder(self)
        self.set(DOCKER_CONFIG=str(self.docker))
        self.registry = OciRegistry(self)

    def set(self, **variables):
        """Sets variables of the environment for the rest of the test."""
        patch = mock.patch.dict(os.environ, variables)
        patch.start()
        self.addCleanup(patch.stop)

    def push(self, mark, tag):
        """Pushes a build, and returns where it is, with its digest."""
        said = self.stage("push", self.file(mark), self.registry.place(f"acme/marker:{tag}"))
        self.assertIn(f"marking-encoder {mark} is a stage: encoder", said)
        return said.split()[-1]

    def test_adds_pushed_stage_by_tag_and_digest(self):
        first, second = self.push("0001", "1.0"), self.push("0002", "1.1")
        self.stage("add", self.registry.place("acme/marker:1.0"), "--name", "marker")
        self.rule("mine", "--encoder", "marker")
        self.assertEqual(self.ship("mine"), {"0001"})
        by_digest = second.replace(":1.1@", "@")
        checksum = sha256(build("0002")).hexdigest()
        self.stage("add", by_digest, "--name", "marker", "--sha256", checksum, "--swap")
        self.assertEqual(self.ship("mine"), {"0002"})
        # Each version has its origin.
        sources = [version["source"] for version in self.show("marker")["all"]]
        self.assertEqual(sources, [first, by_digest])
        self.assertIn(first, self.stage("show", "marker"))
        listed = self.service.json("stage", "list", "--report", "json")["stages"]
        self.assertEqual([stage["source"] for stage in listed if stage["name"] == "marker"], [by_digest])
        # A tag may move: the digest says what it was. A swap pulls, too.
        self.push("0003", "1.1")
        self.stage("swap", "marker", self.registry.place("acme/marker:1.1"))
        self.assertEqual(self.ship("mine"), {"0003"})

    def test_pushes_standard_wasm_artifact(self):
        pushed = self.push("0001", "1.0")
        manifest, digest = self.registry.manifest("acme/marker", "1.0")
        self.assertTrue(pushed.endswith(f":1.0@{digest}"), pushed)
        self.assertEqual(manifest["config"]["mediaType"], CONFIG)
        (layer,) = manifest["layers"]
        self.assertEqual(layer["mediaType"], LAYER)
        self.assertEqual(self.registry.blob("acme/marker", layer["digest"]), build("0001"))
        self.assertEqual(
            manifest["annotations"],
            {
                "org.opencontainers.image.title": "marking-encoder",
                "org.opencontainers.image.version": "0001",
                "logship.kind": "encoder",
            },
        )
        config = json.loads(self.registry.blob("acme/marker", manifest["config"]["digest"]))
        self.assertEqual((config["architecture"], config["layerDigests"]), ("wasm", [layer["digest"]]))
        self.assertIn("logship:encode/encoder@1.0.0", config["component"]["exports"])

    def test_pushes_contract_as_wit_package(self):
        self.stage("push", WIT, self.registry.place("acme/stages:1.0.0"))
        manifest, _ = self.registry.manifest("acme/stages", "1.0.0")
        self.assertEqual((manifest["config"]["mediaType"], manifest["layers"][0]["mediaType"]), (CONFIG, LAYER))
        self.assertEqual(manifest["annotations"]["org.opencontainers.image.title"], "logship:stages")
        # The package is no stage.
        self.stage_refused("add", self.registry.place("acme/stages:1.0.0"))

    def test_rejects_missing_and_invalid_artifacts(self):
        pushed = self.push("0001", "1.0")
        place = self.registry.place
        containers = "application/vnd.oci.image.config.v1+json"
        self.registry.put("acme/image", "1", containers, [("application/vnd.oci.image.layer.v1.tar", b"tar")])
        self.registry.put("acme/chart", "1", "application/vnd.helm", [("application/x-chart", b"chart")])
        self.registry.put("acme/text", "1", CONFIG, [(LAYER, b"no component")])
        text = self.service.folder / "text.wasm"
        text.write_text("no component")
        for arguments, word in (
            (("add", place("acme/marker:9")), "404"),
            (("add", place("acme/nothing:1")), "404"),
            (("add", f"{pushed[:-64]}{'0' * 64}"), "404"),
            (("add", place("acme/marker")), "a tag or digest is missing"),
            (("add", place("acme/image:1")), "a container image"),
            (("add", place("acme/chart:1")), "application/x-chart"),
            (("add", place("acme/text:1")), "not WebAssembly"),
            (("add", pushed, "--sha256", "0" * 64), "the component's SHA-256 is"),
            (("add", pushed, "--sha256", "12"), "64 hexadecimal digits"),
            (("push", text, place("acme/text:2")), "not WebAssembly"),
            (("push", self.file("0002"), pushed), "push to a tag"),
            (("push", self.file("0002"), "acme/marker:1"), "does not start with a host"),
        ):
            with self.subTest(arguments):
                self.assertIn(word, self.stage_refused(*arguments))
        self.registry.kill()
        self.assertIn("Connection refused", self.stage_refused("add", pushed))
        listed = self.service.json("stage", "list", "--report", "json")["stages"]
        self.assertNotIn("marking-encoder", [stage["name"] for stage in listed])

    def test_rejects_tampered_artifact(self):
        pushed = self.push("0001", "1.0")
        manifest, digest = self.registry.manifest("acme/marker", "1.0")
        layer = self.registry.blob_file(manifest["layers"][0]["digest"])
        layer.write_bytes(build("0666"))
        self.assertIn("the layer does not match its digest", self.stage_refused("add", pushed))
        layer.write_bytes(build("0001"))
        file = self.registry.blob_file(digest)
        file.write_bytes(file.read_bytes().replace(b'"0001"', b'"0666"'))
        self.stage_refused("add", pushed)
        with self.assertRaises(AssertionError):
            self.show("marking-encoder")

    def test_basic_login_grants_pull_and_push(self):
        self.registry = OciRegistry(self, wants_user=True)
        place = self.registry.place("acme/marker:1.0")
        push = "push", self.file("0001"), place
        self.assertIn("requests without credentials", self.stage_refused(*push))
        self.set(LOGSHIP_REGISTRY_USERNAME=USER, LOGSHIP_REGISTRY_PASSWORD="wrong")
        self.assertIn(f'rejects user "{USER}"', self.stage_refused(*push))
        self.assertIn(f'rejects user "{USER}"', self.stage_refused("add", place))
        self.set(LOGSHIP_REGISTRY_PASSWORD=PASSWORD)
        self.stage(*push)
        self.stage("add", place, "--name", "by-variables")
        for variable in "LOGSHIP_REGISTRY_USERNAME", "LOGSHIP_REGISTRY_PASSWORD":
            del os.environ[variable]
        # The form of `docker login`.
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (self.docker / "config.json").write_text(json.dumps({"auths": {self.registry.host: {"auth": auth}}}))
        self.stage("add", place, "--name", "by-docker")
        (self.docker / "config.json").write_text("{")
        self.assertIn("Docker's config.json", self.stage_refused("add", place))

    def test_token_server_grants_pull_and_push(self):
        tokens = TokenServer(self, USER, PASSWORD)
        self.registry = OciRegistry(self, tokens=tokens)
        place = self.registry.place("acme/marker:1.0")
        push = "push", self.file("0001"), place
        self.assertIn("requests without credentials", self.stage_refused(*push))
        self.set(LOGSHIP_REGISTRY_USERNAME=USER, LOGSHIP_REGISTRY_PASSWORD="wrong")
        self.assertIn(f'rejects user "{USER}"', self.stage_refused(*push))
        self.set(LOGSHIP_REGISTRY_PASSWORD=PASSWORD)
        self.stage(*push)
        self.stage("push", self.file("0001"), self.registry.place("public/marker:1.0"))
        self.stage("add", place, "--name", "by-user")
        self.assertEqual(tokens.scopes[-1], "repository:acme/marker:pull", "no more than it needs")
        for variable in "LOGSHIP_REGISTRY_USERNAME", "LOGSHIP_REGISTRY_PASSWORD":
            del os.environ[variable]
        self.assertIn("requests without credentials", self.stage_refused("add", place))
        self.stage("add", self.registry.place("public/marker:1.0"), "--name", "by-anybody")
