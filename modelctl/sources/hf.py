"""A model of the Hugging Face Hub, or of a mirror of it: `hf://Qwen/Qwen3-8B`, `hf://Qwen/Qwen3-8B@v1.0`.

The revision is resolved to a commit once, and everything is listed and read under that. The version of a file is its
content's hash, so that it stays the same from commit to commit where the file does. huggingface_hub says who asks;
the hub is asked directly: `HfApi` follows the links to next pages wherever they lead, with the token, and those of a
mirror lead to huggingface.co (hf-mirror-site issue 65); and it waits without end for a hub that is silent.

Source: https://huggingface.co/docs/hub/api; huggingface_hub's hf_api.py, utils/_http.py, file_download.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from urllib.parse import quote, urlsplit

import msgspec

from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.errors import BadAnswer, Denied, ModelctlError, NotFound, Unavailable, UsageProblem
from modelctl.core.http import BUSY, redacted, said
from modelctl.core.hub import Answer, Hub
from modelctl.core.protocols import Blob
from modelctl.core.ranges import changed
from modelctl.core.retry import retry_after
from modelctl.core.types import Entry, Origin

ENDPOINT = "https://huggingface.co"

_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)?"
_LOCATION = re.compile(f"(?P<name>{_NAME})(?:@(?P<revision>.+))?")
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_RESET = re.compile(r";\s*r=0\s*;\s*t=(\d+)")
_LOGIN = "set HF_TOKEN, or run: hf auth login"

Sha1 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0)]


class _Revision(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(pattern=f"^{_NAME}$")]
    sha: Sha1


class _Lfs(msgspec.Struct):
    oid: Sha256
    size: Size


class _Row(msgspec.Struct):
    type: str
    path: str
    oid: Sha1
    size: Size = 0
    lfs: _Lfs | None = None


_Rows = list[_Row]


def open_source(location: str, access: SourceAccess = DEFAULT_SOURCE_ACCESS) -> HuggingFaceSource:
    """Open the model `[OWNER/]NAME[@REVISION]` at a commit: that of its branch, tag or commit REVISION, or of main.

    Raises:
        UsageProblem: `location` names no model. NotFound: There is no such model or revision. Denied: It is private, or
            the token is none.
    """
    found = _LOCATION.fullmatch(location)
    if not found:
        raise UsageProblem(
            f"cannot read {'hf://' + location!r}", why="expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
        )
    name, revision = found["name"], found["revision"] or "main"
    token = access.token or (_stored_token() if access.credentials else "")
    endpoint = access.endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    hub = Hub(endpoint, access, headers, _Explanations(redacted(endpoint).rstrip("/"), name, bool(token)))
    path = f"/api/models/{name}/revision/{quote(revision, safe='')}?expand=sha"
    commit, _ = hub.document(path, _Revision, f"hf://{location}")
    return HuggingFaceSource(hub, commit.id, commit.sha)


def _stored_token() -> str:
    """Return the token that huggingface_hub finds: of the environment, or of `hf auth login`."""
    try:
        from huggingface_hub import get_token
    except ModuleNotFoundError as error:
        why = f"{error.name} is not installed"
        raise UsageProblem("cannot read hf://", why=why, hint="pip install 'modelctl[hf]'") from error
    try:
        return get_token() or ""
    except Exception as error:
        raise Denied("the token that huggingface_hub has", why=str(error), hint=_LOGIN) from error


@dataclass(frozen=True)
class HuggingFaceSource:
    """The model `name` as it is in `commit`, which never changes."""

    hub: Hub
    name: str
    commit: str

    @property
    def origin(self) -> Origin:
        return Origin(url=f"hf://{self.name}", revision=self.commit)

    def list(self, wanted: Callable[[str], bool]) -> Iterable[Entry]:
        """Return every file whose path is `wanted`, by path."""
        rows = [row for row in self._rows() if row.type == "file" and wanted(row.path)]
        return sorted((self._entry(row) for row in rows), key=lambda entry: entry.path)

    def _rows(self) -> Iterator[_Row]:
        """List the tree, a page at a time. Of the link to the next page only the query is used."""
        queries = ["recursive=true&expand=false"]
        while queries[-1]:
            path = f"/api/models/{self.name}/tree/{self.commit}?{queries[-1]}"
            rows, headers = self.hub.document(path, _Rows, f"hf://{self.name}")
            yield from rows
            query = _next_query(headers)
            if query in queries:
                raise BadAnswer(f"hf://{self.name}", why="pages without end")
            queries.append(query)

    def _entry(self, row: _Row) -> Entry:
        return Entry(
            path=row.path,
            size=row.lfs.size if row.lfs else row.size,
            version=f"sha256:{row.lfs.oid}" if row.lfs else f"git:{row.oid}",
            sha256=row.lfs.oid if row.lfs else "",
            git_sha1="" if row.lfs else row.oid,
        )

    def open(self, entry: Entry) -> Blob:
        """Open a file: by range where LFS keeps it, else whole.

        Raises:
            Invalid: No file may be called so. ChecksumMismatch: The hub speaks of another file than it listed.
        """
        what = f"{entry.path} of hf://{self.name}"
        path = f"/{self.name}/resolve/{self.commit}/{quote(entry.path, errors='surrogatepass')}"
        return self.hub.open(path, entry, what, partial(self._witness, entry, what), ranged=bool(entry.sha256))

    def _witness(self, entry: Entry, what: str, headers: Mapping[str, str]) -> None:
        expected = {"X-Repo-Commit": self.commit, "X-Linked-Size": str(entry.size)}
        expected |= {"X-Linked-ETag": entry.sha256} if entry.sha256 else {}
        for name, value in expected.items():
            if headers.get(name, value).strip('"') != value:
                raise changed(what, f"its {name} is {headers[name]}; {value} was listed")

    def check(self, entry: Entry) -> Entry:
        """Return the entry: a commit does not change, and the listing has all that the hub states."""
        return entry


def _next_query(headers: Mapping[str, str]) -> str:
    found = _NEXT.search(headers.get("Link", ""))
    return urlsplit(found[1]).query if found else ""


@dataclass(frozen=True)
class _Explanations:
    """What an answer of the hub at `endpoint` means for the model `name`; `known` says that it was told who asks."""

    endpoint: str
    name: str
    known: bool

    def __call__(self, what: str, answer: Answer, body: bytes) -> ModelctlError:
        status, code = answer.status, answer.headers.get("X-Error-Code", "")
        why = f"it answered {status}: {answer.headers.get('X-Error-Message') or said(body)}"
        if status in BUSY:
            return Unavailable(what, why=why, retry_after=_wait_s(answer.headers))
        if code == "GatedRepo":
            hint = f"accept the terms at {self.endpoint}/{self.name}"
            return Denied(what, why=why, hint=hint if self.known else f"{hint}, then {_LOGIN}")
        if code in ("RevisionNotFound", "EntryNotFound"):
            return NotFound(what, why=why, hint=f"{self.endpoint}/{self.name}/tree/main shows files and branches")
        if status == 401 and "Invalid credentials" in why:
            return Denied(what, why=why, hint=f"make a token at {self.endpoint}/settings/tokens, then {_LOGIN}")
        return self._hidden(what, status, why) if status in (401, 403, 404) else BadAnswer(what, why=why)

    def _hidden(self, what: str, status: int, why: str) -> ModelctlError:
        """Say what such an answer leaves open: the hub tells nobody of a private model who may not read it."""
        why += "; there is no such model, or it is private and "
        why += "the token is not of an account that may read it" if self.known else "no token was found"
        hint = "check the name, or " + ("use another token" if self.known else _LOGIN)
        return (NotFound if status == 404 else Denied)(what, why=why, hint=hint)


def _wait_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the hub asks to wait [s]. Source: RFC 9110 10.2.3; draft-ietf-httpapi-ratelimit-headers-09."""
    found = _RESET.search(headers.get("RateLimit", ""))
    return float(found[1]) if found else retry_after(headers)
