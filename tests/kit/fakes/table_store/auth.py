"""Signatures of requests, version 2 and 4, and of answers."""

import base64
import hashlib
import hmac
from calendar import timegm
from time import gmtime, strftime, strptime, time

from kit.fakes.table_store.answers import Refused

PREFIX = "x-ots-"
DATE = "%Y-%m-%dT%H:%M:%S.000Z"
LARGEST_SKEW = 15 * 60
NEEDED = ("date", "apiversion", "accesskeyid", "instancename", "contentmd5")


def digest(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def authenticate(request, keys, instance, region):
    """Checks a request's headers. Returns the key of its answer's signature, and the access key."""
    headers = {name: value for name, value in request.headers.items() if name.startswith(PREFIX)}
    if missing := [name for name in NEEDED if PREFIX + name not in headers]:
        raise Refused("OTSParameterInvalid", f"Missing header: {PREFIX}{missing[0]}.")
    if headers["x-ots-apiversion"] != "2015-12-31":
        raise Refused("OTSParameterInvalid", "Invalid API version.")
    if headers["x-ots-contentmd5"] != digest(request.body):
        raise Refused("OTSAuthFailed", "Mismatch between MD5 value of request body and x-ots-contentmd5 in header.")
    _check_date(headers["x-ots-date"])
    access = keys.find(headers["x-ots-accesskeyid"])
    if access is None:
        raise Refused("OTSAuthFailed", "The AccessKeyID does not exist.")
    if headers.get("x-ots-ststoken", "") != access.token or access.expires < keys.now():
        raise Refused("OTSAuthFailed", "The STS token is invalid or expired.")
    signing_key = _check_signature(request, headers, access, region)
    if headers["x-ots-instancename"] != instance:
        raise Refused("OTSAuthFailed", "The instance is not found.")
    return signing_key, access


def sign_answer(path, headers, key_id, signing_key):
    """The header Authorization of an answer."""
    text = _lines(headers) + "\n" + path
    return f"OTS {key_id}:{_base64(signing_key, text, hashlib.sha1)}"


def now():
    return strftime(DATE, gmtime())


def _check_date(date):
    try:
        seconds = timegm(strptime(date, DATE))
    except ValueError:
        raise Refused("OTSParameterInvalid", "Invalid date format.") from None
    if abs(time() - seconds) > LARGEST_SKEW:
        message = "The difference between system time and x-ots-date is more than 15 minutes."
        raise Refused("OTSAuthFailed", message)


def _check_signature(request, headers, access, region):
    given = {name: headers.pop(PREFIX + name, None) for name in ("signature", "signaturev4")}
    path, _, query = request.target.partition("?")
    text = f"{path}\nPOST\n{query}\n{_lines(headers)}\n"
    key = access.secret.encode()
    if given["signaturev4"] is not None:
        if headers.get("x-ots-signregion") != region:
            raise Refused("OTSAuthFailed", "Invalid region.")
        key = _key_v4(access.secret, headers.get("x-ots-signdate", ""), region)
        expected, signature = _base64(key, text + "ots", hashlib.sha256), given["signaturev4"]
    elif given["signature"] is not None:
        expected, signature = _base64(key, text, hashlib.sha1), given["signature"]
    else:
        raise Refused("OTSParameterInvalid", "Missing header: x-ots-signature.")
    if not hmac.compare_digest(expected, signature):
        raise Refused("OTSAuthFailed", "Signature mismatch.")
    return key


def _key_v4(secret, date, region):
    if date not in (strftime("%Y%m%d", gmtime()), strftime("%Y%m%d", gmtime(time() - 86400))):
        raise Refused("OTSAuthFailed", "The sign date is invalid.")
    key = f"aliyun_v4{secret}".encode()
    for part in date, region, "ots", "aliyun_v4_request":
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return base64.b64encode(key)


def _lines(headers):
    lines = [f"{name}:{value.strip()}" for name, value in headers.items() if name.startswith(PREFIX)]
    return "\n".join(sorted(lines))


def _base64(key, text, method):
    return base64.b64encode(hmac.new(key, text.encode(), method).digest()).decode()
