"""Read a TOML file into a type, strictly: what does not fit is named with its line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from modelctl.core.errors import UsageProblem

Document = TypeVar("Document")


def parse_toml(text: str, kind: type[Document], what: str) -> Document:
    """Parse `text` as a `kind`, a msgspec Struct that forbids unknown fields. Pure.

    Raises:
        UsageProblem: Not TOML, an unknown or missing key, a value of another type; `what` was read.
    """
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(what, why=str(error)) from error
    except msgspec.ValidationError as error:
        raise UsageProblem(what, why=located(text, str(error))) from error
    except RecursionError as error:
        raise UsageProblem(what, why="it is nested too deeply") from error


def parse_table(text: str, table: str, document: Mapping[str, Any], kind: type[Document], what: str) -> Document:
    """Turn the table `[table]` of `text`, read as `document`, into a `kind`; `UsageProblem` as `parse_toml`."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise UsageProblem(f"{what}, [{table}]", why=located(text, str(error), table)) from error


def located(text: str, message: str, table: str = "") -> str:
    """Put the line of the key before msgspec's message, which ends in a path such as "at `$.layer[1].form`".

    With a `table` the path is one in that.
    """
    path = re.search(r"at `\$\.?([^`]*)`", message)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    steps = re.findall(r"\w+", path[1]) if path else []
    steps += [unknown[1]] if unknown else []
    lines = text.splitlines()
    line = next((at for at, found in enumerate(lines) if table and found.strip().startswith(f"[{table}]")), 0)
    while steps:
        key, *steps = steps
        index = int(steps.pop(0)) if steps and steps[0].isdigit() else 0
        found = [
            at for at in range(line, len(lines)) if re.match(rf"\s*\[*\s*\"?{re.escape(key)}\"?\s*[=\]]", lines[at])
        ]
        if len(found) <= index:
            break
        line = found[index]
    return f"line {line + 1}: {message}"
