"""Log in to a registry and out of it: credentials are kept after the registry took them, or asked for none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelctl.core.access import Access, Login
from modelctl.core.errors import Denied, NotFound, UsageProblem
from modelctl.core.http import drain
from modelctl.core.reference import check_registry
from modelctl.core.retry import retrying
from modelctl.registry.credentials import forget_credentials, save_credentials
from modelctl.registry.transport import Transport


@dataclass(frozen=True)
class Kept:
    """Where credentials are `kept`, and whether they were `tried`: not where the registry asked for none."""

    registry: str
    user: str
    kept: str
    tried: bool


def log_in(registry: str, user: str, password: str, access: Access, *, in_helper: bool = True) -> Kept:
    """Try credentials at a registry and keep them, in docker's helper only if that is wanted.

    Raises:
        UsageProblem: That is no registry. Denied: The registry refused them; nothing was kept.
    """
    check_registry(registry)
    if not user or not password:
        raise UsageProblem(f"log in to {registry}", why="the user or the password is empty")
    try:
        f"{user}{password}".encode()
    except UnicodeEncodeError as error:
        raise UsageProblem(f"log in to {registry}", why="the user or the password is not UTF-8") from error
    tried = _try_credentials(registry, replace(access, login=Login(user, password, "this login")))
    return Kept(registry, user, save_credentials(registry, user, password, access.authfile, in_helper=in_helper), tried)


def _try_credentials(registry: str, access: Access) -> bool:
    """Say whether a registry took credentials or asked for none; `Denied` when it refused them."""
    transport = Transport(registry, access)
    try:
        drain(retrying(lambda: transport.request("GET", "/v2/", scope="", what="log in")))
    except Denied as error:
        if error.hint.startswith("modelctl login"):
            error.hint = "check the user and the password"
        raise
    return "Authorization" in transport.headers(transport.url("/v2/"), scope="")


def log_out(registry: str, access: Access) -> None:
    """Forget the credentials of a registry; `NotFound` when there are none."""
    if not forget_credentials(registry, access.authfile):
        raise NotFound(f"credentials of {registry}", why="there are none to forget")
