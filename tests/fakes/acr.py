"""The API of Container Registry, as far as it gives temporary logins: it computes the signature itself, and compares.

Written from the documentation: "GetAuthorizationToken" (2018-12-01), "RPC-style request signature", "Common errors".
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

from tests.fakes.oss_signatures import Key
from tests.fakes.serving import serving

INSTANCE = "cri-0123456789abcdef"
KEY_ID, SECRET = "LTAI-of-acr", "s3cret-of-acr"


@dataclass
class AcrApi:
    """Gives logins that are good for `life_s`; `give` makes one of its number.

    `keys` are the AccessKeys that exist, `allowed` those of them that may ask. The next requests are answered with
    each `status` of `failures` instead. `requests` are what was asked, by parameter.
    """

    give: Callable[[int], tuple[str, str]] = lambda number: ("cr_temp_user", f"temporary-{number}")
    keys: dict[str, Key] = field(default_factory=lambda: {KEY_ID: Key(SECRET)})
    allowed: set[str] | None = None
    life_s: float = 3600
    failures: list[int] = field(default_factory=list)
    answer: bytes | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    url: str = ""

    def refusal(self, asked: dict[str, str]) -> tuple[int, str] | None:
        """Return status and code of what is wrong with a request."""
        key = self.keys.get(asked.get("AccessKeyId", ""))
        nonces = [one.get("SignatureNonce") for one in self.requests[:-1]]
        sent = datetime.datetime.fromisoformat(asked.get("Timestamp", "1970-01-01T00:00:00Z"))
        checks = {
            (404, "InvalidAccessKeyId.NotFound"): key is None,
            (400, "IllegalTimestamp"): abs(time.time() - sent.timestamp()) > 900,
            (400, "SignatureNonceUsed"): asked.get("SignatureNonce", "") in [*nonces, ""],
            (400, "SignatureDoesNotMatch"): key is not None and asked.get("Signature") != signature(asked, key.secret),
            (400, "InvalidSecurityToken.Expired"): key is not None
            and (asked.get("SecurityToken", "") != key.token or key.until <= time.time()),
            (404, "InvalidAction.NotFound"): asked.get("Action") != "GetAuthorizationToken",
            (400, "InvalidVersion"): asked.get("Version") != "2018-12-01",
            (403, "NoPermission"): self.allowed is not None and asked.get("AccessKeyId") not in self.allowed,
            (400, "INSTANCE_NOT_EXIST"): asked.get("InstanceId") != INSTANCE,
        }
        return next((error for error, wrong in checks.items() if wrong), None)


def signature(asked: dict[str, str], secret: str) -> str:
    """Sign the parameters of a POST: sorted, percent-encoded twice, HMAC-SHA1 with the secret and an ampersand."""
    pairs = sorted((name, value) for name, value in asked.items() if name != "Signature")
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
    text = f"POST&%2F&{quote(query, safe='~')}"
    return base64.b64encode(hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()).decode()


@contextmanager
def acr_api(**options: object) -> Iterator[AcrApi]:
    """Serve the API on loopback until the `with` ends."""
    api = AcrApi(**options)  # type: ignore[arg-type]
    listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    api.url = f"http://127.0.0.1:{listener.server_port}"
    with serving(listener):
        yield api


class _Handler(BaseHTTPRequestHandler):
    api: AcrApi

    def do_POST(self) -> None:
        api = self.api
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = dict(parse_qsl(f"{urlsplit(self.path).query}&{body}", keep_blank_values=True))
        api.requests.append(asked)
        refusal = api.refusal(asked)
        if api.failures:
            self._send(api.failures.pop(0), b"{}")
        elif refusal:
            self._send(refusal[0], json.dumps({"Code": refusal[1], "Message": "refused", "RequestId": "1"}).encode())
        elif api.answer is not None:
            self._send(200, api.answer)
        else:
            user, password = api.give(next(api.numbers))
            api.given.append(password)
            login = {"TempUsername": user, "AuthorizationToken": password}
            until = {"ExpireTime": int((time.time() + api.life_s) * 1000)}
            self._send(200, json.dumps({**login, **until, "Code": "success", "IsSuccess": True}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
