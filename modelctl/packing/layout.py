"""Read a layout file: which kind a file is, how it becomes layer bytes, under which media types.

Pure: text in, rules out. The files are in `layouts/`; `--layout kserve` is `layouts/kserve.toml`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelctl.core.assets import asset
from modelctl.core.disk import on_disk
from modelctl.core.errors import Invalid, UsageProblem
from modelctl.core.paths import check_path, matches
from modelctl.core.toml import located, parse_toml
from modelctl.core.types import Form, Kind


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind
    match: tuple[str, ...]
    form: Form
    media_type: str


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of `layouts/`.

    `prefix` is put before every path in the layers and ends in "/", or is empty; `table_type` is the media type of
    the layer that holds the table, always a tar.
    """

    name: str
    config_type: str
    table_type: str
    layer: tuple[Rule, ...]
    artifact_type: str = ""
    prefix: str = ""
    exclude: tuple[str, ...] = ()

    def rule(self, path: str) -> Rule:
        """Return the first rule that matches `path`."""
        for rule in self.layer:
            if matches(path, rule.match):
                return rule
        raise UsageProblem(
            f"{path}: no layer for this file",
            why=f"layout {self.name!r} has no rule that matches it",
            hint="end the layout with a [[layer]] of match = ['*'], or leave the file out with --exclude",
        )


def layout_names() -> list[str]:
    """Return the names of the shipped layouts."""
    return sorted(path.stem for path in asset("layouts").glob("*.toml"))


def load_layout(name: str) -> Layout:
    """Read the layout called `name`, or the file `name` when it ends in `.toml`.

    Raises:
        UsageProblem: There is none, or it is not valid; says which line and key.
    """
    if not name.endswith(".toml") and name not in layout_names():
        raise UsageProblem(
            f"no layout is named {name!r}",
            why=f"known are {', '.join(layout_names())}, or a path to a .toml file",
        )
    path = Path(name) if name.endswith(".toml") else asset(f"layouts/{name}.toml")
    with on_disk(f"layout {path}"):
        data = path.read_bytes()
    try:
        return parse_layout(data.decode())
    except UnicodeDecodeError as error:
        raise UsageProblem(f"layout {path}", why=f"it is not UTF-8: {error}") from error
    except UsageProblem as error:
        raise UsageProblem(f"layout {path}", why=error.why, hint=error.hint) from error


def parse_layout(text: str) -> Layout:
    """Parse a layout file.

    Raises:
        UsageProblem: Not TOML, an unknown or missing key, a value of another type; with the line and the key.
    """
    layout = parse_toml(text, Layout, "layout")
    _check(layout, text)
    return layout


def _check(layout: Layout, text: str) -> None:
    if layout.prefix and not layout.prefix.endswith("/"):
        raise UsageProblem("layout", why=located(text, "prefix must end in '/' - at `$.prefix`"))
    if layout.prefix:
        try:
            check_path(layout.prefix.removesuffix("/"))
        except Invalid as error:
            raise UsageProblem("layout", why=located(text, f"{error.why} - at `$.prefix`")) from error
    if not layout.layer:
        raise UsageProblem("layout", why="it has no [[layer]]")
    types = [("tar", layout.table_type, "table_type")]
    types += [(rule.form, rule.media_type, f"layer[{at}].media_type") for at, rule in enumerate(layout.layer)]
    for form, media_type, key in types:
        if media_type.rpartition(".")[2] != form:
            raise UsageProblem("layout", why=located(text, f"{media_type!r} must end in '.{form}' - at `$.{key}`"))
