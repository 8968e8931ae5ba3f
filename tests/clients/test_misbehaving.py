"""Clients that stop half-way, lie or send garbage: they get the right refusal, and others are served."""

import http.client
import time
import unittest
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from unittest import mock

import lz4.block
from aliyun.log import LogException
from aliyun.log.proto import LogGroup

from kit import service
from kit.names import ADDRESS

MIB = 1 << 20
PUT = "/logstores/logs/shards/lb"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
# Seconds of the settings below, those in which what they end has ended, and those in which others are served.
STALL = IDLE = 3
ENDED = 6
SERVED = 2
SETTINGS = f"[limits]\nstall-seconds = {STALL}\nidle-seconds = {IDLE}\n"


def group():
    found = LogGroup(Topic="t")
    found.Logs.add(Time=int(time.time())).Contents.add(Key="a", Value="1")
    return found


class Case(unittest.TestCase):
    settings = ""

    def setUp(self):
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore()

    def put(self, body, headers):
        """Puts a body by Basic authorization, which does not depend on it."""
        return self.service.request("POST", PUT, body, {**self.service.admin.basic(), **PROTOBUF, **headers})

    def begin_put(self, length, authorization=None):
        """Sends the head of a put, and gives the connection."""
        connection = self.service.connect()
        connection.sendall(
            f"POST {PUT} HTTP/1.1\r\nHost: {service.PROJECT}.{ADDRESS}\r\n"
            f"Authorization: {authorization or self.service.admin.basic()['Authorization']}\r\n"
            f"Content-Type: application/x-protobuf\r\nx-log-bodyrawsize: {length}\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        return connection

    def check_others_are_served(self):
        begun, count = time.monotonic(), len(self.logstore.logs())
        self.logstore.put(group())
        self.assertEqual(len(self.logstore.logs()), count + 1)
        self.assertLess(time.monotonic() - begun, SERVED)


class Bodies(Case):
    def test_rejects_bodies_that_are_no_log_groups(self):
        raw = group().SerializeToString()
        packed = lz4.block.compress(raw, store_size=False)
        lz = {"x-log-compresstype": "lz4"}
        for body, headers, code in [
            (b"\x0a\xff\xff\xff\xff garbage", {}, "PostBodyInvalid"),
            (bytes(range(256)), {}, "PostBodyInvalid"),
            (raw[:-1], {}, "PostBodyInvalid"),
            (packed, lz, "MissingBodyRawSize"),
            (packed, {**lz, "x-log-bodyrawsize": "many"}, "InvalidBodyRawSize"),
            (packed, {**lz, "x-log-bodyrawsize": "-1"}, "InvalidBodyRawSize"),
            (packed, {**lz, "x-log-bodyrawsize": str(len(raw) + 1)}, "InvalidBodyRawSize"),
            (raw, {"x-log-bodyrawsize": str(len(raw) + 1)}, "InvalidBodyRawSize"),
            (b"\xff\xfe garbage", {**lz, "x-log-bodyrawsize": "100"}, "PostBodyUncompressError"),
            (b"garbage", {"x-log-compresstype": "zstd", "x-log-bodyrawsize": "100"}, "PostBodyUncompressError"),
            (raw, {"x-log-compresstype": "snappy", "x-log-bodyrawsize": "100"}, "InvalidCompressType"),
            (raw, {"x-log-bodyrawsize": str(len(raw)), "x-log-mode": "batch_group"}, "PostBodyInvalid"),
        ]:
            with self.subTest(body=body[:20], headers=headers):
                self.assertEqual(self.put(body, headers).refusal(), (400, code))
        basic = self.service.admin.basic()
        self.assertEqual(self.service.request("POST", PUT, raw, basic).refusal(), (400, "MissingContentType"))
        text = {**basic, "Content-Type": "text/plain"}
        self.assertEqual(self.service.request("POST", PUT, raw, text).refusal(), (415, "InvalidContentType"))
        self.assertEqual(self.logstore.logs(), [])
        self.check_others_are_served()

    def test_rejects_huge_declared_sizes_without_memory(self):
        block = lz4.block.compress(bytes(9 * MIB), store_size=False)
        for size in 4 << 30, (4 << 30) - 1, 1 << 63, 11 * MIB:
            with self.subTest(size=size):
                reply = self.put(block, {"x-log-compresstype": "lz4", "x-log-bodyrawsize": str(size)})
                self.assertEqual(reply.refusal(), (400, "PostBodyTooLarge"))
        self.assertLess(self.service.memory("VmHWM"), 150 * MIB)
        self.check_others_are_served()

    def test_rejects_large_content_length_at_once(self):
        for length in 1 << 40, 11 * MIB:
            with self.subTest(length=length), closing(self.begin_put(length)) as connection:
                begun = time.monotonic()
                response = http.client.HTTPResponse(connection)
                response.begin()
                reply = service.Reply(response.status, response.read())
                self.assertEqual(reply.refusal(), (400, "PostBodyTooLarge"))
                self.assertLess(time.monotonic() - begun, SERVED)
        self.check_others_are_served()


class Clocks(Case):
    @contextmanager
    def clock(self, minutes):
        """The SDK's clock is off by so much."""

        class Shifted(datetime):
            @classmethod
            def utcnow(cls):
                return datetime.utcnow() + timedelta(minutes=minutes)

        with mock.patch("aliyun.log.auth.datetime", Shifted):
            yield

    def test_accepts_clock_skew_below_15_minutes(self):
        for version in "v1", "v4":
            client = self.service.client(version=version)
            for minutes in -20, -16, 16, 20:
                with self.subTest(version=version, minutes=minutes), self.clock(minutes):
                    with self.assertRaises(LogException) as refused:
                        client.list_shards(service.PROJECT, "logs")
                    error = refused.exception
                    self.assertEqual((error.get_resp_status(), error.get_error_code()), (400, "RequestTimeTooSkewed"))
            for minutes in -14, 14:
                with self.subTest(version=version, minutes=minutes), self.clock(minutes):
                    client.list_shards(service.PROJECT, "logs")


class Stalls(Case):
    settings = SETTINGS

    def test_closes_connection_with_incomplete_head(self):
        begun = time.monotonic()
        with closing(self.service.connect()) as connection:
            connection.sendall(b"POST /logstores HTTP/1.1\r\nHost: a")
            self.check_others_are_served()
            service.read_all(connection)
        self.assertTrue(IDLE - 0.5 < time.monotonic() - begun < ENDED)

    def test_closes_connection_with_incomplete_body(self):
        begun = time.monotonic()
        with closing(self.begin_put(10 * MIB)) as connection:
            self.check_others_are_served()
            received = service.read_all(connection)
        self.assertTrue(STALL - 0.5 < time.monotonic() - begun < ENDED)
        self.assertRegex(received, rb"^HTTP/1.1 [45]\d\d ")
        self.check_others_are_served()

    def test_incomplete_bodies_do_not_block_others(self):
        # The sender knows only the id of a key, which is no secret.
        signature = f"LOG {self.service.admin.id}:{'A' * 27}="
        with ExitStack() as connections:
            for _ in range(50):
                connections.enter_context(closing(self.begin_put(10 * MIB, authorization=signature)))
            time.sleep(0.2)
            self.check_others_are_served()
