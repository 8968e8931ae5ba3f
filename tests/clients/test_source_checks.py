"""`logship source test` with MaxCompute and Table Store: it names the missing permission, and writes nothing."""

import json
import unittest

from kit import service
from kit.fakes import maxcompute, table_store
from kit.fakes.keys import Keyring
from kit.process import of_class

PROJECT = service.PROJECT


class Checks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(of_class(cls))
        cls.service.logstore()
        cls.keys = Keyring()
        cls.projects = maxcompute.Server(cls.keys)
        cls.addClassCleanup(cls.projects.close)
        cls.projects.add_table("plain", ["a bigint", "b string"])
        cls.projects.add_table("daily", ["a bigint"], ["pt string"], ["pt=20261201"])
        cls.instance = table_store.Server(cls.keys)
        cls.addClassCleanup(cls.instance.close)
        cls.instance.create("logs", ("shard", 1), ("cursor", 1))

    def options(self, kind, key, **more):
        if kind in ("odps", "maxcompute"):
            members = {"endpoint": self.projects.endpoint, "project": self.projects.project}
        else:
            members = {"endpoint": self.instance.url, "instance": self.instance.instance}
        members |= {"access-key-id": key.id, "access-key-secret": key.secret, **more}
        return ["--type", kind, *service.set_options(members)]

    def passes(self, *arguments):
        return self.service.command("source", "test", *arguments)

    def fails(self, *arguments):
        done = self.service.run("source", "test", *arguments)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stdout + done.stderr

    def test_maxcompute_permissions(self):
        for kind in "odps", "maxcompute":
            self.passes(*self.options(kind, self.keys.add()))
        for rights, missing in (
            ({"Read", "Describe", "Update"}, None),
            ({"Read", "Describe"}, "odps:Update"),
            ({"Read", "Update"}, "odps:Describe"),
        ):
            key = self.keys.add()
            self.projects.rights[key.id] = rights
            options = [*self.options("odps", key), "--table", "plain"]
            with self.subTest(rights=rights):
                if missing:
                    self.assertIn(f"the key lacks {missing}", self.fails(*options))
                else:
                    self.assertIn("open an upload session of table plain", self.passes(*options))
        self.assertEqual(self.projects.rows("plain"), [])

    def test_maxcompute_partitions(self):
        options = [*self.options("odps", self.keys.add()), "--table", "daily"]
        self.assertIn("name a partition, pt=…", self.passes(*options))
        self.passes(*options, "--partition", "pt=20261201")
        self.assertIn("no such partition", self.fails(*options, "--partition", "pt=20261202"))
        self.assertEqual(self.projects.partitions("daily"), {})

    def test_maxcompute_mistakes(self):
        key = self.keys.add()
        self.assertIn("does not exist", self.fails(*self.options("odps", key), "--table", "nowhere"))
        self.assertIn("not a name", self.fails(*self.options("odps", key), "--table", "a/../b"))
        self.fails(*self.options("odps", key, project="nowhere"))
        self.assertIn("access-key-secret", self.fails(*self.options("odps", key, **{"access-key-secret": ""})))
        wrong = self.fails(*self.options("odps", key, **{"access-key-secret": "wr0ng-secret"}), "--table", "plain")
        self.assertIn("the key lacks", wrong)
        self.assertNotIn("wr0ng-secret", wrong + self.service.log.read_text())

    def test_table_store_permissions(self):
        key = self.keys.add()
        self.passes(*self.options("ots", key))
        options = [*self.options("ots", key), "--table", "logs"]
        self.passes(*options)
        for operation, missing in (("BatchWriteRow", "ots:BatchWriteRow"), ("DescribeTable", "ots:DescribeTable")):
            self.instance.deny(key.id, [operation])
            self.assertIn(f"the key lacks {missing}", self.fails(*options))
            self.instance.allow(key.id)
        self.assertIn("does not exist", self.fails(*self.options("ots", key), "--table", "nowhere"))
        self.instance.deny(key.id, ["ListTable"])
        self.passes(*options)
        self.assertIn("the key lacks ots:ListTable", self.fails(*self.options("ots", key)))

    def test_stored_sources_are_masked_and_can_be_tested(self):
        key = self.keys.add()
        for name, kind in ("warehouse", "odps"), ("rows", "ots"):
            self.service.command("source", "create", name, "--test", *self.options(kind, key))
            shown = json.loads(self.service.command("source", "show", name))
            self.assertEqual((shown["type"], shown["access-key-secret"][:3]), (kind, "***"))
            self.passes(name)
            self.service.command("source", "delete", name)

    def test_source_of_a_rule_is_not_deleted(self):
        self.service.command("source", "create", "used", *self.options("ots", self.keys.add()))
        configuration = {"source": "used", "table": "logs", "create_table": True}
        rule = {"shipperName": "to-rows", "targetType": "ots", "targetConfiguration": configuration}
        created = self.service.request("POST", "/logstores/logs/shipper", json.dumps(rule), self.service.admin.basic())
        self.assertEqual(created.status, 200, created.body)
        refused = self.service.refused("source", "delete", "used")
        self.assertIn("in use by rule to-rows of Logstore logs", refused)
        self.service.client().delete_shipper(PROJECT, "logs", "to-rows")
        self.service.command("source", "delete", "used")

    def test_projects_use_neither_files_nor_keys_of_the_service(self):
        key = self.keys.add()
        for kind in "odps", "ots":
            self.assertIn("ca is not allowed", self.fails(*self.options(kind, key, ca="/etc/passwd")))
        without_key = ["--type", "odps", "--set", f"endpoint={self.projects.endpoint}", "--set", "project=logs"]
        self.assertIn("can't use the service's own credentials", self.fails(*without_key))
