"""A model of ModelScope: `modelscope://Qwen/Qwen3-8B`, `modelscope://Qwen/Qwen3-8B@v1.0`.

The revision is resolved to a commit once, and everything is listed and read under that. modelscope-hub says who asks,
and which hub; it is asked directly: `HubApi` keeps neither the commit nor what LFS has, returns a listing that the hub
cut short with a line in the log, and writes to the user's home.

Source: modelscope-hub 0.5.1, _legacy_api.py, _download.py and constants.py.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

import msgspec

from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.errors import BadAnswer, Denied, Invalid, ModelctlError, NotFound, Unavailable, UsageProblem
from modelctl.core.http import BUSY, redacted, said
from modelctl.core.hub import Answer, Hub
from modelctl.core.protocols import Blob
from modelctl.core.ranges import changed
from modelctl.core.retry import retry_after
from modelctl.core.types import Entry, Origin, canonical_json, digest_of

MOST_ROWS = 3000
"""The hub lists no more files and folders at once, and does not say that there are more."""

MOST_FOLDERS = 5000
"""More folders are not listed one by one."""

_LOCATION = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>.+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOGIN = "set MODELSCOPE_API_TOKEN, or run: modelscope login"


class _Row(msgspec.Struct, rename="pascal"):
    path: str
    type: str = "blob"
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    sha256: Annotated[str, msgspec.Meta(pattern="^([0-9a-fA-F]{64})?$")] | None = None
    is_lfs: bool = msgspec.field(default=False, name="IsLFS")

    @property
    def is_file(self) -> bool:
        return self.type != "tree"


class _Committer(msgspec.Struct, rename="pascal"):
    id: str | None = None


class _Tree(msgspec.Struct, rename="pascal"):
    files: list[_Row] | None = None
    latest_committer: _Committer | None = None

    @property
    def rows(self) -> tuple[_Row, ...]:
        return tuple(self.files or ())

    @property
    def commit(self) -> str:
        """The commit that was listed, where the hub says so."""
        found = self.latest_committer.id if self.latest_committer else None
        return found if found and _COMMIT.fullmatch(found) else ""


class _Answer(msgspec.Struct, rename="pascal"):
    data: _Tree | None = None
    success: bool = True
    message: str | None = None


def open_source(location: str, access: SourceAccess = DEFAULT_SOURCE_ACCESS) -> ModelScopeSource:
    """Open the model `OWNER/NAME[@REVISION]` at a commit: that of its branch, tag or commit REVISION, or of master.

    Where the hub names no commit, the revision is the digest of the listing, which is then one answer of the hub: files
    that do not have the sha256 listed there are refused when they were read.

    Raises:
        UsageProblem: `location` names no model. NotFound: There is no such model or revision. Denied: It is private, or
            the token is none. Invalid: More files are in a folder than the hub lists, or what it lists names no state.
    """
    found = _LOCATION.fullmatch(location)
    if not found:
        what = f"cannot read {'modelscope://' + location!r}"
        raise UsageProblem(what, why="expected modelscope://OWNER/NAME or modelscope://OWNER/NAME@REVISION")
    name, revision = found["name"], found["revision"] or "master"
    endpoint, token = _settings(access)
    headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
    headers |= {"x-aliyun-region-id": access.region} if access.region else {}
    hub = Hub(endpoint, access, headers, _Explanations(known=bool(token)))
    top = _list(hub, name, revision, "", recursive=False)
    if not top.rows:
        why = f"the hub lists nothing under {revision!r}: there is no such branch, tag or commit, or it is empty"
        raise NotFound(f"modelscope://{location}", why=why, hint=f"{redacted(endpoint)}/models/{name}/files shows them")
    commit = top.commit or (revision if _COMMIT.fullmatch(revision) else "")
    if commit:
        return ModelScopeSource(hub, name, commit, commit, tuple(_walk(hub, name, commit)))
    rows = _list(hub, name, revision, "", recursive=True, again=True).rows
    files = [(row.path, row.sha256) for row in rows if row.is_file]
    if len(rows) >= MOST_ROWS or not all(sha256 for _, sha256 in files):
        why = f"the hub names no commit, and lists {len(rows)} files and folders, not all with a sha256"
        raise Invalid(f"modelscope://{location}", why=why, hint="name the commit: modelscope://OWNER/NAME@COMMIT")
    return ModelScopeSource(hub, name, revision, digest_of(canonical_json(sorted(files))), rows)


def _settings(access: SourceAccess) -> tuple[str, str]:
    """Return the endpoint and the token that modelscope-hub finds: of the environment, or of `modelscope login`."""
    if access.endpoint and (access.token or not access.credentials):
        return access.endpoint, access.token
    try:
        from modelscope_hub.config import HubConfig
    except ModuleNotFoundError as error:
        why, hint = f"{error.name} is not installed", "pip install 'modelctl[modelscope]'"
        raise UsageProblem("cannot read modelscope://", why=why, hint=hint) from error
    token = access.token or (None if access.credentials else "")
    try:
        config = HubConfig(endpoint=access.endpoint or None, token=token)
    except Exception as error:
        raise Denied("the login that modelscope-hub has", why=str(error), hint=_LOGIN) from error
    return config.endpoint or "", config.token or ""


def _walk(hub: Hub, name: str, commit: str) -> Iterator[_Row]:
    """List all files of a commit: at once, and folders that have too many for that one by one.

    Source: modelscope-hub's `_walk_repo_files`.
    """
    folders = [""]
    for _ in range(MOST_FOLDERS):
        folder = folders.pop()
        rows = _list(hub, name, commit, folder, recursive=True, again=True).rows
        if len(rows) >= MOST_ROWS:
            rows = _list(hub, name, commit, folder, recursive=False, again=True).rows
            folders += [row.path for row in rows if not row.is_file]
        if len(rows) >= MOST_ROWS:
            why = f"folder {folder or '/'!r} has {MOST_ROWS} files or more, and the hub lists no more of a folder"
            raise Invalid(f"modelscope://{name}", why=why, hint="git clone it, and pack the folder")
        yield from rows
        if not folders:
            return
    raise Invalid(f"modelscope://{name}", why=f"more than {MOST_FOLDERS} folders have to be listed one by one")


def _list(hub: Hub, name: str, revision: str, folder: str, *, recursive: bool, again: bool = False) -> _Tree:
    """List a folder. Not `again`, a refusal is one; else the hub let us in before, and does refuse by mistake.

    Source: modelscope-hub's `_request_repo_tree`.
    """
    what = f"modelscope://{name}"
    asked = {"Revision": revision, "Recursive": str(recursive)} | ({"Root": folder} if folder else {})
    path = f"/api/v1/models/{name}/repo/files?{urlencode(asked, errors='surrogatepass')}"
    answer, _ = hub.document(path, _Answer, what, admitted=again)
    if not answer.success or not answer.data:
        raise BadAnswer(what, why=f"it answered: {(answer.message or '')[:300]}")
    return answer.data


@dataclass(frozen=True)
class ModelScopeSource:
    """The model `name`, whose files are read under `revision`, with all files as they were listed.

    `state` names what was listed: a commit, or the digest of the listing.
    """

    hub: Hub
    name: str
    revision: str
    state: str
    rows: tuple[_Row, ...]

    @property
    def origin(self) -> Origin:
        return Origin(url=f"modelscope://{self.name}", revision=self.state)

    def list(self, wanted: Callable[[str], bool]) -> Iterable[Entry]:
        """Return every file whose path is `wanted`, by path."""
        rows = [row for row in self.rows if row.is_file and wanted(row.path)]
        return sorted((self._entry(row) for row in rows), key=lambda entry: entry.path)

    def _entry(self, row: _Row) -> Entry:
        sha256 = (row.sha256 or "").lower()
        version = f"sha256:{sha256}" if sha256 else f"commit:{self.state}"
        return Entry(path=row.path, size=row.size, version=version, sha256=sha256)

    def open(self, entry: Entry) -> Blob:
        """Open a file: by range where LFS keeps it, else whole.

        Raises:
            Invalid: No file may be called so. ChecksumMismatch: The hub speaks of another file than it listed.
        """
        what = f"{entry.path} of modelscope://{self.name}"
        query = urlencode({"Revision": self.revision, "FilePath": entry.path}, errors="surrogatepass")
        path = f"/api/v1/models/{self.name}/repo?{query}"
        return self.hub.open(
            path, entry, what, functools.partial(_witness, entry, what), ranged=entry.path in self._large
        )

    @functools.cached_property
    def _large(self) -> frozenset[str]:
        return frozenset(row.path for row in self.rows if row.is_lfs)

    def check(self, entry: Entry) -> Entry:
        """Return the entry: a commit does not change, and the listing has all that the hub states."""
        return entry


def _witness(entry: Entry, what: str, headers: Mapping[str, str]) -> None:
    stated = headers.get("X-Linked-ETag", "").strip('"').lower()
    if _SHA256.fullmatch(stated) and stated != (entry.sha256 or stated):
        raise changed(what, f"its sha256 is {stated}; {entry.sha256} was listed")


@dataclass(frozen=True)
class _Explanations:
    """What an answer of the hub means; `known` says that it was told who asks."""

    known: bool

    def __call__(self, what: str, answer: Answer, body: bytes) -> ModelctlError:
        status, why = answer.status, f"it answered {answer.status}: {said(body)}"
        if status in BUSY:
            return Unavailable(what, why=why, retry_after=retry_after(answer.headers))
        if status == 401:
            why += "" if self.known else "; no token was found"
            return Denied(what, why=why, hint=f"make a token at the hub's page 'Access Token', then {_LOGIN}")
        if status in (403, 404):
            why += "; there is no such model, revision or file, or it is private and "
            why += "the token is not of an account that may read it" if self.known else "no token was found"
            hint = "check the name, or " + ("use another token" if self.known else _LOGIN)
            return (Denied if status == 403 else NotFound)(what, why=why, hint=hint)
        return BadAnswer(what, why=why)
