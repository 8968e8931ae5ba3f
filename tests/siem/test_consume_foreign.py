"""`logship consume` as a member of a group of a Log Service that it did not come with."""

import json
import unittest

from aliyun.log.proto import LogGroup

from kit.fakes import sls
from kit.fakes.sls import LogService, Refused
from kit.group import GROUP, Member, collector_for, ids
from kit.waiting import wait_for

SHARDS = 4


class Foreign(unittest.TestCase):
    def setUp(self):
        self.service, self.collector = LogService(self, SHARDS), collector_for(self)
        self.count = 0

    def put(self, groups):
        """Groups of ten logs, to the shards in turn."""
        for number in range(groups):
            group = LogGroup(Topic="t", Source="10.0.0.1")
            for _ in range(10):
                group.Logs.add(Time=1_760_000_000).Contents.add(Key="id", Value=str(self.count))
                self.count += 1
            self.service.put(number % SHARDS, group)

    def member(self, *options, name="a", secret=sls.SECRET):
        place = {"SLS_ENDPOINT": self.service.endpoint, "SLS_PROJECT": sls.PROJECT}
        place |= {"SLS_AK_ID": sls.ID, "SLS_AK_KEY": secret}
        return Member(self, [sls.LOGSTORE], name, *options, collector=self.collector, place=place)

    def assert_all_came(self, duplicates=0):
        came = ids(self.collector.indexed())
        self.assertEqual(set(came), set(range(self.count)))
        self.assertLessEqual(len(came) - self.count, duplicates)

    def saved(self):
        group = self.service.groups.get(GROUP, sls.Group(0, False))
        return {shard: cursor for shard, (cursor, *_) in group.checkpoints.items()}

    def ends(self):
        return {shard: sls.cursor_of(self.service.end(shard)) for shard in range(SHARDS)}

    def test_delivers_each_log_once(self):
        self.put(200)
        logs = {shard: [LogGroup.FromString(group) for group in groups] for shard, groups in self.service.shards.items()}

        def is_delivered(shard, position):
            came = set(ids(self.collector.indexed()))
            before = logs[shard][: position - sls.FIRST]
            ahead.extend(log for group in before for log in group.Logs if int(log.Contents[0].Value) not in came)

        ahead = []
        self.service.on_checkpoint = is_delivered
        self.member("--until-end").wait()
        self.assert_all_came()
        self.assertEqual((self.saved(), ahead), (self.ends(), []))
        refused = [exchange for exchange in self.service.exchanges if exchange.status != 200]
        self.assertEqual(refused, [])
        # The consumer reports its shards, and forces no checkpoints of others.
        self.assertEqual({exchange.query["forceSuccess"] for exchange in self.service.of("checkpoint")}, {"false"})

    def test_temporary_errors_lose_nothing(self):
        busy, broken = Refused(503, "ServerBusy"), Refused(500, "InternalServerError")
        quota = Refused(403, "ReadQuotaExceed")
        for operation in "log", "heartbeat", "checkpoint", "cursor", "checkpoints":
            self.service.fail(operation, busy, None, broken, quota)
        self.put(100)
        self.service.groups[GROUP] = sls.Group(10, False)
        self.member().process
        wait_for(lambda: self.saved() == self.ends())
        self.assertEqual(self.service.pending_faults(), [])
        self.assert_all_came()

    def test_saves_checkpoint_before_losing_shard(self):
        self.put(40)
        member = self.member()
        wait_for(lambda: self.saved() == self.ends(), message=member.said)
        self.put(8)
        self.service.elsewhere = {1, 2}
        reports = lambda: [json.loads(exchange.body) for exchange in self.service.of("heartbeat")]
        wait_for(lambda: sorted(reports()[-1]) == [0, 3], message=member.said)
        came, saved = set(ids(self.collector.indexed())), self.saved()
        for shard in (1, 2):
            position = self.service._position(shard, saved[shard]) - sls.FIRST
            logs = [LogGroup.FromString(group).Logs for group in self.service.shards[shard]]
            numbers = [[int(log.Contents[0].Value) for log in group] for group in logs]
            self.assertTrue(all(number in came for group in numbers[:position] for number in group))
            self.assertFalse(any(number in came for group in numbers[position:] for number in group))
        self.service.elsewhere = set()
        wait_for(lambda: self.saved() == self.ends(), message=member.said)
        self.assert_all_came()

    def test_recreates_forgotten_group(self):
        self.put(8)
        member = self.member()
        wait_for(lambda: self.saved() == self.ends(), message=member.said)
        with self.service.lock:
            self.service.groups.clear()
        wait_for(lambda: GROUP in self.service.groups, message=member.said)
        self.put(8)
        wait_for(lambda: self.saved() == self.ends(), message=member.said)
        # Its checkpoints are gone with it: what they stood for may be sent again.
        self.assert_all_came(duplicates=self.count)

    def test_reports_expired_logs(self):
        """A service of logship says where the first group of an answer stands."""
        self.put(40)
        log, first = self.service._log, sls.FIRST + 3

        def after_three(path, query, body):
            if query["cursor"] != sls.cursor_of(sls.FIRST):
                return log(path, query, body)
            answer, headers = log(path, {**query, "cursor": sls.cursor_of(first)}, body)
            return answer, {**headers, "x-logship-first": first}

        self.service._log = after_three
        member = self.member("--until-end").wait()
        told = [line for line in member.lines() if "deleted logs before they were read" in line.get("message", "")]
        self.assertEqual([(line["level"], line["oldest"]) for line in told], [("ERROR", first)] * SHARDS)
        self.assertEqual(len(self.collector.indexed()), self.count - 3 * 10 * SHARDS)

    def test_reports_wrong_key(self):
        member = self.member(secret="another")
        self.assertNotEqual(member.code(), 0)
        self.assertIn("SignatureNotMatch", member.said())
