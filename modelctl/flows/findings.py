"""What is found at a registry before a byte moves: is it there, who are we to it, what may we do, and does it fit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

from modelctl.core.access import Access
from modelctl.core.errors import Denied, ModelctlError, NotFound
from modelctl.core.http import drain
from modelctl.core.retry import BRIEF, retrying
from modelctl.registry.quirks import Quirks
from modelctl.registry.remote import RemoteStore
from modelctl.registry.transport import Transport

State = Literal["ok", "warning", "problem"]

LONGEST_SILENCE_S = 15.0
"""A registry that is only asked how it is gets no longer [s]."""

SKEW_WARNING_S = 30.0
SKEW_PROBLEM_S = 300.0
"""Clocks that differ by so much: tokens are refused for not being good yet, or any more. Source: RFC 7519 4.1.4."""

_SLOWEST = 10e6
"""A rate that an upload with a time limit should not need [bytes/s]."""


class Finding(msgspec.Struct, kw_only=True):
    """One thing that was looked at: where, what, how it is, what was seen, and what to do when it is not ok."""

    subject: str
    check: str
    state: State
    seen: str
    hint: str = ""


@dataclass(frozen=True)
class Shape:
    """What will be sent: each layer's name and size, and the size of the manifest, of a plan an estimate [bytes]."""

    layers: Sequence[tuple[str, int]]
    manifest: int

    @property
    def size(self) -> int:
        return sum(size for _, size in self.layers)


def problem_of(subject: str, check: str, error: ModelctlError) -> Finding:
    """Make a finding of what went wrong."""
    return Finding(subject=subject, check=check, state="problem", seen=error.seen, hint=error.hint)


def check_registry(
    subject: str, registry: str, repository: str, access: Access, *, push: bool = True, shape: Shape | None = None
) -> Iterator[Finding]:
    """Look at a registry, one thing after the other; what depends on what failed is left out.

    Args:
        subject: What to call it.
        registry: `host[:port]`.
        repository: Whose rights to prove; empty for none.
        access: How to reach it.
        push: Whether to prove the right to write, by an upload that is opened and given up.
        shape: What must fit.
    """
    transport = Transport(registry, replace(access, timeout_s=min(access.timeout_s, LONGEST_SILENCE_S)))
    if shape:
        yield from check_limits(subject, transport.quirks, shape)
    try:
        status, headers = retrying(transport.greet, BRIEF)
        arrived = time.time()
    except ModelctlError as error:
        yield _unreached(subject, error)
        return
    yield from _reached(subject, transport)
    yield from _clock(subject, headers, arrived)
    identity = _identity(subject, transport, status, access)
    yield identity
    if identity.state == "problem":
        return
    if not repository:
        seen = "not looked at: they are rights of a repository, and none is named"
        yield Finding(subject=subject, check="rights", state="warning", seen=seen, hint="--to REPOSITORY")
        return
    yield from _rights(subject, RemoteStore(transport, repository), access, push=push)


def _unreached(subject: str, error: ModelctlError) -> Finding:
    found = problem_of(subject, "tls" if error.why.startswith("TLS:") else "reach", error)
    if found.check == "reach" and not found.hint:
        found.hint = "check name and port, DNS, HTTPS_PROXY and NO_PROXY, and that the network lets this machine there"
    return found


def _reached(subject: str, transport: Transport) -> Iterator[Finding]:
    yield Finding(subject=subject, check="reach", state="ok", seen=f"{transport.origin} answers")
    if transport.access.insecure and transport.origin.startswith("https:"):
        seen = "the certificate is not checked, so anybody between could be the registry"
        yield Finding(subject=subject, check="tls", state="warning", seen=seen, hint="ca_file names its CA")
    if transport.access.plain_http:
        seen = "no TLS: passwords and bytes can be read and changed on the way"
        yield Finding(subject=subject, check="tls", state="warning", seen=seen, hint="serve it over HTTPS")


def _clock(subject: str, headers: Mapping[str, str], now: float) -> Iterator[Finding]:
    """Compare the registry's clock, which says whole seconds, with ours; many say nothing."""
    try:
        theirs = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return
    skew = now - theirs
    state: State = "ok" if abs(skew) <= SKEW_WARNING_S else "warning" if abs(skew) <= SKEW_PROBLEM_S else "problem"
    seen = f"this machine's is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the registry's"
    hint = "set the clock of one of them (timedatectl, chronyc): tokens and certificates are good for a time"
    yield Finding(
        subject=subject,
        check="clock",
        state=state,
        seen="as the registry's" if state == "ok" else seen,
        hint="" if state == "ok" else hint,
    )


def _identity(subject: str, transport: Transport, status: int, access: Access) -> Finding:
    if status == 200:
        return Finding(subject=subject, check="credentials", state="ok", seen="none are asked for")
    try:
        drain(retrying(lambda: transport.request("GET", "/v2/", scope="", what="credentials"), BRIEF))
        user = transport.user
    except ModelctlError as error:
        return _corrected(problem_of(subject, "credentials", error), access)
    seen = (
        f"{user.user or 'an identity token'}, from {user.origin}" if user else "none were found; strangers are let in"
    )
    return Finding(subject=subject, check="credentials", state="ok", seen=seen)


def _corrected(found: Finding, access: Access) -> Finding:
    """Say what to do about credentials of the settings, which no login replaces."""
    if access.login and found.hint.startswith("modelctl login"):
        found.hint = f"put right what {access.login.origin} says: `modelctl login` does not change it"
    return found


def _rights(subject: str, store: RemoteStore, access: Access, *, push: bool) -> Iterator[Finding]:
    pull = _pull(subject, store, access)
    if not push:
        yield pull
        return
    try:
        store.try_push()
    except NotFound as error:
        found = problem_of(subject, "push", error)
        found.hint = f"make {store.name} in {store.transport.registry} first: this registry makes none at a push"
    except Denied as error:
        found = problem_of(subject, "push", error)
        user = store.transport.user
        may = "another user" if not user else f"more rights for {user.user or 'the token'}"
        other = f", or {error.hint}" if error.hint and not access.login else ""
        found.hint = f"pushing to {store.name} takes {may}{other}"
    except ModelctlError as error:
        found = problem_of(subject, "push", error)
    else:
        seen = f"an upload to {store.name} was opened and given up"
        found = Finding(subject=subject, check="push", state="ok", seen=seen)
    if found.state == "ok" and pull.state == "problem":
        pull.state, pull.hint = "warning", "nothing to do if the repository is not there yet"
    yield pull
    yield found


def _pull(subject: str, store: RemoteStore, access: Access) -> Finding:
    try:
        store.try_pull()
    except NotFound:
        return Finding(subject=subject, check="pull", state="ok", seen=f"{store.name} is not there yet")
    except ModelctlError as error:
        return _corrected(problem_of(subject, "pull", error), access)
    return Finding(subject=subject, check="pull", state="ok", seen=f"tags of {store.name} can be read")


def check_limits(subject: str, quirks: Quirks, shape: Shape) -> Iterator[Finding]:
    """Compare what will be sent with the most that this kind of registry takes, as far as that is documented."""
    title, largest = max(shape.layers, key=lambda layer: layer[1], default=("", 0))
    count = len(shape.layers)

    def finding(check: str, seen: str, most: int, *, fits: bool, hint: str) -> Finding:
        state: State = "ok" if fits else "problem"
        limit = f"; {quirks.kind} takes {most}" if most else f"; no limit of {quirks.kind} is known"
        return Finding(subject=subject, check=check, state=state, seen=seen + limit, hint="" if fits else hint)

    yield finding(
        "layer-size",
        f"the largest layer, {title}, has {largest} bytes",
        quirks.max_layer,
        fits=not quirks.max_layer or largest <= quirks.max_layer,
        hint="save the model in smaller shards (max_shard_size of save_pretrained), or use another registry",
    )
    yield finding(
        "layers",
        f"{count} layers",
        quirks.max_layers,
        fits=not quirks.max_layers or count <= quirks.max_layers,
        hint=f"modelctl pack --max-layers {quirks.max_layers} puts neighbours into one layer",
    )
    yield finding(
        "manifest-size",
        f"the manifest has about {shape.manifest} bytes",
        quirks.max_manifest,
        fits=shape.manifest <= quirks.max_manifest,
        hint="use a layout in which small files share a layer, such as --layout image",
    )
    needed = largest / quirks.max_upload_s if quirks.max_upload_s else 0.0
    if needed > _SLOWEST:
        seen = f"{quirks.kind} ends an upload after {quirks.max_upload_s} s: {title} needs {needed / 1e6:.0f} MB/s"
        yield Finding(
            subject=subject, check="upload-time", state="warning", seen=seen, hint="push from close by, or fewer --jobs"
        )
