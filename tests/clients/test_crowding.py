"""Clients that take connections, or room for bodies and replies, for as long as they can: others are served beside them."""

import http.client
import random
import resource
import socket
import threading
import time
import unittest
from contextlib import ExitStack, closing

from kit import certificates, service
from kit.names import ADDRESS
from kit.process import temporary_folder

MIB = 1 << 20
PUT = "/logstores/logs/shards/lb"
# Seconds in which others are served, whatever a crowd does.
SERVED = 2
CROWD = 4090
# The head of a record with a handshake of 512 bytes.
HALF_A_HANDSHAKE = bytes.fromhex("1603010200")
STALL = 2


class Case(unittest.TestCase):
    settings = ""

    def setUp(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.service = service.Service(self, settings=self.settings)
        self.logstore = self.service.logstore()
        self.sockets = ExitStack()
        self.addCleanup(self.sockets.close)

    def create_key(self, *options):
        """A key that the service knows."""
        key = self.service.create_key(*options)
        self.service.restart()
        return key

    def connect(self, text):
        """A connection that has sent so much."""
        connection = self.sockets.enter_context(closing(self.service.connect()))
        connection.sendall(text)
        return connection

    def trickle(self, connections, byte=b"a", every=0.5):
        """Sends a byte over each connection now and then."""
        ended = threading.Event()

        def send():
            open_ones = list(connections)
            while not ended.wait(every):
                for connection in list(open_ones):
                    try:
                        connection.send(byte)
                    except OSError:
                        open_ones.remove(connection)

        thread = threading.Thread(target=send)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(ended.set)

    def put_head(self, length, key=None):
        """The head of a put with a body of this length."""
        return (
            f"POST {PUT} HTTP/1.1\r\nHost: {service.PROJECT}.{ADDRESS}\r\n"
            f"Authorization: {(key or self.service.admin).basic()['Authorization']}\r\n"
            f"Content-Type: application/x-protobuf\r\nx-log-bodyrawsize: {length}\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()

    def check_closed(self, connection, begun):
        """The service closes the connection in time."""
        connection.settimeout(4 * STALL)
        service.read_all(connection)
        self.assertTrue(STALL - 0.5 < time.monotonic() - begun < 3 * STALL, time.monotonic() - begun)

    def ingest(self, key=None):
        """Puts a log over a new connection. Returns the reply and its seconds."""
        begun = time.monotonic()
        headers = (key or self.service.admin).basic()
        reply = self.service.request("POST", f"/ingest/{service.PROJECT}/logs", b'{"a":"1"}', headers)
        return reply, time.monotonic() - begun

    def check_served(self, times=3):
        for _ in range(times):
            reply, seconds = self.ingest()
            print(f"an admin's put took {seconds * 1000:.0f} ms")
            self.assertEqual((reply.status, reply.json()), (200, {"accepted": 1, "malformed": 0}))
            self.assertLess(seconds, SERVED)

    def begun(self, count, sent, key=None, length=10 * MIB):
        """Uploads that have sent so many bytes."""
        uploads = [self.connect(self.put_head(length, key)) for _ in range(count)]
        piece = bytes(sent)
        for upload in uploads:
            upload.settimeout(0.3)
            try:
                upload.sendall(piece)
            except OSError:
                # The service takes no more.
                pass
        self.trickle(uploads, every=0.2)
        return uploads


class Connections(Case):
    def test_serves_beside_a_crowd_with_incomplete_heads(self):
        crowd = [self.connect(b"GET /logstores HTTP/1.1\r\nHost: a\r\nx-log-a: ") for _ in range(CROWD)]
        self.trickle(crowd)
        for _ in range(3):
            self.check_served()
            time.sleep(0.5)
        # The crowd goes on to connect.
        crowd += [self.connect(b"G") for _ in range(CROWD)]
        self.check_served()

    def test_serves_beside_a_crowd_and_trickling_uploads(self):
        crowd = [self.connect(b"GET /logstores HTTP/1.1\r\nHost: a\r\nx-log-a: ") for _ in range(CROWD)]
        self.trickle(crowd)
        self.begun(7, sent=9 * MIB)
        self.check_served(times=5)

    def test_serves_beside_a_crowd_that_sends_nothing(self):
        for _ in range(CROWD + 100):
            self.connect(b"")
        self.check_served()

    def test_keeps_connection_with_a_key(self):
        with closing(http.client.HTTPConnection(ADDRESS, self.service.port, timeout=30)) as connection:
            self.request(connection)
            for _ in range(CROWD + 100):
                self.connect(b"G")
            self.request(connection)

    def request(self, connection):
        """A request over a connection that is kept."""
        connection.request(
            "GET", "/logstores", headers={"Host": f"{service.PROJECT}.{ADDRESS}", **self.service.admin.basic()}
        )
        response = connection.getresponse()
        self.assertEqual((response.status, response.read()[:9]), (200, b'{"count":'))


class Few(Case):
    settings = "[limits]\nconnections = 16\n"

    def test_admin_replaces_connections_of_another_key(self):
        key = self.create_key("--allow", "write=clients")
        for _ in range(32):
            # Bodies that never end.
            self.connect(self.put_head(MIB, key))
        time.sleep(0.2)
        self.check_served()

    def test_one_key_can_not_take_all_places(self):
        key = self.create_key("--allow", "read=clients")
        cursor = self.logstore.begin(0)
        pull = (
            f"GET /logstores/logs/shards/0?type=log&cursor={cursor}&count=1&wait=60 HTTP/1.1\r\n"
            f"Host: {service.PROJECT}.{ADDRESS}\r\nAuthorization: {key.basic()['Authorization']}\r\n\r\n"
        ).encode()
        for _ in range(32):
            self.connect(pull)
        time.sleep(0.2)
        self.check_served()


class Bodies(Case):
    def test_serves_beside_trickling_uploads_of_the_same_key(self):
        self.begun(7, sent=10)
        self.check_served()

    def test_serves_beside_uploads_that_end_in_a_trickle(self):
        self.begun(12, sent=9 * MIB)
        time.sleep(1.5)
        self.check_served()
        metrics = self.service.request("GET", "/metrics", headers=self.service.admin.basic()).body.decode()
        self.assertRegex(metrics, r'logship_evicted_requests_total{of="bodies"} [1-9]')

    def test_serves_beside_uploads_of_another_key(self):
        key = self.create_key("--allow", "write=clients")
        self.begun(12, sent=9 * MIB, key=key)
        self.check_served()

    def test_large_uploads_beside_each_other_arrive(self):
        lines = b'{"a":"%s"}\n' % (b"x" * 1000)
        body = lines * (9 * MIB // len(lines))
        replies = []

        def upload():
            headers = self.service.admin.basic()
            replies.append(self.service.request("POST", f"/ingest/{service.PROJECT}/logs", body, headers))

        threads = [threading.Thread(target=upload) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([reply.status for reply in replies], [200] * 12)

    def test_rejects_body_without_permission_before_it_arrives(self):
        key = self.create_key("--allow", "read=clients")
        connection = self.connect(self.put_head(10 * MIB, key))
        self.assertRegex(connection.recv(1000), rb"^HTTP/1.1 401 ")


class Replies(Case):
    def test_serves_beside_readers_that_do_not_read(self):
        key = self.create_key("--allow", "read=clients")
        # Random, so that no compression makes the replies small.
        lines = b"".join(b'{"a":"%s"}\n' % random.randbytes(500).hex().encode() for _ in range(4 * MIB // 1000))
        headers = self.service.admin.basic()
        for _ in range(2):
            reply = self.service.request("POST", f"/ingest/{service.PROJECT}/logs", lines, headers)
            self.assertEqual(reply.status, 200)
        cursor = self.logstore.begin(0)
        for reader in key, self.service.admin:
            pull = (
                f"GET /logstores/logs/shards/0?type=log&cursor={cursor}&count=1000 HTTP/1.1\r\nAccept-Encoding: lz4\r\n"
                f"Host: {service.PROJECT}.{ADDRESS}\r\nAuthorization: {reader.basic()['Authorization']}\r\n\r\n"
            ).encode()
            for _ in range(30):
                # A small window, so that the system takes little of the reply.
                connection = self.connect(pull)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        time.sleep(1.5)
        begun = time.monotonic()
        path = f"/logstores/logs/shards/0?type=log&cursor={cursor}&count=1000"
        reply = self.service.request("GET", path, headers={**self.service.admin.basic(), "Accept-Encoding": "lz4"})
        self.assertEqual((reply.status, len(reply.body) > 2 * MIB), (200, True))
        self.assertLess(time.monotonic() - begun, 2 * SERVED)


class Deadlines(Case):
    settings = f"[limits]\nstall-seconds = {STALL}\nidle-seconds = {3 * STALL}\n"

    def test_trickling_does_not_extend_a_head(self):
        begun = time.monotonic()
        connection = self.connect(b"GET /logstores HTTP/1.1\r\nHost: a\r\nx-log-a: ")
        self.trickle([connection], every=0.1)
        self.check_closed(connection, begun)

    def test_trickling_does_not_extend_a_later_head(self):
        connection = self.connect(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertRegex(connection.recv(1000), rb"^HTTP/1.1 200 ")
        begun = time.monotonic()
        self.trickle([connection], byte=b"G", every=0.1)
        self.check_closed(connection, begun)

    def test_idle_connection_lives_as_long_as_the_setting(self):
        with closing(http.client.HTTPConnection(ADDRESS, self.service.port, timeout=30)) as connection:
            headers = {"Host": f"{service.PROJECT}.{ADDRESS}", **self.service.admin.basic()}
            for method, path, body in [
                ("GET", "/logstores", None),
                ("POST", f"/ingest/{service.PROJECT}/logs", b'{"a":"1"}'),
                ("GET", "/logstores", None),
            ]:
                connection.request(method, path, body, headers)
                port = connection.sock.getsockname()[1]
                self.assertEqual(connection.getresponse().read()[:1], b"{")
                time.sleep(2 * STALL)
                self.assertEqual(connection.sock.getsockname()[1], port, "the connection is the same")
            begun = time.monotonic()
            self.assertEqual(connection.sock.recv(1), b"")
            self.assertLess(time.monotonic() - begun, 3 * STALL)


class Handshakes(Case):
    def setUp(self):
        folder = temporary_folder(self)
        pair = certificates.Authority(folder).issue()
        self.service = service.Service(
            self,
            *("--tls-certificate", pair.certificate, "--tls-key", pair.key),
            settings=f"[limits]\nstall-seconds = {STALL}\n",
        )
        self.sockets = ExitStack()
        self.addCleanup(self.sockets.close)

    def test_trickling_does_not_extend_a_tls_handshake(self):
        begun = time.monotonic()
        connection = self.connect(HALF_A_HANDSHAKE)
        self.trickle([connection], every=0.1)
        self.check_closed(connection, begun)
