"""A token server for a registry, as clouds have it: the registry trusts tokens that its key signed."""

import base64
import datetime
import json
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kit.fakes.http import Answer, Server

SERVICE, ISSUER = "the registry", "the token server"


class TokenServer(Server):
    """Lets `user` push and pull with `password`, and anybody pull what begins with `public/`."""

    def __init__(self, test, user, password):
        self.login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.scopes = []
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate()
        super().__init__()
        test.addCleanup(self.close)

    def settings(self, folder):
        """The settings of a registry that sends whoever comes to this server."""
        bundle = folder / "roots.pem"
        bundle.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        realm = f"{self.url}/token?a=b"
        return {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}}

    def answer(self, request):
        status, said = self._judge(parse_qs(urlsplit(request.target).query), request.headers.get("authorization"))
        return Answer(status, json.dumps(said).encode())

    def _judge(self, asked, authorization):
        if authorization not in (None, self.login):
            return 401, {"errors": [{"code": "UNAUTHORIZED"}]}
        if (asked["service"], asked["a"]) != ([SERVICE], ["b"]):
            return 400, {"errors": [{"message": f"what is {asked}?"}]}
        (scope,) = asked["scope"]
        self.scopes.append(scope)
        kind, name, actions = scope.split(":")
        may = actions.split(",") if authorization else ["pull"] if name.startswith("public/") else []
        return 200, {"token": self._token([{"type": kind, "name": name, "actions": may}])}

    def _token(self, access):
        now = int(datetime.datetime.now().timestamp())
        chain = [base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()]
        head = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        claims = {
            "iss": ISSUER,
            "sub": "",
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "access": access,
        }
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        pair = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(b''.join(number.to_bytes(32, 'big') for number in pair))}"

    def _certificate(self):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        builder = x509.CertificateBuilder(
            name, name, self.key.public_key(), x509.random_serial_number(), now - day, now + day
        )
        return builder.sign(self.key, hashes.SHA256())


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
