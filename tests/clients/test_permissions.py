"""Every operation of docs/service.md with every kind of key: the table and the service agree.

The table is generated from the operations of the service, so a new operation is tested as soon as it exists.
"""

import json
import unittest

from kit import service
from kit.operations import operations
from kit.process import of_class

OTHER = "other-project"

# The accesses that each kind of key has: to the project of the requests, and to all projects.
PROJECT_ACCESS = {"write": {"write"}, "read": {"read"}, "readwrite": {"write", "read"}, "admin": {"write", "read", "admin"}}


class Permissions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(of_class(cls))
        cls.service.logstore()
        cls.keys = {"nobody": (None, set(), set())}
        for access, granted in PROJECT_ACCESS.items():
            for project, kind in (service.PROJECT, ""), (OTHER, " of another project"), ("*", " of all projects"):
                key = cls.service.create_key("--allow", f"{access}={project}")
                mine = granted if project == service.PROJECT else set()
                everywhere = granted if project == "*" else set()
                cls.keys[access + kind] = (key.basic(), mine, everywhere)
        revoked = cls.service.create_key("--allow", "admin")
        expiring = cls.service.create_key("--allow", "admin", "--hours", "1")
        cls.service.command("key", "revoke", "--data", cls.service.data, revoked.id)
        wrong = service.Key(cls.service.admin.id, cls.service.admin.secret[:-1] + "~")
        for kind, key in ("revoked", revoked), ("without its token", expiring), ("with a wrong secret", wrong):
            cls.keys[kind] = (key.basic(), set(), set())
        cls.service.restart()

    def send(self, operation, headers):
        body = json.dumps({"projectName": service.PROJECT}) if operation.path == "/" else "{}"
        sent = None if operation.method in ("GET", "DELETE") else body
        headers = {**(headers or {}), "Host": operation.host}
        return self.service.request(operation.method, operation.path, sent, headers)

    def test_every_operation_with_every_key(self):
        checks = 0
        for operation in operations():
            # Keys that are refused come first: others may delete the project.
            ordered = sorted(self.keys.items(), key=lambda item: operation.allows(*item[1][1:]))
            for kind, (headers, project, everywhere) in ordered:
                is_known = headers is not None and (project or everywhere or "another" in kind)
                expected = operation.access == "no key" or bool(is_known) and operation.allows(project, everywhere)
                with self.subTest(operation=operation, key=kind):
                    reply = self.send(operation, headers)
                    checks += 1
                    is_refused = reply.status == 401
                    self.assertEqual(not is_refused, expected, reply.body)
                    self.assertLess(reply.status, 500, reply.body)
                if operation.name == "delete project" and expected:
                    self.service.client().create_project(service.PROJECT, "")
        print(f"\n{len(operations())} operations with {len(self.keys)} kinds of keys: {checks} checks")
        self.assertGreaterEqual(checks, 364)
        self.assertTrue(self.service.is_alive())


class Groups(unittest.TestCase):
    """A read key uses the groups that it created or was given, and no others."""

    def setUp(self):
        self.service = service.Service(self)
        self.logstore = self.service.logstore()
        keys = [self.service.create_key("--allow", "read=clients") for _ in range(2)]
        self.creator, self.other = keys
        self.service.restart()
        self.client(self.creator).create_consumer_group(service.PROJECT, "logs", "soc", 60, False)

    def client(self, key):
        return self.service.client(key)

    def attempts(self, key):
        """The status of each use of the group."""
        path, basic = "/logstores/logs/consumergroups/soc", key.basic()
        checkpoint = json.dumps({"shard": 0, "checkpoint": self.logstore.begin(0)})
        used = [
            ("POST", f"{path}?type=heartbeat&consumer=a", "[]"),
            ("POST", f"{path}?type=checkpoint&consumer=a", checkpoint),
            ("POST", f"{path}?type=checkpoint&consumer=a&forceSuccess=true", checkpoint),
            ("PUT", path, json.dumps({"timeout": 30})),
            ("PUT", path, json.dumps({"timeout": 60})),
        ]
        return {self.service.request(method, path, body, basic).status for method, path, body in used}

    def test_stranger_moves_no_checkpoint(self):
        self.assertEqual(self.attempts(self.other), {401})
        refused = self.service.request("DELETE", "/logstores/logs/consumergroups/soc", headers=self.other.basic())
        self.assertEqual(refused.refusal(), (401, "Unauthorized"))
        self.assertIn(f"logship key give {self.other.id} clients/soc", refused.json()["errorMessage"])
        self.assertEqual(self.attempts(self.creator), {200})
        self.assertEqual(self.attempts(self.service.admin), {200})
        # Reading is no use.
        path = "/logstores/logs/consumergroups/soc"
        self.assertEqual(self.service.request("GET", path, headers=self.other.basic()).status, 200)

    def test_given_group_can_be_used(self):
        for given in "clients/other", "elsewhere/soc", "clients/so", "clients/socks*":
            self.service.command("key", "give", self.other.id, given)
        self.service.restart()
        self.assertEqual(self.attempts(self.other), {401})
        printed = self.service.command("key", "give", self.other.id, "clients/s*")
        self.assertIn("clients/s*", printed)
        self.service.restart()
        self.assertEqual(self.attempts(self.other), {200})


class Signatures(unittest.TestCase):
    def test_version_1_can_be_refused(self):
        refusing = service.Service(self, settings="allow-v1-signatures = false\n")
        refusing.client(version="v4").create_project(service.PROJECT, "")
        reply = refusing.run("logstore", "list")
        self.assertIn("signatures of version 1 are not accepted", reply.stderr)
        refusing.command("logstore", "list", "--region", "local")
