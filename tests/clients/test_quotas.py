"""Quotas of keys: the API's own errors, and nothing stored beyond them."""

import unittest

from aliyun.log import LogException

from kit import service
from kit.waiting import wait_for

LOG = b'{"a":"1"}\n'


class Quotas(unittest.TestCase):
    settings = ""

    def setUp(self):
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore()

    def create_key(self, *options):
        key = self.service.create_key(*options)
        self.service.restart()
        return key

    def put(self, key, logs):
        return self.service.request("POST", f"/ingest/{service.PROJECT}/logs", LOG * logs, key.basic())

    def pull(self, key):
        client = self.service.client(key)
        cursor = client.get_begin_cursor(service.PROJECT, "logs", 0).get_cursor()
        return client.pull_logs(service.PROJECT, "logs", 0, cursor)

    def test_day_is_exact_and_survives_a_restart(self):
        key = self.create_key("--allow", "write=clients", "--quota", "write-logs-per-day=10")
        self.assertEqual(self.put(key, 8).status, 200)
        reply = self.put(key, 3)
        self.assertEqual(reply.refusal(), (403, "WriteQuotaExceed"))
        self.assertIn("write-logs-per-day = 10", reply.json()["errorMessage"])
        self.assertEqual(len(self.logstore.logs()), 8)
        self.service.restart()
        self.assertEqual(self.put(key, 3).refusal(), (403, "WriteQuotaExceed"))
        self.assertEqual(self.put(key, 2).status, 200)
        self.assertEqual(self.put(key, 1).refusal(), (403, "WriteQuotaExceed"))
        self.assertEqual(self.put(self.service.admin, 100).status, 200, "other keys have no quota")
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        self.assertIn(f'logship_quota_used{{key="{key.id}",quota="write-logs-per-day"}} 10', metrics)
        self.assertIn(f'logship_quota_limit{{key="{key.id}",quota="write-logs-per-day"}} 10', metrics)
        self.assertIn(f'logship_quota_rejections_total{{key="{key.id}",quota="write-logs-per-day"}} 2', metrics)

    def test_rate_goes_into_debt_and_recovers(self):
        key = self.create_key("--allow", "write=clients", "--quota", "write-logs-per-second=100")
        self.assertEqual(self.put(key, 300).status, 200)
        self.assertEqual(self.put(key, 1).refusal(), (403, "WriteQuotaExceed"))
        wait_for(lambda: self.put(key, 1).status == 200)
        self.assertEqual(len(self.logstore.logs()), 301)

    def test_pulls_have_quotas(self):
        self.put(self.service.admin, 50)
        key = self.create_key("--allow", "read=clients", "--quota", "read-logs-per-day=50")
        self.assertEqual(self.pull(key).get_log_count(), 50)
        with self.assertRaises(LogException) as refused:
            self.pull(key)
        error = refused.exception
        self.assertEqual((error.get_resp_status(), error.get_error_code()), (403, "ReadQuotaExceed"))

    def test_operator_changes_the_quota_of_a_key(self):
        key = self.create_key("--allow", "write=clients", "--quota", "write-logs-per-day=1")
        self.put(key, 1)
        self.assertEqual(self.put(key, 1).status, 403)
        printed = self.service.command("key", "quota", key.id, "write-logs-per-day=unlimited", "write-bytes-per-day=1_000")
        self.assertEqual(printed, f"{key.id}: write-bytes-per-day=1000\n")
        self.assertIn("write-bytes-per-day=1000", self.service.command("key", "list"))
        wait_for(lambda: self.put(key, 1).status == 200)
        self.assertIn("use write-bytes-per-second", self.service.refused("key", "quota", key.id, "bytes=1"))
        self.assertIn("1 or more", self.service.refused("key", "quota", key.id, "write-bytes-per-second=0"))


class Defaults(Quotas):
    settings = "[quota]\nwrite-logs-per-day = 5\n"

    def test_settings_apply_to_keys_without_a_quota(self):
        key = self.create_key("--allow", "write=clients")
        own = self.create_key("--allow", "write=clients", "--quota", "write-logs-per-day=7")
        self.assertEqual(self.put(key, 6).refusal(), (403, "WriteQuotaExceed"))
        self.assertEqual(self.put(key, 5).status, 200)
        self.assertEqual(self.put(own, 7).status, 200)
        self.assertEqual(self.put(own, 1).refusal(), (403, "WriteQuotaExceed"))

    # Those of the class above have their own settings.
    test_day_is_exact_and_survives_a_restart = None
    test_rate_goes_into_debt_and_recovers = None
    test_pulls_have_quotas = None
    test_operator_changes_the_quota_of_a_key = None
