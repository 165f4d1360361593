"""Which nodes are meant, and which taints are tolerated, as users write it. Pure.

Source: apimachinery pkg/labels, Parse, without < and >; kubectl taint for KEY=VALUE:EFFECT.
"""

from __future__ import annotations

import re

from modelctl.cluster.labels import Object
from modelctl.core.errors import UsageProblem

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"(?=[^/]{1,253}/)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*/"
_KEY = re.compile(rf"(?:{_PREFIX})?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_BETWEEN = re.compile(r",(?![^(]*\))")
"""The commas between requirements: not those inside parentheses."""

_REQUIREMENTS = (
    (re.compile(r"!\s*(?P<key>[^\s=!,()]+)"), "DoesNotExist"),
    (re.compile(r"(?P<key>[^\s=!,()]+)\s+in\s*\((?P<values>[^()]+)\)"), "In"),
    (re.compile(r"(?P<key>[^\s=!,()]+)\s+notin\s*\((?P<values>[^()]+)\)"), "NotIn"),
    (re.compile(r"(?P<key>[^\s=!,()]+)\s*!=\s*(?P<values>[^\s=!,()]*)"), "NotIn"),
    (re.compile(r"(?P<key>[^\s=!,()]+)\s*==?\s*(?P<values>[^\s=!,()]*)"), "In"),
    (re.compile(r"(?P<key>[^\s=!,()]+)"), "Exists"),
)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_KEY_RULE = "a key is letters, digits, '-', '_' and '.', at most 63, maybe behind a DNS name and '/'"
_VALUE_RULE = "a value is letters, digits, '-', '_' and '.', at most 63"


def parse_selector(text: str) -> list[Object]:
    """Parse kubectl's label selectors into the match expressions of a node affinity.

    Raises:
        UsageProblem: It is none, and where. An empty one is refused too: it would mean every node.
    """
    found = []
    start = 0
    for part in _BETWEEN.split(text):
        found.append(_requirement(part, text, start))
        start += len(part) + 1
    return found


def _requirement(part: str, text: str, start: int) -> Object:
    what = f"--node-selector {text[:200]!r}"
    said = part.strip()
    where = f"at character {start + len(part) - len(part.lstrip()) + 1}"
    for pattern, operator in _REQUIREMENTS:
        found = pattern.fullmatch(said)
        if not found:
            continue
        parts = found.groupdict()
        values = [value.strip() for value in parts["values"].split(",")] if "values" in parts else []
        if not _KEY.fullmatch(parts["key"]):
            raise UsageProblem(what, why=f"{where}: {parts['key'][:300]!r} is no label's key; {_KEY_RULE}")
        for value in values:
            if not _VALUE.fullmatch(value):
                raise UsageProblem(what, why=f"{where}: {value[:100]!r} is no label's value; {_VALUE_RULE}")
        return {"key": parts["key"], "operator": operator} | ({"values": values} if values else {})
    raise UsageProblem(
        what,
        why=f"{where}: {said[:100]!r}; expected KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (A,B) or KEY notin (A,B)",
    )


def parse_toleration(text: str) -> Object:
    """Parse `KEY[=VALUE][:EFFECT]`, or `all`, into a toleration.

    Without a value any is tolerated, without an effect every effect.

    Raises:
        UsageProblem: It is neither.
    """
    if text == "all":
        return {"operator": "Exists"}
    rest, colon, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    what = f"--tolerations {text[:400]!r}"
    if colon and effect not in _EFFECTS:
        raise UsageProblem(what, why=f"{effect[:50]!r} is no effect: {', '.join(_EFFECTS)}")
    if not _KEY.fullmatch(key):
        raise UsageProblem(
            what, why=f"{key[:300]!r} is no taint's key; {_KEY_RULE}", hint="--tolerations KEY=VALUE:EFFECT"
        )
    if not _VALUE.fullmatch(value):
        raise UsageProblem(what, why=f"{value[:100]!r} is no taint's value; {_VALUE_RULE}")
    matching = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **matching} | ({"effect": effect} if effect else {})
