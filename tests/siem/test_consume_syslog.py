"""`logship consume` to syslog: each message comes as it was put, over all that it may be sent by, whatever goes wrong."""

import socket
import time
import unittest

import pytest

from kit import debian, rsyslog, soak
from kit.certificates import Authority, server_context
from kit.consume import BEGIN, LOGS_OF_A_GROUP, ConsumeCase, Log, hostile, mixed, plain
from kit.fakes.syslog_frames import Lines
from kit.fakes.syslog_messages import parsed, parsed_3164
from kit.fakes.syslog_receivers import ADDRESS, Datagrams, Drop, Refuse, Slow, Stall, Stream
from kit.siem_rules import SEPARATOR, fields
from kit.waiting import wait_for

# What stands in no value.
EXACT = ("--format", f"separator={SEPARATOR}", "--format", "escape=none")
# The escapes of breaks. Backslashes stay unchanged.
ESCAPES = {"\n": "\\n", "\r": "\\r", "\0": "\\0"}
QUICK = ("--set", "timeout-seconds=1")


def changed(logs, changes):
    """Logs whose values have other characters in place of some."""
    table = str.maketrans(changes)
    return [Log(log.time, tuple((key, value.translate(table).encode()) for key, value in log.texts())) for log in logs]


def of_rsyslog(logs):
    """Logs as rsyslog has them."""
    return changed(logs, {"\0": "#000"})


class SyslogCase(ConsumeCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority(cls.folder)
        cls.pair = cls.authority.issue()
        cls.client = cls.authority.issue("client", client=True)

    def stream(self, *arguments, **options):
        receiver = Stream(*arguments, **options)
        self.addCleanup(receiver.stop)
        return receiver

    def datagrams(self):
        receiver = Datagrams()
        self.addCleanup(receiver.stop)
        return receiver

    def url(self, protocol, receiver, host=ADDRESS):
        return f"{protocol}://{host}:{receiver.address[1]}"

    def received(self, receiver):
        """Time and fields of all messages of a receiver of our own."""
        messages = map(parsed, receiver.data())
        return [(message.seconds, fields(message.msg)) for message in messages]

    def assert_received(self, receiver, logs):
        self.assert_once(self.received(receiver), logs)
        self.assertEqual(receiver.problems() if isinstance(receiver, Stream) else [], [])

    def letters(self, consumer):
        return self.service.command("deadletter", "list", "--dead-letters", consumer.letters)


@unittest.skipUnless(debian.AVAILABLE, debian.UNAVAILABLE)
class Rsyslogd(SyslogCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logs = mixed(20000, every=50, large=2000)
        cls.logstore = cls.filled(cls.logs)

    def understood(self, daemon):
        """Time and fields of all messages. They have the same host and priority."""
        messages = daemon.messages()
        heads = {(message.pri, message.hostname, message.app_name, message.version) for message in messages}
        self.assertEqual(heads, {(14, socket.gethostname(), "-", 1)})
        seconds = {f"{stamp}Z": BEGIN + number for number, stamp in enumerate(_stamps())}
        return [(seconds[message.time], fields(message.text)) for message in messages]

    @pytest.mark.soak
    def test_delivers_over_tcp(self):
        count = soak.scaled(200_000)
        logs = mixed(count, every=400, large=count // 10)
        logstore, daemon = self.filled(logs, shards=2, size=2000), rsyslog.Rsyslog(self)
        self.consume(logstore, self.url("tcp", daemon), *EXACT)
        self.assert_once(self.understood(daemon), of_rsyslog(logs))

    def test_delivers_over_tls(self):
        daemon = rsyslog.Rsyslog(self, "tls", self.pair)
        options = (*EXACT, "--set", f"ca={self.authority.file}")
        self.consume(self.logstore, self.url("tls", daemon), *options, group="tls")
        self.assert_once(self.understood(daemon), of_rsyslog(self.logs))

    def test_delivers_over_tls_with_client_certificate(self):
        daemon = rsyslog.Rsyslog(self, "tls", self.pair, clients=self.authority.file)
        options = (*EXACT, *QUICK, "--set", f"ca={self.authority.file}")
        stranger = self.consumer(self.logstore, self.url("tls", daemon), *options, group="stranger")
        wait_for(stranger.problems)
        time.sleep(0.5)
        self.assertEqual(self.checkpoint(self.logstore, "stranger"), 0)
        stranger.kill()
        self.assertEqual(daemon.messages(), [])
        known = ("--set", f"certificate={self.client.certificate}", "--set", f"key={self.client.key}")
        self.consume(self.logstore, self.url("tls", daemon), *options, *known, group="known")
        self.assert_once(self.understood(daemon), of_rsyslog(self.logs))

    def test_udp_obeys_rate(self):
        logs = mixed(10000, every=50)
        logstore, daemon = self.filled(logs), rsyslog.Rsyslog(self, "udp")
        begun = time.monotonic()
        self.consume(logstore, self.url("udp", daemon), *EXACT, "--set", "rate=5000")
        self.assertGreater(time.monotonic() - begun, 1.8)
        self.assertLess(time.monotonic() - begun, 8)
        wait_for(lambda: len(daemon.messages()) >= len(logs), 5, lambda: len(daemon.messages()), 0.5)
        self.assert_once(self.understood(daemon), of_rsyslog(logs))

    def test_receiver_survives_stop_and_kill(self):
        logs = hostile(12000, large=50)
        for end in "stop", "kill":
            with self.subTest(end=end):
                daemon = rsyslog.Rsyslog(self)
                logstore = self.filled(logs, shards=2)
                consumer = self.consumer(logstore, self.url("tcp", daemon), *EXACT, *QUICK)
                wait_for(lambda: daemon.received.exists() and daemon.received.stat().st_size > 1 << 20)
                getattr(daemon, end)()
                consumer.wait_for_problem("")
                time.sleep(0.5)
                daemon.start()
                consumer.wait()
                self.assert_complete(daemon, logs, end)

    def assert_complete(self, daemon, logs, what):
        """Nothing is lost. What a kill cut off in its file came again."""
        text = daemon.received.read_bytes()
        lines = [line for line in text.split(b"\n") if line.startswith(b'{"rawmsg"') and line.endswith(b"}")]
        daemon.received.write_bytes(b"\n".join([*lines, b""]))
        repeated = self.duplicates(self.understood(daemon), of_rsyslog(logs))
        print(f"receiver, {what}: {repeated} duplicates of {len(logs)} messages")

    def test_delivers_lines_of_rfc_3164(self):
        logs, daemon = hostile(1000, large=0), rsyslog.Rsyslog(self)
        forms = ("rfc=3164", "tag=app", 'procid="7"', "facility=local0", "severity=error", "hostname=web-1")
        options = [option for form in (*forms, f"separator={SEPARATOR}") for option in ("--format", form)]
        logstore = self.filled(logs)
        self.consume(logstore, self.url("tcp", daemon), *options, "--set", "framing=newline")
        messages = daemon.messages()
        heads = {(message.pri, message.hostname, message.tag, message.version) for message in messages}
        self.assertEqual(heads, {(131, "web-1", "app[7]:", 0)})
        # Its times have no year.
        came = [(0, fields(message.text)) for message in messages]
        self.assert_once(came, [log._replace(time=0) for log in changed(logs, ESCAPES)])


class Streams(SyslogCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Several loads.
        cls.logs = hostile(10000, large=50)
        cls.logstore = cls.filled(cls.logs)

    def consume_all(self, receiver, *options, protocol="tcp", host=ADDRESS):
        to, group = self.url(protocol, receiver, host), self.next_group(self.logstore)
        return self.consume(self.logstore, to, *EXACT, *options, group=group)

    def repeated(self, receiver, what):
        """Counts and prints duplicate messages."""
        count = self.duplicates(self.received(receiver), self.logs)
        print(f"{what}: {count} duplicates of {len(self.logs)} messages")
        return count

    def test_keeps_order_and_bytes(self):
        for context in None, server_context(self.pair):
            for confirm in "close", "sent":
                with self.subTest(tls=bool(context), confirm=confirm):
                    receiver = self.stream(context=context)
                    options = ("--set", f"confirm={confirm}", *(["--set", f"ca={self.authority.file}"] if context else []))
                    self.consume_all(receiver, *options, protocol="tls" if context else "tcp")
                    wait_for(lambda: all(seen.ended for seen in receiver.connections))
                    self.assert_received(receiver, self.logs)
                    numbers = [int(dict(found)["id"]) for _, found in self.received(receiver)]
                    self.assertEqual(numbers, sorted(numbers))
                    many = len(receiver.connections) > 1
                    self.assertEqual(many, confirm == "close", receiver.connections)

    def test_resets_and_stalls_lose_nothing(self):
        cases = {
            "refused": Refuse(),
            "reset": Drop(messages=300),
            "closed": Drop(messages=300, reset=False),
            "reset in a message": Drop(octets=300000),
            "stalled": Stall(300),
            "stalled at once": Stall(),
        }
        for context in None, server_context(self.pair):
            tls = ("--set", f"ca={self.authority.file}") if context else ()
            for name, fault in cases.items():
                with self.subTest(fault=name, tls=bool(context)):
                    receiver = self.stream(context=context)
                    receiver.inject(None, fault, None, fault)
                    consumer = self.consume_all(receiver, *QUICK, *tls, protocol="tls" if context else "tcp")
                    self.assertTrue(consumer.problems())
                    seen = 2 * min(300, len(receiver.messages)) if name in ("reset", "closed", "stalled") else None
                    repeated = self.repeated(receiver, f"{name}{', TLS' * bool(context)}")
                    self.assertTrue(seen is None or repeated == seen, (repeated, seen))

    def test_waits_for_slow_receiver(self):
        """The receiver needs seconds for a batch."""
        receiver = self.stream(buffer=1 << 16)
        receiver.inject(Slow(0.05, 1 << 16))
        self.consume_all(receiver, *QUICK)
        self.assertEqual(self.repeated(receiver, "slow"), 0)

    def test_delivers_all_after_outage(self):
        receiver = self.stream()
        receiver.inject(*[Slow(0.01, 1 << 16)] * 2)
        to = self.url("tcp", receiver)
        consumer = self.consumer(self.logstore, to, *EXACT, *QUICK, group="stopped")
        wait_for(lambda: len(receiver.messages) > len(self.logs) // 3)
        receiver.stop(reset=True)
        position = self.checkpoint(self.logstore, "stopped")
        self.assertLessEqual(position * LOGS_OF_A_GROUP, len(receiver.messages))
        consumer.wait_for_problem("refused")
        self.assertEqual(self.checkpoint(self.logstore, "stopped"), position)
        receiver.start()
        consumer.wait()
        self.repeated(receiver, "stopped and started")

    def test_broken_connection_loses_nothing(self):
        receiver = self.stream()
        receiver.inject(Drop(octets=300000))
        consumer = self.consume_all(receiver, *QUICK, "--set", "confirm=sent")
        self.assertTrue(consumer.problems())
        wait_for(lambda: all(seen.ended for seen in receiver.connections))
        self.repeated(receiver, "confirm=sent, reset")

    def test_reports_receiver_that_never_closes(self):
        receiver = self.stream()
        logs = plain(100)
        logstore = self.filled(logs)
        receiver.inject(*[Stall(len(logs))] * 50)
        consumer = self.consumer(logstore, self.url("tcp", receiver), *EXACT, *QUICK)
        consumer.wait_for_problem('confirm = "sent"')
        self.assertEqual(self.checkpoint(logstore), 0)
        consumer.kill()
        receiver.drop()
        receiver.messages.clear()
        self.consume(logstore, self.url("tcp", receiver), *EXACT, *QUICK, "--set", "confirm=sent", group="sent")
        wait_for(lambda: len(receiver.messages) >= len(logs))
        self.assert_received(receiver, logs)

    def test_kill_repeats_batches_in_flight(self):
        receiver = self.stream()
        receiver.inject(*[Slow(0.02, 1 << 16)] * 9)
        to = self.url("tcp", receiver)
        consumer = self.consumer(self.logstore, to, *EXACT, group="kill", beat=2)
        wait_for(lambda: len(receiver.messages) > len(self.logs) // 2)
        consumer.kill()
        wait_for(lambda: all(seen.ended for seen in receiver.connections))
        delivered = self.checkpoint(self.logstore, "kill") * LOGS_OF_A_GROUP
        self.assertGreater(delivered, 0)
        in_flight = len(receiver.messages) - delivered
        consumer.start()
        consumer.wait()
        self.assertEqual(self.repeated(receiver, "kill"), in_flight)

    def test_rejects_wrong_name_and_wrong_authority(self):
        far = self.authority.issue("far", hosts=["far.test"])
        receiver = self.stream(context=server_context(far))
        ca = ("--set", f"ca={self.authority.file}")
        for number, options in enumerate((ca, ())):
            consumer = self.consumer(self.logstore, self.url("tls", receiver), *options, group=f"wrong-{number}")
            consumer.wait_for_problem("TLS")
            self.assertEqual(self.checkpoint(self.logstore, f"wrong-{number}"), 0)
            consumer.kill()
        self.assertEqual(receiver.messages, [])
        receiver.connections.clear()
        self.consume_all(receiver, *ca, "--set", "server-name=far.test", protocol="tls")
        self.assert_received(receiver, self.logs)


class Forms(SyslogCase):
    def consume_forms(self, logstore, receiver, *forms, protocol="tcp", settings=()):
        options = [option for form in (f"separator={SEPARATOR}", *forms) for option in ("--format", form)]
        options += [option for setting in settings for option in ("--set", setting)]
        return self.consume(logstore, self.url(protocol, receiver), *options, group=self.next_group(logstore))

    def test_escapes_line_breaks_by_default(self):
        logs = hostile(2000, large=100)
        logstore = self.filled(logs)
        for frames, settings in (None, []), (Lines, ["framing=newline"]):
            with self.subTest(settings=settings):
                receiver = self.stream(frames) if frames else self.stream()
                self.consume_forms(logstore, receiver, settings=settings)
                self.assert_received(receiver, changed(logs, ESCAPES))

    def test_headers_come_from_fields(self):
        values = (("level", b"ERROR"), ("app", b"my app"), ("host", b"web-1"), ("facility", b"local7"), ("id", b"7"))
        logstore = self.filled([Log(BEGIN, values)], topic="audit", source="10.0.0.1", tags=[("k", 'a"]\\')])
        receiver = self.stream()
        forms = ("severity-from=level", "facility-from=facility", "hostname-from=host", "tag-from=app")
        self.consume_forms(logstore, receiver, *forms, "msgid-from=__topic__", "procid-from=id", "structured-data=true")
        message = parsed(receiver.data()[0])
        self.assertEqual((message.facility, message.severity, message.seconds), (23, 3, BEGIN))
        self.assertEqual((message.hostname, message.app_name), ("web-1", "my_app"))
        self.assertEqual((message.procid, message.msgid), ("7", "audit"))
        data = '[logship@32473 topic="audit" source="10.0.0.1" k="a\\"\\]\\\\"]'
        self.assertEqual(message.structured_data, data)
        self.assertEqual(fields(message.msg), Log(BEGIN, values).texts())

    def test_formats_rfc_3164(self):
        logs, receiver = hostile(1000), self.stream()
        self.consume_forms(self.filled(logs), receiver, "rfc=3164", "hostname=web-1", "tag=app", 'procid="7"', "escape=none")
        messages = [parsed_3164(message) for message in receiver.data()]
        heads = {(message.pri, message.hostname, message.app_name, message.procid) for message in messages}
        self.assertEqual(heads, {(14, "web-1", "app", "7")})
        times = [time.strftime("%b %e %H:%M:%S", time.gmtime(log.time)) for log in logs]
        came = [(message.time, fields(message.msg)) for message in messages]
        self.assert_once(came, [log._replace(time=stamp) for log, stamp in zip(logs, times)])

    def test_line_framing_rejects_line_feed(self):
        logs, receiver = hostile(1000, large=0), self.stream(Lines)
        consumer = self.consume_forms(self.filled(logs), receiver, "escape=none", settings=["framing=newline"])
        broken = [log for log in logs if any(b"\n" in value for _, value in log.fields)]
        self.assert_received(receiver, [log for log in logs if log not in broken])
        self.assertIn(f"{len(broken)} x the message contains a line feed", self.letters(consumer))

    def test_delivers_over_udp(self):
        # A datagram has no room for 64 KB and a header.
        logs = [Log(log.time, tuple((key, value[:60000]) for key, value in log.fields)) for log in hostile(3000, large=500)]
        receiver = self.datagrams()
        logstore = self.filled(logs)
        consumer = self.consume_forms(logstore, receiver, "escape=none", protocol="udp", settings=["rate=10000"])
        large = [log for log in logs if sum(len(value) for _, value in log.fields) > 8000]
        small = [log for log in logs if log not in large]
        wait_for(lambda: len(receiver.messages) >= len(small))
        self.assert_received(receiver, small)
        self.assertIn("the receiver takes 8192", self.letters(consumer))
        self.assertEqual(self.checkpoint(logstore, consumer.group), len(logs) // LOGS_OF_A_GROUP)
        whole = self.datagrams()
        to = self.url("udp", whole)
        again = ("deadletter", "resend", "--all", "--dead-letters", consumer.letters, "--to", to)
        self.service.refused(*again)
        self.service.command(*again, "--set", "max-bytes=65507")
        wait_for(lambda: len(whole.messages) >= len(large))
        self.assert_received(whole, large)

    def test_reports_absent_udp_receiver(self):
        receiver = self.datagrams()
        logs = plain(20000)
        logstore = self.filled(logs)
        receiver.stop()
        consumer = self.consumer(logstore, self.url("udp", receiver), *EXACT, "--set", "rate=20000")
        consumer.wait_for_problem("refused")
        receiver.start()
        consumer.wait()
        time.sleep(0.3)
        came = self.received(receiver)
        self.assertGreater(len(came), 0)
        self.assertEqual(len(set(came)), len(came))


def _stamps():
    """The times of logs, as RFC 5424 has them."""
    return (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BEGIN + number)) for number in range(10000))
