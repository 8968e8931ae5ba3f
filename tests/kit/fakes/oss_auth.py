"""Authentication of requests to OSS: signatures of version 1 and 4 in the header Authorization."""

import base64
import calendar
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from urllib.parse import quote

# Seconds by which the clocks may differ.
SKEW = 15 * 60
V1, V4 = "OSS", "OSS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
# Parameters that version 1 signs. It leaves out all others, such as prefix and max-keys.
SUBRESOURCES = frozenset(
    """
    accessPoint accessPointPolicy acl append asyncFetch bucketArchiveDirectRead bucketInfo callback callback-var cname
    comp continuation-token cors delete encryption endTime group httpsConfig img inventory inventoryId lifecycle link
    live location logging metaQuery objectInfo objectMeta partNumber policy position publicAccessBlock qos qosInfo
    qosRequester redundancyTransition referer regionList replication replicationLocation replicationProgress
    requestPayment requesterQosInfo resourceGroup resourcePool resourcePoolBuckets resourcePoolInfo
    response-cache-control response-content-disposition response-content-encoding response-content-language
    response-content-type response-expires restore security-token sequential startTime stat status style styleName
    symlink tagging transferAcceleration uploadId uploads versionId versioning versions vod website worm wormExtend
    wormId x-oss-access-point-name x-oss-async-process x-oss-process x-oss-redundancy-transition-taskid
    x-oss-request-payer x-oss-target-redundancy-type x-oss-traffic-limit x-oss-write-get-object-response
    """.split()
)


class Refused(Exception):
    """An error as the store tells it. `more` are further elements of the error's XML."""

    def __init__(self, status, code, message, **more):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.more = status, code, message, more


@dataclass
class Request:
    """A request, with all escapes undone and names of headers in lower case."""

    method: str
    bucket: str = ""
    key: str = ""
    query: list = field(default_factory=list)
    headers: dict = field(default_factory=dict)

    def header(self, name):
        return self.headers.get(name, "")

    def path(self):
        return f"/{self.bucket}/{self.key}" if self.bucket else "/"

    def time(self):
        return self.header("x-oss-date") or self.header("date")

    def canonical_headers(self, others=()):
        names = sorted(name for name in self.headers if name.startswith("x-oss-") or name in others)
        # Bytes of a header are kept as characters of Latin-1.
        return b"".join(f"{name}:{self.headers[name].strip()}\n".encode("latin-1") for name in names)


def string_to_sign_v1(request):
    kept = sorted((name, value) for name, value in request.query if name in SUBRESOURCES)
    resource = request.path() + ("?" + _joined(kept) if kept else "")
    lines = [request.method, request.header("content-md5"), request.header("content-type"), request.time(), ""]
    return "\n".join(lines).encode("latin-1") + request.canonical_headers() + resource.encode()


def signature_v1(secret, request):
    return base64.b64encode(hmac.digest(secret.encode(), string_to_sign_v1(request), "sha1")).decode()


def canonical_request_v4(request, additional=()):
    query = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in request.query)
    head = f"{request.method}\n{quote(request.path(), safe='/')}\n{_joined(query)}\n"
    headers = request.canonical_headers({"content-type", "content-md5", *additional})
    return head.encode() + headers + f"\n{';'.join(additional)}\n{request.header('x-oss-content-sha256')}".encode()


def string_to_sign_v4(request, scope, additional=()):
    digest = hashlib.sha256(canonical_request_v4(request, additional)).hexdigest()
    return "\n".join([V4, request.time(), scope, digest]).encode()


def signing_key_v4(secret, scope):
    key = b"aliyun_v4" + secret.encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def signature_v4(secret, request, scope, additional=()):
    text = string_to_sign_v4(request, scope, additional)
    return hmac.digest(signing_key_v4(secret, scope), text, "sha256").hex()


def authenticate(request, keys, region):
    """The key that a request is signed by. Raises `Refused`, where it is signed by none."""
    version, _, rest = request.header("authorization").partition(" ")
    if not version:
        raise Refused(403, "AccessDenied", "Anonymous access is forbidden for this operation.")
    if version == V1:
        key = _check_v1(request, rest, keys)
    elif version == V4:
        key = _check_v4(request, rest, keys, region)
    else:
        raise Refused(400, "InvalidArgument", "Authorization header is invalid.")
    _check_token(request, key, keys)
    return key


def _check_v1(request, rest, keys):
    key_id, colon, signature = rest.partition(":")
    if not colon or not key_id:
        raise Refused(400, "InvalidArgument", "Authorization header is invalid.")
    key = _find(key_id, keys)
    moment = parsedate_tz(request.time())
    _check_time(moment and request.time().endswith("GMT") and mktime_tz(moment), keys)
    _compare(signature, signature_v1(key.secret, request), key, StringToSign=string_to_sign_v1(request))
    return key


def _check_v4(request, rest, keys, region):
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    key_id, _, scope = fields.get("Credential", "").partition("/")
    additional = [name for name in fields.get("AdditionalHeaders", "").split(";") if name]
    if not key_id or "Signature" not in fields or additional != sorted(map(str.lower, additional)):
        raise Refused(400, "InvalidArgument", "Authorization header is invalid.")
    if request.header("x-oss-content-sha256") != UNSIGNED:
        raise Refused(400, "InvalidArgument", f"x-oss-content-sha256 must be {UNSIGNED}.")
    key = _find(key_id, keys)
    _check_time(_iso(request.time()), keys)
    if scope != f"{request.time()[:8]}/{region}/oss/aliyun_v4_request":
        raise Refused(400, "InvalidArgument", f"Invalid signing scope in Authorization header: {scope}")
    _compare(
        fields["Signature"],
        signature_v4(key.secret, request, scope, additional),
        key,
        StringToSign=string_to_sign_v4(request, scope, additional),
        CanonicalRequest=canonical_request_v4(request, additional),
    )
    return key


def _check_token(request, key, keys):
    given = request.header("x-oss-security-token")
    if key.token and not given:
        raise _unknown(key.id)
    if given != key.token:
        raise Refused(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if keys.now() >= key.expires:
        raise Refused(403, "SecurityTokenExpired", "The security token you provided has expired.")


def _find(key_id, keys):
    key = keys.find(key_id)
    if key is None:
        raise _unknown(key_id)
    return key


def _unknown(key_id):
    message = "The OSS Access Key Id you provided does not exist in our records."
    return Refused(403, "InvalidAccessKeyId", message, OSSAccessKeyId=key_id)


def _check_time(moment, keys):
    if not moment:
        raise Refused(403, "AccessDenied", "OSS authentication requires a valid Date.")
    if abs(moment - keys.now()) > SKEW:
        message = "The difference between the request time and the current time is too large."
        raise Refused(403, "RequestTimeTooSkewed", message, MaxAllowedSkewMilliseconds=str(SKEW * 1000))


def _compare(given, calculated, key, **texts):
    if not hmac.compare_digest(given.encode(), calculated.encode()):
        message = "The request signature we calculated does not match the signature you provided."
        more = {name: text.decode("utf-8", "replace") for name, text in texts.items()}
        raise Refused(403, "SignatureDoesNotMatch", message, OSSAccessKeyId=key.id, SignatureProvided=given, **more)


def _iso(text):
    try:
        return calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


def _joined(pairs):
    return "&".join(f"{name}={value}" if value else name for name, value in pairs)
