"""A small Hugging Face hub: models in commits, private and gated ones, a CDN for what LFS keeps.

Source: huggingface_hub's hf_api.py, utils/_http.py, utils/_pagination.py; the hub's answers that are quoted in its
issues 4637 and 4815, and in hf-mirror-site's 50 and 65.
"""

from __future__ import annotations

import base64
import posixpath
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.fakes.hub import Cdn, File, Handler, Repository, Request, content_network, served

_API = re.compile(r"/api/models/(?P<name>[^/]+(?:/[^/]+)?)(?:/(?P<verb>revision|tree)/(?P<revision>[^/]+))?")
_RESOLVE = re.compile(r"/(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", re.DOTALL)
_CACHED = re.compile(r"/api/resolve-cache/models/(?P<name>[^/]+/[^/]+)/(?P<revision>[^/]+)/(?P<path>.+)", re.DOTALL)


@dataclass
class HuggingFace:
    """`tokens` are {token: names of the private and gated repositories that it opens}.

    `renamed` are {old name: new name}; `on_request` is called with each request's "METHOD /path?query" before it is
    answered; `links_to` is the host that the links to next pages name, where it is not the one that was asked: a mirror
    passes on the hub's; `xet` says that files are kept by Xet.
    """

    cdn: Cdn
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    on_request: Callable[[str], object] = lambda line: None
    links_to: str = ""
    page: int = 1000
    latency_s: float = 0.0
    xet: bool = False

    def put(self, name: str, files: Mapping[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        """Make a repository with one commit on `main`; return the commit."""
        self.repositories[name] = Repository(private, gated)
        return self.commit(name, files)

    def commit(self, name: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        return self.repositories[name].commit(files, branch)

    def asked(self, pattern: str) -> int:
        """Return how many requests had `pattern` in them."""
        return sum(pattern in request.line for request in self.requests)


@contextmanager
def hugging_face() -> Iterator[HuggingFace]:
    """Run a hub and its CDN until the `with` ends."""
    with content_network() as cdn:
        hub = HuggingFace(cdn)
        with served(type("HubHandler", (_Handler,), {"hub": hub, "count": staticmethod(cdn.count)})) as hub.url:
            yield hub


class _Handler(Handler):
    hub: HuggingFace

    def do_GET(self) -> None:
        self.hub.requests.append(self.seen())
        self.hub.on_request(self.requestline.rpartition(" ")[0])
        time.sleep(self.hub.latency_s)
        path = urlsplit(self.path).path
        for pattern, work in ((_API, self._api), (_CACHED, self._cached), (_RESOLVE, self._resolve)):
            if found := pattern.fullmatch(path):
                self._visible({name: unquote(value) for name, value in found.groupdict("main").items()}, work)
                return
        self._refuse(404, "", "Not Found")

    do_HEAD = do_GET

    def _refuse(self, status: int, code: str, message: str) -> None:
        said = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer_json(status, {"error": message}, said)

    def _visible(self, asked: dict[str, str], work: Callable[[Repository, str, dict[str, str]], None]) -> None:
        """Do `work` on a repository and commit when whoever asks may know of them."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return
        name = asked["name"]
        if name in self.hub.renamed:
            self.answer(307, b"", {"Location": self.path.replace(f"/{name}/", f"/{self.hub.renamed[name]}/", 1)})
            return
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and name not in self.hub.tokens.get(token, ())):
            if token:
                self._refuse(404, "RepoNotFound", "Repository not found")
            else:
                self._refuse(401, "", "Invalid username or password.")
            return
        commit = repository.resolve(asked["revision"])
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {asked['revision']}")
            return
        if "path" in asked and repository.gated and name not in self.hub.tokens.get(token, ()):
            restricted = f"Access to model {name} is restricted"
            if token:
                self._refuse(403, "GatedRepo", f"{restricted} and you are not in the authorized list.")
            else:
                self._refuse(401, "GatedRepo", f"{restricted}. You must have access to it and be authenticated.")
            return
        work(repository, commit, asked)

    def _api(self, repository: Repository, commit: str, asked: dict[str, str]) -> None:
        if asked["verb"] != "tree":
            document = {"_id": "1", "id": asked["name"], "sha": commit, "gated": repository.gated, "siblings": []}
            self.answer_json(200, document)
            return
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        rows = _rows(
            repository.commits[commit], recursive=query.get("recursive", "").lower() == "true", xet=self.hub.xet
        )
        start = int(base64.b64decode(query.get("cursor", "MA==")))
        end = start + self.hub.page
        headers = {}
        if end < len(rows):
            place = self.hub.links_to or f"http://{self.headers['Host']}"
            cursor = quote(base64.b64encode(str(end).encode()).decode())
            link = f"{place}{urlsplit(self.path).path}?recursive=true&limit={self.hub.page}&cursor={cursor}"
            headers = {"Link": f'<{link}>; rel="next"'}
        self.answer_json(200, rows[start:end], headers)

    def _resolve(self, repository: Repository, commit: str, asked: dict[str, str]) -> None:
        file = repository.commits[commit].get(asked["path"])
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.sha256 if file.lfs else file.oid}"'}
        if file.lfs:
            headers |= {"X-Linked-Size": str(len(file.data)), "X-Linked-ETag": f'"{file.sha256}"'}
            headers |= (
                {"X-Xet-Hash": file.sha256, "Link": f'<{self.hub.url}/xet>; rel="xet-auth"'} if self.hub.xet else {}
            )
            self.answer(302, b"Found", headers | {"Location": self.hub.cdn.keep(file)})
        elif repository.private or repository.gated:
            self.answer_range(file.data, headers)
        else:
            place = f"/api/resolve-cache/models/{asked['name']}/{commit}/{quote(asked['path'])}?etag=%22{file.oid}%22"
            self.answer(307, b"Temporary Redirect", {"X-Repo-Commit": commit, "Location": place})

    def _cached(self, repository: Repository, commit: str, asked: dict[str, str]) -> None:
        file = repository.commits[commit][asked["path"]]
        self.answer_range(file.data, {"X-Repo-Commit": commit, "ETag": f'"{file.oid}"'})


def _rows(tree: Mapping[str, File], *, recursive: bool, xet: bool) -> list[dict[str, object]]:
    """Return what the hub lists: folders too, files with what LFS knows of them."""
    folders = {posixpath.dirname(path) for path in tree if not path.startswith("/")} - {""}
    rows: list[dict[str, object]] = [
        {"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders
    ]
    for path, file in tree.items():
        row: dict[str, object] = {"type": "file", "oid": file.oid, "size": len(file.data), "path": path}
        if file.lfs:
            row["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
        rows.append(row | ({"xetHash": file.sha256} if file.lfs and xet else {}))
    return [row for row in rows if recursive or "/" not in str(row["path"])]
