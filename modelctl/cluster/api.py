"""The one file that talks to a cluster. Objects come and go as plain data."""

from __future__ import annotations

import json

from modelctl.cluster.labels import Object
from modelctl.core.errors import BadAnswer, Denied, NotFound, Unavailable

_TIMEOUT_S = 20
_PAGE = 500
_BUSY = (429, 500, 502, 503, 504)


def contexts(kubeconfig: str) -> tuple[list[str], str]:
    """Return the names of all contexts, and of the current one.

    Args:
        kubeconfig: Its path; empty for `KUBECONFIG` or `~/.kube/config`.

    Raises:
        NotFound: There is no such file, or no context in it.
    """
    from kubernetes import config

    try:
        found, current = config.list_kube_config_contexts(kubeconfig or None)
    except config.ConfigException as error:
        raise NotFound(f"kubeconfig {kubeconfig}".rstrip(), why=str(error), hint="--kubeconfig names it") from error
    return [context["name"] for context in found], current["name"] if current else ""


class Cluster:
    """The cluster that a context names; it is first asked when something is asked for."""

    def __init__(self, context: str, kubeconfig: str = "") -> None:
        from kubernetes import client, config

        self.context = context
        settings = client.Configuration()
        settings.retries = False
        try:
            config.load_kube_config(kubeconfig or None, context, client_configuration=settings)
        except config.ConfigException as error:
            raise NotFound(f"context {context}", why=str(error), hint="kubectl config get-contexts") from error
        self._client = client.ApiClient(settings)

    def nodes(self) -> list[Object]:
        """Return all nodes."""
        return self._list("/api/v1/nodes", "")

    def pods(self, namespace: str, selector: str) -> list[Object]:
        """Return the pods that `selector` matches, of one namespace or of all when it is empty."""
        return self._list(f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods", selector)

    def events(self, namespace: str) -> list[Object]:
        """Return the events of a namespace."""
        return self._list(f"/api/v1/namespaces/{namespace}/events", "")

    def _list(self, path: str, selector: str) -> list[Object]:
        items: list[Object] = []
        following = ""
        while True:
            query = {"limit": str(_PAGE), "labelSelector": selector, "continue": following}
            document = self._get(path, {name: value for name, value in query.items() if value})
            items += document.get("items") or []
            following = document.get("metadata", {}).get("continue", "")
            if not following:
                return items

    def _get(self, path: str, query: dict[str, str]) -> Object:
        from urllib3.exceptions import HTTPError

        name = f"cluster {self.context}"
        headers = {"Accept": "application/json"}
        request = self._client.param_serialize(
            "GET", path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*request, _request_timeout=_TIMEOUT_S)
            body = response.read()
        except (HTTPError, OSError) as error:
            hint = f"kubectl --context {self.context} version"
            raise Unavailable(name, why=f"{path}: {error}", hint=hint) from error
        why = f"{path}: it answered {response.status} {response.reason}"
        if response.status in (401, 403):
            raise Denied(name, why=why, hint=f"kubectl --context {self.context} auth can-i --list")
        if response.status != 200:
            raise (Unavailable if response.status in _BUSY else BadAnswer)(name, why=why)
        return _parsed(body, f"{name}, {path}")


def _parsed(body: bytes, what: str) -> Object:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadAnswer(what, why="its answer is not JSON") from error
    if not isinstance(document, dict):
        raise BadAnswer(what, why="its answer is not an object")
    return document
