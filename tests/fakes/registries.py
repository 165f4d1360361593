"""Real registries on loopback, distribution in its ways of asking who is there: started, waited for, ended."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.token_server import ISSUER, SERVICE, TokenServer

DISTRIBUTION = ("docker-registry", "serve")
"""distribution 2.8, from apt; 3.x is named otherwise and takes the same config."""

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http:
  addr: {address}:{port}
{tls}{auth}
"""


@dataclass(frozen=True)
class Registry:
    """A registry that runs: `host` is what stands in a reference, `root` where it keeps its blobs."""

    host: str
    root: Path
    ca_file: Path | None = None

    def empty(self) -> None:
        """Forget everything that was pushed."""
        shutil.rmtree(self.root / "docker", ignore_errors=True)

    def blob_path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.root / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


@contextmanager
def registry(
    root: Path,
    *,
    password: str = "",
    tls: bool = False,
    tokens: TokenServer | None = None,
    program: Sequence[str] = DISTRIBUTION,
    address: str = "127.0.0.1",
) -> Iterator[Registry]:
    """Run a registry in the empty folder `root`.

    Args:
        root: Its folder.
        password: That of user `alice`, for Basic authentication.
        tls: Serve HTTPS, with a certificate for 127.0.0.1 that `ca_file` proves.
        tokens: The realm that it sends clients to.
        program: How to start it; the config file's path is put behind.
        address: Where it listens.
    """
    root.mkdir(parents=True)
    port = free_port()
    certificate = make_certificate(root) if tls else None
    config = root / "config.yml"
    config.write_text(
        _CONFIG.format(
            root=root,
            address=address,
            port=port,
            tls=f"  tls: {{certificate: {root}/tls.pem, key: {root}/tls.key}}\n" if tls else "",
            auth=_auth(root, password, tokens),
        )
    )
    with (root / "log").open("wb") as log:
        process = subprocess.Popen([*program, str(config)], stdout=subprocess.DEVNULL, stderr=log)
    try:
        wait_for(port, process, root / "log", address)
        yield Registry(f"{address}:{port}", root, certificate)
    finally:
        process.terminate()
        process.wait()


def _auth(root: Path, password: str, tokens: TokenServer | None) -> str:
    if password:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        (root / "htpasswd").write_text(f"alice:{hashed}\n")
        return f"auth:\n  htpasswd: {{realm: test, path: {root}/htpasswd}}\n"
    if tokens:
        return (
            f"auth:\n  token: {{realm: '{tokens.url}/token', service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {tokens.certificate}}}\n"
        )
    return ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, address: str = "127.0.0.1") -> None:
    """Wait until something listens on `port`; raise with the log when the process ends instead."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{process.args} does not listen")


def make_certificate(folder: Path, *, days: int = 1) -> Path:
    """Write tls.pem and tls.key for 127.0.0.1 and registry.test into `folder`; return the certificate, its own CA.

    It is good until so many `days` from now; of a negative number it has expired.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(tz=datetime.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("registry.test")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "tls.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def server_context(folder: Path) -> ssl.SSLContext:
    """Return the TLS context of a fake that serves with the certificate in `folder`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    return context
