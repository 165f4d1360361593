"""One file of settings: its tables, with variables of the environment in place of `${NAME}`. Knows no key of theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem
from modelctl.core.toml import line_of, parse_table, parse_toml

Table = TypeVar("Table")

_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    regions: Mapping[str, Any] = {}
    clusters: Mapping[str, Any] = {}


@dataclass(frozen=True)
class SettingsFile:
    """A file that was read."""

    path: Path
    text: str
    document: _Document

    @property
    def what(self) -> str:
        return f"settings {self.path}"

    def tables(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Return the tables `[kind.NAME]` as they are written; `UsageProblem` for what is no table."""
        found: Mapping[str, Any] = getattr(self.document, kind)
        return {name: parse_table(self.text, (kind, name), found[name], dict[str, Any], self.what) for name in found}

    def parse(self, kind: str, name: str, table: Mapping[str, Any], type_: type[Table]) -> Table:
        """Turn a table into a `type_`; `UsageProblem` with the line where it does not fit."""
        return parse_table(self.text, (kind, name), table, type_, self.what)

    def expand(self, kind: str, name: str, table: Mapping[str, Any]) -> tuple[dict[str, Any], UsageProblem | None]:
        """Put variables of the environment in place of `${NAME}`, and `${` in place of `$${`.

        Returns:
            The table, and which variable is not set: its place is then as it was.
        """
        unset: list[tuple[Sequence[str], str]] = []

        def put(value: Any, path: Sequence[str]) -> Any:
            if isinstance(value, dict):
                return {key: put(inner, [*path, key]) for key, inner in value.items()}
            if isinstance(value, list):
                return [put(inner, path) for inner in value]
            return _VARIABLE.sub(lambda found: _value(found, path, unset), value) if isinstance(value, str) else value

        expanded: dict[str, Any] = put(dict(table), [kind, name])
        return expanded, next((self._unset(path, variable) for path, variable in unset), None)

    def _unset(self, path: Sequence[str], variable: str) -> UsageProblem:
        why = f"line {line_of(self.text, path)}: {path[-1]}: the environment has no {variable}"
        return UsageProblem(f"{self.what}, [{'.'.join(path[:-1])}]", why=why, hint=f"export {variable}=...")

    def refused(self, kind: str, name: str, key: str, *, why: str, hint: str) -> UsageProblem:
        """Say that a key may not stand in this file."""
        line = line_of(self.text, (kind, name, key))
        return UsageProblem(f"{self.what}, [{kind}.{name}]", why=f"line {line}: {key}: {why}", hint=hint)


def _value(found: re.Match[str], path: Sequence[str], unset: list[tuple[Sequence[str], str]]) -> str:
    if found[1]:
        return found[0][1:]
    if found[2] not in os.environ:
        unset.append((path, found[2]))
    return os.environ.get(found[2], found[0])


def strings_in(value: Any) -> Iterator[str]:
    """Yield every string of a table."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
    elif isinstance(value, str):
        yield value


def read_settings(path: Path) -> SettingsFile:
    """Read a file.

    Raises:
        NotFound: It is not there. UsageProblem: It is not TOML, or has other tables; says where.
    """
    what = f"settings {path}"
    with on_disk(what):
        data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageProblem(what, why=f"it is not UTF-8: {error}") from error
    return SettingsFile(path, text, parse_toml(text, _Document, what))
