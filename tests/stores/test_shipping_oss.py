"""The service ships to OSS: what it signs is what the store verifies, with every way to have a key."""

from functools import partial

from kit.fakes import sts
from kit.fakes.faults import Run
from kit.fakes.keys import ACCOUNT, OTHER_ACCOUNT, role_arn, root_arn
from kit.oss_client import BUCKET
from kit.shipping import LARGE, PART, Shipping, ShippingCase, put
from kit.waiting import wait_for

LOGS, GROUPS = 30, 3
# Keys are renewed two minutes before they expire, so these serve for a moment only.
BRIEF = 122
WRITES = "PutObject", "InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload"
META = {
    "logship-task": lambda task: task["id"],
    "logship-source": lambda task: "{project}/{logstore}/{shard}".format_map(task),
    "logship-range": lambda task: "{begin}-{end}".format_map(task),
    "logship-rows": lambda task: str(task["rows"]),
    "logship-sha256": lambda task: task["sha256"],
}


class Case(ShippingCase):
    def serve(self, environment=None, **settings):
        """A service with few logs that are not shipped yet."""
        self.served = Shipping(self, self.lake(**settings), environment)
        self.logstore = self.served.logstore()
        put(self.logstore, LOGS, GROUPS)
        return partial(self.served.rule, self.logstore, BUCKET)

    def without_key(self, environment, **settings):
        """The same, with no key in the settings."""
        return self.serve(environment, access_key_id=None, access_key_secret=None, **settings)

    def writers(self):
        """Ids of the keys by which objects were written."""
        calls = [call for call in self.server.calls if call.operation in WRITES and call.status == 200]
        return {call.access_key_id for call in calls}

    def assert_all_shipped(self, rule):
        return self.assert_shipped(rule, LOGS, GROUPS)

    def assert_failure(self, rule, code, *words):
        task = rule.wait_for_failure()
        self.assertEqual((task["taskCode"], rule.has_shipped(GROUPS)), (code, False), task)
        for word in words:
            self.assertIn(word, task["taskMessage"])
        self.assertEqual(self.bodies() if BUCKET in self.server.buckets else {}, {})

    def assert_mended(self, rule):
        """Checks that a retry succeeds."""
        self.assertEqual([task["taskStatus"] for task in rule.tasks()], ["fail"])
        self.served.command("task", "retry", "--all-failed")
        (task,) = self.assert_all_shipped(rule)
        self.assertEqual((task["taskCode"], task["taskMessage"], task["attempts"]), ("", "", 2))


class Objects(Case):
    def test_puts_small_object_with_v1_signature(self):
        rule = self.serve()("--prefix", "logs/a b+c&<é>")
        (task,) = self.assert_all_shipped(rule)
        self.assertTrue(task["object"].startswith("logs/a b+c&<é>/"), task["object"])
        found = self.bucket[task["object"]]
        self.assertEqual((found.kind, found.headers["content-type"]), ("Normal", "application/x-ndjson"))
        self.assert_meta(found, task)
        self.assert_requests()

    def test_puts_large_object_in_parts(self):
        self.serve()
        logstore = self.served.logstore("large")
        put(logstore, **LARGE)
        rule = self.served.rule(logstore, BUCKET)
        (task,) = self.assert_shipped(rule, LARGE["logs"], 1)
        found = self.bucket[task["object"]]
        self.assertGreater(len(found.body), 2 * PART)
        self.assertEqual((found.kind, self.server.count("UploadPart")), ("Multipart", 3))
        self.assertEqual((self.server.count("CompleteMultipartUpload"), self.server.uploads), (1, {}))
        # OpenDAL does not send the metadata of an upload in parts to OSS: they are in the task only.
        self.assertEqual(found.meta, {})
        self.assert_requests()

    def assert_meta(self, found, task):
        meta = dict(found.meta)
        self.assertRegex(meta.pop("logship-stages", ""), r"\bencode-json@[\d.]+ sha256:[0-9a-f]{64}\b")
        for name in ("logship-head-before", "logship-head"):
            self.assertRegex(meta.pop(name, ""), r"^[0-9a-f]{64}$")
        self.assertEqual(meta, {name: said(task) for name, said in META.items()})

    def assert_requests(self):
        """The bucket stands in the host's name, the signature is of version 1, and nothing was refused."""
        for request in self.proxy.requests:
            self.assertEqual(request.host, f"{BUCKET}.oss-local.test")
            self.assertRegex(request.headers["authorization"], f"^OSS {self.key.id}:")
        self.assertEqual([call for call in self.server.calls if call.code], [])

    def test_ships_each_format_and_compression(self):
        self.serve()
        columns = {"csv": "number,noise", "parquet": "number:int64,noise"}
        for format, compression in ("json", "snappy"), ("json", "gzip"), ("csv", "zstd"), ("parquet", "snappy"):
            with self.subTest(format=format, compression=compression):
                bucket = f"{format}-{compression}"
                self.server.create_bucket(bucket)
                options = ["--format", format, "--compression", compression]
                options += ["--columns", columns[format]] if format in columns else []
                rule = self.served.rule(self.logstore, bucket, *options)
                rule.wait_until_shipped(GROUPS)
                (task,), ((key, body),) = rule.tasks(), self.bodies(bucket).items()
                self.assertEqual(key, task["object"])
                self.assert_object(rule, task, body)

    def test_verify_finds_changed_object(self):
        rule = self.serve()()
        (task,) = self.assert_all_shipped(rule)
        self.bucket[task["object"]].body += b"\n"
        self.assertIn("1 objects don't match", self.served.refused("verify"))
        del self.bucket[task["object"]]
        self.assertIn("1 objects don't match", self.served.refused("verify"))

    def test_keeps_foreign_object(self):
        rule = self.serve()
        self.server.deny(BUCKET, self.key.id)
        rule = rule()
        task = rule.wait_for_failure()
        self.server.allow(BUCKET, self.key.id)
        self.client.put(task["object"], b"theirs")
        self.served.command("task", "retry", "--all-failed")
        wait_for(lambda: "already exists and was not overwritten" in rule.wait_for_failure()["taskMessage"], message=rule.tasks())
        self.assertEqual(rule.wait_for_failure()["taskCode"], "InternalServerError")
        self.assertEqual(self.bodies(), {task["object"]: b"theirs"})
        del self.bucket[task["object"]]
        self.served.command("task", "retry", "--all-failed")
        self.assert_all_shipped(rule)


class Keys(Case):
    def test_uses_key_of_settings(self):
        others = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "x", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "x"}
        self.assert_all_shipped(self.serve(others)())
        self.assertEqual(self.writers(), {self.key.id})

    def test_uses_temporary_key_of_settings(self):
        key = self.temporary_key()
        rule = self.serve(access_key_id=key.id, access_key_secret=key.secret, security_token=key.token)
        self.assert_all_shipped(rule())
        self.assertEqual(self.writers(), {key.id})

    def test_uses_key_of_environment(self):
        key = self.temporary_key()
        cloud, store = "ALIBABA_CLOUD_ACCESS_KEY_{}", "OSS_ACCESS_KEY_{}"
        for names, key, token in [
            (cloud, self.key, ""),
            (cloud, key, "ALIBABA_CLOUD_SECURITY_TOKEN"),
            (store, self.key, ""),
            (store, key, "OSS_SESSION_TOKEN"),
        ]:
            with self.subTest(names=names, token=token):
                self.bucket.clear()
                self.server.calls.clear()
                variables = {names.format("ID"): key.id, names.format("SECRET"): key.secret}
                rule = self.without_key({**variables, **({token: key.token} if token else {})})
                self.assert_all_shipped(rule())
                self.assertEqual(self.writers(), {key.id})

    def test_reports_missing_key(self):
        rule = self.without_key({})()
        self.assert_failure(rule, "UnAuthorized", "credential")
        self.served.set(access_key_id=self.key.id, access_key_secret=self.key.secret)
        self.assert_mended(rule)


class Roles(Case):
    def setUp(self):
        super().setUp()
        self.sts = sts.Server(self.keys)
        self.addCleanup(self.sts.close)

    def role(self, name="writer", trusts=None, **more):
        return self.sts.add_role(name, trusts or [self.key.principal], **more)

    def serve(self, environment=None, **settings):
        # The writers are roles only.
        self.server.deny(BUCKET, self.key.id)
        return super().serve(environment, sts_endpoint=self.sts.endpoint, **settings)

    def assert_written_as(self, role):
        """All that was written was written by temporary keys of a role."""
        self.assertEqual({self.keys.find(key).role for key in self.writers()}, {role.arn})

    def test_assumes_role_of_settings(self):
        role = self.role()
        self.assert_all_shipped(self.serve(role=role.arn)())
        self.assert_written_as(role)
        (call,) = {call.parameters["RoleSessionName"] for call in self.sts.calls}
        self.assertEqual(call, "logship")

    def test_assumes_role_of_rule(self):
        role = self.role()
        self.assert_all_shipped(self.serve()("--role", role.arn))
        self.assert_written_as(role)

    def test_role_of_rule_overrides_settings(self):
        role = self.role()
        self.assert_all_shipped(self.serve(role=role_arn(ACCOUNT, "nobody"))("--role", role.arn))
        self.assert_written_as(role)

    def test_assumes_role_with_key_of_environment(self):
        role = self.role()
        variables = {"ALIBABA_CLOUD_ACCESS_KEY_ID": self.key.id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": self.key.secret}
        self.assert_all_shipped(self.without_key(variables, role=role.arn)())
        self.assert_written_as(role)

    def test_assumes_role_through_role(self):
        first = self.role("first")
        role, key = self.role(trusts=[first.arn]), self.keys.issue(first.arn, "session", 900)
        rule = self.serve(access_key_id=key.id, access_key_secret=key.secret, security_token=key.token, role=role.arn)
        self.assert_all_shipped(rule())
        self.assert_written_as(role)

    def test_assumes_role_of_other_account(self):
        role = self.role(account=OTHER_ACCOUNT, trusts=[root_arn(ACCOUNT)], external_id="agreed")
        self.bucket.account = OTHER_ACCOUNT
        rule = self.serve(role=role.arn)()
        self.assert_failure(rule, "UnAuthorized", "credential")
        self.served.set(external_id="agreed")
        self.assert_mended(rule)
        self.assert_written_as(role)

    def test_key_of_other_account_is_denied(self):
        role = self.role()
        self.bucket.account = OTHER_ACCOUNT
        rule = self.serve(role=role.arn)()
        self.assert_failure(rule, "UnAuthorized", "The bucket you access does not belong to you.")
        self.bucket.account = ACCOUNT
        self.assert_mended(rule)

    def wait_until_expired(self, request=None):
        """Until the current keys are due to be renewed. They still serve waiting requests."""
        for key in map(self.keys.find, self.writers()):
            wait_for(lambda: self.keys.now() > key.expires - 120)
            if request is None:
                self.keys.expire(key)

    def test_renews_expiring_keys(self):
        role = self.role(lifetime=BRIEF)
        rule = self.serve(role=role.arn)()
        self.assert_all_shipped(rule)
        before = self.writers()
        self.wait_until_expired()
        put(self.logstore, LOGS, GROUPS, first=LOGS)
        tasks = self.assert_shipped(rule, 2 * LOGS, 2 * GROUPS)
        self.assertEqual({(task["taskStatus"], task["attempts"]) for task in tasks}, {("success", 1)})
        self.assertGreater(len(self.writers()), len(before))
        self.assert_written_as(role)

    def test_renews_keys_during_upload(self):
        role = self.role(lifetime=BRIEF)
        self.serve(role=role.arn)
        logstore = self.served.logstore("large")
        put(logstore, **LARGE)
        self.proxy.inject(Run(self.wait_until_expired), query={"partNumber": 3})
        rule = self.served.rule(logstore, BUCKET)
        (task,) = self.assert_shipped(rule, LARGE["logs"], 1)
        self.assertEqual(task["attempts"], 1)
        completed = [call.access_key_id for call in self.server.calls if call.operation == "CompleteMultipartUpload"]
        begun = [call.access_key_id for call in self.server.calls if call.operation == "InitiateMultipartUpload"]
        self.assertNotEqual(begun, completed)

    def test_reports_denied_role(self):
        role = self.role(trusts=[role_arn(ACCOUNT, "somebody-else")])
        rule = self.serve(role=role.arn)()
        self.assert_failure(rule, "UnAuthorized", "credential")
        role.trusts = (self.key.principal,)
        self.assert_mended(rule)

    def test_reports_missing_role(self):
        rule = self.serve(role=role_arn(ACCOUNT, "writer"))()
        self.assert_failure(rule, "UnAuthorized", "credential")
        self.role()
        self.assert_mended(rule)

    def test_wrong_secret_assumes_no_role(self):
        rule = self.serve(role=self.role().arn, access_key_secret="wrong")()
        self.assert_failure(rule, "UnAuthorized", "credential")
        self.served.set(access_key_secret=self.key.secret)
        self.assert_mended(rule)

    def test_reports_unreachable_token_service(self):
        self.sts.close()
        rule = self.serve(role=self.role().arn)()
        self.assertEqual((rule.wait_for_failure()["attempts"], self.bodies()), (1, {}))
        again = sts.Server(self.keys)
        self.addCleanup(again.close)
        again.roles = self.sts.roles
        self.served.set(sts_endpoint=again.endpoint)
        self.assert_mended(rule)


class Refusals(Case):
    def test_reports_wrong_secret(self):
        rule = self.serve(access_key_secret="wrong")()
        self.assert_failure(rule, "UnAuthorized", "SignatureDoesNotMatch", "The request signature we calculated")
        self.served.set(access_key_secret=self.key.secret)
        self.assert_mended(rule)

    def test_repeated_refusal_is_reported(self):
        rule = self.serve(access_key_secret="wrong")()
        self.assert_failure_again(rule, "UnAuthorized", "SignatureDoesNotMatch")

    def test_repeated_wrong_region_is_reported(self):
        rule = self.serve()
        self.bucket.domain = "oss-elsewhere.test"
        self.assert_failure_again(rule(), "InvalidOssBucket", "must be addressed using the specified endpoint")

    def test_repeated_missing_bucket_is_reported(self):
        rule = self.serve()
        del self.server.buckets[BUCKET]
        self.assert_failure_again(rule(), "InvalidOssBucket", "NoSuchBucket")

    def assert_failure_again(self, rule, code, words):
        self.assert_failure(rule, code, words)
        self.served.command("task", "retry", "--all-failed")
        wait_for(lambda: rule.wait_for_failure()["attempts"] == 2)
        self.assert_failure(rule, code, words)

    def test_reports_unknown_key(self):
        rule = self.serve(access_key_id="LTAI0000")()
        self.assert_failure(rule, "UnAuthorized", "InvalidAccessKeyId", "does not exist in our records")
        self.served.set(access_key_id=self.key.id)
        self.assert_mended(rule)

    def test_reports_expired_key(self):
        key = self.temporary_key()
        self.keys.expire(key)
        rule = self.serve(access_key_id=key.id, access_key_secret=key.secret, security_token=key.token)()
        self.assert_failure(rule, "UnAuthorized", "SecurityTokenExpired", "has expired")
        self.served.set(access_key_id=self.key.id, access_key_secret=self.key.secret, security_token=None)
        self.assert_mended(rule)

    def test_reports_denied_write(self):
        rule = self.serve()
        self.server.deny(BUCKET, self.key.id)
        rule = rule()
        self.assert_failure(rule, "UnAuthorized", "AccessDenied", "because of bucket acl")
        self.server.allow(BUCKET, self.key.id)
        self.assert_mended(rule)

    def test_reports_missing_bucket(self):
        rule = self.serve()
        del self.server.buckets[BUCKET]
        rule = rule()
        self.assert_failure(rule, "InvalidOssBucket", "NoSuchBucket", "The specified bucket does not exist.")
        self.bucket = self.server.create_bucket(BUCKET)
        self.assert_mended(rule)

    def test_reports_wrong_endpoint(self):
        rule = self.serve(endpoint="http://oss-elsewhere.test")()
        self.assert_failure(rule, "InvalidOssBucket", "NoSuchBucket")
        self.served.set(endpoint=self.server.endpoint)
        self.assert_mended(rule)

    def test_reports_wrong_region(self):
        rule = self.serve()
        self.bucket.domain = "oss-elsewhere.test"
        rule = rule()
        self.assert_failure(rule, "InvalidOssBucket", "must be addressed using the specified endpoint")
        self.bucket.domain = None
        self.assert_mended(rule)

    def test_reports_endpoint_without_bucket_names(self):
        rule = self.serve(addressing="path")()
        self.assert_failure(rule, "UnAuthorized", "SecondLevelDomainForbidden", "Please use virtual hosted style")
        self.served.set(addressing="virtual")
        self.assert_mended(rule)

    def test_reports_unreachable_store(self):
        rule = self.serve(proxy="http://127.0.0.1:1")()
        self.assert_failure(rule, "InternalServerError", "onnect")
        self.served.set(proxy="http://{}:{}".format(*self.proxy.address))
        self.assert_mended(rule)

    def test_deleting_rule_deletes_tasks(self):
        rule = self.serve()
        self.server.deny(BUCKET, self.key.id)
        rule = rule()
        rule.wait_for_failure()
        self.served.command("rule", "delete", rule.name, "--logstore", self.logstore.name)
        (task,) = rule.tasks()
        self.assertEqual((task["taskStatus"], task["taskCode"]), ("fail", "ConfigNotExist"))
        self.server.allow(BUCKET, self.key.id)
        self.served.run("task", "retry", "--all-failed")
        self.assertEqual([task["taskStatus"] for task in rule.tasks()], ["fail"])
        self.assertEqual(self.bodies(), {})
