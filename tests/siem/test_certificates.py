"""Certificates of receivers, as people make them: self-signed ones, changed ones, and wrong ones, whose errors say why."""

import datetime
import itertools
import os
import shutil
import ssl
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from kit import service
from kit.certificates import Authority, Pair, server_context
from kit.consume import ConsumeCase, plain
from kit.fakes.hec import TOKEN, Collector
from kit.fakes.syslog_receivers import ADDRESS, Stream

RSA, EC = ("rsa:2048",), ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class CertificateCase(ConsumeCase):
    LOGS = 20

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.logstore = cls.filled(plain(cls.LOGS))
        cls.numbers = itertools.count()

    def self_signed(self, *options, kind=EC):
        """A certificate by the command that all guides have."""
        pair = Pair(*(self.folder / f"self-signed-{next(self.numbers)}.{kind}.pem" for kind in ("certificate", "key")))
        files = ("-keyout", pair.key, "-out", pair.certificate)
        command = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", *files, "-subj", "/CN=siem", *options]
        subprocess.run(command, check=True, capture_output=True)
        return pair

    def collector(self, pair):
        collector = Collector(context=server_context(pair))
        self.addCleanup(collector.close)
        return collector

    def start(self, to, *settings, **how):
        settings = itertools.chain.from_iterable(("--set", setting) for setting in settings)
        group = self.next_group(self.logstore)
        return self.consumer(self.logstore, to, *settings, token=TOKEN, group=group, **how)

    def assert_delivers(self, collector, *settings):
        before = len(collector.events)
        consumer = self.start(collector.url, *settings)
        consumer.wait()
        self.assertEqual(len(collector.events) - before, self.LOGS)
        return consumer.said()

    def assert_refuses(self, collector, words, *settings):
        consumer = self.start(collector.url, *settings, until_end=False)
        consumer.wait_for_problem(words)
        consumer.leave()
        self.assertEqual(collector.events, [])


class SelfSigned(CertificateCase):
    def test_serves_as_its_own_ca(self):
        address = ("-addext", f"subjectAltName=IP:{ADDRESS}")
        for options, kind in [((), EC), ((), RSA), (address, EC), (("-addext", "basicConstraints=CA:FALSE"), EC)]:
            with self.subTest(options=options, kind=kind):
                pair = self.self_signed(*options, kind=kind)
                self.assert_delivers(self.collector(pair), f"ca={pair.certificate}")

    def test_serves_as_its_own_ca_in_a_file_with_others(self):
        pair, file = self.self_signed(), self.folder / "bundle.pem"
        file.write_bytes(b"".join(one.certificate.read_bytes() for one in (self.self_signed(), pair)))
        self.assert_delivers(self.collector(pair), f"ca={file}")

    def test_without_ca_the_error_says_what_to_set(self):
        pair = self.self_signed()
        self.assert_refuses(self.collector(pair), "set `ca` to its own file")

    def test_another_one_is_not_trusted(self):
        pair, other = self.self_signed(), self.self_signed()
        self.assert_refuses(self.collector(pair), "certificate", f"ca={other.certificate}")

    def test_name_of_another_host_is_refused(self):
        pair = self.self_signed("-addext", "subjectAltName=DNS:far.test")
        self.assert_refuses(self.collector(pair), "far.test", f"ca={pair.certificate}")

    def test_expired_one_is_refused(self):
        pair = self.self_signed()
        key = load_pem_private_key(pair.key.read_bytes(), None)
        valid = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        day = datetime.timedelta(days=1)
        builder = x509.CertificateBuilder(valid.issuer, valid.subject, key.public_key(), valid.serial_number)
        builder = builder.not_valid_before(valid.not_valid_before_utc - 9 * day)
        builder = builder.not_valid_after(valid.not_valid_before_utc - day)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        pair.certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        self.assert_refuses(self.collector(pair), "expired", f"ca={pair.certificate}")

    def test_version_1_is_refused_in_words(self):
        pair = self.self_signed()
        request, old = self.folder / "old.csr", self.folder / "old.pem"
        subject = ("-key", pair.key, "-subj", "/CN=siem")
        subprocess.run(["openssl", "req", "-new", *subject, "-out", request], check=True, capture_output=True)
        sign = ["openssl", "x509", "-req", "-in", request, "-key", pair.key, "-out", old, "-extfile", os.devnull]
        subprocess.run(sign, check=True, capture_output=True)
        text = subprocess.run(["openssl", "x509", "-in", old, "-text"], check=True, capture_output=True).stdout
        if b"Version: 1" not in text:
            self.skipTest("this openssl makes version 3")
        self.assert_refuses(self.collector(Pair(old, pair.key)), "version 1", f"ca={old}")

    def test_plain_http_at_an_https_url_is_said(self):
        collector = Collector()
        self.addCleanup(collector.close)
        url = collector.url.replace("http://", "https://")
        consumer = self.start(url, until_end=False)
        consumer.wait_for_problem("does not speak TLS")
        consumer.leave()

    def test_unverified_one_warns(self):
        said = self.assert_delivers(self.collector(self.self_signed()), "verify=false")
        self.assertIn("verify = false", said)


class Syslog(CertificateCase):
    def stream(self, pair):
        stream = Stream(context=server_context(pair))
        self.addCleanup(stream.stop)
        return stream, f"tls://{ADDRESS}:{stream.address[1]}"

    def assert_delivers(self, pair, *settings):
        stream, url = self.stream(pair)
        consumer = self.start(url, *settings)
        consumer.wait()
        self.assertEqual(len(stream.data()), self.LOGS)
        return consumer.said()

    def test_self_signed_certificate_serves_as_its_own_ca(self):
        pair = self.self_signed()
        self.assert_delivers(pair, f"ca={pair.certificate}")

    def test_unverified_certificate_warns(self):
        said = self.assert_delivers(self.self_signed(), "verify=false")
        self.assertIn("verify = false", said)

    def test_unverified_needs_tls(self):
        consumer = self.start("tcp://127.0.0.1:1", "verify=false")
        self.assertNotEqual(consumer.code(), 0)
        self.assertIn("must be \"tls\"", consumer.said())


class Changed(CertificateCase):
    def test_new_ca_is_used_without_a_restart(self):
        old, new = Authority(self.folder, "old"), Authority(self.folder, "new")
        file = self.folder / "ca.pem"
        shutil.copy(old.file, file)
        collector = self.collector(new.issue("siem"))
        consumer = self.start(collector.url, f"ca={file}", until_end=True)
        consumer.wait_for_problem("certificate")
        # A broken file between changes nothing.
        file.write_text("no certificate")
        replaced = self.folder / "next.pem"
        shutil.copy(new.file, replaced)
        threading.Timer(1.5, os.replace, (replaced, file)).start()
        consumer.wait()
        self.assertEqual(len(collector.events), self.LOGS)
        self.assertIn("reloaded changed files", consumer.said())

    def test_service_uses_a_new_certificate_without_a_restart(self):
        # The service of tests/clients/test_tls.py, with a changed file.
        old, new = self.self_signed(), self.self_signed()
        certificate, key = self.folder / "served.pem", self.folder / "served.key"
        shutil.copy(old.certificate, certificate)
        shutil.copy(old.key, key)
        served = service.Service(self, "--tls-certificate", certificate, "--tls-key", key)

        def shown():
            return ssl.get_server_certificate((ADDRESS, served.port))

        self.assertEqual(shown(), old.certificate.read_text())
        # The certificate comes before its key: until then the old pair is used.
        shutil.copy(new.certificate, certificate)
        threading.Event().wait(1.5)
        self.assertEqual(shown(), old.certificate.read_text())
        shutil.copy(new.key, key)
        threading.Event().wait(1.5)
        self.assertEqual(shown(), new.certificate.read_text())
        self.assertIn("can't reload changed files", served.said())
