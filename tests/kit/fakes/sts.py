"""A local token service of Alibaba Cloud (STS): AssumeRole, with signed requests in the style RPC."""

import base64
import calendar
import hmac
import json
import re
import secrets
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

from kit.fakes.http import Answer
from kit.fakes.http import Server as HttpServer
from kit.fakes.keys import ACCOUNT, role_arn, root_arn

VERSION = "2015-04-01"
SKEW = 15 * 60
SHORTEST = 900
COMMON = ["Action", "Version", "AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce"]
ARN = re.compile(r"acs:ram::\d+:role/[\w.-]+")
SESSION_NAME = re.compile(r"[A-Za-z0-9.@_-]{2,64}")


class Refused(Exception):
    def __init__(self, status, code, message):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


@dataclass
class Role:
    """A role. `trusts` are ARNs of who may assume it. `lifetime`, if given, is how many seconds its keys last, whatever
    was asked for: tests can't wait for the quarter of an hour that is the least."""

    arn: str
    trusts: tuple
    external_id: str = ""
    longest: int = 3600
    lifetime: float | None = None


@dataclass
class Call:
    """A request and its outcome: `code` is empty if it was granted."""

    parameters: dict
    status: int
    code: str = ""


class Server(HttpServer):
    """Issues temporary keys to all servers with its keyring."""

    def __init__(self, keys):
        self.keys = keys
        self.roles = {}
        self.calls = []
        self._nonces = set()
        super().__init__()

    @property
    def endpoint(self):
        return self.url

    def add_role(self, name, trusts, account=ACCOUNT, **more):
        """A new role, of any account. `trusts` are ARNs of users, of roles or, for all of an account, of its root."""
        role = Role(role_arn(account, name), tuple(trusts), **more)
        self.roles[role.arn] = role
        return role

    def answer(self, request):
        method, headers = request.method, request.headers
        parameters, code = {}, ""
        request_id = secrets.token_hex(16).upper()
        try:
            parameters = _parameters(method, request.target, headers, request.body)
            status, said = 200, self._assume_role(parameters, self._caller(method, parameters))
        except Refused as refused:
            status, code = refused.status, refused.code
            said = {"HostId": headers.get("host", ""), "Code": code, "Message": refused.message}
        with self.lock:
            self.calls.append(Call(parameters, status, code))
        said["RequestId"] = request_id
        return _rendered(status, said, parameters.get("Format", "XML"))

    def _caller(self, method, parameters):
        """The key that a request is signed by."""
        for name in [*COMMON, "Timestamp"]:
            if not parameters.get(name):
                raise Refused(400, f"Missing{name}", f"{name} is mandatory for this action.")
        self._check_constants(parameters)
        key = self.keys.find(parameters["AccessKeyId"])
        if key is None:
            raise Refused(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        self._check_time(parameters["Timestamp"])
        calculated = signature(method, parameters, key.secret)
        if not hmac.compare_digest(parameters["Signature"].encode(), calculated.encode()):
            text = string_to_sign(method, parameters)
            message = f"Specified signature is not matched with our calculation. server string to sign is:{text}"
            raise Refused(400, "SignatureDoesNotMatch", message)
        self._check_nonce(key.id, parameters["SignatureNonce"])
        self._check_token(parameters.get("SecurityToken", ""), key)
        return key

    def _check_constants(self, parameters):
        if parameters["Action"] != "AssumeRole":
            raise Refused(404, "InvalidAction.NotFound", "Specified api is not found.")
        if parameters["Version"] != VERSION:
            raise Refused(400, "InvalidVersion", "Specified parameter Version is not valid.")
        if parameters["SignatureMethod"] != "HMAC-SHA1":
            raise Refused(400, "InvalidSignatureMethod", "Specified signature method is not valid.")
        if parameters["SignatureVersion"] != "1.0":
            raise Refused(400, "InvalidSignatureVersion", "Specified signature version is not valid.")

    def _check_time(self, text):
        try:
            moment = calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
        except ValueError:
            raise Refused(
                400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."
            ) from None
        if abs(moment - self.keys.now()) > SKEW:
            raise Refused(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")

    def _check_nonce(self, key_id, nonce):
        with self.lock:
            if (key_id, nonce) in self._nonces:
                raise Refused(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
            self._nonces.add((key_id, nonce))

    def _check_token(self, given, key):
        if key.token and not given:
            raise Refused(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
        if given != key.token:
            message = "Specified SecurityToken mismatch with the AccessKey."
            raise Refused(400, "InvalidSecurityToken.MismatchWithAccessKey", message)
        if self.keys.now() >= key.expires:
            raise Refused(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")

    def _assume_role(self, parameters, caller):
        arn = _required(parameters, "RoleArn", ARN)
        session = _required(parameters, "RoleSessionName", SESSION_NAME)
        role = self.roles.get(arn)
        if role is None:
            raise Refused(404, "EntityNotExist.Role", f"The specified Role not exists: {arn}.")
        self._check_trust(role, caller, parameters.get("ExternalId", ""))
        seconds = _duration(parameters.get("DurationSeconds", str(min(3600, role.longest))), role)
        if parameters.get("Policy"):
            raise Refused(400, "InvalidParameter.Policy", "Policies of sessions are not known here.")
        key = self.keys.issue(arn, session, seconds if role.lifetime is None else role.lifetime)
        expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(key.expires))
        credentials = {"AccessKeyId": key.id, "AccessKeySecret": key.secret, "SecurityToken": key.token}
        return {
            "AssumedRoleUser": {"AssumedRoleId": f"300000000000000001:{session}", "Arn": key.principal},
            "Credentials": {**credentials, "Expiration": expiration},
        }

    def _check_trust(self, role, caller, external_id):
        if caller.principal == root_arn(caller.account):
            raise Refused(403, "NoPermission", "Roles may not be assumed by root accounts.")
        trusted = {*caller.names(), root_arn(caller.account)} & set(role.trusts)
        if not trusted or (role.external_id and external_id != role.external_id):
            message = "You are not authorized to do this action. You should be authorized by RAM."
            raise Refused(403, "NoPermission", message)


def string_to_sign(method, parameters):
    pairs = sorted((name, value) for name, value in parameters.items() if name != "Signature")
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"{method}&%2F&{quote(query, safe='')}"


def signature(method, parameters, secret):
    text = string_to_sign(method, parameters)
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), text.encode(), "sha1")).decode()


def _parameters(method, target, headers, body):
    path, _, query = target.partition("?")
    if method not in ("GET", "POST") or path not in ("/", ""):
        raise Refused(404, "InvalidAction.NotFound", "Specified api is not found.")
    pairs = parse_qsl(query, keep_blank_values=True)
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return dict(pairs)


def _required(parameters, name, pattern):
    value = parameters.get(name)
    if not value:
        raise Refused(400, f"Missing{name}", f"{name} is mandatory for this action.")
    if not pattern.fullmatch(value):
        raise Refused(400, f"InvalidParameter.{name}", f"The parameter {name} is wrongly formed.")
    return value


def _duration(text, role):
    if not text.isdecimal() or not SHORTEST <= int(text) <= role.longest:
        message = f"The Min/Max value of DurationSeconds is {SHORTEST}/{role.longest}."
        raise Refused(400, "InvalidParameter.DurationSeconds", message)
    return int(text)


def _rendered(status, said, form):
    if form.upper() == "JSON":
        return Answer(status, json.dumps(said).encode(), {"Content-Type": "application/json;charset=utf-8"})
    name = "AssumeRoleResponse" if status == 200 else "Error"
    text = f"<?xml version='1.0' encoding='UTF-8'?><{name}>{_xml(said)}</{name}>"
    return Answer(status, text.encode(), {"Content-Type": "text/xml;charset=utf-8"})


def _xml(said):
    return "".join(
        f"<{name}>{_xml(value) if isinstance(value, dict) else escape(value)}</{name}>" for name, value in said.items()
    )
