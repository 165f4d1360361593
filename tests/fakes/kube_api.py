"""A small Kubernetes API server: lists of objects, by namespace, label and page, for whoever has the token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

TOKEN = "a-service-account-token"


@dataclass
class KubeApi:
    """What the server has, {kind: objects}; `requests` are the paths that were asked for, `status` answers them all."""

    url: str
    objects: dict[str, list[Object]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int = 200
    page: int = 2
    """Most objects of an answer, whatever was asked for: an API server may give fewer."""


@contextmanager
def kube_api() -> Iterator[KubeApi]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    api = KubeApi(f"http://127.0.0.1:{server.server_port}")
    server.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


def kubeconfig(path: Path, servers: dict[str, str], token: str = TOKEN) -> Path:
    """Write a kubeconfig with a context for each server; the first is the current one."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(servers), ""),
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "user"}} for name in servers],
    }
    path.write_text(json.dumps(document))
    return path


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        api: KubeApi = self.server.api  # type: ignore[attr-defined]
        api.requests.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"kind": "Status"})
            return
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        found = _selected(api.objects, place.path.removeprefix("/api/v1/").split("/"), query.get("labelSelector", ""))
        start = int(query.get("continue", "0"))
        end = start + min(api.page, int(query.get("limit", "500")))
        metadata = {"continue": str(end)} if end < len(found) else {}
        self._answer(api.status, {"kind": "List", "metadata": metadata, "items": found[start:end]})

    def _answer(self, status: int, document: Object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept, not printed."""


def _selected(objects: dict[str, list[Object]], parts: Sequence[str], selector: str) -> list[Object]:
    namespace = parts[1] if parts[0] == "namespaces" else ""
    label, _, value = selector.partition("=")
    return [
        found
        for found in objects.get(parts[-1], [])
        if namespace in ("", found["metadata"].get("namespace"))
        and (not selector or found["metadata"].get("labels", {}).get(label) == value)
    ]
