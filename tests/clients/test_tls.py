"""TLS: the SDK over https, and clients that do not get through."""

import datetime
import socket
import ssl
import time
import unittest
from contextlib import closing
from unittest import mock

from aliyun.log import LogException
from aliyun.log.proto import LogGroup
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kit import service
from kit.process import temporary_folder

# The head of a record with a handshake of 512 bytes.
HALF_A_HANDSHAKE = bytes.fromhex("1603010200")


class Tls(unittest.TestCase):
    def setUp(self):
        folder = temporary_folder(self)
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        write_certificate(self.certificate, key)
        self.service = service.Service(self, "--tls-certificate", self.certificate, "--tls-key", key)
        self.service.host = service.NAME

    def put_and_pull(self, name="logs"):
        """Puts and pulls a log with an SDK that trusts the certificate."""
        with mock.patch.dict("os.environ", {"REQUESTS_CA_BUNDLE": str(self.certificate)}):
            logstore = self.service.logstore(name)
            group = LogGroup(Topic="tls")
            group.Logs.add(Time=int(time.time())).Contents.add(Key="a", Value="1")
            logstore.put(group)
            self.assertEqual([log.fields for log in logstore.logs()], [(("a", "1"),)])

    def test_sdk_puts_and_pulls_over_tls(self):
        self.assertTrue(self.service.endpoint().startswith("https://"))
        self.put_and_pull()

    def test_untrusting_client_sends_nothing(self):
        # By default the SDK tries ten times, a second apart.
        with mock.patch("time.sleep"), self.assertRaises(LogException) as refused:
            self.service.client().get_project(service.PROJECT)
        self.assertIn("CERTIFICATE_VERIFY_FAILED", refused.exception.get_error_message())

    def test_failed_handshakes_do_not_block_others(self):
        with closing(self.service.connect()) as silent, closing(self.service.connect()) as half:
            half.sendall(HALF_A_HANDSHAKE)
            with closing(self.service.connect()) as plain:
                plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertNotIn(b"HTTP", service.read_all(plain))
            # A client that is silent after the handshake.
            context = ssl.create_default_context(cafile=self.certificate)
            with context.wrap_socket(self.service.connect(), server_hostname=f"p.{service.NAME}"):
                self.put_and_pull()
            silent.shutdown(socket.SHUT_WR)
            self.assertEqual(service.read_all(silent), b"")
        self.put_and_pull("others")


def write_certificate(certificate, key):
    """A self-signed certificate for the names of projects, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "logship test")])
    names = x509.SubjectAlternativeName([x509.DNSName(f"*.{service.NAME}")])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    certificate.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
