"""Alibaba Cloud's metadata service of an instance, and STS, as far as they give credentials.

Written from their documentation: "Instance RAM roles" (ECS, hardened mode) and "AssumeRoleWithOIDC" (STS).
"""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from tests.fakes.oss import Oss
from tests.fakes.oss_signatures import Key
from tests.fakes.serving import serving

ROLE = "modelctl-reader"
ROLE_ARN = f"acs:ram::1234:role/{ROLE}"
PROVIDER_ARN = "acs:ram::1234:oidc-provider/ack-rrsa-c1"
_PLACE = "/latest/meta-data/ram/security-credentials/"


@dataclass
class Aliyun:
    """Gives keys that are good for `life_s` in `oss`; `role` is the instance's, `oidc` the token that STS takes.

    `given` are the ids of the keys given so far, `requests` the "METHOD /path" or the action of each request.
    """

    oss: Oss
    role: str = ROLE
    oidc: str = "a-pods-token"
    life_s: float = 3600
    status: int = 200
    url: str = ""
    given: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def give(self) -> dict[str, str]:
        """Make temporary keys that the OSS takes."""
        number, until = next(self.numbers), time.time() + self.life_s
        key_id, secret, token = f"STS.key-{number}", f"sts-secret-{number}", f"sts-token-{number}"
        self.oss.keys[key_id] = Key(secret, token, until)
        self.given.append(key_id)
        expiration = datetime.datetime.fromtimestamp(until, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"AccessKeyId": key_id, "AccessKeySecret": secret, "SecurityToken": token, "Expiration": expiration}


@contextmanager
def aliyun(oss: Oss, **options: object) -> Iterator[Aliyun]:
    """Serve both on loopback, at one place, until the `with` ends."""
    server = Aliyun(oss, **options)  # type: ignore[arg-type]
    listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_": server}))
    server.url = f"http://127.0.0.1:{listener.server_port}"
    with serving(listener):
        yield server


class _Handler(BaseHTTPRequestHandler):
    server_: Aliyun

    def do_PUT(self) -> None:
        self.server_.requests.append(f"PUT {self.path}")
        known = self.path == "/latest/api/token" and self.headers.get("X-aliyun-ecs-metadata-token-ttl-seconds")
        self._send(200 if known else 403, b"a-metadata-token" if known else b"")

    def do_GET(self) -> None:
        self.server_.requests.append(f"GET {self.path}")
        if self.headers.get("X-aliyun-ecs-metadata-token") != "a-metadata-token":
            self._send(403, b"")
        elif self.path == _PLACE:
            self._send(200 if self.server_.role else 404, self.server_.role.encode())
        elif self.path == _PLACE + self.server_.role:
            self._send(200, json.dumps({**self.server_.give(), "Code": "Success"}).encode())
        else:
            self._send(404, b"")

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        asked = {name: values[0] for name, values in form.items()}
        self.server_.requests.append(asked.get("Action", ""))
        if self.server_.status != 200:
            self._send(self.server_.status, b"{}")
        elif (asked.get("RoleArn"), asked.get("OIDCProviderArn")) != (ROLE_ARN, PROVIDER_ARN):
            self._refuse("AuthenticationFail.NoPermission")
        elif asked.get("OIDCToken") != self.server_.oidc or not asked.get("RoleSessionName"):
            self._refuse("AuthenticationFail.OIDCToken.Invalid")
        else:
            self._send(200, json.dumps({"RequestId": "1", "Credentials": self.server_.give()}).encode())

    def _refuse(self, code: str) -> None:
        self._send(400, json.dumps({"Code": code, "Message": "refused", "RequestId": "1"}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
