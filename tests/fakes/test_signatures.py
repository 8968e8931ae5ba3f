"""The signatures that the local services calculate are those that the vendor publishes."""

import hmac
import unittest

from kit.fakes import oss_auth, sts
from kit.fakes.oss_auth import Request

DOCUMENTED_ID = "44CF9590006BF252F707"
DOCUMENTED_SECRET = "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV"
DOCUMENTED_HEADERS = {
    "content-type": "text/html",
    "date": "Thu, 17 Nov 2005 18:49:58 GMT",
    "host": "oss-example.oss-cn-hangzhou.aliyuncs.com",
    "x-oss-meta-author": "foo@bar.com",
    "x-oss-magic": "abracadabra",
}
# Of the tests of the vendor's SDKs, whose key is "ak" with the secret "sk".
SDK_DATE = {"x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT"}
SDK_HEADERS = {
    **{"content-md5": "eB5eJF1ptWaXm4bijSPyxw==", "content-type": "text/html"},
    **{"x-oss-meta-author": "alice", "x-oss-meta-magic": "abracadabra"},
    **SDK_DATE,
}
SDK_V4_HEADERS = {
    **{"x-oss-head1": "value", "abc": "value", "zabc": "value", "xyz": "value", "content-type": "text/plain"},
    **{"x-oss-content-sha256": "UNSIGNED-PAYLOAD"},
}
SDK_V4_QUERY = [
    *(("param1", "value1"), ("+param1", "value3"), ("|param1", "value4")),
    *(("+param2", ""), ("|param2", ""), ("param2", "")),
]
DOCUMENTED_V4 = Request(
    "PUT",
    "examplebucket",
    "exampleobject",
    headers={
        **{"content-disposition": "attachment", "content-length": "3", "content-md5": "ICy5YqxZB1uWSwcVLSNLcA=="},
        **{"content-type": "text/plain", "x-oss-content-sha256": "UNSIGNED-PAYLOAD"},
        "x-oss-date": "20250411T064124Z",
    },
)
DOCUMENTED_V4_SCOPE = "20250411/cn-hangzhou/oss/aliyun_v4_request"
DOCUMENTED_V4_ADDITIONAL = ["content-disposition", "content-length"]
DOCUMENTED_RPC = {
    **{"Timestamp": "2016-02-23T12:46:24Z", "Format": "XML", "AccessKeyId": "testid", "Action": "DescribeRegions"},
    **{"SignatureMethod": "HMAC-SHA1", "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"},
    **{"Version": "2014-05-26", "SignatureVersion": "1.0"},
}


class Version1(unittest.TestCase):
    def signed(self, digest):
        headers = {**DOCUMENTED_HEADERS, "content-md5": digest}
        return oss_auth.signature_v1(DOCUMENTED_SECRET, Request("PUT", "oss-example", "nelson", headers=headers))

    def test_matches_documented_example(self):
        # The signature is of this digest: it is in the code beside the example.
        digest = "ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM="
        self.assertEqual(self.signed(digest), "26NBxoKdsyly4EDv6inkoDft/yA=")

    def test_digest_changes_signature(self):
        self.assertEqual(self.signed("eB5eJF1ptWaXm4bijSPyxw=="), "hD208RWMpg77svXkQRwWXS+V5KQ=")

    def test_matches_sdk_examples(self):
        for method, key, query, headers, signature in [
            ("PUT", "nelson", [], SDK_HEADERS, "kSHKmLxlyEAKtZPkJhG9bZb5k7M="),
            ("PUT", "nelson", [("acl", "")], SDK_HEADERS, "/afkugFbmWDQ967j1vr6zygBLQk="),
            ("GET", "", [("resourceGroup", ""), ("non-resousce", "null")], SDK_DATE, "vkQmfuUDyi1uDi3bKt67oemssIs="),
            ("GET", "", [("resourceGroup", ""), ("acl", "")], SDK_DATE, "x3E5TgOvl/i7PN618s5mEvpJDYk="),
        ]:
            with self.subTest(method=method, query=query):
                request = Request(method, "examplebucket", key, query, {**headers, "date": "not signed"})
                self.assertEqual(oss_auth.signature_v1("sk", request), signature)


class Version4(unittest.TestCase):
    maxDiff = None

    def test_matches_documented_canonical_request(self):
        self.assertEqual(
            oss_auth.string_to_sign_v4(DOCUMENTED_V4, DOCUMENTED_V4_SCOPE, DOCUMENTED_V4_ADDITIONAL),
            b"OSS4-HMAC-SHA256\n20250411T064124Z\n20250411/cn-hangzhou/oss/aliyun_v4_request\n"
            b"c46d96390bdbc2d739ac9363293ae9d710b14e48081fcb22cd8ad54b63136eca",
        )

    def test_matches_documented_signing_key(self):
        text = oss_auth.string_to_sign_v4(DOCUMENTED_V4, DOCUMENTED_V4_SCOPE, DOCUMENTED_V4_ADDITIONAL)
        # This signing key is not that of the documented secret.
        signing_key = bytes.fromhex("3543b7686e65eda71e5e5ca19d548d78423c37e8ddba4dc9d83f90228b457c76")
        signature = "053edbf550ebd239b32a9cdfd93b0b2b3f2d223083aa61f75e9ac16856d61f23"
        self.assertEqual(hmac.digest(signing_key, text, "sha256").hex(), signature)

    def test_matches_documented_secret(self):
        self.assertEqual(
            oss_auth.signature_v4("yourAccessKeySecret", DOCUMENTED_V4, DOCUMENTED_V4_SCOPE, DOCUMENTED_V4_ADDITIONAL),
            "d3694c2dfc5371ee6acd35e88c4871ac95a7ba01d3a2f476768fe61218590097",
        )

    def test_matches_sdk_examples(self):
        for moment, token, additional, signature in [
            ("20231216T162057Z", "", [], "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
            ("20231217T034736Z", "token", [], "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"),
            (
                *("20231216T172512Z", "", ["abc", "zabc"]),
                "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
            ),
        ]:
            headers = {**SDK_V4_HEADERS, "x-oss-date": moment, **({"x-oss-security-token": token} if token else {})}
            request = Request("PUT", "bucket", "1234+-/123/1.txt", SDK_V4_QUERY, headers)
            scope = f"{moment[:8]}/cn-hangzhou/oss/aliyun_v4_request"
            with self.subTest(token=token, additional=additional):
                self.assertEqual(oss_auth.signature_v4("sk", request, scope, additional), signature)


class Rpc(unittest.TestCase):
    def test_matches_documented_example(self):
        self.assertEqual(
            sts.string_to_sign("GET", DOCUMENTED_RPC),
            "GET&%2F&AccessKeyId%3Dtestid%26Action%3DDescribeRegions%26Format%3DXML%26SignatureMethod%3DHMAC-SHA1"
            "%26SignatureNonce%3D3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf%26SignatureVersion%3D1.0"
            "%26Timestamp%3D2016-02-23T12%253A46%253A24Z%26Version%3D2014-05-26",
        )
        self.assertEqual(sts.signature("GET", DOCUMENTED_RPC, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=")

    def test_signature_is_not_signed(self):
        parameters = {**DOCUMENTED_RPC, "Signature": "x"}
        self.assertEqual(sts.signature("GET", parameters, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=")
