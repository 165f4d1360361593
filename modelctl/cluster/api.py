"""The one file that talks to a cluster. Objects come and go as plain data.

Everything is tried again as `core/retry.py` has it. A cluster that has not answered yet may be one that is no more: it
is given up after 2 s where nobody listens, after 20 s where nobody answers.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from modelctl.cluster.following import Expired, Followed
from modelctl.cluster.labels import Object
from modelctl.core.errors import BadAnswer, Conflict, Denied, Invalid, ModelctlError, NotFound, Unavailable
from modelctl.core.retry import BRIEF, retry_after, retrying

_CONNECT_S = 5
_READ_S = 20
_BRIEF_READ_S = 10
_QUIET_S = 90
"""A watch that tells nothing for so long is begun anew: bookmarks come each minute (KEP-956)."""

_WATCH_S = 300
_PAGE = 500
_CONNECTIONS = 64
_PIECE = 64 << 10
_LONGEST = 400
_BUSY = (429, 500, 502, 503, 504)
_MANAGER = "modelctl"

_Result = TypeVar("_Result")

_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Namespace": "/api/v1/namespaces",
}


class _Contended(Unavailable):
    """Somebody else changed the object meanwhile (409 Conflict)."""


def contexts(kubeconfig: str) -> tuple[list[str], str]:
    """Return the names of all contexts, and of the current one.

    Args:
        kubeconfig: Its path; empty for `KUBECONFIG` or `~/.kube/config`.

    Raises:
        NotFound: There is no such file, or no context in it.
    """
    found, current = _contexts(kubeconfig)
    return [context["name"] for context in found], current["name"] if current else ""


def _contexts(kubeconfig: str) -> tuple[list[Object], Object | None]:
    from kubernetes import config

    try:
        found, current = config.list_kube_config_contexts(kubeconfig or None)
    except config.ConfigException as error:
        raise NotFound(f"kubeconfig {kubeconfig}".rstrip(), why=str(error), hint="--kubeconfig names it") from error
    return found, current


class Cluster:
    """The cluster that a context names; it is first asked when something is asked for. Thread-safe.

    All that asks raises:
        Unavailable: No answer, or one that says: not now; again and again. BadAnswer: One that makes no sense.
        Denied: 401, 403; `why` has what the cluster says: a missing right, a quota, a Pod Security level.
        NotFound: 404. Invalid: 400, 422. Conflict: 409, again and again.
    """

    def __init__(self, context: str, kubeconfig: str = "", stop: threading.Event | None = None) -> None:
        """Take a context of a kubeconfig, kubectl's when empty; nothing is asked any more once `stop` is set."""
        from kubernetes import client, config

        self.context = context
        self._stop = stop or threading.Event()
        self._kubeconfig = kubeconfig
        settings = client.Configuration()
        settings.retries = False
        settings.keep_alive = True
        settings.connection_pool_maxsize = _CONNECTIONS
        try:
            config.load_kube_config(kubeconfig or None, context, client_configuration=settings)
        except config.ConfigException as error:
            raise NotFound(f"context {context}", why=str(error), hint="kubectl config get-contexts") from error
        self._client = client.ApiClient(settings)
        self._token = threading.Lock()
        self._answered = False

    @functools.cached_property
    def namespace(self) -> str:
        """The namespace that the context names, or "default"."""
        found = next((one for one in _contexts(self._kubeconfig)[0] if one["name"] == self.context), {})
        return found.get("context", {}).get("namespace") or "default"

    def version(self) -> str:
        """Return the version of the API server, as `v1.36.3`."""
        return str(self._ask("GET", "/version").get("gitVersion", ""))

    def nodes(self, selector: str = "") -> list[Object]:
        """Return the nodes that `selector` matches; all of them when it is empty."""
        return self._list("/api/v1/nodes", selector)

    def pods(self, namespace: str, selector: str) -> list[Object]:
        """Return the pods that `selector` matches, of one namespace or of all when it is empty."""
        return self._list(_pods_path(namespace), selector)

    def jobs(self, namespace: str, selector: str) -> list[Object]:
        """Return the Jobs that `selector` matches, of one namespace or of all when it is empty."""
        place = f"/namespaces/{_part(namespace)}" if namespace else ""
        return self._list(f"/apis/batch/v1{place}/jobs", selector)

    def events(self, namespace: str) -> list[Object]:
        """Return the events of a namespace."""
        return self._list(f"/api/v1/namespaces/{_part(namespace)}/events", "")

    def stats(self, node: str) -> Object:
        """Return a kubelet's own figures, sizes in bytes; it is asked once.

        Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1, Summary.
        """
        return self._asked("GET", f"/api/v1/nodes/{_part(node)}/proxy/stats/summary", {}, brief=True)

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object of a kind in `_PATHS`, None when it is not there."""
        try:
            return self._ask("GET", _path(kind, namespace, name))
        except NotFound:
            return None

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Delete an object, and in the background what it owns; say whether it was there."""
        try:
            self._ask("DELETE", _path(kind, namespace, name), {"propagationPolicy": "Background"})
        except NotFound:
            return False
        return True

    def apply(self, found: Object, *, dry_run: bool = False) -> Object:
        """Create an object, or make it as `found` says, by server-side apply; return it as it is now.

        Args:
            found: With kind, name and namespace; without a namespace, in the context's.
            dry_run: The cluster checks it, and changes nothing.
        """
        metadata = found["metadata"]
        path = _path(found["kind"], metadata.get("namespace") or self.namespace, metadata["name"])
        query = {"fieldManager": _MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return self._ask("PATCH", path, query, body=found, media_type="application/apply-patch+yaml")

    def label_node(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of a node; None removes one."""
        body = {"metadata": {"labels": dict(labels)}}
        path, query = f"/api/v1/nodes/{_part(name)}", {"fieldManager": _MANAGER}
        self._ask("PATCH", path, query, body=body, media_type="application/merge-patch+json")

    @contextmanager
    def following(self, namespace: str, selector: str) -> Iterator[Followed]:
        """Follow the pods that `selector` matches, of one namespace, by one list and one watch.

        The list comes first, and raises what it raises; the watch's errors are raised by `Followed.next`.
        """
        path = _pods_path(namespace)
        followed = Followed(
            f"cluster {self.context}, pods",
            lambda: self._pages(path, selector),
            lambda version: self._watch(path, selector, version),
        )
        self._retrying(followed.load)
        followed.start()
        try:
            yield followed
        finally:
            followed.stop()

    def _retrying(self, work: Callable[[], _Result]) -> _Result:
        """Do `work` again as long as the cluster deserves: briefly, until it has answered, if only that it is busy."""
        if not self._answered:
            try:
                return retrying(work, BRIEF)
            except Unavailable:
                if not self._answered:
                    raise
        return retrying(work)

    def _list(self, path: str, selector: str) -> list[Object]:
        return self._retrying(lambda: self._pages(path, selector))[0]

    def _pages(self, path: str, selector: str) -> tuple[list[Object], str]:
        """List once, page by page; return the objects and the resourceVersion at which they were so."""
        items: list[Object] = []
        following = ""
        while True:
            query = {"limit": str(_PAGE), "labelSelector": selector, "continue": following}
            document = self._asked("GET", path, {name: value for name, value in query.items() if value})
            metadata = document.get("metadata", {})
            items += document.get("items") or []
            following = metadata.get("continue", "")
            if not following:
                return items, metadata.get("resourceVersion", "")

    def _watch(self, path: str, selector: str, version: str) -> _Watch:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_S),
            "labelSelector": selector,
            "resourceVersion": version,
        }
        return _Watch(self, path, self._open("GET", path, query, read_s=_QUIET_S).response)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        media_type: str = "",
    ) -> Object:
        """Ask until there is an answer; return it."""
        try:
            return self._retrying(lambda: self._asked(method, path, query or {}, body=body, media_type=media_type))
        except _Contended as error:
            raise Conflict(error.what, why=error.why) from error

    def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | None = None,
        media_type: str = "",
        brief: bool = False,
    ) -> Object:
        """Ask once."""
        if self._stop.is_set():
            raise BadAnswer(f"cluster {self.context}", why="the command was ended before it was asked")
        read_s = _READ_S if self._answered and not brief else _BRIEF_READ_S
        response = self._open(method, path, query, body=body, media_type=media_type, read_s=read_s)
        with self.connection(path):
            data = response.read()
        self._answered = True
        return _parsed(data, f"cluster {self.context}, {path}")

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | None = None,
        media_type: str = "",
        read_s: int,
    ) -> Any:
        """Send a request, once, and return a good answer, a `RESTResponse`, its body not yet read."""
        headers = {"Accept": "application/json"} | ({"Content-Type": media_type} if media_type else {})
        with self.connection(path):
            with self._token:
                request = self._client.param_serialize(
                    method,
                    path,
                    query_params=list(query.items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                )
            response = self._client.call_api(*request, _request_timeout=(_CONNECT_S, read_s))
            self._answered |= response.status == HTTPStatus.TOO_MANY_REQUESTS
            if response.status in (200, 201, 202):
                return response
            said = _said(response.read()) or response.reason
        raise self.problem(response.status, said, path, retry_after(response.headers))

    @contextmanager
    def connection(self, path: str) -> Iterator[None]:
        """Translate what goes wrong on a connection: worth another try, unless a certificate is not right."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        name, hint = f"cluster {self.context}", f"kubectl --context {self.context} version"
        try:
            yield
        except ApiException as error:
            wrong = "CERTIFICATE_VERIFY_FAILED" in str(error.reason)
            why = f"{path}: {' '.join(str(error.reason).split())}"
            raise (BadAnswer if wrong else Unavailable)(name, why=why, hint=hint) from error
        except (HTTPError, OSError) as error:
            raise Unavailable(name, why=f"{path}: {error}", hint=hint) from error

    def problem(self, status: int, said: str, path: str, wait_s: float | None = None) -> ModelctlError:
        """Translate an answer into an error.

        Source: kubernetes.io/docs/reference/using-api/api-concepts, and api-conventions.md, "HTTP Status codes".
        """
        name, why = f"cluster {self.context}", f"{path}: it answered {status}: {said}"
        if status in (401, 403):
            lacking = status == 401 or "cannot" in said
            hint = f"kubectl --context {self.context} auth can-i --list" if lacking else ""
            return Denied(name, why=why, hint=hint)
        if status in _BUSY:
            return Unavailable(name, why=why, retry_after=wait_s)
        return _MEANINGS.get(status, BadAnswer)(name, why=why)


_MEANINGS: dict[int, type[ModelctlError]] = {
    400: Invalid,
    404: NotFound,
    409: _Contended,
    410: Expired,
    422: Invalid,
}


class _Watch:
    """A watch of `path`, whose answer, urllib3's, has begun."""

    def __init__(self, cluster: Cluster, path: str, response: Any) -> None:
        self._cluster, self._path, self._response = cluster, path, response

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        """Yield events; one that is cut off is dropped, one that is an error is raised."""
        rest = b""
        try:
            with self._cluster.connection(self._path):
                while piece := self._response.read1(_PIECE):
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from map(self._event, lines)
        finally:
            self._response.close()

    def end(self) -> None:
        """Let the thread that reads read no more. It alone may close."""
        with suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()

    def _event(self, line: bytes) -> tuple[str, Object]:
        what = f"cluster {self._cluster.context}, watch of {self._path}"
        event = _parsed(line, what)
        kind, found = event.get("type"), event.get("object")
        if not isinstance(kind, str) or not isinstance(found, dict):
            raise BadAnswer(what, why="an event is not one")
        if kind == "ERROR":
            raise self._cluster.problem(found.get("code", 500), _short(found.get("message", "")), self._path)
        return kind, found


def _path(kind: str, namespace: str, name: str) -> str:
    return f"{_PATHS[kind].format(_part(namespace))}/{_part(name)}"


def _pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{_part(namespace)}/pods" if namespace else "/api/v1/pods"


def _part(name: str) -> str:
    return quote(name, safe="")


def _said(body: bytes) -> str:
    """Return what an error answer says, in a line: the message of a Status, or the text that somebody between sent."""
    text = body.decode("utf-8", "replace")
    with suppress(ValueError):
        document = json.loads(text)
        if isinstance(document, dict):
            return _short(str(document.get("message", "")))
    return _short(text)


def _short(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def _parsed(body: bytes, what: str) -> Object:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadAnswer(what, why="its answer is not JSON") from error
    if not isinstance(document, dict):
        raise BadAnswer(what, why="its answer is not an object")
    return document
