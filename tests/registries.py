"""Registries as the tests reach them: stores, references, and models packed and pulled there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelctl.core.access import Access
from modelctl.core.errors import NotFound
from modelctl.core.http import read_limited
from modelctl.core.progress import Progress
from modelctl.core.reference import parse_reference
from modelctl.core.retry import retrying
from modelctl.flows.pack import PackOptions, PackReport, pack
from modelctl.flows.pull import PullOptions, PullReport, pull
from modelctl.flows.push import PushReport, push
from modelctl.flows.stores import open_store
from modelctl.flows.verify import verify_artifact
from modelctl.registry.remote import RemoteStore
from modelctl.registry.transport import Transport

ALICE = ("alice", "s3cret")
"""The user that every registry of the tests knows."""

IMPATIENT = Access(timeout_s=1.0)


def remote(host: str, name: str, **access: Any) -> RemoteStore:
    return RemoteStore(Transport(host, Access(**access)), name)


def ask(host: str, path: str = "/v2/", method: str = "GET", body: bytes | None = None, **access: Any) -> bytes:
    """Send one request, again as often as modelctl does; return the body of a 200 answer."""
    transport = Transport(host, Access(**{"timeout_s": 5.0, **access}))
    return read_limited(retrying(lambda: transport.request(method, path, scope="", body=body)), host)


def pack_to(model: Path | str, text: str, access: Access = IMPATIENT, **options: Any) -> PackReport:
    return pack(str(model), parse_reference(text), PackOptions(access=access, **options), Progress())


def push_to(source: str, *texts: str, access: Access = IMPATIENT, **options: Any) -> list[PushReport]:
    """Push to each place; raise what the first failure is."""
    places = [parse_reference(text) for text in texts]
    reports, errors = push(parse_reference(source), places, Progress(), access=access, **options)
    if errors:
        raise errors[0]
    return reports


def pull_from(text: str, target: Path, access: Access = IMPATIENT, **options: Any) -> PullReport:
    return pull(parse_reference(text), str(target), PullOptions(access=access, **options), Progress())


def problems_at(text: str, access: Access = IMPATIENT) -> dict[str, list[str]]:
    """Verify an artifact to the byte; return {path: problems} of the files that are not right."""
    report = verify_artifact(parse_reference(text), "full", 2, Progress(), access=access)
    return {file.path: file.problems for file in report.bad}


def tagged(text: str) -> bool:
    """Say whether a registry has the tag of a reference."""
    reference = parse_reference(text)
    try:
        return bool(open_store(reference, IMPATIENT).resolve(reference.tag))
    except NotFound:
        return False
