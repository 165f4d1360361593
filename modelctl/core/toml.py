"""Read a TOML file into a type, strictly: what does not fit is named with its line and key."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from modelctl.core.errors import UsageProblem
from modelctl.core.learned import learned

Document = TypeVar("Document")

_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")


def parse_toml(text: str, kind: type[Document], what: str) -> Document:
    """Parse `text` as a `kind`, a msgspec Struct that forbids unknown fields. Pure.

    Raises:
        UsageProblem: Not TOML, an unknown or missing key, a value of another type; `what` was read.
    """
    try:
        return msgspec.convert(tomllib.loads(text), learned(kind))
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(what, why=str(error)) from error
    except msgspec.ValidationError as error:
        raise UsageProblem(what, why=located(text, str(error))) from error
    except RecursionError as error:
        raise UsageProblem(what, why="it is nested too deeply") from error


def parse_table(text: str, table: Sequence[str], document: object, kind: type[Document], what: str) -> Document:
    """Turn what `text` has at the key `table`, read as `document`, into a `kind`; `UsageProblem` as `parse_toml`."""
    try:
        return msgspec.convert(document, learned(kind))
    except msgspec.ValidationError as error:
        raise UsageProblem(f"{what}, [{'.'.join(table)}]", why=located(text, str(error), table)) from error


def located(text: str, message: str, table: Sequence[str] = ()) -> str:
    """Put the line of the key before msgspec's message, which ends in a path such as "at `$.layer[1].form`".

    The path is one in the `table`.
    """
    path = re.search(r"at `\$\.?([^`]*)`", message)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    steps = re.findall(r"\w+", path[1]) if path else []
    steps += [unknown[1]] if unknown else []
    return f"line {line_of(text, [*table, *steps])}: {message}"


def line_of(text: str, path: Sequence[str]) -> int:
    """Return the line of a key, or of the innermost table around it; an array's index is a step of its own."""
    found, depth = 1, 0
    for line, place in _places(text):
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(place, path, strict=False))
        shared = sum(1 for _ in pairs)
        if shared > depth:
            found, depth = line, shared
    return found


def _places(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each line that begins a table or gives a key a value, with the whole path of that."""
    table: tuple[str, ...] = ()
    arrays: Counter[tuple[str, ...]] = Counter()
    for line, written in enumerate(text.splitlines(), 1):
        key = _KEY.match(written)
        try:
            if written.lstrip().startswith("["):
                header = _path(tomllib.loads(written))
                table = (*header, str(arrays[header])) if written.lstrip().startswith("[[") else header
                arrays[header] += 1
                yield line, table
            elif key:
                yield line, (*table, *_path(tomllib.loads(f"{key[1]} = 0")))
        except tomllib.TOMLDecodeError:
            continue


def _path(document: object) -> tuple[str, ...]:
    """Return the one path of keys in a document."""
    if not isinstance(document, Mapping) or not document:
        return ()
    ((key, value),) = document.items()
    return (key, *_path(value))
