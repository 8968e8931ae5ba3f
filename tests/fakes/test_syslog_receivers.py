"""The receivers of syslog that others are tested by: our own ones, and rsyslogd."""

import socket
import ssl
import tempfile
import time
import unittest
from contextlib import closing

from kit import debian, rsyslog
from kit.certificates import Authority, server_context
from kit.fakes import syslog_receivers
from kit.fakes.syslog_frames import Broken, Lines, Octets
from kit.fakes.syslog_messages import Parsed, parsed, parsed_3164
from kit.fakes.syslog_receivers import ADDRESS, Connection, Datagrams, Drop, Stall, Stream
from kit.process import of_class, temporary_folder
from kit.waiting import PATIENCE, wait_for

HEAD = '<14>1 2024-05-06T07:08:09.123456Z web-1 api 7 ID1 [a@1 b="c"] '
# The texts of the messages.
TEXTS = ["a=1||b=2", "键=值 \ufeff", "line\nbreak\r\n", "tab\tbell\x07", 'quotes "\\" ]', "#012", "x" * 60000]
MESSAGES = [(HEAD + text).encode() for text in TEXTS]


def counted(*messages):
    return b"".join(b"%d %s" % (len(message), message) for message in messages)


def connect(receiver, context=None):
    connection = socket.create_connection(receiver.address, PATIENCE)
    return context.wrap_socket(connection, server_hostname=ADDRESS) if context else connection


def is_gone(connection):
    """Whether the connection ends or is reset."""
    connection.settimeout(PATIENCE)
    try:
        return connection.recv(1) == b""
    except OSError:
        return True


class SyslogCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority(temporary_folder(of_class(cls)))
        cls.pair = cls.authority.issue()
        cls.client = cls.authority.issue("client", client=True)

    def stream(self, *arguments, **options):
        receiver = Stream(*arguments, **options)
        self.addCleanup(receiver.stop)
        return receiver

    def assert_received(self, receiver, messages):
        wait_for(lambda: len(receiver.messages) >= len(messages), message=lambda: receiver.connections)
        self.assertEqual(receiver.data(), list(messages))

    def assert_ended(self, receiver, *endings):
        wait_for(lambda: all(seen.ended for seen in receiver.connections) and len(receiver.connections) == len(endings))
        self.assertEqual([seen.ended for seen in receiver.connections], list(endings))


class Frames(unittest.TestCase):
    def test_frames_survive_any_chunking(self):
        stream = counted(b"<1>a", b"<2>12 <3>\n", b"<4>")
        for size in range(1, len(stream) + 1):
            frames = Octets()
            pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
            self.assertEqual([m for piece in pieces for m in frames.feed(piece)], [b"<1>a", b"<2>12 <3>\n", b"<4>"])
            self.assertEqual(frames.rest, b"")

    def test_rejects_wrong_octet_counts(self):
        streams = b"<1>a", b"04 <1>a", b"+4 <1>a", b"4  <1>a", b"0 ", b" <1>a", b"1234567890", b"3 <1>a", b"5 <1>a\n<"
        for stream in *streams, b"2x":
            with self.subTest(stream=stream), self.assertRaises(Broken):
                frames = Octets()
                list(frames.feed(stream))
                list(frames.feed(b"4 <2>b"))

    def test_reads_lines(self):
        frames = Lines()
        self.assertEqual(list(frames.feed(b"<1>a\n<2>")), [b"<1>a"])
        self.assertEqual(list(frames.feed(b"b\n")), [b"<2>b"])
        for stream in b"\n", b"4 <1>a\n":
            with self.assertRaises(Broken):
                list(frames.feed(stream))


class Messages(unittest.TestCase):
    def test_parses_rfc_5424(self):
        for message, text in zip(MESSAGES, TEXTS):
            found = parsed(message)
            self.assertEqual((found.facility, found.severity, found.msg), (1, 6, text))
            self.assertEqual((found.seconds, found.structured_data), (1714979289.123456, '[a@1 b="c"]'))
        self.assertEqual(parsed("<0>1 - - - - - - \ufeffx".encode()), Parsed(0, "-", "-", "x", "-"))
        self.assertEqual(parsed(b'<0>1 - - - - - [a b="\\"\\]\\\\"][c]').structured_data, '[a b="\\"\\]\\\\"][c]')

    def test_rejects_invalid_rfc_5424(self):
        wrong = b"<192>1 - - - - - -", b"<01>1 - - - - - -", b"<1>1 - - - - -", b"<1>1 - a b c d e"
        for message in *wrong, b"<1>2 - - - - - -":
            self.assertRaises(AssertionError, parsed, message)
        self.assertRaises(AssertionError, parsed, b"<1>1 2024-05-06T07:08:09.1234567Z - - - - -")

    def test_parses_rfc_3164(self):
        found = parsed_3164(b"<13>May  6 07:08:09 web-1 api[7]: one: two")
        self.assertEqual(found, Parsed(13, "May  6 07:08:09", "web-1", "one: two", "api", "7"))
        self.assertRaises(AssertionError, parsed_3164, b"<13>May 06 07:08:09 web-1 api one")


class OwnReceivers(SyslogCase):
    def test_receives_datagrams(self):
        with Datagrams() as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
            for message in MESSAGES:
                sender.sendto(message, receiver.address)
            self.assert_received(receiver, MESSAGES)
            receiver.stop()
            sender.sendto(b"<1>nobody", receiver.address)
            receiver.start()
            sender.sendto(b"<1>again", receiver.address)
            self.assert_received(receiver, [*MESSAGES, b"<1>again"])

    def test_receives_streams(self):
        for context in None, server_context(self.pair):
            receiver = self.stream(context=context)
            with connect(receiver, context and self.authority.client_context()) as sender:
                sender.sendall(counted(*MESSAGES))
                self.assert_received(receiver, MESSAGES)
                if context:
                    sender.unwrap()
            self.assert_ended(receiver, "closed")
            self.assertEqual(receiver.problems(), [])
            self.assertEqual(receiver.connections, [Connection(1, None, len(MESSAGES), 0, "closed")])

    def test_reads_lines(self):
        receiver = self.stream(Lines)
        with connect(receiver) as sender:
            sender.sendall(b"<1>a\n<2>b\n<3>c")
        self.assert_ended(receiver, "closed")
        self.assertEqual(receiver.data(), [b"<1>a", b"<2>b"])
        self.assertEqual(receiver.problems(), ["4 bytes of a message"])

    def test_resets_broken_stream(self):
        receiver = self.stream()
        with connect(receiver) as sender:
            sender.sendall(counted(b"<1>a") + b"<2>b\n")
            self.assertTrue(is_gone(sender))
        self.assert_ended(receiver, "broken")
        self.assertEqual((receiver.data(), receiver.problems()), ([b"<1>a"], ["no length: b'<2>b\\n'"]))

    def test_detects_tls_truncation(self):
        receiver = self.stream(context=server_context(self.pair))
        with connect(receiver, self.authority.client_context()) as sender:
            sender.sendall(counted(b"<1>a"))
            self.assert_received(receiver, [b"<1>a"])
        self.assert_ended(receiver, "cut")

    def test_checks_client_certificates(self):
        receiver = self.stream(context=server_context(self.pair, self.authority.file))
        with connect(receiver, self.authority.client_context()) as stranger:
            self.assertTrue(is_gone(stranger))
        with connect(receiver, self.authority.client_context(self.client)) as sender:
            sender.sendall(counted(b"<1>a"))
            self.assert_received(receiver, [b"<1>a"])
        self.assertEqual(receiver.connections[1].certificate["subject"], ((("commonName", "client"),),))
        self.assertEqual(receiver.problems(), ["TLS: PEER_DID_NOT_RETURN_A_CERTIFICATE"])

    def test_records_failed_handshakes(self):
        with tempfile.TemporaryDirectory() as folder:
            other = Authority(folder).issue()
            for pair in other, self.authority.issue("old", expired=True), self.authority.issue("far", hosts=["far"]):
                receiver = self.stream(context=server_context(pair))
                with self.assertRaises(ssl.SSLCertVerificationError):
                    connect(receiver, self.authority.client_context())

    def test_drop_obeys_messages_and_bytes(self):
        for context in None, server_context(self.pair):
            for fault, received in (
                (syslog_receivers.Refuse(), 0),
                (Drop(messages=2), 2),
                (Drop(messages=1, reset=False), 1),
                (Drop(octets=15), 2),
            ):
                with self.subTest(tls=bool(context), fault=fault):
                    receiver = self.stream(context=context)
                    receiver.inject(fault)
                    client = context and self.authority.client_context()
                    if isinstance(fault, syslog_receivers.Refuse):
                        # The reset may come while the client connects, or after that.
                        with self.assertRaises(OSError):
                            with connect(receiver, client) as sender:
                                sender.settimeout(PATIENCE)
                                assert sender.recv(1) != b"", "no reset"
                    else:
                        with connect(receiver, client) as sender:
                            sender.sendall(counted(b"<1>a", b"<2>b", b"<3>c"))
                            self.assertTrue(is_gone(sender))
                    self.assert_ended(receiver, "dropped")
                    self.assertEqual(len(receiver.messages), received)
                    with connect(receiver, client) as sender:
                        sender.sendall(counted(b"<4>d"))
                        wait_for(lambda: receiver.messages and receiver.messages[-1].data == b"<4>d")
                    self.assertEqual(receiver.messages[-1].connection, 2)

    def test_stall_reads_nothing_until_drop(self):
        receiver = self.stream()
        receiver.inject(Stall())
        with connect(receiver) as sender:
            sender.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                while True:
                    sender.sendall(bytes(1 << 20))
            receiver.drop()
            with self.assertRaises(ConnectionError):
                sender.sendall(b"more")
        self.assert_ended(receiver, "dropped")
        self.assertEqual(receiver.messages, [])

    def test_slow_receiver_receives_all(self):
        receiver = self.stream()
        receiver.inject(None, syslog_receivers.Slow(0.001, 10))
        connect(receiver).close()
        with connect(receiver) as sender:
            sender.sendall(counted(*MESSAGES[:6]))
            self.assert_received(receiver, MESSAGES[:6])

    def test_drop_ends_all_connections(self):
        for context in None, server_context(self.pair):
            for reset in False, True:
                receiver = self.stream(context=context)
                sender = connect(receiver, context and self.authority.client_context())
                with closing(sender):
                    sender.sendall(b"4 <1>a9 <2>")
                    self.assert_received(receiver, [b"<1>a"])
                    receiver.drop(reset)
                    if reset and not context:
                        self.assertRaises(ConnectionResetError, sender.recv, 1)
                    self.assertTrue(is_gone(sender))
                self.assert_ended(receiver, "dropped")
                self.assertEqual(receiver.connections[0].rest, 5)

    def test_restarts_at_same_port(self):
        receiver = self.stream()
        with connect(receiver) as sender:
            sender.sendall(counted(b"<1>a"))
            self.assert_received(receiver, [b"<1>a"])
            receiver.stop()
            self.assertTrue(is_gone(sender))
        with self.assertRaises(ConnectionRefusedError):
            connect(receiver)
        receiver.start()
        with connect(receiver) as sender:
            sender.sendall(counted(b"<2>b"))
            self.assert_received(receiver, [b"<1>a", b"<2>b"])


@unittest.skipUnless(debian.AVAILABLE, debian.UNAVAILABLE)
class Rsyslogd(SyslogCase):
    def assert_understood(self, daemon):
        received = daemon.wait_for(len(MESSAGES))
        self.assertEqual([message.data for message in received], MESSAGES)
        self.assertEqual([message.text for message in received], TEXTS)
        header = received[0]
        self.assertEqual((header.pri, header.time, header.version), (14, "2024-05-06T07:08:09.123456Z", 1))
        self.assertEqual((header.hostname, header.app_name, header.procid), ("web-1", "api", "7"))
        self.assertEqual((header.msgid, header.structured_data), ("ID1", '[a@1 b="c"]'))

    def test_receives_datagrams(self):
        daemon = rsyslog.Rsyslog(self, "udp")
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for message in MESSAGES:
                sender.sendto(message, daemon.address)
            self.assert_understood(daemon)

    def test_receives_octet_counting(self):
        daemon = rsyslog.Rsyslog(self)
        with connect(daemon) as sender:
            sender.sendall(counted(*MESSAGES))
            self.assert_understood(daemon)

    def test_receives_lines_of_rfc_3164(self):
        daemon = rsyslog.Rsyslog(self)
        with connect(daemon) as sender:
            sender.sendall(b"<13>May  6 07:08:09 web-1 api[7]: one\n<34>Oct 11 22:14:15 web-2 su: two\xff\n")
            old, other = daemon.wait_for(2)
        self.assertEqual((old.version, old.hostname, old.tag, old.text), (0, "web-1", "api[7]:", "one"))
        self.assertEqual((other.pri, other.tag, other.data[-4:]), (34, "su:", b"two\xff"))

    def test_escapes_control_characters(self):
        daemon = rsyslog.Rsyslog(self, escape=True)
        with connect(daemon) as sender:
            sender.sendall(counted(MESSAGES[2]))
            self.assertEqual(daemon.wait_for(1)[0].text, "line#012break#015#012")

    def test_receives_tls(self):
        daemon = rsyslog.Rsyslog(self, "tls", self.pair)
        with connect(daemon, self.authority.client_context()) as sender:
            sender.sendall(counted(*MESSAGES))
            self.assert_understood(daemon)

    def test_receives_tls_with_client_certificates(self):
        daemon = rsyslog.Rsyslog(self, "tls", self.pair, clients=self.authority.file)
        with connect(daemon, self.authority.client_context()) as stranger:
            try:
                stranger.sendall(counted(b"<13>1 - - - - - - stranger"))
            except OSError:
                pass
            self.assertTrue(is_gone(stranger))
        with connect(daemon, self.authority.client_context(self.client)) as sender:
            sender.sendall(counted(*MESSAGES))
            self.assert_understood(daemon)

    def test_restarts_at_same_port(self):
        daemon = rsyslog.Rsyslog(self)
        for count, end in enumerate((daemon.stop, daemon.kill, daemon.stop), 1):
            with connect(daemon) as sender:
                sender.sendall(counted(f"<13>1 - - - - - - {count}".encode()))
                self.assertEqual([message.text for message in daemon.wait_for(count)][-1], str(count))
                end()
                self.assertTrue(is_gone(sender))
            with self.assertRaises(ConnectionRefusedError):
                connect(daemon)
            daemon.start()

    def test_receives_many_messages(self):
        daemon = rsyslog.Rsyslog(self)
        messages = [f"<13>1 - - - - - - message {number}".encode() for number in range(20000)]
        started = time.monotonic()
        with connect(daemon) as sender:
            sender.sendall(counted(*messages))
            self.assertEqual([message.data for message in daemon.wait_for(len(messages))], messages)
        self.assertLess(time.monotonic() - started, PATIENCE)
