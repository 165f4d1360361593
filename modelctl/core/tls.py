"""TLS as a client: which certificates are believed, which one is shown, and what helps against one that is refused."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem

_HINTS = {
    9: "set the clock of this machine, or of the one that made the certificate",
    10: "renew the certificate; or, if it is good, set this machine's clock",
    62: "name the host as its certificate does",
    64: "name the host as its certificate does",
}
"""What helps, by OpenSSL's codes: not yet valid, expired, another host name, another address. Source: x509_vfy.h."""


def open_context(ca_file: str = "", client_cert: str = "", client_key: str = "") -> ssl.SSLContext:
    """Make a context that checks certificates: by `ca_file`, else by the system's.

    It shows `client_cert` to who asks for one; without a `client_key` that file holds the key too.

    Raises:
        NotFound, Denied, DiskProblem: A file cannot be read. UsageProblem: It does not hold what it should.
    """
    with _loading_certificate(f"CA file {ca_file}"):
        context = ssl.create_default_context(cafile=ca_file or None)
    if client_cert:
        _load_client(context, client_cert, client_key)
    return context


def _load_client(context: ssl.SSLContext, certificate: str, key: str) -> None:
    title, key_title = f"client certificate {certificate}", f"client key {key or certificate}"

    def refuse() -> NoReturn:
        hint = f"openssl pkey -in {key or certificate} -out PLAIN.key, and --client-key PLAIN.key"
        raise UsageProblem(key_title, why="it is encrypted; expected a key without a pass phrase", hint=hint)

    for name, path in ((title, certificate), (key_title, key or certificate)):
        with on_disk(name), open(path, "rb"):
            pass
    try:
        context.load_cert_chain(certificate, key or None, password=refuse)
    except ssl.SSLError as error:
        with _loading_certificate(title):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise UsageProblem(key_title, why=f"it is not the key of {certificate}") from error
        if error.reason:
            raise UsageProblem(title, why=f"OpenSSL does not take it: {error.reason}") from error
        hint = "" if key else "--client-key names the file of its key"
        raise UsageProblem(key_title, why="it holds no valid private key in PEM", hint=hint) from error


@contextmanager
def _loading_certificate(title: str) -> Iterator[None]:
    with on_disk(title):
        try:
            yield
        except ssl.SSLError as error:
            raise UsageProblem(title, why="it holds no valid certificate in PEM") from error


def hint_of(error: BaseException) -> str:
    """Return what helps against a certificate that was refused; nothing for other errors."""
    cause = error.args[0] if error.args else None
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return ""
    return _HINTS.get(cause.verify_code, "--ca-file names the CA that signed it")
