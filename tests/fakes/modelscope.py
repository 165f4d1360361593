"""A small ModelScope: models in commits, private ones, object storage for what LFS keeps.

Source: modelscope-hub's _legacy_api.py, _download.py and constants.py.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.fakes.hub import Cdn, File, Handler, Repository, Request, content_network, served

_API = re.compile(r"/api/v1/models/(?P<name>[^/]+/[^/]+)/(?P<verb>repo/files|repo|revisions)")

MOST_ROWS = 3000
"""More are not listed at once, and nothing says that some were left out."""


@dataclass
class ModelScope:
    """`tokens` are {token: names of the private repositories that it opens}.

    `on_request` is called with each request's "METHOD /path?query" before it is answered. Not `commits`, the hub does
    not say which commit it lists; not `digests`, nor what files hash to.
    """

    cdn: Cdn
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    on_request: Callable[[str], object] = lambda line: None
    latency_s: float = 0.0
    commits: bool = True
    digests: bool = True

    def put(self, name: str, files: Mapping[str, bytes], *, private: bool = False) -> str:
        """Make a repository with one commit on `master`; return the commit."""
        self.repositories[name] = Repository(private)
        return self.commit(name, files)

    def commit(self, name: str, files: Mapping[str, bytes], branch: str = "master") -> str:
        return self.repositories[name].commit(files, branch)

    def asked(self, pattern: str) -> int:
        """Return how many requests had `pattern` in them."""
        return sum(pattern in request.line for request in self.requests)


@contextmanager
def model_scope() -> Iterator[ModelScope]:
    """Run a hub and its storage until the `with` ends."""
    with content_network() as cdn:
        hub = ModelScope(cdn)
        with served(type("HubHandler", (_Handler,), {"hub": hub, "count": staticmethod(cdn.count)})) as hub.url:
            yield hub


class _Handler(Handler):
    hub: ModelScope

    def do_GET(self) -> None:
        self.hub.requests.append(self.seen())
        self.hub.on_request(self.requestline.rpartition(" ")[0])
        time.sleep(self.hub.latency_s)
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        found = _API.fullmatch(place.path)
        token = self._token()
        if token and token not in self.hub.tokens:
            self._refuse(401, 10010103009, "AccessToken is invalid or expired")
            return
        repository = self.hub.repositories.get(found["name"]) if found else None
        if not found or not repository or (repository.private and found["name"] not in self.hub.tokens.get(token, ())):
            self._refuse(404, 10010205001, "record not found")
        elif found["verb"] == "revisions":
            self._data({"RevisionMap": {"Branches": [{"Revision": name} for name in repository.refs], "Tags": []}})
        elif found["verb"] == "repo/files":
            self._files(repository, query)
        else:
            self._file(repository, query)

    do_HEAD = do_GET

    def _token(self) -> str:
        """Return the token, which may be in a header, a cookie, or both."""
        cookies = dict(item.partition("=")[::2] for item in self.headers.get("Cookie", "").split("; "))
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or cookies.get("m_session_id", "")

    def _refuse(self, status: int, code: int, message: str) -> None:
        self.answer_json(status, {"Code": code, "Message": message, "RequestId": "1", "Success": False})

    def _data(self, data: object) -> None:
        self.answer_json(200, {"Code": 200, "Data": data, "Message": "success", "RequestId": "1", "Success": True})

    def _files(self, repository: Repository, query: dict[str, str]) -> None:
        commit = repository.resolve(query["Revision"])
        if commit is None:
            self._data({"Files": None, "LatestCommitter": {"Id": ""}})
            return
        rows = _rows(repository.commits[commit], query.get("Root", ""), digests=self.hub.digests)
        root = query.get("Root", "")
        if query.get("Recursive", "").lower() != "true":
            rows = [row for row in rows if posixpath.dirname(str(row["Path"])) == root]
        named = commit if self.hub.commits and query["Revision"] != commit else ""
        self._data({"Files": rows[:MOST_ROWS], "LatestCommitter": {"Id": named, "ShortId": commit[:8]}})

    def _file(self, repository: Repository, query: dict[str, str]) -> None:
        commit = repository.resolve(query["Revision"])
        file = repository.commits[commit].get(query.get("FilePath", "")) if commit else None
        if file is None:
            self._refuse(404, 10010204010, "file not found")
        elif file.lfs:
            headers = {"X-Linked-ETag": f'"{file.sha256}"', "Location": self.hub.cdn.keep(file)}
            self.answer(302, b"", headers)
        else:
            self.hub.cdn.count(len(file.data))
            self.answer(200, file.data, {"Content-Type": "application/octet-stream"})


def _rows(tree: Mapping[str, File], root: str, *, digests: bool) -> list[dict[str, object]]:
    """Return what the hub lists below the folder `root`: folders too, by path."""
    files = {path: file for path, file in tree.items() if not root or path.startswith(root + "/")}
    folders = {parent for path in files for parent in _parents(path) if len(parent) > len(root)}
    rows: list[dict[str, object]] = [
        {"Name": posixpath.basename(path), "Path": path, "Type": "tree", "Size": 0, "Sha256": "", "IsLFS": False}
        for path in folders
    ]
    for path, file in files.items():
        row = {"Name": posixpath.basename(path), "Path": path, "Type": "blob", "Size": len(file.data)}
        rows.append(row | {"Sha256": file.sha256 if digests else "", "IsLFS": file.lfs, "Mode": "33188"})
    return sorted(rows, key=lambda row: str(row["Path"]))


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
