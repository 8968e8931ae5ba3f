"""The audit log: every change has its record, in the same commit; nobody can change the log; attackers can't fill it."""

import json
import threading
import unittest
from contextlib import suppress

from aliyun.log import LogException, LogItem, PutLogsRequest

from kit import rules, service
from kit.names import ADDRESS
from kit.waiting import wait_for

PROJECT, LOGSTORE = "logship-audit", "audit"
WRITERS, KILLS = 4, 4


class Case(unittest.TestCase):
    def setUp(self):
        self.service = service.Service(self, settings=rules.SETTINGS)
        self.logstore = self.service.logstore()
        self.client = self.logstore.client

    def records(self, *options):
        return self.service.json("audit", "--report", "json", *options)

    def operations(self, *options):
        return [record["operation"] for record in self.records(*options)]

    def request(self, method, path, body=None, key=None, project=PROJECT):
        headers = {**(key or self.service.admin).basic(), "Host": f"{project}.{ADDRESS}"}
        return self.service.request(method, path, body and json.dumps(body), headers)


class Changes(Case):
    def test_every_change_has_a_record(self):
        sdk, name = self.client, self.logstore.name
        self.request("PUT", "/", {"description": "d"}, project=service.PROJECT)
        sdk.update_logstore(service.PROJECT, name, ttl=9)
        sdk.split_shard(service.PROJECT, name, 0, "8" + "0" * 31)
        sdk.create_consumer_group(service.PROJECT, name, "g", 60)
        sdk.update_consumer_group(service.PROJECT, name, "g", timeout=30)
        cursor = self.logstore.begin(0)
        sdk.update_check_point(service.PROJECT, name, "g", 0, cursor, consumer="c")
        sdk.delete_consumer_group(service.PROJECT, name, "g")
        self.service.bucket("b")
        sdk.create_shipper(service.PROJECT, name, rules.detail("one", "b"))
        sdk.update_shipper(service.PROJECT, name, rules.detail("one", "b", bufferInterval=600))
        self.request("PUT", f"/logstores/{name}/shipper/one/tasks", ["x"], project=service.PROJECT)
        self.request("PUT", "/tasks", {"ids": []}, project=service.PROJECT)
        sdk.delete_shipper(service.PROJECT, name, "one")
        self.service.logstore("empty")
        sdk.delete_logstore(service.PROJECT, "empty")
        records = [record for record in self.records("--who", self.service.admin.id) if record["outcome"] == "OK"]
        self.assertEqual(
            [record["operation"] for record in records],
            [
                *("create project", "create logstore", "update project", "update logstore", "split or merge"),
                *("create group", "update group", "save checkpoint", "delete group"),
                *("create shipper", "update shipper", "retry tasks", "retry tasks", "delete shipper"),
                *("create logstore", "delete logstore"),
            ],
        )
        for record in records:
            self.assertEqual(record["address"], ADDRESS, record)
        by_name = {record["operation"]: record for record in records}
        ttl = [json.loads(by_name["update logstore"][time])["ttl"] for time in ("before", "after")]
        self.assertEqual(ttl, [1, 9])
        self.assertEqual(json.loads(by_name["split or merge"]["after"])["shards"], [1, 2])
        self.assertEqual(by_name["update shipper"]["changed"], "bufferInterval")
        self.assertEqual(by_name["update shipper"]["object"], "one")
        self.assertNotEqual(by_name["update shipper"]["before"], by_name["update shipper"]["after"])

    def test_failed_change_has_a_record_and_no_secret(self):
        with suppress(LogException):
            self.client.delete_logstore(service.PROJECT, "missing")
        body = {"shipperName": "r", "targetType": "oss", "targetConfiguration": {"ossBucket": "hunter2://"}}
        self.request("POST", "/logstores/logs/shipper", body, project=service.PROJECT)
        failed = [(record["operation"], record["outcome"]) for record in self.records("--failed")]
        self.assertEqual(failed, [("delete logstore", "LogStoreNotExist"), ("create shipper", "PostBodyInvalid")])
        printed = self.service.command("audit", "--report", "json") + self.service.command("audit")
        for secret in "hunter2", self.service.admin.secret:
            self.assertNotIn(secret, printed)

    def test_progress_of_a_group_is_recorded_once_a_minute_and_moves_back_always(self):
        self.client.create_consumer_group(service.PROJECT, "logs", "g", 60)
        positions = [self.logstore.begin(0)]
        for number in range(3):
            log = PutLogsRequest(service.PROJECT, "logs", "", "", [LogItem(1, contents=[("n", str(number))])])
            self.client.put_logs(log)
            positions.append(self.client.get_end_cursor(service.PROJECT, "logs", 0).get_cursor())
        for index in 0, 1, 2, 3, 0:
            self.client.update_check_point(service.PROJECT, "logs", "g", 0, positions[index], consumer="c")
        records = self.records("--operation", "save checkpoint")
        moves = [json.loads(record["after"])["position"] for record in records]
        self.assertEqual(moves, [service.position(positions[index]) for index in (0, 1, 0)])

    def test_changes_of_keys_are_recorded_with_service_running_or_not(self):
        first = self.service.create_key("--allow", "read", "--note", "n")
        self.service.terminate()
        self.service.code()
        second = self.service.create_key("--allow", "write")
        self.service.command("key", "revoke", "--data", self.service.data, first.id)
        file = self.service.data / "keys.toml"
        file.write_text(file.read_text().replace('access = "write"', 'access = "readwrite"'))
        self.service.start()
        records = self.records("--operation", "key")
        changes = [(record["operation"], record["object"]) for record in records][2:]
        self.assertEqual(
            [change for change in changes if change[1] == first.id],
            [("create key", first.id), ("revoke key", first.id)],
        )
        self.assertEqual([change for change in changes if change[1] == second.id], [("create key", second.id)])
        self.service.kill()
        file.write_text(file.read_text().replace('access = "readwrite"', 'access = "admin"'))
        self.service.start()
        edited = self.records("--operation", "change key")
        self.assertEqual([record["object"] for record in edited], [second.id])
        self.assertIn("edited", edited[0]["who"])
        self.assertIn("admin", edited[0]["after"])
        self.assertEqual(self.records("--operation", "key")[: len(records)], records)
        self.assertFalse((self.service.data / "key-changes.ndjson").exists())


    def test_announced_change_that_was_not_made_is_unfinished(self):
        self.service.terminate()
        self.service.code()
        change = {"time": 1, "operation": "create key", "who": "uid 0", "key": "LSnever"}
        # A second line that a crash cut short.
        (self.service.data / "key-changes.ndjson").write_text(json.dumps(change) + '\n{"time":2,"oper')
        for _ in range(2):
            self.service.start()
            records = self.records("--object", "LSnever")
            self.assertEqual([record["outcome"] for record in records], ["Unfinished"])
            self.service.kill()


class Protection(Case):
    def test_no_operation_writes_changes_or_deletes_it(self):
        paths = [
            *(("DELETE", "/"), ("PUT", "/"), ("POST", "/logstores"), ("PUT", f"/logstores/{LOGSTORE}")),
            *(("DELETE", f"/logstores/{LOGSTORE}"), ("POST", f"/logstores/{LOGSTORE}/shards/0")),
            *(("POST", f"/logstores/{LOGSTORE}/shards/lb"), ("POST", f"/logstores/{LOGSTORE}/shards/route")),
            *(("POST", f"/logstores/{LOGSTORE}"), ("POST", f"/ingest/{PROJECT}/{LOGSTORE}")),
        ]
        for method, path in paths:
            with self.subTest(method=method, path=path):
                reply = self.request(method, path, {"logstoreName": "another", "ttl": 1})
                self.assertEqual(reply.refusal(), (403, "AuditLogProtected"))
        self.assertEqual(self.request("POST", "/", {"projectName": PROJECT}).refusal()[0], 400)
        self.assertNotIn(PROJECT, str(self.client.list_project().get_projects()))
        self.assertIn("create logstore", self.operations())

    def test_is_shipped_and_read_like_any_other_logstore(self):
        lake = self.service.bucket("lake")
        rule = rules.detail("trail", "lake", bufferInterval=300)
        self.assertEqual(self.request("POST", f"/logstores/{LOGSTORE}/shipper", rule).status, 200)
        self.client.create_consumer_group(PROJECT, LOGSTORE, "auditors", 60)
        auditor = self.service.create_key("--allow", f"read={PROJECT}")
        wait_for(lambda: self.request("GET", f"/logstores/{LOGSTORE}", key=auditor).status == 200)
        self.assertEqual(self.request("GET", "/logstores", key=auditor, project=service.PROJECT).status, 401)
        shipped = wait_for(lambda: "".join(path.read_text() for path in lake.rglob("*") if path.is_file()))
        self.assertIn("create logstore", shipped)

    def test_refused_attempts_are_recorded_within_limits(self):
        reader = self.service.create_key("--allow", f"read={service.PROJECT}")
        self.service.restart()
        for _ in range(50):
            self.assertEqual(self.request("DELETE", "/", key=reader, project=service.PROJECT).status, 401)
        stranger = service.Key("LSstranger", "guess")
        for number in range(200):
            self.request("GET", f"/logstores/{number}", key=stranger, project=f"p{number}")
        refused = [record for record in self.records("--failed")]
        self.assertEqual(
            [(record["who"], record["operation"]) for record in refused],
            [(reader.id, "delete project"), ("LSstranger", "show logstore")],
        )
        self.assertIn("not allowed", refused[0]["message"])


class Kills(Case):
    def test_kill_leaves_no_change_without_record_and_no_record_without_change(self):
        for number in range(KILLS):
            writers = [threading.Thread(target=self.create, args=(f"{number}-{writer}",)) for writer in range(WRITERS)]
            for writer in writers:
                writer.start()
            wait_for(lambda: len(self.projects()) > 5 * number, every=0.05)
            self.service.kill()
            for writer in writers:
                writer.join()
            self.service.start()
            recorded = [record["object"] for record in self.records("--operation", "create project")]
            self.assertEqual(sorted(recorded), sorted(self.projects()))

    def create(self, prefix):
        with suppress(OSError):
            for number in range(1000):
                body = json.dumps({"projectName": f"w-{prefix}-{number}"})
                self.service.request("POST", "/", body, {**self.service.admin.basic(), "Host": ADDRESS})

    def projects(self):
        headers = {**self.service.admin.basic(), "Host": ADDRESS}
        found, offset = [], 0
        while page := self.service.request("GET", f"/?offset={offset}", headers=headers).json()["projects"]:
            found += [project["projectName"] for project in page]
            offset += len(page)
        return found
