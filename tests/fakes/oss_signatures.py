"""What OSS does with a signature: computes its own from what it was asked for, and compares.

Written from its documentation: "Include a V4 signature in the Authorization header", and the same for V1.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

REGION = "cn-hangzhou"

_SUBRESOURCES = {"acl", "bucketInfo", "continuation-token", "location", "objectMeta", "restore", "symlink", "versionId"}


class Key(NamedTuple):
    """The secret of an AccessKey, and for a temporary one the token it needs and when that is over [s since 1970]."""

    secret: str
    token: str = ""
    until: float = float("inf")


class Asked(NamedTuple):
    """A request: path and query decoded, headers by lower-case name."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


class Refused(Exception):
    """An answer that is an error. Source: OSS, "Error responses"."""

    def __init__(self, status: int, code: str, message: str, extra: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.extra = status, code, message, extra


def check(keys: Mapping[str, Key], asked: Asked, *, public: bool) -> int:
    """Check who asks; return the version of the signature, 0 for a stranger in a public bucket."""
    headers = asked.headers
    authorization = headers.get("authorization", "")
    if not authorization and public:
        return 0
    if not authorization:
        raise Refused(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
    if authorization.startswith("OSS4-HMAC-SHA256 "):
        return _check_v4(keys, asked)
    key_id, _, signature = authorization.removeprefix("OSS ").partition(":")
    known = _known(keys, key_id, headers)
    _check_time(parsedate_to_datetime(headers.get("date", "")).timestamp())
    own = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-oss-"))
    chosen = sorted((name, value) for name, value in asked.query.items() if name in _SUBRESOURCES)
    resource = f"/{asked.bucket}/{asked.key}" + ("?" if chosen else "")
    resource += "&".join(f"{name}={value}" if value else name for name, value in chosen)
    parts = [
        asked.method,
        headers.get("content-md5", ""),
        headers.get("content-type", ""),
        headers["date"],
        own + resource,
    ]
    expected = hmac.digest(known.secret.encode(), "\n".join(parts).encode(), "sha1")
    _compare(base64.b64encode(expected).decode(), signature, key_id, "\n".join(parts))
    return 1


def _check_v4(keys: Mapping[str, Key], asked: Asked) -> int:
    headers = asked.headers
    fields = dict(re.findall(r"(\w+)=([^,\s]+)", headers["authorization"]))
    key_id, date, region, product, kind = fields["Credential"].split("/")
    if (region, product, kind) != (REGION, "oss", "aliyun_v4_request"):
        raise Refused(400, "InvalidArgument", "Invalid signing region in Authorization header.")
    known = _known(keys, key_id, headers)
    stamp = headers.get("x-oss-date", "")
    _check_time(datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp())
    more = [name for name in fields.get("AdditionalHeaders", "").split(";") if name]
    signed = sorted(
        {name for name in headers if name.startswith("x-oss-") or name in ("content-type", "content-md5", *more)}
    )
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in asked.query.items())
    canonical = "\n".join(
        [
            asked.method,
            quote(f"/{asked.bucket}/{asked.key}", safe="/"),
            "&".join(f"{name}={value}" if value else name for name, value in pairs),
            "".join(f"{name}:{headers[name]}\n" for name in signed),
            ";".join(sorted(more)),
            headers.get("x-oss-content-sha256", ""),
        ]
    )
    scope = f"{date}/{region}/oss/aliyun_v4_request"
    parts = ["OSS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()]
    secret = f"aliyun_v4{known.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    expected = hmac.digest(secret, "\n".join(parts).encode(), "sha256").hex()
    _compare(expected, fields["Signature"], key_id, "\n".join(parts))
    return 4


def _known(keys: Mapping[str, Key], key_id: str, headers: Mapping[str, str]) -> Key:
    if key_id not in keys:
        raise Refused(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.")
    known = keys[key_id]
    if headers.get("x-oss-security-token", "") != known.token:
        raise Refused(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if known.until <= time.time():
        raise Refused(403, "SecurityTokenExpired", "The security token you provided has expired.")
    return known


def _check_time(then: float) -> None:
    if abs(then - time.time()) > 15 * 60:
        raise Refused(403, "RequestTimeTooSkewed", "The difference between the request time and ours is too large.")


def _compare(expected: str, found: str, key_id: str, signed: str) -> None:
    if not hmac.compare_digest(expected, found):
        extra = f"<OSSAccessKeyId>{key_id}</OSSAccessKeyId><SignatureProvided>{found}</SignatureProvided>"
        extra += f"<StringToSign>{escape(signed)}</StringToSign>"
        message = "The request signature we calculated does not match the signature you provided."
        raise Refused(403, "SignatureDoesNotMatch", message, extra)
