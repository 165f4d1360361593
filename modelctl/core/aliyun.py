"""Alibaba Cloud's credentials, from the places where its own tools look, fetched again before they expire.

The values are never part of an error; where they came from is.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from modelctl.core.access import SourceAccess
from modelctl.core.disk import on_disk
from modelctl.core.errors import BadAnswer, Denied, ModelctlError, NotFound, Unavailable
from modelctl.core.http import BROKEN, BUSY, Pools, described, read_limited, redacted
from modelctl.core.learned import learned
from modelctl.core.retry import retry_after, retrying

Found = TypeVar("Found")

FOLDER = "MODELCTL_OSS_SECRET_DIR"
"""Names the folder of a mounted Secret."""

METADATA = "MODELCTL_ECS_METADATA"
"""Names the metadata service by its URL, where that is not an instance's."""

_MARGIN_S = 300.0
"""Credentials are fetched anew so long before they expire, or a fifth of their life if that is shorter [s]."""

_METADATA_TIMEOUT_S = 1.0
"""The metadata service is one hop away; on other machines nobody answers [s]."""

_NAMES = (
    ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
)
_FILES = (("akId", "akSecret", "securityToken"), *_NAMES)

_PROFILE = "ALIBABA_CLOUD_PROFILE"
_RRSA = ("ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE")


@dataclass(frozen=True)
class Keys:
    """An AccessKey, with the token of STS if it is a temporary one, to be fetched anew after `until` [s since 1970]."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    until: float = float("inf")


class Credentials:
    """The keys of one place, called `origin`. Thread-safe."""

    def __init__(self, origin: str, load: Callable[[], Keys], keys: Keys | None = None) -> None:
        """Take keys from `load` when they are first needed, unless there are `keys` already, and when they are over."""
        self.origin = origin
        self._load = load
        self._lock = threading.Lock()
        self._keys = keys

    def keys(self) -> Keys | None:
        """Return keys that are good now; None is to be a stranger.

        Raises:
            Denied: The place has none, or does not give them. Unavailable: It does not answer.
        """
        with self._lock:
            if self._keys is None or self._keys.until <= time.time():
                self._keys = self._load()
            return self._keys

    def renew(self, refused: Keys | None) -> bool:
        """Look again after `refused` were refused; say whether there are other keys now.

        Of many who were refused at once the first one looks.
        """
        with self._lock:
            if self._keys == refused:
                self._keys = self._load()
            return self._keys != refused


class Stranger(Credentials):
    """No keys at all; `origin` says why."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def keys(self) -> None:
        return None

    def renew(self, *_: object) -> bool:
        return False


def find_credentials(access: SourceAccess, environ: Mapping[str, str] = os.environ) -> Credentials:
    """Choose where credentials are from.

    The first of: the flags (a Secret's folder, a profile), the environment's keys, the folder that it names, RRSA, the
    profile that it names, the ECS instance's RAM role. Where there is none, a stranger asks.
    """
    if not access.credentials:
        return Stranger("nowhere, as was asked for")
    if access.secret_dir or access.profile:
        return _of_files(access.secret_dir) if access.secret_dir else _of_profile(access.profile, environ)
    return (
        _of_environment(environ)
        or (_of_files(environ[FOLDER]) if environ.get(FOLDER) else None)
        or _of_pod(environ, access)
        or (_of_profile(environ[_PROFILE], environ) if environ.get(_PROFILE) else None)
        or _of_instance(environ)
    )


def _of_environment(environ: Mapping[str, str]) -> Credentials | None:
    for names in _NAMES:
        if environ.get(names[0]) and environ.get(names[1]):
            keys = Keys(environ[names[0]], environ[names[1]], environ.get(names[2], ""))
            return Credentials(f"the environment ({names[0]})", functools.partial(_same, keys))
    return None


def _same(keys: Keys) -> Keys:
    return keys


def _of_files(folder: str) -> Credentials:
    """Read the files of a mounted Secret for each request: the kubelet replaces them."""
    origin = f"folder {folder}"

    def load() -> Keys:
        for names in _FILES:
            key_id, secret, token = (_read(Path(folder, name)) for name in names)
            if key_id and secret:
                return Keys(key_id, secret, token, until=0)
        raise Denied(origin, why="it has no files akId and akSecret", hint="mount a Secret with these keys there")

    return Credentials(origin, load)


def _read(path: Path) -> str:
    try:
        with on_disk(str(path)):
            return path.read_bytes().decode("utf-8", "replace").strip()
    except NotFound:
        return ""


def _of_profile(name: str, environ: Mapping[str, str]) -> Credentials:
    """Source: the aliyun CLI, "Configuration file"."""
    path = Path.home() / ".aliyun" / "config.json"
    origin = f"profile {name!r} of {path}"
    try:
        with on_disk(str(path)):
            document = json.loads(path.read_bytes())
        profile: dict[str, Any] = next(found for found in document["profiles"] if found["name"] == name)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise NotFound(origin, why="the file has no such profile", hint="aliyun configure list") from error
    mode = profile.get("mode")
    if mode == "EcsRamRole":
        return _of_instance({**environ, "ALIBABA_CLOUD_ECS_METADATA": profile.get("ram_role_name", "")})
    if mode not in ("AK", "StsToken"):
        raise Denied(origin, why=f"its mode is {mode!r}; AK, StsToken and EcsRamRole can be used here")
    keys = Keys(profile.get("access_key_id", ""), profile.get("access_key_secret", ""), profile.get("sts_token") or "")
    return Credentials(origin, functools.partial(_same, keys))


def _of_pod(environ: Mapping[str, str], access: SourceAccess) -> Credentials | None:
    if not all(environ.get(name) for name in _RRSA):
        return None
    pools = Pools(access.timeout_s, ca_file=access.ca_file)
    return Credentials(f"RRSA, role {environ[_RRSA[0]]}", lambda: _assume_role(environ, pools))


class _Answer(msgspec.Struct, rename="pascal"):
    """Temporary keys, as STS and the metadata service give them."""

    access_key_id: str
    access_key_secret: str
    security_token: str
    expiration: datetime.datetime

    def keys(self) -> Keys:
        until = self.expiration.timestamp()
        margin = min(_MARGIN_S, (until - time.time()) / 5)
        return Keys(self.access_key_id, self.access_key_secret, self.security_token, until - margin)


class _StsAnswer(msgspec.Struct, rename="pascal"):
    credentials: _Answer


def _assume_role(environ: Mapping[str, str], pools: Pools) -> Keys:
    """Exchange the pod's token. Source: STS API, AssumeRoleWithOIDC; the variables are ack-pod-identity-webhook's."""
    role, provider, token_file = (environ[name] for name in _RRSA)
    region = environ.get("ALIBABA_CLOUD_STS_REGION", "")
    vpc = "-vpc" if environ.get("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED") == "true" else ""
    host = environ.get("ALIBABA_CLOUD_STS_ENDPOINT") or (f"sts{vpc}.{region}" if region else "sts") + ".aliyuncs.com"
    url = f"{environ.get('ALIBABA_CLOUD_STS_HTTP_SCHEME', 'https')}://{host}/"
    with on_disk(token_file):
        token = Path(token_file).read_text().strip()
    form = {
        "Action": "AssumeRoleWithOIDC",
        "Format": "JSON",
        "Version": "2015-04-01",
        "Timestamp": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SignatureNonce": uuid.uuid4().hex,
        "RoleArn": role,
        "OIDCProviderArn": provider,
        "OIDCToken": token,
        "RoleSessionName": environ.get("ALIBABA_CLOUD_ROLE_SESSION_NAME") or "modelctl",
    }

    def ask() -> bytes:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept-Encoding": "identity"}
        response = pools.send("STS", "POST", url, headers, urlencode(form))
        return _body(response, f"STS {host}", f"role {role}")

    return _parsed(retrying(ask), _StsAnswer, f"STS {host}").credentials.keys()


def _of_instance(environ: Mapping[str, str]) -> Credentials:
    """Ask the metadata service, in its hardened mode; without it, and where no role was named, there are no keys.

    Source: ECS, "Instance RAM roles". No proxy stands between an instance and its metadata.
    """
    role = environ.get("ALIBABA_CLOUD_ECS_METADATA", "")
    url = environ.get(METADATA) or "http://100.100.100.200"
    if not role and environ.get("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "").lower() == "true":
        return Stranger("nowhere: none were found")
    pool = urllib3.PoolManager(retries=False, timeout=_METADATA_TIMEOUT_S)

    def ask(method: str, place: str, headers: Mapping[str, str]) -> bytes:
        try:
            response = pool.request(method, url + place, headers=headers, redirect=False, preload_content=False)
        except BROKEN as error:
            raise Unavailable(f"metadata service {redacted(url)}", why=described(error)) from error
        return _body(response, f"metadata service {redacted(url)}", f"RAM role {role or 'of this instance'}")

    def load() -> Keys:
        token = ask("PUT", "/latest/api/token", {"X-aliyun-ecs-metadata-token-ttl-seconds": "60"}).decode()
        headers = {"X-aliyun-ecs-metadata-token": token}
        place = "/latest/meta-data/ram/security-credentials/"
        name = role or ask("GET", place, headers).decode().strip()
        data = ask("GET", place + name, headers)
        return _parsed(data, _Answer, f"metadata service {redacted(url)}").keys()

    if role:
        return Credentials(f"RAM role {role} of this instance", lambda: retrying(load))
    try:
        keys = load()
    except ModelctlError:
        return Stranger("nowhere: none were found")
    return Credentials("the RAM role of this instance", lambda: retrying(load), keys)


def _body(response: urllib3.BaseHTTPResponse, name: str, what: str) -> bytes:
    """Return what was answered; an error does not quote it, since it might quote a token."""
    data = read_limited(response, f"{name}, {what}")
    if response.status in BUSY:
        raise Unavailable(name, why=f"it answered {response.status}", retry_after=retry_after(response.headers))
    if response.status != 200:
        raise Denied(f"{name}, {what}", why=f"it answered {response.status}{_code(data)}")
    return data


def _code(data: bytes) -> str:
    try:
        return f" {json.loads(data)['Code']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _parsed(data: bytes, type_: type[Found], name: str) -> Found:
    try:
        return msgspec.json.decode(data, type=learned(type_))
    except msgspec.MsgspecError as error:
        raise BadAnswer(name, why="its answer holds no credentials") from error
