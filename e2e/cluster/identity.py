"""Who is who: certificates, signed by the run's own CA, and kubeconfigs that name them. All lie in BASE."""

from __future__ import annotations

import json

from e2e.cluster.plan import BASE
from e2e.cluster.processes import sh

_SIGNED = ("-CA", "ca.crt", "-CAkey", "ca.key", "-extensions", "usr_cert")


def make_certificate(name: str, subject: str) -> None:
    """Write NAME.key and NAME.crt, which signs itself."""
    _openssl(name, subject)


def make_signed_certificate(name: str, subject: str, extension: str) -> None:
    """Write NAME.key and NAME.crt, signed by the CA."""
    _openssl(name, subject, *_SIGNED, "-addext", extension)


def _openssl(name: str, subject: str, *more: str) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
    sh("openssl", "req", "-x509", *key, "-subj", subject, *files, *more, cwd=BASE, capture_output=True)


def write_kubeconfig(file: str, servers: dict[str, str]) -> str:
    """Write a kubeconfig with a context for each of {name: server}, the first of them current; return its path.

    The user of a context is whose certificate has its name.
    """
    path = BASE / file
    authority = f"{BASE}/ca.crt"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(servers)),
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority": authority}}
            for name, server in servers.items()
        ],
        "users": [
            {"name": name, "user": {"client-certificate": f"{BASE}/{name}.crt", "client-key": f"{BASE}/{name}.key"}}
            for name in servers
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in servers],
    }
    path.write_text(json.dumps(document))
    return str(path)
