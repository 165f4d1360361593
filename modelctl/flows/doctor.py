"""Look at everything that a pack or push will need, before a byte moves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess
from modelctl.core.config import load_config
from modelctl.core.disk import on_disk
from modelctl.core.errors import ModelctlError, UsageProblem
from modelctl.core.media_types import FILEPATH
from modelctl.core.paths import matches
from modelctl.core.protocols import Blob
from modelctl.core.reference import Reference, parse_reference
from modelctl.core.types import MAX_DOCUMENT_SIZE
from modelctl.flows.check_regions import side_by_side
from modelctl.flows.findings import Finding, Shape, State, check_registry, problem_of
from modelctl.flows.regions import ALL, chosen_regions
from modelctl.flows.sources import is_source
from modelctl.flows.stores import open_store
from modelctl.packing.artifact import parse_manifest, read_document
from modelctl.packing.layout import load_layout
from modelctl.packing.plan import MAX_LAYERS, plan_layers
from modelctl.packing.preflight import check_names
from modelctl.sources import open_source

_LAYER_IN_MANIFEST = 600
"""What a layer takes in a manifest besides its path, about [bytes]."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What the user may choose; the names are those of the flags."""

    regions: Sequence[str] = ()
    to: str = ""
    layout: str = "image"
    max_layers: int = MAX_LAYERS
    access: Access = DEFAULT
    source: SourceAccess = DEFAULT_SOURCE_ACCESS


class DoctorReport(msgspec.Struct, kw_only=True):
    """What was found; `ok` when nothing of it is a problem."""

    ok: bool
    findings: list[Finding]


def doctor(source: str, destination: str, options: DoctorOptions) -> DoctorReport:
    """Look at where a model comes from and where it is to go.

    Args:
        source: What `pack` or `push` would read: a source, or an artifact; empty for none.
        destination: Where it would go; empty for the regions, or for nowhere.
        options: Regions, layout, and how to reach them. With neither source, destination nor regions: all regions.

    Raises:
        UsageProblem: What was asked for contradicts itself; the settings are not valid.
    """
    if source and not destination and not options.regions and not is_source(source):
        source, destination = "", source
    if destination and (options.regions or options.to):
        raise UsageProblem(f"{destination} and --regions", why="one of the two says where it is to go")
    findings: list[Finding] = []
    shape = None
    if source:
        found, shape = _check_source(source, options)
        findings += found
    if destination:
        findings += _check_destination(parse_reference(destination), options.access, shape)
    elif options.regions or not source:
        config = load_config()
        to = options.to or _name_of(source)
        names = chosen_regions(options.regions or (ALL,), config)
        findings += [one for check in side_by_side(names, to, config, options.access, shape) for one in check.findings]
    return DoctorReport(ok=not any(one.state == "problem" for one in findings), findings=findings)


def _name_of(source: str) -> Reference | None:
    """Return the artifact whose name there is also its name in regions, when the source is one in a registry."""
    reference = parse_reference(source) if source and not is_source(source) else None
    return reference if reference and reference.registry else None


def _check_source(source: str, options: DoctorOptions) -> tuple[list[Finding], Shape | None]:
    """Look at the source; return what will be sent when that is known."""
    try:
        if is_source(source):
            return _check_files(source, options)
        return _check_artifact(parse_reference(source), options.access)
    except ModelctlError as error:
        return [problem_of("source", "read", error)], None


def _check_files(url: str, options: DoctorOptions) -> tuple[list[Finding], Shape]:
    layout = load_layout(options.layout)
    source = open_source(url, options.source)
    entries = list(source.list(lambda path: not matches(path, layout.exclude)))
    check_names(entries, allow_pickle=True)
    size = sum(entry.size for entry in entries)
    findings = [Finding(subject="source", check="list", state="ok", seen=f"{len(entries)} files of {size} bytes")]
    filled = [entry for entry in entries if entry.size]
    if filled:
        smallest = min(filled, key=lambda entry: entry.size)
        _read_a_byte(source.open(smallest))
        findings.append(Finding(subject="source", check="read", state="ok", seen=f"{smallest.path} can be read"))
    try:
        check_names(entries, allow_pickle=False)
    except ModelctlError as error:
        findings.append(problem_of("source", "names", error))
    plan = plan_layers(entries, layout, options.max_layers)
    manifest = sum(_LAYER_IN_MANIFEST + len(layer.title) for layer in plan)
    return findings, Shape([(layer.title, layer.size) for layer in plan], manifest)


def _check_artifact(reference: Reference, access: Access) -> tuple[list[Finding], Shape | None]:
    findings: list[Finding] = []
    if reference.registry:
        findings += check_registry("source", reference.registry, reference.path, access, push=False)
    if any(one.state == "problem" for one in findings):
        return findings, None
    store = open_store(reference, access)
    root = store.resolve(reference.name)
    raw = read_document(store, root, MAX_DOCUMENT_SIZE)
    layers = parse_manifest(raw).layers
    size = sum(layer.size for layer in layers)
    seen = f"{reference} has {len(layers)} layers of {size} bytes"
    findings.append(Finding(subject="source", check="list", state="ok", seen=seen))
    filled = [layer for layer in layers if layer.size]
    if filled:
        smallest = min(filled, key=lambda layer: layer.size)
        _read_a_byte(store.open(smallest))
        findings.append(Finding(subject="source", check="read", state="ok", seen=f"{smallest.digest} can be read"))
    return findings, Shape([(one.annotations.get(FILEPATH, one.digest[:19]), one.size) for one in layers], len(raw))


def _read_a_byte(blob: Blob) -> None:
    with closing(blob):
        blob.read_into(0, memoryview(bytearray(1)))


def _check_destination(reference: Reference, access: Access, shape: Shape | None) -> Iterator[Finding]:
    if reference.registry:
        yield from check_registry("destination", reference.registry, reference.path, access, shape=shape)
        return
    try:
        yield _room(Path(reference.path), shape.size if shape else 0)
    except ModelctlError as error:
        yield problem_of("destination", "disk", error)


def _room(path: Path, needed: int) -> Finding:
    """Compare what a layout may grow by with what is free where it is, or would be made."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    with on_disk(str(there)):
        status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    seen = f"{there} has {free} bytes free; at most {needed} are needed"
    if not os.access(there, os.W_OK):
        return Finding(
            subject="destination", check="disk", state="problem", seen=f"{there} cannot be written", hint="chmod, chown"
        )
    state: State = "ok" if free >= needed else "problem"
    hint = "" if state == "ok" else "free some space: what the layout has already needs none"
    return Finding(subject="destination", check="disk", state=state, seen=seen, hint=hint)
