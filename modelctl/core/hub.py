"""A hub of models, by HTTP: documents as JSON, and files from wherever it keeps them.

What proves who asks goes to the hub's own origin alone: a redirect elsewhere gets none of it. Knows no particular hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec
import urllib3

from modelctl import __version__
from modelctl.core.access import SourceAccess
from modelctl.core.errors import BadAnswer, Denied, ModelctlError, Unavailable, UsageProblem
from modelctl.core.http import BUSY, Pools, drain, may_lead, read_limited, redacted
from modelctl.core.learned import learned
from modelctl.core.paths import check_path
from modelctl.core.protocols import Blob, BytesBlob
from modelctl.core.ranges import RangeBlob, changed
from modelctl.core.retry import retry_after, retrying
from modelctl.core.types import Entry

Document = TypeVar("Document")

Answer = urllib3.BaseHTTPResponse

Explain = Callable[[str, Answer, bytes], ModelctlError]
"""Makes an error of what was asked for, the hub's answer, and the beginning of its body."""

Witness = Callable[[Mapping[str, str]], None]
"""Looks at the headers of each answer on the way to a file, and raises when they speak of another."""

MAX_DOCUMENT_SIZE = 64 << 20
"""Largest JSON document that is read [bytes]."""

SMALL_SIZE = 16 << 20
"""Files that git keeps itself are read in one piece up to this size [bytes]: not every hub serves ranges of them."""

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 6

_CODE = re.compile(rb"<Code>(\w{1,100})</Code>")

_STALE = (400, 401, 403, 404, 410)
"""How a place answers to which the hub's redirect is not good any more."""


class Hub:
    """Requests to the hub at `endpoint`, a URL. Thread-safe."""

    def __init__(self, endpoint: str, access: SourceAccess, headers: Mapping[str, str], explain: Explain) -> None:
        """Ask as whoever has `headers`, which the hub gets with each request, and nobody else.

        Raises:
            UsageProblem: `endpoint` is not a URL of HTTP. Denied: A header is none, as with a token of two lines.
        """
        if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
            raise UsageProblem(f"endpoint {redacted(endpoint)!r}", why="expected https://HOST")
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise Denied(redacted(endpoint), why="the token holds characters that no token has")
        self.endpoint = endpoint.rstrip("/")
        self._headers, self._explain = headers, explain
        self._pools = Pools(access.timeout_s, ca_file=access.ca_file)
        self._places: dict[str, str] = {}

    def document(
        self, path: str, type_: type[Document], what: str, *, admitted: bool = False
    ) -> tuple[Document, Mapping[str, str]]:
        """Return a JSON document at `path` of the endpoint, and the answer's headers.

        Args:
            path: Begins with `/`; may have a query.
            type_: What msgspec must be able to make of it.
            what: Is asked for, for errors.
            admitted: The hub let us in before: if it refuses now, it is asked again.

        Raises:
            BadAnswer: It is another document. What the hub's `Explain` makes of a refusal.
        """

        def ask() -> tuple[bytes, Mapping[str, str]]:
            try:
                answer, _ = self._follow(self.endpoint + path, {}, what)
            except Denied as error:
                if not admitted:
                    raise
                raise Unavailable(what, why=error.why) from error
            return read_limited(answer, what, MAX_DOCUMENT_SIZE), answer.headers

        data, headers = retrying(ask)
        try:
            return msgspec.convert(json.loads(data), learned(type_)), headers
        except (ValueError, RecursionError) as error:
            raise BadAnswer(what, why=f"{redacted(self.endpoint + path)}: {error}") from error

    def open(self, path: str, entry: Entry, what: str, witness: Witness, *, ranged: bool) -> Blob:
        """Open a file at `path` of the endpoint; by range, or now and whole.

        Raises:
            Invalid: Its name is none that a file of a model may have. ChecksumMismatch: It has another size.
        """
        check_path(entry.path)
        url = self.endpoint + path
        if ranged or entry.size > SMALL_SIZE:
            return RangeBlob(what, entry.size, lambda range_: self._part(url, range_, what, witness))
        return BytesBlob(retrying(lambda: self._whole(url, entry.size, what, witness)))

    def _part(self, url: str, range_: str, what: str, witness: Witness) -> Answer:
        """Ask for a range where the file was last; where that is not good any more, ask the hub where it is."""
        place = self._places.get(url)
        if place:
            answer = self._send(place, {"Range": range_}, what)
            if answer.status not in _STALE:
                return answer
            drain(answer)
        answer, place = self._follow(url, {"Range": range_}, what, witness)
        if not self._is_own(place):
            self._places[url] = place
        return answer

    def _whole(self, url: str, size: int, what: str, witness: Witness) -> bytes:
        if not size:
            return b""
        answer, _ = self._follow(url, {}, what, witness)
        length = answer.headers.get("Content-Length", str(size))
        data = read_limited(answer, what, size + 1) if length == str(size) else drain(answer)
        if len(data) != size:
            raise changed(what, f"it has {length} bytes; {size} were listed")
        return data

    def _follow(
        self, url: str, headers: Mapping[str, str], what: str, witness: Witness | None = None
    ) -> tuple[Answer, str]:
        """Ask, follow redirects, and return the answer to that, with its URL: 200, and of a range 206 or 416."""
        expected = (200, 206, 416) if "Range" in headers else (200,)
        for _ in range(_MAX_REDIRECTS):
            answer = self._send(url, headers, what)
            _show(answer, witness)
            if answer.status in _REDIRECTS and answer.headers.get("Location"):
                drain(answer)
                url = _joined(url, answer.headers["Location"], what)
            elif answer.status in expected:
                return answer, url
            elif self._is_own(url):
                raise self._explain(what, answer, drain(answer))
            else:
                raise _elsewhere(what, url, answer)
        raise BadAnswer(what, why="redirects without end")

    def _send(self, url: str, headers: Mapping[str, str], what: str) -> Answer:
        own = self._headers if self._is_own(url) else {}
        always = {"User-Agent": f"modelctl/{__version__}", "Accept-Encoding": "identity"}
        return self._pools.send(what, "GET", url, {**always, **own, **headers})

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]


def _show(answer: Answer, witness: Witness | None) -> None:
    """Show an answer's headers to `witness`; one that it refuses is hung up on."""
    try:
        if witness:
            witness(answer.headers)
    except ModelctlError:
        answer.close()
        raise


def _joined(base: str, location: str, what: str) -> str:
    """Return where a redirect leads; `BadAnswer` when that is no URL, or leaves TLS."""
    try:
        target = urljoin(base, location)
        allowed = may_lead(base, target)
    except ValueError as error:
        raise BadAnswer(what, why="it redirects to what is not a URL") from error
    if not allowed:
        raise BadAnswer(what, why=f"it redirects from {redacted(base)} to {redacted(target)}")
    return target


def _elsewhere(what: str, url: str, answer: Answer) -> ModelctlError:
    """Explain what a host answered that the hub has just sent us to; by its code alone, as it may quote signatures."""
    code = _CODE.search(drain(answer))
    why = f"{redacted(url)} answered {answer.status}" + (f": {code[1].decode()}" if code else "")
    if answer.status in (404, 410):
        return changed(what, why)
    if answer.status in (*BUSY, 400, 403):
        return Unavailable(what, why=why, retry_after=retry_after(answer.headers))
    return Denied(what, why=why) if answer.status == 401 else BadAnswer(what, why=why)
