"""A fake of Alibaba Cloud OSS, as strict about signatures as the original."""

import base64
import hashlib
import ipaddress
import re
import secrets
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from email.utils import formatdate
from time import gmtime, strftime, time
from urllib.parse import quote, unquote

from kit import names
from kit.fakes.http import Answer
from kit.fakes.http import Server as HttpServer
from kit.fakes.keys import ACCOUNT
from kit.fakes.oss_auth import Refused, Request, authenticate

DOMAIN = names.OSS
REGION = "cn-local"
SMALLEST_PART = 100 << 10
MOST_PARTS = 10_000
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# Headers that an object keeps, besides its own.
KEPT = "content-type content-encoding content-disposition content-language cache-control expires x-oss-storage-class"
OWN = "x-oss-meta-"
# Parameters that choose no operation.
OPTIONS = {"prefix", "delimiter", "max-keys", "start-after", "continuation-token", "encoding-type", "fetch-owner"}
WRITES = frozenset(
    "PutObject DeleteObject InitiateMultipartUpload UploadPart CompleteMultipartUpload AbortMultipartUpload".split()
)
_operations = {}


@dataclass
class Object:
    """An object. Names of headers are in lower case."""

    body: bytes
    headers: dict = field(default_factory=dict)
    etag: str = ""
    kind: str = "Normal"
    modified: float = 0.0

    @property
    def meta(self):
        """Its metadata, from headers x-oss-meta-*."""
        return {name[len(OWN) :]: value for name, value in self.headers.items() if name.startswith(OWN)}


class Bucket(dict):
    """Objects by their keys."""

    def __init__(self, account=ACCOUNT, domain=None):
        super().__init__()
        self.account = account
        # The domain of the bucket's region, if that is another one.
        self.domain = domain


@dataclass
class Upload:
    """An open multipart upload. `parts` are bytes, by number."""

    bucket: str
    key: str
    headers: dict
    parts: dict = field(default_factory=dict)


@dataclass
class Call:
    """A request and its outcome: `code` is empty if it was granted."""

    operation: str
    bucket: str
    key: str
    status: int
    code: str
    access_key_id: str


class Server(HttpServer):
    """The store. Tests may read and change `buckets` and `uploads` at any time."""

    software = "AliyunOSS"
    # Objects are large.
    records = False

    def __init__(self, keys, domain=DOMAIN, region=REGION, path_style=False):
        self.keys = keys
        self.domain = domain
        self.region = region
        # The cloud rejects path style. With it, tests need no name resolution.
        self.path_style = path_style
        self.buckets = {}
        self.uploads = {}
        self.calls = []
        self._denied = set()
        super().__init__()

    @property
    def endpoint(self):
        return f"http://{self.domain}:{self.port}"

    def create_bucket(self, name, account=ACCOUNT, domain=None):
        """A new bucket for keys of its account. `domain` is the domain of another region."""
        bucket = self.buckets[name] = Bucket(account, domain)
        return bucket

    def deny(self, bucket, who, operations=WRITES):
        """Denies operations to a key, given by its id, or to a user or role, given by its ARN."""
        self._denied |= {(bucket, who, operation) for operation in operations}

    def allow(self, bucket, who):
        """Undoes what `deny` did."""
        self._denied = {denied for denied in self._denied if denied[:2] != (bucket, who)}

    def count(self, operation, status=None):
        """Counts requests for an operation; with a status, only those with that answer."""
        calls = list(self.calls)
        return sum(call.operation == operation and status in (None, call.status) for call in calls)

    def answer(self, received):
        method, headers, body = received.method, received.headers, received.body
        request, request_id = Request(method, headers=headers), secrets.token_hex(12).upper()
        name = code = key_id = ""
        try:
            self._locate(request, received.target)
            name, operation = _chosen(request)
            access = authenticate(request, self.keys, self.region)
            key_id = access.id
            with self.lock:
                answer = operation(self, self._open(name, request, access), request, body)
        except Refused as refused:
            code = refused.code
            answer = _refusal(refused, method, request_id, headers.get("host", ""))
        answer.headers["x-oss-request-id"] = request_id
        self.calls.append(Call(name, request.bucket, request.key, answer.status, code, key_id))
        return answer

    def _locate(self, request, target):
        """Sets the bucket and the key of a request."""
        path, _, query = target.partition("?")
        host = request.header("host").partition(":")[0].lower()
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        try:
            request.query = [(unquote(name), unquote(value)) for name, _, value in pairs]
            path = unquote(path, errors="strict").removeprefix("/")
        except UnicodeDecodeError:
            raise Refused(400, "InvalidObjectName", "The specified object is not valid.") from None
        if host.endswith(f".{self.domain}"):
            request.bucket, request.key = host.removesuffix(f".{self.domain}"), path
        elif _is_address(host) and self.path_style:
            request.bucket, _, request.key = path.partition("/")
        elif _is_address(host) or host == self.domain:
            raise Refused(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
        else:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=host)
        if not BUCKET_NAME.fullmatch(request.bucket):
            raise Refused(400, "InvalidBucketName", "The specified bucket is not valid.", BucketName=request.bucket)
        if request.key.startswith(("/", "\\")) or len(request.key.encode()) > 1023:
            raise Refused(400, "InvalidObjectName", "The specified object is not valid.", ObjectName=request.key)

    def _open(self, operation, request, access):
        """The bucket, if the holder of a key may do that there."""
        bucket = self.buckets.get(request.bucket)
        if bucket is None:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=request.bucket)
        if elsewhere := getattr(bucket, "domain", None):
            message = "The bucket you are attempting to access must be addressed using the specified endpoint."
            raise Refused(403, "AccessDenied", message, Endpoint=elsewhere)
        if access.account != getattr(bucket, "account", ACCOUNT):
            raise Refused(403, "AccessDenied", "The bucket you access does not belong to you.")
        if any((request.bucket, who, operation) in self._denied for who in access.names()):
            raise Refused(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
        return bucket

    def _upload(self, request):
        upload_id = dict(request.query)["uploadId"]
        upload = self.uploads.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (request.bucket, request.key):
            message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been"
            raise Refused(404, "NoSuchUpload", f"{message} aborted or completed.", UploadId=upload_id)
        return upload_id, upload


def operation(name, method, on="object", query=()):
    """Registers the function that answers an operation."""

    def register(function):
        _operations[method, on, frozenset(query)] = name, function
        return function

    return register


@operation("PutObject", "PUT")
def put_object(_server, bucket, request, body):
    _check_digest(request, body)
    _check_free(bucket, request)
    etag = _md5(body)
    bucket[request.key] = _object(request.headers, body, etag, "Normal")
    return Answer(200, headers={"ETag": etag, "Content-MD5": base64.b64encode(bytes.fromhex(etag[1:-1])).decode()})


@operation("GetObject", "GET")
@operation("HeadObject", "HEAD")
@operation("GetObjectMeta", "HEAD", query=["objectMeta"])
def get_object(_server, bucket, request, _body):
    found = _found(bucket, request)
    headers = {
        **found.headers,
        **{"ETag": found.etag, "Last-Modified": formatdate(found.modified, usegmt=True)},
        **{"Accept-Ranges": "bytes", "x-oss-object-type": found.kind},
    }
    asked = _range(request, len(found.body))
    if asked is None:
        return Answer(200, found.body, headers)
    first, last = asked
    headers["Content-Range"] = f"bytes {first}-{last}/{len(found.body)}"
    return Answer(206, found.body[first : last + 1], headers)


@operation("DeleteObject", "DELETE")
def delete_object(_server, bucket, request, _body):
    bucket.pop(request.key, None)
    return Answer(204)


@operation("ListObjectsV2", "GET", "bucket", ["list-type"])
def list_objects(_server, bucket, request, _body):
    query = dict(request.query)
    most = query.get("max-keys") or "100"
    if query["list-type"] != "2" or not most.isdecimal() or not 1 <= int(most) <= 1000:
        raise Refused(400, "InvalidArgument", "The list-type or max-keys is invalid.")
    if query.get("delimiter"):
        raise Refused(501, "NotImplemented", "Delimiters are not known here.")
    after = query.get("start-after", "")
    if token := query.get("continuation-token"):
        after = _from_token(token)
    prefix = query.get("prefix", "")
    keys = sorted(key for key in bucket if key.startswith(prefix) and key > after)
    page, rest = keys[: int(most)], keys[int(most) :]
    encoding = query.get("encoding-type", "")
    name = quote if encoding == "url" else str
    fields = {"Name": request.bucket, "Prefix": name(prefix), "MaxKeys": most, "EncodingType": encoding}
    fields |= {"IsTruncated": "true" if rest else "false", "KeyCount": str(len(page))}
    if rest:
        fields["NextContinuationToken"] = base64.b64encode(page[-1].encode()).decode()
    listed = [ET.Element("Contents") for _ in page]
    for element, key in zip(listed, page):
        _fill(element, _listing(name(key), bucket[key]))
    return _xml("ListBucketResult", fields, listed)


@operation("InitiateMultipartUpload", "POST", query=["uploads"])
def initiate_upload(server, bucket, request, _body):
    _check_free(bucket, request)
    upload_id = secrets.token_hex(16).upper()
    server.uploads[upload_id] = Upload(request.bucket, request.key, request.headers)
    fields = {"Bucket": request.bucket, "Key": request.key, "UploadId": upload_id}
    return _xml("InitiateMultipartUploadResult", fields)


@operation("UploadPart", "PUT", query=["partNumber", "uploadId"])
def upload_part(server, _bucket, request, body):
    number = dict(request.query)["partNumber"]
    if not number.isdecimal() or not 1 <= int(number) <= MOST_PARTS:
        raise Refused(400, "InvalidArgument", f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive.")
    _, upload = server._upload(request)
    _check_digest(request, body)
    upload.parts[int(number)] = body
    return Answer(200, headers={"ETag": _md5(body)})


@operation("CompleteMultipartUpload", "POST", query=["uploadId"])
def complete_upload(server, bucket, request, body):
    upload_id, upload = server._upload(request)
    parts = [_part(upload, number, etag) for number, etag in _part_list(body)]
    if any(len(part) < SMALLEST_PART for part in parts[:-1]):
        raise Refused(400, "EntityTooSmall", "Your proposed upload smaller than the minimum allowed size.")
    _check_free(bucket, request)
    whole = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest().upper()
    found = _object(upload.headers, b"".join(parts), f'"{whole}-{len(parts)}"', "Multipart")
    bucket[request.key] = found
    del server.uploads[upload_id]
    fields = {"Bucket": request.bucket, "Key": request.key, "ETag": found.etag}
    return _xml("CompleteMultipartUploadResult", fields)


@operation("AbortMultipartUpload", "DELETE", query=["uploadId"])
def abort_upload(server, _bucket, request, _body):
    upload_id, _ = server._upload(request)
    del server.uploads[upload_id]
    return Answer(204)


def _chosen(request):
    on = "object" if request.key else "bucket"
    names = frozenset(name for name, _ in request.query) - OPTIONS
    chosen = _operations.get((request.method, on, names))
    if chosen is None or "x-oss-copy-source" in request.headers:
        message = f"{request.method} of a {on} with {sorted(names)} is not known here."
        raise Refused(501, "NotImplemented", message)
    return chosen


def _object(headers, body, etag, kind):
    kept = {name: value for name, value in headers.items() if name in KEPT.split() or name.startswith(OWN)}
    defaults = {"content-type": "application/octet-stream", "x-oss-storage-class": "Standard"}
    # Whole seconds, as in headers.
    return Object(body, {**defaults, **kept}, etag, kind, int(time()))


def _found(bucket, request):
    if request.key not in bucket:
        raise Refused(404, "NoSuchKey", "The specified key does not exist.", Key=request.key)
    return bucket[request.key]


def _check_free(bucket, request):
    if request.header("x-oss-forbid-overwrite").lower() == "true" and request.key in bucket:
        message = "The object you specified already exists and can not be overwritten."
        raise Refused(409, "FileAlreadyExists", message)


def _check_digest(request, body):
    given = request.header("content-md5")
    if given and given != base64.b64encode(hashlib.md5(body).digest()).decode():
        raise Refused(400, "InvalidDigest", "The Content-MD5 you specified was invalid.", **{"Content-MD5": given})


def _md5(body):
    return f'"{hashlib.md5(body).hexdigest().upper()}"'


def _range(request, size):
    """First and last byte that are asked for. None, for all: also where a range makes no sense, unless the client wants
    that refused, as the standard says."""
    text = request.header("range")
    match = RANGE.fullmatch(text)
    first, last = match.groups() if match else ("", "")
    if first:
        asked = int(first), min(int(last or size), size - 1)
    else:
        asked = max(size - int(last or 0), 0), size - 1
    if asked[0] <= asked[1]:
        return asked
    if text and request.header("x-oss-range-behavior") == "standard":
        raise Refused(416, "InvalidRange", "The requested range cannot be satisfied.", RangeRequested=text)
    return None


def _from_token(token):
    try:
        return base64.b64decode(token, validate=True).decode()
    except ValueError:
        raise Refused(400, "InvalidArgument", "The continuation token is invalid.") from None


def _part_list(body):
    """Numbers and ETags, in order."""
    try:
        parts = [(int(part.findtext("PartNumber")), part.findtext("ETag")) for part in ET.fromstring(body).iter("Part")]
    except (ET.ParseError, TypeError, ValueError):
        parts = []
    if not parts:
        raise Refused(400, "MalformedXML", "The XML you provided was not well-formed or did not validate.")
    numbers = [number for number, _ in parts]
    if numbers != sorted(set(numbers)):
        raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    return parts


def _part(upload, number, etag):
    part = upload.parts.get(number)
    if part is None or (etag or "").strip('"').upper() != _md5(part).strip('"'):
        message = "One or more of the specified parts could not be found or the specified entity tag might not have"
        raise Refused(400, "InvalidPart", f"{message} matched the part's entity tag.", PartNumber=str(number))
    return part


def _listing(key, found):
    modified = strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(found.modified))
    sizes = {"Size": str(len(found.body)), "StorageClass": found.headers.get("x-oss-storage-class", "Standard")}
    return {"Key": key, "LastModified": modified, "ETag": found.etag, "Type": found.kind, **sizes}


def _refusal(refused, method, request_id, host):
    fields = {"Code": refused.code, "Message": refused.message, "RequestId": request_id, "HostId": host}
    answer = _xml("Error", {**fields, **refused.more}, status=refused.status)
    if method == "HEAD":
        answer = Answer(refused.status, headers={"x-oss-err": base64.b64encode(answer.body).decode()})
    return answer


def _xml(name, fields, elements=(), status=200):
    root = ET.Element(name)
    _fill(root, fields)
    root.extend(elements)
    return Answer(status, ET.tostring(root, "utf-8", xml_declaration=True), {"Content-Type": "application/xml"})


def _fill(element, fields):
    for name, value in fields.items():
        ET.SubElement(element, name).text = value


def _is_address(host):
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
