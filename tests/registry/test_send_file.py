"""A file's bytes on their way into an upload: unread where that works, read where it does not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.core.disk import FileBlob
from modelctl.core.errors import ChecksumMismatch, Unavailable
from modelctl.core.types import digest_of
from modelctl.registry.credentials import save_credentials
from modelctl.registry.remote import RemoteStore
from modelctl.registry.transport import Transport
from modelctl.registry.upload import Stream
from tests.conformance.stores import descriptor, read
from tests.fakes.registries import Registry
from tests.models import noise
from tests.registries import ALICE, remote

DATA = noise(3_000_000, "file")
SCOPE = "repository:x:pull,push"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileBlob]:
    (tmp_path / "blob").write_bytes(DATA)
    blob = FileBlob(os.open(tmp_path / "blob", os.O_RDONLY), len(DATA), "blob")
    yield blob
    blob.close()


@pytest.fixture(params=["plain", "tls"])
def store(
    request: pytest.FixtureRequest, plain: Registry, htpasswd: Registry, repository: str, authfile: str
) -> RemoteStore:
    """A repository, reached without and with TLS."""
    if request.param == "plain":
        return remote(plain.host, repository)
    save_credentials(htpasswd.host, *ALICE, authfile)
    return remote(htpasswd.host, repository, authfile=authfile, ca_file=str(htpasswd.ca_file))


def send(store: RemoteStore, blob: FileBlob, size: int) -> None:
    """Upload `size` bytes of a file in one PATCH, whatever the origin's scheme is."""
    transport = store.transport
    response = transport.request(
        "POST", f"/v2/{store.name}/blobs/uploads/", scope=SCOPE, expect=(202,), body=b"", what="upload"
    )
    response.drain_conn()
    location = transport.url(response.headers["Location"])
    stream = Stream(transport, location, SCOPE, 0, size, what="upload")
    try:
        assert stream.send_file(blob, size) == size
        location = transport.url(stream.finish())
    finally:
        stream.close()
    digest = digest_of(DATA)
    transport.request(
        "PUT", f"{location}&digest={digest}", scope=SCOPE, expect=(201,), body=b"", what="blob"
    ).drain_conn()


def test_a_file_arrives_by_whatever_connection_the_upload_has(store: RemoteStore, file: FileBlob) -> None:
    send(store, file, len(DATA))
    assert read(store, descriptor(DATA)) == DATA


def test_a_file_that_ends_early_is_the_sources_fault(store: RemoteStore, file: FileBlob, tmp_path: Path) -> None:
    os.truncate(tmp_path / "blob", 1_000_000)
    with pytest.raises(ChecksumMismatch, match="source: "):
        send(store, file, len(DATA))


@pytest.mark.parametrize("number", [22, 38, 95, 5])
def test_what_sendfile_cannot_is_read(
    plain: Registry, repository: str, file: FileBlob, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", refuse)
    store = remote(plain.host, repository)
    send(store, file, len(DATA))
    assert read(store, descriptor(DATA)) == DATA


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("unread", [True, False])
def test_a_registry_that_reads_nothing_is_given_up(deaf: str, tmp_path: Path, unread: bool) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 64 << 20)
    blob = FileBlob(os.open(path, os.O_RDONLY), 64 << 20, "large")
    stream = Stream(
        Transport(deaf, Access(plain_http=True, timeout_s=0.5)), f"http://{deaf}/x", SCOPE, 0, blob.size, what="upload"
    )
    try:
        with pytest.raises(Unavailable, match="upload") as given_up:
            stream.send_file(blob, blob.size) if unread else stream.send(memoryview(bytes(blob.size)))
        assert "timed out" in given_up.value.why
    finally:
        stream.close()
        blob.close()
