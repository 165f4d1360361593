"""Where weights come from. The URL's scheme names the file here: `file://` is `file.py`, as is a bare path."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import cast

from modelctl.core.errors import UsageProblem
from modelctl.core.protocols import Source


def source_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def open_source(url: str) -> Source:
    """Open the source that `url` names. Only that source's SDK is imported.

    Raises:
        UsageProblem: No source has this scheme.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "file", url
    if scheme not in source_names():
        raise UsageProblem(
            f"cannot read {url!r}",
            why=f"no source is named {scheme!r}",
            hint="use a path, or one of " + ", ".join(f"{name}://" for name in source_names()),
        )
    return cast(Source, import_module(f"{__name__}.{scheme}").open_source(rest))
