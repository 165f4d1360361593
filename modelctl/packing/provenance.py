"""What an artifact was made from: an in-toto statement with the SLSA provenance predicate. Pure.

A function of the source's files, the options and the version of modelctl: no time, no host, no name of a registry. Of
a folder on this machine it keeps the name alone, since its path, inodes and times are of no meaning elsewhere.

Source: in-toto attestation spec v1 (statement.md, resource_descriptor.md, digest_set.md); SLSA provenance v1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import quote

import msgspec

from modelctl import __version__
from modelctl.core.errors import Invalid
from modelctl.core.learned import learned
from modelctl.core.paths import check_paths
from modelctl.core.types import Digest, Entry, Origin, canonical_json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://modelctl.io/pack/v1"
BUILDER = "https://modelctl.io/modelctl"

MAX_STATEMENT_SIZE = 16 << 20
"""Largest statement that is read [bytes]: enough for 30,000 files with all that sources state of them."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What the user chose of what the artifact's bytes depend on; the names are those of the flags."""

    layouts: tuple[str, ...]
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_layers: int
    annotations: Mapping[str, str] = {}


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What was packed, how, and by which version of modelctl.

    `files` are all files as the source stated them: path, size, version and digests.
    """

    origin: Origin
    options: Options
    files: tuple[Entry, ...]
    version: str = __version__


_Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Hex40 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Documents in which every field is known."""


class _Parameters(Options, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    source: str


class _Digests(_Strict, frozen=True, omit_defaults=True):
    sha256: _Hex64 | None = None
    git_blob: _Hex40 | None = None
    git_commit: _Hex40 | None = None


class _Stated(_Strict, frozen=True, omit_defaults=True):
    """What there is no field for: what the source says of a file, or what its revision was resolved to."""

    size: _Natural | None = None
    version: str = ""
    crc64: Annotated[str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,19})$")] | None = None
    revision: str = ""


class _Resource(_Strict, frozen=True, omit_defaults=True):
    uri: str
    name: str = ""
    digest: _Digests | None = None
    annotations: _Stated | None = None


class _Definition(_Strict, frozen=True):
    build_type: str
    external_parameters: _Parameters
    resolved_dependencies: tuple[_Resource, ...]


class _Builder(_Strict, frozen=True):
    id: str
    version: Mapping[str, str]


class _Details(_Strict, frozen=True):
    builder: _Builder


class _Predicate(_Strict, frozen=True):
    build_definition: _Definition
    run_details: _Details


class _Subject(_Strict, frozen=True):
    name: str
    digest: Mapping[str, str]


class _Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: _Predicate


def render_provenance(provenance: Provenance, subject: Digest) -> bytes:
    """Return the statement that the manifest `subject` was made so; the order of the files does not matter."""
    origin = _public(provenance.origin)
    files = sorted(provenance.files, key=lambda entry: entry.path.encode())
    options = {name: getattr(provenance.options, name) for name in provenance.options.__struct_fields__}
    definition = _Definition(
        build_type=BUILD_TYPE,
        external_parameters=_Parameters(source=origin.url, **options),
        resolved_dependencies=(_source(origin), *(_file(origin, entry) for entry in files)),
    )
    builder = _Builder(id=BUILDER, version={"modelctl": provenance.version})
    statement = _Statement(
        type=STATEMENT_TYPE,
        subject=(_Subject(name="model", digest={"sha256": subject.removeprefix("sha256:")}),),
        predicate_type=PREDICATE_TYPE,
        predicate=_Predicate(build_definition=definition, run_details=_Details(builder=builder)),
    )
    return canonical_json(msgspec.to_builtins(statement))


def _public(origin: Origin) -> Origin:
    """Return what to tell everybody of where files came from: of a folder its name."""
    if not origin.url.startswith("file:/"):
        return origin
    return Origin(url="file:" + quote(origin.url.rstrip("/").rpartition("/")[2]), revision=origin.revision)


def _is_local(origin: Origin) -> bool:
    return origin.url.startswith("file:")


def _source(origin: Origin) -> _Resource:
    commit = origin.revision if _COMMIT.fullmatch(origin.revision) else None
    return _Resource(
        uri=origin.url,
        digest=_Digests(git_commit=commit) if commit else None,
        annotations=_Stated(revision=origin.revision) if origin.revision else None,
    )


def _folder(origin: Origin) -> str:
    """Return the URI below which the files lie; of a folder it is percent-encoded already."""
    return (origin.url if _is_local(origin) else quote(origin.url, safe=":/")).rstrip("/")


def _file(origin: Origin, entry: Entry) -> _Resource:
    stated = entry.sha256 or entry.git_sha1
    return _Resource(
        name=entry.path,
        uri=f"{_folder(origin)}/{quote(entry.path)}",
        digest=_Digests(sha256=entry.sha256 or None, git_blob=entry.git_sha1 or None) if stated else None,
        annotations=_Stated(
            size=entry.size,
            version="" if _is_local(origin) else entry.version,
            crc64=None if entry.crc64 is None else str(entry.crc64),
        ),
    )


def parse_provenance(raw: bytes, subject: Digest) -> Provenance:
    """Read back what `render_provenance` wrote of the manifest `subject`.

    Raises:
        Invalid: It is not to the byte what that writes: of another tool, of another manifest, or too large.
    """
    if len(raw) > MAX_STATEMENT_SIZE:
        raise _broken(f"it has {len(raw)} bytes; at most {MAX_STATEMENT_SIZE} are read")
    try:
        statement = msgspec.json.decode(raw, type=learned(_Statement))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(str(error)) from error
    definition = statement.predicate.build_definition
    source, *files = definition.resolved_dependencies or (_Resource(uri=""),)
    check_paths(file.name for file in files)
    provenance = Provenance(
        origin=Origin(url=source.uri, revision=source.annotations.revision if source.annotations else ""),
        options=_options(definition.external_parameters),
        files=tuple(map(_entry, files)),
        version=statement.predicate.run_details.builder.version.get("modelctl", ""),
    )
    if render_provenance(provenance, subject) != raw:
        raise _broken(f"it is not in canonical form, or not of {subject}")
    return provenance


def _broken(why: str) -> Invalid:
    return Invalid("provenance", why=why)


def _options(parameters: _Parameters) -> Options:
    return Options(**{name: getattr(parameters, name) for name in Options.__struct_fields__})


def _entry(file: _Resource) -> Entry:
    digest, stated = file.digest or _Digests(), file.annotations or _Stated()
    return Entry(
        path=file.name,
        size=stated.size or 0,
        version=stated.version,
        crc64=None if stated.crc64 is None else int(stated.crc64),
        sha256=digest.sha256 or "",
        git_sha1=digest.git_blob or "",
    )


def same_files(previous: Provenance, origin: Origin, entries: Iterable[Entry]) -> set[str]:
    """Return the paths of the entries that are, as far as `origin` states, the files that `previous` was made from.

    A file is the same when both state one sha256, one git id, or one version of one source; never when anything that
    both state differs. Equal CRCs alone are not enough, and a folder states nothing that holds on another machine.
    `previous` is believed: whoever may attach provenance may also push the artifact.
    """
    known = {entry.path: entry for entry in previous.files}
    same_source = _public(origin).url == previous.origin.url and not _is_local(origin)
    return {
        entry.path
        for entry in entries
        if entry.path in known and _is_same(known[entry.path], entry, same_source=same_source)
    }


def _is_same(before: Entry, now: Entry, *, same_source: bool) -> bool:
    stated = [(before.sha256, now.sha256), (before.git_sha1, now.git_sha1)]
    pairs = [(one, other) for one, other in stated if one and other]
    versions = bool(now.version) and before.version == now.version
    contradicted = (
        before.size != now.size
        or any(one != other for one, other in pairs)
        or (None not in (before.crc64, now.crc64) and before.crc64 != now.crc64)
    )
    return not contradicted and (bool(pairs) or (same_source and versions))
