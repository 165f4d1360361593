"""What a model card says of licence and name, as annotations: the YAML front matter of README.md. Pure.

YAML is read as events: nothing is constructed, aliases are refused, so what a card costs is bounded by its size. Only
strings are known, as a card's `license: no` is no boolean.

Source: Hugging Face "Model Cards", metadata; OCI image-spec annotations.md; SPDX 2.3 annex D.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import yaml

from modelctl.core.media_types import LICENSES, TITLE

CARD = "README.md"

MAX_FRONT_MATTER_SIZE = 512 << 10
"""Largest front matter that is read [bytes]: 3 s; those with hundreds of benchmarks have 250 KiB."""

_MAX_DEPTH = 32
_LONGEST = 200
_FRONT_MATTER = re.compile(rb"(?:\xef\xbb\xbf)?\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", re.DOTALL)
_SPDX = {
    name.lower(): name
    for name in (
        "AFL-3.0", "AGPL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear",
        "BSL-1.0", "C-UDA-1.0", "CC0-1.0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-2.0",
        "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-3.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-2.0", "CC-BY-NC-SA-3.0",
        "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CDLA-Permissive-1.0",
        "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "ECL-2.0", "EPL-1.0", "EPL-2.0", "etalab-2.0", "EUPL-1.1",
        "EUPL-1.2", "GPL-2.0", "GPL-3.0", "ISC", "LGPL-2.1", "LGPL-3.0", "LPPL-1.3c", "MIT", "MPL-2.0", "MS-PL",
        "NCSA", "ODbL-1.0", "ODC-By-1.0", "OFL-1.1", "OSL-3.0", "PDDL-1.0", "PostgreSQL", "Unlicense", "WTFPL", "Zlib",
    )
}  # fmt: skip
_ALIASES = {"odbl": "ODbL-1.0", "odc-by": "ODC-By-1.0", "pddl": "PDDL-1.0", "c-uda": "C-UDA-1.0"}
_NULLS = ("~", "null", "Null", "NULL")
_NAMES_NOTHING = ("", "other", "unknown")

_Value = str | list["_Value"] | dict[str, "_Value"]


class _Unreadable(Exception):
    """A document that is YAML, and more than a card needs."""


class Card(NamedTuple):
    """Annotations for the manifest, and a note for the user when the card could not be read."""

    annotations: Mapping[str, str]
    note: str = ""


def parse_card(raw: bytes) -> Card:
    """Return what a README.md says of licence and model name; nothing, and why, when its front matter is broken."""
    found = _FRONT_MATTER.match(raw)
    if not found:
        return Card({})
    if len(found[1]) > MAX_FRONT_MATTER_SIZE:
        return _unread(f"it has {len(found[1])} bytes; at most {MAX_FRONT_MATTER_SIZE} are read")
    try:
        fields = _load(found[1].decode())
    except (_Unreadable, yaml.YAMLError, ValueError, OverflowError) as error:
        return _unread(" ".join(str(error).split())[:_LONGEST])
    said = {TITLE: _name(fields), LICENSES: _licenses(fields)}
    return Card({key: text for key, text in said.items() if text and len(text) <= _LONGEST and text.isprintable()})


def _unread(why: str) -> Card:
    return Card({}, f"{CARD}: its front matter cannot be read, so licence and name are left out: {why}")


def _load(text: str) -> Mapping[str, _Value]:
    """Return the mapping that a YAML document is; PyYAML raises `ValueError` or `OverflowError` for some escapes."""
    events = (event for event in yaml.parse(text, Loader=yaml.SafeLoader) if isinstance(event, _CONTENT))
    value = _value(next(events, None), events, 0)
    if not isinstance(value, dict):
        raise _Unreadable("it is not a mapping")
    return value


_CONTENT = (yaml.NodeEvent, yaml.CollectionEndEvent)


def _value(event: yaml.Event | None, events: Iterator[yaml.Event], depth: int) -> _Value:
    if isinstance(event, yaml.ScalarEvent):
        return "" if event.style is None and event.value in _NULLS else str(event.value)
    if isinstance(event, yaml.AliasEvent):
        raise _Unreadable(f"it has an alias, *{event.anchor}")
    if depth > _MAX_DEPTH:
        raise _Unreadable(f"it is nested deeper than {_MAX_DEPTH}")
    if isinstance(event, yaml.SequenceStartEvent):
        return [_value(item, events, depth + 1) for item in _until_end(events)]
    found: dict[str, _Value] = {}
    for key in _until_end(events):
        if not isinstance(key, yaml.ScalarEvent):
            raise _Unreadable("a key is not a string")
        found[str(key.value)] = _value(next(events), events, depth + 1)
    return found


def _until_end(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            return
        yield event


def _name(fields: Mapping[str, _Value]) -> str:
    """Return the model's name: as the card says, or as its benchmarks do."""
    models = fields.get("model-index")
    first = models[0] if isinstance(models, list) and models else {}
    name = fields.get("model_name") or (first.get("name") if isinstance(first, dict) else "")
    return name.strip() if isinstance(name, str) else ""


def _licenses(fields: Mapping[str, _Value]) -> str:
    """Return an SPDX expression of the card's licences, of which all hold; nothing when it names none."""
    stated = fields.get("license", "")
    names = stated if isinstance(stated, list) else [stated]
    own = fields.get("license_name", "")
    found = [_spdx(name, own if isinstance(own, str) else "") for name in names if isinstance(name, str)]
    return " AND ".join(dict.fromkeys(filter(None, found)))


def _spdx(name: str, own: str) -> str:
    """Return a licence by its SPDX name; one without such a name, as most licences of models are, as a LicenseRef.

    Args:
        name: As Hugging Face lists them (`apache-2.0`), or as ModelScope does (`Apache License 2.0`).
        own: The card's name for a licence that is `other`.
    """
    name = own if name.strip().lower() in _NAMES_NOTHING else name
    key = "-".join(word for word in name.lower().split() if word not in ("license", "licence", "version"))
    if key in _NAMES_NOTHING:
        return ""
    reference = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-")
    return _SPDX.get(key) or _ALIASES.get(key) or (f"LicenseRef-{reference}" if reference else "")
