"""RAM policies as the permissions of keys: the examples of Log Service's guides with the vendor's SDK, and every operation."""

import json
import time
import unittest

from aliyun.log import LogException, LogItem, PutLogsRequest
from aliyun.log.proto import LogGroup

from kit import policies, service
from kit.operations import operations
from kit.policies import policy, statement
from kit.process import of_class
from kit.sdk_worker import GROUP, Worker
from kit.waiting import wait_for

PROJECT = service.PROJECT
LOGSTORE = f"acs:log:*:*:project/{PROJECT}/logstore/logs"

# The guide of shipping to MaxCompute: a reader may get, list and use consumer groups.
READER = [
    "log:Get*",
    "log:List*",
    "log:CreateConsumerGroup",
    "log:UpdateConsumerGroup",
    "log:DeleteConsumerGroup",
    "log:ListConsumerGroup",
    "log:ConsumerGroupUpdateCheckPoint",
    "log:ConsumerGroupHeartBeat",
    "log:GetConsumerGroupCheckPoint",
]
# The guide of consumer groups: to consume one Logstore.
CONSUMER = [
    "log:ListShards",
    "log:GetCursorOrData",
    "log:GetConsumerGroupCheckPoint",
    "log:UpdateConsumerGroup",
    "log:ConsumerGroupHeartBeat",
    "log:ConsumerGroupUpdateCheckPoint",
    "log:ListConsumerGroup",
    "log:CreateConsumerGroup",
]


def allows(action, patterns):
    """True if a pattern matches the action, as the guide says: a `*` at the end matches any rest."""
    wanted = action.lower()
    return any(
        wanted.startswith(pattern[:-1].lower()) if pattern.endswith("*") else wanted == pattern.lower()
        for pattern in patterns
    )


class Policies(unittest.TestCase):
    """Keys with policies of one service."""

    @classmethod
    def setUpClass(cls):
        cls.service = service.Service(of_class(cls))
        cls.service.logstore()
        cls.service.client().create_logstore(PROJECT, "other", ttl=1, shard_count=1)

    def key(self, *statements):
        return policies.create_key(self.service, *statements)

    def clients(self, *statements):
        """SDK clients of keys with a policy each."""
        keys = [self.key(one) if isinstance(one, dict) else self.key(*one) for one in statements]
        self.service.restart()
        return [self.service.client(key) for key in keys]

    def refused(self, call, *arguments, **named):
        with self.assertRaises(LogException) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.get_error_code(), "Unauthorized", caught.exception)
        self.assertIn("denied by the policy", caught.exception.get_error_message())
        return caught.exception.get_error_message()

    def put(self, client, logstore="logs"):
        item = LogItem(int(time.time()), contents=[("k", "v")])
        client.put_logs(PutLogsRequest(PROJECT, logstore, "", "", [item]))

    def consume(self, client, group, logstore="logs"):
        """Everything that a member of a consumer group does, by the SDK."""
        client.create_consumer_group(PROJECT, logstore, group, 60, False)
        names = [found.get_consumer_group_name() for found in client.list_consumer_group(PROJECT, logstore).get_consumer_groups()]
        self.assertIn(group, names)
        client.update_consumer_group(PROJECT, logstore, group, 30, True)
        client.heart_beat(PROJECT, logstore, group, "member", [])
        shards = client.list_shards(PROJECT, logstore).get_shards_info()
        cursor = client.get_begin_cursor(PROJECT, logstore, shards[0]["shardID"]).get_cursor()
        client.get_cursor_time(PROJECT, logstore, shards[0]["shardID"], cursor)
        pulled = client.pull_logs(PROJECT, logstore, shards[0]["shardID"], cursor, 1)
        client.update_check_point(PROJECT, logstore, group, shards[0]["shardID"], pulled.get_next_cursor(), "member", True)
        saved = client.get_check_point(PROJECT, logstore, group).get_consumer_group_check_points()
        self.assertEqual(saved[0]["checkpoint"], pulled.get_next_cursor())

    def test_guides_reader_consumes_and_does_nothing_else(self):
        self.put(self.service.client())
        (client,) = self.clients([statement(READER)])
        self.consume(client, "maxcompute")
        client.get_project(PROJECT)
        self.assertEqual(client.get_logstore(PROJECT, "logs").get_shard_count(), 1)
        self.assertEqual(client.list_project().get_count(), 1)
        client.delete_consumer_group(PROJECT, "logs", "maxcompute")
        message = self.refused(self.put, client)
        self.assertIn("log:PostLogStoreLogs", message)
        self.refused(client.create_logstore, PROJECT, "new-one", 1, 1)
        self.refused(client.delete_logstore, PROJECT, "logs")
        self.refused(client.create_project, "new-project", "")
        self.refused(client.split_shard, PROJECT, "logs", 0, "ef" * 16)

    def test_guides_consumer_of_one_logstore(self):
        self.put(self.service.client())
        (client,) = self.clients([statement(CONSUMER, [LOGSTORE, f"{LOGSTORE}/*"])])
        self.consume(client, "consumers")
        for refused in (
            lambda: client.list_shards(PROJECT, "other"),
            lambda: client.get_begin_cursor(PROJECT, "other", 0),
            lambda: client.create_consumer_group(PROJECT, "other", "consumers", 60, False),
            lambda: client.delete_consumer_group(PROJECT, "logs", "consumers"),
            lambda: client.get_logstore(PROJECT, "logs"),
            lambda: client.list_logstore(PROJECT),
            lambda: client.list_project(),
            lambda: self.put(client),
        ):
            self.refused(refused)

    def test_consumer_library_works_with_the_guides_policies(self):
        self.service.client().create_logstore(PROJECT, "consumed", ttl=1, shard_count=2)
        logstore = service.Logstore(self.service.client(), "consumed")
        logs = LogGroup()
        for number in range(20):
            logs.Logs.add(Time=int(time.time())).Contents.add(Key="id", Value=str(number))
        for _ in range(4):
            logstore.put(logs)
        resource = f"acs:log:*:*:project/{PROJECT}/logstore/consumed"
        for name, statements in (
            ("reader", [statement(READER)]),
            ("consumer", [statement(CONSUMER, [resource, f"{resource}/*"])]),
        ):
            key = self.key(*statements)
            self.service.restart()
            worker = Worker(self, logstore, name, save=0, key=key)
            wait_for(lambda worker=worker: len(worker.ids()) == 80)
            wait_for(lambda: any(check["checkpoint"] for check in self.checkpoints("consumed")))
            worker.leave()
            worker.code()
            self.service.client().delete_consumer_group(PROJECT, "consumed", GROUP)

    def checkpoints(self, logstore):
        return self.service.client().get_check_point(PROJECT, logstore, GROUP).get_consumer_group_check_points()

    def test_writer_of_one_logstore(self):
        (client,) = self.clients([statement("log:PostLogStoreLogs", LOGSTORE)])
        self.put(client)
        self.refused(self.put, client, "other")
        self.refused(client.list_shards, PROJECT, "logs")

    def test_deny_overrides_allow(self):
        everything = statement("*")
        deny = statement(["log:Delete*", "log:createconsumergroup"], "acs:log:cn-hangzhou:123:project/*/logs*", "Deny")
        for statements in [everything, deny], [deny, everything]:
            (client,) = self.clients(statements)
            client.create_logstore(PROJECT, "kept", ttl=1, shard_count=1)
            message = self.refused(client.delete_logstore, PROJECT, "kept")
            self.assertIn(f"statement {statements.index(deny) + 1} denies log:DeleteLogStore", message)
            self.refused(client.create_consumer_group, PROJECT, "logs", "group", 60, False)
            client.get_logstore(PROJECT, "kept")
            self.service.client().delete_logstore(PROJECT, "kept")

    def test_new_objects_need_an_allowed_name(self):
        base = f"acs:log:*:*:project/{PROJECT}/logstore"
        (client,) = self.clients(
            [
                statement("log:CreateLogStore", f"{base}/app-*"),
                statement("log:CreateConsumerGroup", f"{base}/logs/consumergroup/soc-*"),
                statement("log:CreateConsumerGroup", f"{base}/logs/consumergroup/soc-secret", "Deny"),
                statement("log:CreateProject", "acs:log:*:*:project/team-*"),
            ]
        )
        client.create_logstore(PROJECT, "app-one", ttl=1, shard_count=1)
        self.refused(client.create_logstore, PROJECT, "web-one", ttl=1, shard_count=1)
        client.create_consumer_group(PROJECT, "logs", "soc-1", 60, False)
        for group in "soc", "soc-secret", "other":
            self.refused(client.create_consumer_group, PROJECT, "logs", group, 60, False)
        client.create_project("team-a", "")
        self.refused(client.create_project, "other-team", "")

    def test_another_members_name_does_not_count(self):
        key = self.key(statement("log:CreateConsumerGroup", f"{LOGSTORE}/consumergroup/mine"))
        self.service.restart()
        for body in (
            '{"consumerGroup": "theirs", "name": "mine", "shipperName": "mine", "timeout": 60}',
            '{"consumerGroup": "mine", "consumerGroup": "theirs", "timeout": 60}',
            '{"consumerGroup": "theirs", "consumerGroup": "mine", "timeout": 60}',
            '{"consumerGroup": ["mine"], "timeout": 60}',
            '{"timeout": 60}',
            "[]",
            "",
        ):
            reply = self.service.request("POST", "/logstores/logs/consumergroups", body, key.basic())
            self.assertIn(reply.status, (400, 401), body)
        found = self.service.client().list_consumer_group(PROJECT, "logs").get_consumer_groups()
        self.assertNotIn("theirs", [group.get_consumer_group_name() for group in found])

    def test_every_name_of_a_request_counts(self):
        key = self.key(statement("logship:CreateDataSource", f"acs:log:*:*:project/{PROJECT}/source/mine"))
        self.service.restart()
        for path, name, status in (
            ("/sources", "mine", 200),
            ("/sources", "theirs", 401),
            ("/sources?name=mine", "theirs", 401),
            ("/sources?name=theirs", "mine", 401),
        ):
            body = json.dumps({"type": "loghub", "name": name})
            self.assertEqual(self.service.request("POST", path, body, key.basic()).status, status, (path, name))

    def test_forms_that_hide_the_name_are_rejected(self):
        base = f"acs:log:*:*:project/{PROJECT}/logstore"
        key = self.key(statement("log:CreateLogStore", f"{base}/*"), statement("log:*", f"{base}/secret", "Deny"))
        self.service.restart()
        for body in '{/* */"logstoreName": "secret", "ttl": 1}', 'logstoreName = "secret"', '{"logstoreName": "secret"}':
            reply = self.service.request("POST", "/logstores", body, key.basic())
            self.assertIn(reply.status, (400, 401), body)

    def test_names_with_slashes_match_no_other_resource(self):
        key = self.key(statement("log:*", "acs:log:*:*:project/*/logstore/public"))
        self.service.restart()
        for path in (
            "/logstores/logs/shards/x%2Flogstore%2Fpublic?type=log",
            "/logstores/logs/consumergroups/x%2Flogstore%2Fpublic",
            "/logstores/logs%2Flogstore%2Fpublic",
            "/logstores/logs/shipper/x%2Flogstore%2Fpublic",
        ):
            self.assertEqual(self.service.request("GET", path, headers=key.basic()).status, 401, path)

    def test_split_and_merge_are_two_actions(self):
        self.service.client().create_logstore(PROJECT, "splits", ttl=1, shard_count=1)
        resource = f"acs:log:*:*:project/{PROJECT}/logstore/splits"
        split, merge = self.clients([statement("log:SplitShard", resource)], [statement("log:MergeShard", resource)])
        self.refused(merge.split_shard, PROJECT, "splits", 0, "80" + "0" * 30)
        split.split_shard(PROJECT, "splits", 0, "80" + "0" * 30)
        self.refused(split.merge_shard, PROJECT, "splits", 1)
        merge.merge_shard(PROJECT, "splits", 1)

    def test_lists_have_only_allowed_projects(self):
        self.service.client().create_project("hidden-project", "")
        (some,) = self.clients([statement("log:ListProject", f"acs:log:*:*:project/{PROJECT}*")])
        self.assertEqual([found["projectName"] for found in some.list_project().get_projects()], [PROJECT])


class EveryOperation(unittest.TestCase):
    """Every operation of the table with policies that allow some: what the policy allows works, all else is refused."""

    def setUp(self):
        self.service = service.Service(self)
        self.service.logstore()

    def send(self, operation, key):
        body = json.dumps({"projectName": PROJECT}) if operation.path == "/" else "{}"
        sent = None if operation.method in ("GET", "DELETE") else body
        headers = {**key.basic(), "Host": operation.host}
        return self.service.request(operation.method, operation.path, sent, headers)

    def test_policies_decide_alone(self):
        actions_of = {
            "reader": READER,
            "consumer": CONSUMER,
            "log service": ["log:*"],
            "own": ["logship:*"],
            "projects": ["log:*Project"],
            "everything": ["*"],
        }
        keys = {name: policies.create_key(self.service, statement(actions)) for name, actions in actions_of.items()}
        self.service.restart()
        checks, allowed_of = 0, dict.fromkeys(keys, 0)
        for operation in operations():
            for name, key in keys.items():
                patterns = actions_of[name]
                suffix = patterns == ["log:*Project"]
                expected = operation.access == "no key" or any(
                    action.endswith("Project") and action.startswith("log:") if suffix else patterns == ["*"] or allows(action, patterns)
                    for action in operation.actions
                )
                with self.subTest(operation=operation, policy=name):
                    reply = self.send(operation, key)
                    self.assertEqual(reply.status != 401, expected, reply.body)
                    self.assertLess(reply.status, 500, reply.body)
                    if reply.status == 401:
                        self.assertIn("denied by the policy", reply.json()["errorMessage"])
                    checks += 1
                    allowed_of[name] += expected
                if operation.name == "delete project" and expected:
                    self.service.client().create_project(PROJECT, "")
        self.assertGreaterEqual(checks, 6 * 60)
        self.assertEqual(allowed_of["everything"], checks // 6)
        self.assertLess(allowed_of["consumer"], allowed_of["reader"])


class KeyCommand(unittest.TestCase):
    """`logship key` with policies."""

    def setUp(self):
        self.service = service.Service(self)
        self.file = self.service.folder / "policy.json"

    def create(self, content, *options):
        self.file.write_text(content if isinstance(content, str) else json.dumps(content))
        return self.service.run("key", "create", "--policy", self.file, *options)

    def test_shows_policy_without_secret(self):
        done = self.create(policy(statement(READER), statement("log:DeleteConsumerGroup", LOGSTORE, "Deny")))
        self.assertEqual(done.returncode, 0, done.stderr)
        key_id, secret = (line.partition("=")[2] for line in done.stdout.splitlines()[:2])
        shown = self.service.command("key", "show", key_id)
        self.assertNotIn(secret, shown)
        stored = json.loads(shown.partition("policy:\n")[2])
        self.assertEqual(stored["Statement"][0]["Action"], READER)
        self.assertEqual(stored["Statement"][1]["Effect"], "Deny")
        listed = self.service.command("key", "list")
        self.assertIn("policy", next(line for line in listed.splitlines() if key_id in line))

    def test_rejects_what_it_can_not_keep(self):
        valid = statement("log:Get*")
        for content, problem in (
            (policy({**valid, "Condition": {"IpAddress": {"acs:SourceIp": "10.0.0.0/8"}}}), "IpAddress acs:SourceIp"),
            (policy({**valid, "NotAction": "log:Get*"}), "NotAction"),
            (policy(statement("log:GetLogs")), "log:GetLogs"),
            (policy(statement(["log:Get*", "ram:PassRole"])), "ram:PassRole"),
            (policy(statement("log:Get?")), "only wildcard is *"),
            (policy(statement([])), "empty list"),
            (policy(), "Statement is empty"),
            (policy(statement("log:Get*", "acs:oss:*:*:bucket")), "another service"),
            ("{" * 5000, "policy.json"),
            ("", "policy.json"),
            (" " * (2 << 20), "1 MiB"),
            (policy(statement("log:Get*", ["acs:log:*:*:project/web-" + str(number) for number in range(900)])), "16384"),
        ):
            done = self.create(content)
            self.assertNotEqual(done.returncode, 0, content)
            self.assertIn(problem, done.stderr)
        self.assertEqual(self.service.command("key", "list").count("LS"), 2)

    def test_has_nothing_besides_the_policy(self):
        for options in ("--allow", "read"), ("--group", "web/soc"):
            self.assertNotEqual(self.create(policy(statement("log:Get*")), *options).returncode, 0)
        done = self.create(policy(statement(["log:Get*", "log:CreateDashboard"])))
        self.assertIn("log:CreateDashboard allows nothing here", done.stderr)
        key_id = done.stdout.partition("=")[2].splitlines()[0]
        self.assertIn("has a policy", self.service.refused("key", "give", key_id, "web/soc"))

    def test_misspelt_deny_in_the_key_file_is_not_loaded(self):
        """An edited file with a mistake must not give more access than the policy says."""
        self.create(policy(statement("*"), statement("log:DeleteLogStore", "*", "Deny")))
        file = self.service.data / "keys.toml"
        file.write_text(file.read_text().replace("log:DeleteLogStore", "log:DeleteLogstores"))
        self.assertIn("log:DeleteLogstores", self.service.refused("key", "list"))
