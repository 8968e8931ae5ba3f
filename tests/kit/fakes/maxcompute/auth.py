"""Signatures of requests to MaxCompute, versions 2 and 4, and security tokens."""

import base64
import hashlib
import hmac
import re
from email.utils import parsedate_to_datetime
from time import gmtime, strftime
from urllib.parse import unquote

from kit.fakes.maxcompute.refused import Refused

SKEW = 15 * 60
BARE = ("content-md5", "content-type", "date")
V2 = re.compile(r"ODPS ([^:/]+):(\S+)")
V4 = re.compile(r"ODPS ([^:/]+)/(\d{8})/([\w-]+)/odps/aliyun_v4_request:(\S+)")


def unauthorized(message):
    return Refused(401, "Unauthorized", message)


def authenticate(request, path, keys, region):
    """Returns the key that signed a request. `path` is without the endpoint's own. `region` is that of version 4."""
    authorization = request.headers.get("authorization", "")
    if match := V4.fullmatch(authorization):
        key_id, date, said, signature = match.groups()
        if said != region:
            raise unauthorized(f"The signature is of region {said}.")
        if date not in (strftime("%Y%m%d", gmtime(keys.now())), request_date(request, keys).strftime("%Y%m%d")):
            raise unauthorized("The signature is of another day.")
    elif match := V2.fullmatch(authorization):
        (key_id, signature), date, said = match.groups(), None, None
    else:
        raise unauthorized("The header Authorization is missing or has an unknown form.")
    request_date(request, keys)
    key = keys.find(key_id)
    if key is None:
        raise Refused(403, "InvalidAccessKeyId", f"The access key {key_id} does not exist.")
    if key.expires <= keys.now():
        raise unauthorized("The security token has expired.")
    if request.headers.get("authorization-sts-token", "") != key.token:
        raise unauthorized("The security token is missing or wrong.")
    expected = sign(string_to_sign(request, path), key.secret, date, said)
    if not hmac.compare_digest(expected, signature):
        raise unauthorized("The request signature we calculated does not match the signature you provided.")
    return key


def request_date(request, keys):
    try:
        date = parsedate_to_datetime(request.headers["date"])
    except (KeyError, ValueError):
        raise unauthorized("The header Date is missing or no date.") from None
    if abs(date.timestamp() - keys.now()) > SKEW:
        raise unauthorized("The request's date is too far from the server's time.")
    return date


def string_to_sign(request, path):
    query = [parameter.partition("=") for parameter in request.target.partition("?")[2].split("&") if parameter]
    query = sorted((unquote(name), unquote(value)) for name, _, value in query)
    lines = {name: request.headers.get(name, "") for name in BARE}
    lines |= {name: f"{name}:{value}" for name, value in request.headers.items() if name.startswith("x-odps-")}
    lines |= {name: f"{name}:{value}" for name, value in query if name.startswith("x-odps-")}
    resource = unquote(path)
    if query:
        resource += "?" + "&".join(f"{name}={value}" if value else name for name, value in query)
    return "\n".join([request.method, *(lines[name] for name in sorted(lines)), resource])


def sign(text, secret, date=None, region=None):
    key = secret.encode()
    if region:
        key = b"aliyun_v4" + key
        for part in (date, region, "odps", "aliyun_v4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha1).digest()).decode()
