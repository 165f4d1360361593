"""Who the user is at a registry: docker's config file and credential helpers.

Source: docker CLI, "docker login" (config.json: auths, credsStore, credHelpers) and docker-credential-helpers' README.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelctl.core.disk import on_disk, replace_file
from modelctl.core.errors import Denied, Invalid

_HELPER_TIMEOUT_S = 30
_TOKEN_USER = "<token>"  # noqa: S105
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


@dataclass(frozen=True)
class Credentials:
    """A user and a password, or an identity token; `origin` says where they were found. Never printed.

    After `until` [s since 1970] they are looked for again.
    """

    origin: str
    user: str = ""
    password: str = ""
    identity_token: str = ""
    until: float = float("inf")

    def __repr__(self) -> str:
        return f"Credentials(origin={self.origin!r}, user={self.user!r})"

    def basic(self) -> str:
        """Return the value of a Basic Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def config_path(authfile: str = "") -> Path:
    """Return the file that holds credentials: `authfile`, or docker's config.json."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    return Path(authfile) if authfile else Path(folder) / "config.json"


def find_credentials(registry: str, authfile: str = "") -> Credentials | None:
    """Look for credentials of `registry` (`host[:port]`).

    Raises:
        Denied: A credential helper failed. Invalid: The config file is malformed.
    """
    path = config_path(authfile)
    config = load_config(path)
    keys = _keys(registry)
    helper = _helper(config, keys)
    if helper:
        found = _ask_helper(helper, keys[0])
        if found:
            return found
    for key in keys:
        entry = config.get("auths", {}).get(key)
        if entry:
            return _from_entry(entry, f"{path}, auths[{key!r}]")
    return None


def _keys(registry: str) -> Sequence[str]:
    """Return what a registry may be called in a config; the first is what it is called when it is saved."""
    return _HUB_KEYS if registry == "docker.io" else (registry, f"https://{registry}", f"http://{registry}")


def _helper(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return who keeps the credentials; "" for the config itself.

    Source: docker CLI, `configfile/file.go`, getConfiguredCredentialStore: a helper "" of one registry is none.
    """
    helpers = config.get("credHelpers", {})
    return str(next((helpers[key] for key in keys if key in helpers), config.get("credsStore") or ""))


def load_config(path: Path) -> dict[str, Any]:
    """Read a docker config file; {} when there is none, `Invalid` when it is malformed."""
    with on_disk(str(path)):
        if not path.exists():
            return {}
        data = path.read_bytes()
    try:
        config = json.loads(data)
    except ValueError as error:
        raise Invalid(str(path), why=f"it is not JSON: {error}") from error
    if not _is_config(config):
        raise Invalid(str(path), why="it is not a docker config: auths and credHelpers are objects")
    return dict(config)


def _is_config(config: Any) -> bool:
    return (
        isinstance(config, dict)
        and all(isinstance(config.get(key, {}), dict) for key in ("auths", "credHelpers"))
        and all(isinstance(entry, dict) for entry in config.get("auths", {}).values())
    )


def _from_entry(entry: Mapping[str, Any], origin: str) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(origin, identity_token=entry["identitytoken"])
    if entry.get("username"):
        return Credentials(origin, entry["username"], entry.get("password", ""))
    if not entry.get("auth"):
        return None
    try:
        user, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise Invalid(origin, why="its auth is not base64 of user:password", hint="log in again") from error
    if not colon:
        raise Invalid(origin, why="its auth holds no colon", hint="log in again")
    return Credentials(origin, user, password)


def _ask_helper(name: str, server: str) -> Credentials | None:
    program = f"docker-credential-{name}"
    run = _run_helper(program, "get", server, server)
    if run.returncode and "not found" in (run.stdout + run.stderr).lower():
        return None
    _check_helper(run, server)
    try:
        answer = json.loads(run.stdout)
    except ValueError as error:
        raise Denied(f"credentials of {server}", why=f"{program} gave no valid answer") from error
    user, secret = (answer.get(key) for key in ("Username", "Secret")) if isinstance(answer, dict) else (None, None)
    if not isinstance(user, str) or not isinstance(secret, str):
        raise Denied(f"credentials of {server}", why=f"{program} gave no valid answer")
    if user == _TOKEN_USER:
        return Credentials(program, identity_token=secret)
    return Credentials(program, user, secret)


def save_credentials(registry: str, user: str, password: str, authfile: str = "", *, in_helper: bool = True) -> str:
    """Keep credentials where docker would: in its helper, if that is wanted, else in the config file (mode 0600).

    Returns:
        Where they went.
    """
    path = config_path(authfile)
    config = load_config(path)
    key, *_ = keys = _keys(registry)
    helper = _helper(config, keys)
    if helper and in_helper:
        program = f"docker-credential-{helper}"
        entry = json.dumps({"ServerURL": key, "Username": user, "Secret": password})
        _check_helper(_run_helper(program, "store", entry, key), key, password)
        return program
    if helper:
        config.setdefault("credHelpers", {})[key] = ""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config.setdefault("auths", {})[key] = {"auth": auth}
    _write_config(path, config)
    return str(path)


def forget_credentials(registry: str, authfile: str = "") -> bool:
    """Forget the credentials of a registry, by every name that it is found by; return whether there were any.

    Raises:
        Denied: The helper did not forget them; what the config file had is gone.
    """
    path = config_path(authfile)
    config = load_config(path)
    key, *_ = keys = _keys(registry)
    entries = config.get("auths", {})
    kept = {name: entry for name, entry in entries.items() if name not in keys}
    if kept != entries:
        _write_config(path, config | {"auths": kept})
    helper = _helper(config, keys)
    in_helper = bool(helper and _ask_helper(helper, key))
    if in_helper:
        _check_helper(_run_helper(f"docker-credential-{helper}", "erase", key, key), key)
    return in_helper or kept != entries


def _run_helper(program: str, verb: str, text: str, server: str) -> subprocess.CompletedProcess[str]:
    """Run a credential helper; `Denied` when it does not run to its end."""
    try:
        return subprocess.run(
            [program, verb],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise Denied(f"credentials of {server}", why=f"the config names the helper {program}, not on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise Denied(
            f"credentials of {server}", why=f"{program} {verb} did not end within {_HELPER_TIMEOUT_S} s"
        ) from error
    except OSError as error:
        raise Denied(f"credentials of {server}", why=f"{program}: {error.strerror}") from error


def _check_helper(run: subprocess.CompletedProcess[str], server: str, secret: str = "") -> None:
    """Raise `Denied` with what a helper that failed says, on stdout by its protocol, without the `secret` that it got.

    Source: docker-credential-helpers, `credentials/credentials.go`, Serve.
    """
    if not run.returncode:
        return
    said = run.stdout.strip() or run.stderr.strip()
    for form in (json.dumps(secret)[1:-1], secret):
        said = said.replace(form, "***") if form else said
    why = f"{' '.join(run.args)} ended with {run.returncode}" + (f": {said[:200]}" if said else "")
    raise Denied(f"credentials of {server}", why=why)


def _write_config(path: Path, config: Mapping[str, Any]) -> None:
    with on_disk(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(path, json.dumps(config, indent="\t").encode(), 0o600)
