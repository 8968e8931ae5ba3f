"""Jobs and the permissions of keys: a job reads no Logstore that its maker may not read, and keeps its data sources."""

import json

from kit import jobs, policies, service
from kit.jobs import GUIDE
from kit.policies import statement

PROJECT = service.PROJECT
WITHOUT_COMMENTS = GUIDE.replace("// the Logstore", "")


class Permissions(jobs.Case):
    shards = 1

    def keys(self, *of_keys):
        keys = [policies.create_key(self.service, *statements) for statements in of_keys]
        self.service.restart()
        return keys

    def create(self, key, name, script=WITHOUT_COMMENTS):
        return self.service.request("POST", f"/jobs?name={name}", script, key.basic())

    def test_makers_of_jobs_must_be_able_to_read_the_logstore(self):
        logstore = f"acs:log:*:*:project/{PROJECT}/logstore"
        make = statement("log:CreateJob")
        only, reader, other, named = self.keys(
            [make],
            [make, statement("log:GetCursorOrData", f"{logstore}/logs*")],
            [make, statement("log:GetCursorOrData", f"{logstore}/other*")],
            [statement("log:*"), statement("log:CreateJob", f"acs:log:*:*:project/{PROJECT}/job/secret", "Deny")],
        )
        for key in only, other:
            reply = self.create(key, "copy")
            self.assertEqual(reply.status, 401, reply.body)
            self.assertIn("log:GetCursorOrData", reply.json()["errorMessage"])
        self.assertEqual(self.create(reader, "copy").status, 200)
        self.assertEqual(self.create(named, "secret").status, 401)
        self.assertIn(self.create(named, "secret", GUIDE).status, (400, 401))
        script = json.dumps({**json.loads(WITHOUT_COMMENTS), "name": "secret"})
        self.assertEqual(self.service.request("POST", "/jobs", script, named.basic()).status, 401)
        hidden = script.replace("{", "{/* */", 1)
        self.assertIn(self.service.request("POST", "/jobs", hidden, named.basic()).status, (400, 401))
        self.assertNotIn("secret", self.service.command("job", "list"))

    def test_data_source_of_a_job_is_not_deleted(self):
        key = self.key
        members = {"endpoint": self.maxcompute.endpoint, "project": "logs", "access-key-id": key.id}
        members["access-key-secret"] = key.secret
        self.service.command("source", "create", "used", "--type", "odps", *service.set_options(members))
        script = WITHOUT_COMMENTS.replace("odps_first", "used")
        self.assertEqual(self.create(self.service.admin, "daily", script).status, 200)
        self.assertIn("in use by job daily", self.service.refused("source", "delete", "used"))
        self.service.command("job", "delete", "daily")
        self.service.command("source", "delete", "used")
