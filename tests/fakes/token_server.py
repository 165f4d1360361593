"""A token realm as registries use them: checks who asks, and signs what the registry then verifies.

Source: distribution, "Token Authentication Specification" and "Token Authentication Implementation".
"""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.serving import serving

ISSUER = "test-issuer"
SERVICE = "test-registry"


@dataclass
class TokenServer:
    """What the realm knows and what it was asked.

    `life_s` is how long its tokens are good, `said_s` how long it says they are; `answer` is what it says instead.
    Who is among `readers` may only pull.
    """

    users: dict[str, str] = field(default_factory=lambda: {"alice": "s3cret"})
    identity_tokens: set[str] = field(default_factory=lambda: {"identity-1"})
    life_s: int = 300
    said_s: int = 300
    anonymous_pull: bool = False
    readers: set[str] = field(default_factory=set)
    answer: bytes | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    certificate: Path = Path()
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    chain: bytes = b""

    def token(self, scope: str, *, user: str) -> str:
        now = int(time.time())
        access = []
        for part in scope.split():
            kind, name, actions = part.split(":")
            granted = (
                actions.split(",")
                if user and user not in self.readers
                else [action for action in actions.split(",") if action == "pull"]
            )
            access.append({"type": kind, "name": name, "actions": granted})
        claims = {
            "iss": ISSUER, "aud": SERVICE, "sub": user, "iat": now, "nbf": now - 60, "exp": now + self.life_s,
            "jti": str(time.monotonic_ns()), "access": access,
        }  # fmt: skip
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"x5c": [base64.b64encode(self.chain).decode()]})

    def user_of(self, authorization: str) -> str | None:
        """Return the user whom a Basic header proves, "" for no header where that is allowed, None for a wrong one."""
        if not authorization:
            return "" if self.anonymous_pull else None
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return user if user in self.users and self.users[user] == password else None


@contextmanager
def token_server(folder: Path, **options: object) -> Iterator[TokenServer]:
    """Serve tokens on loopback until the `with` ends; its certificate for the registry lies in `folder`."""
    server = TokenServer(**options)  # type: ignore[arg-type]
    server.chain = _certificate(server.key)
    server.certificate = folder / "token-root.pem"
    pem = x509.load_der_x509_certificate(server.chain).public_bytes(serialization.Encoding.PEM)
    server.certificate.write_bytes(pem)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{listener.server_port}"
    with serving(listener):
        yield server


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {key: " ".join(values) for key, values in parse_qs(urlsplit(self.path).query).items()}
            user = server.user_of(self.headers.get("Authorization", ""))
            server.requests.append({**query, "authorization": self.headers.get("Authorization", "")})
            self._answer(query.get("scope", ""), user)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            fields = {key: values[0] for key, values in form.items()}
            server.requests.append(fields)
            known = fields.get("refresh_token") in server.identity_tokens
            self._answer(fields.get("scope", ""), "alice" if known else None)

        def _answer(self, scope: str, user: str | None) -> None:
            body = json.dumps({"token": server.token(scope, user=user or ""), "expires_in": server.said_s}).encode()
            body = body if server.answer is None else server.answer
            self.send_response(200 if user is not None else 401)
            self.send_header("Content-Length", str(len(body) if user is not None else 0))
            self.end_headers()
            if user is not None:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


def _certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)
