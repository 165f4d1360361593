"""A small Kubernetes API server: what it checks, the real one checks. What befalls requests, `Fault`s say."""

from __future__ import annotations

import copy
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

Object = dict[str, Any]

TOKEN = "a-service-account-token"

VERSION = "v1.36.3"

_APIS = {
    "configmaps": ("v1", "ConfigMap"),
    "daemonsets": ("apps/v1", "DaemonSet"),
    "events": ("v1", "Event"),
    "jobs": ("batch/v1", "Job"),
    "namespaces": ("v1", "Namespace"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
}
_CLUSTERWIDE = ("namespaces", "nodes")
_PLACE = re.compile(
    r"/(?:api|apis)/(?P<api>(?:[\w.]+/)?v1)/(?:namespaces/(?P<namespace>[^/]+)/)?"
    r"(?P<kind>[a-z]+)(?:/(?P<name>[^/]+)(?P<rest>/.+)?)?"
)
_LABEL = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?")
_PATCHES = {"application/merge-patch+json", "application/apply-patch+yaml"}


@dataclass
class Fault:
    """What befalls the next request, or the next `times`, whose "METHOD /path?query" has `pattern` in it."""

    pattern: str
    status: int = 0
    """Answer with it and `message`, in a Status; as an ERROR event when `event`, which only a watch has."""
    message: str = "told to"
    headers: dict[str, str] = field(default_factory=dict)
    event: bool = False
    cut: int | None = None
    """Hang up after so many bytes of the answer's body, chunk headers counted."""
    hang: str = ""
    """Say nothing any more, until the server ends: "before" or "after" the headers of the answer."""
    drop: bool = False
    """Hang up without an answer."""
    times: int = 1


class Change(NamedTuple):
    """An object of a kind, before and after `version`; None where it was not there. No kind: only a bookmark."""

    version: int
    kind: str
    before: Object | None
    after: Object | None


class KubeApi:
    """What the server has, {kind: objects}, kinds as in URLs; `stats` are of kubelets, {node: summary}.

    `requests` are "METHOD /path?query", as they came. `status` answers them all, unless it is 200. `release` is the
    version that it says it has. `on_apply` is called with each object that was applied, outside of locks: it may play a
    controller. Thread-safe but for `objects`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.objects: dict[str, list[Any]] = {"namespaces": [{"metadata": {"name": "default"}}]}
        self.stats: dict[str, Object] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.on_apply: Callable[[Object], None] | None = None
        self.status = 200
        self.release = VERSION
        self.page = 2
        """Most objects of an answer, whatever was asked for: an API server may give fewer."""
        self.version = 1
        self.compacted = 0
        """A watch from before this version is told 410 Gone."""
        self.changes: list[Change] = []
        self.changed = threading.Condition(threading.RLock())
        self.closed = False

    def put(self, kind: str, found: Object) -> Object:
        """Create or replace an object, as a controller or kubelet does; return it as it is now."""
        with self.changed:
            found = copy.deepcopy(found)
            metadata = found["metadata"]
            before = self.find(kind, metadata["name"], metadata.get("namespace", ""))
            metadata["uid"] = before["metadata"].get("uid") if before else str(uuid.uuid4())
            self._change(kind, before, found)
            return copy.deepcopy(found)

    def remove(self, kind: str, name: str, namespace: str = "") -> bool:
        """Remove an object and what it owns; of any namespace when that is empty. Say whether it was there."""
        with self.changed:
            before = self.find(kind, name, namespace)
            if before is None:
                return False
            self._change(kind, before, None)
            for each in _APIS:
                for found in list(self.objects.get(each, [])):
                    if _belongs(found, kind, before):
                        self._change(each, found, None)
            return True

    def bookmark(self) -> None:
        """Tell watches how far they are."""
        with self.changed:
            self._log("", None, None)

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        with self.changed:
            for found in self.objects.get(kind, []):
                metadata = found["metadata"]
                if metadata["name"] == name and namespace in ("", metadata.get("namespace", "")):
                    return dict(found)
        return None

    def asked(self, pattern: str) -> int:
        """Return how many requests had `pattern` in them."""
        return sum(pattern in request for request in self.requests)

    def since(self, version: int, timeout_s: float) -> list[Change]:
        """Wait for changes after a version and return them; none when there are none for so long [s]."""
        with self.changed:
            self.changed.wait_for(lambda: self.version > version or self.closed, timeout_s)
            return [change for change in self.changes if change.version > version]

    def _change(self, kind: str, before: Object | None, after: Object | None) -> None:
        rest = [found for found in self.objects.get(kind, []) if not before or _key(found) != _key(before)]
        if after:
            after["metadata"]["resourceVersion"] = str(self.version + 1)
        self.objects[kind] = [*rest, after] if after else rest
        self._log(kind, before, copy.deepcopy(after))

    def _log(self, kind: str, before: Object | None, after: Object | None) -> None:
        self.version += 1
        self.changes.append(Change(self.version, kind, before, after))
        self.changed.notify_all()


@contextmanager
def kube_api(tls: ssl.SSLContext | None = None) -> Iterator[KubeApi]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    api = KubeApi(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}")
    server.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield api
    finally:
        with api.changed:
            api.closed = True
            api.changed.notify_all()
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(
    path: Path, servers: dict[str, str], token: str = TOKEN, *, namespace: str = "", ca: Path | None = None
) -> Path:
    """Write a kubeconfig with a context for each server; the first is the current one."""
    authority = {"certificate-authority": str(ca)} if ca else {}
    inside = {"namespace": namespace} if namespace else {}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(servers), ""),
        "clusters": [{"name": name, "cluster": {"server": url, **authority}} for name, url in servers.items()],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "user", **inside}} for name in servers],
    }
    path.write_text(json.dumps(document))
    return path


class _Refused(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _HungUp(Exception):
    """The connection is to end here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.api: KubeApi = self.server.api  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        line = f"{self.command} {self.path}"
        with self.api.changed:
            self.api.requests.append(line)
            self.fault = next((fault for fault in self.api.faults if fault.pattern in line), Fault(""))
            self.left = self.fault.cut
            self.fault.times -= 1
            self.api.faults = [fault for fault in self.api.faults if fault.times > 0]
        try:
            try:
                self._befall()
                self._answer(*self._done(body))
            except _Refused as refused:
                self._answer(refused.code, _status(refused.code, refused.message))
        except (_HungUp, ConnectionError):
            self.close_connection = True

    def _befall(self) -> None:
        if self.fault.drop:
            raise _HungUp
        if self.fault.hang == "before":
            self._hang()
        if self.fault.status and not self.fault.event:
            raise _Refused(self.fault.status, self.fault.message)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "Unauthorized")
        if self.api.status != 200:
            raise _Refused(self.api.status, "so it was told")

    def _hang(self) -> None:
        with self.api.changed:
            self.api.changed.wait_for(lambda: self.api.closed)
        raise _HungUp

    def _done(self, body: bytes) -> tuple[int, Object]:
        """Do what was asked for."""
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        if (self.command, place.path) == ("GET", "/version"):
            return 200, {"gitVersion": self.api.release}
        found = _PLACE.fullmatch(place.path)
        if not found or _APIS.get(found["kind"], ("",))[0] != found["api"]:
            raise _Refused(404, "the server could not find the requested resource")
        kind, name, namespace = (unquote(found[part] or "") for part in ("kind", "name", "namespace"))
        if found["rest"]:
            return self._stats(found["rest"], name)
        if not name:
            return self._many(kind, namespace, query)
        if self.command == "PATCH":
            return self._patch(kind, namespace, name, query, body)
        with self.api.changed:
            before = self.api.find(kind, name, namespace)
            if before is None:
                raise _Refused(404, f'{kind} "{name}" not found')
            if self.command == "GET":
                return 200, before
            if kind == "jobs" and "propagationPolicy" not in query:
                raise _Refused(400, "child pods are preserved by default when jobs are deleted")
            self.api.remove(kind, name, namespace)
            return 200, {"kind": "Status", "status": "Success"}

    def _stats(self, rest: str, name: str) -> tuple[int, Object]:
        if rest != "/proxy/stats/summary" or name not in self.api.stats:
            raise _Refused(403, f'nodes "{name}" is forbidden: User "tests" cannot get resource "nodes/proxy"')
        return 200, self.api.stats[name]

    def _many(self, kind: str, namespace: str, query: dict[str, str]) -> tuple[int, Object]:
        if self.command != "GET":
            raise _Refused(405, "the server does not allow this method on the requested resource")
        terms = _terms(query.get("labelSelector", ""))

        def wanted(found: Object | None) -> bool:
            return bool(found) and namespace in ("", found["metadata"].get("namespace")) and _matches(found, terms)

        if query.get("watch") in ("1", "true"):
            self._watch(kind, wanted, query)
        with self.api.changed:
            found = [found for found in self.api.objects.get(kind, []) if wanted(found)]
            metadata = {"resourceVersion": str(self.api.version)}
        start = int(query.get("continue", "0"))
        end = start + min(self.api.page, int(query.get("limit", "500")))
        metadata |= {"continue": str(end)} if end < len(found) else {}
        return 200, {"kind": "List", "metadata": metadata, "items": found[start:end]}

    def _watch(self, kind: str, wanted: Callable[[Object | None], bool], query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send(b"")
        if self.fault.hang == "after":
            self._hang()
        seen = int(query["resourceVersion"])
        if self.fault.status or seen < self.api.compacted:
            code = self.fault.status or 410
            self._chunk({"type": "ERROR", "object": _status(code, f"too old resource version: {seen}")})
        else:
            self._tell(kind, wanted, seen, query)
        self._send(b"0\r\n\r\n")
        raise _HungUp

    def _tell(self, kind: str, wanted: Callable[[Object | None], bool], seen: int, query: dict[str, str]) -> None:
        end = time.monotonic() + int(query.get("timeoutSeconds", "1800"))
        bookmarks = query.get("allowWatchBookmarks") == "true"
        while not self.api.closed:
            news = self.api.since(seen, end - time.monotonic())
            if not news:
                break
            for change in news:
                event = _event(kind, change, wanted)
                if event and (bookmarks or event["type"] != "BOOKMARK"):
                    self._chunk(event)
                seen = change.version

    def _patch(self, kind: str, namespace: str, name: str, query: dict[str, str], body: bytes) -> tuple[int, Object]:
        media_type = self.headers.get("Content-Type", "")
        if media_type not in _PATCHES:
            raise _Refused(415, f"the body of the request was in an unknown format: {media_type}")
        document = json.loads(body)
        if media_type == "application/merge-patch+json":
            return 200, self._merge(kind, namespace, name, document)
        if not query.get("fieldManager"):
            raise _Refused(400, "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required")
        if query.get("dryRun") not in (None, "All"):
            raise _Refused(422, f"dryRun: Unsupported value: {query['dryRun']}")
        status, applied = self._apply(kind, namespace, name, document, dry_run="dryRun" in query)
        if self.api.on_apply and "dryRun" not in query:
            self.api.on_apply(copy.deepcopy(applied))
        return status, applied

    def _merge(self, kind: str, namespace: str, name: str, patch: Object) -> Object:
        with self.api.changed:
            before = self.api.find(kind, name, namespace)
            if before is None:
                raise _Refused(404, f'{kind} "{name}" not found')
            after = _merged(before, patch)
            _check_labels(after)
            return self.api.put(kind, after)

    def _apply(self, kind: str, namespace: str, name: str, wanted: Object, *, dry_run: bool) -> tuple[int, Object]:
        api_version, title = _APIS[kind]
        metadata = wanted.get("metadata", {})
        if (wanted.get("apiVersion"), wanted.get("kind"), metadata.get("name")) != (api_version, title, name):
            raise _Refused(400, f"the object does not match {api_version} {title} {name} of the URL")
        if metadata.get("namespace", namespace) != namespace or bool(namespace) == (kind in _CLUSTERWIDE):
            raise _Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        _check_labels(wanted)
        with self.api.changed:
            if namespace and not self.api.find("namespaces", namespace):
                raise _Refused(404, f'namespaces "{namespace}" not found')
            before = self.api.find(kind, name, namespace)
            after = _applied(before, wanted, namespace)
            if before and title == "Job" and before["spec"]["template"] != after["spec"]["template"]:
                raise _Refused(422, f'Job.batch "{name}" is invalid: spec.template: Invalid value: field is immutable')
            if not dry_run and after != before:
                after = self.api.put(kind, after)
        return (200 if before else 201), after

    def _answer(self, status: int, document: Object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.fault.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(body)

    def _chunk(self, event: Object) -> None:
        line = json.dumps(event).encode() + b"\n"
        self._send(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    def _send(self, data: bytes) -> None:
        """Send a piece of the body, and hang up where a fault says so."""
        self.wfile.write(data if self.left is None else data[: self.left])
        if self.left is not None:
            self.left -= len(data)
            if self.left <= 0:
                raise _HungUp

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept, not printed."""


def _status(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def _key(found: Object) -> tuple[str, str]:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def _belongs(found: Object, kind: str, owner: Object) -> bool:
    """Say whether an object goes when its owner goes, or its namespace."""
    metadata, of = found["metadata"], owner["metadata"]
    owners = [one.get("uid") for one in metadata.get("ownerReferences", [])]
    return of.get("uid") in owners or (kind == "namespaces" and metadata.get("namespace") == of["name"])


def _event(kind: str, change: Change, wanted: Callable[[Object | None], bool]) -> Object | None:
    """Return what a watch tells of a change: an object that matches no more was DELETED, as far as it is concerned."""
    if not change.kind:
        return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(change.version)}}}
    was, is_there = wanted(change.before), wanted(change.after)
    if change.kind != kind or not (was or is_there):
        return None
    found = copy.deepcopy(change.after or change.before or {})
    found["metadata"]["resourceVersion"] = str(change.version)
    return {"type": "DELETED" if not is_there else "MODIFIED" if was else "ADDED", "object": found}


def _applied(before: Object | None, wanted: Object, namespace: str) -> Object:
    """Return an object as it is after an apply by the only one who applies it."""
    after = copy.deepcopy(wanted)
    after["metadata"] |= {"namespace": namespace} if namespace else {}
    if not before:
        after["metadata"]["uid"] = str(uuid.uuid4())
        return after
    kept = ("uid", "resourceVersion", "ownerReferences")
    after["metadata"] |= {key: value for key, value in before["metadata"].items() if key in kept}
    return after | ({"status": before["status"]} if "status" in before else {})


def _merged(target: Any, patch: Any) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _check_labels(found: Object) -> None:
    for key, value in found["metadata"].get("labels", {}).items():
        if not _LABEL.fullmatch(key) or not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise _Refused(422, f"metadata.labels: Invalid value: {key}={value}")


def _terms(selector: str) -> list[tuple[str, str, set[str]]]:
    """Parse a label selector into (key, operator, values)."""
    terms = []
    for text in re.findall(r"(?:[^,(]|\([^)]*\))+", selector):
        if inside := re.fullmatch(r"\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*", text):
            terms.append((inside[1], inside[2], {value.strip() for value in inside[3].split(",")}))
        elif equal := re.fullmatch(r"\s*([^\s=!]+)\s*(==|=|!=)\s*([^\s=!]*)\s*", text):
            terms.append((equal[1], "notin" if equal[2] == "!=" else "in", {equal[3]}))
        elif there := re.fullmatch(r"\s*(!?)\s*([^\s=!]+)\s*", text):
            terms.append((there[2], there[1] or "exists", set()))
        else:
            raise _Refused(400, f"unable to parse requirement: {text}")
    return terms


def _matches(found: Object, terms: list[tuple[str, str, set[str]]]) -> bool:
    labels = found["metadata"].get("labels") or {}
    meanings: dict[str, Callable[[str, set[str]], bool]] = {
        "in": lambda key, values: key in labels and labels[key] in values,
        "notin": lambda key, values: labels.get(key) not in values,
        "exists": lambda key, _: key in labels,
        "!": lambda key, _: key not in labels,
    }
    return all(meanings[operator](key, values) for key, operator, values in terms)
