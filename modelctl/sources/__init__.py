"""Where weights come from. The URL's scheme names the file here: `file://` is `file.py`, as is a bare path."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import cast

from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.errors import UsageProblem
from modelctl.core.protocols import Source


def source_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def open_source(url: str, access: SourceAccess = DEFAULT_SOURCE_ACCESS) -> Source:
    """Open the source that `url` names. Only that source's SDK is imported.

    Raises:
        UsageProblem: Nothing is named, no source has this scheme, or its SDK is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "file", url
    if not rest:
        raise UsageProblem(f"cannot read {url!r}", why="it names nothing", hint="use a path; `.` is this folder")
    if scheme not in source_names():
        raise UsageProblem(
            f"cannot read {url!r}",
            why=f"no source is named {scheme!r}",
            hint="use a path, or one of " + ", ".join(f"{name}://" for name in source_names()),
        )
    try:
        module = import_module(f"{__name__}.{scheme}")
    except ModuleNotFoundError as error:
        raise UsageProblem(
            f"cannot read {scheme}://", why=f"{error.name} is not installed", hint=f"pip install 'modelctl[{scheme}]'"
        ) from error
    return cast(Source, module.open_source(rest, access))
