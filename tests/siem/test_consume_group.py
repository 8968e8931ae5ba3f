"""`logship consume` as a member of consumer groups: members of it and of the vendor's SDK join, leave and are killed,
no log is lost, and none comes twice but by a kill."""

import time
from datetime import datetime, timedelta, timezone

from aliyun.log import LogItem, PutLogsRequest

from kit.fakes import faults
from kit.group import GROUP, SHARDS, GroupCase, Member, Producer, collector_for, describe, ids, twice
from kit.sdk_worker import Worker
from kit.service import PROJECT
from kit.waiting import wait_for

EVENT = "/services/collector/event"
# The heartbeat of kit.sdk_consumer: members of a group have the same timeout.
BEAT_OF_THE_SDK = 2


class SdkWorker(Worker):
    """A consumer of the SDK that saves a checkpoint after each pull."""

    def __init__(self, test, logstore, name, save=0):
        super().__init__(test, logstore, f"{logstore.name}-{name}", save)


class WithTheSdk(GroupCase):
    def setUp(self):
        self.store, self.producer = self.logstore()

    def join(self):
        """A worker of the SDK and a member of logship, both at work in one group while logs come in."""
        self.producer.put(200)
        worker = SdkWorker(self, self.store, "sdk")
        self.producer.begin()
        self.wait_until_at_work(worker)
        member = self.member(self.store, "logship", beat=BEAT_OF_THE_SDK)
        self.wait_until_at_work(member, worker)
        return worker, member

    def finish(self, *members):
        self.producer.stop()
        self.wait_until_delivered(members, self.producer.count)
        print(f"\n{describe(members)}; {len(twice(members))} came twice")

    def test_logship_and_sdk_share_shards(self):
        worker, member = self.join()
        # The owner is who saved last: until the last shard has moved and been read from, there are others.
        half = [worker.name, "logship"] * (SHARDS // 2)
        wait_for(lambda: sorted(self.owners(self.store).values()) == sorted(half), every=0.2)
        worker.leave()
        self.assertEqual(worker.code(), 0)
        # All shards are logship's, once the other's timeout is over.
        wait_for(lambda: set(self.owners(self.store).values()) == {"logship"}, every=0.2)
        second = SdkWorker(self, self.store, "second")
        self.wait_until_at_work(second, member)
        member.leave()
        self.finish(worker, member, second)
        self.wait_until_saved(self.store)
        self.assert_once([worker, member, second], self.producer.count)

    def test_killed_logship_repeats_only_batches_in_flight(self):
        worker, member = self.join()
        # Right after a request was accepted: nothing can have been saved of it.
        member.collector.inject(faults.Run(lambda _: member.kill(), before=False), path=EVENT)
        wait_for(lambda: not member.is_alive())
        time.sleep(0.5)
        in_flight = set(member.ids()) & self.unsaved(self.store)
        self.assertTrue(in_flight)
        self.finish(worker, member)
        self.wait_until_saved(self.store)
        # Not a subset only: who takes over a shard goes on from its checkpoint.
        self.assertEqual(twice([worker, member]), in_flight)

    def test_killed_sdk_repeats_only_batches_in_flight(self):
        worker, member = self.join()
        worker.kill()
        time.sleep(0.5)
        in_flight = set(worker.ids()) & self.unsaved(self.store)
        self.finish(worker, member)
        self.wait_until_saved(self.store)
        self.assertEqual(twice([worker, member]), in_flight)


class Members(GroupCase):
    def test_joining_and_leaving_members_repeat_nothing(self):
        store, producer = self.logstore()
        producer.put(100)
        members = [self.member(store, "a")]
        producer.begin()
        self.wait_until_at_work(*members)
        members += [self.member(store, name) for name in "bc"]
        self.wait_until_at_work(*members)
        members[0].leave()
        self.wait_until_at_work(*members[1:])
        members.append(self.member(store, "d"))
        self.wait_until_at_work(members[-1])
        members[1].leave()
        members[2].leave()
        self.wait_until_at_work(members[-1])
        producer.stop()
        self.wait_until_delivered(members, producer.count)
        self.wait_until_saved(store)
        print(f"\n{describe(members)}")
        self.assert_once(members, producer.count)

    def test_killed_members_repeat_only_batches_in_flight(self):
        store, producer = self.logstore()
        members = [self.member(store, name) for name in "abc"]
        producer.begin()
        self.wait_until_at_work(*members)
        in_flight = set()
        for killed in members[:2]:
            killed.collector.inject(faults.Run(lambda _: killed.kill(), before=False), path=EVENT)
            wait_for(lambda: not killed.is_alive())
            time.sleep(0.3)
            in_flight |= set(killed.ids()) & self.unsaved(store)
        producer.stop()
        self.wait_until_delivered(members, producer.count)
        self.wait_until_saved(store)
        print(f"\n{describe(members)}; {len(in_flight)} were in flight")
        self.assertEqual(twice(members), in_flight)

    def test_leaving_member_finishes_delivery_first(self):
        """The receiver takes longer than the group's timeout: the member is still there, and says so."""
        store, producer = self.logstore(shards=1)
        producer.put(5)
        a = self.member(store, "a")
        a.collector.inject(faults.Slow(4), path=EVENT)
        wait_for(lambda: a.collector.sent())
        b = self.member(store, "b")
        a.leave()
        producer.put(5)
        self.wait_until_delivered([a, b], producer.count)
        self.wait_until_saved(store)
        self.assert_once([a, b], producer.count)

    def test_moving_shard_finishes_delivery_first(self):
        """Also when that takes longer than the group's timeout, in which the member is heard."""
        store, producer = self.logstore(shards=2)
        producer.put(20)
        a = self.member(store, "a")
        a.collector.inject(faults.Slow(4), path=EVENT, times=2)
        wait_for(lambda: len(a.collector.sent()) == 2)
        b = self.member(store, "b")
        wait_for(lambda: len(b.reads()) == 1, message=b.said)
        self.wait_until_delivered([a], producer.count)
        producer.begin()
        self.wait_until_at_work(a, b)
        producer.stop()
        self.wait_until_delivered([a, b], producer.count)
        self.assert_once([a, b], producer.count)

    def test_surplus_consumers_are_idle(self):
        store, producer = self.logstore(shards=2)
        members = [self.member(store, name) for name in "abcd"]
        producer.begin()
        wait_for(lambda: sum(1 for member in members if member.ids()) == 2, every=0.1)
        time.sleep(2.5)
        working = [member for member in members if member.ids()]
        self.assertEqual(len(working), 2, describe(members))
        for member in working:
            member.leave()
        self.wait_until_at_work(*(member for member in members if member not in working))
        producer.stop()
        self.wait_until_delivered(members, producer.count)
        self.assert_once(members, producer.count)

    def test_idle_consumer_ends_with_until_end(self):
        store, producer = self.logstore(shards=1)
        producer.put(20)
        a = self.member(store, "a")
        wait_for(a.reads)
        b = self.member(store, "b", "--until-end")
        b.wait(10)

    def test_until_end_reads_each_shard_once(self):
        """Although logs come all the time, and one of the shards takes longer than the others."""
        store, producer = self.logstore()
        producer.put(50)
        producer.begin()
        member = self.member(store, "a", "--until-end", start=False)
        member.collector.inject(faults.Slow(2.5), path=EVENT)
        member.start()
        member.wait(15)
        producer.stop()
        self.assertEqual(len(member.reads()), SHARDS)
        self.assertEqual(twice([member]), set())


class Names(GroupCase):
    def test_same_name_regains_shards_at_once(self):
        store, producer = self.logstore()
        producer.put(50)
        member = self.member(store, "a", beat=10)
        self.wait_until_delivered([member], producer.count)
        member.kill()
        count = producer.count
        producer.put(20)
        begun = time.monotonic()
        member.start()
        self.wait_until_delivered([member], producer.count)
        self.assertLess(time.monotonic() - begun, 8, "it waited for a timeout")
        self.assertLess(max(twice([member]), default=-1), count)

    def test_same_name_twice_loses_nothing(self):
        store, producer = self.logstore()
        a = self.member(store, "same")
        producer.begin()
        self.wait_until_at_work(a)
        b = self.member(store, "same")
        wait_for(b.reads, message=b.said)
        time.sleep(2)
        b.kill()
        producer.stop()
        self.wait_until_delivered([a, b], producer.count)
        self.wait_until_saved(store)

    def test_default_names_are_unique(self):
        store, producer = self.logstore()
        producer.put(50)
        members = [self.member(store, None) for _ in range(2)]
        producer.begin()
        self.wait_until_at_work(*members)
        producer.stop()
        self.wait_until_delivered(members, producer.count)
        names = set(self.owners(store).values())
        self.assertEqual({name.rpartition("-")[2] for name in names}, {str(m.process.pid) for m in members})
        self.assertTrue(all(name.startswith(f"{GROUP}-") for name in names))


class Groups(GroupCase):
    def groups(self, logstore):
        found = logstore.client.list_consumer_group(PROJECT, logstore.name).get_consumer_groups()
        return {group.get_consumer_group_name(): (group.get_timeout(), group.is_in_order()) for group in found}

    def test_group_timeout_is_two_heartbeats(self):
        store, _ = self.logstore(shards=1)
        self.member(store, "a", "--until-end", beat=3).wait()
        self.assertEqual(self.groups(store), {GROUP: (6, False)})
        self.member(store, "a", "--until-end", beat=7).wait()
        self.assertEqual(self.groups(store), {GROUP: (14, False)})

    def test_shows_sent_requests(self):
        store, producer = self.logstore(shards=2)
        producer.put(20)
        member = self.member(store, "a")
        self.wait_until_delivered([member], producer.count)

        def shown():
            lines = self.service.command("group", "show", store.name, GROUP).splitlines()
            return dict(zip(("consumer", "shards", "speed", "events/s", "events", "dead", "retries"), lines[-1].split()))

        wait_for(lambda: shown()["events"] == str(producer.count), message=shown)
        self.assertEqual({**shown(), "speed": "", "events/s": ""}, {
            "consumer": "a", "shards": "2", "speed": "", "events/s": "", "events": "200", "dead": "0", "retries": "0",
        })  # fmt: skip

    def test_rejects_eleventh_group(self):
        store, _ = self.logstore(shards=1)
        for number in range(10):
            store.client.create_consumer_group(PROJECT, store.name, f"group-{number}", 10)
        member = self.member(store, "a")
        self.assertNotEqual(member.code(), 0)
        self.assertIn("ConsumerGroupQuotaExceed", member.said())
        self.assertIn(store.name, member.said())

    def test_names_missing_logstore(self):
        member = self.member("nothing", "a")
        self.assertNotEqual(member.code(), 0)
        self.assertIn("nothing", member.said())
        self.assertIn("LogStoreNotExist", member.said())

    def test_reads_several_logstores(self):
        stores = [self.logstore(shards=2)[0] for _ in range(2)]
        producer = Producer(*stores)
        producer.put(60)
        member = Member(self, stores, "a", "--until-end").wait()
        self.assert_once([member], producer.count)
        self.assertEqual(sorted(member.reads()), sorted((store.name, shard) for store in stores for shard in (0, 1)))
        for store in stores:
            self.assertEqual(self.checkpoints(store), self.ends(store))
        # Each shard of both is shared by those that consume both.
        members = [Member(self, stores, name) for name in "bc"]
        producer.begin()
        self.wait_until_at_work(*members)
        for store in stores:
            wait_for(lambda: set(self.owners(store).values()) == {"b", "c"}, every=0.1)
        producer.stop()
        self.wait_until_delivered([member, *members], producer.count)
        self.assert_once([member, *members], producer.count)

    def test_new_group_obeys_from(self):
        store, producer = self.logstore(shards=2)
        producer.put(20)
        early = producer.count
        # Receive times are in seconds.
        time.sleep(1.1)
        between = datetime.now(timezone.utc)
        time.sleep(1.1)
        producer.put(20)
        local = between.astimezone(timezone(timedelta(hours=8))).isoformat()
        expected = {"begin": 0, between.strftime("%Y-%m-%dT%H:%M:%SZ"): early, local: early, "end": producer.count}
        for number, (place, first) in enumerate(expected.items()):
            with self.subTest(place=place):
                member = self.member(store, "a", "--from", place, "--until-end", group=f"from-{number}").wait()
                self.assertEqual(sorted(member.ids()), list(range(first, producer.count)))
        last = self.member(store, "a", "--from", "end", group="last")
        wait_for(lambda: len(last.reads()) == 2, message=last.said)
        before = producer.count
        producer.put(5)
        wait_for(lambda: len(last.ids()) == 50)
        self.assertEqual(sorted(last.ids()), list(range(before, producer.count)))

    def test_from_end_means_first_start(self):
        """Also when nothing was delivered until the next one: the token was wrong, perhaps."""
        store, producer = self.logstore(shards=2)
        producer.put(20)
        early = producer.count
        first = self.member(store, "a", "--from", "end", collector=collector_for(self, token="another"))
        wait_for(lambda: len(first.reads()) == 2, message=first.said)
        producer.put(20)
        first.kill()
        second = self.member(store, "a", "--from", "end", "--until-end").wait()
        self.assertEqual(sorted(second.ids()), list(range(early, producer.count)))

    def test_reads_split_shard_from_begin(self):
        store, producer = self.logstore(shards=1)
        producer.put(10)
        early = producer.count
        member = self.member(store, "a", "--from", "end", beat=3)
        wait_for(lambda: len(member.reads()) == 1, message=member.said)
        store.client.split_shard(PROJECT, store.name, 0, "8" + 31 * "0")
        # Long before the member hears of the new shards.
        producer.put(20)
        wait_for(lambda: len(set(member.ids())) == producer.count - early, message=member.said)
        self.assertEqual(sorted(member.ids()), list(range(early, producer.count)))

    def test_reads_small_log_groups_without_pauses(self):
        store, producer = self.logstore(shards=1)
        client = store.client
        group = [LogItem(timestamp=1, contents=[("id", "0")])]
        for _ in range(2500):
            client.put_logs(PutLogsRequest(PROJECT, store.name, "", "", group))
        # With pauses, each thousand would take a minute.
        member = self.member(store, "a", fetch=60)
        wait_for(lambda: len(member.ids()) == 2500, message=member.said)

    def test_group_timeout_never_shrinks(self):
        store, producer = self.logstore(shards=1)
        store.client.create_consumer_group(PROJECT, store.name, GROUP, 77, True)
        producer.put(2)
        self.member(store, "a", "--until-end").wait()
        group = store.client.list_consumer_group(PROJECT, store.name).get_consumer_groups()[0]
        self.assertEqual((group.get_timeout(), group.is_in_order()), (77, True))

    def test_recreates_deleted_group(self):
        store, producer = self.logstore(shards=1)
        member = self.member(store, "a")
        wait_for(member.reads)
        store.client.delete_consumer_group(PROJECT, store.name, GROUP)
        wait_for(lambda: "has been recreated" in member.said(), message=member.said)
        producer.put(5)
        self.wait_until_delivered([member], producer.count)

    def test_checkpoint_overrides_from(self):
        store, producer = self.logstore(shards=1)
        producer.put(10)
        collector = collector_for(self)
        self.member(store, "a", "--until-end", collector=collector).wait()
        producer.put(10)
        for place in "end", "begin":
            self.member(store, "b", "--until-end", "--from", place, collector=collector).wait()
            self.assertEqual(sorted(ids(collector.indexed())), list(range(producer.count)))

    def test_names_invalid_position(self):
        store, _ = self.logstore(shards=1)
        for place in "yesterday", "2026-11-24", "":
            member = self.member(store, "a", "--from", place)
            self.assertEqual(member.code(), 2)
            self.assertIn("--from", member.said())
