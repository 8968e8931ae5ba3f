"""Data sources: their names, secrets, permissions and uses, by the command line and the API."""

import json
import socket
import threading
import unittest

from kit import policies, service
from kit.names import ADDRESS
from kit.process import of_class

PROJECT = service.PROJECT
SECRET = "s3cret-of-another-service"
READER = ["log:Get*", "log:List*"]


def source(endpoint="http://127.0.0.1:1", **members):
    return {
        **{"name": "remote", "type": "loghub", "endpoint": endpoint, "project": PROJECT},
        **{"access-key-id": "LSother", "access-key-secret": SECRET},
        **members,
    }


class Sources(unittest.TestCase):
    """Data sources of a service, and another service that they connect to."""

    SETTINGS = """
[sources.shared]
type = "loghub"
endpoint = "http://127.0.0.1:1"
project = "clients"
description = "of the operator"
access-key-id = "LSoperator"
access-key-secret = "s3cret-of-the-operator"

[sources.theirs]
type = "loghub"

[scopes.theirs]
projects = ["another-project"]
"""

    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(of_class(cls), settings=cls.SETTINGS)
        cls.service.logstore()
        cls.other = service.Service(of_class(cls))
        cls.other.logstore("access")
        cls.reader = cls.service.create_key("--allow", f"read={PROJECT}")
        cls.service.restart()

    def setUp(self):
        self.addCleanup(self.remove_all)

    def remove_all(self):
        for found in self.listed():
            if found["origin"] == "project":
                self.send("DELETE", f"/sources/{found['name']}")

    def send(self, method, path, body=None, key=None):
        sent = None if body is None else json.dumps(body)
        return self.service.request(method, path, sent, (key or self.service.admin).basic())

    def create(self, body, status=200):
        reply = self.send("POST", "/sources", body)
        self.assertEqual(reply.status, status, reply.body)
        return reply

    def listed(self):
        return self.send("GET", "/sources").json()["sources"]

    def other_key(self, *actions):
        """A key of the other service whose policy allows these actions."""
        key = policies.create_key(self.other, policies.statement(actions))
        self.other.restart()
        return key

    def options(self, key, endpoint=None):
        members = {
            **{"endpoint": endpoint or self.other.endpoint(), "project": PROJECT},
            **{"access-key-id": key.id, "access-key-secret": key.secret},
        }
        return ["--type", "loghub", *service.set_options(members)]

    def test_command_line_from_creation_to_deletion(self):
        secret, file = self.service.folder / "secret", self.service.folder / "source.toml"
        secret.write_text(f"{SECRET}\n")
        file.write_text('type = "loghub"\nendpoint = "https://sls.example.org"\nproject = "web"\naccess-key-id = "LS1"\n')
        run = self.service.command
        run("source", "create", "hub_1", "-f", file, "--set", f"access-key-secret=@{secret}", "--description", "to read")
        shown = json.loads(run("source", "show", "hub_1"))
        self.assertEqual((shown["project"], shown["description"], shown["origin"]), ("web", "to read", "project"))
        self.assertRegex(shown["access-key-secret"], r"^\*\*\*\w+$")
        run("source", "update", "hub_1", "--description", "changed")
        again = json.loads(run("source", "show", "hub_1"))
        self.assertEqual(again["access-key-secret"], shown["access-key-secret"])
        self.assertEqual(again["description"], "changed")
        listed = run("source", "list")
        self.assertIn("hub_1", listed)
        self.assertNotIn(SECRET, listed + str(shown))
        self.assertIn("already exists", self.service.refused("source", "create", "hub_1", "-f", file, "--set", "access-key-secret=x"))
        run("source", "delete", "hub_1")
        self.assertIn("does not exist", self.service.refused("source", "show", "hub_1"))

    def test_json_files_are_read_too(self):
        file = self.service.folder / "source.json"
        file.write_text(json.dumps(source()))
        self.service.command("source", "create", "from_json", "-f", file)
        self.assertEqual([found["name"] for found in self.listed()], ["from_json", "shared"])
        file.write_text('{"access-key-secret": ' + SECRET)
        self.assertNotIn(SECRET, self.service.refused("source", "create", "broken", "-f", file))

    def test_names_follow_the_guide(self):
        for name in "a", "_", "_1", "A" * 60:
            self.create(source(name=name))
            self.assertEqual(self.send("GET", f"/sources/{name}").json()["name"], name)
        for name in "", "1a", "a-b", "a b", "a/b", "../x", "ä", "A" * 61, "a\n", "'; DROP TABLE data_source; --":
            reply = self.create(source(name=name), 400)
            self.assertIn("60 letters", reply.json()["errorMessage"])
        self.create(source(name="long", description="ä" * 80))
        self.create(source(name="longer", description="ä" * 81), 400)
        self.create(source(name=["a"]), 400)

    def test_invalid_members_are_named(self):
        for members, problem in (
            ({"type": "kafka"}, "kafka"),
            ({"endpont": ""}, "endpont"),
            ({"endpoint": "sls.example.org"}, "https://sls.example.org"),
            ({"endpoint": "file:///etc/passwd"}, "scheme"),
            ({"endpoint": "http://u:pa55@h"}, "password"),
            ({"endpoint": ""}, "endpoint is missing"),
            ({"project": ""}, "project"),
            ({"project": "x/../y"}, "project"),
            ({"access-key-secret": ""}, "access-key-secret"),
            ({"access-key-secret": 5337}, "a secret must be a text"),
            ({"access-key-secret": "***00000000"}, "access-key-secret is masked"),
        ):
            reply = self.create(source(**members), 400)
            self.assertIn(problem, reply.json()["errorMessage"])
            for secret in SECRET, "pa55", "5337":
                self.assertNotIn(secret, reply.json()["errorMessage"])
        for body in [], "x", 1:
            self.create(body, 400)

    def test_secrets_are_in_no_reply_log_or_record(self):
        self.create(source())
        self.send("PUT", "/sources/remote", source(description="new"))
        self.create(source(name="second", **{"access-key-secret": [SECRET]}), 400)
        self.send("POST", "/sources/remote?type=test", {})
        replies = [self.send("GET", path).body.decode() for path in ("/sources", "/sources/remote", "/sources/shared")]
        records = self.service.command("audit", "--report", "json")
        for text in *replies, records, self.service.log.read_text():
            self.assertNotIn(SECRET, text)
            self.assertNotIn("s3cret-of-the-operator", text)
        changes = json.loads(records)
        update = next(change for change in reversed(changes) if change["operation"] == "update source")
        self.assertEqual((update["object"], update["changed"]), ("remote", "description"))
        self.assertIn("configuration", update["before"])

    def test_secret_does_not_follow_to_another_address(self):
        self.create(source())
        masked = self.send("GET", "/sources/remote").json()
        sent = {name: value for name, value in masked.items() if name not in ("origin", "createTime", "lastModifyTime")}
        reply = self.send("PUT", "/sources/remote", {**sent, "endpoint": "http://127.0.0.2:1"})
        self.assertEqual(reply.status, 400)
        self.assertIn("endpoint changes", reply.json()["errorMessage"])
        self.assertEqual(self.send("PUT", "/sources/remote", {**sent, "region": "cn-hangzhou"}).status, 200)
        self.assertEqual(self.send("PUT", "/sources/remote", source("http://127.0.0.2:1")).status, 200)
        self.assertEqual(self.send("PUT", "/sources/remote", source(name="renamed")).status, 400)

    def test_readers_see_and_change_nothing(self):
        self.create(source())
        self.assertEqual(self.send("GET", "/sources", key=self.reader).status, 200)
        for method, path in (
            ("POST", "/sources"),
            ("PUT", "/sources/remote"),
            ("DELETE", "/sources/remote"),
            ("POST", "/sources?type=test"),
            ("POST", "/sources/remote?type=test"),
        ):
            self.assertEqual(self.send(method, path, source(), self.reader).status, 401, path)

    def test_sources_of_the_settings(self):
        shown = self.send("GET", "/sources/shared").json()
        self.assertEqual(shown, {"name": "shared", "description": "of the operator", "type": "loghub", "origin": "settings"})
        self.assertEqual(self.send("GET", "/sources/theirs").status, 404)
        for method, path in (("POST", "/sources"), ("PUT", "/sources/shared"), ("DELETE", "/sources/shared")):
            reply = self.send(method, path, source(name="shared"))
            self.assertIn("service's settings", reply.json()["errorMessage"])
        self.create(source(name="theirs"))

    def test_test_names_the_missing_permission(self):
        for actions, missing in (
            (READER, None),
            (("log:ListLogStores", "log:ListShards", "log:GetCursorOrData"), None),
            (("log:Get*", "log:ListLogStores"), "log:ListShards"),
            (("log:List*", "log:GetLogStore"), "log:GetCursorOrData"),
            (("log:ListShards", "log:Get*"), "log:ListLogStores"),
            (("log:PostLogStoreLogs",), "log:ListLogStores"),
        ):
            key = self.other_key(*actions)
            arguments = ("source", "test", *self.options(key))
            with self.subTest(actions=actions):
                if missing is None:
                    printed = self.service.command(*arguments)
                    self.assertIn("pull logs of access", printed)
                    self.assertNotIn(key.secret, printed)
                else:
                    self.assertIn(f"the key lacks {missing}", self.service.refused(*arguments))
        key = self.other_key("log:ListShards", "log:GetCursorOrData")
        self.assertIn("access", self.service.command("source", "test", *self.options(key), "--logstore", "access"))
        self.assertIn("can't be used", self.service.refused("source", "test", *self.options(key), "--logstore", "nowhere"))

    def test_test_before_creation(self):
        key = self.other_key("log:ListLogStores")
        refused = self.service.refused("source", "create", "tested", "--test", *self.options(key))
        self.assertIn("the key lacks log:ListShards", refused)
        self.assertEqual(self.send("GET", "/sources/tested").status, 404)
        self.service.command("source", "create", "tested", "--test", *self.options(self.other_key(*READER)))
        self.service.command("source", "test", "tested")

    def test_wrong_keys_and_addresses(self):
        key = self.other_key(*READER)
        wrong = service.Key(key.id, key.secret[:-1] + "~")
        self.assertIn("SignatureNotMatch", self.service.run("source", "test", *self.options(wrong)).stdout)
        unknown = service.Key("LSunknown", key.secret)
        self.assertIn("Unauthorized", self.service.run("source", "test", *self.options(unknown)).stdout)
        closed = self.service.run("source", "test", *self.options(key, "http://127.0.0.1:1")).stdout
        self.assertIn("unreachable", closed)

    def test_own_logstores_need_no_key(self):
        self.service.command("source", "create", "own", "--type", "loghub")
        self.assertIn("passed", self.service.command("source", "test", "own", "--logstore", "logs"))
        self.assertIn("can't be used", self.service.refused("source", "test", "own", "--logstore", "nowhere"))
        reply = self.create({"name": "neighbour", "type": "loghub", "project": "logship-audit"}, 400)
        self.assertIn("without an endpoint", reply.json()["errorMessage"])

    def test_answers_of_other_servers_stay_in_the_log(self):
        """An admin of a project could name any server within the operator's network."""
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n<html>internal</html>"
        with Answering(answer) as port:
            reply = self.send("POST", "/sources?type=test", source(f"http://{ADDRESS}:{port}"))
        self.assertFalse(reply.json()["ok"])
        self.assertNotIn(b"internal", reply.body)
        error = b'{"errorCode":"Teapot","errorMessage":"internal"}'
        with Answering(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s" % (len(error), error)) as port:
            reply = self.send("POST", "/sources?type=test", source(f"http://{ADDRESS}:{port}"))
        self.assertNotIn(b"internal", reply.body)
        self.assertNotIn(b"Teapot", reply.body)

    def test_survive_restart_deletion_and_restore(self):
        self.service.client().create_project("short-lived", "")
        headers = {**self.service.admin.basic(), "Host": f"short-lived.{ADDRESS}"}
        send = lambda method, path, body=None: self.service.request(method, path, body, headers)  # noqa: E731
        self.assertEqual(send("POST", "/sources", json.dumps(source())).status, 200)
        self.assertEqual(send("DELETE", "/").status, 200)
        self.assertEqual(send("GET", "/sources/remote").status, 404)
        self.assertEqual(send("POST", "/restore").status, 200)
        self.service.restart()
        self.assertEqual(send("GET", "/sources/remote").json()["access-key-id"], "LSother")

    def test_other_projects_have_other_sources(self):
        self.create(source())
        self.service.client().create_project("neighbour", "")
        headers = {**self.service.admin.basic(), "Host": f"neighbour.{ADDRESS}"}
        self.assertEqual(self.service.request("GET", "/sources/remote", headers=headers).status, 404)


class NoOwnAddresses(unittest.TestCase):
    """A service that connects to no address that a project's admin names."""

    def test_only_own_logstores_and_settings(self):
        served = service.Service(self, settings="allow-own-destinations = true")
        served.logstore()
        basic = served.admin.basic()
        self.assertEqual(served.request("POST", "/sources", json.dumps(source()), basic).status, 200)
        served.settings.write_text("allow-own-destinations = false")
        served.restart()
        for path in "/sources", "/sources?type=test", "/sources/remote?type=test":
            reply = served.request("POST", path, json.dumps(source(name="new")), basic)
            self.assertIn("allow-own-destinations", reply.json()["errorMessage"])
        local = json.dumps({"name": "own", "type": "loghub"})
        self.assertEqual(served.request("POST", "/sources", local, basic).status, 200)
        self.assertEqual(served.request("DELETE", "/sources/remote", headers=basic).status, 200)

    def test_invalid_settings_are_named(self):
        served = service.Service(self)
        served.terminate()
        for text, problem in (
            ('[sources.1a]\ntype = "loghub"', "sources.1a: name"),
            ('[sources.a]\ntype = "loghub"\nendpoint = "h"', "sources.a: endpoint"),
            ('[sources.a]\ntype = "loghub"\nunknown = 1', "unknown"),
            ('[scopes.nothing]\nprojects = []', "scopes.nothing"),
        ):
            served.settings.write_text(text)
            self.assertIn(problem, served.refused("serve", "--config", served.settings))


class Answering:
    """A server that gives every connection the same answer."""

    def __init__(self, answer):
        self.answer = answer
        self.socket = socket.create_server((ADDRESS, 0))

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self.socket.getsockname()[1]

    def __exit__(self, *_):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(self.answer)
