"""Deleting a Logstore or project with logs asks for its name, and can be undone for a day."""

import unittest

from aliyun.log import LogException

from kit import rules, service
from kit.waiting import wait_for

CONFIRM = "x-logship-confirm"
REFUSED = (400, "DeletionNotConfirmed")


class Case(unittest.TestCase):
    settings = rules.SETTINGS

    def setUp(self):
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore()
        self.client = self.logstore.client

    def put(self, text="1"):
        body = b'{"n":"%s"}\n' % text.encode()
        path = f"/ingest/{service.PROJECT}/logs"
        self.assertEqual(self.service.request("POST", path, body, self.service.admin.basic()).status, 200)

    def request(self, method, path, confirm=None, key=None):
        headers = {**(key or self.service.admin).basic(), **({CONFIRM: confirm} if confirm else {})}
        return self.service.request(method, path, headers=headers)

    def values(self):
        return [value for log in self.logstore.logs() for _, value in log.fields]


class Confirmation(Case):
    def test_deletion_of_logs_needs_their_name(self):
        self.put()
        for path in "/logstores/logs", "/":
            with self.subTest(path=path):
                refused = self.request("DELETE", path)
                self.assertEqual(refused.refusal(), REFUSED)
                self.assertIn(CONFIRM, refused.json()["errorMessage"])
                self.assertEqual(self.request("DELETE", path, "other").refusal(), REFUSED)
        with self.assertRaises(LogException) as refused:
            self.client.delete_logstore(service.PROJECT, "logs")
        self.assertEqual(refused.exception.get_error_code(), "DeletionNotConfirmed")
        for remedy in f"{CONFIRM}: logs", "logship logstore delete logs --confirm logs", "confirm = false", "[deletion]":
            self.assertIn(remedy, refused.exception.get_error_message())
        self.assertEqual(self.values(), ["1"])
        self.assertEqual(self.request("DELETE", "/logstores/logs", "logs").status, 200)
        self.assertEqual(self.request("DELETE", "/").status, 200)

    def test_empty_logstore_needs_no_confirmation_and_wrong_name_is_rejected(self):
        self.assertEqual(self.request("DELETE", "/logstores/logs", "log").refusal(), REFUSED)
        self.client.delete_logstore(service.PROJECT, "logs")

    def test_command_asks_for_name(self):
        self.put()
        self.assertIn("--confirm logs", self.service.refused("logstore", "delete", "logs"))
        self.assertIn("another name", self.service.refused("logstore", "delete", "logs", "--confirm", "Logs"))
        self.service.command("logstore", "delete", "logs", "--confirm", "logs")
        self.assertIn("logs", self.service.command("logstore", "list", "--deleted"))
        self.service.command("logstore", "restore", "logs")
        self.assertIn("--confirm", self.service.refused("project", "delete", service.PROJECT))
        self.service.command("project", "delete", service.PROJECT, "--confirm", service.PROJECT)
        self.assertIn(service.PROJECT, self.service.command("project", "list", "--deleted"))
        self.service.command("project", "restore", service.PROJECT)
        self.assertEqual(self.values(), ["1"])


class Undo(Case):
    def test_deleted_logstore_is_invisible_ships_nothing_and_comes_back(self):
        lake = self.service.bucket("lake")
        self.client.create_shipper(service.PROJECT, "logs", rules.detail("rule", "lake"))
        self.put("first")
        shipped = lambda: sorted(path.read_text() for path in lake.rglob("*") if path.is_file())
        wait_for(lambda: len(shipped()) == 1)
        self.put("second")
        self.assertEqual(self.request("DELETE", "/logstores/logs", "logs").status, 200)
        paths = ["/logstores/logs", "/logstores/logs/shards", "/logstores/logs/shipper", "/logstores/logs/shipper/rule"]
        for path in paths:
            self.assertEqual(self.request("GET", path).refusal(), (404, "LogStoreNotExist"), path)
        self.assertEqual(self.request("GET", "/tasks").json()["total"], 0)
        self.assertEqual(self.request("GET", "/logstores").json()["logstores"], [])
        before = shipped()
        self.service.kill()
        self.service.start()
        wait_for(lambda: self.request("GET", "/deleted").json()["logstores"][0]["logstoreName"] == "logs")
        reader = self.service.create_key("--allow", "read")
        wait_for(lambda: self.request("POST", "/logstores/logs/restore", key=reader).status == 401)
        self.assertEqual(shipped(), before)
        self.assertEqual(self.request("POST", "/logstores/logs/restore").status, 200)
        self.assertEqual(self.values(), ["first", "second"])
        wait_for(lambda: "second" in "".join(shipped()))
        self.assertEqual("".join(shipped()).count("first"), 1)
        records = self.service.command("audit", "--report", "json", "--operation", "logstore")
        self.assertIn('"restore logstore"', records)

    def test_recreated_logstore_is_new_and_old_one_is_restored_under_another_name(self):
        self.put("old")
        self.request("DELETE", "/logstores/logs", "logs")
        self.logstore = self.service.logstore()
        self.put("new")
        refused = self.request("POST", "/logstores/logs/restore")
        self.assertEqual(refused.refusal(), (400, "LogStoreAlreadyExist"))
        self.assertEqual(self.values(), ["new"])
        self.service.command("logstore", "restore", "logs", "--as", "older")
        older = service.Logstore(self.client, "older")
        self.assertEqual([value for log in older.logs() for _, value in log.fields], ["old"])
        self.assertEqual(self.request("POST", "/logstores/logs/restore").refusal(), (404, "LogStoreNotExist"))

    def test_name_of_deleted_logstore_can_not_be_guessed_or_created(self):
        self.put()
        self.request("DELETE", "/logstores/logs", "logs")
        for name in "logs%231", "logs%232", "logs%233":
            self.assertEqual(self.request("GET", f"/logstores/{name}").status, 404)
            self.assertEqual(self.request("DELETE", f"/logstores/{name}", "logs").status, 404)
        self.assertNotIn("#", self.request("GET", "/logstores").body.decode())


class WithoutProtection(Case):
    settings = "[deletion]\nconfirm = false\nundo-hours = 0\n"

    def test_settings_turn_protection_off(self):
        self.put()
        self.client.delete_logstore(service.PROJECT, "logs")
        self.assertEqual(self.request("GET", "/deleted").json()["logstores"], [])
        self.assertEqual(self.request("POST", "/logstores/logs/restore").status, 404)
