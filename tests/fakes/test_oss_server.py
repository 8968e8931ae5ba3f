"""The local store refuses what the cloud refuses, and keeps what it is given."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.utils import formatdate
from time import gmtime, strftime

from kit import oss_client
from kit.fakes import oss, oss_auth
from kit.fakes.keys import OTHER_ACCOUNT, Keyring, user_arn
from kit.oss_client import BUCKET, StoreCase

PARTS = [b"a" * oss.SMALLEST_PART, b"b" * oss.SMALLEST_PART, b"c"]
BODIES = [bytes([number]) for number in range(8)]


class Signatures(StoreCase):
    def refusal(self, *arguments, **options):
        return self.client.send(*arguments, **options).refusal()

    def test_rejects_changed_request(self):
        signed = self.client.headers("PUT", "/a", {"x-oss-meta-a": "1", "content-type": "text/plain"})
        for change in [
            {"content-type": "text/html"},
            {"content-type": None},
            {"x-oss-meta-a": "2"},
            {"x-oss-meta-b": "1"},
            {"content-md5": oss_client.digest(b"")},
            {"date": formatdate(0, usegmt=True)},
            {"x-oss-date": formatdate(usegmt=True)},
        ]:
            headers = {name: value for name, value in {**signed, **change}.items() if value is not None}
            with self.subTest(change=change), closing(self.client.connect()) as connection:
                connection.request("PUT", "/a", b"", headers)
                self.assertEqual(oss_client.received(connection).status, 403)
        self.assertEqual(self.bucket, {})

    def test_rejects_unknown_key(self):
        stranger = oss_client.Client(Keyring().add(), self.server.port)
        self.assertEqual(stranger.get("a").refusal(), (403, "InvalidAccessKeyId"))
        with closing(self.client.connect()) as connection:
            connection.request("GET", "/a", headers={"host": f"{BUCKET}.{oss.DOMAIN}"})
            self.assertEqual(oss_client.received(connection).refusal(), (403, "AccessDenied"))

    def test_rejects_invalid_authorization(self):
        for text in "OSS", "OSS x", "OSS :x", "Basic x", "OSS4-HMAC-SHA256 x", "OSS4-HMAC-SHA256 Credential=a/b":
            with self.subTest(text=text):
                self.assertEqual(self.refusal("GET", "/a", headers={"authorization": text}), (400, "InvalidArgument"))

    def test_error_shows_string_to_sign(self):
        now = formatdate(usegmt=True)
        reply = self.client.send("PUT", "/a%20b", b"", {"x-oss-meta-a": "1", "date": now}, secret="wrong")
        self.assertEqual(reply.xml().findtext("StringToSign"), f"PUT\n\n\n{now}\nx-oss-meta-a:1\n/{BUCKET}/a b")
        self.assertEqual(reply.xml().findtext("RequestId"), reply.headers["x-oss-request-id"])

    def test_v4_signs_headers(self):
        place = {"host": f"{BUCKET}.{oss.DOMAIN}", "user-agent": "x"}
        dated = {**place, "x-oss-date": strftime("%Y%m%dT%H%M%SZ", gmtime())}
        whole = {**dated, "x-oss-content-sha256": oss_auth.UNSIGNED, "content-type": "text/plain"}
        signed = self.headers_v4(whole)
        for headers, status, code in [
            (signed, 200, None),
            (self.headers_v4(whole, "user-agent"), 200, None),
            ({**self.headers_v4(whole, "user-agent"), "user-agent": "y"}, 403, "SignatureDoesNotMatch"),
            ({**signed, "content-type": "text/html"}, 403, "SignatureDoesNotMatch"),
            ({**signed, "x-oss-meta-a": "1"}, 403, "SignatureDoesNotMatch"),
            (self.headers_v4(dated), 400, "InvalidArgument"),
            (self.headers_v4(whole, "user-agent", "host"), 400, "InvalidArgument"),
            (self.headers_v4({**whole, "x-oss-date": formatdate(usegmt=True)}), 403, "AccessDenied"),
            (self.headers_v4({**whole, "x-oss-date": "20200101T000000Z"}), 403, "RequestTimeTooSkewed"),
        ]:
            with self.subTest(headers=headers), closing(self.client.connect()) as connection:
                connection.request("PUT", "/a", b"", headers)
                reply = oss_client.received(connection)
                self.assertEqual((reply.status, reply.body and reply.refusal()[1] or None), (status, code))

    def headers_v4(self, headers, *additional):
        scope = f"{headers['x-oss-date'][:8]}/{oss.REGION}/oss/aliyun_v4_request"
        request = oss_auth.Request("PUT", BUCKET, "a", headers=headers)
        signature = oss_auth.signature_v4(self.key.secret, request, scope, additional)
        fields = f"Credential={self.key.id}/{scope}, AdditionalHeaders={';'.join(additional)}, Signature={signature}"
        return {**headers, "authorization": f"{oss_auth.V4} {fields}"}

    def test_rejects_clock_skew(self):
        self.keys.ahead = 14 * 60
        self.assertEqual(self.client.put("a").status, 200)
        for ahead in 16 * 60, -16 * 60:
            self.keys.ahead = ahead
            self.assertEqual(self.client.put("a").refusal(), (403, "RequestTimeTooSkewed"))
        self.keys.ahead = 0
        for date in None, "", "yesterday", formatdate(localtime=True):
            with self.subTest(date=date):
                self.assertEqual(self.refusal("PUT", "/a", headers={"date": date}), (403, "AccessDenied"))
        self.assertEqual(self.client.put("a", date="", x_oss_date=formatdate(usegmt=True)).status, 200)

    def test_temporary_key_needs_token_and_expires(self):
        key = self.temporary_key()
        client = oss_client.Client(key, self.server.port)
        self.assertEqual(client.put("a").status, 200)
        no_token, other_token = {"x-oss-security-token": None}, {"x-oss-security-token": self.temporary_key().token}
        self.assertEqual(client.send("PUT", "/a", b"", no_token).refusal(), (403, "InvalidAccessKeyId"))
        self.assertEqual(client.send("PUT", "/a", b"", other_token).refusal(), (403, "InvalidSecurityToken"))
        self.assertEqual(self.refusal("PUT", "/a", headers=other_token), (403, "InvalidSecurityToken"))
        self.keys.ahead = 14 * 60
        self.assertEqual(client.put("a").status, 200)
        self.keys.expire(key)
        self.assertEqual(client.put("a").refusal(), (403, "SecurityTokenExpired"))


class Requests(StoreCase):
    def test_reports_missing_buckets_and_objects(self):
        self.assertEqual(self.client.get("a").refusal(), (404, "NoSuchKey"))
        elsewhere = oss_client.Client(self.key, self.server.port, "elsewhere")
        self.assertEqual(elsewhere.put("a").refusal(), (404, "NoSuchBucket"))
        self.assertEqual(self.client.send("PUT", "/a?partNumber=1&uploadId=x", b"").refusal(), (404, "NoSuchUpload"))
        self.assertEqual(self.client.complete("a", "x", [(1, "y")]).refusal(), (404, "NoSuchUpload"))
        self.assertEqual(self.client.send("DELETE", "/a?uploadId=x").refusal(), (404, "NoSuchUpload"))
        reply = self.client.send("HEAD", "/a")
        self.assertEqual((reply.status, reply.body), (404, b""))
        self.assertEqual(self.client.send("DELETE", "/a").status, 204)

    def test_path_style_must_be_allowed(self):
        host = {"host": f"127.0.0.1:{self.server.port}"}
        with self.subTest("in the path"), closing(self.client.connect()) as connection:
            signed = {**self.client.headers("PUT", "/a"), **host}
            connection.request("PUT", f"/{BUCKET}/a", b"1", signed)
            self.assertEqual(oss_client.received(connection).refusal(), (403, "SecondLevelDomainForbidden"))
            self.server.path_style = True
            connection.request("PUT", f"/{BUCKET}/a", b"1", signed)
            self.assertEqual(oss_client.received(connection).status, 200)
        self.assertEqual(self.bucket["a"].body, b"1")

    def test_deny_blocks_operations(self):
        temporary = self.temporary_key()
        for key, who in [
            (self.key, self.key.id),
            (self.key, user_arn(self.key.account, "tester")),
            (temporary, temporary.role),
        ]:
            with self.subTest(who=who):
                client = oss_client.Client(key, self.server.port)
                self.assertEqual(client.put("a").status, 200)
                self.server.deny(BUCKET, who)
                for method, target in ("PUT", "/a"), ("POST", "/a?uploads"), ("DELETE", "/a"):
                    self.assertEqual(client.send(method, target).refusal(), (403, "AccessDenied"))
                self.assertEqual(client.get("a").status, 200)
                self.server.allow(BUCKET, who)
                self.assertEqual(client.put("a").status, 200)

    def test_buckets_are_private_to_account(self):
        other = oss_client.Client(self.keys.add(account=OTHER_ACCOUNT), self.server.port)
        self.assertEqual(other.put("a").refusal(), (403, "AccessDenied"))
        self.assertEqual(other.get("a").refusal(), (403, "AccessDenied"))
        self.server.create_bucket("others", OTHER_ACCOUNT)
        other.bucket = "others"
        self.assertEqual(other.put("a").status, 200)

    def test_checks_parts(self):
        upload = self.client.initiate("a")
        short, etags = b"short", []
        for number, part in (1, PARTS[0]), (2, short), (3, PARTS[2]):
            reply = self.client.send("PUT", f"/a?partNumber={number}&uploadId={upload}", part)
            self.assertEqual(reply.headers["etag"], oss_client.etag(part))
            etags.append((number, reply.headers["etag"]))
        for number in "0", "10001", "x":
            target = f"/a?partNumber={number}&uploadId={upload}"
            self.assertEqual(self.client.send("PUT", target, b"").refusal(), (400, "InvalidArgument"))
        target, wrong = f"/a?partNumber=1&uploadId={upload}", {"content-md5": oss_client.digest(b"other")}
        self.assertEqual(self.client.send("PUT", target, b"", wrong).refusal(), (400, "InvalidDigest"))
        self.assertEqual(self.client.complete("b", upload, etags[:1]).refusal(), (404, "NoSuchUpload"))
        for parts, code in [
            (etags, "EntityTooSmall"),
            (etags[::-1], "InvalidPartOrder"),
            ([(1, oss_client.etag(b""))], "InvalidPart"),
            ([(9, oss_client.etag(b""))], "InvalidPart"),
            ([], "MalformedXML"),
        ]:
            with self.subTest(code=code):
                self.assertEqual(self.client.complete("a", upload, parts).refusal(), (400, code))
        self.assertEqual(self.bucket, {})
        self.assertEqual(self.client.complete("a", upload, etags[:2]).status, 200)
        self.assertEqual(self.bucket["a"].body, PARTS[0] + short)
        self.assertEqual(self.client.complete("a", upload, etags[:2]).refusal(), (404, "NoSuchUpload"))
        self.assertEqual(self.server.count("CompleteMultipartUpload", 200), 1)

    def test_upload_obeys_forbid_overwrite(self):
        upload, forbid = self.client.initiate("a"), {"x-oss-forbid-overwrite": "true"}
        etag = self.client.send("PUT", f"/a?partNumber=1&uploadId={upload}", b"1").headers["etag"]
        self.client.put("a", b"2")
        taken = (409, "FileAlreadyExists")
        self.assertEqual(self.client.complete("a", upload, [(1, etag)], forbid).refusal(), taken)
        self.assertEqual(self.client.send("POST", "/a?uploads", headers=forbid).refusal(), taken)
        self.assertEqual(self.bucket["a"].body, b"2")

    def test_forbid_overwrite_admits_one_writer(self):
        with ThreadPoolExecutor(8) as threads:
            replies = threads.map(lambda body: self.client.put("a", body, x_oss_forbid_overwrite="true"), BODIES)
        written = [body for body, reply in zip(BODIES, replies) if reply.status == 200]
        self.assertEqual(written, [self.bucket["a"].body])
        self.assertEqual(self.server.count("PutObject", 409), len(BODIES) - 1)

    def test_serves_ranges(self):
        self.client.put("a", b"0123456789")
        for text, status, body in [
            ("bytes=2-4", 206, b"234"),
            ("bytes=8-99", 206, b"89"),
            ("bytes=8-", 206, b"89"),
            ("bytes=-3", 206, b"789"),
            ("bytes=0-9", 206, b"0123456789"),
            ("bytes=10-", 200, b"0123456789"),
            ("bytes=4-2", 200, b"0123456789"),
            ("lines=1-2", 200, b"0123456789"),
        ]:
            with self.subTest(text=text):
                reply = self.client.get("a", range=text)
                self.assertEqual((reply.status, reply.body), (status, body))
        headers = {"range": "bytes=10-", "x-oss-range-behavior": "standard"}
        self.assertEqual(self.client.send("GET", "/a", headers=headers).refusal(), (416, "InvalidRange"))

    def test_rejects_unknown_operations(self):
        for method, target, headers, refusal in [
            ("PUT", "/a", {"content-md5": oss_client.digest(b"other")}, (400, "InvalidDigest")),
            ("PUT", "/a", {"x-oss-copy-source": "/logs/b"}, (501, "NotImplemented")),
            ("PUT", "/a?acl", {}, (501, "NotImplemented")),
            ("GET", "/?prefix=a", {}, (501, "NotImplemented")),
            ("GET", "/?list-type=2&delimiter=/", {}, (501, "NotImplemented")),
            ("GET", "/?list-type=2&max-keys=0", {}, (400, "InvalidArgument")),
            ("GET", "/?list-type=2&max-keys=1001", {}, (400, "InvalidArgument")),
            ("GET", "/?list-type=2&continuation-token=!", {}, (400, "InvalidArgument")),
            ("PUT", "//a", {}, (400, "InvalidObjectName")),
            ("PUT", "/%FF", {}, (400, "InvalidObjectName")),
            ("PUT", "/" + "a" * 1024, {}, (400, "InvalidObjectName")),
            ("PUT", "/a", {"host": "logs.example.com"}, (404, "NoSuchBucket")),
            ("PUT", "/a", {"host": f"No_Bucket.{oss.DOMAIN}"}, (400, "InvalidBucketName")),
        ]:
            with self.subTest(target=target[:40], headers=headers):
                self.assertEqual(self.client.send(method, target, headers=headers).refusal(), refusal)
        self.assertEqual(self.bucket, {})

    def test_accepts_requests_of_proxies(self):
        host = f"{BUCKET}.{oss.DOMAIN}"
        for path, key in ("/a", "a"), ("/a%20b?", "a b"):
            headers = {**self.client.headers("PUT", path), "host": "elsewhere.test"}
            with closing(self.client.connect()) as connection:
                connection.request("PUT", f"http://{host}{path}", b"1", headers)
                self.assertEqual(oss_client.received(connection).status, 200)
                self.assertIn(key, self.bucket)

    def test_rejects_bucket_of_other_region(self):
        self.bucket.domain = "oss-elsewhere.test"
        reply = self.client.put("a")
        self.assertEqual(reply.refusal(), (403, "AccessDenied"))
        self.assertEqual((reply.xml().findtext("Endpoint"), self.bucket), (self.bucket.domain, {}))

    def test_ignores_incomplete_body(self):
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.client.headers("PUT", "/a").items())
        for rest in [
            b"content-length: 10\r\n\r\n123",
            b"content-length: x\r\n\r\n",
            b"content-length: -1\r\n\r\n",
            b"transfer-encoding: chunked\r\n\r\n3\r\n123\r\n",
            b"transfer-encoding: chunked\r\n\r\nx\r\n",
        ]:
            with self.subTest(rest=rest), socket.create_connection(self.server.address) as connection:
                connection.sendall(f"PUT /a HTTP/1.1\r\n{headers}".encode() + rest)
                connection.shutdown(socket.SHUT_WR)
                self.assertNotIn(b" 200 ", connection.recv(1 << 16))
        self.assertEqual((self.bucket, self.server.calls), ({}, []))

    def test_connection_serves_many_requests(self):
        with closing(self.client.connect()) as connection:
            for status in 200, 200:
                self.assertEqual(self.client.send("PUT", "/a", b"1", connection=connection).status, status)
            self.assertEqual(self.client.send("PUT", "/a", b"", secret="x", connection=connection).status, 403)
            self.assertEqual(self.client.send("GET", "/a", connection=connection).body, b"1")
        self.assertEqual([call.operation for call in self.server.calls], ["PutObject"] * 3 + ["GetObject"])
        self.assertEqual(self.server.calls[2].code, "SignatureDoesNotMatch")
