"""The local token service: whom it gives temporary keys, and that the store knows them."""

import json
import time
import uuid
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from urllib.parse import quote, urlencode

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest

from kit import oss_client
from kit.fakes import sts
from kit.fakes.keys import ACCOUNT, OTHER_ACCOUNT, AccessKey, role_arn, root_arn, user_arn
from kit.oss_client import StoreCase
from kit.waiting import PATIENCE

NO_PERMISSION = (403, "NoPermission")


class Case(StoreCase):
    def setUp(self):
        super().setUp()
        self.sts = sts.Server(self.keys)
        self.addCleanup(self.sts.close)
        self.role = self.sts.add_role("writer", [user_arn(ACCOUNT, "tester")])

    def parameters(self, key, **changes):
        """The parameters of a request, without its signature. None leaves one out."""
        parameters = {
            **{"Action": "AssumeRole", "Version": "2015-04-01", "Format": "JSON", "AccessKeyId": key.id},
            **{"SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0", "SignatureNonce": str(uuid.uuid4())},
            **{"Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "RoleArn": self.role.arn},
            **{"RoleSessionName": "session", **({"SecurityToken": key.token} if key.token else {}), **changes},
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def call(self, key=None, method="GET", form=False, **changes):
        key = key or self.key
        parameters = self.parameters(key, **changes)
        parameters.setdefault("Signature", sts.signature(method, parameters, key.secret))
        return self.send(method, parameters, form)

    def send(self, method, parameters, form=False):
        text = urlencode(parameters, quote_via=quote)
        target, body = ("/", text) if form else (f"/?{text}", None)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        with closing(HTTPConnection(*self.sts.address, timeout=PATIENCE)) as connection:
            connection.request(method, target, body, headers)
            return oss_client.received(connection)

    def refusal(self, *arguments, **changes):
        reply = self.call(*arguments, **changes)
        return reply.status, json.loads(reply.body)["Code"]

    def assume(self, *arguments, **changes):
        """The issued temporary key."""
        reply = self.call(*arguments, **changes)
        self.assertEqual(reply.status, 200, reply.body)
        given = json.loads(reply.body)["Credentials"]
        return AccessKey(given["AccessKeyId"], given["AccessKeySecret"], "", token=given["SecurityToken"])

    def put(self, key):
        return oss_client.Client(key, self.server.port).put("a")


class Roles(Case):
    def test_temporary_key_opens_store(self):
        for method, form in ("GET", False), ("POST", False), ("POST", True):
            with self.subTest(method=method, form=form):
                key = self.assume(method=method, form=form)
                self.assertRegex(key.id, "^STS[.]")
                self.assertEqual(self.put(key).status, 200)
        self.assertEqual([call.status for call in self.sts.calls], [200] * 3)

    def test_sdk_assumes_role(self):
        client = AcsClient(self.key.id, self.key.secret, "cn-hangzhou", timeout=PATIENCE)
        for method in "GET", "POST":
            with self.subTest(method=method):
                given = json.loads(client.do_action_with_exception(self.sdk_request(method)))["Credentials"]
                key = AccessKey(given["AccessKeyId"], given["AccessKeySecret"], "", token=given["SecurityToken"])
                self.assertEqual(self.put(key).status, 200)

    def test_sdk_shows_refusal(self):
        client = AcsClient(self.key.id, "wrong", "cn-hangzhou", auto_retry=False)
        with self.assertRaises(ServerException) as refused:
            client.do_action_with_exception(self.sdk_request("POST"))
        # The SDK compares what was signed and then blames the secret.
        self.assertEqual(refused.exception.get_http_status(), 400)
        self.assertEqual(self.sts.calls[-1].code, "SignatureDoesNotMatch")

    def sdk_request(self, method):
        host = "{}:{}".format(*self.sts.address)
        request = CommonRequest(domain=host, version=sts.VERSION, action_name="AssumeRole")
        request.set_protocol_type("http")
        request.set_method(method)
        request.add_query_param("RoleArn", self.role.arn)
        request.add_query_param("RoleSessionName", "a@b.c")
        return request

    def test_answer_has_identity_and_expiration(self):
        said = json.loads(self.call(DurationSeconds="900").body)
        self.assertEqual(said["AssumedRoleUser"]["Arn"], f"acs:ram::{ACCOUNT}:assumed-role/writer/session")
        expiration = time.strptime(said["Credentials"]["Expiration"], "%Y-%m-%dT%H:%M:%SZ")
        self.assertAlmostEqual(time.mktime(expiration) - time.timezone, time.time() + 900, delta=5)

    def test_default_format_is_xml(self):
        reply = self.call(Format=None)
        given = ET.fromstring(reply.body).find("Credentials")
        key = AccessKey(given.findtext("AccessKeyId"), given.findtext("AccessKeySecret"), "")
        self.assertEqual(self.put(replace(key, token=given.findtext("SecurityToken"))).status, 200)
        reply = self.call(Format=None, RoleArn=role_arn(ACCOUNT, "nobody"))
        self.assertEqual((reply.status, reply.xml().findtext("Code")), (404, "EntityNotExist.Role"))

    def test_only_trusted_principals_assume_role(self):
        colleague = self.keys.add("colleague")
        self.assertEqual(self.refusal(colleague), NO_PERMISSION)
        self.role.trusts = (root_arn(ACCOUNT),)
        self.assertEqual(self.put(self.assume(colleague)).status, 200)
        self.assertEqual(self.refusal(self.keys.add("")), NO_PERMISSION)

    def test_role_opens_buckets_of_its_account(self):
        stranger = self.keys.add("stranger", OTHER_ACCOUNT)
        self.assertEqual(self.refusal(stranger), NO_PERMISSION)
        self.role.trusts = (root_arn(OTHER_ACCOUNT),)
        self.assertEqual(self.put(stranger).refusal(), (403, "AccessDenied"))
        self.assertEqual(self.put(self.assume(stranger)).status, 200)
        self.assertEqual(self.refusal(), NO_PERMISSION)

    def test_role_can_assume_role(self):
        first = self.assume()
        second = self.sts.add_role("second", [self.role.arn], OTHER_ACCOUNT)
        self.server.create_bucket(oss_client.BUCKET, OTHER_ACCOUNT)
        self.assertEqual(self.put(first).refusal(), (403, "AccessDenied"))
        self.assertEqual(self.put(self.assume(first, RoleArn=second.arn)).status, 200)
        self.assertEqual(self.refusal(RoleArn=second.arn), NO_PERMISSION)
        bare = replace(first, token="")
        self.assertEqual(self.refusal(bare, RoleArn=second.arn), (400, "MissingSecurityToken"))
        other = replace(first, token=self.assume().token)
        code = "InvalidSecurityToken.MismatchWithAccessKey"
        self.assertEqual(self.refusal(other, RoleArn=second.arn), (400, code))
        self.keys.expire(self.keys.find(first.id))
        self.assertEqual(self.refusal(first, RoleArn=second.arn), (400, "InvalidSecurityToken.Expired"))

    def test_role_can_require_external_id(self):
        self.role.external_id = "secret-1"
        self.assertEqual(self.refusal(), NO_PERMISSION)
        self.assertEqual(self.refusal(ExternalId="secret-2"), NO_PERMISSION)
        self.assume(ExternalId="secret-1")

    def test_role_can_be_denied(self):
        key = self.assume()
        self.server.deny(oss_client.BUCKET, self.role.arn)
        self.assertEqual(self.put(key).refusal(), (403, "AccessDenied"))
        self.assertEqual(self.put(self.key).status, 200)

    def test_short_lifetime_expires(self):
        self.role.lifetime = 0
        self.assertEqual(self.put(self.assume()).refusal(), (403, "SecurityTokenExpired"))


class Requests(Case):
    def test_names_wrong_parameters(self):
        self.role.longest = 1800
        for changes, status, code in [
            ({"RoleArn": None}, 400, "MissingRoleArn"),
            ({"RoleArn": "writer"}, 400, "InvalidParameter.RoleArn"),
            ({"RoleArn": role_arn(ACCOUNT, "nobody")}, 404, "EntityNotExist.Role"),
            ({"RoleSessionName": None}, 400, "MissingRoleSessionName"),
            ({"RoleSessionName": "a"}, 400, "InvalidParameter.RoleSessionName"),
            ({"RoleSessionName": "a b"}, 400, "InvalidParameter.RoleSessionName"),
            ({"DurationSeconds": "899"}, 400, "InvalidParameter.DurationSeconds"),
            ({"DurationSeconds": "1801"}, 400, "InvalidParameter.DurationSeconds"),
            ({"DurationSeconds": "x"}, 400, "InvalidParameter.DurationSeconds"),
            ({"Policy": "{}"}, 400, "InvalidParameter.Policy"),
            ({"Action": "GetCallerIdentity"}, 404, "InvalidAction.NotFound"),
            ({"Version": "2014-05-26"}, 400, "InvalidVersion"),
            ({"SignatureMethod": "HMAC-SHA256"}, 400, "InvalidSignatureMethod"),
            ({"SignatureVersion": "2.0"}, 400, "InvalidSignatureVersion"),
            ({"Timestamp": None}, 400, "MissingTimestamp"),
            ({"Timestamp": "yesterday"}, 400, "InvalidTimeStamp.Format"),
            ({"Timestamp": "2016-02-23T12:46:24Z"}, 400, "InvalidTimeStamp.Expired"),
            ({"SignatureNonce": None}, 400, "MissingSignatureNonce"),
            ({"AccessKeyId": "nobody"}, 404, "InvalidAccessKeyId.NotFound"),
            ({"Signature": "x"}, 400, "SignatureDoesNotMatch"),
            ({"Signature": "é"}, 400, "SignatureDoesNotMatch"),
        ]:
            with self.subTest(changes=changes):
                self.assertEqual(self.refusal(**changes), (status, code))
                self.assertEqual(self.sts.calls[-1].code, code)

    def test_rejects_changed_request(self):
        parameters = self.parameters(self.key)
        signed = {**parameters, "Signature": sts.signature("GET", parameters, self.key.secret)}
        for method, sent in [
            ("POST", signed),
            ("GET", {**signed, "DurationSeconds": "900"}),
            ("GET", {**signed, "RoleSessionName": "other"}),
        ]:
            reply = self.send(method, sent)
            self.assertEqual(json.loads(reply.body)["Code"], "SignatureDoesNotMatch")
        self.assertEqual(self.send("GET", signed).status, 200)
        self.assertEqual(json.loads(self.send("GET", signed).body)["Code"], "SignatureNonceUsed")

    def test_rejects_clock_skew(self):
        self.keys.ahead = 16 * 60
        self.assertEqual(self.refusal(), (400, "InvalidTimeStamp.Expired"))
