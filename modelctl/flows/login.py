"""Log in to a registry and out of it: credentials are kept after the registry took them."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

from modelctl.core.access import Access
from modelctl.core.errors import NotFound, UsageProblem
from modelctl.core.http import drain
from modelctl.core.reference import check_registry
from modelctl.core.retry import retrying
from modelctl.registry.credentials import forget_credentials, save_credentials
from modelctl.registry.transport import Transport


def log_in(registry: str, user: str, password: str, access: Access, *, in_helper: bool = True) -> str:
    """Try credentials at a registry and keep them, in docker's helper only if that is wanted.

    Returns:
        Where they are kept.

    Raises:
        UsageProblem: That is no registry. Denied: The registry refused them; nothing was kept.
    """
    check_registry(registry)
    if not user or not password:
        raise UsageProblem(f"log in to {registry}", why="the user or the password is empty")
    with tempfile.TemporaryDirectory(prefix="modelctl-login-") as folder:
        trial = str(Path(folder) / "config.json")
        Path(trial).write_text(json.dumps({}))
        save_credentials(registry, user, password, trial)
        transport = Transport(registry, dataclasses.replace(access, authfile=trial))
        drain(retrying(lambda: transport.request("GET", "/v2/", scope="", what="log in")))
    return save_credentials(registry, user, password, access.authfile, in_helper=in_helper)


def log_out(registry: str, access: Access) -> None:
    """Forget the credentials of a registry; `NotFound` when there are none."""
    if not forget_credentials(registry, access.authfile):
        raise NotFound(f"credentials of {registry}", why="there are none to forget")
