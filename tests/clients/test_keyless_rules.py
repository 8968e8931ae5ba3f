"""`odps` rules as Log Service's clients make them have no key: they use the data source of the same project."""

import json
import unittest

from kit import service
from kit.fakes import maxcompute


class KeylessRules(unittest.TestCase):
    def setUp(self):
        self.maxcompute = maxcompute.Server()
        self.addCleanup(self.maxcompute.close)
        self.maxcompute.add_table("t", ["uuid string"], ["pt string"])
        self.service = service.Service(self)
        self.service.logstore()

    def create(self, name):
        configuration = {
            **{"odpsEndpoint": self.maxcompute.endpoint, "odpsProject": "logs", "odpsTable": "t", "fields": ["uuid"]},
            **{"partitionColumn": ["__partition_time__"], "partitionTimeFormat": "yyyy_MM_dd", "bufferInterval": 1800},
        }
        body = json.dumps({"shipperName": name, "targetType": "odps", "targetConfiguration": configuration})
        return self.service.request("POST", "/logstores/logs/shipper?probe=required", body, self.service.admin.basic())

    def test_data_source_of_the_same_project_has_the_key(self):
        refused = self.create("without-source")
        self.assertEqual(refused.status, 400, refused.body)
        self.assertIn("access-key-id", refused.json()["errorMessage"])
        key = self.maxcompute.keys.add()
        members = {"endpoint": self.maxcompute.endpoint, "project": "logs", "access-key-id": key.id}
        members["access-key-secret"] = key.secret
        self.service.command("source", "create", "warehouse", "--type", "odps", *service.set_options(members))
        created = self.create("with-source")
        self.assertEqual(created.status, 200, created.body)
        self.assertEqual(created.body, b"")
