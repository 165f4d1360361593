"""The primitives that packing and pulling are made of, each alone, on the same files, 1 MiB at a time."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3
from fastcrc import crc64
from isal.isal_zlib import crc32

from e2e.bench.measure import SERVER_CORE

BUFFER = 1 << 20


def _pieces(paths: Sequence[Path]) -> Iterator[memoryview]:
    """Yield one warm buffer for each piece of the files, so that a hash alone is measured."""
    buffer = memoryview(bytearray(os.urandom(BUFFER)))
    for path in paths:
        for _ in range(path.stat().st_size // BUFFER):
            yield buffer


def read(paths: Sequence[Path]) -> None:
    buffer = memoryview(bytearray(BUFFER))
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        offset = 0
        while count := os.preadv(fd, [buffer], offset):
            offset += count
        os.close(fd)


def sha256(paths: Sequence[Path]) -> None:
    hasher = hashlib.sha256()
    for piece in _pieces(paths):
        hasher.update(piece)


def blake(paths: Sequence[Path]) -> None:
    hasher = blake3()
    for piece in _pieces(paths):
        hasher.update(piece)


def crcs(paths: Sequence[Path]) -> None:
    first = second = 0
    for piece in _pieces(paths):
        first, second = crc32(piece, first), crc64.xz(piece, second)


def write(paths: Sequence[Path], target: Path, *, sync: bool) -> None:
    for path in paths:
        fd = os.open(target / path.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for piece in _pieces([path]):
            os.write(fd, piece)
        if sync:
            os.fsync(fd)
        os.close(fd)


def pack_parts(paths: Sequence[Path], target: Path) -> dict[str, Callable[[], None]]:
    """The parts of packing into a layout: what every byte must go through once."""
    return {
        "read": lambda: read(paths),
        "sha256": lambda: sha256(paths),
        "blake3": lambda: blake(paths),
        "CRC-32 + CRC-64": lambda: crcs(paths),
        "write": lambda: write(paths, target, sync=True),
    }


def pull_parts(paths: Sequence[Path], target: Path) -> dict[str, Callable[[], None]]:
    """The parts of pulling with verification: a proved copy of every byte."""
    return {
        "read": lambda: read(paths),
        "blake3": lambda: blake(paths),
        "write + fsync": lambda: write(paths, target, sync=True),
    }


def send(paths: Sequence[Path]) -> None:
    """Send as many bytes to a process on the server's core, which throws them away."""
    listener = socket.create_server(("127.0.0.1", 0))
    if not os.fork():
        os.sched_setaffinity(0, {SERVER_CORE})
        peer, _ = listener.accept()
        buffer = bytearray(BUFFER)
        while peer.recv_into(buffer):
            continue
        os._exit(0)
    with socket.create_connection(listener.getsockname()) as sender:
        for piece in _pieces(paths):
            sender.sendall(piece)


def receive(host: str, urls: Sequence[str]) -> None:
    """Read whole files from a server, one after the other on one connection."""
    buffer = memoryview(bytearray(BUFFER))
    connection = http.client.HTTPConnection(host)
    for url in urls:
        connection.request("GET", url)
        response = connection.getresponse()
        while response.readinto(buffer):
            continue


def oss_parts(paths: Sequence[Path], host: str, urls: Sequence[str]) -> dict[str, Callable[[], None]]:
    """The parts of packing from a server straight into a registry."""
    parts = push_parts(paths)
    del parts["read"]
    return {"receive": lambda: receive(host, urls), **parts}


def push_parts(paths: Sequence[Path]) -> dict[str, Callable[[], None]]:
    """The parts of packing straight into a registry."""
    return {
        "read": lambda: read(paths),
        "sha256": lambda: sha256(paths),
        "blake3": lambda: blake(paths),
        "CRC-32 + CRC-64": lambda: crcs(paths),
        "send": lambda: send(paths),
    }
