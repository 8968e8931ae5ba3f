"""Scopes of destinations, and answers of strangers that stay within the service."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kit.names import ADDRESS
from kit.rules import SETTINGS, Case, detail
from kit.waiting import wait_for

SCOPES = """
[scopes.default]
projects = ["clients", "web-*"]
buckets = ["lake", "{project}-*"]
prefixes = ["{project}/", "shared"]
roles = []

[destinations.vault]
type = "directory"
path = "vault"

[scopes.vault]
projects = ["finance"]

[receivers.soc]
type = "syslog"
host = "127.0.0.1"

[scopes.soc]
projects = ["finance"]
"""
SECRET = "internal-admin-page-hunter2"


class Scopes(Case):
    settings = SETTINGS + SCOPES

    def create(self, **configuration):
        return self.refusal("create_shipper", detail("rule", "lake", **{"ossPrefix": "clients/x", **configuration}))

    def test_rules_outside_of_scope_are_refused(self):
        for configuration, member in [
            ({"ossBucket": "other"}, "bucket"),
            ({"ossBucket": "lake2"}, "bucket"),
            ({"ossPrefix": ""}, "prefix"),
            ({"ossPrefix": "clients2/x"}, "prefix"),
            ({"ossPrefix": "web-1/x"}, "prefix"),
            ({"roleArn": "acs:ram::1:role/admin"}, "role"),
        ]:
            with self.subTest(configuration):
                status, _, message = self.create(**configuration)
                self.assertEqual(status, 400)
                self.assertIn('outside of the scope of destination "default" for project clients', message)
                self.assertIn(member, message.lower())
        self.sdk("create_shipper", detail("inside", "lake", ossPrefix="clients/x"))
        self.sdk("create_shipper", detail("shared", "lake", ossPrefix="shared/x"))
        update = self.refusal("update_shipper", detail("inside", "lake", ossPrefix="elsewhere"))
        self.assertEqual(update[0], 400)

    def test_closed_destination_is_as_unknown_as_any(self):
        closed = self.create(logship={"destination": "vault"})
        unknown = self.create(logship={"destination": "nothing"})
        self.assertEqual(closed[2].replace("vault", "nothing"), unknown[2])
        self.assertNotIn("vault", unknown[2])
        siem = {"shipperName": "rule", "targetType": "siem"}
        refusals = [
            self.refusal("create_shipper", {**siem, "targetConfiguration": {"receiver": name}})[2]
            for name in ("soc", "nothing")
        ]
        self.assertEqual(refusals[0].replace("soc", "nothing"), refusals[1])
        self.assertIn("known receivers: none", refusals[1])

    def test_narrowed_scope_stops_a_rule(self):
        self.sdk("create_shipper", detail("inside", "lake", ossPrefix="clients/x"))
        self.service.settings.write_text(self.settings.replace('"clients", "web-*"', '"web-*"'))
        self.service.restart()
        self.put()
        told = self.service.json("rule", "show", "--logstore", "logs", "inside", "--report", "json")
        self.assertIn("problem", str(told))
        self.assertFalse(list((self.lake / "clients").rglob("*")) if (self.lake / "clients").exists() else [])


class Stranger(BaseHTTPRequestHandler):
    """A server that is no object store."""

    status, body = 200, b""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *_):
        pass


class OwnDestinations(Case):
    def own(self, port):
        endpoint = {"endpoint": f"http://{ADDRESS}:{port}", "access-key-id": "a", "access-key-secret": "b"}
        return {"logship": {"destination": {"type": "s3", **endpoint}}}

    def stranger(self, status, body):
        handler = type("Answering", (Stranger,), {"status": status, "body": body})
        server = ThreadingHTTPServer((ADDRESS, 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_port

    def test_answers_of_strangers_are_not_told(self):
        error = f"<Error><Code>{SECRET}</Code><Message>{SECRET}</Message></Error>"
        for number, (status, body) in enumerate([
            (200, f"<html>{SECRET}</html>"),
            (403, f"<html>{SECRET}</html>"),
            (404, SECRET),
            (403, error),
            (404, error),
            (400, error),
            (301, SECRET),
        ]):
            with self.subTest(status=status, body=body):
                port = self.stranger(status, body.encode())
                rule = detail(f"rule-{number}", "lake", **self.own(port))
                path = f"/logstores/{self.logstore.name}/shipper"
                for probe in "required", "warn":
                    reply = self.service.request(
                        "POST", f"{path}?probe={probe}", json.dumps(rule), self.service.admin.basic()
                    )
                    self.assertNotIn(SECRET, reply.body.decode())
                    if status != 200:
                        self.assertEqual(reply.status, 400 if probe == "required" else 200, reply.body)
        self.put()
        self.wait_for_failures()
        for path in "/tasks", "/logstores/logs/shipper/rule-1/tasks", "/logstores/logs/shipper/rule-1":
            told = self.service.request("GET", path, headers=self.service.admin.basic()).body.decode()
            self.assertNotIn(SECRET, told)
        for task in self.service.tasks():
            told = self.service.request("GET", f"/tasks/{task['id']}?type=verify", headers=self.service.admin.basic())
            self.assertNotIn(SECRET, told.body.decode())

    def wait_for_failures(self):
        wait_for(lambda: any(task.get("taskMessage") for task in self.service.tasks()))


class NoOwnDestinations(OwnDestinations):
    settings = "allow-own-destinations = false\n" + SETTINGS

    def test_own_destinations_can_be_refused(self):
        status, _, message = self.refusal("create_shipper", detail("rule", "lake", **self.own(1)))
        self.assertEqual(status, 400)
        self.assertIn("allow-own-destinations", message)

    test_answers_of_strangers_are_not_told = None
