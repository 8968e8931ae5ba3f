"""The vendor's SDKs find in the local store what they know of the cloud."""

import io
from dataclasses import replace

import alibabacloud_oss_v2
import oss2
from alibabacloud_oss_v2.credentials import StaticCredentialsProvider

from kit import oss_client
from kit.fakes import oss
from kit.oss_client import BUCKET, StoreCase
from kit.waiting import PATIENCE

BODY = b"line\n" * 1000
# Has to be escaped in paths, in XML and in signatures.
KEY = "logs/dt=2024-01-01/a b+c&<é>.json"
PARTS = [b"a" * oss.SMALLEST_PART, b"b" * oss.SMALLEST_PART, b"c"]


class Oss2(StoreCase):
    def sdk(self, version, key=None, **options):
        key = key or self.key
        if key.token:
            auth = oss2.StsAuth(key.id, key.secret, key.token, auth_version=version)
        else:
            auth = oss2.make_auth(key.id, key.secret, version)
        options = {"region": oss.REGION, **options}
        return oss2.Bucket(auth, self.server.endpoint, BUCKET, connect_timeout=PATIENCE, **options)

    def test_puts_gets_lists_and_deletes(self):
        for version in "v1", "v4":
            for key in self.key, self.temporary_key():
                with self.subTest(version=version, token=bool(key.token)):
                    self.check_objects(self.sdk(version, key))

    def check_objects(self, sdk):
        headers = {"x-oss-meta-rule": "r1", "Content-Type": "application/x-ndjson", "Content-MD5": oss_client.digest(BODY)}
        put = sdk.put_object(KEY, BODY, headers)
        self.assertEqual((put.status, put.etag), (200, oss_client.etag(BODY).strip('"')))
        self.assertEqual(self.bucket[KEY].body, BODY)
        self.assertEqual(self.bucket[KEY].meta, {"rule": "r1"})
        got = sdk.get_object(KEY)
        self.assertEqual((got.read(), got.content_type), (BODY, "application/x-ndjson"))
        self.assertEqual(got.headers["x-oss-meta-rule"], "r1")
        self.assertEqual(sdk.get_object(KEY, (2, 6)).read(), BODY[2:7])
        head = sdk.head_object(KEY)
        self.assertEqual((head.content_length, head.etag, head.object_type), (len(BODY), put.etag, "Normal"))
        for name in "a", "b", "logs/2":
            sdk.put_object(name, name)
        found = [entry.key for entry in oss2.ObjectIteratorV2(sdk, max_keys=1)]
        self.assertEqual(found, ["a", "b", "logs/2", KEY])
        found = [(entry.key, entry.size) for entry in oss2.ObjectIteratorV2(sdk, prefix="logs/dt=")]
        self.assertEqual(found, [(KEY, len(BODY))])
        for name in list(self.bucket):
            self.assertEqual(sdk.delete_object(name).status, 204)
        self.assertEqual(self.bucket, {})
        with self.assertRaises(oss2.exceptions.NoSuchKey):
            sdk.get_object(KEY)
        with self.assertRaises(oss2.exceptions.NotFound) as missing:
            sdk.head_object(KEY)
        self.assertEqual(missing.exception.code, "NoSuchKey")

    def test_uploads_in_parts(self):
        for version in "v1", "v4":
            with self.subTest(version=version):
                sdk = self.sdk(version)
                upload = sdk.init_multipart_upload(KEY, {"x-oss-meta-rule": "r1"}).upload_id
                parts = []
                for number, part in enumerate(PARTS, 1):
                    parts.append(oss2.models.PartInfo(number, sdk.upload_part(KEY, upload, number, part).etag))
                sdk.complete_multipart_upload(KEY, upload, parts)
                found = self.bucket.pop(KEY)
                self.assertEqual((found.body, found.kind, found.meta), (b"".join(PARTS), "Multipart", {"rule": "r1"}))
                self.assertRegex(found.etag, '^"[0-9A-F]{32}-3"$')
                sdk.abort_multipart_upload(KEY, sdk.init_multipart_upload(KEY).upload_id)
                self.assertEqual(self.server.uploads, {})

    def test_accepts_body_of_unknown_length(self):
        self.sdk("v1").put_object(KEY, iter([BODY, BODY]))
        self.assertEqual(self.bucket[KEY].body, BODY + BODY)

    def test_obeys_forbid_overwrite(self):
        sdk = self.sdk("v1")
        forbid = {"x-oss-forbid-overwrite": "true"}
        sdk.put_object(KEY, b"1", forbid)
        with self.assertRaises(oss2.exceptions.ServerError) as refused:
            sdk.put_object(KEY, b"2", forbid)
        self.assertEqual((refused.exception.status, refused.exception.code), (409, "FileAlreadyExists"))
        self.assertEqual(self.bucket[KEY].body, b"1")
        sdk.put_object(KEY, b"3")
        self.assertEqual(self.bucket[KEY].body, b"3")

    def test_rejects_wrong_secret(self):
        wrong = replace(self.key, secret="wrong")
        for version in "v1", "v4":
            with self.subTest(version=version), self.assertRaises(oss2.exceptions.SignatureDoesNotMatch):
                self.sdk(version, wrong).put_object(KEY, BODY)
        self.assertEqual(self.bucket, {})

    def test_rejects_wrong_region(self):
        with self.assertRaises(oss2.exceptions.ServerError) as refused:
            self.sdk("v4", region="elsewhere").put_object(KEY, BODY)
        self.assertEqual((refused.exception.status, refused.exception.code), (400, "InvalidArgument"))


class OssV2(StoreCase):
    def sdk(self, version, key=None, **options):
        key = key or self.key
        provider = StaticCredentialsProvider(key.id, key.secret, key.token or None)
        config = alibabacloud_oss_v2.Config(
            **{"region": oss.REGION, "endpoint": self.server.endpoint, "signature_version": version},
            **{"credentials_provider": provider, "retry_max_attempts": 1, **options},
        )
        return alibabacloud_oss_v2.Client(config)

    def test_puts_gets_lists_and_deletes(self):
        # With version 1 it sends tokens by a header that the cloud does not know.
        for version, key in ("v1", self.key), ("v4", self.key), ("v4", self.temporary_key()):
            with self.subTest(version=version, token=bool(key.token)):
                self.check_objects(self.sdk(version, key))

    def check_objects(self, sdk):
        v2, place = alibabacloud_oss_v2, {"bucket": BUCKET, "key": KEY}
        put = sdk.put_object(v2.PutObjectRequest(**place, body=BODY, metadata={"rule": "r1"}))
        self.assertEqual((put.status_code, put.etag), (200, oss_client.etag(BODY)))
        got = sdk.get_object(v2.GetObjectRequest(**place))
        self.assertEqual((got.body.content, dict(got.metadata)), (BODY, {"rule": "r1"}))
        part = sdk.get_object(v2.GetObjectRequest(**place, range_header="bytes=2-6"))
        self.assertEqual((part.status_code, part.body.content), (206, BODY[2:7]))
        self.assertEqual(sdk.head_object(v2.HeadObjectRequest(**place)).content_length, len(BODY))
        sdk.put_object(v2.PutObjectRequest(bucket=BUCKET, key="a", body=b"a"))
        pages = sdk.list_objects_v2_paginator().iter_page(v2.ListObjectsV2Request(bucket=BUCKET, max_keys=1))
        self.assertEqual([entry.key for page in pages for entry in page.contents], ["a", KEY])
        for key in "a", KEY:
            self.assertEqual(sdk.delete_object(v2.DeleteObjectRequest(bucket=BUCKET, key=key)).status_code, 204)
        self.assertEqual(self.bucket, {})
        self.assertFalse(sdk.is_object_exist(BUCKET, KEY))

    def test_uploads_in_parts(self):
        request = alibabacloud_oss_v2.PutObjectRequest(bucket=BUCKET, key=KEY)
        for version in "v1", "v4":
            with self.subTest(version=version):
                body = b"".join(PARTS)
                uploader = self.sdk(version).uploader(part_size=len(PARTS[0]), parallel_num=2)
                uploader.upload_from(request, io.BytesIO(body))
                self.assertEqual(self.bucket.pop(KEY).body, body)
                self.assertEqual(self.server.count("UploadPart"), 3)
                self.server.calls.clear()

    def test_sdk_shows_refusal(self):
        request = alibabacloud_oss_v2.PutObjectRequest(bucket=BUCKET, key=KEY, body=BODY)
        wrong = replace(self.key, secret="wrong")
        for version in "v1", "v4":
            with self.subTest(version=version):
                with self.assertRaises(alibabacloud_oss_v2.exceptions.OperationError) as refused:
                    self.sdk(version, wrong).put_object(request)
                error = refused.exception.unwrap()
                self.assertEqual((error.status_code, error.code), (403, "SignatureDoesNotMatch"))
        self.assertEqual(self.bucket, {})

    def test_signs_additional_headers(self):
        sdk = self.sdk("v4", additional_headers=["host", "user-agent"])
        sdk.put_object(alibabacloud_oss_v2.PutObjectRequest(bucket=BUCKET, key=KEY, body=BODY))
        self.assertEqual(self.bucket[KEY].body, BODY)
