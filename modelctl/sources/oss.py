"""A model in Alibaba Cloud's object storage: `oss://bucket/prefix`.

oss2 makes, signs and parses requests; they are sent by `core/http.py`, and bytes read by `core/ranges.py`: oss2's own
way costs 3-9 CPU s/GB. An object's CRC-64 stands in the answer to a HEAD and in no listing: see `OssSource.check`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from xml.etree.ElementTree import ParseError

import msgspec
import oss2
import urllib3

from modelctl import __version__
from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.aliyun import Credentials, find_credentials
from modelctl.core.errors import BadAnswer, Denied, Invalid, ModelctlError, NotFound, Unavailable, UsageProblem
from modelctl.core.http import BUSY, Pools, drain, read_limited, redacted
from modelctl.core.ranges import RangeBlob, changed
from modelctl.core.retry import retry_after, retrying
from modelctl.core.types import Entry, Origin

Result = TypeVar("Result")

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

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
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
    endpoint = access.endpoint or os.environ.get("OSS_ENDPOINT", "")
    region = access.region or os.environ.get("OSS_REGION", "") or region_of(endpoint)
    if not endpoint and not region:
        raise UsageProblem(
            f"oss://{bucket}: no endpoint",
            why="neither --endpoint, OSS_ENDPOINT nor a region says where the bucket is",
            hint="--endpoint oss-cn-hangzhou.aliyuncs.com, or oss-cn-hangzhou-internal.aliyuncs.com next to it",
        )
    endpoint = endpoint or f"oss-{region}.aliyuncs.com"
    prefix = prefix.strip("/")
    return OssSource(bucket, f"{prefix}/" if prefix else "", _with_scheme(endpoint), region, access)


def region_of(endpoint: str) -> str:
    """Return the region that an endpoint of Alibaba Cloud is named after; empty for any other."""
    found = _REGION.fullmatch(urlsplit(_with_scheme(endpoint)).hostname or "")
    return found.group(1) if found else ""


def _with_scheme(endpoint: str) -> str:
    return endpoint if "://" in endpoint else f"https://{endpoint}"


class OssSource:
    """The objects of a bucket whose keys start with `prefix`. Thread-safe."""

    def __init__(self, bucket: str, prefix: str, endpoint: str, region: str, access: SourceAccess) -> None:
        self.origin = Origin(url=f"oss://{bucket}/{prefix}")
        self._name, self._prefix = bucket, prefix
        self._endpoint, self._region, self._access = endpoint, region, access

    @functools.cached_property
    def _credentials(self) -> Credentials:
        return find_credentials(self._access)

    @functools.cached_property
    def _bucket(self) -> Any:
        """The bucket as oss2 knows it; a stranger's requests are not signed."""
        auth: Any = oss2.AnonymousAuth()
        if self._credentials.keys():
            auth = (oss2.ProviderAuthV4 if self._region else oss2.ProviderAuth)(_Provider(self._credentials))
        try:
            return oss2.Bucket(
                auth,
                self._endpoint,
                self._name,
                session=_Session(Pools(self._access.timeout_s, ca_file=self._access.ca_file), self._host),
                enable_crc=False,
                region=self._region or None,
            )
        except oss2.exceptions.ClientError as error:
            raise UsageProblem(f"endpoint {self._host}", why="it is not valid", hint="--endpoint HOST") from error

    @property
    def _host(self) -> str:
        return redacted(self._endpoint)

    def list(self, wanted: Callable[[str], bool]) -> Iterable[Entry]:
        """Return every object whose path below the prefix is `wanted`, by key, but no folder markers.

        Paths are what the bucket says; whether a file may have such a name is asked elsewhere.

        Raises:
            Invalid: A symlink of OSS, which has no content of its own. NotFound: There is no such bucket.
        """
        return [self._entry(found) for found in self._objects() if wanted(found.key[len(self._prefix) :])]

    def _objects(self) -> Iterator[Any]:
        token, more = "", True
        while more:
            page = self._ask(self.origin.url, functools.partial(self._page, token))
            if page.is_truncated and page.next_continuation_token in ("", token):
                raise BadAnswer(self.origin.url, why="its listing has no end")
            yield from (found for found in page.object_list if found.size or not found.key.endswith("/"))
            token, more = page.next_continuation_token, page.is_truncated

    def _page(self, token: str) -> Any:
        return self._bucket.list_objects_v2(self._prefix, continuation_token=token, max_keys=PAGE, encoding_type="url")

    def _entry(self, found: Any) -> Entry:
        path = found.key[len(self._prefix) :]
        if found.type == "Symlink":
            raise Invalid(
                f"file name {path[:200]!r}",
                why="it is a symlink of OSS: what it points to can change beneath it",
                hint="put a copy there, or leave it out with --exclude",
            )
        return Entry(path=path, size=found.size, version=found.etag)

    def open(self, entry: Entry) -> RangeBlob:
        """Open the object for ranged reads, each pinned to the version that was listed. Nothing is asked yet."""
        name, key = self._label(entry), self._prefix + entry.path
        pinned = {"If-Match": f'"{entry.version}"', "x-oss-range-behavior": "standard"}

        def ask(range_: str) -> urllib3.BaseHTTPResponse:
            with self._explained(name, of_entry=True):
                found = self._bucket.get_object(key, headers={"Range": range_, **pinned})
            response: urllib3.BaseHTTPResponse = found.resp.response
            return response

        return RangeBlob(name, entry.size, ask, renew=self._renew)

    def check(self, entry: Entry) -> Entry:
        """Ask for the object's state by a HEAD; return the entry with the CRC-64 that OSS has of it.

        Raises:
            ChecksumMismatch: It is not the version that was listed.
        """
        name = self._label(entry)
        found = self._ask(name, lambda: self._bucket.head_object(self._prefix + entry.path), of_entry=True)
        if (found.etag, found.content_length) != (entry.version, entry.size):
            raise changed(
                name,
                f"it was listed with {entry.size} bytes and ETag {entry.version}; "
                f"it has {found.content_length} and {found.etag} now",
            )
        return msgspec.structs.replace(entry, crc64=found.server_crc)

    def _label(self, entry: Entry) -> str:
        return f"{self.origin.url}{entry.path}"

    def _ask(self, name: str, work: Callable[[], Result], *, of_entry: bool = False) -> Result:
        """Ask until OSS has time; once more with other credentials, where there are any."""

        def ask() -> Result:
            with self._explained(name, of_entry=of_entry):
                return work()

        try:
            return retrying(ask)
        except Denied:
            if not self._renew():
                raise
        return retrying(ask)

    def _renew(self) -> bool:
        return self._credentials.renew()

    @contextmanager
    def _explained(self, name: str, *, of_entry: bool) -> Iterator[None]:
        """Translate oss2's errors; 404, 412 and 416 `of_entry` mean that it is not there as it was listed."""
        try:
            yield
        except oss2.exceptions.ServerError as error:
            # Not chained: it holds the StringToSign, and in that the token.
            raise self._problem(name, error, of_entry=of_entry) from None
        except (ParseError, ValueError, TypeError, IndexError, RuntimeError, oss2.exceptions.OssError) as error:
            raise BadAnswer(name, why=f"{self._host} answered what OSS does not: {type(error).__name__}") from error

    def _problem(self, name: str, error: Any, *, of_entry: bool) -> ModelctlError:
        """Explain an error of OSS by its code. Source: OSS, "Error responses"; its StringToSign is not quoted."""
        code, message = error.code or "", error.message or ""
        why = f"OSS answered {error.status} {code}".rstrip()
        why += (f": {message[:300]}" if message else "") + (f" ({error.request_id})" if error.request_id else "")
        if code == "NoSuchBucket":
            return NotFound(
                f"bucket {self._name}", why=why, hint="check the bucket's name, and its region in --endpoint"
            )
        if of_entry and error.status in (404, 412, 416):
            return changed(name, why)
        if error.status in BUSY:
            return Unavailable(name, why=why, retry_after=retry_after(error.headers))
        if error.status in (400, 401, 403):
            return Denied(name, why=why, hint=self._advice(code, message, error.details))
        return BadAnswer(name, why=why)

    def _advice(self, code: str, message: str, details: dict[str, str]) -> str:
        """Say what to do about a refusal."""
        if details.get("Endpoint"):
            return f"--endpoint {details['Endpoint']}"
        for sign, advice in _ADVICE.items():
            if sign == code or sign in message.lower():
                return advice
        return f"credentials came from {self._credentials.origin}; oss:GetObject and oss:ListObjects are needed"


class _Provider:
    """Credentials as oss2 asks for them, before each request."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> Any:
        keys = self._credentials.keys()
        return oss2.credentials.Credentials(keys.key_id, keys.secret, keys.token) if keys else None


class _Session:
    """Sends oss2's requests over our connections."""

    def __init__(self, pools: Pools, host: str) -> None:
        self._pools, self._host = pools, host

    def do_request(self, request: Any, timeout: object) -> _Response:  # noqa: ARG002
        headers = {name: value for name, value in request.headers.items() if value is not None}
        headers |= {"User-Agent": f"modelctl/{__version__}", "Accept-Encoding": "identity"}
        url = request.url + ("?" + urlencode(request.params, quote_via=quote) if request.params else "")
        return _Response(self._pools.send(f"OSS {self._host}", request.method, url, headers))


class _Response:
    """An answer as oss2 reads it. One of bytes is left to who asked for them."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.response = response
        self.status, self.headers = response.status, response.headers
        self.request_id = response.headers.get("x-oss-request-id", "")

    def read(self, _size: int | None = None) -> bytes:
        return read_limited(self.response, MAX_PAGE_SIZE) if self.status // 100 == 2 else drain(self.response)
