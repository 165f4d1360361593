"""Find the files of layouts/ and kube/.

In the wheel they are in `modelctl/data`; in a checkout they are beside the package.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def asset(path: str) -> Path:
    """Return the path of a shipped data file or folder, such as `layouts/image.toml`."""
    shipped = _PACKAGE / "data" / path
    return shipped if shipped.exists() else _PACKAGE.parent / path
