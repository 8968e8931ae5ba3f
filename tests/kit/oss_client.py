"""A small client of OSS, and test cases with the fake of OSS."""

import base64
import hashlib
import http.client
import unittest
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote, unquote

from kit.fakes import oss
from kit.fakes.keys import Keyring, role_arn
from kit.fakes.oss_auth import Request, signature_v1
from kit.names import ADDRESS
from kit.waiting import PATIENCE

BUCKET = "logs"


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: dict
    body: bytes

    def xml(self):
        return ET.fromstring(self.body)

    def refusal(self):
        """Status and code of a rejected request."""
        return self.status, self.xml().findtext("Code")


class Client:
    """Speaks plain HTTP to the store, or to a proxy before it, and signs by version 1."""

    def __init__(self, key, port, bucket=BUCKET, timeout=PATIENCE):
        self.key, self.port, self.bucket, self.timeout = key, port, bucket, timeout

    def headers(self, method, target, headers=(), secret=None):
        """All headers of a request. `headers` override the defaults, and None omits one."""
        token = {"x-oss-security-token": self.key.token} if self.key.token else {}
        host = f"{self.bucket}.{oss.DOMAIN}:{self.port}"
        merged = {"host": host, "date": formatdate(usegmt=True), **token, **dict(headers)}
        merged = {name: value for name, value in merged.items() if value is not None}
        path, _, query = target.partition("?")
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        decoded = [(unquote(name), unquote(value)) for name, _, value in pairs]
        request = Request(method, self.bucket, unquote(path)[1:], decoded, merged)
        signed = f"OSS {self.key.id}:{signature_v1(secret or self.key.secret, request)}"
        return {"authorization": signed, **merged}

    def send(self, method, target, body=None, headers=(), secret=None, connection=None):
        """Sends a request over `connection`, or over a new one."""
        if connection is None:
            with closing(self.connect()) as connection:
                return self.send(method, target, body, headers, secret, connection)
        connection.request(method, target, body, self.headers(method, target, headers, secret))
        return received(connection)

    def connect(self):
        return http.client.HTTPConnection(ADDRESS, self.port, timeout=self.timeout)

    def put(self, key, body=b"body", **headers):
        return self.send("PUT", f"/{quote(key)}", body, {name.replace("_", "-"): v for name, v in headers.items()})

    def get(self, key, **headers):
        return self.send("GET", f"/{quote(key)}", headers=headers)

    def initiate(self, key):
        """The id of a new multipart upload."""
        return self.send("POST", f"/{key}?uploads").xml().findtext("UploadId")

    def complete(self, key, upload, parts, headers=()):
        listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        return self.send("POST", f"/{key}?uploadId={upload}", body, headers)


class StoreCase(unittest.TestCase):
    """A test with a store, a bucket and a key."""

    def setUp(self):
        self.keys = Keyring()
        self.key = self.keys.add()
        self.server = oss.Server(self.keys)
        self.addCleanup(self.server.close)
        self.bucket = self.server.create_bucket(BUCKET)
        self.client = Client(self.key, self.server.port)

    def temporary_key(self):
        return self.keys.issue(role_arn(self.key.account, "writer"), "session", 900)


def received(connection):
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())


def etag(body):
    return f'"{hashlib.md5(body).hexdigest().upper()}"'


def digest(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()
