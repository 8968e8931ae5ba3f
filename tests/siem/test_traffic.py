"""A group under continuous traffic: members are killed, leave and join, and receivers are away, again and again."""

import time

import pytest

from kit import soak
from kit.group import DELIVERED, GroupCase, describe, twice
from kit.waiting import wait_for

SECONDS = soak.scaled(200)


class Traffic(GroupCase):
    @pytest.mark.soak
    def test_loses_nothing_and_repeats_only_batches_in_flight(self):
        store, producer = self.logstore()
        self.members, self.in_flight, self.store = [], set(), store
        self.join(), self.join()
        producer.begin()
        end, turn = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            [self.kill, self.join, self.outage, self.leave, self.join][turn % 5]()
            turn += 1
            self.assert_no_checkpoint_is_ahead()
            time.sleep(1)
        producer.stop()
        self.wait_until_delivered(self.members, producer.count)
        self.wait_until_saved(store)
        repeated = twice(self.members)
        print(f"\n{turn} events in {SECONDS:.0f} s of traffic: {describe(self.members)}; {len(repeated)} came twice")
        self.assertLessEqual(repeated, self.in_flight)

    def alive(self):
        return [member for member in self.members if member.is_alive()]

    def join(self):
        member = self.member(self.store, f"m{len(self.members)}")
        self.members.append(member)
        wait_for(member.reads, DELIVERED, member.said)

    def kill(self):
        killed = self.alive()[0]
        killed.kill()
        # Its last requests may still be on their way into the collector.
        time.sleep(0.5)
        self.in_flight |= set(killed.ids()) & self.unsaved(self.store)

    def leave(self):
        self.alive()[0].leave()

    def outage(self):
        member = self.alive()[0]
        member.collector.close()
        # The collector may have taken events whose answer was cut off: they are sent again.
        time.sleep(0.5)
        self.in_flight |= set(member.ids()) & self.unsaved(self.store)
        time.sleep(2.5)
        member.collector.start()

    def assert_no_checkpoint_is_ahead(self):
        """Checks that the receivers have all logs behind the checkpoints."""
        checkpoints = self.checkpoints(self.store)
        saved = {
            int(log.Contents[0].Value)
            for shard, checkpoint in checkpoints.items()
            for position, group in self.store.groups(shard)
            if position < checkpoint
            for log in group.Logs
        }
        self.assertLessEqual(saved, {number for member in self.members for number in member.ids()})
