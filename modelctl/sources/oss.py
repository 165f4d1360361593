"""A model in Alibaba Cloud's object storage: `oss://bucket/prefix`.

What is asked and answered is in `core/oss_api.py`; bytes are read by `core/ranges.py`. An object's CRC-64 stands in the
answer to a HEAD and in no listing: see `OssSource.check`.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec
import urllib3

from modelctl import __version__
from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.aliyun import Credentials, Keys, find_credentials
from modelctl.core.errors import BadAnswer, Denied, Invalid, ModelctlError, NotFound, Unavailable, UsageProblem
from modelctl.core.http import BUSY, Pools, drain, read_limited, redacted
from modelctl.core.oss_api import NONE, Listed, Page, Request, Signed, parse_error, parse_page
from modelctl.core.ranges import RangeBlob, changed
from modelctl.core.retry import retry_after, retrying
from modelctl.core.types import Entry, Origin

PAGE = 1000
"""Objects of one listing: the most that OSS gives."""

MAX_PAGE_SIZE = 16 << 20
"""Largest listing [bytes]: 1000 keys of 1023 bytes each, three characters a byte, and what is said of them."""

_ADVICE = {
    "InvalidObjectState": "it is archived: restore it (ossutil restore), or copy it to a bucket of class Standard",
    "RequestTimeTooSkewed": "set this machine's clock",
    "requester pay": "its readers would pay: copy the model to a bucket of yours, or ask its owner",
    "signing region": "name the bucket's own region and endpoint",
}
"""What to do about a refusal, by its code, or by words of its message."""

_ALWAYS = {"User-Agent": f"modelctl/{__version__}", "Accept-Encoding": "identity"}

_HOST = re.compile(r"[\w.-]+(:\d+)?", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_CRC64 = re.compile(r"[0-9]{1,20}")
_REGION_NAME = re.compile(r"[a-z0-9-]*")
_REGION = re.compile(r"oss-(?!accelerate)([a-z]+-[a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com")


def open_source(location: str, access: SourceAccess = DEFAULT_SOURCE_ACCESS) -> OssSource:
    """Open what follows `oss://`; nothing is asked yet.

    The endpoint is the flag's, that of OSS_ENDPOINT, or the public one of the region; the region that of the flag, of
    OSS_REGION, or of the endpoint's name. Requests have V4 signatures, and V1 where no region is known.

    Raises:
        UsageProblem: It names no bucket, or there is no endpoint.
    """
    bucket, _, prefix = location.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageProblem(
            "oss:// names no bucket", why="expected oss://BUCKET/PREFIX", hint="credentials do not go there"
        )
    if not _is_text(prefix):
        raise UsageProblem(f"oss://{bucket}, prefix {prefix!r}", why="it is not UTF-8, as all names in OSS are")
    endpoint = access.endpoint or os.environ.get("OSS_ENDPOINT", "")
    region = access.region or os.environ.get("OSS_REGION", "") or region_of(endpoint)
    if not _REGION_NAME.fullmatch(region):
        raise UsageProblem(f"region {region!r}", why="it is not valid", hint="--oss-region cn-hangzhou")
    if not endpoint and not region:
        raise UsageProblem(
            f"oss://{bucket}: no endpoint",
            why="neither --endpoint, OSS_ENDPOINT nor a region says where the bucket is",
            hint="--endpoint oss-cn-hangzhou.aliyuncs.com, or oss-cn-hangzhou-internal.aliyuncs.com next to it",
        )
    endpoint = endpoint or f"oss-{region}.aliyuncs.com"
    prefix = prefix.strip("/")
    return OssSource(bucket, f"{prefix}/" if prefix else "", _place(endpoint), region, access)


def region_of(endpoint: str) -> str:
    """Return the region that an endpoint of Alibaba Cloud is named after; empty for any other."""
    found = _REGION.fullmatch(_place(endpoint).hostname or "")
    return found.group(1) if found else ""


def _place(endpoint: str) -> SplitResult:
    try:
        return urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    except ValueError as error:
        raise UsageProblem("the endpoint", why="it is not a URL", hint="--endpoint HOST") from error


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class OssSource:
    """The objects of a bucket whose keys start with `prefix`. Thread-safe."""

    def __init__(self, bucket: str, prefix: str, endpoint: SplitResult, region: str, access: SourceAccess) -> None:
        self.origin = Origin(url=f"oss://{bucket}/{prefix}")
        self._name, self._prefix = bucket, prefix
        self._endpoint, self._region, self._access = endpoint, region, access
        self._host = redacted(endpoint.geturl())
        self._pools = Pools(access.timeout_s, ca_file=access.ca_file)

    @functools.cached_property
    def _credentials(self) -> Credentials:
        return find_credentials(self._access)

    @functools.cached_property
    def _root(self) -> str:
        """The URL of the bucket: a host of its own, or a path where the endpoint has no name to put it before."""
        place = self._endpoint
        host = place.netloc.rpartition("@")[2]
        if not _HOST.fullmatch(host):
            raise UsageProblem(f"endpoint {self._host}", why="it is not valid", hint="--endpoint HOST")
        return f"{place.scheme}://{host}/{self._name}" if _is_alone(host) else f"{place.scheme}://{self._name}.{host}"

    def list(self, wanted: Callable[[str], bool]) -> Iterable[Entry]:
        """Return every object whose path below the prefix is `wanted`, by key, but no folder markers.

        Paths are what the bucket says; whether a file may have such a name is asked elsewhere.

        Raises:
            Invalid: A symlink of OSS, which has no content of its own. NotFound: There is no such bucket.
        """
        return [self._entry(found) for found in self._objects() if wanted(found.key[len(self._prefix) :])]

    def _objects(self) -> Iterator[Listed]:
        token, more = "", True
        while more:
            page = retrying(functools.partial(self._page, token))
            if page.more and page.token in ("", token):
                raise BadAnswer(self.origin.url, why="its listing has no end")
            yield from (found for found in page.objects if found.size or not found.key.endswith("/"))
            token, more = page.token, page.more

    def _page(self, token: str) -> Page:
        query = {"list-type": "2", "max-keys": str(PAGE), "encoding-type": "url"}
        query |= {name: text for name, text in (("prefix", self._prefix), ("continuation-token", token)) if text}
        response = self._send(self._signed("GET", query=query), self.origin.url)
        data = read_limited(response, self.origin.url, MAX_PAGE_SIZE)
        try:
            return parse_page(data)
        except ValueError as error:
            raise BadAnswer(self.origin.url, why=f"{self._host} answered what OSS does not: {error}") from error

    def _entry(self, found: Listed) -> Entry:
        path = found.key[len(self._prefix) :]
        if found.kind == "Symlink":
            raise Invalid(
                f"file name {path[:200]!r}",
                why="it is a symlink of OSS: what it points to can change beneath it",
                hint="put a copy there, or leave it out with --exclude",
            )
        return Entry(path=path, size=found.size, version=found.etag)

    def open(self, entry: Entry) -> RangeBlob:
        """Open the object for ranged reads, each pinned to the version that was listed. Nothing is asked yet.

        A server may not know `If-Match`: the ETag of its answer is compared too, where it has one.
        """
        name, key = self._label(entry), self._prefix + entry.path
        pinned = {"if-match": f'"{entry.version}"', "x-oss-range-behavior": "standard"}
        signed = self._signed("GET", key, headers=pinned)

        def ask(range_: str) -> urllib3.BaseHTTPResponse:
            response = self._send(signed, name, {"range": range_})
            etag = response.headers.get("ETag", entry.version).strip('"')
            if etag != entry.version:
                response.close()
                raise changed(name, f"it was listed with ETag {entry.version}; the answer's is {etag[:100]}")
            return response

        return RangeBlob(name, entry.size, ask)

    def check(self, entry: Entry) -> Entry:
        """Ask for the object's state by a HEAD; return the entry with the CRC-64 that OSS has of it.

        Raises:
            ChecksumMismatch: It is not the version that was listed.
        """
        name = self._label(entry)
        found = retrying(lambda: self._head(entry))
        etag, size = found.get("ETag", "").strip('"'), found.get("Content-Length", "")
        if (etag, size) != (entry.version, str(entry.size)):
            raise changed(
                name,
                f"it was listed with {entry.size} bytes and ETag {entry.version}; it has {size} and {etag} now",
            )
        crc64 = found.get("x-oss-hash-crc64ecma", "")
        return msgspec.structs.replace(entry, crc64=int(crc64) if _CRC64.fullmatch(crc64) else None)

    def _head(self, entry: Entry) -> Mapping[str, str]:
        response = self._send(self._signed("HEAD", self._prefix + entry.path), self._label(entry))
        drain(response)
        return response.headers

    def _label(self, entry: Entry) -> str:
        return f"{self.origin.url}{entry.path}"

    def _signed(
        self, method: str, key: str = "", *, query: Mapping[str, str] = NONE, headers: Mapping[str, str] = NONE
    ) -> Signed:
        return Signed(Request(method, self._name, key, query, headers), self._region)

    def _send(self, signed: Signed, name: str, more: Mapping[str, str] = NONE) -> urllib3.BaseHTTPResponse:
        """Ask with `more` headers, once more where other credentials can be had; return the answer: its status is 2xx.

        Who asks for a key was told that it is there.
        """
        keys = self._keys()
        try:
            return self._send_once(signed, keys, name, more)
        except Denied:
            if not self._credentials.renew(keys):
                raise
        return self._send_once(signed, self._keys(), name, more)

    def _send_once(
        self, signed: Signed, keys: Keys | None, name: str, more: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        asked = signed.request
        headers = {**_ALWAYS, **signed.headers(keys, time.time()), **more}
        query = f"?{urlencode(asked.query, quote_via=quote)}" if asked.query else ""
        url = f"{self._root}/{quote(asked.key, safe='')}{query}"
        response = self._pools.send(f"OSS {self._host}", asked.method, url, headers)
        if response.status // 100 != 2:
            raise self._problem(name, response, of_entry=bool(asked.key))
        return response

    def _keys(self) -> Keys | None:
        keys = self._credentials.keys()
        held = keys.key_id + keys.secret + keys.token if keys else ""
        if not (held.isascii() and held.isprintable()):
            why = "the AccessKey, its secret or its token holds characters that none has"
            raise Denied(self._credentials.origin, why=why)
        return keys

    def _problem(self, name: str, response: urllib3.BaseHTTPResponse, *, of_entry: bool) -> ModelctlError:
        """Explain an error of OSS by its code. Source: OSS, "Error responses"; its StringToSign is not quoted."""
        status, details = response.status, parse_error(drain(response), response.headers)
        code, message = details.get("Code", ""), details.get("Message", "")
        request_id = response.headers.get("x-oss-request-id", "")[:100]
        why = f"OSS answered {status} {code}".rstrip()
        why += (f": {message}" if message else "") + (f" ({request_id})" if request_id else "")
        if code == "NoSuchBucket":
            return NotFound(
                f"bucket {self._name}", why=why, hint="check the bucket's name, and its region in --endpoint"
            )
        if of_entry and status in (404, 412, 416):
            return changed(name, why)
        if status in BUSY:
            return Unavailable(name, why=why, retry_after=retry_after(response.headers))
        if status in (400, 401, 403):
            return Denied(name, why=why, hint=self._advice(code, message, details))
        return BadAnswer(name, why=why)

    def _advice(self, code: str, message: str, details: Mapping[str, str]) -> str:
        """Say what to do about a refusal."""
        if _HOST.fullmatch(details.get("Endpoint", "")):
            return f"--endpoint {details['Endpoint']}"
        for words, advice in _ADVICE.items():
            if words == code or words in message.lower():
                return advice
        return f"credentials came from {self._credentials.origin}; oss:GetObject and oss:ListObjects are needed"


def _is_alone(host: str) -> bool:
    """Say whether a host is an address, to whose name no bucket's can be added."""
    name = host.rpartition(":")[0] or host
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True
